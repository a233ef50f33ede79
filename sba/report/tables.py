"""From records to the tables of the book and the README. What was not run reads "—"; reduced runs never stand among full ones."""

import pathlib
import re
import statistics
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass
from typing import Any

from sba.core.errors import ResultsError
from sba.methods import METHODS
from sba.records import names
from sba.records.names import title
from sba.records.stats import interval
from sba.studies.paper import COLUMNS, TABLE1, reported
from sba.training.run import from_settings, make_run

NOT_RUN = "—"
BEGIN, END = "<!-- results:begin (generated: python -m sba table --readme README.md) -->", "<!-- results:end -->"


@dataclass(frozen=True)
class Cell:
    """What the records say of one data set, network, column and number of epochs.

    Attributes:
        mean: of the runs' errors in per cent; an error is the median over the last five epochs.
        half: half the width of the 95 % interval of the mean (Student's t), None for one run.
        n: number of runs, of different seeds.
        ids: the records.
        seconds: name of a device → median time of an epoch's training steps there.
    """

    mean: float
    half: float | None
    n: int
    ids: tuple[str, ...]
    seconds: dict[str, float]

    def __str__(self) -> str:
        spread = "" if self.half is None else f" ± {self.half:.2f}"
        return f"{self.mean:.2f}{spread} (n={self.n})"


def column(record: dict[str, Any]) -> str:
    """Name the column of Table 1 that a training record belongs to, as :func:`sba.records.names.column` does."""
    settings = record["settings"]
    return names.column(settings["method"]["name"], settings["cutout"] > 0, settings.get("views", 1))


def variant(record: dict[str, Any]) -> tuple[Any, ...]:
    """Return everything that decides a training record but its seed: records of equal variants may be averaged."""
    # read back, so that fields which are newer than a record have their defaults
    whole = from_settings(record["settings"]).settings()
    settings = {k: v for k, v in whole.items() if k not in ("seed", "method", "vote")}
    method = whole["method"]
    flat = {**settings, **{f"method.{k}": v for k, v in method.items()}, "fingerprint": record["fingerprint"]}
    return tuple(sorted((k, str(v)) for k, v in flat.items()))


def deviations(settings: dict[str, Any]) -> list[str]:
    """List in what a run differs from its network's regime, as "lr=0.5"; epochs, Cutout and precision are not counted."""
    usual = make_run(settings["dataset"], settings["network"], epochs=settings["epochs"]).settings()
    free = {"method", "seed", "cutout", "amp", "channels_last", "holdout", "vote", "views", "chunked", "adapt_norm"}
    own = from_settings(settings).settings()
    return [f"{k}={own[k]}" for k in usual if k not in free and own[k] != usual[k]]


def cell(records: Sequence[dict[str, Any]]) -> Cell | None:
    """Average records that differ in nothing but the seed; None for no records.

    Raises:
        ResultsError: they differ in more than the seed, or a seed stands twice.
    """
    if not records:
        return None
    if len({variant(r) for r in records}) > 1 or len({r["settings"]["seed"] for r in records}) < len(records):
        raise ResultsError(
            f"records: {', '.join(r['id'] for r in records)} are not one run at different seeds; choose among them"
        )
    mean, half = interval([r["error"] for r in records])
    return Cell(mean, half, len(records), tuple(r["id"] for r in records), seconds_by_device(records))


def seconds_by_device(records: Iterable[dict[str, Any]]) -> dict[str, float]:
    """Return the median time of an epoch's training steps on each device by its name: devices are not to be averaged."""
    found: dict[str, list[float]] = {}
    for record in records:
        found.setdefault(record["device_name"], []).append(record["seconds_per_epoch"])
    return {name: statistics.median(values) for name, values in found.items()}


def evidence(records: Iterable[dict[str, Any]]) -> list[dict[str, Any]]:
    """Keep the training records that were evaluated on a test set and belong to no study of their own."""
    return [r for r in records if r.get("kind") == "train" and r["evaluated_on"] == "test" and not r.get("study")]


