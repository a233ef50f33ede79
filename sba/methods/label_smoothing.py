"""Label smoothing (Szegedy et al., 2016): the cross-entropy against labels that leave every class a share."""

from collections.abc import Hashable
from typing import ClassVar

from torch import Tensor, nn

from sba.core.divergence import cross_entropy
from sba.core.hyper import configuration, hyper
from sba.core.method import Method
from sba.core.rng import Step
from sba.core.staged import Staged


@configuration
class LabelSmoothing(Method):
    """Move a share of each label to all classes evenly, and minimise the cross-entropy against that."""

    name: ClassVar[str] = "label-smoothing"
    title: ClassVar[str] = "label smoothing"
    colour: ClassVar[str] = "#7F7F7F"
    marker: ClassVar[str] = "d"
    formula: ClassVar[str] = (
        r"\frac 1 B \sum_i \operatorname{CE}\bigl((1 - \epsilon) \mathbf 1_{y_i} "
        r"+ \tfrac \epsilon C \textstyle\sum_c \mathbf 1_c, Y_i\bigr)"
    )
    cited: ClassVar[tuple[str, ...]] = ("szegedy2016rethinking",)

    epsilon: float = hyper(
        0.1, "share of each label that goes to all classes evenly", symbol="ε", source="Szegedy et al.", ge=0, lt=1
    )

    def branch(self, network: Staged, now: Step) -> Hashable:
        return "smoothed"

    def terms(self, network: Staged, x: Tensor, y: Tensor, now: Step, memory: nn.Module | None) -> dict[str, Tensor]:
        return {"cross_entropy": cross_entropy(network(x), y, self.epsilon)}
