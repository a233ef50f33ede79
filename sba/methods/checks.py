"""What methods refuse before they compute: numbers out of range, and networks that do not fit."""

import math

from sba.core.errors import ConfigError
from sba.core.staged import Staged


def check_range(name: str, value: float, low: float, high: float) -> None:
    """Raise :class:`ConfigError` unless a number lies in [low, high], or in [low, ∞) if ``high`` is infinite."""
    if not low <= value <= high or math.isinf(value):
        end = "∞)" if math.isinf(high) else f"{high:g}]"
        raise ConfigError(f"{name}: {value!r} is not allowed; give a number in [{low:g}, {end}")


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
