"""The playground as its reader uses it: it trains, its dials act, its setting stands in the address, all by keys and pointer."""

import re

import numpy as np
import pytest
from axe_playwright_python.sync_playwright import Axe
from pages import live
from playwright.sync_api import expect

from sba.core.errors import ConfigError

explore = pytest.importorskip("sba.book.explore", reason="the book's packages are missing: pip install -e '.[book]'")
from matplotlib.colors import to_rgb  # noqa: E402

from sba.book import style  # noqa: E402

TRAINED = re.compile(r"After 300 steps")
FITS = """async () => {
  const next = () => new Promise(requestAnimationFrame);
  await next();
  await next();
  const figure = document.querySelector(".explorer figure");
  return [figure.clientWidth, Number(figure.querySelector("svg").getAttribute("width"))];
}"""
GROUND = """async () => {
  await new Promise(requestAnimationFrame);
  const canvas = document.querySelector(".explorer canvas");
  const copy = new OffscreenCanvas(canvas.width, canvas.height).getContext("2d");
  copy.drawImage(canvas, 0, 0);
  const { data } = copy.getImageData(0, 0, canvas.width, canvas.height);
  const seen = new Set();
  // what is fainter has lost its colour to rounding
  for (let i = 0; i < data.length; i += 4) if (data[i + 3] > 90) seen.add(data.slice(i, i + 3).join());
  return [...seen].map((text) => text.split(",").map(Number));
}"""
LOSSES = re.compile(r"([\d.]+) against ([\d.]+);")


@pytest.fixture(scope="module")
def address(tmp_path_factory):
    folder = tmp_path_factory.mktemp("playground")
    explorer = explore.playground()
    return {theme: live(explorer, folder / f"{theme}.html", theme) for theme in ("light", "dark")}


@pytest.fixture
def visit(browser, address):
    """Open the playground: by theme, with what stands behind the page's address, and options of the browser's context."""
    opened, faults = [], []

    def start(theme="light", setting="", **options):
        opened.append(browser.new_context(**{"viewport": {"width": 1280, "height": 1000}, **options}))
        tab = opened[-1].new_page()
        tab.on("pageerror", lambda error: faults.append(str(error)))
        tab.on("console", lambda m: m.type in ("error", "warning") and faults.append(m.text))
        tab.goto(address[theme] + setting)
        tab.locator(".readout", has_text="ω =").wait_for()
        return tab

    yield start
    for context in opened:
        context.close()
    assert faults == []


def steps(tab):
    return int(tab.locator(".explorer").get_attribute("data-steps"))


def of_theme(colours, theme):
    """Whether all colours are those of the classes on a theme's ground, but for the rounding of what is half transparent."""
    classes = [to_rgb(style.on_dark(shade) if theme == "dark" else shade) for shade in style.CLASSES]
    distance = np.abs(np.array(colours)[:, None] - 255 * np.array(classes)).max(-1)
    return len(colours) > 0 and bool((distance.min(1) <= 4).all())


def dial(tab, name):
    return tab.get_by_label(name, exact=True)


def losses(tab):
    expect(tab.locator(".readout")).to_contain_text(TRAINED)
    return LOSSES.search(tab.locator(".readout").inner_text()).groups()


def test_it_trains_as_it_opens_and_by_its_buttons(visit):
    tab = visit(setting="#speed=1000&steps=300")
    own, plain = losses(tab)
    assert own != plain and steps(tab) == 300
    tab.get_by_role("button", name="Step").press("Enter")
    assert steps(tab) == 301
    tab.get_by_role("button", name="Train").press("Space")
    tab.wait_for_function("document.querySelector('.explorer').dataset.steps > 330")
    tab.get_by_role("button", name="Pause").click()
    stopped = steps(tab)
    tab.wait_for_timeout(200)
    assert steps(tab) == stopped
    tab.get_by_role("button", name="Reset").click()
    assert steps(tab) == 0
    expect(tab.locator(".readout")).to_contain_text("equal to that of plain training")


@pytest.mark.parametrize("setting", ["omega=1.5707963267948966", "eta=0"])
def test_null_settings_are_plain_training(visit, setting):
    own, plain = losses(visit(setting=f"#{setting}&speed=1000"))
    assert own == plain


def test_an_address_gives_the_same_numbers_again_and_another_seed_others(visit):
    found = [losses(visit(setting=f"#speed=1000&eta=10&omega=0&seed={seed}")) for seed in (0, 0, 1)]
    assert found[0] == found[1] != found[2]


