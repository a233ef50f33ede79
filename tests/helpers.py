"""What several tests build, train and compare."""

import dataclasses
import itertools
import os

import pytest
import torch
from torch import nn

import sba
from sba.records.schema import parse

ACTIVE = {"sba": {"omega": 0.0, "eta": 0.5}, "implicit-sba": {"omega": 0.0, "eta": 0.5}, "isda": {"lambda0": 5.0}}
ACTIVE["sba+isda"] = {"omega": 0.0, "eta": 0.5, "lambda0": 5.0}
ACTIVE["k-mixup"] = {"k": 4}
"""Settings under which a few steps differ visibly from plain training, where the defaults do not."""

ON_THE_DATA = {
    "cutout": {"cutout": 4},
    "ba": {"views": 2},
    "ba, chunked": {"views": 2, "chunked": True},
    "ba, adapted": {"views": 2, "chunked": True, "adapt_norm": True},
    "cutout+ba": {"cutout": 4, "views": 2},
    "latent-ba": {"method": "sba", "preset": "latent-ba", "folds": 4},
}
"""Relatives that are settings of a run, or a preset; their null settings are the run's defaults, or the method's."""


def settings_of(name):
    """The parameters of a run that uses a method, or a relative on the data, visibly."""
    dropout = {"feature_dropout": 0.5} if name == "r-drop" else {}
    return ON_THE_DATA.get(name) or {"method": name, **ACTIVE.get(name, {}), **dropout}


def bounds(field):
    """The lowest and the highest value of a numeric hyper-parameter, None if it is open."""
    ends = {name: getattr(m, name) for m in field.metadata for name in ("ge", "gt", "le", "lt") if hasattr(m, name)}
    return ends.get("ge", ends.get("gt")), ends.get("le", ends.get("lt"))


# ----------------------------------------------------------------------------------------------------------- networks


def deep_network(classes=10, channels=1, side=8):
    """A network with batch normalisation and dropout behind every layer that may be augmented."""
    widths = (channels * side * side, 24, 16)
    stages = [("flatten", nn.Flatten())]
    for i in (1, 2):
        block = [nn.Linear(widths[i - 1], widths[i]), nn.BatchNorm1d(widths[i]), nn.ReLU(), nn.Dropout(0.5)]
        stages.append((f"fc{i}", nn.Sequential(*block)))
    return sba.Staged([*stages, ("fc3", nn.Linear(widths[-1], classes))], (channels, side, side))


def scene(seed=0):
    """That network in training, with a batch for it."""
    torch.manual_seed(seed)
    network = deep_network().train()
    return network, torch.randn(16, 1, 8, 8), torch.arange(16) % 10


def plane(rows=8):
    """A perceptron in float64, with a batch of points of the plane for it."""
    torch.manual_seed(0)
    return sba.build("mlp", 3, 2, 1).double(), torch.randn(rows, 2, 1, 1, dtype=torch.float64), torch.arange(rows) % 3


# ---------------------------------------------------------------------------------------------------------- trainings


def outcome(run, data):
    """Train to the end: the records without their times, and the state of network and memory."""
    training = sba.train(run, data)
    records = [(r.terms, r.error, r.nll) for r in training]
    return records, {k: v.clone() for k, v in training.objective.state_dict().items()}


def same(a, b):
    """Whether two states are equal bit for bit."""
    return a.keys() == b.keys() and all(torch.equal(a[k], b[k]) for k in a)


def network_of(state):
    """The part of a state that is the network's."""
    return {k: v for k, v in state.items() if k.startswith("network.")}


def whole(run, data, **options):
    """Train to the end."""
    training = sba.train(run, data, **options)
    list(training)
    return training


def after(steps):
    """A stop signal that comes after so many steps."""
    calls = itertools.count()
    return lambda: next(calls) >= steps


def file_run(**parameters):
    """A run of two epochs on the images in files of ``photographs``, 4 steps of 6 in each."""
    given = {"network": "resnet44", "side": 8, "batch_size": 6, "epochs": 2, **parameters}
    return sba.make_run("imagenette", **given)


def in_parts(run, data, folder, steps, options=lambda part: {}):
    """Train in parts, each stopped after so many steps, until it is finished; return how many parts, too."""
    for part in range(100):
        training = whole(run, data, folder=folder, stop=after(steps), **options(part))
        if training.finished:
            return training, part + 1
    raise AssertionError("the run makes no progress")


def states(training):
    """Everything that decides how a training goes on."""
    momenta = {i: s["momentum_buffer"] for i, s in training.optimizer.state_dict()["state"].items()}
    return {**training.objective.state_dict(), **momenta}


def assert_same(a, b):
    """Two trainings are equal bit for bit, but for the time they took."""
    timeless = [[dataclasses.replace(r, seconds=0.0) for r in t.history] for t in (a, b)]
    assert timeless[0] == timeless[1]
    assert a.step == b.step
    assert same(states(a), states(b))


# ------------------------------------------------------------------------------------------------------------ records


def content(run, error=10.0, **more):
    """What a results file holds of a run that nobody made: a training record, or what ``more`` makes of it."""
    epoch = {"epoch": 1, "error": error, "nll": 0.1, "seconds": 1.0, "images": 1, "terms": {}, "counts": {}}
    return {
        "id": f"{run.method.name}-{run.seed}-{error}",
        "kind": "train",
        "key": run.key,
        "settings": run.settings(),
        "reduced": run.reduced,
        "fingerprint": "f",
        "evaluated_on": "holdout" if run.holdout else "test",
        "error": error,
        "error_last": error,
        "seconds_per_epoch": 2.0,
        "epochs": [epoch],
        "device": "cpu",
        "device_name": "a processor",
        "threads": 1,
        "versions": {"torch": "9.9"},
        "date": "2026-01-01T00:00:00Z",
        **more,
    }


def record(
    error, method="erm", seed=0, identifier=None, network="alexnet", fingerprint="f", dataset="cifar10", **options
):
    """A record of a run that nobody made."""
    run = sba.make_run(dataset, network, method, seed=seed, **options)
    return parse(content(run, error, fingerprint=fingerprint, **({"id": identifier} if identifier else {})))


def changed(one, **changes):
    """A record that differs from another in some fields."""
    return parse(one.as_json() | changes)


def epochs(errors, seconds=1.0):
    """Epochs as a record holds them, of which only the error and the time matter."""
    rest = {"nll": 0.1, "seconds": seconds, "images": 1, "terms": {}, "counts": {}}
    return [{"epoch": i + 1, "error": e} | rest for i, e in enumerate(errors)]


def bench(name, value=1.0, identifier="b", date="2026-01-01T00:00:00Z", **more):
    """A benchmark that nobody made."""
    machine = {"device": "cpu", "device_name": "a processor", "date": date}
    numbers = {"value": value, "low": value, "high": value, "rounds": 5, "details": {}}
    return parse({"id": identifier, "kind": "bench", "name": name, **numbers, **machine, **more})


# ---------------------------------------------------------------------------------------------- what is not always there

nightly = pytest.mark.skipif(not os.environ.get("SBA_NIGHTLY"), reason="slow: the nightly run sets SBA_NIGHTLY=1")


def absent(reason):
    """Skip what lacks something that is to be installed by hand; fail if SBA_BROWSER says that it must be there."""
    if os.environ.get("SBA_BROWSER") == "required":
        pytest.fail(reason)
    pytest.skip(reason)
