"""Checkpoints are written whole or not at all, and read as tensors and plain values alone. Another run's checkpoint is refused."""

import contextlib
import io
import json
import os
import pathlib
import tempfile
import zipfile
from typing import Any

import torch

from sba.core.errors import CheckpointError, ConfigError
from sba.training.run import Run, from_settings

FORMAT = 1
FILE = "checkpoint.pt"


def prepare(folder: pathlib.Path) -> None:
    """Make the folder of a run; raise :class:`CheckpointError`, before the run starts, if it cannot be made or written to."""
    try:
        folder.mkdir(parents=True, exist_ok=True)
        with tempfile.TemporaryFile(dir=folder):
            pass
    except OSError as error:
        raise CheckpointError(f"folder: {folder} cannot be written to ({error}); give another --folder") from error


def save(folder: pathlib.Path, run: Run, fingerprint: str, state: dict[str, Any]) -> None:
    """Write the state of a run, its configuration and its data's fingerprint into its folder, replacing the last checkpoint in one
    step. A state is made of tensors, numbers, text, and containers of them. If the folder cannot be written to, a
    :class:`CheckpointError` is raised and the last checkpoint is untouched."""
    content = {"format": FORMAT, "settings": json.dumps(run.settings()), "fingerprint": fingerprint, "state": state}
    # torch's own writer hides a full disk behind an error of its own, so it writes to memory.
    buffer = io.BytesIO()
    torch.save(content, buffer)
    partial = folder / f"{FILE}.{os.getpid()}.partial"
    try:
        folder.mkdir(parents=True, exist_ok=True)
        with partial.open("wb") as file:
            file.write(buffer.getbuffer())
            file.flush()
            os.fsync(file.fileno())
        partial.replace(folder / FILE)
    except OSError as error:
        with contextlib.suppress(OSError):
            partial.unlink()
        raise CheckpointError(
            f"folder: {folder} cannot be written to ({error}); free space or give another --folder"
        ) from error


def load(folder: pathlib.Path, run: Run, fingerprint: str) -> dict[str, Any] | None:
    """Read the state of a run from its folder; return None if there is no checkpoint yet. A file that is unreadable, or belongs to
    another configuration or other data, raises a :class:`CheckpointError` and is left as it is."""
    path = folder / FILE
    if not path.exists():
        return None
    try:
        with zipfile.ZipFile(path) as archive:
            # torch does not look at the checksums that it writes
            if damaged := archive.testzip():
                raise ValueError(f"its part {damaged} is damaged")
        content = torch.load(path, map_location="cpu", weights_only=True)
        if content["format"] != FORMAT:
            raise ValueError(f"format {content['format']}, not {FORMAT}")
        settings, found, state = json.loads(content["settings"]), content["fingerprint"], content["state"]
    except Exception as error:
        raise CheckpointError(
            f"folder: {path} is not a checkpoint of this version of the program ({type(error).__name__}); move it away, "
            "or give another --folder"
        ) from error
    with contextlib.suppress(ConfigError):
        # fields that are newer than a checkpoint have their defaults
        settings = from_settings(settings).settings()
    if differing := differences(settings, run.settings()):
        listed = "\n".join(f"  {name}: {before!r} there, {now!r} asked for" for name, before, now in differing)
        raise CheckpointError(
            f"folder: {folder} holds a run of another configuration:\n{listed}\n"
            "give another --folder, or the values it was started with"
        )
    if found != fingerprint:
        raise CheckpointError(
            f"folder: {folder} was trained on data with fingerprint {found}, this data has {fingerprint}; give another --folder"
        )
    return state


def epochs_done(folder: pathlib.Path) -> int | None:
    """Return how many epochs of a run its checkpoint has done; None if there is no checkpoint, or it cannot be read."""
    try:
        # the tensors stay in the file
        content = torch.load(folder / FILE, map_location="cpu", weights_only=True, mmap=True)
        return len(json.loads(content["state"]["history"]))
    except Exception:
        return None


def clean(folder: pathlib.Path) -> None:
    """Delete the files of processes that were killed while they wrote a checkpoint. The caller must hold the folder."""
    for partial in folder.glob(f"{FILE}.*.partial"):
        partial.unlink(missing_ok=True)


def differences(a: dict[str, Any], b: dict[str, Any], prefix: str = "") -> list[tuple[str, Any, Any]]:
    """List (name, value in a, value in b) of the settings in which two configurations differ."""
    found = []
    for name in dict.fromkeys([*a, *b]):
        left, right = a.get(name), b.get(name)
        if isinstance(left, dict) and isinstance(right, dict):
            found += differences(left, right, f"{prefix}{name}.")
        elif left != right:
            found.append((prefix + name, left, right))
    return found
