"""What methods refuse before they compute: numbers out of range, and networks that do not fit."""

import functools
import math
from collections.abc import Callable
from typing import Any

from torch import Tensor

from sba.core.errors import ConfigError
from sba.core.method import Method
from sba.core.staged import Staged


def checked(cls: type[Method]) -> type[Method]:
    """Let a method look for its layers at every call: one that does not exist must not wait for the first augmented step."""

    def after_check(own: Callable[..., Any]) -> Callable[..., Any]:
        @functools.wraps(own)
        def first(self: Method, network: Any, *given: Any, **named: Any) -> Any:
            if not hasattr(network, "position"):
                raise ConfigError(
                    f"network: {type(network).__name__} is no chain of stages; give Staged(…), or use attach(model, …)"
                )
            for layer in getattr(self, "layers", ()):
                network.position(layer)
            return own(self, network, *given, **named)

        return first

    for name in {"memory", "terms"} & vars(cls).keys():
        setattr(cls, name, after_check(vars(cls)[name]))
    return cls


def check_range(name: str, value: float, low: float, high: float) -> None:
    """Raise :class:`ConfigError` unless a number lies in [low, high], or in [low, ∞) if ``high`` is infinite."""
    if not low <= value <= high or math.isinf(value):
        end = "∞)" if math.isinf(high) else f"{high:g}]"
        raise ConfigError(f"{name}: {value!r} is not allowed; give a number in [{low:g}, {end}")


def check_share(lam: float | Tensor, rows: int) -> None:
    """Raise :class:`ConfigError` unless λ is a number in [0, 1], or floats in [0, 1] of shape (B,); values on a CPU alone."""
    if not isinstance(lam, Tensor):
        check_range("lam (λ)", lam, 0, 1)
    elif lam.shape != (rows,) or not lam.is_floating_point():
        raise ConfigError(
            f"lam (λ): {lam.dtype} of shape {tuple(lam.shape)} is not allowed; give floats of shape ({rows},)"
        )
    elif lam.device.type == "cpu" and not ((lam >= 0) & (lam <= 1)).all():
        raise ConfigError(
            f"lam (λ): values from {lam.min():g} to {lam.max():g} are not allowed; give numbers in [0, 1]"
        )


def check_linear_end(name: str, network: Staged) -> None:
    """Raise :class:`ConfigError` if a method that works on the last linear layer is given a network without one."""
    try:
        fits = len(network) > 1 and network.last_linear is not None
    except ConfigError:
        fits = False
    if not fits:
        raise ConfigError(
            f"method: {name!r} needs a network that ends in a linear layer, this one ends in {network.stages[-1]!r}; give sba"
        )
