"""SBA in the limit M → ∞ at the last layer: the expected divergence in closed form, without a virtual point."""

from collections.abc import Hashable
from typing import Any, ClassVar, Literal

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from sba.core.divergence import sba_objective
from sba.core.errors import ConfigError
from sba.core.feature_std import RunningFeatureStd, batch_variance
from sba.core.hyper import configuration, definitions, hyper, shared
from sba.core.method import Method
from sba.core.rng import Step
from sba.core.sba import SBA
from sba.core.scheduler import Scheduler
from sba.core.staged import Staged
from sba.core.vicinity import Bound
from sba.methods import closed_form
from sba.methods.checks import check_linear_end


@configuration
class ImplicitSBA(Method):
    """Add the expectation of Eq. 11's second term over the vicinity; layer k is the input of the last linear layer.

    The basis Σ leaves the covariance of the noise as it is on average, so it has no place here. Both forms are close for Gaussian
    points. For dropout points they are not, since a deletion is no small step: the chapter on the limit measures it.
    """

    name: ClassVar[str] = "implicit-sba"
    title: ClassVar[str] = "SBA, M → ∞"
    colour: ClassVar[str] = "#7A2E00"  # a darker tone of SBA's
    marker: ClassVar[str] = "X"
    bench: ClassVar[dict[str, Any] | None] = None
    formula: ClassVar[str] = (
        r"\frac 1 B \sum_i \operatorname{CE}(\mathbf 1_{y_i}, Y_i) + "
        r"\lambda(t)\, \frac{\eta}{B} \sum_i \mathbb E_{\mathbf h'} D_{\mathrm{KL}}(Y_i \,\Vert\, Y')"
    )
    cited: ClassVar[tuple[str, ...]] = ("li2020sba",)

    omega: float = shared(SBA, "omega")
    eta: float = shared(SBA, "eta")
    gaussian_share: float = shared(SBA, "gaussian_share")
    sigma: float = shared(SBA, "sigma")
    scale: Literal["batch", "running", "absolute"] = shared(SBA, "scale")
    tau: float = shared(SBA, "tau")
    bound: Bound = shared(SBA, "bound")
    dropout_rate: float = shared(SBA, "dropout_rate")
    dropout_rescale: bool = shared(SBA, "dropout_rescale")
    schedule: Literal["iteration", "epoch"] = shared(SBA, "schedule")
    detach: bool = shared(SBA, "detach", "matters here for dropout points that are not rescaled")
    update: Literal["joint", "sequential_stale", "sequential_fresh"] = shared(SBA, "update")
    expectation: Literal["second_order", "bound"] = hyper(
        "second_order",
        "the expected divergence to second order in the noise, or a bound from above; SBA's default Σ may exceed that bound",
        source="ours; after ISDA",
    )

    def voting_vicinity(self) -> SBA:
        own = {name: getattr(self, name) for name in definitions(ImplicitSBA) if name in definitions(SBA)}
        return SBA(**own).voting_vicinity()

    def memory(self, network: Staged) -> nn.Module | None:
        return RunningFeatureStd({"last": network.last_linear.in_features}) if self.scale == "running" else None

    def check(self, network: Staged) -> None:
        check_linear_end(self.name, network)

    def branch(self, network: Staged, now: Step) -> Hashable:
        return "augmented" if self.eta and Scheduler(self.omega, self.schedule).state(now) else "plain"

    def terms(self, network: Staged, x: Tensor, y: Tensor, now: Step, memory: nn.Module | None) -> dict[str, Tensor]:
        h = network(x, until=network.stages[-2])
        logits = network(h, after=network.stages[-2])
        terms = sba_objective(logits, y, None, self.eta)
        if self.branch(network, now) == "augmented":
            terms["virtual"] = self.eta * self.divergence(network, h, logits, memory).mean()
        return terms

    def divergence(self, network: Staged, h: Tensor, logits: Tensor, memory: nn.Module | None = None) -> Tensor:
        """Return E D_KL(Y_i ‖ Y_ij) over the vicinity, in nats, of shape (B,), for h of shape (B, Q) that enters the last stage,
        a linear one, and the logits that it puts out. ``memory`` is what :meth:`memory` returned."""
        weight, bias = network.last_linear.weight, network.last_linear.bias
        divergence = torch.zeros(len(h), device=h.device)
        if self.gaussian_share > 0:
            spread = self.gaussian_spread(h, logits, weight, memory)
            divergence = divergence + self.gaussian_share * spread
        if self.gaussian_share < 1:
            centre = logits if self.dropout_rescale else F.linear((1 - self.dropout_rate) * h, weight, bias)
            reference = logits.detach() if self.detach else logits
            if self.expectation == "bound":
                spread = closed_form.dropout_bound(centre, h, weight, self.dropout_rate, self.dropout_rescale)
            else:
                variance = closed_form.dropout_variance(h, self.dropout_rate, self.dropout_rescale)
                spread = closed_form.second_order(centre, weight, variance)
            expected = closed_form.expected_divergence(reference, centre, spread)
            divergence = divergence + (1 - self.gaussian_share) * expected
        return divergence

    def gaussian_spread(self, h: Tensor, logits: Tensor, weight: Tensor, memory: nn.Module | None) -> Tensor:
        """Return E lse(z′) − lse(z) over the Gaussian vicinity, of shape (B,); the mean of z′ is z."""
        dtype = torch.promote_types(h.dtype, torch.float32)
        variance = torch.full_like(h[0], closed_form.noise_variance(self.sigma, self.tau, self.bound), dtype=dtype)
        if self.scale == "batch":
            variance = variance * batch_variance(h)
        elif self.scale == "running":
            if not isinstance(memory, RunningFeatureStd):
                raise ConfigError(
                    "scale (s): 'running' needs the method's memory; give method.memory(network), or 'batch'"
                )
            variance = variance * memory.update("last", h).square()
        form = closed_form.second_order if self.expectation == "second_order" else closed_form.gaussian_bound
        return form(logits, weight, variance)
