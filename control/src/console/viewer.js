// The person looks from a city: which edge is near, which is chosen, and how long the page takes from there.
// The network between is simulated; all times are measured in this browser.
import { $, ask, h, ms } from "./dom.js";
import { took } from "./plots.js";

const TIMES = 4;
const FILES = ["/style.css", "/served.js", "/planet.svg", "/route.svg"];
const REQUESTS_MAX = 40;
const words = {
  hit: "a copy was there", "uri-miss": "nothing was there", "vary-miss": "no copy for this kind of request", stale: "the copy was old",
  bypass: "a cache does not answer that", method: "a cache does not answer that", request: "the request wanted it new",
};

let port = "8000";
let viewers = [];
let run = 0; // a newer choice ends what an older one does
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
  $("city").addEventListener("change", choose);
  $("again").addEventListener("click", choose);
  $("load").addEventListener("click", () => load().catch((error) => { $("chosen").textContent = error.message; }));
  choose();
}

async function choose() {
  const mine = ++run;
  chosen.viewer = viewers.find((viewer) => viewer.code === $("city").value) ?? viewers[0];
  chosen.edge = null;
  for (const id of ["loads", "bars"]) $(id).tBodies[0].replaceChildren();
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
  const near = [...results].filter(([, time]) => time !== null).slice(0, 3);
  const body = JSON.stringify(Object.fromEntries(near));
  await fetch(`${at("")}/.well-known/nearside/report`, { ...options, method: "POST", body }).catch(() => {});
  if (mine !== run) return;
  $("load").disabled = false;
  await decide();
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

async function measure(edge) {
  const ping = `${at(edge.replace("edge-", ""))}/.well-known/nearside/ping`;
  await once(ping);
  let best = Infinity;
  for (let n = 0; n < TIMES; n++) best = Math.min(best, await once(`${ping}?${n}`));
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

/** The page with its files: first the page, then the files at once, as a browser does. */
async function page(name) {
  const begun = performance.now();
  await one(name, "/");
  await Promise.all(FILES.map((path) => one(name, path)));
  return performance.now() - begun;
}

async function load() {
  const button = $("load");
  button.disabled = true;
  performance.clearResourceTimings();
  try {
    const edge = chosen.edge?.replace("edge-", "");
    if (!edge) throw new Error("no edge is chosen");
    const origin = await page("origin");
    const first = await page(edge);
    const second = await page(edge);
    const rows = [["origin", origin], [`${edge}, first`, first], [`${edge}, again`, second]];
    const longest = Math.max(...rows.map(([, time]) => time));
    $("loads").tBodies[0].replaceChildren(...rows.map(([name, time], place) => h("tr", { class: place ? "chosen" : "" }, h("th", { scope: "row" }, name),
      h("td", { class: "bar" }, h("div", { class: "track" }, h("div", { class: "fill", style: { width: `${(100 * time) / longest}%` } }))), h("td", { class: "number" }, ms(time)))));
  } finally {
    button.disabled = false;
  }
}

async function one(name, path) {
  const url = `${at(name)}${path}`;
  const begun = performance.now();
  const answer = await fetch(url, options);
  await answer.arrayBuffer();
  const spent = performance.now() - begun;
  if (name !== "origin") took(spent);
  show(name, path, answer, performance.getEntriesByName(url).pop(), spent);
}

/** What each cache says of itself: the one nearest to the origin first (RFC 9211). */
function hops(field) {
  return (field ?? "").split(/,\s*(?=[\w.-]+\s*;)/).filter(Boolean).map((member) => {
    const [name, ...parameters] = member.split(";").map((part) => part.trim());
    const forward = parameters.find((parameter) => parameter.startsWith("fwd="))?.slice(4);
    const detail = parameters.find((parameter) => parameter.startsWith("detail="))?.slice(7);
    return { name, hit: parameters.includes("hit"), forward, collapsed: parameters.includes("collapsed"), detail };
  });
}

function inWords(answer, list) {
  if (!list.length) return answer.ok ? "straight from the origin: no cache has touched it" : `status ${answer.status}`;
  const hop = ({ name, hit, forward, collapsed, detail }) => `${name}: ${hit ? words.hit : collapsed ? "somebody had just asked" : words[forward] ?? forward ?? "it answered itself"}${detail ? ` (${detail})` : ""}`;
  return [...list].reverse().map(hop).slice(0, list.at(-1).hit ? 1 : list.length).join("; ") + (list.at(-1).hit || list[0].hit ? "" : "; the origin was asked");
}

/** The wait by the way to each tier, as the tiers themselves have measured it (Server-Timing). */
function legs(wait, cached, timings) {
  if (!cached) return [["origin", wait]];
  const of = (name) => timings.find((timing) => timing.name === name)?.duration ?? 0;
  const [edge, shield, origin] = [of("edge"), of("shield"), of("origin")];
  const behind = shield || origin; // what the edge itself has waited for takes the rest of its time
  return [["edge", Math.max(0, wait - (behind && edge))], ["shield", shield && Math.max(0, edge - shield)], ["origin", behind]];
}

function show(name, path, answer, entry, spent) {
  const list = hops(answer.headers.get("cache-status"));
  const is = (part) => entry && entry.requestStart > 0 && part;
  const connect = is(Math.max(0, entry.connectEnd - entry.connectStart)) || 0;
  const wait = is(entry.responseStart - entry.requestStart) || spent;
  const body = is(Math.max(0, entry.responseEnd - entry.responseStart)) || 0;
  const parts = [["connect", connect], ...legs(wait, list.length > 0, entry?.serverTiming ?? []), ["body", body]].filter(([, time]) => time > 0.05);
  const total = parts.reduce((sum, [, time]) => sum + time, 0) || 1;
  const label = parts.map(([part, time]) => `${part} ${ms(time)}`).join(", ");
  const item = h("li", {}, h("div", { class: "what" }, h("span", {}, `${name}${path}`), h("span", {}, ms(spent))), h("div", { class: "words" }, inWords(answer, list)),
    h("div", { class: "fall", role: "img", "aria-label": label, title: label }, parts.map(([part, time]) => h("i", { class: part, style: { flexGrow: String(time / total) } }))));
  const log = $("requests");
  log.querySelector(".empty")?.remove();
  log.prepend(item);
  while (log.children.length > REQUESTS_MAX) log.lastChild.remove();
}
