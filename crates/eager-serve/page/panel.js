// A part of the page that shows an answer of the server: while it waits, what came, or what went wrong.

import { h, say } from "./dom.js";

export class Panel {
  #element;
  #key = null;
  #waiting = null;

  constructor(element) {
    this.#element = element;
  }

  /**
   * Shows what `draw` makes of the answer to `ask`; nothing happens where `key`, all that the answer depends on, is that
   * of what is shown or waited for.
   */
  async show(key, ask, draw) {
    key = JSON.stringify(key);
    if (key === this.#key) return;
    this.#waiting?.abort();
    const waiting = new AbortController();
    this.#waiting = waiting;
    this.#key = key;
    this.#element.setAttribute("aria-busy", "true");
    if (!this.#element.hasChildNodes()) this.#element.append(h("p", { class: "quiet wait" }, "Loading …"));
    let nodes;
    try {
      nodes = draw(await ask(waiting.signal));
    } catch (error) {
      if (waiting.signal.aborted) return;
      const again = () => {
        this.#key = null;
        this.show(JSON.parse(key), ask, draw);
      };
      nodes = [fault(error, again)];
    }
    if (!waiting.signal.aborted) this.#put(nodes);
  }

  /** Shows something that needs no answer. */
  put(key, draw) {
    key = JSON.stringify(key);
    if (key === this.#key) return;
    this.#waiting?.abort();
    this.#key = key;
    this.#put(draw());
  }

  #put(nodes) {
    const focused = this.#element.contains(document.activeElement);
    this.#element.setAttribute("aria-busy", "false");
    this.#element.replaceChildren(...[nodes].flat(Infinity).filter(Boolean));
    // Who went along with the keyboard is not thrown back to the top of the page.
    if (focused && !this.#element.contains(document.activeElement)) {
      (
        this.#element.querySelector("[data-focus]") ?? this.#element.closest("section, main")?.querySelector("h2")
      )?.focus();
    }
  }
}

/** What went wrong, with a button to try again. */
export function fault(error, again) {
  if (!("status" in error)) console.error(error);
  const wait = error.retryAfter ? ` Try again in ${error.retryAfter} s.` : "";
  const text = `${error.message}${/[.?!]$/.test(error.message) ? "" : "."}${wait}`;
  say(text);
  return h(
    "div",
    { class: "note fault" },
    h("p", {}, text),
    h("button", { type: "button", onclick: again }, "Try again"),
  );
}
