"""Faults planted in a small book fail its build, under the configuration and the extensions of the real one.

A notebook with an error in its outputs is refused before the build (test_execution.py).
"""

import re

import nbformat
import pytest
from bs4 import BeautifulSoup
from helpers import nightly
from pages import HOSTED, STATE, VIEW, build, small_book

pytest.importorskip("jupyter_book", reason="the book's packages are missing: pip install -e '.[book]'")

PAGE = """# A page

Text with $x$, {eq}`eq-one` and {cite}`li2020sba`.

$$
x = 1
$$ (eq-one)

```{bibliography}
```
"""
FAULTS = {
    "equation": ("{eq}`eq-two`", "eq-two"),
    "citation": ("{cite}`nobody2020`", "nobody2020"),
    "document": ("[another](nowhere.md)", "nowhere"),
    "figure": ("{numref}`fig-nowhere`", "fig-nowhere"),
    "anchor": ("{ref}`point-99`", "point-99"),
    "glue key": ('{glue:text}`"never-glued"`', "never-glued"),
    "function": ("{py:func}`sba.core.scheduler.no_such_function`", "no_such_function"),
    "picture": ("![a picture](nothing.png)", "nothing.png"),
    "role": ("{eqq}`eq-one`", "eqq"),
    "table": ("A table without a caption:\n\n| a |\n|---|\n| 1 |", "no caption; give one"),
    "explorer": ("```{explorer} chapter.ipynb\n:cell: no-such-cell\n```", "no-such-cell"),
}


@pytest.fixture(scope="module")
def book(tmp_path_factory):
    return small_book(tmp_path_factory.mktemp("book"), repository=HOSTED)


def with_widget(tree, name):
    """Give the notebook a view of a widget with a state."""
    path = tree / "book" / "chapter.ipynb"
    notebook = nbformat.read(path, as_version=4)
    view = {"model_id": "m1", "version_major": 2, "version_minor": 0}
    state = {"m1": {"model_name": name, "model_module": "any", "state": {"children": [], "hint": "Look."}}}
    data = {VIEW: view, "text/plain": "what the picture shows"}
    notebook.cells[1].outputs = [nbformat.v4.new_output("display_data", data)]
    notebook.metadata["widgets"] = {STATE: {"state": state, "version_major": 2, "version_minor": 0}}
    nbformat.write(notebook, path)


def test_the_book_builds_without_a_fault(book):
    with_widget(book, "VBoxModel")
    found = build(book, PAGE)
    assert found.returncode == 0, found.stderr + found.stdout
    pages = {path.stem: path.read_text(encoding="utf-8") for path in (book / "_build" / "html" / "book").glob("*.html")}
    assert VIEW in pages["chapter"] and "widgets/host.js" in pages["chapter"]
    links = {
        name: [a["href"] for a in BeautifulSoup(text, "html.parser").find_all("a", href=True)]
        for name, text in pages.items()
    }
    assert "../_sources/book/chapter.ipynb" in links["chapter"], "the executed notebook can be downloaded"
    elsewhere = {name: sorted(a for a in found if re.search("colab|binder", a)) for name, found in links.items()}
    where = "somebody/some-book"
    chapter = [
        f"https://colab.research.google.com/github/{where}/blob/trunk/book/chapter.ipynb",
        f"https://mybinder.org/v2/gh/{where}/trunk?urlpath=lab/tree/book/chapter.ipynb",
    ]
    assert elsewhere == {"chapter": chapter, "index": []}


def test_every_planted_fault_is_a_warning_and_warnings_fail_the_build(book):
    with_widget(book, "DatePickerModel")
    found = build(book, "\n\n".join([PAGE, *(text for text, _ in FAULTS.values())]))
    assert found.returncode != 0
    expected = [*(name for _, name in FAULTS.values()), "the page cannot draw DatePickerModel"]
    assert [name for name in expected if name not in found.stderr] == []


@nightly
def test_a_single_warning_fails_the_build(book):
    assert build(book, f"{PAGE}\n{FAULTS['anchor'][0]}\n").returncode != 0
