"""The built site in a browser, as its readers use it: served under a sub-path, and opened as files with no server at all.

They read what `make book` has built. Without a built site or a browser they skip and say what to do.
"""

import json
import re
import time
from urllib.parse import unquote, urlsplit

import pytest
from pages import EXPLORERS, PAGES, SITE, STATE, VIEW, extension, served
from playwright.sync_api import expect

pytestmark = pytest.mark.usefixtures("site")
HOST = SITE / "_static" / "widgets" / "host.js"
PHONE = {"width": 390, "height": 844}
SLOW = 50.0
"""Milliseconds of a processor that a picture may take to follow a slider."""
FRAMES = "() => new Promise((done) => requestAnimationFrame(() => requestAnimationFrame(() => done(true))))"
"""Two frames later, what an input has set off is drawn."""
READY = """() => document.fonts.status === "loaded"
  && [...document.querySelectorAll(".explorer")].every((e) => e.querySelector(".readout")?.textContent)
  && (!window.MathJax?.startup?.promise || window.MathJax.startup.promise.then(() => true))"""


def names(page):
    return page.relative_to(SITE).as_posix()


# the playground has tests of its own: its dials act on a training, and several show nothing before the next step
FOLLOWING = ".explorer:not(:has(.sba-playground))"
each_explorer_page = pytest.mark.parametrize("page", EXPLORERS, ids=names)
MOVES = 48
MOVE = """(input, moves) => {
  const picture = input.closest(".explorer").querySelector("svg");
  for (let i = 0; i < moves; i++) {
    input.value = Math.round((((5 * i) % 12) / 11) * Number(input.max));
    input.dispatchEvent(new Event("input", { bubbles: true }));
    picture.getBoundingClientRect();
  }
}"""
"""Moves a slider, and lays the picture out after each move."""


@pytest.fixture(scope="module")
def address():
    """From a file of the site to its address, by "http" or "file"."""
    with served(SITE) as root:
        yield lambda path, scheme: root + names(path) if scheme == "http" else path.as_uri()


class Visit:
    """One page in a tab of its own, with all that went wrong and all that was fetched.

    A tab that went on to another page would still report what the first one had to load, as failed.
    """

    def __init__(self, browser, **options):
        self.context = browser.new_context(**{"viewport": {"width": 1280, "height": 900}, **options})
        self.tab = self.context.new_page()
        self.faults, self.asked, self.under_way = [], [], set()
        self.tab.on("console", lambda m: m.type in ("error", "warning") and self.faults.append(m.text))
        self.tab.on("pageerror", lambda error: self.faults.append(str(error)))
        self.tab.on("request", self.begin)
        self.tab.on("requestfinished", lambda request: self.under_way.discard(request))
        self.tab.on("requestfailed", self.fail)
        self.tab.on("response", lambda r: r.status >= 400 and self.faults.append(f"{r.status}: {r.url}"))

    def begin(self, request):
        self.asked.append(request.url)
        self.under_way.add(request)

    def fail(self, request):
        self.under_way.discard(request)
        self.faults.append(f"failed: {request.url}: {request.failure}")

    def open(self, url):
        assert not self.asked, "a visit is of one page"
        self.tab.goto(url, wait_until="load")
        self.settle()
        return self.tab

    def settle(self):
        """Wait until the page is drawn and nothing that it asked for is still on its way."""
        deadline = time.monotonic() + 60
        while True:
            self.tab.wait_for_function(READY)
            self.tab.evaluate(FRAMES)
            if not self.under_way:
                return
            assert time.monotonic() < deadline, f"still loading: {[r.url for r in self.under_way]}"
            self.tab.wait_for_timeout(50)

    def elsewhere(self, url):
        """What was asked of another host, or of another place than the site."""
        root = urlsplit(url)
        own = [(root.scheme, root.netloc), ("data", ""), ("blob", "")]
        return [a for a in self.asked if (urlsplit(a).scheme, urlsplit(a).netloc) not in own]

    def complaints(self, url):
        """What went wrong, and what was asked of another place than the site at this address."""
        return [*self.faults, *self.elsewhere(url)]

    def weight(self):
        """Bytes of everything that the page loaded from the site."""
        paths = {unquote(urlsplit(a).path).removeprefix("/some/where/") for a in self.asked if a.startswith("http")}
        return sum((SITE / path).stat().st_size for path in paths)


@pytest.fixture
def visit(browser):
    opened = []

    def start(**options):
        opened.append(Visit(browser, **options))
        return opened[-1]

    yield start
    for one in opened:
        one.context.close()


