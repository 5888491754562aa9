// The map: nodes where they stand, what flows between them, rings where a purge was acknowledged.
import { $, h, percent, short } from "./dom.js";
import land from "./land.js";

const layers = Object.fromEntries(["arcs", "ways", "rings", "nodes", "people"].map((name) => [name, h("g", { class: name })]));
const nodes = new Map(); // by name: the element and where it is
const WIDTH = 360; // of the map, in degrees
const LETTER = 0.62; // width of a letter, in heights of the font
let selected = null;
let latest = [];

export const point = ([latitude, longitude]) => [longitude + 180, 90 - latitude];

export function begin() {
  $("map").append(h("path", { class: "land", d: land }), ...Object.values(layers));
}

const arc = ([x1, y1], [x2, y2]) => {
  const lift = Math.hypot(x2 - x1, y2 - y1) / 6;
  return `M${x1} ${y1}Q${(x1 + x2) / 2} ${(y1 + y2) / 2 - lift} ${x2} ${y2}`;
};

const ratio = (node) => (node.rates.requests > 0 ? node.rates.hits / node.rates.requests : null);

function kind(node) {
  if (!node.alive) return "dead";
  const hits = ratio(node);
  return hits === null ? "idle" : hits < 0.34 ? "low" : hits < 0.8 ? "mid" : "high";
}

/** Nodes of one city stand beside each other. */
function places(list) {
  const taken = new Map();
  return list.map((node) => {
    const [x, y] = point(node.coordinates);
    const key = `${Math.round(x)},${Math.round(y)}`;
    const count = taken.get(key) ?? 0;
    taken.set(key, count + 1);
    return [node, [x + count * 5, y]];
  });
}

/** Puts labels beside their marks so that none covers another label or a mark; the first place that is free, else the first. */
function label(texts, marks) {
  const taken = marks.map(([x, y, size]) => [x - size, y - size, x + size, y + size]);
  const meet = ([a, b, c, d], [e, f, g, i]) => a < g && e < c && b < i && f < d;
  // Asked for once: to ask again after a label has moved would have the page laid out anew.
  const height = texts.length ? parseFloat(getComputedStyle(texts[0][0]).fontSize) : 0;
  for (const [text, x, y, size] of texts) {
    const width = text.textContent.length * height * LETTER;
    const [right, left, middle] = [x + size + 1, x - size - 1, x];
    const [up, down, level] = [y - size + 1, y + size + height - 1, y + height / 3];
    const places = [[right, up], [right, down], [left, up], [left, down], [right, level], [left, level], [middle, y - size - 1], [middle, y + size + height]];
    const box = ([at, base]) => {
      const start = at === right ? at : at === left ? at - width : at - width / 2;
      return [start, base - height * 0.8, start + width, base + height * 0.2];
    };
    const isFree = (place) => box(place)[0] >= 0 && box(place)[2] <= WIDTH && !taken.some((other) => meet(box(place), other));
    const place = places.find(isFree) ?? places[0];
    taken.push(box(place));
    text.setAttribute("x", place[0]);
    text.setAttribute("y", place[1]);
    text.setAttribute("text-anchor", place[0] === right ? "start" : place[0] === left ? "end" : "middle");
  }
}

/** Labels of nodes and of people, after all marks are where they belong. */
function labels() {
  const people = [...layers.people.children].map((group) => group.mark);
  const shown = [...nodes.values()];
  label([...shown.map(({ label: text, x, y, size }) => [text, x, y, size]), ...people.map(({ text, at: [x, y], size }) => [text, x, y, size])],
    [...shown.map(({ x, y, size }) => [x, y, size]), ...people.map(({ at: [x, y], size }) => [x, y, size])]);
}

