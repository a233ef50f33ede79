"""Another network's modules as a chain, so that its published weights load under their own names."""

from collections.abc import Iterator, Mapping, Sequence

from torch import nn

from sba.core.staged import Staged


class Borrowed(Staged):
    """A chain over the modules of another network, which keep their names: its state dict is that network's, key for key.

    Args:
        network: whose modules are taken, with their weights; not used afterwards.
        stages: name → the paths of the modules that make it, in order, such as ``("features.0", "features.1")``; a module that
            the network has not, as the flattening that it does by a function, is given itself and has no weights.

    Raises:
        ValueError: a part of the network that has weights is in no stage, or in two.
    """

    def __init__(self, network: nn.Module, stages: Mapping[str, Sequence[str | nn.Module]]):
        super().__init__(())
        for name, child in network.named_children():
            self.add_module(name, child)
        parts = {
            name: [self.get_submodule(p) if isinstance(p, str) else p for p in given] for name, given in stages.items()
        }
        # in a tuple, where torch does not look for modules: those of the network are registered above
        self._chain = tuple(
            (name, modules[0] if len(modules) == 1 else nn.Sequential(*modules)) for name, modules in parts.items()
        )
        used = [id(p) for _, stage in self._chain for p in stage.parameters()]
        if len(used) != len(set(used)) or set(used) != {id(p) for p in network.parameters()}:
            raise ValueError(f"stages: {list(stages)} must hold every weight of the network once; give all its modules")

    @property
    def links(self) -> dict[str, nn.Module]:
        return dict(self._chain)

    def __len__(self) -> int:
        return len(self._chain)

    def __iter__(self) -> Iterator[nn.Module]:
        return iter(self.links.values())

    def __getitem__(self, index: int | slice) -> nn.Module:  # type: ignore[override]
        stages = list(self.links.values())[index]
        return nn.Sequential(*stages) if isinstance(stages, list) else stages

    def train(self, mode: bool = True) -> "Borrowed":
        super().train(mode)
        # a module without weights that is in the chain alone, and the wrappers of several
        for _, stage in self._chain:
            stage.train(mode)
        return self
