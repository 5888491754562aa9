"""What a person sees of the console, asserted. Started by script/check-console."""

import json
import os
import shutil
import subprocess
import tempfile
import time
import urllib.request

from playwright.sync_api import expect, sync_playwright

NEARSIDE = os.environ["NEARSIDE"]
SHOTS = os.environ["SCREENSHOTS"]
CONSOLE = "http://127.0.0.1:7080/console/"
EDGES = ["edge-fra", "edge-lon", "edge-nrt", "edge-nyc", "edge-sfo", "edge-syd"]


def until(url, process):
    for _ in range(300):
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
        program = shutil.which("chromium")
        self.browser = playwright.chromium.launch(executable_path=program, args=["--no-sandbox"])
        self.wrong = []

    def page(self, address, **options):
        page = self.browser.new_page(**options)
        page.set_default_timeout(20_000)
        page.on("pageerror", lambda error: self.wrong.append(str(error)))
        page.on("console", lambda message: self.wrong.append(message.text) if message.type == "error" else None)
        page.goto(address)
        return page


def choose(page, code, edge):
    page.select_option("#city", code)
    expect(page.locator("#chosen-edge")).to_have_text(edge, timeout=20_000)
    expect(page.locator("#map .way")).to_have_attribute("data-to", edge)
    # All ways have been measured.
    expect(page.locator("#bars td.number", has_text=" ms")).to_have_count(6, timeout=30_000)
    expect(page.locator("#bars tr.chosen")).to_have_attribute("data-edge", edge)


def shows_all_nodes(page):
    expect(page.locator("#map .node")).to_have_count(8)
    expect(page.locator("#summary")).to_contain_text("8 of 8 nodes reached")


def cities_have_their_edges(page):
    for code, edge in [("icn", "edge-nrt"), ("akl", "edge-syd"), ("gru", "edge-nyc")]:
        choose(page, code, edge)


def figures_are_those_of_this_browser(page):
    page.click("#load")
    rows = page.locator("#loads td.number")
    expect(rows).to_have_count(3, timeout=30_000)
    shown = [float(text.removesuffix(" ms")) for text in rows.all_inner_texts()]
    # The origin comes first, then the edge twice: as the browser has kept it.
    spans = page.evaluate(
        """() => {
          const entries = performance.getEntriesByType('resource').filter((entry) => /localhost:8000\\/($|style|served|planet|route)/.test(entry.name));
          const group = (name, part) => entries.filter((entry) => entry.name.includes(`//${name}.`)).slice(...part);
          const span = (list) => Math.max(...list.map((entry) => entry.responseEnd)) - list[0].startTime;
          return [span(group('origin', [-5])), span(group('nyc', [-10, -5])), span(group('nyc', [-5]))];
        }"""
    )
    for told, measured in zip(shown, spans):
        assert abs(told - measured) <= max(15, 0.1 * measured), f"{shown} is shown, and {spans} was measured"
    assert shown[2] < shown[0], f"the edge is no faster than the origin: {shown}"
    expect(page.locator("#requests li").first).to_contain_text("edge-nyc: a copy was there")


def a_purge_rings_on_every_edge(page):
    page.evaluate(
        """() => {
          window.rings = new Set();
          new MutationObserver((changes) => changes.forEach((change) => change.addedNodes.forEach((ring) => window.rings.add(ring.dataset.node))))
            .observe(document.querySelector('#map .rings'), { childList: true });
        }"""
    )
    page.select_option("#kind", "all")
    page.click("#count")
    expect(page.locator("#receipt .counted")).to_have_count(8)
    page.click("#order button[type=submit]")
    expect(page.locator("#receipt .applied")).to_have_count(8)
    page.wait_for_function("edges => edges.every((edge) => window.rings.has(edge))", arg=EDGES)


