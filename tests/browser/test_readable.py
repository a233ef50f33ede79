"""Every page can be read: on a phone and on a wide screen, in the light and in the dark. One visit a page measures it all."""

import pytest
from axe_playwright_python.sync_playwright import Axe
from pages import PAGES, SITE, served
from test_browser import FRAMES, PHONE, Visit, names

pytestmark = pytest.mark.usefixtures("site")
WIDE = {"width": 1280, "height": 900}
HEAVY = 5_000_000
"""Bytes that a page may weigh with all it loads, uncompressed."""
LEAST = 9
"""Pixels of the smallest type in a picture."""
BLAMED = {"preload": False, "resultTypes": ["violations"]}
"""To describe all that passes takes axe four times as long."""
STRUCTURE = BLAMED | {"rules": {"color-contrast": {"enabled": False}}}
CONTRAST = BLAMED | {"runOnly": {"type": "rule", "values": ["color-contrast"]}}
SHARE = 0.1
"""Of a page's tables and blocks of code, how many may scroll sideways on a phone."""
MEASURE = """() => {
  const article = document.querySelector("article") ?? document.body;
  const shown = (node) => node.checkVisibility();
  const said = (node) => (node.closest("figure")?.id || node.textContent.trim().slice(0, 60));
  const holders = [...article.querySelectorAll("pre, table")].filter(shown)
    .map((node) => [node, node.matches("pre") ? node : node.parentElement]);
  const wide = holders.filter(([node, box]) => box.scrollWidth > box.clientWidth + 1);
  const images = [...article.querySelectorAll(".sideways img")].filter(shown);
  const narrowest = (image) => Number.parseFloat(getComputedStyle(image).getPropertyValue("--narrowest") || "500");
  const labels = [...article.querySelectorAll(".explorer svg text")].filter(shown);
  const pixels = (text) => Number.parseFloat(getComputedStyle(text).fontSize) * Math.abs(text.getScreenCTM().a);
  return {
    page: document.documentElement.scrollWidth,
    blocks: holders.length,
    wide: wide.map(([node]) => said(node)),
    silent: wide.filter(([, box]) => !box.classList.contains("scrolls")).map(([node]) => said(node)),
    shrunk: images.filter((image) => image.clientWidth < narrowest(image) - 1).map(said),
    small: labels.filter((text) => pixels(text) < LEAST - 0.01).map((text) => `${text.textContent}: ${pixels(text)}`),
  };
}""".replace("LEAST", str(LEAST))

SAMPLE = """() => {
  const clear = (colour) => /, 0\\)$|transparent/.test(colour);
  const seen = new Set();
  document.querySelectorAll("[data-sample]").forEach((node) => node.removeAttribute("data-sample"));
  for (const node of document.body.querySelectorAll("*")) {
    if (![...node.childNodes].some((part) => part.nodeType === 3 && part.data.trim()) || !node.checkVisibility()) continue;
    const grounds = [];
    for (let up = node; up; up = up.parentElement) {
      const { backgroundColor, backgroundImage, opacity, filter } = getComputedStyle(up);
      if (opacity !== "1" || filter !== "none" || backgroundImage !== "none") grounds.push(opacity, filter, backgroundImage);
      if (!clear(backgroundColor)) {
        grounds.push(backgroundColor);
        if (/^rgb\\(/.test(backgroundColor)) break;
      }
    }
    const { color, fontSize, fontWeight } = getComputedStyle(node);
    const look = [color, fontSize, fontWeight, ...grounds].join();
    if (!seen.has(look) || node.closest(".explorer")) node.setAttribute("data-sample", "");
    seen.add(look);
  }
  return seen.size;
}"""
"""Mark one text of each colour, size and ground, and all of an explorer: axe takes a minute for all texts of a page."""
OUTSIDE = """async () => {
  const cut = [];
  const images = [...document.querySelectorAll("article img[src*=svg]")];
  // a page of many nodes would be laid out again for each picture
  document.body.replaceChildren();
  for (const image of images) {
    const box = document.createElement("div");
    box.innerHTML = await (await fetch(image.src)).text();
    document.body.append(box);
    const frame = box.querySelector("svg").getBoundingClientRect();
    for (const text of box.querySelectorAll("[id^=text_]")) {
      const { left, right, top, bottom, width } = text.getBoundingClientRect();
      const over = Math.max(frame.left - left, right - frame.right, frame.top - top, bottom - frame.bottom);
      if (width && over > 0.5) cut.push(`${text.innerHTML.match(/<!--(.*?)-->/s)?.[1].trim()}: ${over} px`);
    }
    box.remove();
  }
  return cut;
}"""
"""The words of matplotlib's pictures that reach over their edge."""
UNTYPESET = "document.querySelectorAll('mjx-container').forEach((formula) => formula.replaceChildren())"
"""What MathJax draws is a third of the nodes of a page, and its own."""
UNFOLD = "document.querySelectorAll('article details').forEach((folded) => { folded.open = true; })"


@pytest.fixture(scope="module")
def root():
    with served(SITE) as address:
        yield address


def blame(found, kind=""):
    """What axe found, a line for each place, at most eight a rule."""
    return [
        f"{kind}{rule['id']}: {' '.join(map(str, node['target']))}: {node['failureSummary'].splitlines()[-1].strip()}"
        for rule in found.response["violations"]
        for node in rule["nodes"][:8]
    ]


def measured(tab):
    """What the page is like at rest: a sidebar comes and goes, and pictures take their size, some frames after the width."""
    looks = []
    while len(looks) < 40 and (len(looks) < 3 or any(look != looks[-1] for look in looks[-3:])):
        tab.evaluate(FRAMES)
        looks.append(tab.evaluate(MEASURE))
        tab.wait_for_timeout(50)
    return looks[-1]


@pytest.mark.parametrize("page", PAGES, ids=names)
def test_a_page_can_be_read(browser, root, page):
    visit = Visit(browser, viewport=PHONE, reduced_motion="reduce", color_scheme="light")
    tab = visit.open(root + names(page))
    faults = visit.complaints(root)
    assert tab.evaluate("document.documentElement.scrollWidth") == 390
    tab.evaluate(UNFOLD)
    narrow = measured(tab)
    tab.set_viewport_size(WIDE)
    wide = measured(tab)
    tab.evaluate(UNTYPESET)
    # the rooms of the API are made alike
    faults += blame(Axe().run(tab, options=STRUCTURE)) if page.parent.name != "api" else []
    for theme in ("light", "dark"):
        tab.evaluate(f"document.documentElement.dataset.theme = '{theme}'")
        tab.evaluate(FRAMES)
        assert tab.evaluate(SAMPLE) > 5
        found = Axe().run(tab, "[data-sample]", CONTRAST)
        assert found.response["passes"], "axe looked at nothing"
        faults += blame(found, f"{theme}: ")
    weight = visit.weight()
    cut = tab.evaluate(OUTSIDE)
    visit.context.close()
    assert faults == []
    assert weight < HEAVY
    assert cut == []
    assert (wide["page"], wide["wide"]) == (1280, [])
    assert narrow["page"] == 390
    assert len(narrow["wide"]) <= SHARE * narrow["blocks"], narrow["wide"]
    assert [*wide["silent"], *narrow["silent"], *wide["shrunk"], *narrow["shrunk"]] == []
    assert [*wide["small"], *narrow["small"]] == []
