"""Networks."""

from sba.core.errors import require

require(__name__, "train", "torchvision")
