"""Results files: append-only JSON lines. Every table and figure of the book is drawn from them."""

import json
import os
import pathlib
import tempfile
import warnings
from collections.abc import Iterable

from filelock import FileLock

from sba.core.errors import ResultsError
from sba.records.record import provenance
from sba.records.schema import Record, RunRecord, parse
from sba.training.loop import Training

FOLDER = pathlib.Path("book/results")
"""Where the book keeps its evidence, seen from the top of the project."""


def book_folder() -> pathlib.Path:
    """Return the folder of the book's evidence, from the top of the project or from its folder of notebooks."""
    return next((f for f in (FOLDER, ".." / FOLDER) if f.is_dir()), FOLDER)


class TornRecordWarning(UserWarning):
    """A line of a results file is not a record; it is left in the file and left out of the results."""


def check_writable(path: str | pathlib.Path) -> None:
    """Raise :class:`ResultsError` if a record could not be appended to a results file: asked before a long run, not after it."""
    path = pathlib.Path(path)
    folder = next(p for p in (path, *path.resolve().parents) if p.exists())
    try:
        with path.open("ab") if folder == path else tempfile.TemporaryFile(dir=folder):
            pass
    except OSError as error:
        raise ResultsError(f"results: {path} cannot be written to ({error}); give another --results") from error


def append(path: str | pathlib.Path, record: Record) -> None:
    """Append a record to a results file, whole, under a lock beside it; a torn last line is closed first and kept. Raise
    :class:`ResultsError` if the file cannot be written to, or JSON lacks a number of the record; nothing in the file is lost."""
    path = pathlib.Path(path)
    try:
        line = json.dumps(record.as_json(), allow_nan=False, separators=(",", ":")).encode() + b"\n"
    except ValueError as error:
        raise ResultsError(f"results: the record {record.id} cannot be written ({error}); it holds NaN or ∞") from error
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        with FileLock(f"{path}.lock"), path.open("a+b") as file:
            if file.seek(0, os.SEEK_END):
                file.seek(-1, os.SEEK_END)
                if file.read(1) != b"\n":
                    line = b"\n" + line
            file.write(line)
            file.flush()
            os.fsync(file.fileno())
    except OSError as error:
        raise ResultsError(f"results: {path} cannot be written to ({error}); give another --results") from error


def read(paths: str | pathlib.Path | Iterable[str | pathlib.Path] = FOLDER) -> list[Record]:
    """Read results files, or every ``*.jsonl`` of a folder, in the order of their names; raise :class:`ResultsError` if one cannot
    be read.

    A line that is not a record, such as one torn by a crash, is left out with a :class:`TornRecordWarning` that names file and
    line. A record that stands twice (files copied together) counts once.
    """
    paths = [paths] if isinstance(paths, str | pathlib.Path) else list(paths)
    files = [f for p in map(pathlib.Path, paths) for f in (sorted(p.glob("*.jsonl")) if p.is_dir() else [p])]
    found: dict[str, Record] = {}
    for file in files:
        try:
            lines = file.read_bytes().split(b"\n")
        except OSError as error:
            raise ResultsError(f"results: {file} cannot be read ({error}); give another --results") from error
        for number, line in enumerate(lines, start=1):
            if not line.strip():
                continue
            try:
                content = json.loads(line)
                if isinstance(content, dict):
                    content |= {"file": file.name, "line": number}
                record = parse(content)
                found.setdefault(record.id, record)
            # a line that is nested too deeply is no record, either
            except (ValueError, ResultsError, RecursionError) as error:
                reason = "torn by a crash?" if isinstance(error, json.JSONDecodeError) else f"{error}"
                warnings.warn(
                    f"{file}, line {number}: not a record ({reason}); left out, and left in the file",
                    TornRecordWarning,
                    stacklevel=2,
                )
    return list(found.values())


def made_before(results: pathlib.Path, training: Training, vote: bool = False) -> str | None:
    """Return the id of the record that a run already has in a results file: same code, data and machine; None for none. With
    ``vote`` only records that hold the error of the vote count."""
    made = provenance(training.device)
    same = (training.run.key, training.data.fingerprint, made["source"], made["device_name"])
    for record in read(results) if results.exists() else []:
        if not isinstance(record, RunRecord) or (vote and getattr(record, "error_vote", None) is None):
            continue
        if same == (record.key, record.fingerprint, record.source, record.device_name):
            return record.id
    return None
