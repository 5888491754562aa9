// Numbers of the last five minutes, as they come.
import { $, h, ms, short } from "./dom.js";

const SECONDS = 300;
const series = new Map();
const times = []; // of requests of this browser, in milliseconds

const plots = [
  ["requests", "requests a second, at all edges", short],
  ["ratio", "hit ratio by requests, at all edges", (value) => `${Math.round(value * 100)} %`],
  ["saved", "of them, spared the origin", (value) => `${Math.round(value * 100)} %`],
  ["bytes", "bytes a second to clients", (value) => `${short(value)}B`],
  ["origin", "requests a second at the origin", short],
  ["p95", "p95 of this browser's requests, p50 beside it", (value) => `${ms(value)} · ${ms(quantile(0.5))}`],
];

export function begin() {
  const plot = ([name, label]) => h("div", { class: "plot", id: `plot-${name}` }, h("b", {}, "–"), h("span", {}, label),
    h("svg", { viewBox: "0 0 300 40", preserveAspectRatio: "none", "aria-hidden": "true" }, h("path", { class: "area" }), h("path", { class: "line" })));
  $("plots").append(...plots.map(plot));
}

function quantile(part) {
  const sorted = [...times].sort((a, b) => a - b);
  return sorted[Math.min(sorted.length - 1, Math.floor(sorted.length * part))];
}

/** How long a request of this browser took. */
export function took(time) {
  times.push(time);
  if (times.length > 200) times.shift();
}

export function add(nodes) {
  const sum = (role, what) => nodes.filter((node) => node.role === role && node.alive).reduce((total, node) => total + node.rates[what], 0);
  const requests = sum("edge", "requests");
  const hasShields = nodes.some((node) => node.role === "shield");
  const origin = hasShields ? sum("shield", "forwards") : sum("edge", "forwards");
  const values = {
    requests,
    ratio: requests > 0 ? sum("edge", "hits") / requests : null,
    saved: requests > 0 ? Math.max(0, 1 - origin / requests) : null,
    bytes: sum("edge", "bytes"),
    origin,
    p95: times.length ? quantile(0.95) : null,
  };
  for (const [name, , tell] of plots) {
    const line = series.get(name) ?? [];
    series.set(name, line);
    line.push(values[name]);
    if (line.length > SECONDS) line.shift();
    draw($(`plot-${name}`), line, tell);
  }
  return values;
}

function draw(plot, line, tell) {
  const last = line.findLast((value) => value !== null);
  plot.querySelector("b").textContent = last === undefined ? "–" : tell(last);
  const top = Math.max(...line.filter((value) => value !== null), 1e-9);
  // At least a minute wide.
  const span = Math.max(line.length, 60);
  const at = (value, place) => [(300 * (span - line.length + place)) / (span - 1), 38 - (36 * value) / top];
  const points = line.map((value, place) => (value === null ? null : at(value, place))).filter(Boolean);
  const path = points.map(([x, y]) => `${x} ${y.toFixed(1)}`).join("L");
  plot.querySelector(".line").setAttribute("d", points.length > 1 ? `M${path}` : "");
  plot.querySelector(".area").setAttribute("d", points.length > 1 ? `M${path}L${points.at(-1)[0]} 40L${points[0][0]} 40Z` : "");
}
