"""The one figure of the landing page and of the README: what every method changes, with its interval, and the paper's claim."""

import pathlib
from collections.abc import Iterable

import matplotlib.pyplot as plt

from sba.book import style
from sba.book.plots import Drawn, Row, forest
from sba.records.compare import indexed
from sba.records.judging import MINIMUM
from sba.records.names import signed, title
from sba.records.schema import Record
from sba.report import when
from sba.report.averages import averages, evidence, over_part
from sba.report.ingredients import ingredients
from sba.studies import paper
from sba.studies.contenders import MAIN, NAMED
from sba.studies.paper_runs import ROWS

PICTURE = pathlib.Path("book", "_assets", "answer.svg")
"""Where the README has it."""
DIGITS = ("all together", "dropout points", "Gaussian points")
"""The ingredients that are drawn, from the study of ablations on a hundred digits."""


def answer_rows(records: Iterable[Record]) -> list[Row]:
    """List the differences from plain training: full runs on CIFAR-10, tuned contenders on little of it, and the ingredients on
    a hundred digits."""
    records = list(records)
    known = evidence(records)
    index, rows = indexed(known), []
    for one in averages(known):
        part, found = over_part(index, one.run) or ("", None)
        if found and one.run.dataset == "cifar10" and not one.reduced:
            over = "" if part == "erm" else f" − {title(part)}"
            label = f"{title(one.run.network)}: {title(one.column)}{over} (n={found.n})"
            ours = one.column == "sba" and one.run.network == ROWS[0][1]
            claim = paper.stated_difference(*ROWS[0]) if ours else None
            rows.append(Row(label, found, style.colour(one.column), found.n >= MINIMUM, claim))
    rows += [
        Row(f"{MAIN.name}: {one.name} (n={one.n})", one.found, style.colour(NAMED[one.name].base["method"]), True)
        for one in when.compared(records, MAIN)
        if NAMED[one.name].core and one.n == one.wanted
    ]
    parts = {one.name: one.error for one in ingredients(records)}
    for name in (n for n in DIGITS if n in parts):
        said = "SBA η=1" if name == DIGITS[0] else f"{name} alone"
        found = parts[name]
        rows.append(Row(f"100 digits: {said} (n={found.n})", found, style.colour("sba"), found.n >= MINIMUM))
    return rows


def answer(records: Iterable[Record]) -> Drawn:
    """Draw the figure; its text for those who cannot see it has every number."""
    rows = answer_rows(records)
    figure, axes = plt.subplots(figsize=(5.6, 0.9 + 0.34 * len(rows)))
    forest(axes, rows)
    axes.set(xlabel="error minus plain, points")
    told = "; ".join(f"{row.label}: {row.found}" for row in rows)
    stars = "; ".join(signed(row.claim) for row in rows if row.claim is not None)
    what = "Differences of the test error from plain training, in points with 95 % intervals"
    return Drawn(figure, f"{what}. {told}. The paper claims {stars or 'nothing'}.", "")


def write_picture(records: Iterable[Record], root: pathlib.Path) -> None:
    """Write the figure for the README in ``root``, with its text inside."""
    style.use()
    drawn = answer(records)
    (root / PICTURE).write_bytes(style.svg(drawn.figure, drawn.alt))
    plt.close(drawn.figure)


def picture_markdown(records: Iterable[Record]) -> str:
    """Write the line that shows the figure in the README."""
    drawn = answer(records)
    plt.close(drawn.figure)
    return f"![{drawn.alt}]({PICTURE.as_posix()})"
