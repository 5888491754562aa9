// A few words for making elements and for telling numbers.

const SVG = new Set(["svg", "g", "path", "circle", "rect", "text", "title", "line"]);

/** An element; properties that are functions are listeners, `undefined` and `false` leave them out. */
export function h(tag, properties = {}, ...children) {
  const element = SVG.has(tag) ? document.createElementNS("http://www.w3.org/2000/svg", tag) : document.createElement(tag);
  for (const [name, value] of Object.entries(properties)) {
    if (value === undefined || value === false) continue;
    if (typeof value === "function") element.addEventListener(name, value);
    else if (name === "style") Object.assign(element.style, value);
    else element.setAttribute(name, value === true ? "" : value);
  }
  element.append(...children.flat().filter((child) => child !== null && child !== undefined));
  return element;
}

export const $ = (id) => document.getElementById(id);

export const ms = (value) => (value === null || value === undefined ? "–" : value < 10 ? `${value.toFixed(1)} ms` : `${Math.round(value)} ms`);

export function short(value) {
  if (value === 0) return "0";
  const steps = [[1e9, "G"], [1e6, "M"], [1e3, "k"]];
  const [by, unit] = steps.find(([step]) => value >= step) ?? [1, ""];
  const scaled = value / by;
  return `${scaled < 10 ? scaled.toFixed(1) : Math.round(scaled)}${unit}`;
}

export const percent = (part, whole) => (whole > 0 ? `${Math.round((100 * part) / whole)} %` : "–");

/** Sends a request to the control process and reads JSON. Errors are sentences for people, with the `code` of a problem where there is one. */
export async function ask(path, { method = "GET", body } = {}) {
  const token = sessionStorage.getItem("token");
  const headers = { ...(token && { authorization: `Bearer ${token}` }), ...(body && { "content-type": "application/json" }) };
  const answer = await fetch(path, { method, headers, body: body && JSON.stringify(body), cache: "no-store" })
    .catch(() => { throw new Error("The control process does not answer."); });
  const page = await answer.json().catch(() => null);
  if (!answer.ok) throw Object.assign(new Error(page?.detail ?? `The control process answered with status ${answer.status}.`), { code: page?.code });
  if (!page) throw new Error("The response of the control process was cut off.");
  return page;
}

/** Server-sent events, with a token where there is one; ends when the other end does. */
export async function events(path, signal, told) {
  const token = sessionStorage.getItem("token");
  const answer = await fetch(path, { signal, cache: "no-store", headers: token ? { authorization: `Bearer ${token}` } : {} });
  if (answer.status === 401) throw new Error(token ? "This token is not known: enter another one to see the fleet." : "Enter a token to see the fleet.");
  if (!answer.ok) throw new Error((await answer.json().catch(() => ({}))).detail ?? `status ${answer.status}`);
  const reader = answer.body.pipeThrough(new TextDecoderStream()).getReader();
  let text = "";
  for (let part = await reader.read(); !part.done; part = await reader.read()) {
    const blocks = (text + part.value).split("\n\n");
    text = blocks.pop();
    for (const block of blocks) {
      const field = (name) => block.split("\n").filter((line) => line.startsWith(`${name}:`)).map((line) => line.slice(name.length + 1).trim()).join("\n");
      const data = field("data");
      if (data) told[field("event")]?.(JSON.parse(data));
    }
  }
}
