"""What a person sees of the console, asserted. Started by script/check-console."""

import json
import os
import re
import shutil
import subprocess
import tempfile
import time
import urllib.request

from playwright.sync_api import expect, sync_playwright

NEARSIDE = os.environ["NEARSIDE"]
SHOTS = os.environ["SCREENSHOTS"]
CONSOLE = "http://127.0.0.1:7080/console/"
# Longest wait for anything: a busy machine is no fault of the page.
TIMEOUT_MS = 300_000
expect.set_options(timeout=TIMEOUT_MS)
EDGES = ["edge-fra", "edge-lon", "edge-nrt", "edge-nyc", "edge-sfo", "edge-syd"]


def until(url, process):
    for _ in range(1200):
        if process.poll() is not None:
            raise SystemExit("it has ended before it was ready")
        try:
            urllib.request.urlopen(url, timeout=1)
            return
        except OSError:
            time.sleep(0.1)
    raise SystemExit(f"{url} is not ready")


class Eyes:
    """A browser that notes whatever goes wrong in a page."""

    def __init__(self, playwright):
        programs = filter(None, map(shutil.which, ["chromium", "chromium-browser", "google-chrome"]))
        self.browser = playwright.chromium.launch(executable_path=next(programs), args=["--no-sandbox"])
        self.wrong = []

    def page(self, address, **options):
        page = self.browser.new_page(**options)
        page.set_default_timeout(TIMEOUT_MS)
        page.on("pageerror", lambda error: self.wrong.append(str(error)))
        page.on("console", lambda message: self.wrong.append(message.text) if message.type == "error" else None)
        page.goto(address)
        return page


def choose(page, code, edge):
    page.select_option("#city", code)
    expect(page.locator("#chosen-edge")).to_have_text(edge)
    expect(page.locator("#map .way")).to_have_attribute("data-to", edge)


def chosen(page):
    """The edge that is chosen now. On a busy machine another one than the nearest may have answered sooner."""
    return page.inner_text("#chosen-edge").removeprefix("edge-")


def measures_all_ways(page):
    expect(page.locator("#bars td.number", has_text=" ms")).to_have_count(6)
    expect(page.locator("#bars tr.chosen")).to_have_attribute("data-edge", page.inner_text("#chosen-edge"))


def purge_on_all_nodes(page, order):
    """Orders a purge until every node acknowledges it: one that a busy machine keeps silent for seconds is not waited for."""
    caption = page.locator("#receipt caption")
    for _ in range(5):
        shows_all_nodes(page)
        before = caption.inner_text() if caption.count() else "none"
        order()
        # Each order has another number.
        expect(caption).to_contain_text("purged, order")
        expect(caption).not_to_have_text(before)
        expect(page.locator("#receipt tbody tr")).to_have_count(8)
        if page.locator("#receipt .applied").count() == 8:
            return
    expect(page.locator("#receipt .applied")).to_have_count(8)


def shows_all_nodes(page):
    expect(page.locator("#map .node")).to_have_count(8)
    expect(page.locator("#summary")).to_contain_text("8 of 8 nodes reached")


def overlapping(page, selector):
    """Labels of which one hides another."""
    return page.evaluate(
        """(selector) => {
          const labels = [...document.querySelectorAll(selector)].filter((label) => label.textContent);
          const boxes = labels.map((label) => [label.textContent, label.getBoundingClientRect()]);
          const meet = ([, a], [, b]) => a.left < b.right - 1 && b.left < a.right - 1 && a.top < b.bottom - 2 && b.top < a.bottom - 2;
          return boxes.flatMap((a, place) => boxes.slice(place + 1).filter((b) => meet(a, b)).map((b) => `${a[0]} and ${b[0]}`));
        }""",
        selector,
    )


def labels_can_be_read(page):
    assert not (found := overlapping(page, "#map text")), found


def begins_where_an_edge_is_near(page):
    expect(page.locator("#city")).to_have_value("icn")
    expect(page.locator("#chosen-edge")).to_have_text("edge-nrt")


def cities_have_their_edges(page):
    for code, edge in [("akl", "edge-syd"), ("gru", "edge-nyc"), ("icn", "edge-nrt")]:
        choose(page, code, edge)


