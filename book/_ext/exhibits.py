"""Sphinx extension: every figure and table of the book has a caption, a number and an address, whatever wrote it.

* An output of a cell that holds `<figure>`s or `<table>`s (`sba.book.style.show` and `.table`), and an explorer, whose hint is its
  caption. The address is the HTML's own id, or the cell's: `fig-CELL`, `tab-CELL`, then `fig-CELL-2` and so on.
* A table in Markdown, whose caption is the paragraph before it: `*Table: what is to be seen.*`, a label before that if it is cited.
* A `{figure}` with a name.

One sequence a page for figures and one for tables: "Figure 5.2" in chapter 5, "Table C.1" on the third page without a chapter's
number, and no letter on the first page of the book. `{numref}` cites them from any page. One without a caption is a warning, and
warnings fail the build.
"""

import html
import json
import re
import string
from collections.abc import Iterator
from pathlib import Path

from docutils import nodes
from sphinx.application import Sphinx
from sphinx.environment import BuildEnvironment
from sphinx.transforms import SphinxTransform
from sphinx.util import logging

LOGGER = logging.getLogger(__name__)
VIEW, STATE = "application/vnd.jupyter.widget-view+json", "application/vnd.jupyter.widget-state+json"
BOX = '<div class="table-box">'
PART = re.compile(rf"(<figure\b.*?</figure>|{BOX}\s*<table\b.*?</table>\s*</div>|<table\b.*?</table>)", re.DOTALL)
CAPTION = re.compile(r"\s*<(figcaption|caption)\b[^>]*>(.*?)</\1>\s*", re.DOTALL)
OWN_ID = re.compile(r'^(<\w+\b[^>]*?)\s+id="([^"]+)"')
EMPTY = re.compile(r"<th\b([^>]*)>\s*(?:<p>\s*</p>)?\s*</th>")
MARK = "Table: "


class drawn(nodes.General, nodes.Element):
    """A figure that a cell drew: its content, then its caption."""


class tabled(nodes.General, nodes.Element):
    """A table: its caption, then its content."""


class titled(nodes.TextElement):
    """The caption of either."""


class Exhibits(SphinxTransform):
    """Find what is to be numbered on a page, before Sphinx notes the page's labels."""

    default_priority = 840

    def apply(self, **kwargs: object) -> None:
        path = Path(self.env.doc2path(self.env.docname))
        self.notebook = json.loads(path.read_text(encoding="utf-8")) if path.suffix == ".ipynb" else {}
        self.used: set[str] = set()
        for cell in list(self.document.findall(_is("cell_code"))):
            self.number_outputs(cell, self.notebook["cells"][cell["cell_index"]]["id"])
        for table in list(self.document.findall(nodes.table)):
            self.number_table(table)
        for figure in self.document.findall(nodes.figure):
            if not (figure["names"] and any(isinstance(child, nodes.caption) for child in figure)):
                self.complain(figure, "a figure needs a caption and a name")
            picture = figure[0]
            figure[0] = nodes.container("", picture, classes=["sideways"])

    def number_outputs(self, cell: nodes.Element, name: str) -> None:
        for bundle in list(cell.findall(_is("mime_bundle"))):
            kinds = [child["mime_type"] for child in bundle]
            if VIEW in kinds:
                self.wrap(bundle, drawn, f"fig-{name}", [nodes.Text(self.hint(bundle))])
            elif "text/html" in kinds:
                for raw in list(bundle[kinds.index("text/html")].findall(nodes.raw)):
                    self.split(raw, name)
            elif any(kind.startswith("image/") for kind in kinds):
                self.complain(bundle, f"cell {name}: show the picture with style.show, so that it has a caption")

    def split(self, raw: nodes.raw, name: str) -> None:
        """Put the figures and tables of a piece of HTML into nodes of their own."""
        pieces = PART.split(raw.astext())
        if len(pieces) == 1:
            return
        box = nodes.container(classes=raw["classes"])
        for piece in pieces:
            if not PART.fullmatch(piece):
                box += nodes.raw("", piece, format="html")
                continue
            kind, prefix = (drawn, "fig") if piece.startswith("<figure") else (tabled, "tab")
            piece = piece if kind is drawn else piece.removeprefix(BOX).removesuffix("</div>").strip()
            own = OWN_ID.match(piece)
            caption = CAPTION.search(piece)
            piece = CAPTION.sub("", OWN_ID.sub(r"\1", piece), count=1)
            piece = re.sub(r"^<figure[^>]*>|</figure>$", "", piece) if kind is drawn else f"{BOX}{piece}</div>"
            inside = [nodes.raw("", piece, format="html")]
            box += self.exhibit(
                kind, own[2] if own else f"{prefix}-{name}", inside, _read(caption[2] if caption else "")
            )
        raw.parent.replace(raw, box)

    def number_table(self, table: nodes.table) -> None:
        """Take the paragraph before a table of Markdown for its caption."""
        label, said = "", []
        place = table.parent.index(table)
        before = table.parent[place - 1] if place else None
        if isinstance(before, nodes.paragraph) and len(before) == 1 and before.astext().startswith(MARK):
            label, said = next(iter(before["ids"]), ""), list(before[0].children)
            said[0] = nodes.Text(said[0].astext().removeprefix(MARK))
            for one in before["ids"]:
                # the label is the table's now
                self.document.ids.pop(one)
            before.parent.remove(before)
        words = " ".join(part.astext() for part in said).split()[:5]
        self.wrap(table, tabled, label or f"tab-{nodes.make_id(' '.join(words))}", said)

    def wrap(self, node: nodes.Element, kind: type, name: str, caption: list[nodes.Node]) -> None:
        """Put a node that stands on the page into an exhibit."""
        parent, place = node.parent, node.parent.index(node)
        parent[place] = self.exhibit(kind, name, [node], caption)

    def exhibit(self, kind: type, name: str, inside: list[nodes.Node], caption: list[nodes.Node]) -> nodes.Element:
        """Make a node with a caption that can be cited by its name."""
        count = 1
        while (label := name if count == 1 else f"{name}-{count}") in self.used:
            count += 1
        self.used.add(label)
        said = titled("", "", *caption)
        text = html.unescape(re.sub("<[^>]+>", "", said.astext())).strip()
        node = kind(
            "", *([*inside, said] if kind is drawn else [said, *inside]), ids=[label], names=[label], title=text
        )
        if not text:
            self.complain(node, f"{label}: no caption; give one")
        self.document.nameids.pop(label, None)
        self.document.note_explicit_target(node)
        return node

    def hint(self, bundle: nodes.Element) -> str:
        """What to see in an explorer: its picture says so."""
        view = next(child for child in bundle if child["mime_type"] == VIEW).astext()
        model = json.loads(re.search(r"\{.*\}", view, re.DOTALL)[0])["model_id"]
        state = self.notebook["metadata"]["widgets"][STATE]["state"]
        return hint_of(state, model)

    def complain(self, node: nodes.Node, text: str) -> None:
        LOGGER.warning(text, location=self.env.docname, type="exhibits")


