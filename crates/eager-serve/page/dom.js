// Elements from plain values. Text is always text: nothing of what the server says is read as HTML.

/**
 * An element with attributes and children. `on…` are listeners, booleans are set or left out, `vars` are custom
 * properties of its style; children are nodes, texts, or nothing.
 */
export function h(tag, attributes = {}, ...children) {
  const element = document.createElement(tag);
  for (const [name, value] of Object.entries(attributes)) {
    if (value === false || value == null) continue;
    if (name.startsWith("on")) element.addEventListener(name.slice(2), value);
    else if (name === "vars") for (const [key, of] of Object.entries(value)) element.style.setProperty(`--${key}`, of);
    else element.setAttribute(name, value === true ? "" : value);
  }
  element.append(...children.flat(Infinity).filter((child) => child != null && child !== false));
  return element;
}

/** Says something to those who do not see the page change. */
export function say(text) {
  document.getElementById("status").textContent = text;
}

/** `12,101`. */
export const count = (n) => n.toLocaleString("en");

/** `1 item`, `12,101 items`. */
export const plural = (n, word) => `${count(n)} ${word}${n === 1 ? "" : "s"}`;

/** A log-probability as `4.40 %`. */
export function percent(logProb) {
  const share = 100 * Math.exp(logProb);
  const text = share >= 99.95 ? "100" : share >= 0.001 ? share.toPrecision(3) : share.toExponential(1);
  return `${text}\u00a0%`;
}

/** A number as `−3.12`. */
export const decimal = (n) =>
  n
    .toFixed(2)
    .replace("-", "−")
    .replace(/^−(0\.0+)$/, "$1");

/** An item's title, or its id where it has none. */
export const name = ({ item, title }) => title || item;