def groups(records: Iterable[dict[str, Any]]) -> dict[tuple[Any, ...], list[dict[str, Any]]]:
    """Group records by variant; of several of one variant and seed the first counts."""
    found: dict[tuple[Any, ...], dict[int, dict[str, Any]]] = {}
    for record in records:
        found.setdefault(variant(record), {}).setdefault(record["settings"]["seed"], record)
    return {key: list(seeds.values()) for key, seeds in found.items()}


def table1(records: Iterable[dict[str, Any]]) -> list[dict[str, Any]]:
    """Put our full-regime runs beside Table 1 of the paper.

    Returns:
        A row for each data set and network of the table: their names, and for each of the paper's columns and "cutout+sba" a
        dictionary with ``paper`` (:class:`sba.studies.paper.Reported` or None) and ``ours`` (a list with one pair for each variant:
        its hyper-parameters as text, and its :class:`Cell`). Runs that deviate from the regime are left out.
    """
    full = [r for r in evidence(records) if not r["reduced"] and not deviations(r["settings"])]
    rows = []
    for dataset, network in dict.fromkeys((r.dataset, r.network) for r in TABLE1):
        row: dict[str, Any] = {"dataset": dataset, "network": network}
        for name in (*COLUMNS, "cutout+sba"):
            mine = [
                r
                for r in full
                if (r["settings"]["dataset"], r["settings"]["network"], column(r)) == (dataset, network, name)
            ]
            row[name] = {
                "paper": reported(dataset, network, name),
                "ours": [(hyperparameters(g[0]["settings"]), cell(g)) for g in groups(mine).values()],
            }
        rows.append(row)
    return rows


def table1_markdown(records: Iterable[dict[str, Any]], link: Callable[[str], str] = "`{}`".format) -> str:
    """Write Table 1 as Markdown: the paper's error and ours under it, in per cent; "—" where nothing was run.

    Args:
        records: as :func:`sba.records.file.read` reads them.
        link: how the identifier of a record is written behind the number that came from it.
    """
    columns = (*COLUMNS, "cutout+sba")
    lines = [
        "| | | " + " | ".join(title(n).replace(" + ", "<br>+ ") for n in columns) + " |",
        "|---|---|" + "---:|" * len(columns),
    ]
    for row in table1(records):
        theirs = [f"{row[n]['paper'].error:.2f}" if row[n]["paper"] else NOT_RUN for n in columns]
        ours = ["<br>".join(stacked(settings, c, link) for settings, c in row[n]["ours"]) or NOT_RUN for n in columns]
        lines.append(f"| {title(row['dataset'])}<br>{title(row['network'])} | paper | " + " | ".join(theirs) + " |")
        lines.append("| | ours | " + " | ".join(ours) + " |")
    return "\n".join(lines)


def stacked(settings: str, of: Cell, link: Callable[[str], str]) -> str:
    """Write a cell, settings and records one below the other: Table 1 has to fit beside the book's two menus."""
    return "<br>".join([*re.split(r" (?=[±(])", str(of)), *filter(None, settings.split(", ")), *map(link, of.ids)])


def summary(records: Iterable[dict[str, Any]], reduced: bool | None = None) -> list[dict[str, Any]]:
    """List every measured variant, averaged over its seeds, full regimes first.

    Args:
        records: as :func:`sba.records.file.read` reads them.
        reduced: keep only reduced (or only full) runs; None for both.

    Returns:
        Dictionaries with ``dataset``, ``network``, ``column``, ``epochs``, ``full_epochs``, ``reduced``, ``settings`` and ``cell``.
    """
    rows = []
    for members in groups(r for r in evidence(records) if reduced is None or r["reduced"] == reduced).values():
        settings = members[0]["settings"]
        rows.append(
            {
                "dataset": settings["dataset"],
                "network": settings["network"],
                "column": column(members[0]),
                "epochs": settings["epochs"],
                "full_epochs": settings["full_epochs"],
                "reduced": members[0]["reduced"],
                "settings": settings,
                "cell": cell(members),
            }
        )
    order = ["erm", "cutout", "cutout+ba", "sba", "cutout+sba"]
    rank = {name: i for i, name in enumerate(order)}
    return sorted(
        rows, key=lambda r: (r["reduced"], r["dataset"], r["network"], rank.get(r["column"], 99), r["epochs"])
    )


