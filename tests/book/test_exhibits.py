"""Figures and tables of a book are numbered whatever wrote them, and cited from any page."""

import nbformat
import pytest
from bs4 import BeautifulSoup
from pages import build, small_book

pytest.importorskip("jupyter_book", reason="the book's packages are missing: pip install -e '.[book]'")
PICTURE = '<div class="sideways"><img alt="a" src="data:image/svg+xml;base64,PHN2Zy8+"></div>'
FIRST = f'<figure class="drawn">{PICTURE}<figcaption>Rain &amp; wind.</figcaption></figure>'
BOX = '<div class="table-box"><table id="tab-own"><caption>A folded one.</caption><tr><td>1</td></tr></table></div>'
PAGE = """# A page

{numref}`fig-drawn`, {numref}`fig-drawn-2`, {numref}`tab-own`, {numref}`tab-x`, {numref}`fig-asset`.

(tab-x)=
*Table: What $x$ is.*

| a | b |
|---|---|
| 1 | 2 |

*Table: Another one of these.*

| a | b |
|---|---|
| 1 | 2 |

```{figure} _assets/sba.svg
:name: fig-asset
:alt: a drawing
A picture from a file.
```
"""


@pytest.fixture(scope="module")
def pages(tmp_path_factory):
    """The two pages of a small book: its first page, and a chapter whose cell drew a table and two figures."""
    tree = small_book(tmp_path_factory.mktemp("book"))
    path = tree / "book" / "chapter.ipynb"
    notebook = nbformat.read(path, as_version=4)
    texts = (f"<details><summary>more</summary>{BOX}</details>", FIRST, FIRST.replace("Rain", "Sun"))
    notebook.cells[1].outputs = [nbformat.v4.new_output("display_data", {"text/html": text}) for text in texts]
    notebook.cells[1]["id"] = "drawn"
    nbformat.write(notebook, path)
    found = build(tree, PAGE)
    assert found.returncode == 0, found.stderr
    html = tree / "_build" / "html" / "book"
    return [BeautifulSoup((html / f"{name}.html").read_text("utf-8"), "html.parser") for name in ("index", "chapter")]


def test_each_kind_has_one_sequence_a_page(pages):
    said = [
        [f"{f['id']}: {f.find('figcaption').get_text(' ', strip=True)}" for f in page.select("figure")]
        for page in pages
    ]
    assert said == [
        [
            "tab-x: Table 1 What \\(x\\) is. #",
            "tab-another-one-of-these: Table 2 Another one of these. #",
            "fig-asset: Figure 1 A picture from a file. #",
        ],
        [
            "tab-own: Table A.1 A folded one. #",
            "fig-drawn: Figure A.1 Rain & wind. #",
            "fig-drawn-2: Figure A.2 Sun & wind. #",
        ],
    ]


def test_they_are_cited_from_another_page(pages):
    cited = {a.text: a["href"] for a in pages[0].select("p a.reference")}
    assert cited == {
        "Figure A.1": "chapter.html#fig-drawn",
        "Figure A.2": "chapter.html#fig-drawn-2",
        "Table A.1": "chapter.html#tab-own",
        "Table 1": "#tab-x",
        "Figure 1": "#fig-asset",
    }


def test_what_stands_around_them_is_kept(pages):
    assert pages[1].select_one("details summary").text == "more"
    assert pages[1].select_one("details > figure > .table-box > table td").text == "1"
