// Purges, and what is broken and healed: what needs a token where there are tokens.
import { $, ask, h, ms } from "./dom.js";

let after = () => {};
let busy = false;

export function begin(onChange) {
  after = onChange;
  $("order").addEventListener("submit", (event) => { event.preventDefault(); purge(false); });
  $("count").addEventListener("click", () => purge(true));
  $("kind").addEventListener("change", () => { $("target").disabled = $("kind").value === "all"; });
  $("way").addEventListener("submit", (event) => {
    event.preventDefault();
    const what = $("which").value;
    tell("fail", event.submitter.name === "cut" ? `link ${what}` : `slow ${what} 80ms`);
  });
  $("heal-all").addEventListener("click", () => tell("heal", ""));
}

async function purge(dry) {
  const kind = $("kind").value;
  const target = $("target").value.trim() || $("target").placeholder;
  const order = kind === "all" ? { all: true } : { [kind]: [target] };
  try {
    const receipt = await ask("/v1/purge", { method: "POST", body: { ...order, soft: $("soft").checked, dry_run: dry, timeout: "5s" } });
    show(receipt, dry);
  } catch (error) {
    $("receipt").replaceChildren(h("p", { class: "error" }, error.message));
  }
}

function show(receipt, dry) {
  const row = (node) => h("tr", {}, h("th", { scope: "row" }, node.id), h("td", { class: node.state }, node.state), h("td", { class: "number" }, `${node.matched} matched`),
    h("td", { class: "number" }, dry ? "" : `${node.fenced_fills} fills fenced`), h("td", { class: "number" }, ms(node.ms)));
  const title = dry ? `${receipt.matched} would be purged` : `${receipt.matched} purged, order ${receipt.seq}`;
  $("receipt").replaceChildren(h("table", {}, h("caption", {}, title), h("tbody", {}, receipt.nodes.map(row))));
}

async function tell(verb, what) {
  if (busy) return;
  busy = true;
  try {
    state(await ask(`api/demo/${verb}`, { method: "POST", body: { what } }));
  } catch (error) {
    $("broken").replaceChildren(h("li", { class: "error" }, error.message));
  }
  busy = false;
  after();
}

/** What is broken. */
export function state(demo) {
  $("faults").hidden = false;
  const stopped = new Set(demo.stopped);
  const nodes = demo.nodes.filter((name) => name !== "wan-sim" && name !== "control");
  $("breakable").replaceChildren(...nodes.map((name) => h("button", { type: "button", "aria-pressed": String(stopped.has(name)), click: () => tell(stopped.has(name) ? "heal" : "fail", name) }, name)));
  const places = demo.wan?.places ?? [];
  const codes = [...new Set(places.map((place) => place.code))];
  const pairs = codes.flatMap((a, place) => codes.slice(place + 1).map((b) => `${a}-${b}`));
  const names = places.map((place) => place.name).filter((name) => !name.startsWith("control"));
  const options = [...names, ...pairs].filter((one) => !$("which").querySelector(`[value="${one}"]`));
  $("which").append(...options.map((one) => h("option", { value: one }, one)));
  const faults = demo.wan?.faults ?? [];
  const items = [...demo.stopped.map((name) => [`${name} is stopped`, name]),
    ...faults.map((fault) => [fault.cut ? `${fault.what} is cut` : `${fault.what} is ${fault.slower_ms} ms slower`, fault.cut ? `link ${fault.what}` : `slow ${fault.what}`])];
  $("broken").replaceChildren(...items.map(([text, what]) => h("li", {}, text, " ", h("button", { type: "button", click: () => tell("heal", what) }, "Heal"))));
}
