// A stream's tree of codes, one prefix at a time.

import * as api from "./api.js";
import { count, h, name, plural, say } from "./dom.js";
import { Panel } from "./panel.js";
import { adder } from "./recommendations.js";
import { to, toItem, toTree } from "./state.js";

const AT_A_TIME = 64;
const SAMPLES = 4;

export const title = "Code tree";

/** The view, in `element`; what it returns shows a state. */
export function view(element) {
  const panel = new Panel(element);
  return (state, model) => {
    const { stream, prefix, mark } = state;
    // A marked child's page is shown: children are numbered in their order.
    const offset = state.offset || (mark && Math.floor(+mark / AT_A_TIME) * AT_A_TIME) || 0;
    const ask = (signal) => api.tree(model.name, { stream, prefix, offset }, AT_A_TIME, SAMPLES, signal);
    panel.show([model.name, model.digest, stream, prefix, offset, mark], ask, (answer) => {
      requestAnimationFrame(() => element.querySelector(".marked")?.scrollIntoView({ block: "center" }));
      return draw(answer, offset, mark);
    });
  };
}

function draw({ stream, prefix, items, children, total }, offset, mark) {
  say(`${stream} tree, ${prefix.length ? `prefix ${prefix.join(" ")}` : "root"}: ${plural(items, "item")}`);
  const most = Math.max(...children.map((child) => child.leaves));
  return [
    streams(stream),
    crumbs(stream, prefix),
    h(
      "p",
      { class: "quiet" },
      `${plural(items, "item")} below, ${total === 1 ? "1 token" : `${count(total)} tokens`} to choose from`,
    ),
    pages(offset, children.length, total),
    h(
      "ol",
      { class: "children" },
      children.map((child) => row(stream, prefix, child, most, String(child.token) === mark)),
    ),
    children.length > 16 && pages(offset, children.length, total),
  ];
}

function streams(stream) {
  const link = (of) =>
    h(
      "a",
      { class: "button", ...toTree(of, []), "aria-current": of === stream && "true" },
      h("span", { class: `key key-${of}` }),
      of,
    );
  return h("p", { class: "buttons", role: "group", "aria-label": "Stream" }, ["behaviour", "semantic"].map(link));
}

function crumbs(stream, prefix) {
  const step = (level) => (level === 0 ? "root" : String(prefix[level - 1]));
  const links = [...Array(prefix.length + 1).keys()].map((level) => {
    const current = level === prefix.length;
    const address = toTree(stream, prefix.slice(0, level));
    return h(
      "li",
      {},
      h("a", { ...address, "aria-current": current && "location", "data-focus": current }, step(level)),
    );
  });
  return h("nav", { "aria-label": "Prefix" }, h("ol", { class: "crumbs" }, links));
}

function row(stream, prefix, { token, leaves, items, leaf, samples }, most, marked) {
  const size = h(
    "span",
    { class: "size" },
    h("span", { class: `bar ${stream}`, "aria-hidden": "true", vars: { share: `${(100 * leaves) / most}%` } }),
    h(
      "span",
      { class: "number" },
      leaves === items ? plural(items, "item") : `${plural(items, "item")}, ${count(leaves)} leaves`,
    ),
  );
  const titles = leaf
    ? samples.map((item) => [h("a", { class: "title", ...toItem(item.item) }, name(item)), " ", adder(item)])
    : h("span", {}, samples.map(name).join(" · "), items > samples.length && " …");
  return h(
    "li",
    { class: marked && "marked" },
    leaf
      ? h("span", { class: "token" }, String(token))
      : h(
          "a",
          {
            class: "token",
            ...toTree(stream, [...prefix, token]),
            "aria-label": `token ${token}, ${plural(items, "item")}`,
          },
          String(token),
        ),
    !leaf && size,
    h("div", { class: leaf ? "samples" : "samples folded" }, titles),
  );
}

function pages(offset, shown, total) {
  if (shown === total) return null;
  const link = (place, text, possible) =>
    possible
      ? h("a", { class: "button", ...to({ offset: place, mark: "" }) }, text)
      : h("span", { class: "button off" }, text);
  return h(
    "p",
    { class: "buttons pages" },
    link(Math.max(offset - AT_A_TIME, 0), "Previous", offset > 0),
    h("span", { class: "number" }, `${count(offset + 1)}–${count(offset + shown)} of ${count(total)}`),
    link(offset + AT_A_TIME, "Next", offset + shown < total),
  );
}
