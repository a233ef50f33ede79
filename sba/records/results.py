"""Results: append-only JSON lines with provenance. Every table and figure of the book is drawn from them."""

import datetime
import fcntl
import hashlib
import importlib.metadata
import json
import os
import pathlib
import platform
import statistics
import tempfile
import warnings
from collections.abc import Iterable
from typing import Any

import pandas as pd
import torch

from sba.core import ranks
from sba.core.errors import ResultsError
from sba.records.schema import fault
from sba.training.loop import Training
from sba.training.vote import electorate, majority_vote

SCHEMA = 1
SOURCES = pathlib.Path(__file__).parents[1]
DECIDING = ("core", "methods", "models", "data", "training", "measure")
"""The rooms that decide a number: what else the package does, such as a table's layout, is no part of a record's source."""
FOLDER = pathlib.Path("book/results")
"""Where the book keeps its evidence, seen from the top of the project."""


def book_folder() -> pathlib.Path:
    """Return the folder of the book's evidence, from the top of the project or from its folder of notebooks."""
    return next((f for f in (FOLDER, ".." / FOLDER) if f.is_dir()), FOLDER)


class TornRecordWarning(UserWarning):
    """A line of a results file is not a record; it is left in the file and left out of the results."""


def source_hash() -> str:
    """Hash the Python files of the :data:`DECIDING` rooms: records of different code can be told apart."""
    digest = hashlib.blake2b(digest_size=6)
    for path in sorted(path for room in DECIDING for path in (SOURCES / room).rglob("*.py")):
        digest.update(path.relative_to(SOURCES).as_posix().encode() + b"\0" + path.read_bytes())
    return digest.hexdigest()


SOURCE = source_hash()
"""As of the import: files edited while a run is under way are not what it was made with."""


def device_name(device: torch.device) -> str:
    """Name the hardware as its maker does."""
    if device.type == "cuda":
        return torch.cuda.get_device_name(device)
    names = [line.split(":", 1)[1].strip() for line in read_lines("/proc/cpuinfo") if line.startswith("model name")]
    return names[0] if names else platform.processor() or platform.machine()


def read_lines(path: str) -> list[str]:
    """Return the lines of a text file, none where it does not exist."""
    file = pathlib.Path(path)
    return file.read_text(errors="replace").splitlines() if file.exists() else []


def provenance(device: torch.device) -> dict[str, Any]:
    """Say what a result was made with: source hash, device, threads, versions, date."""
    return {
        "source": SOURCE,
        "device": device.type,
        "device_name": device_name(device),
        "threads": torch.get_num_threads(),
        **({"processes": ranks.world()} if ranks.world() > 1 else {}),
        "versions": {
            "python": platform.python_version(),
            "torch": torch.__version__,  # with its build, which the package's version leaves out
            **{name: importlib.metadata.version(name) for name in ("torchvision", "numpy")},
        },
        "date": datetime.datetime.now(datetime.UTC).strftime("%Y-%m-%dT%H:%M:%SZ"),
    }


def identify(content: dict[str, Any]) -> str:
    """Hash a record's content into the identifier the book cites it by, 10 hexadecimal digits."""
    return hashlib.blake2b(json.dumps(content, sort_keys=True).encode(), digest_size=5).hexdigest()


def record_of(
    training: Training,
    study: str = "",
    last: int | None = None,
    reduced: bool = False,
    more: dict[str, Any] | None = None,
) -> dict[str, Any]:
    """Turn a finished run into a record.

    Args:
        training: finished.
        study: what the run was made for, where its number must not stand among the results of the book's tables.
        last: how many of its epochs are kept, from the end; None for all.
        reduced: mark it as shorter than it should be, whatever its network's regime says.
        more: what is kept beside.

    Returns:
        A dictionary with ``id``, ``kind`` ("train"), ``key`` and ``settings`` of the run, ``reduced`` (whether it was shorter than
        its regime), ``fingerprint`` of the data, ``evaluated_on``, ``error`` and ``error_last`` (per cent: the median over the
        last five epochs, which is the paper's rule, and the last epoch), ``error_vote`` where the run asks for it,
        ``seconds_per_epoch`` (median), ``epochs``, what ``more`` holds, and :func:`provenance`.

    Raises:
        ResultsError: the run is not finished.
    """
    if not training.finished:
        raise ResultsError(
            f"epochs: {len(training.history)} of {training.run.epochs} are done; finish the run before recording it"
        )
    history = training.history
    content = {
        **head(training, "train", study, reduced),
        "error": statistics.median(r.error for r in history[-5:]),
        "error_last": history[-1].error,
        **({"error_vote": vote_of(training)} if training.run.vote else {}),
        "seconds_per_epoch": statistics.median(r.seconds for r in history),
        "epochs": [r.as_json() for r in (history[-last:] if last else history)],
        **(more or {}),
        **({"graphs": True} if training.graphs else {}),
        **({"compiled": True} if training.compiled else {}),
        **provenance(training.device),
    }
    return {"id": identify(content), **content}


def record_of_divergence(training: Training, reason: str, study: str = "", reduced: bool = False) -> dict[str, Any]:
    """Record that a run cannot be finished, since its loss was no finite number: ``kind`` is "diverged", ``reason`` says where,
    ``epochs`` are those before. Arguments as for :func:`record_of`."""
    content = {
        **head(training, "diverged", study, reduced),
        "reason": reason,
        "epochs": [r.as_json() for r in training.history],
        **provenance(training.device),
    }
    return {"id": identify(content), **content}


def head(training: Training, kind: str, study: str, reduced: bool) -> dict[str, Any]:
    """Return what a record says of its run, whatever came of it."""
    return {
        "schema": SCHEMA,
        "kind": kind,
        **({"study": study} if study else {}),
        "key": training.run.key,
        "settings": training.run.settings(),
        "reduced": training.run.reduced or reduced,
        "fingerprint": training.data.fingerprint,
        "evaluated_on": training.data.evaluated_on,
    }


def known(results: pathlib.Path, training: Training) -> str | None:
    """Return the id of the record that a run already has in a results file: same code, data and machine; None for none."""
    made = provenance(training.device)
    for record in records(results) if results.exists() else []:
        same = all(record.get(k) == made[k] for k in ("source", "device_name"))
        if same and (record.get("key"), record.get("fingerprint")) == (training.run.key, training.data.fingerprint):
            return record["id"]
    return None


def vote_of(training: Training) -> float:
    """Return the error of the majority vote at the last epoch, in per cent."""
    run, data = training.run, training.data
    with training.precision():
        return majority_vote(training.network, data.test, data.mean, data.std, electorate(run.method), run.seed).error


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


def records(paths: str | pathlib.Path | Iterable[str | pathlib.Path] = FOLDER) -> list[dict[str, Any]]:
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


def load(paths: str | pathlib.Path | Iterable[str | pathlib.Path] = FOLDER) -> pd.DataFrame:
    """Read the training records into a data frame, one row each; settings become columns, the method's as ``method.<field>``."""
    rows = []
    for record in records(paths):
        if record["kind"] == "train":
            method = record["settings"]["method"]
            flat = {k: v for k, v in record.items() if k != "settings"}
            flat |= {k: v for k, v in record["settings"].items() if k not in ("method", "epochs")}
            flat |= {"n_epochs": record["settings"]["epochs"], "method": method["name"]}
            rows.append(flat | {f"method.{k}": v for k, v in method.items() if k != "name"})
    return pd.DataFrame(rows)
