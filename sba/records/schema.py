"""Records as objects: a line of a results file is read into one of these, and nobody indexes it after that."""

import dataclasses
import functools
import math
from collections.abc import Mapping
from typing import Any, Literal

from pydantic import BaseModel, ConfigDict, Field, ValidationError, model_validator

from sba.core.errors import ResultsError
from sba.records.comparison import Comparison, from_name
from sba.training.run import Run, from_settings

WRITTEN = ("dataset", "network", "method", "seed", "epochs", "full_epochs", "cutout")
"""Settings that every version wrote: a record without one of them was edited."""

VOID_VOTES = ("mixup", "k-mixup", "decoupled")
"""Methods whose own field of layers was once taken for the layers of the vote."""


class Part(BaseModel):
    """Knows some fields and keeps others, which newer versions may add."""

    model_config = ConfigDict(extra="allow", strict=True, allow_inf_nan=False, frozen=True)


class Epoch(Part):
    """One epoch of a run: :class:`sba.training.epoch.EpochRecord`."""

    epoch: int
    error: float = math.nan
    nll: float = math.nan
    seconds: float
    images: int
    terms: dict[str, float]
    counts: dict[str, int]
    error_top5: float | None = None


class Right(Part):
    """Which images a network got right: how many there are, and a bit for each in base64, in the data set's order
    (:func:`sba.records.images.unpack`)."""

    images: int
    bits: str


class Record(Part):
    """A line of a results file."""

    id: str  #: what the book cites it by
    kind: str = ""  #: "train", "diverged" or "bench"; records of other kinds are left to the caller
    file: str = ""  #: it was read from; not written
    line: int = 0  #: in that file, from 1

    def as_json(self) -> dict[str, Any]:
        """Return what stands in the file, nothing added."""
        return self.model_dump(by_alias=True, exclude_unset=True, exclude={"file", "line"})


class RunRecord(Record):
    """A run, whatever came of it."""

    kind: Literal["train", "diverged"]
    written_key: str = Field(alias="key")  #: the key of the run by the version that made it
    settings: dict[str, Any]  #: of the run, as that version wrote them; :attr:`run` has newer fields at their defaults
    reduced: bool  #: whether the run was shorter than its regime
    fingerprint: str  #: of the data
    evaluated_on: Literal["test", "holdout"]
    epochs: list[Epoch]  #: the last ones, as many as its study keeps
    device: str
    device_name: str
    threads: int
    versions: dict[str, str]
    date: str
    source: str = ""
    study: str = ""  #: what the run was made for; "" if it stands among the results of the book's tables
    processes: int = 1  #: that shared each batch
    jobs: int | None = None  #: runs that shared the machine, for the meaning of its seconds; None if it was not kept
    graphs: bool = False  #: whether steps were captured as CUDA graphs
    compiled: bool = False  #: whether stages were compiled

    @model_validator(mode="after")
    def repeatable(self) -> "RunRecord":
        """Refuse a run that this version cannot repeat."""
        if missing := [name for name in WRITTEN if name not in self.settings]:
            raise ValueError(f"settings.{missing[0]}: Field required")
        _ = self.run
        return self

    @functools.cached_property
    def run(self) -> Run:
        """The run, with fields that are newer than the record at their defaults."""
        return from_settings(self.settings)

    @functools.cached_property
    def key(self) -> str:
        """The key of the run as this version computes it."""
        return self.run.key

    @functools.cached_property
    def setting(self) -> str:
        """The key at seed 0: equal for runs that differ in the seed alone."""
        return setting_of(self.run)

    @property
    def seed(self) -> int:
        """The seed of the run."""
        return self.run.seed


class DivergedRecord(RunRecord):
    """A run whose loss became infinite; ``reason`` names the step."""

    kind: Literal["diverged"]
    reason: str = ""


