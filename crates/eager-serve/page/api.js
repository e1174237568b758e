// The server's answers; `model` is a model's name. Addresses are relative to the page, so that it also works below a path of a proxy.

/** An answer that is an error, or none at all. `message` is for people. */
export class Fault extends Error {
  constructor(message, { status = 0, code = "", retryAfter = "" } = {}) {
    super(message);
    Object.assign(this, { status, code, retryAfter });
  }
}

const TOKEN = "eager-token";
const SENDABLE = /^[\x21-\x7e]+$/;
let asking = null;

/** Asks for the token, once for however many requests wait for it. False: it was not given. */
function askForToken() {
  asking ??= new Promise((done) => {
    const dialog = document.getElementById("token");
    const value = document.getElementById("token-value");
    const refused = sessionStorage.getItem(TOKEN) !== null;
    dialog.querySelector("#token-note").textContent = refused
      ? "The server does not accept this token."
      : "This server answers only with a token. It is kept until this tab is closed.";
    const closed = () => {
      asking = null;
      const text = value.value.trim();
      const given = dialog.returnValue === "send" && text !== "";
      if (given) sessionStorage.setItem(TOKEN, text);
      value.value = "";
      done(given);
    };
    dialog.returnValue = "";
    dialog.addEventListener("close", closed, { once: true });
    dialog.showModal();
  });
  return asking;
}

async function request(path, options) {
  const token = sessionStorage.getItem(TOKEN);
  const headers = { ...options.headers, ...(token !== null && { authorization: `Bearer ${token}` }) };
  // No header can hold any other token, and no server has one.
  const sendable = token === null || SENDABLE.test(token);
  let answer;
  try {
    answer = sendable ? await fetch(path, { ...options, headers }) : new Response(null, { status: 401 });
  } catch (error) {
    if (error.name === "AbortError") throw error;
    throw new Fault("The server does not answer. Is it still running?");
  }
  if (answer.status === 401) {
    // Another request may have brought the token meanwhile.
    if (sessionStorage.getItem(TOKEN) !== token || (await askForToken())) return request(path, options);
  }
  const body = await answer.json().catch(() => null);
  if (answer.ok && body !== null) return body;
  throw new Fault(body?.error?.message ?? `The server answered ${answer.status} ${answer.statusText}`.trim(), {
    status: answer.status,
    code: body?.error?.code,
    retryAfter: answer.headers.get("retry-after"),
  });
}

const get = (path, query, signal) => request(`${path}?${new URLSearchParams(query)}`, { signal });

function post(path, body, signal) {
  const headers = { "content-type": "application/json" };
  return request(path, { method: "POST", headers, body: JSON.stringify(body), signal });
}

/** Which catalogue each model has, as the page knows it. */
const digests = new Map();

export async function models() {
  const { models } = await request("v1/models", {});
  for (const { name, digest } of models) digests.set(name, digest);
  return models;
}

/** The event of an answer that is of another catalogue than the page knows. */
export const CHANGED = "eager-changed";

/** A model was changed for another: what is known of its items may be so no longer. */
function changed() {
  known.clear();
  document.dispatchEvent(new Event(CHANGED));
}

export const categories = (model) => get("v1/categories", { model, limit: 1000 });

export const search = (model, words, limit, signal) => get("v1/items", { model, q: words, limit }, signal);

const path = (item) => `v1/items/${encodeURIComponent(item)}`;

const known = new Map();

/** An item with text, categories and codes; asked for once where the catalogue has it. Null where it does not. */
export async function item(model, id, signal) {
  // An answer that comes after a change is kept as one of the catalogue before.
  const key = JSON.stringify([model, digests.get(model), id]);
  if (known.has(key)) return known.get(key);
  const missing = (error) => {
    if (error.status !== 404) throw error;
    return null;
  };
  const found = await get(path(id), { model }, signal).catch(missing);
  if (found !== null) known.set(key, found);
  return found;
}

export const similar = (model, id, view, k, signal) => get(`${path(id)}/similar`, { model, view, k }, signal);

/** A list for the state's history and settings. Items that the model does not have are left out and named. */
export async function recommend(model, { history, list, k, category, unseen }, signal) {
  const body = { model, history, list, k, exclude_seen: unseen, unknown: "skip" };
  const answer = await post("v1/recommend", category ? { ...body, categories: [category] } : body, signal);
  if (answer.digest !== digests.get(model)) changed();
  return answer;
}

/** One item's codes as a history makes them likely. The history holds items of the catalogue alone. */
export async function explain(model, history, id, samples, signal) {
  const body = { model, history, items: [id], samples };
  const answer = await post("v1/explain", body, signal).catch((error) => {
    // The page knew all of them.
    if (error.code === "unknown_item") changed();
    throw error;
  });
  if (answer.digest !== digests.get(model)) changed();
  return answer.explanations[0];
}

/** The ids of `history` that the catalogue has. */
export async function knownOf(model, history, signal) {
  const found = await Promise.all(history.map((id) => item(model, id, signal)));
  return history.filter((_, place) => found[place] !== null);
}

export function tree(model, { stream, prefix, offset }, limit, samples, signal) {
  return get(`v1/tree/${stream}`, { model, prefix: prefix.join(","), offset, limit, samples }, signal);
}