def test_there_are_explorers():
    assert len(EXPLORERS) >= 6 and SITE / "notebooks" / "result.html" in EXPLORERS


@pytest.mark.parametrize("page", [page for page in PAGES if page not in EXPLORERS], ids=names)
def test_a_page_is_whole_without_a_server(visit, address, page):
    """Pages with explorers are moved as files below; each page is visited over HTTP in test_readable."""
    phone, url = visit(viewport=PHONE), address(page, "file")
    tab = phone.open(url)
    assert phone.complaints(url) == []
    assert tab.evaluate("document.documentElement.scrollWidth") == 390


def state_of(explorer):
    explorer.page.evaluate(FRAMES)
    return explorer.locator("svg").first.inner_html(), explorer.locator(".readout").inner_text()


def changes(explorer, act, tries=1):
    """Act until the picture changes; whether the readout changed with it."""
    picture, text = state_of(explorer)
    for _ in range(tries):
        act()
        if state_of(explorer)[0] != picture:
            return state_of(explorer)[1] != text
    return False


@each_explorer_page
def test_every_control_moves_picture_and_readout(visit, address, page):
    """By the arrow keys and by pointer. Of a file: what a page may do there, it may do over HTTP."""
    reader = visit()
    url = address(page, "file")
    tab = reader.open(url)
    dead = []
    for explorer in tab.locator(FOLLOWING).all():
        assert explorer.locator("input, select").count() >= 2
        for control in explorer.locator("input[type=checkbox]").all():
            if not changes(explorer, control.click):
                dead.append(f"pointer: {control.get_attribute('aria-description')}")
            control.click()
        for control in explorer.locator("input[type=range]").all():
            name = control.get_attribute("aria-description")
            control.focus()
            tab.keyboard.press("Home")
            # several steps of a slider may lead to the same measured pair
            if not changes(explorer, lambda: tab.keyboard.press("ArrowRight"), tries=12):
                dead.append(f"arrow keys: {name}")
            box = control.bounding_box()
            places = [{"x": share * box["width"], "y": box["height"] / 2} for share in (0.15, 0.85)]
            control.click(position=places[0])
            if not changes(explorer, lambda c=control, to=places[1]: c.click(position=to)):
                dead.append(f"pointer: {name}")
        for control in explorer.locator("select").all():
            # from the middle: the last of a list may look like its neighbour
            control.select_option(index=0)
            control.focus()
            if not changes(explorer, lambda: tab.keyboard.press("ArrowDown"), tries=3):
                dead.append(f"arrow keys: {control.get_attribute('aria-description')}")
    assert dead == []
    reader.settle()
    assert reader.complaints(url) == []


@each_explorer_page
def test_a_picture_follows_a_slider_at_once(visit, address, page):
    """In time of the page's own thread: what else the machine does makes time on the clock long."""
    tab = visit().open(address(page, "http"))
    chrome = tab.context.new_cdp_session(tab)
    chrome.send("Performance.enable", {"timeDomain": "threadTicks"})

    def worked():
        return {m["name"]: m["value"] for m in chrome.send("Performance.getMetrics")["metrics"]}["TaskDuration"]

    times = {}
    for slider in tab.locator(f"{FOLLOWING} input[type=range]").all():
        before = worked()
        slider.evaluate(MOVE, MOVES)
        times[slider.get_attribute("aria-description")] = 1000 * (worked() - before) / MOVES
    assert times or tab.locator(f"{FOLLOWING} select").count(), "an explorer without controls"
    assert all(times.values()) and {name: time for name, time in times.items() if time > SLOW} == {}


@pytest.mark.parametrize("theme", ["light", "dark"])
def test_a_page_takes_the_colours_of_its_reader(visit, address, theme):
    tab = visit(color_scheme=theme).open(address(EXPLORERS[0], "http"))
    assert tab.evaluate("document.documentElement.dataset.theme") == theme


@each_explorer_page
def test_without_scripts_and_on_paper_there_is_a_picture(visit, address, page):
    plain = visit(java_script_enabled=False)
    plain.tab.goto(address(page, "file"))
    stills = plain.tab.locator(".explorer-still img")
    assert stills.count() == page.read_text(encoding="utf-8").count(f'type="{VIEW}"')
    for still in stills.all():
        assert still.is_visible() and len(still.get_attribute("alt")) > 40
    tab = visit().open(address(page, "http"))
    tab.emulate_media(media="print")
    for explorer in tab.locator(".explorer").all():
        assert explorer.locator("svg").first.is_visible() and explorer.locator(".readout").is_visible()
    assert tab.locator(".explorer-still").count() == 0


