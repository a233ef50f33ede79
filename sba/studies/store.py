"""Where a sweep finds records, appends its own, and keeps the state of its runs, so that no run is made twice.

Any number of processes may work on one store at once. A run belongs to the process that holds the lock of its folder; the kernel
releases it when that process ends, however it ends.
"""

import contextlib
import functools
import hashlib
import os
import pathlib
import platform
import secrets
from collections.abc import Iterator
from typing import Any

from filelock import FileLock, Timeout

from sba.core.errors import ResultsError
from sba.records.file import book_folder, read
from sba.records.schema import RunRecord
from sba.studies.kept import Kept
from sba.studies.planned import PlannedRun
from sba.training.checkpoint import clean, epochs_done, prepare
from sba.training.run import Run

CLAIM = "claim"
LOOK_SECONDS = 0.02
Shelf = dict[tuple[str, str], list[RunRecord]]
"""Key of a run and fingerprint of its data → records."""


class Store:
    """Records and checkpoints of a sweep. Records ``beside`` count as well: those of the book.

    Args:
        folder: of the runs' folders and of records, none of it in git.
        name: of the file that this store appends to, in the folder; it ends with letters that no other store has, so that the files
            of several machines can be copied together.
        results: another file to append to.
        checkpoints: where they are kept (:class:`sba.studies.kept.Kept`); in the folder by default.
    """

    def __init__(
        self, folder: pathlib.Path, name: str, results: pathlib.Path | None = None, checkpoints: str | None = None
    ):
        self.folder, self.name, self.given = folder, name, results
        self.checkpoints = checkpoints or str(folder.absolute())
        self.beside = [book_folder()]
        self.read: dict[pathlib.Path, tuple[Any, Shelf]] = {}

    @functools.cached_property
    def results(self) -> pathlib.Path:
        """The file that records are appended to."""
        return self.given or self.folder / f"{self.name}-{writer(self.folder)}.jsonl"

    def folder_of(self, run: Run) -> pathlib.Path:
        """Return the folder of a run's checkpoint, the one that ``train`` uses, too."""
        return self.folder / run.title

    def files(self) -> list[pathlib.Path]:
        """List the files of records, the book's first."""
        parts = [*self.beside, self.folder, *([self.given] if self.given else [])]
        found = [f for p in parts for f in (sorted(p.glob("*.jsonl")) if p.is_dir() else [p] if p.exists() else [])]
        return list(dict.fromkeys(f.resolve() for f in found))

    def found(self, planned: PlannedRun, fingerprint: str, exclusive: bool) -> RunRecord | None:
        """Return the first record that stands for a planned run, whatever machine and version made it, or None."""
        for file in self.files():
            state = file.stat()
            stamp = (state.st_mtime_ns, state.st_size)
            if self.read.get(file, (None,))[0] != stamp:
                self.read[file] = (stamp, indexed(file))
            for record in self.read[file][1].get((planned.run.key, fingerprint), []):
                if planned.counts(record, exclusive):
                    return record
        return None

    def state(self, planned: PlannedRun, fingerprint: str, exclusive: bool) -> tuple[str, str]:
        """Say how far a run is: "record", "diverged", "under way", "checkpoint" or "missing"; and what to write of it."""
        if record := self.found(planned, fingerprint, exclusive):
            kind = "record" if record.kind == "train" else record.kind
            return kind, f"{kind} {record.id}"
        epochs = epochs_done(Kept(self.checkpoints, planned.run.title).folder)
        at = "" if epochs is None else f"epoch {epochs} of {planned.run.epochs}"
        if taken(self.folder_of(planned.run)):
            return "under way", f"under way {at}".strip()
        return ("checkpoint", f"checkpoint at {at}") if at else ("missing", "missing")


@contextlib.contextmanager
def claimed(folder: pathlib.Path) -> Iterator[bool]:
    """Hold the folder of a run for as long as the context lasts; false if another process holds it. Raise
    :class:`CheckpointError` if it cannot be written to."""
    prepare(folder)
    lock = FileLock(folder / CLAIM)
    try:
        # a process that only looks whether it is taken holds it for a moment
        lock.acquire(timeout=LOOK_SECONDS, poll_interval=LOOK_SECONDS / 2)
    except Timeout:
        yield False
        return
    try:
        clean(folder)
        yield True
    finally:
        lock.release()


def taken(folder: pathlib.Path) -> bool:
    """Whether another process holds the folder of a run; nothing is made."""
    if not (folder / CLAIM).exists():
        return False
    try:
        with FileLock(folder / CLAIM).acquire(blocking=False):
            return False
    except Timeout:
        return True


def indexed(file: pathlib.Path) -> Shelf:
    """Read a file's records of runs."""
    found: Shelf = {}
    for record in read(file):
        if isinstance(record, RunRecord):
            found.setdefault((record.key, record.fingerprint), []).append(record)
    return found


def writer(folder: pathlib.Path) -> str:
    """Return a folder's letters on a machine, drawn if it has none yet; raise :class:`ResultsError` if it cannot be written to."""
    path = folder / ".writer"
    try:
        folder.mkdir(parents=True, exist_ok=True)
        if not path.exists():
            own = folder / f".writer.{os.getpid()}"
            own.write_text(secrets.token_hex(8))
            # of several processes that come at once the first one's letters stay
            with contextlib.suppress(FileExistsError):
                os.link(own, path)
            own.unlink()
        drawn = path.read_text()
    except OSError as error:
        raise ResultsError(f"store: {folder} cannot be written to ({error}); give another --store") from error
    return hashlib.blake2b(f"{drawn} {platform.node()}".encode(), digest_size=3).hexdigest()
