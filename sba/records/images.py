"""The sampling of test images, which intervals over seeds leave out: two networks compared on the images each got right."""

import base64
from dataclasses import dataclass

import numpy as np

from sba.core.errors import require
from sba.records.compare import Runs
from sba.records.inference import LEVEL
from sba.records.schema import TrainRecord


def pack(right: np.ndarray) -> str:
    """Write which images were right, of shape (N,), as text in base64: 1.7 kB for 10,000."""
    return base64.b64encode(np.packbits(np.asarray(right, bool)).tobytes()).decode("ascii")


def unpack(text: str, images: int) -> np.ndarray:
    """Read what :func:`pack` wrote; a ``ValueError`` says that the text holds another number of images."""
    held = np.frombuffer(base64.b64decode(text, validate=True), np.uint8)
    if len(held) != -(-images // 8):
        raise ValueError(f"images: {8 * len(held)} bits cannot be those of {images} images")
    return np.unpackbits(held, count=images).astype(bool)


def right_in(record: TrainRecord) -> np.ndarray | None:
    """Return which images a record's network got right, of shape (N,), in the data set's order; None if it does not say so."""
    return None if record.right is None else unpack(record.right.bits, record.right.images)


def mcnemar_p(ours: np.ndarray, theirs: np.ndarray) -> float:
    """Compare two networks, each by which images it got right, of shape (N,), and return the two-sided p-value of McNemar's exact
    test (Psychometrika 12, 1947; ``statsmodels.stats.contingency_tables.mcnemar``).

    It is about these two networks, not about their settings: it leaves out how runs vary.
    """
    require(__name__, "train", "statsmodels")
    # imported late, since it takes a second
    from statsmodels.stats.contingency_tables import mcnemar

    ours, theirs = np.asarray(ours, bool), np.asarray(theirs, bool)
    table = [[int((a & b).sum()) for b in (theirs, ~theirs)] for a in (ours, ~ours)]
    return float(mcnemar(table, exact=True).pvalue)


def image_interval(ours: np.ndarray, theirs: np.ndarray, resamples: int = 9999, seed: int = 0) -> tuple[float, float]:
    """Return the 95 % interval of a difference in error over samples of test images, in points, by the bootstrap's percentiles.

    Images are drawn with replacement and runs are kept. Of images whose difference is equal only the number matters, so that
    the numbers are drawn, from the multinomial distribution that images drawn one by one have. The sides say whether each run got
    each image right, of shapes (n, N) and (m, N), or (N,) for one run.
    """
    right, other = (np.atleast_2d(np.asarray(side, float)).mean(0) for side in (ours, theirs))
    values, counts = np.unique(np.round(other - right, 12), return_counts=True)
    images = int(counts.sum())
    drawn = np.random.default_rng(seed).multinomial(images, counts / images, size=resamples)
    low, high = np.quantile(100 * drawn @ values / images, [LEVEL / 2, 1 - LEVEL / 2])
    return float(low), float(high)


@dataclass(frozen=True)
class Sampling:
    """What the choice of test images adds to a difference of errors after the last epoch."""

    low: float  #: lower end of the 95 % interval over samples of images (:func:`image_interval`), in points
    high: float  #: upper end
    pairs: dict[int, float]  #: seed → p-value of its two networks (:func:`mcnemar_p`)

    def __str__(self) -> str:
        p = sorted(self.pairs.values())
        named = f"; McNemar’s p from {p[0]:.2g} to {p[-1]:.2g} over {len(p)} pairs of networks" if p else ""
        return f"over test images [{self.low:+.2f}, {self.high:+.2f}]{named}".replace("-", "−")


def sampling(ours: Runs, theirs: Runs) -> Sampling | None:
    """Compare two settings on the images that each run got right; None if a record does not say which, or the data differ."""
    right, other = (
        {seed: row for seed, record in side.items() if (row := right_in(record)) is not None} for side in (ours, theirs)
    )
    fingerprints = {record.fingerprint for side in (ours, theirs) for record in side.values()}
    if not right or not other or (len(right), len(other), 1) != (len(ours), len(theirs), len(fingerprints)):
        return None
    pairs = {seed: mcnemar_p(right[seed], other[seed]) for seed in sorted(right.keys() & other.keys())}
    low, high = image_interval(np.stack(list(right.values())), np.stack(list(other.values())))
    return Sampling(low, high, pairs)
