// What is shown is the part of the address behind '#', and nothing else: a view can be sent to somebody, and going back
// goes back. Everything that changes the page changes the address; the page follows it.

const VIEWS = ["recommendations", "item", "tree", "compare"];
const LISTS = ["merged", "behaviour", "semantic"];

/** What is left out of the address. Empty texts mean: the first model, no category, no item. */
const DEFAULTS = {
  view: "recommendations",
  model: "",
  history: [],
  list: "merged",
  k: 10,
  category: "",
  unseen: false,
  why: "",
  item: "",
  stream: "behaviour",
  prefix: [],
  offset: 0,
  mark: "",
  other: "",
};

const one = (known, text, otherwise) => (known.includes(text) ? text : otherwise);
const whole = (text, least, otherwise) => (/^\d{1,9}$/.test(text) && +text >= least ? +text : otherwise);

const READERS = {
  view: (text) => one(VIEWS, text, DEFAULTS.view),
  // Ids may hold commas: those are encoded, the ones between ids are not.
  history: (text) => text.split(",").filter(Boolean).map(decode),
  list: (text) => one(LISTS, text, DEFAULTS.list),
  k: (text) => whole(text, 1, DEFAULTS.k),
  unseen: (text) => text === "1",
  stream: (text) => one(LISTS.slice(1), text, DEFAULTS.stream),
  prefix: (text) =>
    text
      .split(",")
      .filter((token) => /^\d{1,9}$/.test(token))
      .map(Number),
  offset: (text) => whole(text, 0, 0),
};

function decode(text) {
  try {
    return decodeURIComponent(text);
  } catch {
    return text;
  }
}

/** The state in the address. What cannot be read there is as by default. */
export function read() {
  const state = { ...DEFAULTS };
  for (const pair of location.hash.slice(1).split("&")) {
    const [key, ...rest] = pair.split("=");
    if (Object.hasOwn(DEFAULTS, key)) state[key] = (READERS[key] ?? decode)(rest.join("="));
  }
  return state;
}

function write(value) {
  if (Array.isArray(value)) return value.map(encodeURIComponent).join(",");
  return value === true ? "1" : encodeURIComponent(value);
}

/** The address of the present state with `changes`. */
function href(changes) {
  const state = { ...read(), ...changes };
  const told = Object.keys(DEFAULTS).filter((key) => write(state[key]) !== write(DEFAULTS[key]));
  return `#${told.map((key) => `${key}=${write(state[key])}`).join("&")}`;
}

/** Changes the state. */
export function go(changes) {
  location.hash = href(changes);
}

/** The attributes of a link that makes `changes`. */
export function to(changes) {
  return { href: href(changes), "data-to": JSON.stringify(changes) };
}

/** After the state has changed: links make their changes to what it is now, not to what it was when they were made. */
export function follow() {
  for (const link of document.querySelectorAll("[data-to]")) link.href = href(JSON.parse(link.dataset.to));
}

/** A link to an item's view. */
export const toItem = (item) => to({ view: "item", item });

/** A link to the children of `prefix`; `mark` is one of them. */
export function toTree(stream, prefix, mark = "") {
  return to({ view: "tree", stream, prefix, offset: 0, mark: String(mark) });
}

/** Adds an item to the end of the history, where it is not its last one. */
export function add(item) {
  const { history } = read();
  if (history.at(-1) !== item) go({ history: [...history, item] });
}