export function draw(list, chosen) {
  latest = list.filter((node) => node.coordinates);
  const placed = places(latest);
  const known = new Set(latest.map((node) => node.id));
  for (const [id, { element }] of nodes) {
    if (!known.has(id)) {
      element.remove();
      nodes.delete(id);
    }
  }
  for (const [node, [x, y]] of placed) {
    let entry = nodes.get(node.id);
    if (!entry) {
      const mark = node.role === "shield" ? h("rect", { class: "mark" }) : h("circle", { class: "mark" });
      const label = h("text", {}, node.id.replace(/^(edge|shield)-/, ""));
      const select = () => { selected = node.id; detail(); };
      const element = h("g", { tabindex: 0, role: "button", click: select, keydown: (event) => {
        if (event.key === "Enter" || event.key === " ") { event.preventDefault(); select(); }
      } }, h("title"), mark, label);
      layers.nodes.append(element);
      entry = { element, mark, label };
      nodes.set(node.id, entry);
    }
    const size = Math.min(2 + Math.sqrt(node.rates.requests) * 0.35, 7);
    Object.assign(entry, { x, y, size });
    if (node.role === "shield") {
      for (const [name, value] of [["x", x - size], ["y", y - size], ["width", 2 * size], ["height", 2 * size], ["rx", 0.6]]) entry.mark.setAttribute(name, value);
    } else {
      for (const [name, value] of [["cx", x], ["cy", y], ["r", size]]) entry.mark.setAttribute(name, value);
    }
    entry.element.setAttribute("class", `node ${kind(node)}${node.id === chosen ? " chosen" : ""}`);
    const told = tell(node);
    entry.element.setAttribute("aria-label", told);
    entry.element.querySelector("title").textContent = told;
  }
  flows(placed);
  detail();
}

function flows(placed) {
  const shields = placed.filter(([node]) => node.role === "shield" && node.alive);
  const origin = layers.people.querySelector(".origin")?.mark.at;
  const lines = [];
  const flow = (from, to, rate) => rate > 0 && lines.push(h("path", { class: "arc", d: arc(from, to), "stroke-width": Math.min(0.3 + Math.log10(1 + rate) * 0.6, 2.5) }));
  for (const [node, at] of placed) {
    if (node.role === "edge") for (const [, shield] of shields) flow(at, shield, node.rates.forwards / shields.length);
    else if (origin) flow(at, origin, node.rates.forwards);
  }
  layers.arcs.replaceChildren(...lines);
}

const tell = (node) => {
  const state = node.alive ? "" : ", unreachable";
  const { requests, hits, forwards } = node.rates;
  return `${node.id}, ${node.city ?? "somewhere"}${state}: ${short(requests)} requests/s, hit ratio ${percent(hits, requests)}, ${short(forwards)} forwards/s`;
};

function detail() {
  const node = latest.find((one) => one.id === selected);
  $("detail").textContent = node
    ? `${tell(node)}, ${node.connections} connections, ${node.lag === null ? "how far it is with purges is not known" : node.lag ? `${node.lag} purges behind` : "all purges applied"}, version ${node.version}`
    : latest.length ? "Choose a node for more of it." : "";
}

/** A node has acknowledged a purge. */
export function ring(id) {
  const node = nodes.get(id);
  if (!node) return;
  const circle = h("circle", { class: "ring", cx: node.x, cy: node.y, "data-node": id });
  layers.rings.append(circle);
  setTimeout(() => circle.remove(), 1600);
}

/** Where the person looks from, and to which node it is sent. */
export function look(viewer, edge, origin) {
  const marks = [];
  const add = (kind, at, size, title, shape, name) => {
    const text = h("text", {}, name);
    const group = h("g", { class: kind }, h("title", {}, title), shape, text);
    group.mark = { text, at, size };
    marks.push(group);
  };
  if (origin) {
    const [x, y] = point(origin.coordinates);
    add("origin", [x, y], 2.4, `the origin, ${origin.city}`, h("path", { d: `M${x - 2.4} ${y + 2}h4.8l-2.4-4.6z` }), "origin");
  }
  let way = [];
  if (viewer) {
    const at = point(viewer.coordinates);
    add("viewer", at, 1.8, viewer.name, h("circle", { cx: at[0], cy: at[1], r: 1.8 }), viewer.name);
    const node = nodes.get(edge);
    if (node) way = [h("path", { class: "way", d: arc(at, [node.x, node.y]), "data-to": edge })];
  }
  layers.people.replaceChildren(...marks);
  layers.ways.replaceChildren(...way);
  labels();
}
