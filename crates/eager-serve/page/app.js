// The page: what the address says is shown by the parts that stand beside it.

import * as api from "./api.js";
import * as compare from "./compare.js";
import { h, plural } from "./dom.js";
import * as history from "./history.js";
import * as item from "./item.js";
import { fault } from "./panel.js";
import * as recommendations from "./recommendations.js";
import * as search from "./search.js";
import * as settings from "./settings.js";
import { follow, go, read, to } from "./state.js";
import * as tree from "./tree.js";

const VIEWS = { recommendations, item, tree, compare };
const content = document.getElementById("content");
const select = document.getElementById("model");
const absent = document.getElementById("absent");
const sections = {};

let models = [];
let shown = { view: null, model: null };
let renewed = false;

/** The section of a view; made when it is first shown. */
function section(view) {
  sections[view] ??= (() => {
    const [heading, body] = [h("h2", { tabindex: "-1" }, VIEWS[view].title), h("div", { class: view })];
    const element = h("section", {}, heading, body);
    content.append(element);
    return { element, heading, show: VIEWS[view].view(body) };
  })();
  return sections[view];
}

function render() {
  const state = read();
  const named = models.find(({ name }) => name === state.model);
  const model = named ?? models[0];
  absent.hidden = state.model === "" || named !== undefined;
  absent.textContent = `There is no model ${state.model} here; this is ${model.name}.`;
  if (state.view === "compare" && models.length < 2) state.view = "recommendations";
  state.k = Math.min(state.k, model.max_k);
  if (model !== shown.model) introduce(model);
  links(state.view);
  search.use(model.name);
  history.show(state, model);
  settings.show(state, model);
  const { element, heading, show } = section(state.view);
  for (const other of Object.values(sections)) other.element.hidden = other.element !== element;
  show(state, model, models);
  follow();
  if (shown.view !== null && shown.view !== state.view) heading.focus();
  shown = { view: state.view, model };
}

function introduce(model) {
  select.value = model.name;
  const parts = [model.dataset, plural(model.items, "item"), `revision ${model.revision}`, model.digest?.slice(0, 12)];
  document.getElementById("about").textContent = parts.filter(Boolean).join(" · ");
  document.title = `${model.name} · EAGER`;
  settings.offer(model.name);
}

function links(view) {
  const views = ["recommendations", "tree", ...(models.length > 1 ? ["compare"] : [])];
  const nav = document.getElementById("views");
  // Made once: the focus may be on one of them.
  if (!nav.hasChildNodes()) nav.append(...views.map((of) => h("a", to({ view: of }), VIEWS[of].title)));
  for (const [place, link] of [...nav.children].entries()) {
    if (views[place] === view) link.setAttribute("aria-current", "page");
    else link.removeAttribute("aria-current");
  }
}

async function start() {
  const waiting = h("p", { class: "quiet wait" }, "Loading …");
  content.replaceChildren(waiting);
  try {
    models = await api.models();
  } catch (error) {
    return content.replaceChildren(fault(error, start));
  }
  waiting.remove();
  select.replaceChildren(...models.map(({ name }) => h("option", { value: name }, name)));
  document.getElementById("models").hidden = models.length < 2;
  window.addEventListener("hashchange", () => {
    renewed = false;
    render();
  });
  document.addEventListener(api.CHANGED, renew);
  render();
}

/** Shows everything anew where a model was changed for another while the page was open. */
async function renew() {
  // Once for each change of the address: several servers behind one may never agree.
  if (renewed) return;
  renewed = true;
  try {
    models = await api.models();
  } catch {
    // The next list tells of the change again.
    return;
  }
  render();
}

select.addEventListener("change", () => go({ model: select.value, why: "", prefix: [], offset: 0, mark: "" }));

// The address holds the state, so the link must not change it.
document.querySelector(".skip").addEventListener("click", (event) => {
  event.preventDefault();
  content.focus();
});

start();
