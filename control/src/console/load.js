// Page loads: straight from the origin, then twice through the nearest edge, with all their requests on one time scale.
import { $, h, ms } from "./dom.js";
import { took } from "./plots.js";

const PAGE = "/";
const FILES = ["/style.css", "/served.js", "/planet.svg", "/route.svg"];
/** A request that takes longer counts as unanswered: over a way that is cut nothing ever comes. */
const ANSWER_MS_MAX = 10_000;
const TICKS_MAX = 3;
const words = {
  hit: "a copy was there", "uri-miss": "nothing was there", "vary-miss": "no copy for this kind of request", stale: "the copy was old",
  bypass: "a cache does not answer that", method: "a cache does not answer that", request: "the request wanted it new",
};
const options = { cache: "no-store", credentials: "omit", mode: "cors" };

/** Loads the page from the origin and, where there is one, through `edge`. `at` gives the address of either; `signal` ends it. */
export async function load(at, edge, signal) {
  performance.clearResourceTimings();
  const places = [["origin", "origin"], ...(edge ? [[`${edge}, first`, edge], [`${edge}, again`, edge]] : [])];
  const loads = [];
  for (const [name, place] of places) {
    const one = { name, place, begun: performance.now(), requests: [], ms: null, failure: null };
    loads.push(one);
    await loadPage(one, at(place), signal, () => waterfall(loads));
    if (signal.aborted) return;
  }
  compare(loads, edge);
}

/** The page, then its files at once, as a browser does. Without the page there are no files to load. */
async function loadPage(load, base, signal, changed) {
  const one = async (path) => {
    const request = await send(`${base}${path}`, path, load, signal);
    if (!signal.aborted) {
      load.requests.push(request);
      changed();
    }
    return request;
  };
  const requests = [await one(PAGE)];
  if (!requests[0].failure) requests.push(...await Promise.all(FILES.map(one)));
  if (signal.aborted) return;
  const failed = requests.filter((request) => request.failure);
  load.ms = performance.now() - load.begun;
  load.failure = requests[0].failure ?? (failed.length ? `${failed.length} of ${requests.length} failed` : null);
}

async function send(url, path, load, signal) {
  const begun = performance.now();
  const request = { path, start: begun - load.begun, ms: 0, failure: null, words: "", parts: [] };
  try {
    const answer = await fetch(url, { ...options, signal: AbortSignal.any([signal, AbortSignal.timeout(ANSWER_MS_MAX)]) });
    await answer.arrayBuffer();
    request.ms = performance.now() - begun;
    if (load.place !== "origin") took(request.ms);
    const hops = cacheStatus(answer.headers.get("cache-status"));
    request.failure = answer.ok ? null : `status ${answer.status}`;
    request.words = inWords(answer, hops);
    request.parts = parts(performance.getEntriesByName(url).pop(), hops.length > 0, request.ms);
  } catch (error) {
    request.ms = performance.now() - begun;
    [request.failure, request.words] = await cause(error, url, signal);
  }
  return request;
}

/** What became of a request without a readable response. The browser tells a page nothing but "Failed to fetch", also of an error
 *  response that lacks the fields which open it to other origins; a request that wants to read nothing tells these apart. */
async function cause(error, url, signal) {
  if (error.name === "TimeoutError") return ["no answer", `nothing came within ${ANSWER_MS_MAX / 1000} s`];
  try {
    await fetch(url, { ...options, mode: "no-cors", signal: AbortSignal.any([signal, AbortSignal.timeout(ANSWER_MS_MAX)]) });
    return ["error", "it answered with an error: without a copy, an edge needs the origin"];
  } catch {
    return ["no answer", "the connection was refused or closed"];
  }
}

