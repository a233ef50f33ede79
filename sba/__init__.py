"""Stochastic Batch Augmentation: a reference implementation."""

from sba.core.errors import SBAError
from sba.core.rng import Step
from sba.core.scheduler import Scheduler
from sba.core.staged import Staged
from sba.core.vicinity import Vicinity
from sba.data.datasets import load
from sba.methods import ERM, METHODS, SBA, ImplicitSBA
from sba.models.registry import NETWORKS, build
from sba.training.evaluation import evaluate
from sba.training.loop import train
from sba.training.run import Run, make_run

__version__ = "0.1.0"

Moment = Step
"""What :class:`Step` was called before version 0.2."""

__all__ = [
    "ERM",
    "METHODS",
    "NETWORKS",
    "SBA",
    "ImplicitSBA",
    "Moment",
    "Run",
    "SBAError",
    "Scheduler",
    "Staged",
    "Step",
    "Vicinity",
    "build",
    "evaluate",
    "load",
    "make_run",
    "train",
]
