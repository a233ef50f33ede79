"""Identifiers of records in a page's text become links, and nothing else does."""

import pytest
from pages import ROOT, extension

from sba.records.file import read

KNOWN = {"e7a6c93f87", "0123456789"}
LINK = '<a class="record" href="records.html#record-e7a6c93f87">e7a6c93f87</a>'


@pytest.mark.parametrize(
    ("body", "expected"),
    [
        ("<p>Records: e7a6c93f87, 5.</p>", f"<p>Records: {LINK}, 5.</p>"),
        ("<code>e7a6c93f87</code>", f"<code>{LINK}</code>"),
        ("<svg><text>e7a6c93f87</text></svg><b>e7a6c93f87</b>", f"<svg><text>e7a6c93f87</text></svg><b>{LINK}</b>"),
        ("<img/><i>e7a6c93f87</i>", f"<img/><i>{LINK}</i>"),
    ],
)
def test_an_identifier_is_a_link(body, expected):
    assert extension("records").linked(body, KNOWN, "records.html") == expected


@pytest.mark.parametrize(
    "body",
    ['<img alt="e7a6c93f87">', '<a href="x">e7a6c93f87</a>', "<pre>e7a6c93f87</pre>", "<script>a = '<a' + 'e7a6c93f87'</script>",
     "<p>e7a6c93f88</p>", "<p>e7a6c93f870</p>", "<p>123456789</p>"],
)  # fmt: skip
def test_what_is_no_record_or_no_text_is_left_alone(body):
    assert extension("records").linked(body, KNOWN, "records.html") == body


def test_the_identifiers_are_those_of_the_files():
    folder = ROOT / "book" / "results"
    assert extension("records").identifiers(folder) == {r.id for r in read(folder)}
