"""Sphinx extension: how long a chapter takes to read, counted while the pages are built.

* A paragraph that begins with **Prerequisites.** ends with the reading time of its page.
* The role `{minutes}` with the name of a chapter writes the reading time of that chapter.
"""

import math
import re
from dataclasses import dataclass

from docutils import nodes
from sphinx.application import Sphinx
from sphinx.environment import BuildEnvironment

WORDS_A_MINUTE = 200
SECONDS_A_FIGURE, SECONDS_A_FORMULA, SECONDS_A_LINE = 30, 20, 3
STEP = 5
"""Minutes that a reading time is rounded up to."""
FOLDED = {"tag_hide-input", "tag_hide-cell", "tag_remove-input", "tag_remove-cell", "dropdown"}
EXHIBITS = {"drawn", "tabled"}
"""The nodes of exhibits.py."""
PICTURE = re.compile(r"<(?:figure|table)\b")
WIDGET = "application/vnd.jupyter.widget-view+json"


@dataclass(frozen=True)
class Counted:
    """What a page asks its reader to take in; what is folded away is not counted."""

    words: int = 0
    figures: int = 0  #: and tables that a cell writes
    formulas: int = 0
    lines: int = 0  #: of code

    @property
    def minutes(self) -> int:
        """The reading time, rounded up."""
        seconds = 60 * self.words / WORDS_A_MINUTE + SECONDS_A_FIGURE * self.figures
        seconds += SECONDS_A_FORMULA * self.formulas + SECONDS_A_LINE * self.lines
        return STEP * max(1, math.ceil(seconds / 60 / STEP))


def count(node: nodes.Node) -> Counted:
    """Count words, figures, displayed formulas and lines of code below a node."""
    if isinstance(node, nodes.math_block):
        return Counted(formulas=1)
    if isinstance(node, nodes.literal_block):
        return Counted(lines=len(node.astext().splitlines()))
    if isinstance(node, nodes.image) or node.tagname == "drawn":
        return Counted(figures=1)
    if isinstance(node, nodes.raw):
        return Counted(figures=len(PICTURE.findall(node.astext())))
    if isinstance(node, nodes.Element) and "mime_type" in node:  # one of several forms of an output
        return Counted(figures=1) if node["mime_type"] == WIDGET else count_figures(node)
    if isinstance(node, nodes.Text):
        return Counted(words=len(node.astext().split()))
    folded = FOLDED.intersection(node.get("classes", [])) if isinstance(node, nodes.Element) else set()
    if folded & {"tag_remove-cell", "tag_hide-cell", "dropdown"}:
        return Counted()
    # of a cell whose code is folded, the outputs are read
    parts = [child for child in node.children if not (folded and "cell_input" in child.get("classes", []))]
    found = [count(child) for child in parts]
    return Counted(*(sum(getattr(one, name) for one in found) for name in Counted.__dataclass_fields__))


def count_figures(node: nodes.Element) -> Counted:
    """Count the figures and tables of an output; what it prints is looked at, not read."""
    own = [one for one in node.findall(nodes.Element) if one.tagname in EXHIBITS]
    rest = [raw for raw in node.findall(nodes.raw) if raw.parent.tagname not in EXHIBITS]
    return Counted(figures=len(own) + sum(len(PICTURE.findall(raw.astext())) for raw in rest))


def measure(app: Sphinx, doctree: nodes.document) -> None:
    """Remember a page's reading time, and write it behind its prerequisites."""
    minutes = app.env.reading_minutes[app.env.docname] = count(doctree).minutes
    for paragraph in doctree.findall(nodes.paragraph):
        first = next((child for child in paragraph.children if child.astext()), None)
        if isinstance(first, nodes.strong) and first.astext() == "Prerequisites.":
            paragraph += [nodes.Text(" "), nodes.strong("", "Reading time."), nodes.Text(f" About {minutes} minutes.")]
            return


class Minutes(nodes.inline):
    """Stands for a reading time until all pages are read."""


def role(name: str, raw: str, text: str, line: int, inliner: object, **options: object) -> tuple[list, list]:
    """Read the role `{minutes}`."""
    return [Minutes(raw, text, of=text)], []


def fill(app: Sphinx, doctree: nodes.document, page: str) -> None:
    """Write the reading times that a page asks for. Raises `KeyError` if there is no such chapter."""
    for node in list(doctree.findall(Minutes)):
        node.replace_self(nodes.Text(str(app.env.reading_minutes[f"notebooks/{node['of']}"])))
        app.env.asks_minutes.add(page)


def start(app: Sphinx) -> None:
    """Make room for what pages are found to take."""
    for name, kind in (("reading_minutes", dict), ("asks_minutes", set)):
        if not hasattr(app.env, name):
            setattr(app.env, name, kind())


def merge(app: Sphinx, env: BuildEnvironment, pages: set[str], other: BuildEnvironment) -> None:
    """Take over what another process has read."""
    env.reading_minutes |= other.reading_minutes


def again(app: Sphinx, env: BuildEnvironment) -> list[str]:
    """Write pages with reading times again whenever a page has changed."""
    return sorted(env.asks_minutes & env.found_docs)


def setup(app: Sphinx) -> dict:
    app.add_node(Minutes)
    app.add_role("minutes", role)
    app.connect("builder-inited", start)
    app.connect("doctree-read", measure)
    app.connect("doctree-resolved", fill)
    app.connect("env-merge-info", merge)
    app.connect("env-updated", again)
    return {"version": "1", "env_version": 1, "parallel_read_safe": True, "parallel_write_safe": True}
