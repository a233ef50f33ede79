"""Measured settings as tables for a page: error, difference from plain training at equal seeds, cost, and how to repeat each."""

from collections.abc import Iterable
from typing import Any

from sba.records.commands import command, link
from sba.records.compare import paired
from sba.records.names import title
from sba.report.tables import (
    NOT_RUN,
    cell,
    column,
    deviations,
    evidence,
    groups,
    hyperparameters,
    interval,
    seconds_by_device,
)
from sba.training.run import from_settings

FREE = ("method", "seed", "cutout", "views", "chunked", "adapt_norm", "vote")
"""Fields in which a setting may differ from the plain training that it is compared with."""
HEAD = ("Method", "Error, %", "Last epoch, %", "Minus baseline")


def by_seed(members: Iterable[dict[str, Any]]) -> dict[int, dict[str, Any]]:
    """Index records of one setting by their seeds."""
    return {r["settings"]["seed"]: r for r in members}


def baseline_of(members: list[dict[str, Any]], others: Iterable[list[dict[str, Any]]]) -> dict[int, dict[str, Any]]:
    """Find plain training in the same regime among groups of records: the same run but for its method, Cutout and views."""

    def regime(one: list[dict[str, Any]]) -> tuple[Any, ...]:
        # read back, so that fields which are newer than a record have their defaults
        whole = from_settings(one[0]["settings"]).settings()
        settings = {k: v for k, v in whole.items() if k not in FREE}
        return (*sorted((k, str(v)) for k, v in settings.items()), one[0]["fingerprint"])

    return next((by_seed(o) for o in others if column(o[0]) == "erm" and regime(o) == regime(members)), {})


def spread(values: list[float]) -> str:
    """Write a mean with its 95 % interval, where there is one."""
    mean, half = interval(values)
    return f"{mean:.2f}" + ("" if half is None else f" ± {half:.2f}")


def narrow(text: str) -> str:
    """Let a cell's text break into lines."""
    return f'<span class="narrow">{text}</span>'


def seconds(members: list[dict[str, Any]]) -> str:
    """Write the median time of an epoch's training steps on each device, and how many runs shared it where a record says so."""
    found = []
    for device, median in seconds_by_device(members).items():
        shared = max(r.get("jobs", 1) for r in members if r["device_name"] == device)
        beside = f" beside {shared - 1} others" if shared > 1 else ""
        found.append(f"{median:.2f} s per epoch{beside} on {device}")
    return ", ".join(found)


def where_and_how(members: list[dict[str, Any]]) -> str:
    """Say on what a setting's runs were made, and how to repeat the first of them."""
    made = sorted(
        {
            f"{r['device_name']}, "
            + ", ".join(f"{k} {v}" for k, v in r["versions"].items())
            + f", source {r['source']}"
            for r in members
        }
    )
    seeds = by_seed(members)
    runs = ", ".join(f"seed {seed} {link(seeds[seed]['id'])}" for seed in sorted(seeds))
    epochs, whole = (members[0]["settings"][name] for name in ("epochs", "full_epochs"))
    length = f"{epochs} of {whole} epochs" if epochs < whole else f"{epochs} epochs"
    return f"<code>{command(seeds[min(seeds)])}</code><br>{runs}; {length}, {seconds(members)}; {'; '.join(made)}"


def settings_html(records: Iterable[dict[str, Any]], reduced: bool = False) -> str:
    """List measured settings as an HTML table, each over its seeds, with the command that repeats it under it.

    Args:
        records: as :func:`sba.records.file.read` reads them; those of a study of their own and on held-out images are
            left out.
        reduced: list shortened runs instead of full ones.
    """
    found = [g for g in groups(evidence(records)).values() if g[0]["reduced"] == reduced]
    order = {name: i for i, name in enumerate(("erm", "cutout", "sba", "cutout+sba", "implicit-sba"))}
    found.sort(
        key=lambda g: (*(g[0]["settings"][k] for k in ("dataset", "network", "epochs")), order.get(column(g[0]), 99))
    )
    rows, above = [], ""
    for members in found:
        s = members[0]["settings"]
        place = f"{title(s['network'])} on {title(s['dataset'])}"
        if place != above:
            rows.append(f'<tr><th scope="rowgroup" colspan="{len(HEAD)}">{place}</th></tr>')
            above = place
        difference = None if column(members[0]) == "erm" else paired(by_seed(members), baseline_of(members, found))
        cells = [
            narrow(" ".join(filter(None, [title(column(members[0])), hyperparameters(s), *deviations(s)]))),
            str(cell(members)),
            spread([r["error_last"] for r in members]),
            NOT_RUN if difference is None else str(difference),
        ]
        rows.append(f"<tr>{''.join(f'<td>{c}</td>' for c in cells)}</tr>")
        rows.append(f'<tr><td colspan="{len(HEAD)}" class="provenance">{where_and_how(members)}</td></tr>')
    header = "".join(f'<th scope="col">{h}</th>' for h in HEAD)
    return f'<div class="table-box"><table><thead><tr>{header}</tr></thead><tbody>{"".join(rows)}</tbody></table></div>'
