"""Table 1 with our numbers under the paper's, and the README's table. What was not run reads "—"."""

import pathlib
import re
from collections.abc import Iterable
from typing import Any, NamedTuple

from sba.core.errors import ResultsError
from sba.records.names import column, title
from sba.records.schema import Record, setting_of
from sba.report.averages import Average, averages, deviations, evidence, labelled, settings
from sba.report.html import NOT_RUN, Across
from sba.report.html import table as html_table
from sba.report.tenths import PRECISION, SEEDS, SHARES, SMALL_SHARES, ten_classes, tenths
from sba.studies.paper import COLUMNS, TABLE1, Reported, reported
from sba.studies.paper_runs import ROWS, SMALL_SEEDS, TABLE1_IMAGENET, imagenette
from sba.studies.paper_runs import TABLE1 as TABLE1_STUDY
from sba.studies.planned import scaled
from sba.training.run import make_run

SHOWN = (*COLUMNS, "cutout+sba")
"""The columns of Table 1, and one that the paper lacks."""
SMALLER = ("a tenth of the<br>regime or less", "ten of the<br>classes")
"""Names of the line of smaller runs, on CIFAR and on ImageNet."""
COSTLY = "cutout+ba"
"""The column whose runs cost many times a plain one: M copies of each image pass through the whole network."""
WHOLE = {"imagenette": "imagenet"}
"""Data set → the one that it is a part of."""
BEGIN, END = "<!-- {}:begin (generated: python -m sba table --readme README.md) -->", "<!-- {}:end -->"


class Entry(NamedTuple):
    """What stands at a row and a column of Table 1: the paper's number, ours, one for each setting of the method, and what was
    measured in a tenth of the regime or less, or on ten of the classes."""

    paper: Reported | None
    ours: list[Average]
    smaller: list[Average]


def table1(records: Iterable[Record]) -> dict[tuple[str, str], dict[str, Entry]]:
    """Put our full-regime runs beside Table 1 of the paper, and smaller ones apart: data set and network → column → entry.

    Runs that depart from the regime are left out.
    """
    records = list(records)
    full = averages(r for r in evidence(records) if not r.reduced and not deviations(r.run))
    smaller = [*tenths(records), *ten_classes(records)]

    def at(where: tuple[str, ...], found: list[Average]) -> list[Average]:
        return [a for a in found if (WHOLE.get(a.run.dataset, a.run.dataset), a.run.network, a.column) == where]

    rows = dict.fromkeys((r.dataset, r.network) for r in TABLE1)
    return {
        row: {
            name: Entry(reported(*row, name), *(at((*row, name), found) for found in (full, smaller))) for name in SHOWN
        }
        for row in rows
    }


def table1_markdown(records: Iterable[Record]) -> str:
    """Write Table 1 as Markdown, in per cent: the paper's error, ours under it, and in italics what smaller runs gave, each
    number with the records that it came from."""
    heads = " | ".join(title(n).replace(" + ", "<br>+ ") for n in SHOWN)
    lines = [f"| | | {heads} |", "|---|---|" + "---:|" * len(SHOWN)]
    for (dataset, network), row in table1(records).items():
        theirs = [f"{entry.paper.error:.2f}" if entry.paper else NOT_RUN for entry in row.values()]
        ours = ["<br>".join(stacked(one) for one in entry.ours) or NOT_RUN for entry in row.values()]
        lines.append(f"| {title(dataset)}<br>{title(network)} | paper | " + " | ".join(theirs) + " |")
        lines.append("| | ours | " + " | ".join(ours) + " |")
        small = [[stacked(one, f"{one.run.epochs} epochs") for one in entry.smaller] for entry in row.values()]
        cells = [f"<em>{'<br>'.join(parts)}</em>" if parts else NOT_RUN for parts in small]
        lines.append(f"| | <em>{SMALLER[dataset == 'imagenet']}</em> | " + " | ".join(cells) + " |")
    return "\n".join(lines)


def stacked(one: Average, *more: str) -> str:
    """Write number, settings and records one below the other: Table 1 has to fit beside the book's two menus."""
    precision = [] if one.run.amp == "none" else [one.run.amp]
    parts = [*re.split(r" (?=[±(])", str(one)), *filter(None, settings(one.run).split(", ")), *more, *precision]
    return "<br>".join([*parts, *map("`{}`".format, one.ids)])


class Regime(NamedTuple):
    """How a row of Table 1 can be filled."""

    name: str  #: for the table
    full: bool  #: whether its runs are the row's own, or smaller ones
    planned: tuple[dict[str, Any], ...]  #: parameters of its settings
    seeds: int  #: that the design asks for, of each
    command: str  #: that makes them, but for its methods

    def done(self, entry: Entry, name: str) -> int:
        """Count the runs that a cell has in this regime; of a column with several settings the least."""
        there = {setting_of(a.run): a.n for a in (entry.ours if self.full else entry.smaller)}
        wanted = (run for run in (make_run(**one) for one in self.planned) if column(run) == name)
        return min(there.get(setting_of(run), 0) for run in wanted)

    def asks(self, name: str) -> bool:
        """Whether it has a setting of a column."""
        return any(column(make_run(**one)) == name for one in self.planned)


