// Says which edge answered, and how: read from the Server-Timing field of each response, as the browser keeps it.
const words = {
  hit: 'a hit: it had a copy',
  miss: 'a miss: it asked on, and keeps a copy now',
  collapsed: 'collapsed: somebody had just asked',
  revalidated: 'revalidated: its copy was old but unchanged',
  expired: 'expired: its copy was old, a new one was fetched',
  updating: 'updating: it gave an old copy and fetches a new one',
  stale: 'stale: nobody further on answered, so it gave an old copy',
};

const timing = (entry, name) => (entry.serverTiming || []).find((t) => t.name === name);

function row(entry, label) {
  const cache = timing(entry, 'cdn-cache')?.description.toLowerCase() ?? 'unknown';
  const cells = [label, timing(entry, 'edge')?.description ?? 'not an edge', cache, entry.responseEnd - entry.startTime];
  const tr = document.createElement('tr');
  cells.forEach((value, column) => {
    const td = document.createElement('td');
    td.textContent = column === 3 ? value.toFixed(1) : value;
    if (column === 2) td.className = ['hit', 'updating', 'revalidated'].includes(cache) ? 'hit' : 'miss';
    tr.append(td);
  });
  return tr;
}

addEventListener('load', () => setTimeout(() => {
  const [page] = performance.getEntriesByType('navigation');
  const files = performance.getEntriesByType('resource').filter((entry) => entry.name.startsWith(location.origin));
  document.querySelector('#files').replaceChildren(
    row(page, location.pathname), ...files.map((entry) => row(entry, new URL(entry.name).pathname)));

  const cache = timing(page, 'cdn-cache')?.description.toLowerCase();
  const footer = document.querySelector('#served');
  if (!cache) {
    footer.textContent = 'This page came straight from the origin: no edge has touched it.';
    return;
  }
  const strong = document.createElement('strong');
  strong.textContent = timing(page, 'edge')?.description ?? 'an edge';
  const how = document.createElement('span');
  how.className = cache === 'hit' ? 'hit' : 'miss';
  how.textContent = words[cache] ?? cache;
  footer.replaceChildren('Served by ', strong, ', ', how, '.');
}, 0));
