"""k-mixup (Greenewald et al., 2021): mix samples that optimal transport matches within blocks of k."""

from collections.abc import Callable
from typing import Any, ClassVar

import torch
from torch import Tensor, nn

from sba.distributed import total
from sba.errors import ConfigError
from sba.hyper import configuration, hyper, shared
from sba.methods.method import Method, check_layers, drawn
from sba.methods.mixup import MIXED_LOSS, Mixup, other_order
from sba.mixing import beta, mix, mixed_cross_entropy
from sba.moment import Moment
from sba.pairing import alpha_for, begin_pairs, shrinkage
from sba.staged import INPUT, Staged


@configuration
class KMixup(Method):
    """Match two orders of a batch in blocks of k by least squared distance, then mix as mixup does; k = 1 is mixup."""

    name: ClassVar[str] = "k-mixup"
    title: ClassVar[str] = "k-mixup"
    formula: ClassVar[str] = (
        MIXED_LOSS + r",\quad \pi = \arg\min_\pi \sum_i \lVert \mathbf h_i - \mathbf h_{\pi(i)} \rVert^2"
    )
    cited: ClassVar[tuple[str, ...]] = ("greenewald2021kmixup",)

    k: int = hyper(16, "samples in a block that is matched", symbol="k", source="example of the authors' code", ge=1)
    alpha: float = hyper(
        10.0, "λ ~ Beta(α, α); 0 for λ = 1, plain training", symbol="α", source="example of the authors' code", ge=0
    )
    match_mixup: bool = hyper(
        False,
        "raise α, to 100 at most, so that points move as far as mixup's do with the given α; where 100 is not enough they do not",
        source="in the authors' code, unused there",
    )
    layers: tuple[str, ...] = shared(Mixup, "layers")

    def check(self, network: Staged) -> None:
        check_layers(self.layers, network)

    def check_batch(self, rows: int, views: int) -> None:
        if self.k == 1 or not self.alpha:
            return
        if rows < 2 * self.k:
            raise ConfigError(
                f"k: {self.k} leaves a batch of {rows} no two blocks to match; give at most {max(1, rows // 2)}"
            )
        if views > 1:
            # the nearest partner of a view is another view of the same image, and then nothing is mixed
            raise ConfigError(f"views: {views} in one pass would be matched with each other by k-mixup; give chunked")

    def ahead(self, now: Moment) -> Callable[[Tensor], Callable[[], Any]] | None:
        """At the input, partners depend on the images alone.

        Behind a layer they depend on the weights: there :meth:`terms` waits until the network has computed the layer, and then for
        the assignment, at every step, and so does a GPU.
        """
        if not self.alpha or self.k == 1 or drawn(self.layers, now) != INPUT:
            return None
        return lambda x: self.matching(x, now)

    def terms(
        self,
        network: Staged,
        x: Tensor,
        y: Tensor,
        now: Moment,
        memory: nn.Module | None,
        matched: tuple[Tensor, float] | None = None,
    ) -> dict[str, Tensor]:
        layer = drawn(self.layers, now)
        h = network(x, until=layer)
        partners, lam = self.matching(h, now)() if matched is None else matched
        logits = network(mix(h, partners, lam), after=layer)
        return {"cross_entropy": mixed_cross_entropy(logits, y, y[partners], lam)}

    def matching(self, h: Tensor, now: Moment) -> Callable[[], tuple[Tensor, float]]:
        """Begin to match the rows of h, and return the function that gives their partners and λ.

        λ is one number for all ranks: where it depends on how close matched rows are, the rows of all ranks count.
        """
        order = self.second_order(len(h), now, h.device)
        finish = begin_pairs(h, order, self.k) if self.alpha else lambda: order

        def matched() -> tuple[Tensor, float]:
            partners, alpha = finish(), self.alpha
            if self.match_mixup:
                alpha = alpha_for(alpha, shrinkage(h, order, partners, total))
            return partners, beta(now.uniform("weight"), alpha)

        return matched

    def second_order(self, n: int, now: Moment, device: torch.device) -> Tensor:
        """Return the order that the batch is matched with: drawn for k = 1, as in mixup; else such that no block meets itself.

        Batches are shuffled already, so blocks matched with the next ones are independent.
        """
        if self.k == 1 or not self.alpha:
            return other_order(n, now, device)
        self.check_batch(n, 1)
        return torch.arange(n, device=device).roll(self.k)
