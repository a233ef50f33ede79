"""The built site as a reader meets it: every link leads somewhere, every picture has words, nothing asks another host.

They read what `make book` has built.
"""

import json
import re
from functools import cache
from urllib.parse import parse_qs, unquote, urlsplit
from xml.etree import ElementTree

import pytest
import yaml
from bs4 import BeautifulSoup
from pages import EXPLORERS, FORWARDS, PAGES, ROOT, SITE, STATE, VIEW, extension

from sba.book.explorers.playground import dials
from sba.book.hygiene import repository

pytestmark = pytest.mark.usefixtures("site")
each_page = pytest.mark.parametrize("page", PAGES, ids=lambda p: p.relative_to(SITE).as_posix())

# what a browser fetches by itself; a link that the reader follows is not among them
FETCHED = {
    "script": "src",
    "link": "href",
    "img": "src",
    "iframe": "src",
    "source": "src",
    "video": "src",
    "audio": "src",
    "embed": "src",
    "object": "data",
}
FILE_NAME = re.compile(r"\S+\.(png|svg|jpe?g|gif|webp)$", re.IGNORECASE)
ELSEWHERE = re.compile(r"""(?:url\(|@import)\s*["']?((?:https?:)?//[^"')\s]+)""")


@cache
def soup(page):
    return BeautifulSoup(page.read_text(encoding="utf-8"), "html.parser")


@cache
def anchors(page):
    return {tag.get("id") for tag in soup(page).find_all(id=True)} | {a.get("name") for a in soup(page).find_all("a")}


def is_external(address):
    return bool(urlsplit(address).netloc) or urlsplit(address).scheme in {"http", "https", "ftp"}


def broken(page, address):
    """Why an address of a page leads nowhere inside the site, or None."""
    parts = urlsplit(address)
    if is_external(address) or parts.scheme in {"mailto", "data", "javascript"}:
        return None
    target = (page.parent / unquote(parts.path)).resolve() if parts.path else page
    if target.is_dir():
        target /= "index.html"
    if not target.is_relative_to(SITE):
        return "leaves the site"
    if not target.exists():
        return "no such file"
    if "=" in parts.fragment:  # a setting of the playground
        names = {one["name"] for one in dials()}
        return None if set(parse_qs(parts.fragment)) <= names else "no such dial"
    if parts.fragment and target.suffix == ".html" and unquote(parts.fragment) not in anchors(target) | {"", "#"}:
        return "no such anchor"
    return None


def test_the_site_opens_and_every_old_address_leads_to_a_page():
    moved = extension("book_static").MOVED
    assert [p.relative_to(SITE).with_suffix("").as_posix() for p in FORWARDS] == sorted(moved)
    for page in FORWARDS:
        refresh = soup(page).find("meta", attrs={"http-equiv": "refresh"})["content"]
        now = (page.parent / refresh.partition("url=")[2]).resolve()
        assert now == SITE / f"{moved[page.relative_to(SITE).with_suffix('').as_posix()]}.html"
        assert now in PAGES and soup(page).a["href"] == refresh.partition("url=")[2]


def test_a_chapter_has_the_number_of_its_file():
    for page in PAGES:
        if number := re.match(r"\d+", page.name):
            assert soup(page).select_one(".bd-docs-nav li.current > a").text.strip().startswith(f"{int(number[0])}. ")


@pytest.mark.parametrize("page", [*PAGES, *FORWARDS], ids=lambda p: p.relative_to(SITE).as_posix())
def test_an_icon_is_named(page):
    """Or a browser asks the root of the host for one, outside of the site."""
    icon = soup(page).find("link", rel="icon")
    assert icon is not None
    if icon["href"].startswith("data:image/svg+xml,"):
        assert ElementTree.fromstring(unquote(icon["href"].partition(",")[2])).tag.endswith("svg")
    else:
        assert (page.parent / icon["href"]).is_file()


@each_page
def test_links_and_anchors_exist(page):
    tags = [(tag, attribute) for tag, attribute in [("a", "href"), *FETCHED.items()]]
    addresses = {t[attribute] for tag, attribute in tags for t in soup(page).find_all(tag) if t.get(attribute)}
    faults = {address: why for address in sorted(addresses) if (why := broken(page, address))}
    assert not faults


@each_page
def test_a_page_sends_nobody_to_a_repository_that_is_not_named(page):
    """Jupyter Book would offer its own on Colab and Binder."""
    links = [a["href"] for a in soup(page).find_all("a", href=True)]
    assert repository(ROOT) or [link for link in links if re.search("colab|binder|executablebooks", link)] == []


@each_page
def test_nothing_is_fetched_from_another_host(page):
    fetched = [t[attribute] for tag, attribute in FETCHED.items() for t in soup(page).find_all(tag) if t.get(attribute)]
    inline = [t.string or "" for t in soup(page).find_all(["script", "style"]) if not t.get("src")]
    styled = [t["style"] for t in soup(page).find_all(style=True)]
    assert [a for a in fetched if is_external(a)] == []
    assert [a for text in inline + styled for a in ELSEWHERE.findall(text)] == []
    # a script that names a host in its text asks it sooner or later (thebe, Binder, RequireJS)
    assert [a for text in inline for a in re.findall(r"https?://[^\s\"']+", text)] == []


def test_style_sheets_fetch_nothing_from_another_host():
    sheets = sorted(SITE.rglob("*.css"))
    assert sheets
    assert {s.name: found for s in sheets if (found := ELSEWHERE.findall(s.read_text(encoding="utf-8")))} == {}