def load_until(page, verdict, answered=True):
    """Loads the pages until their result reads like `verdict`; whether it did. A request that takes longer than 10 s counts as
    unanswered, and on a busy machine some do. Any other failure of an edge that is to answer is a fault."""
    through_edge = "#requests [data-load]:not([data-load=origin])"
    for _ in range(4):
        expect(page.locator("#load")).to_be_enabled()
        page.locator("#verdict").evaluate("verdict => { verdict.textContent = ''; }")
        page.click("#load")
        expect(page.locator("#verdict")).not_to_be_empty()
        numbers = [re.fullmatch(r"[\d.]+ ms", text) for text in page.locator("#loads td.number").all_inner_texts()[1:]]
        if re.fullmatch(verdict, page.inner_text("#verdict")) and (all(numbers) or not answered):
            return True
        failed = page.locator(f"{through_edge} .number.error").all_inner_texts()
        words = page.locator(f"{through_edge} li.words").all_inner_texts()
        late = set(failed) <= {"no answer"} and not any("refused" in text for text in words)
        assert late or not answered, f"the edge has failed: {failed} {words}"
    print(f"slow  requests take longer than 10 s: {page.inner_text('#verdict')}", flush=True)
    return False


def figures_are_those_of_this_browser(page):
    edge = chosen(page)
    begun = page.evaluate("performance.now()")
    if not load_until(page, rf"origin: \d+ ms, {edge}: [\d.]+ ms"):
        return False
    ended = page.evaluate("performance.now()")
    rows = page.locator("#loads td.number")
    expect(rows).to_have_count(3)
    shown = [float(text.removesuffix(" ms")) for text in rows.all_inner_texts()]
    # The origin comes first, then the edge twice: as the browser has kept it.
    spans = page.evaluate(
        """(edge) => {
          const entries = performance.getEntriesByType('resource').filter((entry) => /localhost:8000\\/($|style|served|planet|route)/.test(entry.name));
          const group = (name, part) => entries.filter((entry) => entry.name.includes(`//${name}.`)).slice(...part);
          const span = (list) => Math.max(...list.map((entry) => entry.responseEnd)) - list[0].startTime;
          return [span(group('origin', [-5])), span(group(edge, [-10, -5])), span(group(edge, [-5]))];
        }""",
        edge,
    )
    for told, measured in zip(shown, spans):
        # The page's own clock starts before the browser sends: on a busy machine, much earlier.
        assert measured - 15 <= told, f"{shown} is shown, and {spans} was measured"
    assert sum(shown) <= ended - begun + 15, f"{shown} is shown, within {ended - begun} ms"
    if shown[2] >= shown[0]:
        print(f"slow  the edge is no faster than the origin, as on a busy machine: {shown} ms", flush=True)
    expect(page.locator("#requests li").first).to_contain_text(f"edge-{edge}: a copy was there")
    expect(page.locator("#verdict")).to_have_text(f"origin: {shown[0]:.0f} ms, {edge}: {rows.last.inner_text()}")


def requests_share_a_scale(page):
    """Every bar is as long as its time on the one axis above, and its labels are apart."""
    # One that was not answered in time has no bar.
    if page.locator("#requests .number.error").count():
        return False
    rows = page.evaluate(
        """() => [...document.querySelectorAll('#requests li:not(.words)')].map((row) => ({
          ms: parseFloat(row.querySelector('.number').textContent),
          part: row.querySelector('.fall').getBoundingClientRect().width / row.querySelector('.track').getBoundingClientRect().width,
        }))"""
    )
    marks = page.locator("#requests .marks span")
    tick, left = float(marks.last.inner_text().removesuffix(" ms")), float(marks.last.evaluate("mark => parseFloat(mark.style.left)"))
    longest = 100 * tick / left
    assert len(rows) == 15 and marks.count() >= 2, rows
    for row in rows:
        # Two pixels are the least that is drawn.
        assert abs(row["part"] * longest - row["ms"]) <= 0.02 * longest + 1, f"{row} on a scale of {longest} ms"
    assert not (found := overlapping(page, "#requests .marks span")), found


def purges_sent(page, act):
    """How many orders `act` sends."""
    sent = []
    note = lambda request: sent.append(request.post_data) if request.method == "POST" and request.url.endswith("/v1/purge") else None
    page.on("request", note)
    act()
    page.wait_for_timeout(300)
    page.remove_listener("request", note)
    return len(sent)


def an_empty_field_is_no_purge(page):
    for kind in ["urls", "tags", "prefixes", "hosts"]:
        page.select_option("#kind", kind)
        for blank in ["", "   "]:
            page.fill("#target", blank)
            for button in ["#count", "#order button[type=submit]"]:
                assert purges_sent(page, lambda: page.click(button)) == 0, f"{kind}: {button} with {blank!r} sends an order"
                expect(page.locator("#receipt .error")).to_contain_text("Enter a ")
    page.screenshot(path=f"{SHOTS}/blank.png", full_page=True)


