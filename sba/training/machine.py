"""What a run is done with. Nothing of it is part of the run, so a record counts wherever it was made."""

import pathlib

import torch

from sba.core.errors import ConfigError
from sba.core.hyper import configuration, hyper


@configuration
class Machine:
    """The device of a run, and how this machine is used; raises :class:`ConfigError` if a value is out of range."""

    device: str = hyper("cpu", "cpu, cuda, cuda:1, …")
    threads: int | None = hyper(None, "CPU threads; torch's own number if not given", ge=1)
    workers: int = hyper(0, "processes that read image files ahead of a run; 0 to read in its own", ge=0)
    compiled: bool = hyper(
        False, "let torch compile the convolutional stages, once a process, which takes a minute or two"
    )
    graphs: bool | None = hyper(None, "capture steps as CUDA graphs; if not given, done if possible")
    evaluate_last: int | None = hyper(
        None, "epochs, from the end, after which the network is evaluated; all if not given", ge=5
    )
    data_root: pathlib.Path | None = hyper(None, "folder of the data sets; the one that SBA_DATA names if not given")
    download: bool = hyper(False, "let torchvision download the data")

    def prepare(self) -> torch.device:
        """Set the number of threads, if one is given, and return the device; raise :class:`ConfigError` if torch has none such."""
        try:
            device = torch.device(self.device)
            torch.empty(0, device=device)
        except (RuntimeError, AssertionError) as error:
            reason = str(error).splitlines()[0]
            raise ConfigError(
                f"device: {self.device!r} cannot be used ({reason}); give --device cpu, or install torch with its driver"
            ) from None
        if self.threads:
            torch.set_num_threads(self.threads)
        return device


HERE = Machine()
"""This machine's processor, and nothing that is not the default."""
