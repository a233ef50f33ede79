"""The training methods, by name. A new one is one file and one line here."""

from sba.core.method import ERM, Method
from sba.core.sba import SBA
from sba.methods.bamboo import Bamboo
from sba.methods.checks import checked
from sba.methods.decoupled import DecoupledMixup
from sba.methods.implicit import ImplicitSBA
from sba.methods.isda import ISDA
from sba.methods.kmixup import KMixup
from sba.methods.label_smoothing import LabelSmoothing
from sba.methods.losses import ClosedFormSBA, DecoupledLoss, ISDALoss
from sba.methods.mixup import ManifoldMixup, Mixup
from sba.methods.r_drop import RDrop
from sba.methods.sba_isda import SBAISDA

METHODS: dict[str, type[Method]] = {
    cls.name: checked(cls)
    for cls in (
        ERM,
        SBA,
        ImplicitSBA,
        Bamboo,
        RDrop,
        LabelSmoothing,
        Mixup,
        ManifoldMixup,
        KMixup,
        DecoupledMixup,
        ISDA,
        SBAISDA,
    )
}
"""Name on the command line and in records → method, in the order of tables."""

__all__ = [
    "ERM",
    "ISDA",
    "METHODS",
    "SBA",
    "SBAISDA",
    "Bamboo",
    "ClosedFormSBA",
    "DecoupledLoss",
    "DecoupledMixup",
    "ISDALoss",
    "ImplicitSBA",
    "KMixup",
    "LabelSmoothing",
    "ManifoldMixup",
    "Method",
    "Mixup",
    "RDrop",
]
