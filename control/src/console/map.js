// The map: nodes where they stand, what flows between them, rings where a purge was acknowledged.
import { $, h, percent, short } from "./dom.js";
import land from "./land.js";

const layers = Object.fromEntries(["arcs", "ways", "rings", "nodes", "people"].map((name) => [name, h("g", { class: name })]));
const nodes = new Map(); // by name: the element and where it is
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
    Object.assign(entry, { x, y });
    const size = Math.min(2 + Math.sqrt(node.rates.requests) * 0.35, 7);
    if (node.role === "shield") {
      for (const [name, value] of [["x", x - size], ["y", y - size], ["width", 2 * size], ["height", 2 * size], ["rx", 0.6]]) entry.mark.setAttribute(name, value);
    } else {
      for (const [name, value] of [["cx", x], ["cy", y], ["r", size]]) entry.mark.setAttribute(name, value);
    }
    entry.label.setAttribute("x", x + size + 1);
    entry.label.setAttribute("y", node.role === "shield" ? y + size + 3.5 : y - size + 1);
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
  const origin = layers.people.querySelector(".origin")?.at;
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
  if (origin) {
    const [x, y] = point(origin.coordinates);
    const mark = h("g", { class: "origin" }, h("title", {}, `the origin, ${origin.city}`), h("path", { d: `M${x - 2.4} ${y + 2}h4.8l-2.4-4.6z` }), h("text", { x: x + 3, y: y + 2 }, "origin"));
    mark.at = [x, y];
    marks.push(mark);
  }
  let way = [];
  if (viewer) {
    const at = point(viewer.coordinates);
    marks.push(h("g", { class: "viewer" }, h("title", {}, viewer.name), h("circle", { cx: at[0], cy: at[1], r: 1.8 }), h("text", { x: at[0] + (at[0] > 300 ? -3 : 3), y: at[1] + 5, "text-anchor": at[0] > 300 ? "end" : "start" }, viewer.name)));
    const node = nodes.get(edge);
    if (node) way = [h("path", { class: "way", d: arc(at, [node.x, node.y]), "data-to": edge })];
  }
  layers.people.replaceChildren(...marks);
  layers.ways.replaceChildren(...way);
}
