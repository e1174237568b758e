// One item: its text, its codes, what is near it, and how likely the history makes it.

import * as api from "./api.js";
import { decimal, h, name } from "./dom.js";
import * as explanation from "./explanation.js";
import { Panel } from "./panel.js";
import { adder, explain } from "./recommendations.js";
import { toItem, toTree } from "./state.js";

const STREAMS = ["behaviour", "semantic"];
const NEAR = 10;

export const title = "Item";

/** The view, in `element`; what it returns shows a state. */
export function view(element) {
  const panel = new Panel(element);
  return ({ item, history }, model) => {
    const ask = async (signal) => {
      const known = await api.item(model.name, item, signal);
      if (known === null) return { known };
      const near = STREAMS.map((stream) => api.similar(model.name, item, stream, Math.min(NEAR, model.max_k), signal));
      const why = await api.knownOf(model.name, history, signal);
      const explained = why.length > 0 && explain(model, why, item, signal);
      return { known, near: await Promise.all(near), why: await explained };
    };
    panel.show([model.name, model.digest, item, history], ask, (answer) => draw(answer, item, model));
  };
}

function draw({ known, near, why }, id, model) {
  if (known === null) return h("p", { class: "note" }, `Item ${id || "(none)"} is not in this catalogue.`);
  const codes = STREAMS.filter((stream) => known.codes?.[stream]);
  return [
    h("h3", { class: "name", tabindex: "-1", "data-focus": true }, name(known)),
    h("p", {}, h("code", {}, known.item), " ", adder(known)),
    h(
      "dl",
      { class: "facts" },
      known.categories?.length > 0 && [h("dt", {}, "Categories"), h("dd", {}, known.categories.join(" › "))],
      codes.map((stream) => [h("dt", {}, `Code, ${stream}`), h("dd", {}, code(stream, known.codes[stream]))]),
      known.text && [h("dt", {}, "Text"), h("dd", {}, known.text)],
    ),
    why && [h("h3", {}, "As the history makes it likely"), explanation.draw(why, model)],
    h("h3", {}, "Similar items"),
    h("div", { class: "paths" }, near.map(neighbours)),
  ];
}

function code(stream, tokens) {
  return tokens.flatMap((token, level) => [
    level > 0 && " › ",
    h(
      "a",
      { ...toTree(stream, tokens.slice(0, level), token), "aria-label": `token ${token} in the ${stream} tree` },
      String(token),
    ),
  ]);
}

function neighbours({ view, items }) {
  const row = (item) =>
    h(
      "li",
      {},
      h("a", { class: "title", ...toItem(item.item) }, name(item)),
      h("span", { class: "number quiet" }, decimal(item.cosine)),
      adder(item),
    );
  return h(
    "section",
    { class: view },
    h("h3", { class: "stream" }, h("span", { class: `key key-${view}` }), `${view} vectors, cosine`),
    h("ol", { class: "items" }, items.map(row)),
  );
}