def test_dials_act_while_it_trains_and_stand_in_the_address(visit):
    tab = visit(setting="#steps=20000")
    eta = dial(tab, "η, weight")
    eta.focus()
    for _ in range(4):
        tab.keyboard.press("ArrowRight")
    tab.wait_for_function("location.hash === '#eta=10&steps=20000'")
    expect(tab.locator(".readout")).to_contain_text("η = 10")
    before = steps(tab)
    dial(tab, "layer k").select_option("any")
    tab.wait_for_function(f"document.querySelector('.explorer').dataset.steps > {before + 20}")
    tab.wait_for_function("location.hash.includes('layer=any')")
    tab.get_by_role("button", name="Pause").click()
    tab.evaluate("location.hash = '#omega=0&layer=input&cloud=circles&steps=20&sigma=no&noise=9'")
    expect(tab.locator(".readout")).to_contain_text("After 20 steps, 20 of them augmented")
    expect(tab.locator(".readout")).to_contain_text("ω = 0, η = 1")
    assert dial(tab, "points").input_value() == "1" and dial(tab, "noise").get_attribute("aria-valuetext") == "0.6"


def test_every_dial_has_a_name_and_moves_the_page(visit):
    tab = visit(setting="#steps=0")
    kept = {"learning rate", "steps a second", "a click puts"}
    dead = []
    for control in tab.locator("input, select").all():
        name = control.evaluate("(c) => c.labels[0].textContent")
        state = (
            "() => ['svg', 'figure', '.readout'].map((s) => document.querySelector(`.explorer ${s}`).innerHTML).join()"
        )
        before, where = tab.evaluate(state), tab.evaluate("location.hash")
        control.focus()
        tab.keyboard.press("ArrowRight" if control.evaluate("(c) => c.type") == "range" else "ArrowDown")
        if name not in kept and tab.evaluate(state) == before:
            dead.append(name)
        # the address follows within a second
        tab.wait_for_function("(where) => location.hash !== where", arg=where)
    assert dead == []


def test_own_points_are_put_by_pointer_and_by_keys(visit):
    tab = visit(setting="#steps=0&cloud=my own")
    plane = tab.get_by_role("application").nth(1)
    box = plane.bounding_box()
    plane.click(position={"x": box["width"] / 4, "y": box["height"] / 4})
    plane.click(position={"x": 3 * box["width"] / 4, "y": box["height"] / 2}, modifiers=["Shift"])
    plane.focus()
    for _ in range(5):
        tab.keyboard.press("ArrowDown")
    tab.keyboard.press("Enter")
    tab.wait_for_function("location.hash.split(';').length === 3")
    own = [float(v) for v in re.split("[,;]", tab.evaluate("location.hash").partition("own=")[2])]
    assert own == pytest.approx([-1, 1, 0, 1, 0, 1, 1, -0.5, 0], abs=0.03)
    tab.get_by_role("button", name="Train").click()
    tab.wait_for_function("document.querySelector('.explorer').dataset.steps > 20")
    again = visit(setting=tab.evaluate("location.hash"))
    assert again.locator(".plane").nth(1).locator("circle").count() == 1
    tab.get_by_role("button", name="Remove my points").click()
    expect(tab.locator(".readout")).to_contain_text("There are no points yet")


def test_the_sample_under_the_pointer_shows_its_virtual_points(visit):
    tab = visit(setting="#steps=0&layer=input&folds=8")
    plane = tab.locator(".plane").nth(1)
    marks = "(plane) => plane.querySelector('svg').innerHTML"
    box = plane.bounding_box()
    tab.mouse.move(box["x"] + 0.2 * box["width"], box["y"] + box["height"] / 2)
    before = plane.evaluate(marks)
    tab.mouse.move(box["x"] + 0.8 * box["width"], box["y"] + box["height"] / 2)
    assert plane.evaluate(marks) != before


@pytest.mark.parametrize("theme", ["light", "dark"])
@pytest.mark.parametrize("width", [1280, 390])
def test_it_is_accessible_and_fits(visit, theme, width):
    tab = visit(theme, "#steps=20", viewport={"width": width, "height": 900})
    expect(tab.locator(".readout")).to_contain_text("After 20 steps")
    assert tab.evaluate("document.documentElement.scrollWidth") <= width
    found = Axe().run(tab)
    assert found.violations_count == 0, found.generate_report()
    tab.keyboard.press("Tab")
    assert tab.evaluate("getComputedStyle(document.activeElement).outlineWidth") == "3px"