class TrainRecord(RunRecord):
    """A finished run."""

    kind: Literal["train"]
    epochs: list[Epoch] = Field(min_length=1)
    error: float  #: median of the last five epochs, in per cent
    error_last: float  #: of the last epoch, in per cent
    seconds_per_epoch: float  #: median, training steps alone
    #: error of the majority vote at the last epoch, in per cent; :attr:`error_vote` is what counts
    written_vote: float | None = Field(default=None, alias="error_vote")
    curve: dict[str, list[float]] = {}  #: of the study of ω × η: every epoch's "error", "nll" and "cross_entropy"
    calibration: dict[str, Any] = {}  #: after the last epoch: "ece", "brier" and the reliability bins
    decision: dict[str, Any] = {}  #: a picture of the decision between two moons
    attacked: int = 0  #: images that were attacked
    clean: float | None = None  #: error on those, in per cent
    attacks: dict[str, dict[str, list[float]]] = {}  #: "fgsm", "pgd-inf", "pgd-2" → "radii" and "error"
    checks: dict[str, float] = {}  #: what checks that an attack is strong → error, in per cent
    corruptions: dict[str, list[float]] = {}  #: name → error at each severity, in per cent
    latent: dict[str, dict[str, list[float]]] = {}  #: layer → "error" and "divergence" under noise there
    human: dict[str, float] = {}  #: against people's labels: "cross_entropy", "divergence"
    #: images that were right after the last epoch; None in older records, and if some could not be read
    right: Right | None = None

    @property
    def vote_left_out(self) -> str:
        """Why the vote of the record does not count; "" if it does, or was not asked.

        While the vote was a field of a run, networks of :data:`VOID_VOTES` voted at mixup's own layers. Twenty records of the study
        of robustness hold such a vote.
        """
        void = self.settings.get("vote", False) and self.run.method.name in VOID_VOTES
        return "its virtual points are those of the input, not of SBA's layers (open point 22)" if void else ""

    @property
    def error_vote(self) -> float | None:
        """Error of the majority vote at the last epoch, in per cent; None if it was not asked or is left out."""
        return None if self.vote_left_out else self.written_vote


class BenchRecord(Record):
    """A benchmark: how many times one thing is of another."""

    kind: Literal["bench"]
    name: str  #: what was compared, for people
    value: float  #: median over rounds
    low: float  #: smallest round
    high: float  #: largest round
    details: dict[str, float]  #: medians of what was timed, with their units in the names
    device: str
    device_name: str
    threads: int = 0
    rounds: int = 0
    date: str = ""
    about: Comparison | None = None  #: what was compared, in records that have it; :attr:`compared` has it for all

    @functools.cached_property
    def compared(self) -> Comparison:
        """What was compared: older records say it in their names alone."""
        return self.about or from_name(self.name)

    @property
    def quartiles(self) -> tuple[float, float]:
        """The middle half of the rounds; older records have the smallest and the largest round alone."""
        return self.details.get("lower quartile", self.low), self.details.get("upper quartile", self.high)


KINDS: dict[str, type[Record]] = {"train": TrainRecord, "diverged": DivergedRecord, "bench": BenchRecord}


def parse(content: Mapping[str, Any]) -> Record:
    """Read a record from what JSON holds; a :class:`ResultsError` says what it lacks, as "settings.seed: Field required"."""
    if not isinstance(content, Mapping):
        raise ResultsError(f"a record is an object with an id, not {content!r:.40}")
    kind = content.get("kind")
    try:
        return (KINDS.get(kind, Record) if isinstance(kind, str) else Record).model_validate(content)
    except ValidationError as error:
        first = error.errors()[0]
        said = [".".join(map(str, first["loc"])), first["msg"].removeprefix("Value error, ")]
        raise ResultsError(": ".join(filter(None, said))) from error


def setting_of(run: Run) -> str:
    """Return the key that a run has at seed 0: equal for runs that differ in the seed alone."""
    return dataclasses.replace(run, seed=0).key
