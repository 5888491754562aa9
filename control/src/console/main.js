// The console: a stream tells how things are; everything else is drawn from that.
import { $, ask, events, short } from "./dom.js";
import * as list from "./list.js";
import * as map from "./map.js";
import * as orders from "./orders.js";
import * as plots from "./plots.js";
import * as viewer from "./viewer.js";

const SILENT_MS = 4000;
let state = null;
let demo = null;
let heard = 0;

map.begin();
plots.begin();
orders.begin(look);
$("token").value = sessionStorage.getItem("token") ?? "";
$("token").addEventListener("change", () => {
  sessionStorage.setItem("token", $("token").value.trim());
  $("summary").textContent = "connecting …";
  listen();
  look();
});
$("who").addEventListener("submit", (event) => event.preventDefault());

function draw() {
  if (!state) return;
  const { viewer: from, edge } = viewer.now();
  map.look(from, edge, demo?.wan?.places.find((place) => place.name === "origin"));
  map.draw(state.nodes, edge);
  list.draw(state.nodes);
  map.look(from, edge, demo?.wan?.places.find((place) => place.name === "origin"));
}

function told(next) {
  state = next;
  heard = performance.now();
  $("who").hidden = !state.guarded && !sessionStorage.getItem("token");
  orders.count(state.nodes.length);
  const { requests } = plots.add(state.nodes);
  const dead = state.nodes.filter((node) => !node.alive);
  const alive = state.nodes.length - dead.length;
  $("summary").textContent = state.nodes.length
    ? `${alive} of ${state.nodes.length} nodes reached, ${short(requests)} requests/s, ${state.seq ? `purge ${state.seq}` : "no purge yet"}`
    : "no node follows this control process yet";
  const lost = dead.map((node) => node.id).join(", ");
  warn(!state.live ? "The purge log cannot be read: nothing can be purged." : lost && `Not reached: ${lost}. ${state.steers ? "Users of an edge are sent elsewhere; a" : "A"} purge waits for ${dead.length === 1 ? "it" : "them"}.`);
  draw();
}

function warn(text) {
  $("alert").hidden = !text;
  $("alert").textContent = text || "";
}

async function look() {
  try {
    demo = await ask("api/demo");
  } catch (error) {
    demo = null;
    if (error.code !== "no-demo") $("no-viewer").textContent = error.message;
    return;
  }
  orders.state(demo);
  if (!demo.wan) $("no-viewer").textContent = "The simulated network does not answer.";
  if (demo.wan && !viewer.now().viewer) viewer.begin(demo.wan, draw);
  const late = demo.wan?.late;
  $("honest").textContent = "What is simulated: the network between cities (round trips by a table, slow start, bandwidth), and where this browser sits. "
    + `What is real: every node is a process of its own, every request, cache, purge and time on this page. ${late ? `The simulated network was late by ${late.p50_ms.toFixed(1)} ms at the median, ${late.p99_ms.toFixed(1)} ms at the 99th percentile.` : ""}`;
}

function happened({ type, data }) {
  if (type === "receipt" && data.node.state === "applied") {
    map.ring(data.node.id);
    list.ring(data.node.id);
  }
  if (type === "node-up" || type === "node-down") viewer.decide();
}

// By hand, and not by EventSource: that cannot show a token.
let stop = null;
async function listen() {
  stop?.abort();
  const mine = (stop = new AbortController());
  while (!mine.signal.aborted) {
    try {
      await events("api/stream", mine.signal, { state: told, happened });
    } catch (error) {
      if (!mine.signal.aborted && error.name !== "TypeError") $("summary").textContent = error.message;
    }
    await new Promise((done) => setTimeout(done, 1000));
  }
}
listen();

setInterval(() => {
  if (heard && performance.now() - heard > SILENT_MS) warn("The control process does not answer; edges serve on.");
}, 1000);

look();
setInterval(look, 5000);
