"""A study of six small runs, and what its records hold."""

import json
from pathlib import Path

from sba.studies.executors import Here
from sba.studies.planned import Setting, Study, planned_runs
from sba.studies.store import Store
from sba.studies.sweep import Sweep

FEW = {"dataset": "digits", "holdout": 1098, "batch_size": 20, "epochs": 6}


def settings():
    """Three small runs."""
    yield Setting(FEW | {"method": "erm"}, "tiny")
    yield Setting(FEW | {"method": "sba", "eta": 1.0, "folds": 4, "scale": "running"}, "tiny")
    yield Setting({"dataset": "moons", "method": "isda", "epochs": 10}, "tiny")


def measured(training):
    """What the tiny study keeps beside."""
    return {"weights": sum(p.sum().item() for p in training.network.parameters())}


TINY = Study("tiny", "for tests", settings, seeds=2, last=5, measure=measured)
CELLS = planned_runs(TINY, [0, 1])


def store(folder, **options):
    made = Store(Path(folder), "tiny", **options)
    made.beside = []
    return made


def swept(own, planned=CELLS, study=TINY, *, executor=None, stop=lambda: False, **options):
    """Sweep, here if nothing else is said; return what happens."""
    events = []
    Sweep(study, planned, own, **options).do(executor or Here(), events.append, stop)
    return events


def stored(folder):
    """The records of a store, every line of every file a record and no run twice; without what differs between equal runs."""
    found = {}
    for path in sorted(Path(folder).glob("*.jsonl")):
        for line in path.read_bytes().split(b"\n")[:-1]:
            record = json.loads(line)
            assert record["key"] not in found
            epochs = [{k: v for k, v in e.items() if k != "seconds"} for e in record["epochs"]]
            kept = {k: v for k, v in record.items() if k not in ("id", "date", "seconds_per_epoch")}
            found[record["key"]] = kept | {"epochs": epochs}
    return found