def hyperparameters(settings: dict[str, Any]) -> str:
    """Write the hyper-parameters of a method that decide what it is: η, ω and M where it has them, and what is not the default."""
    symbols = {"eta": "η", "omega": "ω", "folds": "M"}
    method = from_settings(settings).method.settings()
    usual = METHODS[method["name"]]().settings()
    own = [f"{s}={method[name]:.4g}" for name, s in symbols.items() if name in method]
    if settings.get("views", 1) > 1:
        how = [k.replace("_", " ") for k in ("chunked", "adapt_norm") if settings.get(k)]
        own.append(", ".join([f"{settings['views']} views", *how]))
    return ", ".join(own + [f"{k}={v}" for k, v in method.items() if k not in symbols and v != usual[k]])


def seconds_to(record: dict[str, Any], error: float | None = None, margin: float = 0.2) -> float | None:
    """Return the training time until the error first fell to a threshold (open point 24).

    Args:
        record: of a training run.
        error: the threshold in per cent; by default the run's own error plus ``margin``.
        margin: in percentage points.

    Returns:
        Seconds of training steps, evaluation left out; None where the run never got there.
    """
    threshold = record["error"] + margin if error is None else error
    passed = 0.0
    for epoch in record["epochs"]:
        passed += epoch["seconds"]
        if epoch["error"] <= threshold:
            return passed
    return None


def readme_table(records: Iterable[dict[str, Any]]) -> str:
    """Write the README's table: what was measured so far beside the paper's number, with epochs, interval and records."""
    lines = [
        "| Data | Network | Method | Epochs | Test error, % | Paper, % | s per epoch | Records |",
        "|---|---|---|---|---:|---:|---:|---|",
    ]
    for row in summary(records):
        paper = reported(row["dataset"], row["network"], row["column"])
        # A number of the paper beside a shortened run would invite a comparison that means nothing.
        apart = row["reduced"] or deviations(row["settings"])
        theirs = NOT_RUN if apart or paper is None else f"{paper.error:.2f}"
        settings = row["settings"]
        label = " ".join(filter(None, [title(row["column"]), hyperparameters(settings), *deviations(settings)]))
        epochs = f"{row['epochs']} of {row['full_epochs']} (reduced)" if row["reduced"] else str(row["epochs"])
        ids = " ".join(f"`{i}`" for i in row["cell"].ids)
        cells = [title(row["dataset"]), title(row["network"]), label, epochs]
        seconds = ", ".join(f"{value:.1f} ({device})" for device, value in row["cell"].seconds.items())
        lines.append("| " + " | ".join([*cells, str(row["cell"]), theirs, seconds, ids]) + " |")
    return "\n".join(lines)


def insert_table(path: pathlib.Path, table: str, check: bool = False) -> None:
    """Put a generated table between the markers of a Markdown file.

    Args:
        path: the file.
        table: Markdown.
        check: write nothing, but complain where the file's table is another one.

    Raises:
        ResultsError: the file cannot be read or written, the markers are missing, or ``check`` found a difference.
    """
    try:
        text = path.read_text(encoding="utf-8")
    except (OSError, UnicodeDecodeError) as error:
        raise ResultsError(f"readme: {path} cannot be read ({error}); give another --readme") from error
    if text.count(BEGIN) != 1 or text.count(END) != 1:
        raise ResultsError(f"readme: {path} must hold the lines {BEGIN!r} and {END!r} once each; add them")
    before, rest = text.split(BEGIN)
    _, after = rest.split(END)
    new = f"{before}{BEGIN}\n\n{table}\n\n{END}{after}"
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