def wide_purges_are_confirmed(page):
    for kind, target in [("all", None), ("hosts", "demo.localhost"), ("prefixes", "http://demo.localhost/")]:
        page.select_option("#kind", kind)
        if target:
            page.fill("#target", target)
        assert purges_sent(page, lambda: page.click("#order button[type=submit]")) == 0, f"{kind}: not asked before"
        expect(page.locator("#confirm")).to_be_visible()
        if kind == "all":
            page.screenshot(path=f"{SHOTS}/confirm.png")
        assert purges_sent(page, lambda: page.click("#confirm button[value=no]")) == 0, f"{kind}: purged after Cancel"
        expect(page.locator("#receipt")).to_contain_text("nothing was purged")
        page.click("#order button[type=submit]")
        assert purges_sent(page, lambda: page.keyboard.press("Escape")) == 0, f"{kind}: purged after Escape"
    # One URL is not asked about.
    page.select_option("#kind", "urls")
    page.fill("#target", "http://demo.localhost/no-such-page")
    purge_on_all_nodes(page, lambda: page.click("#order button[type=submit]"))
    expect(page.locator("#confirm")).to_be_hidden()


def a_dead_origin_is_no_error_of_the_browser(page):
    """The picture that a CDN is for: the origin is dead, and the edge serves on."""
    edge = chosen(page)
    load_until(page, rf"origin: \d+ ms, {edge}: [\d.]+ ms")
    page.screenshot(path=f"{SHOTS}/alive.png", full_page=True)
    page.click("#breakable button:text-is('origin')")
    expect(page.locator("#broken")).to_contain_text("origin is stopped")
    load_until(page, rf"origin: no answer, {edge}: [\d.]+ ms")
    expect(page.locator("#verdict")).to_contain_text("origin: no answer")
    expect(page.locator("#requests [data-load=origin] li:not(.words)")).to_have_count(1)
    expect(page.locator("#requests [data-load=origin] li:not(.words)")).to_contain_text("no answer")
    page.screenshot(path=f"{SHOTS}/dead-origin.png", full_page=True)
    # Without a copy the edge has an error to show, and no silence.
    page.select_option("#kind", "all")
    purge_on_all_nodes(page, lambda: (page.click("#order button[type=submit]"), page.click("#confirm-yes")))
    load_until(page, f"origin: no answer, {edge}: error", answered=False)
    expect(page.locator("#verdict")).to_have_text(f"origin: no answer, {edge}: error")
    page.screenshot(path=f"{SHOTS}/dead-origin-no-copy.png", full_page=True)
    page.click("#heal-all")
    expect(page.locator("#broken li")).to_have_count(0)
    # Over a way that is cut nothing comes, ever.
    page.select_option("#which", "origin")
    page.click("#way button[name=cut]")
    page.click("#load")
    expect(page.locator("#verdict")).to_contain_text("origin: no answer")
    page.click("#heal-all")
    expect(page.locator("#broken li")).to_have_count(0)
    assert "Failed to fetch" not in page.inner_text("body")


def a_dead_control_process_is_named(page):
    subprocess.run([NEARSIDE, "demo", "fail", "control"], check=True, stdout=subprocess.DEVNULL)
    expect(page.locator("#alert")).to_contain_text("The control process does not answer")
    page.click("#again")
    expect(page.locator("#chosen")).to_contain_text("The control process does not answer")
    page.select_option("#kind", "tags")
    page.fill("#target", "product-42")
    page.click("#order button[type=submit]")
    expect(page.locator("#receipt .error")).to_contain_text("The control process does not answer")
    page.click("#heal-all")
    expect(page.locator("#fault-error")).to_contain_text("The control process does not answer")
    assert "Failed to fetch" not in page.inner_text("body")
    page.screenshot(path=f"{SHOTS}/no-control.png", full_page=True)
    subprocess.run([NEARSIDE, "demo", "heal"], check=True, stdout=subprocess.DEVNULL)
    expect(page.locator("#alert")).to_be_hidden()
    shows_all_nodes(page)


