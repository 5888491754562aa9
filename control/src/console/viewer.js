// The person looks from a city: which edge is near, which is chosen, and how long the page takes from there.
// The network between is simulated; all times are measured in this browser.
import { $, ask, h, ms } from "./dom.js";
import { load } from "./load.js";

const TIMES = 4;
/** Looked from at first: Seoul, which is near to an edge and far from the origin. */
const FIRST = "icn";

let port = "8000";
let viewers = [];
let run = 0; // a newer choice ends what an older one does
let loading = new AbortController();
const chosen = { viewer: null, edge: null };
let tell = () => {};

export const now = () => chosen;

const options = { cache: "no-store", credentials: "omit", mode: "cors" };
const at = (name) => `http://${name ? `${name}.` : ""}${chosen.viewer.code}.localhost:${port}`;

export function begin(page, onChange) {
  [viewers, tell] = [page.viewers, onChange];
  port = page.port ?? port;
  performance.setResourceTimingBufferSize(1000);
  $("no-viewer").hidden = true;
  $("viewer-body").hidden = false;
  $("city").replaceChildren(...viewers.map((viewer) => h("option", { value: viewer.code }, viewer.name)));
  if (viewers.some((viewer) => viewer.code === FIRST)) $("city").value = FIRST;
  $("city").addEventListener("change", choose);
  $("again").addEventListener("click", choose);
  $("load").addEventListener("click", loadPages);
  choose();
}

async function choose() {
  const mine = ++run;
  chosen.viewer = viewers.find((viewer) => viewer.code === $("city").value) ?? viewers[0];
  chosen.edge = null;
  loading.abort();
  for (const id of ["loads", "bars"]) $(id).tBodies[0].replaceChildren();
  $("verdict").textContent = "";
  $("requests").replaceChildren(h("p", { class: "empty" }, "none yet: load the page"));
  // What is measured should not be measured beside something else.
  $("load").disabled = true;
  performance.clearResourceTimings();
  await decide();
  const edges = Object.keys(chosen.viewer.round_trip_ms).filter((name) => name.startsWith("edge-"));
  const results = new Map();
  for (const edge of edges.sort((a, b) => chosen.viewer.round_trip_ms[a] - chosen.viewer.round_trip_ms[b])) {
    const time = await measure(edge).catch(() => null);
    if (mine !== run) return;
    results.set(edge, time);
    bars(edges, results);
  }
  await report(results).catch(() => {});
  if (mine !== run) return;
  $("load").disabled = false;
  await decide();
}

/** Reports those that the router wants to know, with its proof that it has asked. */
async function report(results) {
  const base = `${at("")}/.well-known/nearside`;
  const { edges, proof } = await (await fetch(`${base}/candidates`, options)).json();
  const times = Object.fromEntries(edges.map(({ id }) => [id, results.get(id)]).filter(([, time]) => time != null));
  await fetch(`${base}/report`, { ...options, method: "POST", body: JSON.stringify({ proof, times }) });
}

/** Whom steering chooses now. */
export async function decide() {
  if (!chosen.viewer) return;
  const viewer = chosen.viewer;
  const ip = viewer.network.replace("0/24", "1");
  try {
    const page = await ask(`api/route?ip=${ip}&host=${viewer.code}.localhost`);
    if (viewer !== chosen.viewer) return;
    chosen.edge = page.edge;
    const best = page.candidates[0];
    const why = { rtt: "the shortest round trip that was measured", geo: "the nearest; not enough was measured yet", load: "another is nearer, and has too much to do",
      only: "there is no other", "last-known": "no edge is reached from here: the last map", unknown: "nobody knows where this is" }[page.reason] ?? page.reason;
    $("chosen").replaceChildren("Steering sends you to ", h("strong", { id: "chosen-edge" }, page.edge ?? "nobody"), `: ${why}${best?.expected_ms ? `, ${ms(best.expected_ms)}` : ""}.`);
  } catch (error) {
    $("chosen").textContent = error.message;
  }
  mark();
  tell();
}

function mark() {
  for (const row of $("bars").tBodies[0].rows) row.classList.toggle("chosen", row.dataset.edge === chosen.edge);
}

/** From the request to the first byte, on a connection that is open. */
async function once(url) {
  const begun = performance.now();
  await (await fetch(url, { ...options, signal: AbortSignal.timeout(8000) })).text();
  const spent = performance.now() - begun;
  const entry = performance.getEntriesByName(url).pop();
  return entry?.requestStart > 0 ? entry.responseStart - entry.requestStart : spent;
}

/** The shortest of a few; fails if two requests have failed. A single one may be lost, as those to an edge that is just starting. */
async function measure(edge) {
  const ping = `${at(edge.replace("edge-", ""))}/.well-known/nearside/ping`;
  let failures = 0;
  const tried = async (url) => {
    try {
      return await once(url);
    } catch (error) {
      if (++failures > 1) throw error;
      return once(url);
    }
  };
  await tried(ping);
  let best = Infinity;
  for (let n = 0; n < TIMES; n++) best = Math.min(best, await tried(`${ping}?${n}`));
  return best;
}

function bars(edges, results) {
  const longest = Math.max(...edges.map((edge) => Math.max(chosen.viewer.round_trip_ms[edge], results.get(edge) ?? 0)));
  const row = (edge) => {
    const time = results.get(edge);
    const width = (value) => `${((100 * value) / longest).toFixed(1)}%`;
    return h("tr", { "data-edge": edge }, h("th", { scope: "row" }, edge.replace("edge-", "")),
      h("td", { class: "bar" }, h("div", { class: "track" }, h("div", { class: "fill", style: { width: width(time ?? 0) } }), h("div", { class: "mark", style: { left: width(chosen.viewer.round_trip_ms[edge]) } }))),
      h("td", { class: "number" }, time === undefined ? "…" : time === null ? "no answer" : ms(time)));
  };
  $("bars").tBodies[0].replaceChildren(...edges.map(row));
  mark();
}

async function loadPages() {
  const mine = (loading = new AbortController());
  $("load").disabled = true;
  await load(at, chosen.edge?.replace("edge-", ""), mine.signal);
  if (!mine.signal.aborted) $("load").disabled = false;
}
