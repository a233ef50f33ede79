"""Implicit semantic data augmentation (Wang et al., 2019): the expected loss over features that vary as their class does."""

from typing import ClassVar, Literal

from torch import Tensor, nn

from sba.distributed import total
from sba.divergence import sba_objective
from sba.errors import ConfigError
from sba.hyper import configuration, hyper
from sba.isda import ClassCovariances, check_covariances, isda_logits, quadratic_table, strength
from sba.methods.method import Method, check_linear_end
from sba.moment import Moment
from sba.staged import Staged


@configuration
class ISDA(Method):
    """Replace the cross-entropy by a bound of its expectation over features that vary as their class does."""

    name: ClassVar[str] = "isda"
    title: ClassVar[str] = "ISDA"
    formula: ClassVar[str] = (
        r"\frac 1 B \sum_i \operatorname{CE}(\mathbf 1_{y_i}, \operatorname{softmax}(\tilde{\mathbf z}_i)),\quad "
        r"\tilde z_i^c = z_i^c + \tfrac{\lambda_0 t}{2T} "
        r"(\mathbf w_c - \mathbf w_{y_i})^{\mathsf T} \mathbf C_{y_i} (\mathbf w_c - \mathbf w_{y_i})"
    )
    cited: ClassVar[tuple[str, ...]] = ("wang2019isda", "wang2022isda")

    lambda0: float = hyper(
        0.5, "λ₀ of the strength λ₀·t/T", symbol="λ₀", source="Wang et al., CIFAR; 7.5 on ImageNet", ge=0
    )
    form: Literal["full", "diagonal"] = hyper(
        "full",
        "covariances of each class, or its variances alone",
        source="Wang et al.: full on CIFAR, diagonal on ImageNet",
    )

    def memory(self, network: Staged) -> nn.Module | None:
        last = network.last_linear
        return ClassCovariances(last.out_features, last.in_features, self.form, layer=network.stages[-2])

    def check(self, network: Staged) -> None:
        check_linear_end(self.name, network)
        last = network.last_linear
        check_covariances(self.form, last.out_features, last.in_features, layer=network.stages[-2])

    def terms(self, network: Staged, x: Tensor, y: Tensor, now: Moment, memory: nn.Module | None) -> dict[str, Tensor]:
        h = network(x, until=network.stages[-2])
        logits = network(h, after=network.stages[-2])
        return sba_objective(self.widened(network, h, logits, y, now, memory), y, None, 0.0)

    def widened(
        self, network: Staged, h: Tensor, logits: Tensor, y: Tensor, now: Moment, memory: nn.Module | None
    ) -> Tensor:
        """Take a batch into the covariances, and return logits whose cross-entropy is the bound.

        Args:
            network: whose last stage is linear.
            h: what enters that stage, of shape (B, Q).
            logits: what it puts out, of shape (B, C).
            y: labels of shape (B,).
            now: where training stands.
            memory: what :meth:`memory` returned.
        """
        if not self.lambda0:
            return logits
        if not isinstance(memory, ClassCovariances):
            raise ConfigError(f"memory: {memory!r} holds no covariances; give method.memory(network)")
        memory.update(h, y, total)
        now_strength = strength(self.lambda0, now.progress)
        if not now_strength:
            return logits
        return isda_logits(logits, y, quadratic_table(network.last_linear.weight, memory.covariance), now_strength)