def _is(element: str):
    return lambda node: isinstance(node, nodes.Element) and node.get("nb_element") == element


def _read(caption: str) -> list[nodes.Node]:
    """The nodes of a caption in HTML."""
    return [nodes.raw("", caption, format="html") if "<" in caption else nodes.Text(html.unescape(caption))]


def hint_of(state: dict, model: str) -> str:
    """The hint of the picture in a widget or in one of its children; empty if none has one."""
    own = state.get(model, {}).get("state", {})
    found = (hint_of(state, child.removeprefix("IPY_MODEL_")) for child in own.get("children", []))
    return own.get("hint") or next(filter(None, found), "")


def letters() -> Iterator[str]:
    """A, B, … Z, AA, AB, …"""
    yield from string.ascii_uppercase
    yield from (first + second for first in string.ascii_uppercase for second in string.ascii_uppercase)


def count_by_page(app: Sphinx, env: BuildEnvironment) -> list[str]:
    """Number a page without a chapter's number by a letter, so that its sequences begin with 1 as everywhere.

    If a number changes, every page is written again, for each may cite it.
    """
    letter = letters()
    for page, kinds in env.toc_fignumbers.items():
        if not env.toc_secnumbers.get(page, {}).get(""):
            first = () if page == app.config.root_doc else (next(letter),)
            env.toc_fignumbers[page] = {
                # an equation has the paper's own number
                kind: {label: (*(() if kind == "displaymath" else first), n) for n, label in enumerate(labels, 1)}
                for kind, labels in kinds.items()
            }
    before, env.numbered = getattr(env, "numbered", None), env.toc_fignumbers
    return [] if before == env.numbered else sorted(env.found_docs)


def help_readers(app: Sphinx, page: str, template: str, context: dict, doctree: object) -> None:
    """Mend what a screen reader would stumble over: the head of a column without a name becomes a plain cell, and the bibliography
    loses roles that have been withdrawn."""
    if "body" in context:
        context["body"] = EMPTY.sub(r"<td\1></td>", context["body"])
        context["body"] = re.sub(r' role="(?:doc-biblioentry|list)"', "", context["body"])


def open_exhibit(self, node: nodes.Element) -> None:
    self.body.append(self.starttag(node, "figure", CLASS=type(node).__name__))


def close_exhibit(self, node: nodes.Element) -> None:
    self.body.append("</figure>\n")


def open_title(self, node: nodes.Element) -> None:
    self.body.append("<figcaption><p>")
    self.add_fignumber(node.parent)
    self.body.append('<span class="caption-text">')


def close_title(self, node: nodes.Element) -> None:
    self.body.append("</span>")
    self.add_permalink_ref(
        node.parent, "Link to this figure" if isinstance(node.parent, drawn) else "Link to this table"
    )
    self.body.append("</p></figcaption>\n")


def setup(app: Sphinx) -> dict:
    for kind, figtype in ((drawn, "figure"), (tabled, "table")):
        app.add_enumerable_node(kind, figtype, lambda node: node["title"], html=(open_exhibit, close_exhibit))
    app.add_node(titled, html=(open_title, close_title))
    app.add_transform(Exhibits)
    # after Sphinx's own numbers
    app.connect("env-get-updated", count_by_page, priority=900)
    app.connect("html-page-context", help_readers)
    return {"version": "1", "env_version": 1, "parallel_read_safe": True, "parallel_write_safe": True}
