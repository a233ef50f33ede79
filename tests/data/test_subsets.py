"""Random subsets and wrong labels, against what their definitions say."""

import dataclasses

import numpy as np
import pytest
import torch
from scipy import stats

from sba.core.errors import ConfigError, DataError
from sba.data.datasets import DataCache, load
from sba.data.in_files import Stream
from sba.data.subsets import Draw, relabelled

DIGITS = load("digits", holdout=200)


def rows_of(part, whole):
    """The places of images in the data set that they were drawn from."""
    flat = {image.tobytes(): i for i, image in enumerate(whole.images.numpy())}
    return [flat[image.tobytes()] for image in part.images.numpy()]


def test_a_subset_keeps_the_order_and_every_class_in_its_share():
    rows = {n: rows_of(DIGITS.drawn(Draw(subset=100, number=n)).train, DIGITS.train) for n in (0, 1)}
    shares = torch.bincount(DIGITS.train.labels) * 100 / len(DIGITS.train)
    for found in rows.values():
        assert found == sorted(set(found)) and len(found) == 100
        assert (torch.bincount(DIGITS.train.labels[found]) - shares).abs().max() < 1
    assert rows[0] != rows[1]


def test_images_are_drawn_evenly_over_many_numbers():
    times = torch.zeros(len(DIGITS.train))
    draws = 200
    for number in range(draws):
        times[rows_of(Draw(subset=200, number=number)(DIGITS.train, 10), DIGITS.train)] += 1
    share = 200 / len(DIGITS.train)
    # the seeds are fixed, so that this is no test by chance
    assert times.mean().item() == pytest.approx(draws * share)
    assert times.var().item() == pytest.approx(draws * share * (1 - share), rel=0.15)


def test_the_rest_of_the_data_stays():
    few = load("digits", holdout=200, draw=Draw(subset=100, number=5))
    assert torch.equal(few.test.images, DIGITS.test.images) and torch.equal(few.test.labels, DIGITS.test.labels)
    assert (few.mean, few.std, few.evaluated_on) == (DIGITS.mean, DIGITS.std, "holdout")
    assert few.draw == Draw(subset=100, number=5) and few.fingerprint != DIGITS.fingerprint
    held = {image.tobytes() for image in few.test.images.numpy()}
    assert not held & {image.tobytes() for image in few.train.images.numpy()}


def test_wrong_labels_are_the_share_asked_for_and_every_other_class_alike():
    labels = torch.arange(20_000) % 10
    noisy = relabelled(labels, 0.4, 10, number=3)
    moved = noisy != labels
    assert moved.sum() == 8000
    shifts = np.bincount(((noisy - labels) % 10)[moved], minlength=10)
    assert shifts[0] == 0 and stats.chisquare(shifts[1:]).pvalue > 0.01
    assert not torch.equal(noisy, relabelled(labels, 0.4, 10, number=4))
    assert torch.equal(labels, torch.arange(20_000) % 10)
    assert torch.equal(relabelled(labels, 0.0, 10, number=3), labels)


def test_a_cache_loads_once_and_gives_what_load_gives():
    cache = DataCache()
    draw = Draw(subset=50, label_noise=0.2, number=2)
    assert cache("digits", draw=draw) is cache("digits", draw=draw)
    assert cache("digits", draw=draw).fingerprint == load("digits", draw=draw).fingerprint
    assert cache("digits", draw=draw).test is cache("digits").test


def test_files_are_drawn_from_likewise():
    stream = Stream([f"{i}.png" for i in range(40)], torch.arange(40) % 4, side=8)
    few = Draw(subset=8, label_noise=0.5, number=1)(stream, 4)
    assert len(few.paths) == len(few.labels) == 8
    right = torch.tensor([int(path.removesuffix(".png")) % 4 for path in few.paths])
    assert torch.bincount(right).tolist() == [2] * 4 and (right != few.labels).sum() == 4


@pytest.mark.parametrize("size", (3, 10**6))
def test_what_cannot_be_drawn_is_refused(size):
    with pytest.raises(DataError, match=rf"subset: {size} of 998 training images.*give 10 … 998"):
        load("digits", holdout=200, draw=Draw(subset=size))


@pytest.mark.parametrize("wrong", ({"subset": -1}, {"label_noise": 1.1}, {"number": -1}))
def test_numbers_out_of_range_are_refused(wrong):
    (name,) = wrong
    with pytest.raises(ConfigError, match=name):
        dataclasses.replace(Draw(), **wrong)
