"use strict";

// What pages of captions are drawn with; the script of the page itself comes after this one, in the same element.
// The page's data is a JSON element; all text goes into the page as text, never as markup.

const remember = (what) => {
  document.documentElement.dataset.error = what;
};
window.addEventListener("error", (event) => remember(event.message));
document.addEventListener("securitypolicyviolation", (event) => remember(`blocked: ${event.violatedDirective}`));

const data = JSON.parse(document.getElementById("data").textContent);
const byId = (id) => document.getElementById(id);
const score = new Intl.NumberFormat("en", { minimumFractionDigits: 1, maximumFractionDigits: 1 });
const gain = new Intl.NumberFormat("en", { minimumFractionDigits: 1, maximumFractionDigits: 1, signDisplay: "exceptZero" });
const whole = new Intl.NumberFormat("en", { maximumFractionDigits: 2 });
const count = new Intl.NumberFormat("en");
const words = /[\p{L}\p{N}]+(?:['’][\p{L}\p{N}]+)*/gu;

function make(tag, attributes = {}, ...children) {
  const element = document.createElement(tag);
  for (const [name, value] of Object.entries(attributes)) element.setAttribute(name, value);
  element.append(...children);
  return element;
}

function draw(tag, attributes, text) {
  const element = document.createElementNS("http://www.w3.org/2000/svg", tag);
  for (const [name, value] of Object.entries(attributes)) element.setAttribute(name, value);
  if (text !== undefined) element.textContent = text;
  return element;
}

const mean = (values) => values.reduce((sum, value) => sum + value, 0) / values.length;

/** Four to eight round numbers from one end of an axis to the other. */
function ticks(from, to) {
  const size = 10 ** Math.floor(Math.log10((to - from) / 4));
  const step = size * ([5, 2.5, 2].find((factor) => (to - from) / (size * factor) >= 4) ?? 1);
  const values = [];
  for (let at = Math.ceil(from / step); at <= to / step; at++) values.push(at * step);
  return values;
}

const painters = new WeakMap();
const sizes = new ResizeObserver((entries) => {
  for (const entry of entries) painters.get(entry.target)?.();
});

/** Paint what stands below `node` at once: the observer waits for a frame, which a page in the background never gets. */
function paint(node) {
  for (const own of node.querySelectorAll("*")) painters.get(own)?.();
}

/** The same order for the same seed in every browser (Fisher and Yates, with the generator mulberry32). */
function shuffled(items, seed) {
  let a = seed >>> 0;
  const random = () => {
    a = (a + 0x6d2b79f5) >>> 0;
    let t = Math.imul(a ^ (a >>> 15), 1 | a);
    t = (t + Math.imul(t ^ (t >>> 7), 61 | t)) ^ t;
    return ((t ^ (t >>> 14)) >>> 0) / 4294967296;
  };
  const result = [...items];
  for (let last = result.length - 1; last > 0; last--) {
    const other = Math.floor(random() * (last + 1));
    [result[last], result[other]] = [result[other], result[last]];
  }
  return result;
}

/** A caption in which words that no reference has are underlined. */
function marked(caption, known) {
  const line = make("p");
  if (!caption.trim()) line.append(make("em", { class: "quiet" }, "(no caption)"));
  let end = 0;
  for (const match of caption.matchAll(words)) {
    line.append(caption.slice(end, match.index));
    line.append(known.has(match[0].toLowerCase()) ? match[0] : make("span", { class: "own-word" }, match[0]));
    end = match.index + match[0].length;
  }
  line.append(caption.slice(end));
  return line;
}

function fill(select, entries, value) {
  for (const [key, text] of entries) select.append(make("option", { value: key }, text));
  select.value = value;
}
