"""Runs on a subset, on wrong labels, and with fewer evaluations: what is part of a run, and what is not."""

import math

import pytest
from helpers import after, same, states, whole

import sba
from sba.core.errors import ConfigError
from sba.data.subsets import Draw
from sba.records.record import record_of, record_of_divergence
from sba.training.run import from_settings

FEW = {"subset": 100, "label_noise": 0.2, "batch_size": 20, "epochs": 7}


def run_of(**more):
    return sba.make_run(**FEW | {"method": "sba", "eta": 1.0, "folds": 4, "seed": 3} | more)


def test_subset_and_noise_are_part_of_a_run_only_if_they_are_set():
    plain = sba.make_run()
    assert sba.make_run(subset=0, label_noise=0.0).key == plain.key
    older = {k: v for k, v in plain.settings().items() if k not in ("subset", "label_noise")}
    assert from_settings(older) == plain and from_settings(older).key == plain.key
    keys = {sba.make_run(**change).key for change in ({}, {"subset": 100}, {"label_noise": 0.2}, FEW)}
    assert len(keys) == 4
    assert from_settings(run_of().settings()) == run_of()


def test_the_seed_draws_the_subset():
    draws = [sba.train(run_of(seed=seed)).data for seed in (3, 3, 4)]
    assert [d.draw.number for d in draws] == [3, 3, 4]
    assert draws[0].fingerprint == draws[1].fingerprint != draws[2].fingerprint
    assert draws[0].fingerprint == sba.load("digits", draw=Draw(subset=100, label_noise=0.2, number=3)).fingerprint
    assert sba.make_run().draw is None


def test_data_drawn_otherwise_are_refused():
    for draw in (None, Draw(subset=100, number=3), Draw(subset=100, label_noise=0.2, number=4)):
        with pytest.raises(ConfigError, match="data: draw is "):
            sba.train(run_of(), sba.load("digits", draw=draw))


def test_fewer_evaluations_change_nothing_else():
    every, last = whole(run_of(), None), whole(run_of(), None, evaluate_last=5)
    assert same(states(every), states(last)) and every.step == last.step
    assert [math.isnan(r.error) and math.isnan(r.nll) for r in last.history] == [True] * 2 + [False] * 5
    assert [(r.error, r.nll) for r in last.history[2:]] == [(r.error, r.nll) for r in every.history[2:]]
    one, other = (record_of(t, last=5) for t in (every, last))
    assert (one.key, one.error) == (other.key, other.error)
    lost = record_of_divergence(last, "for this test")
    assert [math.isnan(e.error) for e in lost.epochs] == [True] * 2 + [False] * 5
    assert "error" not in lost.as_json()["epochs"][0]


def test_fewer_evaluations_outlast_a_resume(tmp_path):
    straight = whole(run_of(), None, evaluate_last=5)
    data = sba.load("digits", draw=run_of().draw)
    for stop in (11, 13, 1000):
        parted = whole(run_of(), data, folder=tmp_path, evaluate_last=5, stop=after(stop))
    assert parted.finished and same(states(straight), states(parted))
    assert [r.as_json() | {"seconds": 0} for r in straight.history] == [
        r.as_json() | {"seconds": 0} for r in parted.history
    ]


def test_five_epochs_are_evaluated_at_least():
    with pytest.raises(ConfigError, match="evaluate_last"):
        sba.train(run_of(), evaluate_last=4)
