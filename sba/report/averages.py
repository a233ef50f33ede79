"""Records averaged over seeds: what stands in a row of a table. Reduced runs never stand among full ones."""

import dataclasses
import statistics
from collections.abc import Iterable, Sequence
from dataclasses import dataclass

from sba.core.errors import ResultsError
from sba.methods import ERM, METHODS, SBAISDA, RDrop
from sba.records.compare import Index, Runs
from sba.records.inference import Contrast, contrast
from sba.records.names import column, title
from sba.records.schema import Record, TrainRecord, setting_of
from sba.records.stats import interval
from sba.training.run import Run, make_run

SYMBOLS = {"eta": "η", "omega": "ω", "folds": "M"}
"""The hyper-parameters that decide what a method is."""


@dataclass(frozen=True)
class Average:
    """Records that differ in nothing but the seed."""

    records: tuple[TrainRecord, ...]  #: in their order
    mean: float  #: of the runs' errors in per cent; an error is the median over the last five epochs
    half: float | None  #: half the width of the 95 % interval of the mean (Student's t), None for one run

    @property
    def run(self) -> Run:
        """The first of the runs."""
        return self.records[0].run

    @property
    def column(self) -> str:
        """The column of Table 1 that the runs belong to."""
        return column(self.run)

    @property
    def reduced(self) -> bool:
        """Whether the runs were shorter than their regime."""
        return self.records[0].reduced

    @property
    def n(self) -> int:
        """The number of runs, of different seeds."""
        return len(self.records)

    @property
    def ids(self) -> tuple[str, ...]:
        """The records."""
        return tuple(r.id for r in self.records)

    @property
    def by_seed(self) -> Runs:
        """Seed → record."""
        return {r.seed: r for r in self.records}

    @property
    def seconds(self) -> dict[str, float]:
        """Name of a device → median time of an epoch's training steps there: devices are not to be averaged."""
        found: dict[str, list[float]] = {}
        for record in self.records:
            found.setdefault(record.device_name, []).append(record.seconds_per_epoch)
        return {name: statistics.median(values) for name, values in found.items()}

    def beside(self, device: str) -> str:
        """Say how many other runs shared a device with these, as their records have it: that decides what the seconds mean."""
        return neighbours([r.jobs for r in self.records if r.device_name == device])

    def __str__(self) -> str:
        return f"{written(self.mean, self.half)} (n={self.n})"


def neighbours(jobs: Sequence[int | None]) -> str:
    """Say how many other runs shared a machine with some runs at most, from how many there were in all; None was not recorded."""
    most = max((n for n in jobs if n), default=0)
    told = "alone" if most < 2 else f"beside {most - 1} other{'s' if most > 2 else ''}"
    return told if None not in jobs else "neighbours not recorded" if most < 2 else f"{told} if recorded"


def written(mean: float, half: float | None) -> str:
    """Write a mean with half of its interval, if there is one."""
    return f"{mean:.2f}" + ("" if half is None else f" ± {half:.2f}")


def average(records: Sequence[TrainRecord]) -> Average | None:
    """Average records that differ in nothing but the seed; None for no records. Raise :class:`ResultsError` if they differ in more
    than the seed, or a seed stands twice."""
    if not records:
        return None
    if len({(r.setting, r.fingerprint) for r in records}) > 1 or len({r.seed for r in records}) < len(records):
        raise ResultsError(
            f"records: {', '.join(r.id for r in records)} are not one run at different seeds; choose among them"
        )
    return Average(tuple(records), *interval([r.error for r in records]))


def evidence(records: Iterable[Record]) -> list[TrainRecord]:
    """Keep the training records that were evaluated on a test set and belong to no study of their own."""
    return [r for r in records if isinstance(r, TrainRecord) and r.evaluated_on == "test" and not r.study]


def averages(records: Iterable[TrainRecord]) -> list[Average]:
    """Average records over their seeds, full regimes first, then by data set, network, method and length.

    Of several records of one run and data the first counts.
    """
    found: dict[tuple[str, str], dict[int, TrainRecord]] = {}
    for record in records:
        found.setdefault((record.setting, record.fingerprint), {}).setdefault(record.seed, record)
    every = [one for seeds in found.values() if (one := average(list(seeds.values())))]
    return sorted(
        every, key=lambda one: (one.reduced, one.run.dataset, one.run.network, *rank(one.run), one.run.epochs)
    )


def rank(run: Run) -> tuple[int, bool, bool]:
    """Order the rows of a table: methods as the registry has them, each alone, then with Cutout, then on several views."""
    return list(METHODS).index(run.method.name), run.views > 1, run.cutout > 0


def plain(run: Run) -> Run:
    """Return plain training in the same regime at the same seed: what a method is compared with."""
    return dataclasses.replace(run, method=ERM(), cutout=0, views=1, chunked=False, adapt_norm=False)


def without(run: Run) -> Run:
    """Return the run that a method is compared with: of a composed one the part that it adds to, of R-Drop its dropout, else plain
    training."""
    if isinstance(run.method, SBAISDA):
        return dataclasses.replace(run, method=run.method.isda)
    composed = run.cutout and (run.method.name != "erm" or run.views > 1)
    return dataclasses.replace(plain(run), cutout=run.cutout if composed else 0)


def over_part(index: Index, run: Run) -> tuple[str, Contrast | None] | None:
    """Return the column that a run is compared with (:func:`without`), in the same regime, and the difference of the indexed runs,
    None if one side was not run or their data differ; None for plain training."""
    own, other = setting_of(run), without(run)
    if setting_of(other) == own:
        return None
    ours, theirs = index.get(own, {}), index.get(setting_of(other), {})
    data = {record.fingerprint for side in (ours, theirs) for record in side.values()}
    part = "dropout" if other.feature_dropout else column(other)
    return part, contrast(ours, theirs) if len(data) == 1 else None


def deviations(run: Run) -> list[str]:
    """List in what a run departs from its network's regime, as "lr=0.5"; epochs and precision are not counted."""
    usual = make_run(run.dataset, run.network, epochs=run.epochs).settings()
    # R-Drop is nothing without dropout
    free = {"seed", "amp", "channels_last", "holdout", *(["feature_dropout"] if isinstance(run.method, RDrop) else [])}
    own = plain(run).settings()
    return [f"{k}={own[k]}" for k in usual if k not in free and own[k] != usual[k]]


def labelled(run: Run) -> str:
    """Write a run's method, its hyper-parameters, what departs from the regime, and a precision other than float32."""
    precision = [] if run.amp == "none" else [run.amp]
    return " ".join(filter(None, [title(column(run)), settings(run), *deviations(run), *precision]))


def settings(run: Run) -> str:
    """Write what a run's method is set to: η, ω and M if it has them, and what is not the default; views are among them."""
    method, usual = run.method.settings(), type(run.method)().settings()
    own = [f"{s}={method[name]:.4g}" for name, s in SYMBOLS.items() if name in method]
    if run.views > 1:
        how = [k.replace("_", " ") for k in ("chunked", "adapt_norm") if getattr(run, k)]
        own.append(", ".join([f"{run.views} views", *how]))
    if isinstance(run.method, RDrop):
        own.append(f"rate={run.feature_dropout:g}")
    return ", ".join(own + [f"{k}={v}" for k, v in method.items() if k not in SYMBOLS and v != usual[k]])
