"""HTML tables for pages of the book, and how a record's identifier stands in them."""

from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from html import escape

NOT_RUN = "—"


@dataclass(frozen=True)
class Across:
    """A row of one cell over all columns."""

    text: str  #: HTML
    heading: bool = False  #: whether it names the rows below it; if not, it says how the row above it was made


def table(columns: Sequence[str], rows: Iterable[Sequence[str] | Across], caption: str = "") -> str:
    """Write a table that scrolls sideways if the page is narrow: headings of columns, and rows of cells in HTML, as many as there
    are columns, or one cell across; and a caption, plain text."""
    n = len(columns)
    written = []
    for row in rows:
        if not isinstance(row, Across):
            written.append("".join(f"<td>{cell}</td>" for cell in row))
        elif row.heading:
            written.append(f'<th scope="rowgroup" colspan="{n}">{row.text}</th>')
        else:
            written.append(f'<td colspan="{n}" class="provenance">{row.text}</td>')
    header = "".join(f'<th scope="col">{column}</th>' for column in columns)
    body = "".join(f"<tr>{row}</tr>" for row in written)
    said = f"<caption>{escape(caption)}</caption>" if caption else ""
    return f'<div class="table-box"><table>{said}<thead><tr>{header}</tr></thead><tbody>{body}</tbody></table></div>'


def target(identifier: str) -> str:
    """Write a record's identifier on the page of records, where all others lead (``book/_ext/records.py``)."""
    return f'<span id="record-{identifier}"><code>{identifier}</code></span>'


def code(identifier: str) -> str:
    """Write a record's identifier; the built page links it to the page of records (``book/_ext/records.py``)."""
    return f"<code>{identifier}</code>"
