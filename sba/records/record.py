"""Records are made: what a training gave, with its provenance."""

import datetime
import hashlib
import importlib.metadata
import json
import pathlib
import platform
import statistics
from typing import Any, cast

import torch

from sba.core import ranks
from sba.core.errors import ResultsError
from sba.records.images import pack
from sba.records.schema import DivergedRecord, Record, TrainRecord, parse
from sba.training.evaluation import scored
from sba.training.loop import Training

SCHEMA = 1
SOURCES = pathlib.Path(__file__).parents[1]
DECIDING = ("core", "methods", "models", "data", "training", "measure")
"""The rooms that decide a number: what else the package does, such as a table's layout, is no part of a record's source."""


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
    listed = pathlib.Path("/proc/cpuinfo")
    lines = listed.read_text(errors="replace").splitlines() if listed.exists() else []
    names = [line.split(":", 1)[1].strip() for line in lines if line.startswith("model name")]
    return names[0] if names else platform.processor() or platform.machine()


def versions() -> dict[str, str]:
    """Return the versions that a result depends on."""
    return {
        "python": platform.python_version(),
        "torch": torch.__version__,  # with its build, which the package's version leaves out
        **{name: importlib.metadata.version(name) for name in ("torchvision", "numpy")},
    }


def provenance(device: torch.device) -> dict[str, Any]:
    """Say what a result was made with: source hash, device, threads, versions, date."""
    return {
        "source": SOURCE,
        "device": device.type,
        "device_name": device_name(device),
        "threads": torch.get_num_threads(),
        **({"processes": ranks.world()} if ranks.world() > 1 else {}),
        "versions": versions(),
        "date": datetime.datetime.now(datetime.UTC).strftime("%Y-%m-%dT%H:%M:%SZ"),
    }


def identify(content: dict[str, Any]) -> str:
    """Hash a record's content into the identifier the book cites it by, 10 hexadecimal digits."""
    return hashlib.blake2b(json.dumps(content, sort_keys=True).encode(), digest_size=5).hexdigest()


def identified(content: dict[str, Any]) -> Record:
    """Make a record of its content, with its identifier; raise :class:`ResultsError` if it is none, as if a number is infinite."""
    content = {"schema": SCHEMA, **content}
    return parse(json.loads(json.dumps({"id": identify(content), **content})))


def record_of(
    training: Training,
    study: str = "",
    last: int | None = None,
    reduced: bool = False,
    more: dict[str, Any] | None = None,
) -> TrainRecord:
    """Turn a finished run into a record.

    Args:
        training: finished.
        study: what the run was made for, if its number must not stand among the results of the book's tables.
        last: how many of its epochs are kept, from the end; None for all.
        reduced: mark it as shorter than it should be, whatever its network's regime says.
        more: what is kept beside, as ``error_vote``: what :func:`sba.training.vote.vote_error` returns.

    Raises:
        ResultsError: the run is not finished.
    """
    if not training.finished:
        raise ResultsError(
            f"epochs: {len(training.history)} of {training.run.epochs} are done; finish the run before recording it"
        )
    history = training.history
    content = {
        **of_run(training, "train", study, reduced),
        "error": statistics.median(r.error for r in history[-5:]),
        "error_last": history[-1].error,
        "seconds_per_epoch": statistics.median(r.seconds for r in history),
        "epochs": [r.as_json() for r in (history[-last:] if last else history)],
        **right_images(training),
        **(more or {}),
        **({"graphs": True} if training.graphs else {}),
        **({"compiled": True} if training.compiled else {}),
        **provenance(training.device),
    }
    return cast(TrainRecord, identified(content))


def right_images(training: Training) -> dict[str, Any]:
    """Return which images a finished training got right, in the data set's order; nothing if some could not be read."""
    with training.precision():
        scores, labels, skipped = scored(training.network, training.data)
    right = (scores.argmax(1) == labels).cpu().numpy()
    return {} if skipped else {"right": {"images": len(right), "bits": pack(right)}}


def record_of_divergence(training: Training, reason: str, study: str = "", reduced: bool = False) -> DivergedRecord:
    """Record that the loss of a run was no finite number; ``reason`` says where. Other arguments are as for :func:`record_of`."""
    content = {
        **of_run(training, "diverged", study, reduced),
        "reason": reason,
        "epochs": [r.as_json() for r in training.history],
        **provenance(training.device),
    }
    return cast(DivergedRecord, identified(content))


def of_run(training: Training, kind: str, study: str, reduced: bool) -> dict[str, Any]:
    """Return what a record says of its run, whatever came of it."""
    return {
        "kind": kind,
        **({"study": study} if study else {}),
        "key": training.run.key,
        "settings": training.run.settings(),
        "reduced": training.run.reduced or reduced,
        "fingerprint": training.data.fingerprint,
        "evaluated_on": training.data.evaluated_on,
    }