def test_reduced_motion_redraws_once_a_second(visit):
    tab = visit(setting="#steps=20000&speed=300", reduced_motion="reduce")
    count = "Number(document.querySelector('.explorer').dataset.redraws)"
    before = tab.evaluate(count)
    tab.wait_for_timeout(1500)
    assert 1 <= tab.evaluate(count) - before <= 3


@pytest.mark.parametrize("setting", ["#steps=20000&speed=300", "#steps=20"], ids=["training", "at rest"])
@pytest.mark.parametrize("motion", ["reduce", "no-preference"])
def test_its_lower_picture_is_as_wide_as_its_place_at_once(visit, setting, motion):
    tab = visit(setting=setting, reduced_motion=motion)
    for width in (1280, 390, 391, 392, 393, 700):
        tab.set_viewport_size({"width": width, "height": 900})
        place, drawn = tab.evaluate(FITS)
        assert abs(drawn - place) <= 1


@pytest.mark.parametrize("setting", ["#steps=20000&speed=300", "#steps=20"], ids=["training", "at rest"])
def test_its_planes_change_their_colours_with_the_theme_at_once(visit, setting):
    opened = {theme: visit(theme, setting, reduced_motion="reduce") for theme in ("light", "dark")}
    for theme, other in (("light", "dark"), ("dark", "light")):
        opened[theme].wait_for_function("document.querySelector('.explorer').dataset.steps >= 20")
        before = opened[theme].evaluate(GROUND)
        opened[theme].evaluate(f"document.documentElement.dataset.theme = '{other}'")
        after = opened[theme].evaluate(GROUND)
        assert of_theme(before, theme) and of_theme(after, other)
        assert not of_theme(before, other)


def test_a_picture_that_was_drawn_while_hidden_has_its_width_again(visit):
    tab = visit(setting="#steps=20")
    expect(tab.locator(".readout")).to_contain_text("After 20 steps")
    shown = "(way) => { document.querySelector('.explorer figure').style.display = way; }"
    tab.evaluate(shown, "none")
    tab.get_by_role("button", name="Step").click()
    tab.evaluate(FITS)
    tab.evaluate(shown, "")
    place, drawn = tab.evaluate(FITS)
    assert abs(drawn - place) <= 1


LIT = """() => [...document.querySelectorAll(".explorer figure path.line[opacity]")]
  .map((path) => (path.getAttribute("d").match(/M/g) ?? []).length)"""


def test_the_strip_tells_what_was_and_what_the_dial_makes_of_what_is_to_come(visit):
    tab = visit(setting="#steps=60&omega=0")
    expect(tab.locator(".readout")).to_contain_text("After 60 steps, 60 of them augmented")
    assert tab.evaluate(LIT) == [60, 65]
    dial(tab, "ω, angle").press("End")
    expect(tab.locator(".readout")).to_contain_text("After 60 steps, 60 of them augmented")
    assert tab.evaluate(LIT) == [60, 0]


def test_steps_are_written_whole(visit):
    tab = visit(setting="#steps=1134&speed=1000&folds=1")
    expect(tab.locator(".readout")).to_contain_text("After 1134 steps", timeout=120_000)
    ticks = tab.locator(".explorer figure .tick").all_text_contents()
    assert {"1134", "1034", "1159"} <= set(ticks)
    tab.get_by_role("button", name="Reset").click()
    tab.get_by_role("button", name="Step").click()
    tab.get_by_role("button", name="Step").click()
    ticks = tab.locator(".explorer figure .tick").all_text_contents()
    assert ticks[-8:-5] == ["100", "2", "125"], "no 0, which would lie on 2"
    drawn = "() => document.querySelectorAll('.explorer figure path.line[stroke-width=\"1.6\"]').length"
    assert tab.evaluate(drawn) >= 4, "the first steps have lines"


def test_training_that_diverges_is_told(visit):
    tab = visit(setting="#rate=1&eta=31.6&omega=0&steps=300&speed=1000")
    expect(tab.locator(".readout")).to_contain_text("SBA's training has diverged", timeout=60_000)
    text = tab.locator(".readout").inner_text()
    assert "press Reset" in text and "NaN" not in text and "error" not in text


def test_a_sample_is_chosen_again_after_there_was_none(visit):
    tab = visit(setting="#steps=0")
    ring = tab.locator(".planes svg circle")
    assert ring.count() == 2
    dial(tab, "points").select_option("my own")
    assert ring.count() == 0
    dial(tab, "points").select_option("spirals")
    assert ring.count() == 2


