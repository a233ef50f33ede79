"""What a line of a results file must hold to stand for a run, whoever wrote it."""

from typing import Any, Literal

from pydantic import BaseModel, ConfigDict, ValidationError


class Part(BaseModel):
    """Knows some fields and allows others, which newer versions may add."""

    model_config = ConfigDict(extra="allow", strict=True, allow_inf_nan=False)


class MethodSettings(Part):
    """The method of a run."""

    name: str


class Settings(Part):
    """The configuration of a run."""

    dataset: str
    network: str
    seed: int
    epochs: int
    full_epochs: int
    cutout: int
    method: MethodSettings


class Epoch(Part):
    """One epoch of a run: :class:`sba.training.epoch.EpochRecord`."""

    epoch: int
    error: float
    nll: float
    seconds: float
    images: int
    terms: dict[str, float]
    counts: dict[str, int]


class Diverged(Part):
    """A run whose loss became infinite."""

    id: str
    kind: Literal["train", "diverged"]
    key: str
    settings: Settings
    reduced: bool
    fingerprint: str
    evaluated_on: Literal["test", "holdout"]
    epochs: list[Epoch]
    device: str
    device_name: str
    threads: int
    versions: dict[str, str]
    date: str
    study: str = ""


class Trained(Diverged):
    """A finished run."""

    error: float
    error_last: float
    seconds_per_epoch: float


class Measured(Part):
    """A benchmark."""

    id: str
    kind: Literal["bench"]
    name: str
    value: float
    low: float
    high: float
    device: str
    device_name: str
    details: dict[str, Any]


KINDS: dict[str, type[Part]] = {"train": Trained, "diverged": Diverged, "bench": Measured}
"""Kind of record → what it must hold; records of other kinds are left to who reads them."""


def fault(record: dict[str, Any]) -> str:
    """Say what a record lacks, as "settings.seed: Input should be a valid integer", or "" where it lacks nothing."""
    kind = KINDS.get(record["kind"]) if isinstance(record.get("kind"), str) else None
    if kind is None:
        return ""
    try:
        kind.model_validate(record)
    except ValidationError as error:
        first = error.errors()[0]
        return f"{'.'.join(map(str, first['loc']))}: {first['msg']}"
    return "epochs: there is none" if kind is Trained and not record["epochs"] else ""