@each_page
def test_pictures_have_a_text(page):
    """A file name is no text: in a notebook the cell's metadata `mystnb.image.alt` gives one."""
    images = soup(page).find_all("img")
    assert [i.get("src", "")[:80] for i in images if not i.get("alt", "").strip() or FILE_NAME.match(i["alt"])] == []


def exhibits(page, kind):
    """The figures or the tables of a page, and their numbers."""
    found = soup(page).select(f"article figure.{kind}" + (", article figure:not(.tabled)" if kind == "drawn" else ""))
    return found, [figure.select_one("figcaption .caption-number").text.strip() for figure in found]


@each_page
def test_every_figure_and_table_has_a_number_a_caption_and_an_address(page):
    """One sequence of each on a page; an index and the icons of its rows are no exhibits."""
    shown = soup(page).select(f"article img, article table, article script[type='{VIEW}']")
    assert [
        str(e)[:90]
        for e in shown
        if not e.find_parent("figure")
        and not e.find_parent(class_="indextable")
        and "indextable" not in e.get("class", [])
    ] == []
    for kind, word in (("drawn", "Figure"), ("tabled", "Table")):
        found, numbers = exhibits(page, kind)
        places = [re.fullmatch(rf"{word} ((?:\w+\.)?)(\d+)", number).groups() for number in numbers]
        assert [int(n) for _, n in places] == list(range(1, len(found) + 1))
        assert len({before for before, _ in places}) <= 1
        for figure in found:
            assert len(figure.select_one("figcaption .caption-text").text.strip()) > 15
            assert figure.select_one("figcaption a.headerlink")["href"] == f"#{figure['id']}"
    ids = [tag["id"] for tag in soup(page).select("article figure[id]")]
    assert len(ids) == len(set(ids))


def test_no_two_figures_or_tables_of_the_book_have_one_number():
    numbers = [number for page in PAGES for kind in ("drawn", "tabled") for number in exhibits(page, kind)[1]]
    assert len(numbers) > 100 and len(numbers) == len(set(numbers))


@each_page
def test_no_cell_shows_an_error_or_a_warning(page):
    article = soup(page).find("article") or soup(page)
    outputs = article.select(".cell_output")
    assert article.select(".output.traceback, .output.stderr, .problematic, .system-message") == []
    shown = " ".join(o.get_text() for o in outputs)
    assert re.findall(r"Traceback \(most recent call last\)|\w+Warning: .*", shown) == []


@each_page
def test_no_role_is_left_as_text(page):
    """A role that is written a little wrong is shown as it stands, without a warning."""
    article = soup(page).find("article") or soup(page)
    for code in article.select("div.highlight, details, .math"):
        code.decompose()
    assert re.findall(r"\{(?:glue|ref|eq|cite|numref|doc)[:\w]*\}.{0,40}", article.get_text()) == []


@pytest.mark.parametrize("page", EXPLORERS, ids=lambda p: p.relative_to(SITE).as_posix())
def test_no_widget_is_left_that_the_page_cannot_draw(page):
    """Each view has its state, is made of what the script knows, and has a picture for whoever runs no scripts."""
    widgets = extension("widgets")
    state = {}
    for script in soup(page).find_all("script", type=STATE):
        state |= json.loads(script.string)["state"]
    assert [broken(page, t["src"]) for t in soup(page).find_all("script", src=re.compile("widgets/host"))] == [None]
    for view in soup(page).find_all("script", type=VIEW):
        models = list(widgets.seen(state, json.loads(view.string)["model_id"]))
        assert {state[model]["model_name"] for model in models} <= widgets.DRAWN
        still = view.find_next_sibling(class_="explorer-still")
        assert still is not None and still.find("img")["alt"].strip()


@each_page
def test_a_chapter_offers_its_executed_notebook(page):
    """The file behind the download button has every cell's outputs."""
    if page.parent.name != "notebooks":
        return
    (link,) = {a["href"] for a in soup(page).select("a.btn-download-source-button") if a["href"].endswith(".ipynb")}
    cells = json.loads((page.parent / link).read_text(encoding="utf-8"))["cells"]
    code = [cell for cell in cells if cell["cell_type"] == "code" and "".join(cell["source"]).strip()]
    unrun = [
        c["id"] for c in code if not c["execution_count"] and "skip-execution" not in c["metadata"].get("tags", [])
    ]
    assert code and unrun == [] and any(cell["outputs"] for cell in code)


@each_page
def test_equations_are_drawn_by_the_files_beside_the_page(page):
    if soup(page).select("span.math, div.math"):
        scripts = [t["src"] for t in soup(page).find_all("script", src=True) if "mathjax" in t["src"]]
        assert [broken(page, s) for s in scripts] == [None]


@each_page
def test_a_page_says_in_its_head_what_it_is_about(page):
    source = ROOT / page.relative_to(SITE)
    if not any(source.with_suffix(suffix).exists() for suffix in (".md", ".ipynb")):
        return
    (described,) = soup(page).find_all("meta", attrs={"name": "description"})
    said = described["content"].removesuffix(" …")
    assert 40 <= len(said) <= 200
    assert soup(page).find("meta", property="og:description")["content"] == described["content"]
    # without a known address of the site a picture could not be named
    config = yaml.safe_load((ROOT / "_config.yml").read_text(encoding="utf-8"))
    assert bool(soup(page).find("meta", property="og:image")) == bool(config["html"]["baseurl"])
