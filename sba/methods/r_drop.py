"""R-Drop (Liang, Wu et al., 2021): two passes of each image under different dropout masks, and their divergence.

The loss is half of the paper's Eq. 4, so that it is a cross-entropy plus a divergence at the learning rate of plain training, and α
means what it means there. Both terms are means over the batch; the authors' code for images takes the mean of the cross-entropy
and the sum of the divergence, whose weight then grows with the batch.
"""

from collections.abc import Hashable
from typing import Any, ClassVar

import torch
from torch import Tensor, nn

from sba.core.divergence import check_labels, kl, sba_objective
from sba.core.errors import ConfigError
from sba.core.hyper import configuration, hyper
from sba.core.method import Method
from sba.core.rng import Step
from sba.core.staged import INPUT, Staged

RATES = ("drop_prob", "dropout", "dropout_prob", "dropout_rate", "attention_dropout")
"""Names under which modules keep the rate of a dropout that they do by function."""


def symmetric_divergence(first: Tensor, second: Tensor) -> Tensor:
    """½ D_KL(Y ‖ Y′) + ½ D_KL(Y′ ‖ Y) of logits of shape (…, C), in nats, of shape (…); gradients flow into both."""
    return (kl(first, second) + kl(second, first)) / 2


def draws(module: nn.Module) -> bool:
    """Whether a module's own code draws masks in training: dropout in any form, or stochastic depth."""
    named = "drop" in (kind := type(module).__name__.lower()) or "stochastic" in kind
    rates = (getattr(module, name, None) for name in (*RATES, *(("p", "prob") if named else ())))
    return any(isinstance(rate, float) and rate > 0 for rate in rates)


def parting(network: Staged) -> str:
    """Return the last layer before which nothing is drawn: there the two passes part, and what comes before is computed once.

    Raises:
        ConfigError: no module draws; a dropout by function cannot be seen.
    """
    drawing = [module for module in network.modules() if draws(module)]
    if not drawing:
        raise ConfigError(
            "method: 'r-drop' compares two passes under dropout, and this network has no module that does it (F.dropout cannot be "
            "seen); give a network with nn.Dropout (of this package's: feature_dropout, a rate above 0), or alpha 0"
        )
    found = INPUT
    for layer in network.stages[:-1]:
        try:
            behind = set(network.behind(layer))
        except ConfigError:  # another model may not let itself be cut everywhere
            continue
        if not behind.issuperset(drawing):
            break
        found = layer
    return found


@configuration
class RDrop(Method):
    """Pass each image twice under dropout masks of their own, and pull the two predictions together.

    At α = 0 there is a single pass, plain training. That is no limit of small α, which is the mean cross-entropy under two masks.
    """

    name: ClassVar[str] = "r-drop"
    title: ClassVar[str] = "R-Drop"
    colour: ClassVar[str] = "#A50F3C"
    marker: ClassVar[str] = "p"
    bench: ClassVar[dict[str, Any] | None] = {"feature_dropout": 0.5}
    formula: ClassVar[str] = (
        r"\frac{1}{2B} \sum_{i,j} \operatorname{CE}(\mathbf 1_{y_i}, Y_{ij}) + \frac{\alpha}{4B} \sum_i "
        r"\bigl[D_{\mathrm{KL}}(Y_{i1} \,\Vert\, Y_{i2}) + D_{\mathrm{KL}}(Y_{i2} \,\Vert\, Y_{i1})\bigr]"
    )
    cited: ClassVar[tuple[str, ...]] = ("liang2021rdrop",)

    alpha: float = hyper(
        1.0, "weight of the divergence between the two passes; 0 for one pass, plain training",
        symbol="α", source="Liang et al.: 0.6 for images, 5 for translation", ge=0,
    )  # fmt: skip

    def check(self, network: Staged) -> None:
        if self.alpha:
            parting(network)

    def branch(self, network: Staged, now: Step) -> Hashable:
        return "two passes" if self.alpha else "plain"

    def terms(self, network: Staged, x: Tensor, y: Tensor, now: Step, memory: nn.Module | None) -> dict[str, Tensor]:
        if not self.alpha:
            return sba_objective(network(x), y, None, 0.0)
        layer = parting(network)
        h = network(x, until=layer)
        logits = network(torch.cat([h, h]), after=layer)
        first, second = logits.chunk(2)
        check_labels(y, first)
        divergence = self.alpha / 2 * symmetric_divergence(first, second).mean()
        return sba_objective(logits, torch.cat([y, y]), None, 0.0) | {"divergence": divergence}
