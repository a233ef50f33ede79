"""Where the checkpoint of a run is kept: in a folder that this machine sees, or under any URL that fsspec understands."""

import pathlib
import shutil
import tempfile
from types import TracebackType
from typing import Any

from fsspec.core import url_to_fs

from sba.core.errors import CheckpointError, ConfigError
from sba.training.checkpoint import FILE

NODE = "node"
"""In place of a folder or URL: checkpoints are lost with the machine that wrote them."""


def place(where: str) -> tuple[Any, str]:
    """Return the file system that a folder or URL lies in, None for this machine's own, and the path there; raise
    :class:`ConfigError` if fsspec does not know such a URL, or lacks a package for it."""
    if where == NODE:
        return None, str(pathlib.Path(tempfile.gettempdir()) / "sba-checkpoints")
    try:
        system, path = url_to_fs(where)
    except (ImportError, ValueError) as error:
        raise ConfigError(
            f"checkpoints: {where!r} cannot be used ({error}); give a folder, a URL or {NODE!r}"
        ) from error
    return (None, path) if "file" in system.protocol else (system, path.rstrip("/"))


class Kept:
    """The checkpoint of the run ``title``, kept ``where`` all are: in a folder or at a URL, or :data:`NODE`. As a context it is
    brought to ``folder`` on this machine at the start, for :class:`sba.training.loop.Training`.

    Raises:
        ConfigError: as :func:`place`.
        CheckpointError: the URL cannot be read or written to.
    """

    def __init__(self, where: str, title: str):
        self.system, path = place(where)
        self.remote = f"{path}/{title}/{FILE}"
        self.folder = pathlib.Path(path) / title
        self.sent = 0

    def __enter__(self) -> "Kept":
        if self.system:
            self.folder = pathlib.Path(tempfile.mkdtemp(prefix="sba-"))
            self.asked(lambda: self.system.exists(self.remote) and self.system.get_file(self.remote, self.file))
            self.sent = self.written
        return self

    def __exit__(self, kind: type | None, error: BaseException | None, trace: TracebackType | None) -> None:
        if self.system:
            shutil.rmtree(self.folder, ignore_errors=True)

    @property
    def file(self) -> str:
        """The checkpoint on this machine."""
        return str(self.folder / FILE)

    @property
    def written(self) -> int:
        """When it was written, in nanoseconds; 0 for never."""
        file = pathlib.Path(self.file)
        return file.stat().st_mtime_ns if file.exists() else 0

    def send(self) -> None:
        """Take a new checkpoint to where it is kept; a reader there finds the old one or the new one, whole."""
        if self.system and self.written != self.sent:
            self.sent = self.written
            self.asked(lambda: self.system.makedirs(self.remote.rpartition("/")[0], exist_ok=True))
            self.asked(lambda: self.system.put_file(self.file, f"{self.remote}.partial"))
            self.asked(lambda: self.system.mv(f"{self.remote}.partial", self.remote))

    def forget(self) -> None:
        """Delete it: the record of its run is safe."""
        if self.system:
            self.asked(lambda: self.system.exists(self.remote) and self.system.rm(self.remote))
        else:
            pathlib.Path(self.file).unlink(missing_ok=True)

    def asked(self, action: Any) -> None:
        """Do something at the URL; what goes wrong there has many names."""
        try:
            action()
        except Exception as error:
            raise CheckpointError(
                f"checkpoints: {self.remote} cannot be used ({error}); give other --checkpoints"
            ) from error
