"""Measured settings and single records as tables of a page, each with the command that repeats it."""

from collections.abc import Iterable

from sba.records.commands import command
from sba.records.names import title
from sba.records.schema import BenchRecord, Record, TrainRecord
from sba.records.stats import interval
from sba.report.averages import Average, averages, evidence, over_part, written
from sba.report.html import NOT_RUN, Across, link, table, target


def settings_html(records: Iterable[Record], reduced: bool = False) -> str:
    """List measured settings, each over its seeds, under the network and data they belong to.

    Args:
        records: as :func:`sba.records.file.read` reads them; those of a study of their own and on held-out images are left out.
        reduced: list shortened runs instead of full ones.
    """
    found = averages(r for r in evidence(records) if r.reduced == reduced)
    rows: list[list[str] | Across] = []
    for one in found:
        heading = Across(f"{title(one.run.network)} on {title(one.run.dataset)}", heading=True)
        if heading not in rows:
            rows.append(heading)
        last, part = interval([r.error_last for r in one.records]), over_part(one, found)
        rows += [
            [
                f'<span class="narrow">{one.label}</span>',
                str(one),
                written(*last),
                f"{part[1]} minus {title(part[0])}" if part else NOT_RUN,
            ],
            Across(made(one)),
        ]
    return table(("Method", "Error, %", "Last epoch, %", "Difference"), rows)


def made(one: Average) -> str:
    """Say on what a setting's runs were made, and how to repeat the first of them."""
    seeds, run = one.by_seed, one.run
    told = ", ".join(f"seed {seed} {link(seeds[seed].id)}" for seed in sorted(seeds))
    length = f"{run.epochs} of {run.full_epochs} epochs" if run.epochs < run.full_epochs else f"{run.epochs} epochs"
    machines = sorted({f"{r.device_name}, {versions(r)}, source {r.source}" for r in one.records})
    return f"<code>{command(seeds[min(seeds)])}</code><br>{told}; {length}, {seconds(one)}; {'; '.join(machines)}"


def versions(record: TrainRecord) -> str:
    """List the libraries that a run was made with."""
    return ", ".join(f"{name} {version}" for name, version in record.versions.items())


def seconds(one: Average) -> str:
    """Write the median time of an epoch's training steps on each device, and how many runs shared it."""
    return ", ".join(f"{median:.2f} s per epoch on {name} ({one.beside(name)})" for name, median in one.seconds.items())


def records_html(records: Iterable[Record]) -> str:
    """List records: identifier, result, how each was made, and for a run the command that repeats it."""
    rows: list[list[str] | Across] = []
    for r in records:
        if isinstance(r, TrainRecord):
            run = r.run
            rows.append(
                [
                    target(r.id),
                    f"{run.dataset}, {run.network}, {run.method.name}",
                    str(run.seed),
                    f"{r.error:.2f}",
                    f"{r.error_last:.2f}",
                    f"{run.epochs} of {run.full_epochs}",
                ]
            )
            machine = f"{r.date[:10]}; {r.device_name}, {r.threads} thread(s)"
            source = f"source {r.source}; data {r.fingerprint}; {r.file}, {r.line}"
            rows.append(Across(f"<code>{command(r)}</code><br>{machine}; {versions(r)}; {source}"))
        elif isinstance(r, BenchRecord):
            rows.append([target(r.id), f'<span class="wrapped">{r.name}</span>', *[NOT_RUN] * 4])
            ratio = f"a benchmark: {r.value:.3f} (median of {r.rounds} rounds from {r.low:.3f} to {r.high:.3f})"
            rows.append(Across(f"{ratio}; {r.date[:10]}; {r.device_name}, {r.threads} thread(s); {r.file}, {r.line}"))
    return table(("Record", "What", "Seed", "Error, %", "Last, %", "Epochs"), rows)
