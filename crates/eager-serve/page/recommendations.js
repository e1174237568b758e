// The list for the history, and why each item is in it.

import * as api from "./api.js";
import { count, decimal, h, name, percent, plural, say } from "./dom.js";
import * as explanation from "./explanation.js";
import { Panel } from "./panel.js";
import { add, go, read, toItem } from "./state.js";

const STREAMS = ["behaviour", "semantic"];
/** What can put an item into a list, as the page calls it. */
const NAMES = { behaviour: "behaviour", semantic: "semantic", direct: "direct head" };
const SUGGESTED = 8;
const TITLES = { merged: "both streams merged", behaviour: "behaviour stream", semantic: "semantic stream" };

export const title = "Recommendations";

/** The view, in `element`; what it returns shows a state. */
export function view(element) {
  const panel = new Panel(element);
  return (state, model) => {
    const { history, list, k, category, unseen } = state;
    if (history.length === 0) {
      const some = (signal) => api.search(model.name, "", SUGGESTED, signal);
      return panel.show([model.name, model.digest, "start"], some, ({ items }) => start(items));
    }
    const key = [model.name, model.digest, history, list, k, category, unseen];
    const ask = (signal) => api.recommend(model.name, state, signal);
    // `why` is not in the key: an explanation opens and closes in the list that stands.
    panel.show(key, ask, (answer) => draw(answer, state)).then(() => unfold(element, model));
  };
}

function start(items) {
  const row = (item) => h("li", {}, h("span", { class: "title" }, name(item)), adder(item));
  return [
    h(
      "p",
      {},
      "Add the items somebody has bought, oldest first. The model says what comes next: item by item, as codes in two trees, " +
        "one of what people do and one of what items say of themselves.",
    ),
    items.length > 0 && [
      h("h3", {}, "To begin with, some of the catalogue"),
      h("ul", { class: "items" }, items.map(row)),
    ],
  ];
}

function draw({ items, skipped = [] }, state) {
  say(`${plural(items.length, "recommendation")}, ${TITLES[state.list]}`);
  // One scale for all of them: they are compared.
  const most = Math.max(...items.flatMap((item) => Object.keys(NAMES).map((of) => item[of] ?? -Infinity)));
  return [
    skipped.length > 0 &&
      h(
        "p",
        { class: "note" },
        `Not in this catalogue, and left out of the history: ${[...new Set(skipped)].join(", ")}.`,
      ),
    items.length < state.k &&
      h(
        "p",
        { class: "note" },
        items.length === 0
          ? "No item passes the settings."
          : `Only ${plural(items.length, "item")} pass${items.length === 1 ? "es" : ""} the settings.`,
      ),
    h(
      "ol",
      { class: "list" },
      items.map((item) => row(item, most, state.history)),
    ),
  ];
}

function row(item, most, history) {
  const { rank } = item;
  const id = `why-${rank}`;
  const toggle = () => go({ why: read().why === item.item ? "" : item.item });
  return h(
    "li",
    { "data-item": item.item },
    h("span", { class: "rank" }, count(rank)),
    h(
      "div",
      { class: "what" },
      h("a", { class: "title", ...toItem(item.item) }, name(item)),
      h("span", { class: "quiet" }, h("code", {}, item.item), ` ${origin(item, history)}`),
    ),
    h("dl", { class: "scores" }, scores(item, most)),
    h(
      "div",
      { class: "buttons" },
      h(
        "button",
        { type: "button", class: "why", "aria-expanded": "false", "aria-controls": id, onclick: toggle },
        "Why",
        h("span", { class: "hidden" }, ` ${name(item)}`),
      ),
      h("a", { class: "button", ...toItem(item.item) }, "Similar", h("span", { class: "hidden" }, ` to ${name(item)}`)),
      adder(item),
    ),
    h("div", { class: "explanation", id, hidden: true }),
  );
}

/** What has the item, and which of them makes it likeliest. */
function origin(item, history) {
  const streams = STREAMS.filter((of) => item[of] != null);
  const direct = item.direct == null ? [] : [NAMES.direct];
  const parts = [...(streams.length === 2 ? ["both streams"] : streams), ...direct];
  const several = streams.length + direct.length;
  const by = `by ${NAMES[item.stream]}`;
  const from = several > 1 ? `${parts.join(" and ")}, ${several > 2 ? "likeliest" : "likelier"} ${by}` : by;
  return history.includes(item.item) ? `${from} · in the history` : from;
}

/** What the streams say of the item, and a direct head; and what the list is ranked by, where it is none of these. */
function scores(item, most) {
  const ranking = item.score === item[item.stream] ? item.stream : "score";
  const parts = item.direct == null ? STREAMS : Object.keys(NAMES);
  return [
    parts.map((of) => score(of, item[of], most, of === ranking)),
    ranking === "score" &&
      h(
        "div",
        { class: "ranks" },
        h("dt", {}, "score"),
        h("dd", {}, h("span", { class: "number total", title: "what the list is ranked by" }, decimal(item.score))),
      ),
  ];
}

function score(stream, logProb, most, ranks) {
  const values =
    logProb == null
      ? h("span", { class: "number quiet none", title: "not among this stream's predictions" }, "–")
      : [
          explanation.bar(stream, logProb, most),
          h("span", { class: "number share" }, percent(logProb)),
          h("span", { class: "number quiet" }, decimal(logProb)),
        ];
  return h("div", { class: ranks && "ranks" }, h("dt", {}, NAMES[stream]), h("dd", {}, values));
}

/** Opens the explanation that the address names, and closes others. */
function unfold(element, model) {
  const { why, history } = read();
  for (const row of element.querySelectorAll(".list > li")) {
    const box = row.querySelector(".explanation");
    const open = row.dataset.item === why;
    row.querySelector(".why").setAttribute("aria-expanded", String(open));
    box.hidden = !open;
    if (!open) continue;
    box.panel ??= new Panel(box);
    box.panel.show(
      [why, history],
      (signal) => explain(model, history, why, signal),
      (answer) => explanation.draw(answer, model),
    );
  }
}

/** What the history makes of an item's codes. */
export async function explain(model, history, item, signal) {
  const known = await api.knownOf(model.name, history, signal);
  return api.explain(model.name, known, item, explanation.SAMPLES, signal);
}

/** A button that adds an item to the history. */
export function adder(item) {
  const onclick = () => {
    add(item.item);
    say(`${name(item)} added to the history`);
  };
  return h(
    "button",
    { type: "button", class: "add", onclick },
    "Add",
    h("span", { class: "hidden" }, ` ${name(item)} to the history`),
  );
}
