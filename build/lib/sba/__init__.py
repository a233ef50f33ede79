"""Stochastic Batch Augmentation: a reference implementation."""

from sba.config import Run, make_run
from sba.data import load
from sba.errors import SBAError
from sba.evaluation import evaluate
from sba.methods import ERM, METHODS, SBA, ImplicitSBA
from sba.moment import Moment
from sba.networks import NETWORKS, build
from sba.scheduler import Scheduler
from sba.staged import Staged
from sba.training import train
from sba.vicinity import Vicinity

__version__ = "0.1.0"

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
    "Vicinity",
    "build",
    "evaluate",
    "load",
    "make_run",
    "train",
]