def a_purge_rings_on_every_edge(page):
    page.evaluate(
        """() => {
          window.rings = new Set();
          new MutationObserver((changes) => changes.forEach((change) => change.addedNodes.forEach((ring) => window.rings.add(ring.dataset.node))))
            .observe(document.querySelector('#map .rings'), { childList: true });
        }"""
    )
    page.select_option("#kind", "all")
    # A node that is out of reach at this moment counts nothing.
    shows_all_nodes(page)
    page.click("#count")
    expect(page.locator("#receipt .counted").first).to_be_visible()
    expect(page.locator("#receipt tbody tr")).to_have_count(8)
    purge_on_all_nodes(page, lambda: (page.click("#order button[type=submit]"), page.click("#confirm-yes")))
    page.wait_for_function("edges => edges.every((edge) => window.rings.has(edge))", arg=EDGES)


def a_broken_edge_loses_its_users(page):
    choose(page, "akl", "edge-syd")
    page.click("#breakable button:text-is('edge-syd')")
    expect(page.locator("#chosen-edge")).not_to_have_text("edge-syd")
    expect(page.locator("#alert")).to_contain_text("Not reached: edge-syd")
    expect(page.locator("#map .node.dead")).to_have_count(1)
    page.screenshot(path=f"{SHOTS}/lost.png", full_page=True)
    page.click("#heal-all")
    expect(page.locator("#chosen-edge")).to_have_text("edge-syd")
    expect(page.locator("#broken li")).to_have_count(0)


def a_page_measures_and_reports(page):
    """The script that any page may include, in one of another origin than the router."""
    page.goto("http://lon.mad.localhost:8000/")
    page.evaluate(
        """() => new Promise((measured, failed) => {
          setTimeout(() => failed(new Error('it does not measure')), 200000);
          addEventListener('nearside-measured', (event) => measured(event.detail));
          const script = document.createElement('script');
          script.src = 'http://mad.localhost:8000/.well-known/nearside/measure.js';
          document.head.append(script);
        })"""
    )
    explained = json.load(urllib.request.urlopen("http://127.0.0.1:7080/v1/route/explain?ip=127.1.6.1&host=mad.localhost"))
    measured = [one["id"] for one in explained["candidates"] if one["weight"] > 0]
    assert {"edge-lon", "edge-fra"} <= set(measured) and len(measured) == 3, measured


def at_a_terminal(_):
    """What the console does with buttons, and the tour."""

    def run(*words, code=0):
        done = subprocess.run([NEARSIDE, *words], capture_output=True, text=True, timeout=TIMEOUT_MS / 1000)
        assert done.returncode == code, f"{words}: {done.returncode} {done.stdout} {done.stderr}"
        return done.stdout + done.stderr

    assert "fra-iad" in run("demo", "fail", "link", "fra-iad")
    assert "80 ms slower" in run("demo", "fail", "slow", "edge-fra", "80ms")
    assert "cut" in run("demo", "state")
    assert "fra-iad" not in run("demo", "heal", "link", "fra-iad")
    assert "there is no" in run("demo", "fail", "edge-xyz", code=2)
    assert "nothing is broken" in run("demo", "heal")
    tour = run("tour")
    for part in ["x-route: edge-nyc", "edge-nrt; hit", "edge-syd     applied", "edge-nrt       stopped", "nothing is broken"]:
        assert part in tour, f"{part}: {tour}"


def check(name, step, page):
    is_checked = step(page) is not False
    print(f"ok    {name}" if is_checked else f"slow  not checked: {name}", flush=True)


def demo(eyes):
    process = subprocess.Popen([NEARSIDE, "demo"], stdout=subprocess.DEVNULL)
    try:
        until("http://127.0.0.1:7086/readyz", process)
        page = eyes.page(CONSOLE, viewport={"width": 1280, "height": 1000})
        check("the map shows all nodes", shows_all_nodes, page)
        check("its labels can be read", labels_can_be_read, page)
        check("it begins in a city where an edge is near and the origin is far", begins_where_an_edge_is_near, page)
        check("choosing a city moves the chosen edge", cities_have_their_edges, page)
        check("the ways to all edges are measured", measures_all_ways, page)
        check("the figures of a page load are those of this browser", figures_are_those_of_this_browser, page)
        check("all requests are drawn on one scale", requests_share_a_scale, page)
        check("an empty field is no purge, and its example is not purged", an_empty_field_is_no_purge, page)
        check("a purge of everything, of a host, of all its paths is confirmed", wide_purges_are_confirmed, page)
        check("a purge rings on every edge", a_purge_rings_on_every_edge, page)
        page.screenshot(path=f"{SHOTS}/light.png", full_page=True)
        assert not eyes.wrong, eyes.wrong
        print("ok    nothing goes wrong in the page")
        check("a dead origin is told as no answer, beside the time of the edge", a_dead_origin_is_no_error_of_the_browser, page)
        check("breaking an edge moves its users, and healing brings them back", a_broken_edge_loses_its_users, page)
        check("a dead control process is named as such", a_dead_control_process_is_named, page)
        check("a page anywhere measures for its visitors, and reports", a_page_measures_and_reports, page)
        check("at a terminal things are broken and healed, and the tour is gone through", at_a_terminal, page)
        # Requests to an edge that is gone fail: that is told as an error.
        eyes.wrong = [wrong for wrong in eyes.wrong if "Failed to load resource" not in wrong and "CORS" not in wrong]
        dark = eyes.page(CONSOLE, viewport={"width": 1280, "height": 1000}, color_scheme="dark", reduced_motion="reduce")
        shows_all_nodes(dark)
        choose(dark, "bom", "edge-fra")
        dark.screenshot(path=f"{SHOTS}/dark.png", full_page=True)
        small = eyes.page(CONSOLE, viewport={"width": 360, "height": 780})
        shows_all_nodes(small)
        wide = small.evaluate("document.documentElement.scrollWidth")
        assert wide <= 360, f"the page is {wide} pixels wide"
        small.screenshot(path=f"{SHOTS}/small.png", full_page=True)
        print("ok    it is readable in the dark, and at 360 pixels")
    finally:
        process.terminate()
        process.wait(30)