CONTRAST = """() => {
  const parts = (text) => {
    const found = text.match(/[\\d.]+/g).slice(0, 3).map(Number);
    return text.startsWith("color(") ? found : found.map((part) => part / 255);
  };
  const light = (part) => (part <= 0.04045 ? part / 12.92 : ((part + 0.055) / 1.055) ** 2.4);
  const luminance = (text) => {
    const [r, g, b] = parts(text).map(light);
    return 0.2126 * r + 0.7152 * g + 0.0722 * b + 0.05;
  };
  const fill = (node) => getComputedStyle(node).fill;
  const middle = ({ left, right, top, bottom }) => [(left + right) / 2, (top + bottom) / 2];
  const cells = [...document.querySelectorAll(".explorer svg .cut rect")].filter((rect) => getComputedStyle(rect).fill !== "none");
  return [...document.querySelectorAll(".explorer svg text.cell")].map((text) => {
    const [x, y] = middle(text.getBoundingClientRect());
    const inside = ({ left, right, top, bottom }) => left < x && x < right && top < y && y < bottom;
    const cell = cells.find((rect) => inside(rect.getBoundingClientRect()));
    const [a, b] = [text, cell].map((node) => luminance(fill(node)));
    return Math.max(a, b) / Math.min(a, b);
  });
}"""


@pytest.mark.parametrize("theme", ["light", "dark"])
def test_the_numbers_of_a_map_can_be_read_on_their_cells(visit, address, theme):
    """Contrast of normal text by WCAG 2.2, 1.4.3: axe looks at no text of SVG."""
    tab = visit(color_scheme=theme).open(address(SITE / "notebooks" / "08_omega_eta.html", "http"))
    problem = tab.locator(f"{FOLLOWING} select").first
    for number in range(problem.locator("option").count()):
        problem.select_option(index=number)
        tab.evaluate(FRAMES)
        found = tab.evaluate(CONTRAST)
        assert len(found) > 30 and min(found) >= 4.5


def test_a_link_to_a_setting_opens_at_the_playground(visit, address):
    tab = visit().open(f"{address(SITE / 'notebooks' / 'result.html', 'http')}#eta=10&steps=20")
    tab.locator(".sba-playground .readout", has_text="After 20 steps").wait_for()
    playground = tab.locator(".sba-playground")
    expect(playground).to_be_in_viewport()
    # the way there is smooth: it is over once three looks see the same place
    places = []
    while len(places) < 3 or len(set(places[-3:])) > 1:
        tab.evaluate(FRAMES)
        places.append(tab.evaluate("scrollY"))
    assert tab.evaluate("scrollY") > 0
    assert 0 <= playground.bounding_box()["y"] < tab.viewport_size["height"] / 3


def test_what_needs_a_kernel_is_told_of_and_not_shown(visit, address):
    tab = visit().open(address(SITE / "notebooks" / "08_omega_eta.html", "file"))
    assert "make lab" in tab.locator(".needs-kernel-note").inner_text()
    assert tab.get_by_role("button", name="Train here").count() == 0


@pytest.mark.parametrize("scheme", ["http", "file"])
def test_the_search_finds_a_page(visit, address, scheme):
    reader = visit()
    tab = reader.open(f"{address(SITE / 'search.html', scheme)}?q=bernoulli")
    tab.wait_for_selector("#search-results li a")
    expect(tab.locator("#search-results li a", has_text="scheduler").first).to_be_visible()
    reader.settle()
    assert reader.faults == []


def test_the_host_says_what_it_cannot_draw(visit, tmp_path):
    state = {"state": {"m1": {"model_name": "DatePickerModel", "model_module": "x", "state": {}}}}
    scripts = f"""<script type="{STATE}">{json.dumps(state)}</script>
    <p><script type="{VIEW}">{{"model_id": "m1"}}</script></p><script src="{HOST.as_uri()}" defer></script>"""
    (tmp_path / "page.html").write_text(f"<!doctype html><title>x</title>{scripts}", encoding="utf-8")
    reader = visit()
    with reader.tab.expect_event("pageerror") as raised:
        reader.tab.goto((tmp_path / "page.html").as_uri())
    assert "cannot draw DatePickerModel" in str(raised.value)
    expect(reader.tab.locator("[role=alert]")).to_be_visible()


def test_the_build_knows_what_the_host_draws():
    inside = re.search(r"const DRAWN = \{(.*?)\n  \};", HOST.read_text(encoding="utf-8"), re.DOTALL)[1]
    assert set(re.findall(r"^    (\w+):", inside, re.MULTILINE)) == extension("widgets").DRAWN
