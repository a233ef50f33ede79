"""Reading times are counted from what a reader takes in, and every chapter has one behind its prerequisites."""

import json
import re

import pytest
from bs4 import BeautifulSoup
from docutils import nodes
from pages import ROOT, build, extension, small_book

CHAPTERS = sorted((ROOT / "notebooks").glob("[0-9][0-9]_*.ipynb"))


@pytest.fixture(scope="module")
def reading():
    return extension("reading")


def container(*children, classes=()):
    return nodes.container("", *children, classes=list(classes))


def test_words_figures_formulas_and_lines_are_counted(reading):
    page = container(
        nodes.paragraph("", "", nodes.Text("three short words")),
        nodes.math_block("", "a = b"),
        nodes.literal_block("", "one\ntwo"),
        nodes.raw("", '<figure class="drawn"></figure>', format="html"),
        nodes.image(),
    )
    assert reading.count(page) == reading.Counted(words=3, figures=2, formulas=1, lines=2)


def test_what_is_folded_is_not_counted_and_outputs_of_folded_code_are(reading):
    code = container(nodes.literal_block("", "one\ntwo"), classes=["cell_input"])
    shown = container(nodes.raw("", "<figure></figure>", format="html"))
    shown["mime_type"] = "text/html"
    cell = [code, container(shown, classes=["cell_output"])]
    assert reading.count(container(*cell, classes=["cell", "tag_hide-input"])) == reading.Counted(figures=1)
    for fold in ("tag_hide-cell", "dropdown"):
        assert reading.count(container(*[c.deepcopy() for c in cell], classes=[fold])) == reading.Counted()


@pytest.mark.parametrize(("words", "minutes"), [(0, 5), (1000, 5), (1001, 10), (4000, 20)])
def test_minutes_are_rounded_up_to_steps_of_five(reading, words, minutes):
    assert reading.Counted(words=words).minutes == minutes


def test_it_stands_behind_the_prerequisites(tmp_path):
    text = "# A page\n\n**Prerequisites.** None.\n\n" + "word " * 1500
    done = build(small_book(tmp_path), text)
    assert done.returncode == 0, done.stderr
    page = BeautifulSoup((tmp_path / "_build/html/book/index.html").read_text(encoding="utf-8"), "html.parser")
    assert "Prerequisites. None. Reading time. About 10 minutes." in page.get_text()


@pytest.mark.parametrize("path", CHAPTERS, ids=lambda p: p.stem)
def test_every_chapter_says_what_to_know_first_and_has_an_exercise_that_is_listed(path):
    cells = [
        "".join(c["source"])
        for c in json.loads(path.read_text(encoding="utf-8"))["cells"]
        if c["cell_type"] == "markdown"
    ]
    assert len(re.findall(r"^\*\*Prerequisites\.\*\* \S.+\.$", cells[0], re.MULTILINE)) == 1
    label = f"exercise-{path.stem.partition('_')[2].replace('_', '-')}"
    (asked,) = [text.partition(f"({label})=")[2] for text in cells if f"({label})=\n## Exercise\n" in text]
    assert "{admonition} Solution\n:class: dropdown" in asked
    plan = (ROOT / "notebooks" / "teaching.ipynb").read_text(encoding="utf-8")
    assert plan.count(f"{{minutes}}`{path.stem}`") == 1 and f"<{label}>`" in plan
