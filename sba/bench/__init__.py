"""Speed as ratios measured in one process."""

from sba.core.errors import require

require(__name__, "train", "click")
