"""Stochastic Batch Augmentation: a reference implementation.

The loss needs the base packages alone; networks, data and training need the extra ``[train]``. What takes long to import is
imported when it is asked for.
"""

from importlib import import_module
from typing import TYPE_CHECKING, Any

from sba.core.errors import SBAError
from sba.core.rng import Step
from sba.core.scheduler import Scheduler
from sba.core.staged import Staged
from sba.core.vicinity import Vicinity
from sba.methods import ERM, METHODS, SBA, ClosedFormSBA, DecoupledLoss, ImplicitSBA, ISDALoss

if TYPE_CHECKING:
    from sba.adapters.criterion import attach
    from sba.data.datasets import Data, load
    from sba.models.registry import NETWORKS, build
    from sba.training.evaluation import evaluate
    from sba.training.loop import train
    from sba.training.run import Run, make_run

__version__ = "0.2.0"

Moment = Step
"""What :class:`Step` was called before version 0.2."""

LATER = {
    "Data": "sba.data.datasets",
    "NETWORKS": "sba.models.registry",
    "Run": "sba.training.run",
    "attach": "sba.adapters.criterion",
    "build": "sba.models.registry",
    "evaluate": "sba.training.evaluation",
    "load": "sba.data.datasets",
    "make_run": "sba.training.run",
    "train": "sba.training.loop",
}
"""Public name → the module that it is imported from when it is first asked for."""

__all__ = [
    "ERM",
    "METHODS",
    "NETWORKS",
    "SBA",
    "ClosedFormSBA",
    "Data",
    "DecoupledLoss",
    "ISDALoss",
    "ImplicitSBA",
    "Moment",
    "Run",
    "SBAError",
    "Scheduler",
    "Staged",
    "Step",
    "Vicinity",
    "attach",
    "build",
    "evaluate",
    "load",
    "make_run",
    "train",
]


def __getattr__(name: str) -> Any:
    if name not in LATER:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    return globals().setdefault(name, getattr(import_module(LATER[name]), name))


def __dir__() -> list[str]:
    return sorted({*globals(), *__all__})
