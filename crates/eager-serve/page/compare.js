// Two models' lists for one history, side by side.

import * as api from "./api.js";
import { count, decimal, h, name, say } from "./dom.js";
import { Panel } from "./panel.js";
import { go, toItem } from "./state.js";

export const title = "Compare";

/** The view, in `element`; what it returns shows a state. */
export function view(element) {
  const [choice, result] = [h("div"), h("div", { class: "result" })];
  element.append(choice, result);
  const panel = new Panel(result);
  return (state, model, models) => {
    const { history, list, k, category, unseen } = state;
    const others = models.filter((other) => other !== model);
    const other = others.find(({ name }) => name === state.other) ?? others[0];
    choose(choice, model, others, other);
    if (history.length === 0) {
      return panel.put("empty", () => h("p", {}, "Add items to the history: both models are asked what comes next."));
    }
    const both = [model, other];
    const ask = (signal) => Promise.all(both.map(({ name }) => api.recommend(name, state, signal)));
    const catalogues = both.map(({ name, digest }) => [name, digest]);
    panel.show([catalogues, history, list, k, category, unseen], ask, draw);
  };
}

function choose(element, model, others, other) {
  const option = ({ name }) => h("option", { value: name, selected: name === other.name }, name);
  const select = h("select", { onchange: () => go({ other: select.value }) }, others.map(option));
  if (element.contains(document.activeElement)) return;
  element.replaceChildren(
    h(
      "p",
      {},
      h("strong", {}, model.name),
      " beside ",
      h("label", {}, h("span", { class: "hidden" }, "the other model "), select),
    ),
  );
}

function draw([left, right]) {
  const [here, there] = [left, right].map(({ items }) => items.map(({ item }) => item));
  const most = Math.max(here.length, there.length);
  say(`${left.model} and ${right.model} share ${shared(here, there, most)} of ${most} items`);
  return [
    most > 0 && table(here, there, most),
    h("div", { class: "paths" }, column(left, there, right.model), column(right, here, left.model)),
  ];
}

/** How many items the first `k` of both lists have in common. */
function shared(here, there, k) {
  const others = new Set(there.slice(0, k));
  return here.slice(0, k).filter((item) => others.has(item)).length;
}

function table(here, there, most) {
  const at = [...new Set([1, 3, 5, 10, 20, 50, most])].filter((k) => k <= most).sort((a, b) => a - b);
  const line = (name, value) =>
    h(
      "tr",
      {},
      h("th", { scope: "row" }, name),
      at.map((k) => h("td", {}, value(k))),
    );
  const head = at.map((k) => h("th", { scope: "col" }, count(k)));
  const rows = [
    line("overlap@k", (k) => (shared(here, there, k) / k).toFixed(2)),
    line("shared items", (k) => count(shared(here, there, k))),
  ];
  const whole = h("table", {}, h("thead", {}, h("tr", {}, h("th", { scope: "col" }, "k"), head)), h("tbody", {}, rows));
  return h("div", { class: "scroll", tabindex: "0", role: "region", "aria-label": "Overlap" }, whole);
}

function column({ model, items, skipped = [] }, others, otherName) {
  const row = (item) =>
    h(
      "li",
      {},
      h("span", { class: "rank" }, count(item.rank)),
      change(item, others.indexOf(item.item) + 1, otherName),
      h("a", { class: "title", ...toItem(item.item) }, name(item)),
      h("span", { class: "number quiet", title: "what the list is ranked by" }, decimal(item.score)),
    );
  return h(
    "section",
    {},
    h("h3", {}, model),
    skipped.length > 0 &&
      h("p", { class: "note" }, `Left out of the history, as it is not in this catalogue: ${skipped.join(", ")}.`),
    h("ol", { class: "items compared" }, items.map(row)),
  );
}

/** Where the other list has the item: higher, lower, at the same place, not at all. */
function change({ rank }, other, otherName) {
  const by = other - rank;
  const [text, label, of] =
    other === 0
      ? ["only here", `not in the list of ${otherName}`, "alone"]
      : by === 0
        ? ["=", `at the same place in ${otherName}`, ""]
        : by > 0
          ? [`▲ ${by}`, `${by} higher than in ${otherName}, where it is ${other}`, "up"]
          : [`▼ ${-by}`, `${-by} lower than in ${otherName}, where it is ${other}`, "down"];
  return h(
    "span",
    { class: `change ${of}`, title: label },
    h("span", { "aria-hidden": "true" }, text),
    h("span", { class: "hidden" }, label),
  );
}
