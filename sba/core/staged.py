"""Networks as chains of named stages, so that training can stop at any layer k and go on from there.

The paper writes f(x) = g_{k+1}(h_k(x)) (§3.1). Here ``net(x, until=k)`` is h_k, ``net(h, after=k)`` is g_{k+1}, and their
composition equals ``net(x)`` bit for bit: it is the same sequence of calls.
"""

from collections import OrderedDict
from collections.abc import Callable, Iterable, Sequence

import torch
from torch import Tensor, nn

from sba.core.errors import ConfigError

INPUT = "input"
"""The name of layer 0: the input itself."""


class Staged(nn.Sequential):
    """A network that is a chain of named stages.

    Args:
        stages: pairs (name, module), from the input to the logits.
        input_shape: of one image, (C, H, W); what must know the shapes of activations asks for it.

    Attributes:
        stages: the names in order. Any of them, or ``"input"``, may be given as ``until`` or ``after``.
        through: for stages that are not simply called in training, what takes the stage and its input.

    >>> network = Staged([("hidden", nn.Linear(2, 3)), ("logits", nn.Linear(3, 4))])
    >>> x = torch.ones(5, 2)
    >>> h = network(x, until="hidden")
    >>> torch.equal(network(h, after="hidden"), network(x))
    True
    """

    def __init__(self, stages: Iterable[tuple[str, nn.Module]], input_shape: Sequence[int] | None = None):
        super().__init__(OrderedDict(stages))
        self.input_shape = None if input_shape is None else tuple(input_shape)
        self.through: dict[nn.Module, Callable[[nn.Module, Tensor], Tensor]] = {}
        self._shapes: dict[tuple[int, ...], dict[str, tuple[int, ...]]] = {}

    @property
    def links(self) -> dict[str, nn.Module]:
        """Name → stage, in order."""
        return {name: stage for name, stage in self._modules.items() if stage is not None}

    @property
    def stages(self) -> tuple[str, ...]:
        return tuple(self.links)

    @property
    def linear_inputs(self) -> tuple[str, ...]:
        """Names of the layers whose output a linear layer reads: the paper's usual set S (§4.3)."""
        linear = [any(isinstance(m, nn.Linear) for m in stage.modules()) for stage in self.links.values()]
        return tuple(before for before, reads in zip((INPUT, *self.stages), linear, strict=False) if reads)

    @property
    def last_linear(self) -> nn.Linear:
        """The stage that puts out the logits; a :class:`ConfigError` if it is no linear layer."""
        *_, (name, stage) = self.links.items()
        if not isinstance(stage, nn.Linear):
            raise ConfigError(
                f"network: it must end in a linear layer, this one ends in {name!r}; give another network"
            )
        return stage

    def position(self, layer: str) -> int:
        """Return how many stages come up to and including ``layer``, 0 for ``"input"``; :class:`ConfigError` if there is none."""
        layers = (INPUT, *self.stages)
        if layer not in layers:
            raise ConfigError(f"layers: there is no layer {layer!r} in this network; choose from {', '.join(layers)}")
        return layers.index(layer)

    def behind(self, layer: str) -> list[nn.Module]:
        """List the modules, each once, whose own code runs behind ``layer``."""
        stages = list(self.links.values())[self.position(layer) :]
        return list(dict.fromkeys(module for stage in stages for module in stage.modules()))

    def isolated(self, layer: str) -> bool:
        """Whether what follows a layer depends on its activation alone: in a chain it always does."""
        return True

    def recomputed(self, layer: str) -> bool:
        """Whether a module behind a layer runs again in the backward pass: no stage of this package's networks does."""
        return False

    def shape(self, layer: str) -> tuple[int, ...]:
        """Return the shape of one activation of ``layer``, without the batch. Nothing is computed and nothing is drawn.

        Raises:
            ConfigError: there is no such layer, or the network does not know the shape of its input.
        """
        self.position(layer)
        return self.shapes()[layer]

    def shapes(self) -> dict[str, tuple[int, ...]]:
        """Return the shape of one activation of each layer, from the input on, as :meth:`shape` does of one."""
        if self.input_shape is None:
            raise ConfigError(
                "input_shape: None is not enough to know the layers' shapes; give Staged(stages, (C, H, W))"
            )
        if self.input_shape not in self._shapes:
            dtype = next((p.dtype for p in self.parameters() if p.is_floating_point()), None)
            h = torch.empty(2, *self.input_shape, device="meta", dtype=dtype)
            found = {INPUT: self.input_shape}
            for name, stage in self.links.items():
                tensors = [*stage.named_parameters(), *stage.named_buffers()]
                meta = {name: torch.empty_like(tensor, device="meta") for name, tensor in tensors}
                h = torch.func.functional_call(stage, meta, (h,))
                found[name] = tuple(h.shape[1:])
            self._shapes[self.input_shape] = found
        return self._shapes[self.input_shape]

    def forward(self, x: Tensor, until: str | None = None, after: str | None = None) -> Tensor:
        """Run the chain, or a part of it.

        Args:
            x: the input of shape (N, C, H, W), or, with ``after``, the activation that layer put out.
            until: the last stage to run; all of them by default.
            after: the layer that put out ``x``; the input by default.

        Returns:
            The output of stage ``until``: logits of shape (N, classes) by default.
        """
        start = 0 if after is None else self.position(after)
        stop = len(self) if until is None else self.position(until)
        if stop < start:
            raise ConfigError(f"until: {until!r} comes before {after!r} in this network; give a later stage")
        for stage in list(self.links.values())[start:stop]:
            x = self.through[stage](stage, x) if self.training and stage in self.through else stage(x)
        return x
