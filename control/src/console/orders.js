// Purges, and what is broken and healed: what needs a token where there are tokens.
import { $, ask, h, ms } from "./dom.js";

/** What can be purged: its noun, and an example of it. */
const kinds = {
  urls: ["URL", (host) => `http://${host}/`], tags: ["tag", () => "product-42"], prefixes: ["prefix", (host) => `${host}/static/`],
  hosts: ["host", (host) => host], all: ["", () => ""],
};

let after = () => {};
let busy = false;
let ordering = false;
let host = "www.example.com";
let followers = 0;

export function begin(onChange) {
  after = onChange;
  $("order").addEventListener("submit", (event) => { event.preventDefault(); purge(false); });
  $("count").addEventListener("click", () => purge(true));
  $("kind").addEventListener("change", describe);
  $("target").addEventListener("input", () => $("target").removeAttribute("aria-invalid"));
  $("way").addEventListener("submit", (event) => {
    event.preventDefault();
    const what = $("which").value;
    tell("fail", event.submitter.name === "cut" ? `link ${what}` : `slow ${what} 80ms`);
  });
  $("heal-all").addEventListener("click", () => tell("heal", ""));
  describe();
}

/** How many nodes a purge reaches. */
export function count(nodes) {
  followers = nodes;
}

function example() {
  return kinds[$("kind").value][1](host);
}

/** The field says what it wants: an example is no value, and never sent. */
function describe() {
  $("target").disabled = $("kind").value === "all";
  $("target").placeholder = example();
  $("target").removeAttribute("aria-invalid");
}

function refuse(text) {
  $("receipt").replaceChildren(h("p", { class: "error" }, text));
}

/** Everything, a host, or a prefix that is no more than a host: what empties the cache of a whole site. */
function isWide(kind, target) {
  return kind === "all" || kind === "hosts" || (kind === "prefixes" && !target.replace(/^https?:\/\//, "").replace(/\/+$/, "").includes("/"));
}

/** Asks before a purge that empties a whole site. */
function confirmed(what, soft) {
  const nodes = followers === 1 ? "the node" : `all ${followers} nodes`;
  const then = soft ? "Every stored response becomes stale and is validated at the origin before it is used again."
    : "All stored responses are removed, so that the next request for each goes to the origin.";
  $("confirm-text").textContent = `Purge ${what} on ${nodes}? ${then}`;
  const dialog = $("confirm");
  dialog.returnValue = "no";
  dialog.showModal();
  return new Promise((done) => dialog.addEventListener("close", () => done(dialog.returnValue === "yes"), { once: true }));
}

async function purge(dry) {
  if (ordering) return;
  const kind = $("kind").value;
  const target = $("target").value.trim();
  if (kind !== "all" && !target) {
    refuse(`Enter a ${kinds[kind][0]}, for example ${example()}. Nothing was ${dry ? "counted" : "purged"}.`);
    $("target").setAttribute("aria-invalid", "true");
    $("target").focus();
    return;
  }
  const soft = $("soft").checked;
  ordering = true;
  try {
    if (!dry && isWide(kind, target) && !(await confirmed(kind === "all" ? "everything" : `all of ${target}`, soft))) {
      $("receipt").replaceChildren(h("p", { class: "empty" }, "Cancelled: nothing was purged."));
      return;
    }
    const order = kind === "all" ? { all: true } : { [kind]: [target] };
    show(await ask("/v1/purge", { method: "POST", body: { ...order, soft, dry_run: dry, timeout: "5s" } }), dry);
  } catch (error) {
    refuse(error.message);
  } finally {
    ordering = false;
  }
}

function show(receipt, dry) {
  const row = (node) => h("tr", {}, h("th", { scope: "row" }, node.id), h("td", { class: node.state }, node.state), h("td", { class: "number" }, `${node.matched} matched`),
    h("td", { class: "number" }, dry ? "" : `${node.fenced_fills} fills fenced`), h("td", { class: "number" }, ms(node.ms)));
  const title = dry ? `${receipt.matched} would be purged` : `${receipt.matched} purged, order ${receipt.seq}`;
  const none = receipt.nodes.length ? null : h("p", { class: "empty" }, "No node follows this control process: there is nothing to purge.");
  $("receipt").replaceChildren(h("table", {}, h("caption", {}, title), h("tbody", {}, receipt.nodes.map(row))), ...(none ? [none] : []));
}

async function tell(verb, what) {
  if (busy) return;
  busy = true;
  $("fault-error").textContent = "";
  try {
    state(await ask(`api/demo/${verb}`, { method: "POST", body: { what } }));
  } catch (error) {
    $("fault-error").textContent = error.message;
  }
  busy = false;
  after();
}

/** What is broken. */
export function state(demo) {
  $("faults").hidden = false;
  if (demo.nodes.length && host !== "demo.localhost") {
    host = "demo.localhost";
    describe();
  }
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
