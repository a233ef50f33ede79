"""Sphinx extension: an identifier of a record, wherever a page names one, is a link to its row on the page of records."""

import json
import re
from pathlib import Path

from sphinx.application import Sphinx

PAGE = "notebooks/records"
LINKED = re.compile(r"\b[0-9a-f]{10}\b")
SILENT = ("a", "svg", "pre")
"""Elements whose text is left as it stands; scripts and style sheets are no text at all."""
TOKENS = re.compile(r"(<script\b.*?</script>|<style\b.*?</style>|<[^>]*>)", re.DOTALL)


def identifiers(folder: Path) -> set[str]:
    """Read which records there are, from the files of a folder."""
    lines = [line for file in sorted(folder.glob("*.jsonl")) for line in file.read_text(encoding="utf-8").splitlines()]
    return {json.loads(line)["id"] for line in lines if line.strip()}


def linked(body: str, known: set[str], page: str) -> str:
    """Make links of the identifiers in a page's HTML; ``page`` is the address of the page of records."""
    depth, parts = 0, TOKENS.split(body)
    for i, part in enumerate(parts):
        if part.startswith("<"):
            if tag := re.match(rf"<(/?)(?:{'|'.join(SILENT)})\b", part):
                depth += -1 if tag[1] else not part.endswith("/>")
        elif not depth:
            parts[i] = LINKED.sub(lambda m: link(m[0], page) if m[0] in known else m[0], part)
    return "".join(parts)


def link(identifier: str, page: str) -> str:
    """Write the link to one record."""
    return f'<a class="record" href="{page}#record-{identifier}">{identifier}</a>'


def cite(app: Sphinx, page: str, template: str, context: dict, doctree: object) -> None:
    """Link the records that a page names."""
    if page != PAGE and PAGE in app.env.found_docs and "body" in context:
        context["body"] = linked(context["body"], app.known_records, app.builder.get_relative_uri(page, PAGE))


def read(app: Sphinx) -> None:
    """Remember which records there are."""
    app.known_records = identifiers(Path(app.srcdir, "book", "results"))


def setup(app: Sphinx) -> dict:
    app.connect("builder-inited", read)
    app.connect("html-page-context", cite)
    return {"version": "1", "parallel_read_safe": True, "parallel_write_safe": True}
