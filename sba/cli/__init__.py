"""The command line."""

from sba.core.errors import require

require(__name__, "train", "click", "tqdm")
