// Why an item is recommended: its code in each stream's tree, from the root to the leaf, with what lies below each prefix.

import { count, decimal, h, name, percent, plural } from "./dom.js";
import { toTree } from "./state.js";

/** Items named below each prefix. */
export const SAMPLES = 3;

/** Both streams' paths. */
export function draw({ streams }, model) {
  return h(
    "div",
    { class: "paths" },
    Object.entries(streams).map(([stream, path]) => drawPath(stream, path, model)),
  );
}

function drawPath(stream, { log_prob, tokens }, model) {
  const codes = tokens.map(({ token }) => token);
  return h(
    "section",
    { class: stream },
    h("h3", { class: "stream" }, h("span", { class: `key key-${stream}` }), `${stream} stream: `, figure(log_prob)),
    h(
      "ol",
      { class: "path" },
      h(
        "li",
        {},
        h("a", { ...toTree(stream, []) }, "root"),
        h("span", { class: "quiet" }, ` ${plural(model.items, "item")}`),
      ),
      tokens.map((token, level) => step(stream, codes, token, level)),
    ),
  );
}

function step(stream, codes, { token, siblings, log_prob, leaves, samples }, level) {
  const last = level === codes.length - 1;
  // A leaf has nothing below it: it is shown among its siblings.
  const address = last ? toTree(stream, codes.slice(0, -1), token) : toTree(stream, codes.slice(0, level + 1));
  const chosen = siblings === 1 ? "the only one, costs nothing" : `of ${count(siblings)}`;
  return h(
    "li",
    {},
    h(
      "p",
      {},
      h("a", { ...address, "aria-label": `token ${token} in the ${stream} tree` }, `token ${token}`),
      h("span", { class: "quiet" }, ` ${chosen}`),
      siblings > 1 && [" ", figure(log_prob)],
    ),
    siblings > 1 && bar(stream, log_prob),
    h(
      "p",
      { class: "samples" },
      !last && h("span", { class: "quiet" }, `${plural(leaves, "leaf").replace("leafs", "leaves")} below: `),
      samples.map(name).join(" · "),
      !last && leaves > samples.length && " …",
    ),
  );
}

/** `4.40 % (−3.12)`. */
export function figure(logProb) {
  return [
    h("span", { class: "number" }, percent(logProb)),
    h("span", { class: "quiet number" }, ` (${decimal(logProb)})`),
  ];
}

/** A bar of a probability beside `most`, the one that fills it. For the eye alone: the figure stands beside it. */
export function bar(stream, logProb, most = 0) {
  const share = `${Math.max(100 * Math.exp(logProb - most), 0.5)}%`;
  return h("span", { class: `bar ${stream}`, "aria-hidden": "true", vars: { share } });
}