def a_broken_edge_loses_its_users(page):
    choose(page, "akl", "edge-syd")
    page.click("#breakable button:text-is('edge-syd')")
    expect(page.locator("#chosen-edge")).not_to_have_text("edge-syd", timeout=20_000)
    expect(page.locator("#alert")).to_contain_text("Not reached: edge-syd")
    expect(page.locator("#map .node.dead")).to_have_count(1)
    page.screenshot(path=f"{SHOTS}/lost.png", full_page=True)
    page.click("#heal-all")
    expect(page.locator("#chosen-edge")).to_have_text("edge-syd", timeout=30_000)
    expect(page.locator("#broken li")).to_have_count(0)


def a_page_measures_and_reports(page):
    """The script that any page may include, in one of another origin than the router."""
    page.goto("http://lon.mad.localhost:8000/")
    page.evaluate(
        """() => new Promise((measured, failed) => {
          setTimeout(() => failed(new Error('it does not measure')), 30000);
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
        done = subprocess.run([NEARSIDE, *words], capture_output=True, text=True, timeout=120)
        assert done.returncode == code, f"{words}: {done.returncode} {done.stdout} {done.stderr}"
        return done.stdout + done.stderr

    assert "fra-iad" in run("demo", "fail", "link", "fra-iad")
    assert "80 ms slower" in run("demo", "fail", "slow", "edge-fra", "80ms")
    assert "cut" in run("demo", "state")
    assert "fra-iad" not in run("demo", "heal", "link", "fra-iad")
    assert "there is no" in run("demo", "fail", "edge-xyz", code=1)
    assert "nothing is broken" in run("demo", "heal")
    tour = run("tour")
    for part in ["x-route: edge-nyc", "edge-nrt; hit", "edge-syd     applied", "edge-nrt       stopped", "nothing is broken"]:
        assert part in tour, f"{part}: {tour}"


def check(name, step, page):
    step(page)
    print(f"ok    {name}", flush=True)


def demo(eyes):
    process = subprocess.Popen([NEARSIDE, "demo"], stdout=subprocess.DEVNULL)
    try:
        until("http://127.0.0.1:7086/readyz", process)
        page = eyes.page(CONSOLE, viewport={"width": 1280, "height": 1000})
        check("the map shows all nodes", shows_all_nodes, page)
        check("choosing a city moves the chosen edge", cities_have_their_edges, page)
        check("the figures of a page load are those of this browser", figures_are_those_of_this_browser, page)
        check("a purge rings on every edge", a_purge_rings_on_every_edge, page)
        page.screenshot(path=f"{SHOTS}/light.png", full_page=True)
        assert not eyes.wrong, eyes.wrong
        print("ok    nothing goes wrong in the page")
        check("breaking an edge moves its users, and healing brings them back", a_broken_edge_loses_its_users, page)
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


def alone(eyes):
    """Without any node, and with one."""
    with tempfile.TemporaryDirectory() as folder:
        control = subprocess.Popen(
            [NEARSIDE, "control", "--listen", "127.0.0.1:7080", "--log", f"{folder}/purges.log"], stderr=subprocess.DEVNULL
        )
        edge = None
        try:
            until("http://127.0.0.1:7080/readyz", control)
            page = eyes.page(CONSOLE, viewport={"width": 1280, "height": 800})
            expect(page.locator("#summary")).to_contain_text("no node follows")
            expect(page.locator("#no-viewer")).to_be_visible()
            page.screenshot(path=f"{SHOTS}/empty.png", full_page=True)
            edge = subprocess.Popen(
                [NEARSIDE, "edge", "--listen", "127.0.0.1:0", "--origin", "http://127.0.0.1:9", "--city", "Lagos"]
                + ["--control", "http://127.0.0.1:7080"],
                stderr=subprocess.DEVNULL,
                stdout=subprocess.DEVNULL,
            )
            expect(page.locator("#map .node")).to_have_count(1)
            expect(page.locator("#summary")).to_contain_text("1 of 1 nodes")
            page.screenshot(path=f"{SHOTS}/single.png", full_page=True)
            print("ok    it says so when there is no node, and shows a single one")
        finally:
            for process in [edge, control]:
                if process:
                    process.terminate()
                    process.wait(30)


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