def regimes(dataset: str, network: str) -> list[Regime]:
    """List the full regime of a row, and the smaller ones."""
    whole = dataset == "imagenet"
    study = TABLE1_IMAGENET if whole else TABLE1_STUDY
    # the row that has float32 runs goes on with them
    amp = "none" if whole or (dataset, network) == ROWS[0] else PRECISION
    precision, at = "" if amp == "none" else f" --amp {amp}", f"{dataset}/{network}"
    own = [dict(s.parameters) for s in study.settings() if s.where == at]
    full = tuple(one | {"amp": amp} for one in own)
    found = [Regime("full regime", True, full, study.seeds, f"{study.name} --where {at}{precision} --device cuda")]
    for share in (SMALL_SHARES if whole else SHARES)[network]:
        if whole:
            small = [dict(s.parameters) for s in imagenette() if s.run.network == network]
            seeds, name, command = (
                1 if "seed" in small[0] else SMALL_SEEDS,
                "ten of the classes, ",
                f"imagenette --where imagenette/{network}",
            )
        else:
            small = [one | {"amp": PRECISION} for one in own]
            seeds, name, command = SEEDS, "", f"{study.name} --where {at} --amp {PRECISION} --seeds {SEEDS}"
        planned = tuple(scaled(one, share) for one in small)
        scale = "" if share == 1 else f" --epochs-scale {share:g}"
        found.append(Regime(f"{name}{make_run(**planned[0]).epochs} epochs", False, planned, seeds, command + scale))
    return found


def missing_html(records: Iterable[Record]) -> str:
    """List the cells of Table 1 that lack runs, with how many there are of those that the design asks for, and the commands that
    make them. What costs many times a plain run has a line of its own."""
    rows: list[list[str] | Across] = []
    for (dataset, network), cells in table1(records).items():
        for regime in regimes(dataset, network):
            asked = [name for name in SHOWN if regime.asks(name)]
            done = {name: regime.done(cells[name], name) for name in asked}
            lacking = [name for name, n in done.items() if n < regime.seeds]
            for names in ([n for n in lacking if n != COSTLY], [n for n in lacking if n == COSTLY]):
                if names:
                    told = ", ".join(f"{title(n)} ({done[n]} of {regime.seeds})" for n in names)
                    where = f"{title(dataset)}, {title(network)}"
                    command = f"python -m sba sweep {regime.command} --methods {','.join(names)}"
                    rows += [
                        [where, regime.name, f'<span class="wrapped">{told}</span>'],
                        Across(f"<code>{command}</code>"),
                    ]
    return html_table(("Row", "Regime", "Missing, runs there are"), rows)


def readme_table(records: Iterable[Record]) -> str:
    """Write the README's table: what was measured in full regimes beside the paper's number, with interval and records."""
    lines = [
        "| Data | Network | Method | Test error, % | Paper, % | s per epoch | Records |",
        "|---|---|---|---:|---:|---:|---|",
    ]
    for one in averages(r for r in evidence(records) if not r.reduced):
        paper = None if deviations(one.run) else reported(one.run.dataset, one.run.network, one.column)
        parts = [
            title(one.run.dataset),
            title(one.run.network),
            labelled(one.run),
            str(one),
            f"{paper.error:.2f}" if paper else NOT_RUN,
            ", ".join(f"{value:.1f} ({device}, {one.beside(device)})" for device, value in one.seconds.items()),
            " ".join(f"`{i}`" for i in one.ids),
        ]
        lines.append("| " + " | ".join(parts) + " |")
    return "\n".join(lines)


def insert_table(path: pathlib.Path, table: str, check: bool = False, name: str = "results") -> None:
    """Put a generated table between the markers of its name in a Markdown file, or, with ``check``, write nothing; raise
    :class:`ResultsError` if the file cannot be read or written, the markers are missing, or ``check`` found another table."""
    try:
        text = path.read_text(encoding="utf-8")
    except (OSError, UnicodeDecodeError) as error:
        raise ResultsError(f"readme: {path} cannot be read ({error}); give another --readme") from error
    begin, end = BEGIN.format(name), END.format(name)
    if text.count(begin) != 1 or text.count(end) != 1:
        raise ResultsError(f"readme: {path} must hold the lines {begin!r} and {end!r} once each; add them")
    before, rest = text.split(begin)
    _, after = rest.split(end)
    new = f"{before}{begin}\n\n{table}\n\n{end}{after}"
    if check and new != text:
        raise ResultsError(
            f"readme: the table of {path} is not what the records give; run python -m sba table --readme {path}"
        )
    if not check and new != text:
        partial = path.with_name(f".{path.name}.partial")
        try:
            partial.write_text(new, encoding="utf-8")
            partial.replace(path)
        except OSError as error:
            partial.unlink(missing_ok=True)
            raise ResultsError(f"readme: {path} cannot be written to ({error}); give another --readme") from error
