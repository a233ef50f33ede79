"""Every record with how it was made, for the one page that lists them all."""

from collections.abc import Iterable, Sequence
from html import escape

from sba.records.commands import command
from sba.records.names import title
from sba.records.schema import BenchRecord, Record, RunRecord, TrainRecord
from sba.report.averages import labelled, neighbours, rank
from sba.report.html import Across, table, target
from sba.studies.catalogue import STUDIES

TABLES, SHORT, BENCH = "The tables, full runs", "The tables, shortened runs", "Benchmarks"


def provenance_html(records: Iterable[Record]) -> str:
    """List all records in folded tables, one for each study and one for benchmarks.

    A row has the runs that differ in nothing but the seed and were made alike. Below it stand the command that repeats the
    first, machine, versions, code, data, and file.
    """
    records = list(records)
    parts: dict[str, list[RunRecord]] = {name: [] for name in (TABLES, SHORT, *STUDIES)}
    for r in (r for r in records if isinstance(r, RunRecord)):
        parts.setdefault(r.study or (SHORT if r.reduced else TABLES), []).append(r)
    found = [
        folded(name, len(part), runs_html(part, f"The runs of {name} and their records."))
        for name, part in parts.items()
        if part
    ]
    if timed := [r for r in records if isinstance(r, BenchRecord)]:
        found.append(folded(BENCH, len(timed), bench_html(timed)))
    return "".join(found)


def folded(name: str, count: int, html: str) -> str:
    """Fold a table behind its name, what its study measures, and how many records it has."""
    about = f": {escape(STUDIES[name].about)}" if name in STUDIES else ""
    return f'<details class="records"><summary><b>{escape(name)}</b>{about} ({count} records)</summary>{html}</details>'


def runs_html(records: Sequence[RunRecord], caption: str = "") -> str:
    """List runs under their network and data: method, number of epochs, and the error and the record of each seed."""
    alike: dict[tuple[str, str], list[RunRecord]] = {}
    for r in sorted(records, key=lambda r: (r.run.dataset, r.run.network, *rank(r.run), r.run.epochs, r.seed)):
        alike.setdefault((r.setting, how(r)), []).append(r)
    rows: list[list[str] | Across] = []
    for group in alike.values():
        first = group[0]
        heading = Across(f"{title(first.run.network)} on {title(first.run.dataset)}", heading=True)
        if heading not in rows:
            rows.append(heading)
        rows.append(
            [
                f'<span class="wrapped">{escape(labelled(first.run))}</span>',
                f"{first.run.epochs} of {first.run.full_epochs}" if first.reduced else str(first.run.epochs),
                "<br>".join(f"seed {r.seed}: {error(r)} {target(r.id)}" for r in group),
            ]
        )
        rows.append(Across(f"<code>{command(first)}</code><br>{how(first)}; {places(group)}"))
    return table(("Method", "Epochs", "Error, % (last epoch)"), rows, caption)


def error(record: RunRecord) -> str:
    """Write the error of a run, and that of its last epoch."""
    return f"{record.error:.2f} ({record.error_last:.2f})" if isinstance(record, TrainRecord) else "diverged"


def how(record: RunRecord) -> str:
    """Say on which machine, with what and on which data a run was made."""
    threads = f", {record.threads} thread(s)" if record.device == "cpu" else ""
    held = " held-out images" if record.evaluated_on == "holdout" else ""
    versions = ", ".join(f"{name} {version}" for name, version in record.versions.items())
    machine = f"{record.device_name}{threads}, {neighbours([record.jobs])}"
    return f"{machine}; {versions}; source {record.source}; data {record.fingerprint}{held}"


def places(group: Sequence[RunRecord | BenchRecord]) -> str:
    """Say when records were made and in which lines of which file they stand."""
    days = sorted({r.date[:10] for r in group})
    lines: dict[str, list[int]] = {}
    for r in group:
        lines.setdefault(r.file, []).append(r.line)
    where = "; ".join(f"{file}, {', '.join(map(str, sorted(own)))}" for file, own in lines.items())
    return f"{' to '.join(dict.fromkeys([days[0], days[-1]]))}; {where}"


def bench_html(records: Sequence[BenchRecord]) -> str:
    """List benchmarks: what was compared, the median ratio, and its range over rounds."""
    rows: list[list[str] | Across] = []
    for r in records:
        named = f'<span class="wrapped">{escape(r.name)}</span>'
        rows.append([target(r.id), named, f"{r.value:.3f}", f"{r.low:.3f} … {r.high:.3f}", str(r.rounds)])
        rows.append(Across(f"{r.device_name}, {r.threads} thread(s); {places([r])}"))
    columns = ("Record", "Compared", "Ratio", "Smallest … largest", "Rounds")
    return table(columns, rows, "Benchmarks: the median ratio of two times over rounds in turns, with its range.")
