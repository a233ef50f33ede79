"""Results files: append-only JSON lines. Every table and figure of the book is drawn from them."""

import fcntl
import json
import os
import pathlib
import tempfile
import warnings
from collections.abc import Iterable
from typing import TYPE_CHECKING, Any

from sba.core.errors import ResultsError
from sba.records.record import provenance
from sba.records.schema import fault
from sba.training.loop import Training

if TYPE_CHECKING:
    import pandas as pd

FOLDER = pathlib.Path("book/results")
"""Where the book keeps its evidence, seen from the top of the project."""


def book_folder() -> pathlib.Path:
    """Return the folder of the book's evidence, from the top of the project or from its folder of notebooks."""
    return next((f for f in (FOLDER, ".." / FOLDER) if f.is_dir()), FOLDER)


class TornRecordWarning(UserWarning):
    """A line of a results file is not a record; it is left in the file and left out of the results."""


def check_writable(path: str | pathlib.Path) -> None:
    """Raise :class:`ResultsError` where a record could not be appended to a results file; asked before a long run, not after it."""
    path = pathlib.Path(path)
    folder = next(p for p in (path, *path.resolve().parents) if p.exists())
    try:
        with path.open("ab") if folder == path else tempfile.TemporaryFile(dir=folder):
            pass
    except OSError as error:
        raise ResultsError(f"results: {path} cannot be written to ({error}); give another --results") from error


def append(path: str | pathlib.Path, record: dict[str, Any]) -> None:
    """Append a record to a results file, whole, under a lock; a torn last line is closed first and kept.

    Raises:
        ResultsError: the file cannot be written to; nothing of it is lost.
    """
    path = pathlib.Path(path)
    line = json.dumps(record, allow_nan=False, separators=(",", ":")).encode() + b"\n"
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        with path.open("a+b") as file:
            fcntl.flock(file, fcntl.LOCK_EX)
            if file.seek(0, os.SEEK_END):
                file.seek(-1, os.SEEK_END)
                if file.read(1) != b"\n":
                    line = b"\n" + line
            file.write(line)
            file.flush()
            os.fsync(file.fileno())
    except OSError as error:
        raise ResultsError(f"results: {path} cannot be written to ({error}); give another --results") from error


def read_whole(file: pathlib.Path) -> bytes:
    """Read a results file.

    Raises:
        ResultsError: it cannot be read.
    """
    try:
        return file.read_bytes()
    except OSError as error:
        raise ResultsError(f"results: {file} cannot be read ({error}); give another --results") from error


def read(paths: str | pathlib.Path | Iterable[str | pathlib.Path] = FOLDER) -> list[dict[str, Any]]:
    """Read results files, or every ``*.jsonl`` of a folder, in the order of their names.

    A line that is not a record, such as one torn by a crash, is left out with a :class:`TornRecordWarning` naming file and line.
    A record that stands twice (files copied together) counts once.

    Raises:
        ResultsError: a file cannot be read.
    """
    paths = [paths] if isinstance(paths, str | pathlib.Path) else list(paths)
    files = [f for p in map(pathlib.Path, paths) for f in (sorted(p.glob("*.jsonl")) if p.is_dir() else [p])]
    found: dict[str, dict[str, Any]] = {}
    for file in files:
        for number, line in enumerate(read_whole(file).split(b"\n"), start=1):
            if not line.strip():
                continue
            try:
                record = json.loads(line)
                if reason := fault(record):
                    raise ValueError(reason)
                found.setdefault(record["id"], {**record, "file": file.name, "line": number})
            # nested too deeply is a line that is no record, too
            except (ValueError, KeyError, TypeError, AttributeError, RecursionError) as error:
                reason = "torn by a crash?" if isinstance(error, json.JSONDecodeError) else f"{error}"
                warnings.warn(
                    f"{file}, line {number}: not a record ({reason}); left out, and left in the file",
                    TornRecordWarning,
                    stacklevel=2,
                )
    return list(found.values())


def known(results: pathlib.Path, training: Training) -> str | None:
    """Return the id of the record that a run already has in a results file: same code, data and machine; None for none."""
    made = provenance(training.device)
    for record in read(results) if results.exists() else []:
        same = all(record.get(k) == made[k] for k in ("source", "device_name"))
        if same and (record.get("key"), record.get("fingerprint")) == (training.run.key, training.data.fingerprint):
            return record["id"]
    return None


def load(paths: str | pathlib.Path | Iterable[str | pathlib.Path] = FOLDER) -> "pd.DataFrame":
    """Read the training records into a data frame, one row each; settings become columns, the method's as ``method.<field>``."""
    import pandas as pd

    rows = []
    for record in read(paths):
        if record["kind"] == "train":
            method = record["settings"]["method"]
            flat = {k: v for k, v in record.items() if k != "settings"}
            flat |= {k: v for k, v in record["settings"].items() if k not in ("method", "epochs")}
            flat |= {"n_epochs": record["settings"]["epochs"], "method": method["name"]}
            rows.append(flat | {f"method.{k}": v for k, v in method.items() if k != "name"})
    return pd.DataFrame(rows)
