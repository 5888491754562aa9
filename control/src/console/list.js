// Nodes in a table: those that have no place on the map, as their configuration names neither a city nor coordinates.
import { $, h, percent, short } from "./dom.js";

const RING_MS = 1600;
const columns = ["node", "role", "state", "requests/s", "hit ratio", "forwards/s", "purges"];
const rung = new Set(); // names of nodes that have just acknowledged a purge

export function draw(nodes) {
  const unplaced = nodes.filter((node) => !node.coordinates);
  // A map without a single node says nothing.
  const isMap = !nodes.length || unplaced.length < nodes.length;
  $("map").toggleAttribute("hidden", !isMap);
  $("map-legend").hidden = $("detail").hidden = !isMap;
  $("planet-title").textContent = isMap ? "The planet" : "Nodes";
  $("list").replaceChildren(...(nodes.length ? unplaced.length ? [table(unplaced)] : [] : [none()]));
}

function none() {
  return h("p", { class: "empty" }, "No node follows this control process yet. Start one that does: ", h("code", {}, `nearside edge … --control ${location.origin}`));
}

function table(nodes) {
  const caption = "Not on the map, as neither ";
  const row = (node) => {
    const { requests, hits, forwards } = node.rates;
    const cells = [node.role, node.alive ? "reached" : "unreachable", short(requests), percent(hits, requests), short(forwards), purges(node)];
    return h("tr", { class: [node.alive ? "" : "dead", rung.has(node.id) ? "rung" : ""].join(" "), "data-node": node.id }, h("th", { scope: "row" }, node.id),
      cells.map((cell, place) => h("td", { class: place > 1 && place < 5 ? "number" : "" }, cell)));
  };
  return h("table", {}, h("caption", {}, caption, h("code", {}, "city"), " nor ", h("code", {}, "coordinates"), " is configured"),
    h("thead", {}, h("tr", {}, columns.map((name, place) => h("th", { scope: "col", class: place > 2 && place < 6 ? "number" : "" }, name)))), h("tbody", {}, nodes.map(row)));
}

function purges(node) {
  if (node.lag === null) return "not known";
  return node.lag ? `${node.lag} behind` : "all applied";
}

/** A node has acknowledged a purge: its row is marked for a moment. */
export function ring(id) {
  const mark = (on) => {
    rung[on ? "add" : "delete"](id);
    document.querySelector(`#list tr[data-node="${CSS.escape(id)}"]`)?.classList.toggle("rung", on);
  };
  mark(true);
  setTimeout(mark, RING_MS, false);
}