def test_a_screen_reader_is_not_told_each_picture(visit):
    """Not while it trains, by itself or by the button; at rest it hears what a dial does."""
    tab = visit(setting="#steps=20000")
    way = "document.querySelector('.readout').getAttribute('aria-live')"
    assert tab.evaluate(way) == "off"
    tab.get_by_role("button", name="Pause").click()
    assert tab.evaluate(way) == "polite"
    tab.get_by_role("button", name="Train").click()
    assert tab.evaluate(way) == "off"


LINKS = """() => {
  const text = '<a href="#eta=10&steps=20">this</a> <a href="#there">there</a>';
  document.body.insertAdjacentHTML("afterbegin", `<p style="height: 3000px">${text}</p>`);
  document.body.insertAdjacentHTML("beforeend", '<p id="there" style="height: 3000px">here</p>');
}"""


def test_what_is_under_the_cross_is_spoken(visit):
    tab = visit(setting="#steps=0&cloud=my own&own=0,0.5,1")
    plane, spoken = tab.get_by_role("application").first, tab.locator(".spoken")
    plane.press("ArrowLeft")
    text = (
        "−0.1 across, 0.0 up: probability of class 1 {} by plain training, {} by SBA. The nearest sample is of class 1."
    )
    numbers = re.fullmatch(text.replace(".", r"\.").format(*2 * [r"([01]\.\d\d)"]), spoken.inner_text()).groups()
    assert numbers[0] == numbers[1], "nothing is trained yet"
    dial(tab, "points").select_option("two moons")
    tab.get_by_role("button", name="Train").click()
    tab.wait_for_function("document.querySelector('.explorer').dataset.steps > 100")
    tab.get_by_role("button", name="Pause").click()
    for _ in range(19):
        plane.press("ArrowDown")
    text = spoken.inner_text()
    assert text.startswith("−0.1 across, −1.9 up") and "class 1." in text
    assert min(float(p) for p in re.findall(r"([01]\.\d\d) by", text)) > 0.5


def test_links_are_followed_each_time_and_the_way_back_too(visit):
    tab = visit(setting="#steps=30")
    readout = tab.locator(".readout")
    expect(readout).to_contain_text("After 30 steps")
    tab.evaluate(LINKS)
    seen = "document.querySelector('.explorer').getBoundingClientRect().top"
    for _ in range(2):
        tab.evaluate("scrollTo(0, 0)")
        tab.get_by_role("link", name="this").click()
        expect(readout).to_contain_text("After 20 steps")
        expect(readout).to_contain_text("η = 10")
        tab.wait_for_function(f"Math.abs({seen}) < 80")
        tab.get_by_role("button", name="Reset").click()
        expect(readout).to_contain_text("After 0 steps")
    tab.get_by_role("button", name="Step").click()
    tab.evaluate("scrollTo(0, 0)")
    tab.get_by_role("link", name="there", exact=True).click()
    tab.go_back()
    tab.evaluate(FITS)
    assert steps(tab) == 1, "the same setting is no new training"
    tab.go_back()
    expect(readout).to_contain_text("After 30 steps")
    expect(readout).to_contain_text("η = 1,")


def test_it_is_printed_on_white(visit):
    tab = visit("dark", "#steps=0")
    tab.emulate_media(media="print")
    look = "(at) => ['color', 'backgroundColor'].map((name) => getComputedStyle(document.querySelector(at))[name])"
    assert tab.evaluate(look, ".readout")[0] == "rgb(26, 26, 26)"
    assert tab.evaluate(look, ".explorer") == ["rgb(26, 26, 26)", "rgb(255, 255, 255)"], "also if grounds are printed"


def test_a_dial_that_cannot_be_is_refused():
    with pytest.raises(ConfigError, match=r"eta: 50 is not allowed; give a number from 0 to 31\.6228"):
        explore.playground(eta=50)
    with pytest.raises(ConfigError, match="cloud: 'rings' is not allowed; give"):
        explore.playground(cloud="rings")
    with pytest.raises(ConfigError, match="epochs: there is no such dial; choose from omega"):
        explore.playground(epochs=3)
    data = explore.playground(eta=10.0, layer="input").picture.data
    values = {one["name"]: one["value"] for one in data["dials"]}
    assert (values["eta"], values["layer"]) == (10.0, 0)


def test_it_is_small():
    assert len(explore.playground().picture._esm.encode()) <= 60_000
