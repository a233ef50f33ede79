"""What a benchmark compares, as fields."""

import re
from typing import Any

from pydantic import BaseModel, ConfigDict

FAMILIES = (
    "loop",
    "step",
    "folds",
    "layers",
    "relatives",
    "attach",
    "import",
    "threads",
    "contenders",
    "compiled",
    "epochs",
    "packed",
)
"""Kinds of comparison that ``python -m sba bench`` makes."""


class Comparison(BaseModel):
    """What was compared with what."""

    model_config = ConfigDict(frozen=True, strict=True)

    family: str = ""  #: of :data:`FAMILIES`; "" for what is none of them
    network: str = ""  #: trained on images of CIFAR's shape; "" if none is trained
    method: str = ""  #: whose time is divided by the other, as cards name it
    variant: str = ""  #: of the method, "" for the usual one
    layer: str = ""  #: at which virtual points were made
    folds: int = 0  #: M, 0 if the method has none
    basis: str = ""  #: of the noise
    amp: str = ""  #: precision of our loop


LOOP, EPOCH = r"(?P<network>\w+) \((?P<amp>\w+)\): ", r"(?P<network>\w+) \((?P<amp>\w+)\), an epoch on .*: "
STEP, M, LAYER = r"(?P<network>\w+): ", r"M=(?P<folds>\d+)", r"layer (?P<layer>\w+)"
PATTERNS: tuple[tuple[str, dict[str, str]], ...] = (
    (LOOP + "speed of our loop over", {"family": "loop", "method": "erm"}),
    (EPOCH + "speed over a plain loop", {"family": "epochs", "method": "erm"}),
    (EPOCH + "speed of the compiled one", {"family": "epochs", "method": "erm", "variant": "compiled"}),
    (EPOCH + "SBA over plain", {"family": "epochs", "method": "sba"}),
    (STEP + f"cost, {M}, {LAYER}", {"family": "folds", "method": "sba", "basis": "colnorm"}),
    (STEP + rf"cost, {LAYER}, {M}, B=\d+, Hadamard", {"family": "layers", "method": "sba", "basis": "hadamard"}),
    (STEP + rf"SBA step \({M},.* {LAYER}\)", {"family": "step", "method": "sba", "basis": "colnorm"}),
    (STEP + r"SBA step \(M → ∞, second order\)", {"family": "step", "method": "implicit-sba"}),
    (STEP + r"SBA step \(M → ∞, bound\)", {"family": "step", "method": "implicit-sba", "variant": "bound"}),
    (STEP + r"(?P<method>[^ ,]+)(, (?P<variant>\w+))? step over a plain step", {"family": "relatives"}),
    ("ISDA loss and gradient", {"family": "relatives", "method": "isda"}),
    ("k-mixup's pairing", {"family": "relatives", "method": "k-mixup"}),
    ("import sba over import torch", {"family": "import"}),
)
"""Beginnings of the names that benchmarks had before their records had fields, and what they say."""


def from_name(name: str) -> Comparison:
    """Read what a benchmark compares from its name.

    >>> from_name("resnet44: cost, layer conv1, M=4, B=32, Hadamard, ω=0.0000, over a plain step").layer
    'conv1'
    """
    for pattern, fields in PATTERNS:
        if found := re.match(pattern, name):
            read: dict[str, Any] = {key: text for key, text in found.groupdict().items() if text is not None}
            return Comparison(**fields | read | {"folds": int(read.get("folds", 0))})
    return Comparison()
