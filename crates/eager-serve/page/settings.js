// What the list is: which one, how long, of which category, with or without the history's own items.

import * as api from "./api.js";
import { h } from "./dom.js";
import { go } from "./state.js";

const form = document.getElementById("settings");
const { list, k, category, unseen } = form.elements;
const names = document.getElementById("categories");

// Where there is room they are open from the start.
document.getElementById("settings-box").open = matchMedia("(min-width: 761px)").matches;

/** Fills the form with the state. */
export function show(state, model) {
  list.value = state.list;
  if (document.activeElement !== k) k.value = state.k;
  k.max = model.max_k;
  category.value = state.category;
  unseen.checked = state.unseen;
}

/** Offers a model's categories. Where they cannot be had the field is for typing alone. */
export async function offer(model) {
  const { categories } = await api.categories(model).catch(() => ({ categories: [] }));
  const option = ({ category, items }) => h("option", { value: category }, `${category} (${items})`);
  names.replaceChildren(...categories.map(option));
}

form.addEventListener("submit", (event) => event.preventDefault());
form.addEventListener("change", () => {
  if (!k.reportValidity()) return;
  go({ list: list.value, k: +k.value, category: category.value.trim(), unseen: unseen.checked, why: "" });
});
