// The search: a combobox (WAI-ARIA's pattern with a list of its own) that adds what is chosen to the history.

import * as api from "./api.js";
import { count, h, name, plural, say } from "./dom.js";
import { add } from "./state.js";

const SHOWN = 50;
const PAUSE_MS = 120;

const input = document.getElementById("search");
const box = document.getElementById("found-box");
const list = document.getElementById("found");
const note = document.getElementById("found-note");

let model = null;
/** The words that the list is of; null while others are searched for. */
let listed = "";
let active = -1;
let timer = 0;
let asked = new AbortController();

/** Searches this model from now on. */
export function use(name) {
  if (name === model) return;
  model = name;
  close();
  // Words may have been typed while the page was still loading.
  if (document.activeElement === input) find();
}

function close() {
  clearTimeout(timer);
  asked.abort();
  list.replaceChildren();
  listed = input.value.trim();
  open(false);
}

function open(is) {
  box.hidden = !is;
  input.setAttribute("aria-expanded", String(is && list.children.length > 0));
  activate(-1);
}

function activate(place) {
  list.children[active]?.setAttribute("aria-selected", "false");
  active = place;
  const option = list.children[place];
  if (!option) return input.removeAttribute("aria-activedescendant");
  option.setAttribute("aria-selected", "true");
  option.scrollIntoView({ block: "nearest" });
  input.setAttribute("aria-activedescendant", option.id);
}

function choose(option) {
  add(option.dataset.item);
  say(`${option.dataset.name} added to the history`);
  input.value = "";
  close();
  input.focus();
}

async function find() {
  clearTimeout(timer);
  const words = input.value.trim();
  asked.abort();
  if (words === "" || model === null) return close();
  asked = new AbortController();
  listed = null;
  const { signal } = asked;
  let told;
  try {
    const { total, items } = await api.search(model, words, SHOWN, signal);
    if (signal.aborted) return;
    list.replaceChildren(...items.map(row));
    listed = words;
    told = total === 0 ? "No title or id has all these words." : `${plural(total, "item")} found`;
    if (total > items.length) told += `, the first ${count(items.length)} are here; more words make it fewer`;
  } catch (error) {
    if (signal.aborted) return;
    list.replaceChildren();
    told = error.message;
  }
  note.textContent = told;
  say(told);
  open(true);
  if (list.children.length > 0) activate(0);
  list.scrollTop = 0;
}

/** Adds what is chosen; where the list is still one of other words, the first of these. */
async function enter() {
  if (input.value.trim() !== listed) await find();
  const option = list.children[active];
  // More may have been typed meanwhile.
  if (option && input.value.trim() === listed) choose(option);
}

function row(item, place) {
  const attributes = { id: `found-${place}`, role: "option", "aria-selected": "false" };
  return h(
    "li",
    { ...attributes, "data-item": item.item, "data-name": name(item) },
    h("span", { class: "title" }, name(item)),
    h(
      "span",
      { class: "quiet" },
      h("code", {}, item.item),
      item.categories?.length ? ` ${item.categories.at(-1)}` : "",
    ),
  );
}

input.addEventListener("input", () => {
  clearTimeout(timer);
  timer = setTimeout(find, PAUSE_MS);
});

input.addEventListener("keydown", (event) => {
  const n = list.children.length;
  const to = {
    ArrowDown: () => (n ? activate((active + 1) % n) : find()),
    ArrowUp: () => n && activate((active - 1 + n) % n),
    PageDown: () => n && activate(Math.min(active + 8, n - 1)),
    PageUp: () => n && activate(Math.max(active - 8, 0)),
    Enter: enter,
    Escape: () => (box.hidden ? (input.value = "") : close()),
  }[event.key];
  if (!to || event.isComposing) return;
  event.preventDefault();
  to();
});

// The list is chosen from with the pointer without taking the focus from the words.
list.addEventListener("mousedown", (event) => event.preventDefault());
list.addEventListener("click", (event) => {
  const option = event.target.closest("[role=option]");
  if (option) choose(option);
});
input.addEventListener("blur", close);

document.addEventListener("keydown", (event) => {
  const typing = event.target.closest?.("input, select, textarea, dialog");
  if (event.key !== "/" || typing || event.ctrlKey || event.metaKey || event.altKey) return;
  event.preventDefault();
  input.focus();
});
