"""Empirical risk minimisation: plain training, the baseline (Eq. 2)."""

from collections.abc import Hashable
from typing import ClassVar

from torch import Tensor, nn

from sba.core.divergence import sba_objective
from sba.core.hyper import configuration
from sba.core.method import Method
from sba.core.rng import Step
from sba.core.staged import Staged


@configuration
class ERM(Method):
    """Minimise the cross-entropy of the augmented batch (Eq. 2). Crop, flip and Cutout belong to the run, not to the method."""

    name: ClassVar[str] = "erm"
    title: ClassVar[str] = "Baseline"
    formula: ClassVar[str] = r"\frac 1 B \sum_i \operatorname{CE}(\mathbf 1_{y_i}, Y_i)"

    def branch(self, network: Staged, now: Step) -> Hashable:
        return "plain"

    def terms(self, network: Staged, x: Tensor, y: Tensor, now: Step, memory: nn.Module | None) -> dict[str, Tensor]:
        return sba_objective(network(x), y, None, 0.0)
