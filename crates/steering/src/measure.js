// Times a tiny answer of a few edges and reports the shortest time of each: include it in a page of a site as
//   <script async src="https://ROUTER/.well-known/nearside/measure.js"></script>
// and, where ROUTER is not itself a name of the site, with data-host="www.example.com" beside it.
// No cookie is set or sent, and nothing but the times is reported.
(async () => {
  const TIMES = 5;
  const { src, dataset } = document.currentScript;
  const base = new URL(".", src).href;
  const site = dataset.host ? `?host=${dataset.host}` : "";
  const options = { cache: "no-store", credentials: "omit", mode: "cors" };

  // From the request to the first byte, on a connection that is open already; by the clock where Resource Timing tells nothing.
  async function once(url) {
    performance.clearResourceTimings();
    const begun = performance.now();
    await (await fetch(url, options)).text();
    const spent = performance.now() - begun;
    const entry = performance.getEntriesByName(url).pop();
    return entry && entry.requestStart > 0 ? entry.responseStart - entry.requestStart : spent;
  }

  async function time({ id, url }) {
    try {
      const ping = `${url}/.well-known/nearside/ping`;
      await once(ping); // opens the connection
      let best = Infinity;
      for (let n = 0; n < TIMES; n++) best = Math.min(best, await once(`${ping}?${n}`));
      return [id, best];
    } catch {
      return null;
    }
  }

  const { edges, proof } = await (await fetch(`${base}candidates${site}`, options)).json();
  if (!edges?.length) return;
  const times = [];
  for (const edge of edges) times.push(await time(edge)); // one after the other: they would delay each other
  const report = Object.fromEntries(times.filter(Boolean));
  await fetch(`${base}report`, { ...options, method: "POST", body: JSON.stringify({ proof, times: report }), keepalive: true });
  dispatchEvent(new CustomEvent("nearside-measured", { detail: report }));
})();