def start(*words):
    return subprocess.Popen([NEARSIDE, *words], stderr=subprocess.DEVNULL, stdout=subprocess.DEVNULL)


def alone(eyes):
    """Without any node, with two of which nobody knows where they are, and with one on the map."""
    with tempfile.TemporaryDirectory() as folder:
        follow = ["--origin", "http://127.0.0.1:9", "--control", "http://127.0.0.1:7080"]
        processes = [start("control", "--listen", "127.0.0.1:7080", "--log", f"{folder}/purges.log")]
        try:
            until("http://127.0.0.1:7080/readyz", processes[0])
            page = eyes.page(CONSOLE, viewport={"width": 1280, "height": 800})
            expect(page.locator("#summary")).to_contain_text("no node follows")
            expect(page.locator("#list")).to_contain_text("--control http://127.0.0.1:7080")
            expect(page.locator("#no-viewer")).to_be_visible()
            page.select_option("#kind", "tags")
            page.fill("#target", "product-42")
            page.click("#order button[type=submit]")
            expect(page.locator("#receipt .error")).to_contain_text("no node has said what it serves")
            page.screenshot(path=f"{SHOTS}/empty.png", full_page=True)
            processes.append(start("shield", "--id", "shield-1", "--listen", "127.0.0.1:9081", "--open", *follow))
            processes.append(start("edge", "--id", "edge-1", "--listen", "127.0.0.1:9080", "--shield", "http://127.0.0.1:9081", *follow))
            two_nodes_without_places(page)
            print("ok    nodes without coordinates are listed, and show that they have purged")
            processes.append(start("edge", "--id", "edge-los", "--listen", "127.0.0.1:0", "--city", "Lagos", *follow))
            expect(page.locator("#map .node")).to_have_count(1)
            expect(page.locator("#map")).to_be_visible()
            expect(page.locator("#list tbody tr")).to_have_count(2)
            expect(page.locator("#summary")).to_contain_text("3 of 3 nodes")
            page.screenshot(path=f"{SHOTS}/single.png", full_page=True)
            print("ok    it says so when there is no node, and shows a single one")
        finally:
            for process in reversed(processes):
                process.terminate()
                process.wait(30)


def two_nodes_without_places(page):
    expect(page.locator("#list tbody tr")).to_have_count(2)
    expect(page.locator("#list tr[data-node=edge-1]")).to_contain_text("reached")
    expect(page.locator("#list tr[data-node=shield-1]")).to_contain_text("shield")
    expect(page.locator("#summary")).to_contain_text("2 of 2 nodes")
    # A map without a single node says nothing.
    expect(page.locator("#map")).to_be_hidden()
    page.screenshot(path=f"{SHOTS}/two-nodes.png", full_page=True)
    page.click("#order button[type=submit]")
    expect(page.locator("#list tr.rung")).to_have_count(2)
    expect(page.locator("#receipt .applied")).to_have_count(2)


def main():
    os.makedirs(SHOTS, exist_ok=True)
    with sync_playwright() as playwright:
        eyes = Eyes(playwright)
        demo(eyes)
        eyes.wrong = [wrong for wrong in eyes.wrong if "404" not in wrong]
        assert not eyes.wrong, eyes.wrong
        alone(eyes)
        eyes.browser.close()


main()
