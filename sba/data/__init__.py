"""Data sets."""

from sba.core.errors import require

require(__name__, "train", "sklearn", "torchvision", "PIL")
