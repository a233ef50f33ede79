"""SBA and ISDA together: ISDA's bound for the raw points, SBA's divergence for the virtual ones."""

from typing import Any, ClassVar

from torch import Tensor, nn

from sba.core.bases import Kind
from sba.core.divergence import sba_objective
from sba.core.hyper import configuration, definitions, shared
from sba.core.method import Method
from sba.core.rng import Step
from sba.core.sba import SBA
from sba.core.staged import Staged
from sba.core.tail import Tail
from sba.methods.isda import ISDA, Form


@configuration
class SBAISDA(Method):
    """Put ISDA's bound in the place of SBA's cross-entropy: raw points vary as their class does, virtual ones as they are drawn.

    The two touch different terms, so neither counts a point twice: the teacher of the virtual points is the plain prediction of
    the raw point, not the widened one. At λ₀ = 0 it is SBA, at η = 0 it is ISDA.
    """

    name: ClassVar[str] = "sba+isda"
    title: ClassVar[str] = "SBA + ISDA"
    colour: ClassVar[str] = "#8F3F97"  # between SBA's and ISDA's
    marker: ClassVar[str] = "h"
    bench: ClassVar[dict[str, Any] | None] = {"omega": 0.0, "folds": 40}
    formula: ClassVar[str] = (
        r"\frac 1 B \sum_i \operatorname{CE}(\mathbf 1_{y_i}, \operatorname{softmax}(\tilde{\mathbf z}_i)) + "
        r"\lambda(t)\, \frac{\eta}{MB} \sum_{i,j} D_{\mathrm{KL}}(Y_i \,\Vert\, Y_{ij})"
    )
    cited: ClassVar[tuple[str, ...]] = ("li2020sba", "wang2019isda")
    soft: ClassVar[bool] = False  # as ISDA

    omega: float = shared(SBA, "omega")
    eta: float = shared(SBA, "eta")
    folds: int = shared(SBA, "folds")
    gaussian_share: float = shared(SBA, "gaussian_share")
    sigma: float = shared(SBA, "sigma")
    tau: float = shared(SBA, "tau")
    basis: Kind = shared(SBA, "basis")
    dropout_rate: float = shared(SBA, "dropout_rate")
    layers: tuple[str, ...] = shared(SBA, "layers")
    lambda0: float = shared(ISDA, "lambda0")
    form: Form = shared(ISDA, "form")

    @property
    def sba(self) -> SBA:
        """The part that makes virtual points."""
        return SBA(**{name: getattr(self, name) for name in definitions(SBAISDA) if name not in ("lambda0", "form")})

    @property
    def isda(self) -> ISDA:
        """The part that widens the logits of the raw points."""
        return ISDA(lambda0=self.lambda0, form=self.form)

    def voting_vicinity(self) -> SBA:
        return self.sba.voting_vicinity()

    def memory(self, network: Staged) -> nn.Module | None:
        return self.isda.memory(network)

    def check(self, network: Staged) -> None:
        self.isda.check(network)
        self.sba.check(network)

    def terms(self, network: Staged, x: Tensor, y: Tensor, now: Step, memory: nn.Module | None) -> dict[str, Tensor]:
        sba, last = self.sba, network.stages[-2]
        layer = sba.augmented_layer(network, now)
        tail = Tail(network, layer or last, sba.virtual_dropout, sba.batch_norm)
        h = network(x, until=layer or last)
        features = tail.raw(h, until=last)
        logits = network(features, after=last)
        terms = sba_objective(self.isda.widened(network, features, logits, y, now, memory), y, None, self.eta)
        if layer is not None:
            virtual = tail.virtual(sba.virtual_points(h, now.generator("vicinity", h.device), layer))
            terms["virtual"] = sba_objective(logits, y, virtual, self.eta, sba.detach)["virtual"]
        return terms