/** What each cache says of itself: the one nearest to the origin first (RFC 9211). */
function cacheStatus(field) {
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

/** The time of a request in parts: waiting for a connection, connecting, the way to each tier, the body. */
function parts(entry, cached, spent) {
  if (!(entry?.requestStart > 0)) return [[cached ? "edge" : "origin", spent]];
  const connect = Math.max(0, entry.connectEnd - entry.connectStart);
  const queue = Math.max(0, entry.requestStart - entry.startTime - connect);
  const body = Math.max(0, entry.responseEnd - entry.responseStart);
  return [["queue", queue], ["connect", connect], ...legs(entry.responseStart - entry.requestStart, cached, entry.serverTiming ?? []), ["body", body]].filter(([, time]) => time > 0.05);
}

/** The wait by the way to each tier, as the tiers themselves have measured it (Server-Timing). */
function legs(wait, cached, timings) {
  if (!cached) return [["origin", wait]];
  const of = (name) => timings.find((timing) => timing.name === name)?.duration ?? 0;
  const [edge, shield, origin] = [of("edge"), of("shield"), of("origin")];
  const behind = shield || origin; // what the edge itself has waited for takes the rest of its time
  return [["edge", Math.max(0, wait - (behind && edge))], ["shield", shield && Math.max(0, edge - shield)], ["origin", behind]];
}

const result = ({ failure, ms: time }) => failure ?? ms(time);

/** The bars of the page loads, and their result in a line: "origin: no answer, nrt: 24 ms". */
function compare(loads, edge) {
  const longest = Math.max(...loads.map((load) => (load.failure ? 0 : load.ms)), 1e-9);
  const row = (load) => h("tr", { class: load.place === "origin" ? "" : "chosen" }, h("th", { scope: "row" }, load.name),
    h("td", { class: "bar" }, h("div", { class: "track" }, load.failure ? null : h("div", { class: "fill", style: { width: `${(100 * load.ms) / longest}%` } }))),
    h("td", { class: load.failure ? "number error" : "number" }, result(load)));
  $("loads").tBodies[0].replaceChildren(...loads.map(row));
  $("verdict").textContent = `origin: ${result(loads[0])}, ${edge ? `${edge}: ${result(loads.at(-1))}` : "no edge is reached"}`;
}

/** Ticks at round numbers: at most three after the zero, so that their labels have room. */
function ticks(longest) {
  const digit = 10 ** Math.floor(Math.log10(longest / TICKS_MAX));
  const step = [1, 2, 5, 10].map((times) => times * digit).find((one) => longest / one <= TICKS_MAX);
  return Array.from({ length: Math.floor(longest / step) + 1 }, (_, place) => place * step);
}

/** All requests of all page loads on one scale; the last load first. */
function waterfall(loads) {
  const ends = loads.flatMap((load) => load.requests.map((request) => request.start + request.ms));
  const longest = Math.max(...ends, 1);
  const at = (time) => `${((100 * time) / longest).toFixed(2)}%`;
  const marks = ticks(longest);
  const axis = h("div", { class: "axis", "aria-hidden": "true" }, h("span"), h("div", { class: "marks" }, marks.map((time, place) =>
    h("span", { class: time > 0.9 * longest ? "last" : place ? "" : "first", style: { left: at(time) } }, place === marks.length - 1 ? `${time} ms` : String(time)))), h("span"));
  const item = (request) => {
    const label = request.failure ?? request.parts.map(([part, time]) => `${part} ${ms(time)}`).join(", ");
    const bars = request.failure ? h("i", { class: "failed", style: { flexGrow: "1" } }) : request.parts.map(([part, time]) => h("i", { class: part, style: { flexGrow: String(time / request.ms) } }));
    const bar = h("div", { class: "fall", style: { left: at(request.start), width: at(request.ms) } }, bars);
    return h("li", {}, h("div", { class: "request" }, h("span", { class: "path" }, request.path), h("div", { class: "track", role: "img", "aria-label": label, title: label }, bar),
      h("span", { class: request.failure ? "number error" : "number" }, result(request))));
  };
  // Said once for all requests that follow one another and fared alike.
  const items = (requests) => requests.flatMap((request, place) => (request.words === requests[place - 1]?.words ? [item(request)] : [h("li", { class: "words" }, request.words), item(request)]));
  const group = (load) => h("div", { "data-load": load.name }, h("h4", {}, load.name), h("ol", {}, items(load.requests)));
  $("requests").replaceChildren(axis, ...loads.filter((load) => load.requests.length).map(group).reverse());
}
