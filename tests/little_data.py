"""Records of the study of little data that nobody made: what the tests of its report and of its explorer start from."""

import numpy as np
from helpers import content

from sba import make_run
from sba.records.images import pack
from sba.records.schema import parse
from sba.studies import contenders, small_data
from sba.studies.contenders import CONTENDERS, MAIN, NAME, TUNING_SEEDS

IMAGES = 40


def record(parameters, seed, error, nll=1.0, seconds=2.0):
    """A record of the study that nobody made, whose network is wrong on the first images."""
    run = make_run(**parameters | {"seed": seed})
    epoch = {"epoch": 1, "error": error, "nll": nll, "seconds": 1.0, "images": 1, "terms": {}, "counts": {}}
    right = {"images": IMAGES, "bits": pack(np.arange(IMAGES) >= round(IMAGES * error / 100))}
    more = {"epochs": [epoch] * 5, "seconds_per_epoch": seconds, "right": right, "source": "one", "study": NAME}
    stressed = {"pgd-inf": {"radii": [contenders.RADIUS], "error": [error + 10.0]}}
    more |= {"calibration": {"ece": 0.1 + error / 1000}, "attacks": stressed, "attacked": IMAGES, "clean": error}
    return parse(content(run, error, id=f"{run.key}{seed}", **more))


def choices():
    """Records of all trials; the first configuration of each contender is the best."""
    for contender in CONTENDERS:
        for number in range(4):
            at = contenders.parameters(contender, number, MAIN) | {"holdout": contenders.HOLDOUT}
            yield from (record(at, seed, 40.0 + number) for seed in TUNING_SEEDS)


TRIALS = list(choices())
MADE = small_data.made_in(TRIALS)
ERRORS = np.random.default_rng(1).normal(50, 0.4, (len(CONTENDERS) + 1, MAIN.n))


def runs(name, errors, condition=MAIN, **more):
    return [record(small_data.tested(name, condition, MADE), seed, float(e), **more) for seed, e in enumerate(errors)]


def main(shift, missing=()):
    """All records at the tuned size: each contender's errors are shifted as told."""
    made = list(TRIALS)
    for number, name in enumerate(MAIN.contenders):
        if name not in missing:
            made += runs(name, ERRORS[number] + shift.get(name, 0.0))
    return made
