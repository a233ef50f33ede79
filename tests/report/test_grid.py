"""The grid of ω × η: every cell holds the mean of its own records, and plain training stands where SBA equals it."""

import math

import numpy as np
import pytest
import torch
from helpers import content
from torch import nn

from sba import load
from sba.core.errors import ResultsError
from sba.records.schema import parse
from sba.records.stats import half_width, interval, mean
from sba.report import grid as module
from sba.report.grid import grid
from sba.studies.omega_eta import ETAS, EXTENT, NAME, OMEGAS, PIXELS, PROBLEMS, STUDY, decision
from sba.studies.planned import planned_runs
from sba.training.run import make_run


def made(run, value, study=NAME, **changes):
    """A record whose numbers all follow from one value."""
    numbers = {
        "curve": {"error": [value, value / 2], "nll": [2 * value] * 2, "cross_entropy": [3 * value] * 2},
        "calibration": {"ece": value / 100, "brier": value / 50, "count": [1, 3], "confidence": [0.4, value / 100]}
        | {"accuracy": [0.5, 1.0]},
    }
    return parse(content(run, value, id=f"{run.title}-{value}", study=study, **numbers | changes))


def digits(omega=None, eta=None, seed=0):
    method = {"method": "erm"} if omega is None else {"method": "sba", "omega": omega, "eta": eta}
    return make_run(**PROBLEMS[0], **method, seed=seed)


def count(found):
    """How many runs have numbers at each pair."""
    return (~np.isnan(found.scores["ece"])).sum(0)


def test_a_cell_is_the_mean_over_its_seeds():
    records = [made(digits(OMEGAS[2], ETAS[3], seed), value) for seed, value in ((4, 10.0), (1, 20.0))]
    found = grid(records, "digits")
    assert found.seeds == (1, 4) and found.problem == "digits/digits"
    assert found.curves["error"].shape == (2, 7, 8, 2)
    assert mean(found.curves["error"])[2, 3].tolist() == [15.0, 7.5]
    assert mean(found.scores["brier"])[2, 3] == pytest.approx(0.3)
    assert count(found)[2, 3] == 2 and count(found).sum() == 2
    assert found.members(2, 3) == (records[1].id, records[0].id) and found.members(0, 0) == ()
    assert np.isnan(np.delete(mean(found.curves["nll"]).reshape(56, 2), 2 * 8 + 3, 0)).all()
    assert found.decision is None and found.extent is None


def test_the_interval_is_students_and_needs_two_seeds():
    values = np.array([[1.0, 2.0, np.nan, 5.0], [4.0, np.nan, np.nan, 5.0], [9.0, 3.0, 7.0, 5.0]])
    half = half_width(values)
    for column, expected in ((0, [1.0, 4.0, 9.0]), (1, [2.0, 3.0]), (3, [5.0] * 3)):
        assert (mean(values)[column], half[column]) == pytest.approx(interval(expected))
    assert mean(values)[2] == 7.0 and np.isnan(half[2])


def test_plain_training_stands_in_every_cell_that_equals_it_and_nowhere_else():
    found = grid([made(digits(), 8.0)], "digits")
    plain = np.zeros((7, 8), bool)
    plain[:, 0] = plain[-1] = True
    assert (count(found) == plain).all() and (mean(found.curves["error"])[plain] == [8.0, 4.0]).all()
    # SBA with the same numbers is the same training, bit for bit; tests of the methods say so
    assert [found.omegas[-1], found.etas[0]] == [math.pi / 2, 0.0]


def test_every_cell_of_the_study_has_its_place():
    for dataset in ("digits", "moons"):
        runs = [c.run for c in planned_runs(STUDY, [0, 1], dataset)]
        found = grid([made(run, float(i)) for i, run in enumerate(runs)], dataset)
        assert len(runs) == 2 * (6 * 7 + 1) and (count(found) == 2).all()
        for i, j in np.ndindex(7, 8):
            for seed, value in enumerate(found.curves["error"][:, i, j, 0]):
                run = runs[int(value)]
                assert run.seed == seed
                if run.method.name == "sba":
                    assert (run.method.omega, run.method.eta) == (OMEGAS[i], ETAS[j])
                else:
                    assert i == 6 or j == 0


def test_other_studies_shortened_runs_and_repetitions_are_left_out():
    run = digits()
    records = [
        made(run, 1.0, study="switches"),
        made(run, 2.0, reduced=True),
        made(run, 3.0),
        made(run, 4.0),
        made(make_run(**PROBLEMS[0] | {"lr": 0.5}, method="erm"), 5.0),
    ]
    assert set(grid(records, "digits").ids[:, 0, 0]) == {records[2].id}
    with pytest.raises(ResultsError, match=f"no record of {NAME} on 'moons'; run python -m sba sweep {NAME}"):
        grid(records, "moons")


def test_a_run_that_diverged_is_named_and_has_no_numbers():
    records = [made(digits(seed=s), 6.0) for s in (0, 1)]
    other = made(digits(0.0, 30.0), 0.0, kind="diverged", curve={}, calibration={})
    found = grid([*records, other], "digits")
    assert count(found)[0, 7] == 0 and found.members(0, 7) == (other.id,)
    assert np.isnan(mean(found.curves["error"])[0, 7]).all()


def test_reliability_is_that_of_all_images_together():
    records = [made(digits(seed=0), 60.0), made(digits(seed=1), 80.0)]
    records[1].calibration["count"][:] = [3, 1]
    found = grid(records, "digits").reliability(0, 0)
    assert found["count"].tolist() == [4, 4]
    assert found["confidence"] == pytest.approx([0.4, (3 * 0.6 + 0.8) / 4])
    assert found["accuracy"] == pytest.approx([0.5, 1.0])


@pytest.mark.parametrize(
    ("omega", "eta", "expected"),
    [
        (0.0, 0.0, (0, 0)),
        (math.pi / 3, 1.0, (4, 4)),
        (1.1, 0.9, (4, 4)),
        (2.0, 1e9, (6, 7)),
        (0.13, 0.004, (0, 0)),
        (0.14, 0.006, (1, 1)),
        (0.5, 0.031, (2, 1)),
        (0.5, 0.032, (2, 2)),
    ],
)
def test_the_nearest_pair_is_nearest_by_angle_and_by_ratio(omega, eta, expected):
    assert grid([made(digits(), 1.0)], "digits").nearest(omega, eta) == expected


@pytest.mark.parametrize("axis", [0, 1])
def test_the_picture_of_a_decision_is_the_networks(axis):
    """A network that answers by the sign of a coordinate: the left, or the lower part is class 0."""
    data = load("moons")

    class Sign(nn.Module):
        def forward(self, images):
            levels = images.flatten(1)[:, axis] * data.std[axis] + data.mean[axis]
            coordinate = levels * 255 / 51 - 2
            return torch.stack([0 * coordinate, 1e4 * coordinate], 1)

    stored = decision(Sign(), data)
    p1 = module.picture(made(digits(), 1.0, decision=stored))
    assert p1.shape == PIXELS and stored["extent"] == list(EXTENT)
    left, right, low, high = EXTENT
    x = left + (np.arange(PIXELS[1]) + 0.5) * (right - left) / PIXELS[1]
    y = low + (np.arange(PIXELS[0]) + 0.5) * (high - low) / PIXELS[0]
    expected = np.broadcast_to(x, PIXELS) > 0 if axis == 0 else np.broadcast_to(y[:, None], PIXELS) > 0
    assert (p1 == expected).all()
