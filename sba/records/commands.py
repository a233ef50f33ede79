"""From a number of the book back to its record, and to the command that repeats it."""

import shlex
from collections.abc import Iterable
from typing import Any

from sba.core.hyper import definitions
from sba.training.run import Run, from_settings, make_run


def command(record: dict[str, Any]) -> str:
    """Write the command line that repeats a training record."""
    # the order of floating-point sums on a CPU depends on the threads
    threads = record["threads"] if record["device"] == "cpu" else None
    told = command_of(from_settings(record["settings"]), record["device"], threads)
    return f"{told} --compile" if record.get("compiled") else told


def command_of(run: Run, device: str = "cpu", threads: int | None = None) -> str:
    """Write the command line of a run: data set, network, method, and what differs from the defaults."""
    default = make_run(run.dataset, run.network, run.method.name, epochs=run.epochs)
    parts = ["--dataset", run.dataset, "--network", run.network, "--method", run.method.name, "--seed", str(run.seed)]
    if run.epochs != run.full_epochs:
        parts += ["--epochs", str(run.epochs)]
    for asked, usual in ((run, default), (run.method, default.method)):
        for name in definitions(type(asked)):
            value = getattr(asked, name)
            if name in ("dataset", "network", "method", "seed", "epochs", "full_epochs") or value == getattr(
                usual, name
            ):
                continue
            flag = name.replace("_", "-")
            if isinstance(value, bool):
                parts.append(f"--{flag}" if value else f"--no-{flag}")
            else:
                parts += [f"--{flag}", ",".join(map(str, value)) if isinstance(value, tuple) else str(value)]
    machine = ["--device", device, *(["--threads", str(threads)] if threads else [])]
    return shlex.join(["python", "-m", "sba", "train", *parts, *machine])


def anchor(identifier: str) -> str:
    """Name the place of a record on the page that lists them."""
    return f"record-{identifier}"


def link(identifier: str) -> str:
    """Link to a record from the page that lists them, as HTML."""
    return f'<a href="#{anchor(identifier)}"><code>{identifier}</code></a>'


def records_html(records: Iterable[dict[str, Any]]) -> str:
    """List training records as an HTML table: identifier, result, how and where it was made, and the command that repeats it."""
    head = ("Record", "What", "Seed", "Error, %", "Last, %", "Epochs")
    rows = []
    for r in records:
        if r["kind"] != "train":
            continue
        s = r["settings"]
        versions = ", ".join(f"{k} {v}" for k, v in r["versions"].items())
        machine = f"{r['date'][:10]}; {r['device_name']}, {r['threads']} thread(s)"
        made = f"{machine}; {versions}; source {r['source']}; data {r['fingerprint']}; {r['file']}, {r['line']}"
        cells = [
            f"{s['dataset']}, {s['network']}, {s['method']['name']}",
            str(s["seed"]),
            f"{r['error']:.2f}",
            f"{r['error_last']:.2f}",
            f"{s['epochs']} of {s['full_epochs']}",
        ]
        first = f'<td id="{anchor(r["id"])}"><code>{r["id"]}</code></td>'
        rows.append(f"<tr>{first}{''.join(f'<td>{c}</td>' for c in cells)}</tr>")
        rows.append(f'<tr><td colspan="{len(head)}" class="provenance"><code>{command(r)}</code><br>{made}</td></tr>')
    header = "".join(f'<th scope="col">{h}</th>' for h in head)
    return f'<div class="table-box"><table><thead><tr>{header}</tr></thead><tbody>{"".join(rows)}</tbody></table></div>'
