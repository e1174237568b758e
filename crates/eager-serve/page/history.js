// The history: what the lists are made from, oldest first.

import * as api from "./api.js";
import { count, h, name, say } from "./dom.js";
import { Panel } from "./panel.js";
import { go, read, toItem } from "./state.js";

const element = document.getElementById("history");
const panel = new Panel(element);

/** Shows the state's history as a model knows it. */
export function show({ history }, model) {
  if (history.length === 0) {
    const text = "Empty. Items you add stand here, oldest first: order matters to the model.";
    return panel.put([], () => h("p", { class: "quiet" }, text));
  }
  const items = (signal) => Promise.all(history.map((id) => api.item(model.name, id, signal)));
  panel.show([model.name, model.digest, history], items, (items) => draw(history, items, model.max_history));
}

function draw(history, items, window) {
  const unread = history.length - window;
  const rows = history.map((id, place) => row(history, place, items[place], place < unread));
  return [
    h("ol", { class: "history" }, rows),
    unread > 0 &&
      h("p", { class: "quiet" }, `The model reads the newest ${count(window)}; those in italics are older.`),
    h("p", { class: "buttons" }, h("button", { type: "button", onclick: clear }, "Clear")),
  ];
}

function row(history, place, item, unread) {
  const id = history[place];
  const title = item ? name(item) : id;
  // A second click may come before the first has been drawn.
  const change = (...to) => String(read().history) === String(history) && put(...to);
  const moved = (by) => history.toSpliced(place, 1).toSpliced(place + by, 0, id);
  const move = (by) => () =>
    change(moved(by), place + by, by < 0 ? "up" : "down", `${title} is now number ${place + by + 1}`);
  const remove = () => change(history.toSpliced(place, 1), place, "remove", `${title} removed from the history`);
  // A button that can do nothing keeps the focus: who moves an item to the end by the keyboard is not sent elsewhere.
  const button = (action, sign, label, possible, onclick) => {
    const names = { "data-action": action, "aria-label": `${label}: ${title}`, title: label };
    const off = !possible && "true";
    return h(
      "button",
      { type: "button", class: "icon", ...names, "aria-disabled": off, onclick: possible && onclick },
      sign,
    );
  };
  return h(
    "li",
    { class: unread && "unread" },
    item
      ? h("a", { class: "title", ...toItem(id) }, title)
      : h(
          "span",
          { class: "title" },
          h("code", {}, id),
          h("span", { class: "quiet" }, " not in this catalogue; left out"),
        ),
    h(
      "span",
      { class: "buttons" },
      button("up", "↑", "Move up", place > 0, move(-1)),
      button("down", "↓", "Move down", place < history.length - 1, move(1)),
      button("remove", "×", "Remove", true, remove),
    ),
  );
}

function clear() {
  go({ history: [], why: "" });
  say("The history is empty");
  document.getElementById("search").focus();
}

/** Changes the history; the focus stays on the same button, in the row at `place`. */
function put(history, place, action, told) {
  go({ history, why: "" });
  say(told);
  refocus = { place: Math.min(place, history.length - 1), action };
}

let refocus = null;

// Rows are drawn anew after a change: when they are, the focus goes where it was meant to be.
new MutationObserver(() => {
  if (refocus === null) return;
  const row = element.querySelectorAll("li")[refocus.place];
  (row?.querySelector(`[data-action=${refocus.action}]`) ?? document.getElementById("search")).focus();
  refocus = null;
}).observe(element, { childList: true });
