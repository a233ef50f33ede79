"""Arrays of a caller's own: the same training as from a data set's files, every conversion said once, the rest refused."""

import logging
import re

import numpy as np
import pytest
import torch
from helpers import in_parts, outcome, same, whole

from sba import Data, load, make_run, train
from sba.core.errors import CheckpointError, ConfigError, DataError
from sba.data.datasets import channel_mean_std
from sba.records.commands import command
from sba.records.record import record_of

SMALL = {"epochs": 2, "seed": 3}


def pixels(n=40, channels=3, side=6, seed=0):
    return np.random.default_rng(seed).integers(0, 256, (n, channels, side, side), dtype=np.uint8)


def labels(n=40, classes=4):
    return np.arange(n) % classes


def pairs(data):
    return [(split.images.numpy(), split.labels.numpy()) for split in data.resident]


@pytest.fixture(scope="module")
def own(digits):
    """The digits as arrays of a program's own."""
    (x, y), test = pairs(digits)
    return Data.from_arrays(x, y, digits.classes, test=test, name="digits")


def test_they_train_as_the_same_images_of_a_data_set_bit_for_bit(own, digits):
    assert (own.mean, own.std, own.fingerprint, own.classes) == (
        digits.mean,
        digits.std,
        digits.fingerprint,
        digits.classes,
    )
    options = {"network": "digits", "method": "sba", "eta": 1.0, "omega": 0.5, **SMALL}
    records, state = outcome(make_run(own, padding=1, **options), own)
    expected, its = outcome(make_run("digits", **options), digits)
    assert records == expected and same(state, its)


def test_the_copies_are_its_own():
    x, y = pixels(), labels()
    data = Data.from_arrays(x, y, 4, test=(x, y))
    before = data.train.images.clone()
    x[:], y[:] = 0, 0
    assert torch.equal(data.train.images, before) and data.train.labels.unique().tolist() == [0, 1, 2, 3]


GIVEN = {
    "NumPy": lambda x, y: (x, y),
    "read-only NumPy": lambda x, y: (np.broadcast_to(x, x.shape), y),
    "tensors": lambda x, y: (torch.from_numpy(x), torch.from_numpy(y)),
    "lists of tensors": lambda x, y: (list(torch.from_numpy(x)), list(torch.from_numpy(y))),
    "lists of arrays": lambda x, y: (list(x), list(y)),
    "tensors with gradients": lambda x, y: (torch.from_numpy(x / 255).requires_grad_(), torch.from_numpy(y)),
    "lists": lambda x, y: (x.tolist(), y.tolist()),
    "int64": lambda x, y: (x.astype(np.int64), y),
    "float16": lambda x, y: ((x / 255).astype(np.float16), y),
    "float32": lambda x, y: ((x / 255).astype(np.float32), y),
    "float64": lambda x, y: (x / 255, y),
    "16 bits": lambda x, y: (x.astype(np.uint16) * 257, y),
    "16 bits of torch": lambda x, y: (torch.from_numpy(x.astype(np.uint16) * 257), y),
    "int32 labels": lambda x, y: (x, y.astype(np.int32)),
    "uint8 labels": lambda x, y: (x, torch.from_numpy(y.astype(np.uint8))),
}
"""Ways to give the same images and labels."""


@pytest.mark.parametrize("way", GIVEN)
def test_every_way_to_give_them_is_the_same_data(way):
    x = pixels(256, 1, 4)
    x[:, 0, 0, 0] = np.arange(256)  # each level must come back as itself
    y = labels(256)
    data = Data.from_arrays(*GIVEN[way](x, y), 4, test=(x, y))
    assert np.array_equal(data.train.images.numpy(), x) and np.array_equal(data.train.labels.numpy(), y)
    assert data.fingerprint == Data.from_arrays(x, y, 4, test=(x, y)).fingerprint


def test_16_bits_and_floats_go_to_the_nearest_level():
    deep = np.arange(0x10000, dtype=np.uint16).reshape(1024, 1, 8, 8)
    y = labels(1024)
    for x, exact in ((deep, deep / 257), (deep / 65535, deep / 65535 * 255)):
        data = Data.from_arrays(x, y, 4, test=(x, y))
        assert np.abs(data.train.images.numpy() - exact).max() <= 0.5 + 1e-9


@pytest.mark.parametrize("layout", ["NHWC", "NHW"])
def test_the_order_of_the_axes_is_named(layout):
    x, y = pixels(channels=3 if layout == "NHWC" else 1), labels()
    other = x.transpose(0, 2, 3, 1) if layout == "NHWC" else x[:, 0]
    ours = Data.from_arrays(other, y, 4, layout=layout, test=(other[::2], y[::2]))
    assert ours.fingerprint == Data.from_arrays(x, y, 4, test=(x[::2], y[::2])).fingerprint
    assert ours.train.images.is_contiguous()


def test_conversions_are_said_once_and_nothing_else_is(caplog):
    x, y = pixels(), labels()
    with caplog.at_level(logging.INFO, "sba"):
        Data.from_arrays(x, y, 4)
        assert not caplog.messages
        Data.from_arrays((x / 255).astype(np.float32), y.astype(np.int32), 4, test=(x.astype(np.uint16) * 257, y))
    assert caplog.messages == [
        "Data.from_arrays: train: float32 images rounded to 8 bits; int32 labels made int64",
        "Data.from_arrays: test: 16 bits scaled to 8",
    ]


def test_a_share_is_put_aside_of_every_class():
    x, y = pixels(100), labels(100)
    data = Data.from_arrays(x, y, 4, test=0.25)
    again = Data.from_arrays(x, y, 4, test=0.25)
    assert len(data.test) == 25 and (torch.bincount(data.test.labels) - 25 / 4).abs().max() < 1
    assert data.fingerprint == again.fingerprint
    rows = [image.tobytes() for split in data.resident for image in split.images.numpy()]
    assert sorted(rows) == sorted(image.tobytes() for image in x)
    assert data.evaluated_on == "test" and len(Data.from_arrays(x, y, 4).test) == 20


def test_images_are_held_out_as_of_any_data_set(own, digits):
    (x, y), test = pairs(digits)
    held = Data.from_arrays(x, y, 10, test=test, holdout=200)
    assert held.fingerprint == load("digits", holdout=200).fingerprint and held.evaluated_on == "holdout"
    run = make_run(held, "digits", **SMALL)
    assert run.holdout == 200 and train(run, held).data.evaluated_on == "holdout"
    with pytest.raises(
        ConfigError, match=r"holdout is 0, the run asks for 200; give .*Data.from_arrays\(\) that number"
    ):
        train(make_run(own, "digits", holdout=200), own)


def test_statistics_are_those_of_the_training_images_or_given():
    x, y = pixels(), labels()
    data = Data.from_arrays(x, y, 4, test=(x[:8], y[:8]))
    assert (data.mean, data.std) == channel_mean_std(torch.from_numpy(x))
    given = Data.from_arrays(x, y, 4, test=(x[:8], y[:8]), normalise=([0.5] * 3, np.full(3, 0.25)))
    assert (given.mean, given.std) == ((0.5,) * 3, (0.25,) * 3)
    # they decide numbers, so other ones are other data
    assert given.fingerprint != data.fingerprint


def test_names_and_defaults():
    x, y = pixels(), labels()
    data = Data.from_arrays(x, y, ["a", "b", "c", "d"])
    assert data.classes == ("a", "b", "c", "d") and data.name == f"arrays:{data.fingerprint}"
    assert Data.from_arrays(x, y, np.array(["a", "b", "c", "d"])).classes == data.classes
    assert Data.from_arrays(x, y, y.max() + 1).classes == ("0", "1", "2", "3")
    assert Data.from_arrays(x, y, 4, name="mine").name == "arrays:mine"
    run = make_run(data)
    # nothing is known of what keeps their labels
    assert (run.dataset, run.network, run.padding, run.flip) == (data.name, "resnet44", 0, False)
    assert make_run(load("digits")) == make_run("digits")


def test_fewer_of_them_are_drawn_as_of_any_data_set(own):
    run = make_run(own, "digits", subset=200, label_noise=0.1, **SMALL)
    with pytest.raises(ConfigError, match=r"asks for Draw.*; give data.drawn\(run.draw\)"):
        train(run, own)
    few = own.drawn(run.draw)
    assert make_run(few, "digits", epochs=2) == run
    assert few.fingerprint == load("digits", draw=run.draw).fingerprint and len(train(run, few).data.train) == 200


def test_a_run_goes_on_from_its_checkpoint_with_the_same_arrays_alone(own, digits, tmp_path):
    run = make_run(own, "digits", "sba", omega=0.0, **SMALL)
    training, parts = in_parts(run, own, tmp_path, 10)
    assert parts > 2 and [r.error for r in training.history] == [r.error for r in whole(run, own).history]
    (x, y), test = pairs(digits)
    other = Data.from_arrays(255 - x, y, 10, test=test, name="digits")
    with pytest.raises(CheckpointError, match=f"trained on data with fingerprint {own.fingerprint}"):
        train(run, other, folder=tmp_path)


def test_a_record_is_honest_and_no_command_repeats_it(own):
    record = record_of(whole(make_run(own, "digits", epochs=1), own))
    assert (record.run.dataset, record.fingerprint) == ("arrays:digits", own.fingerprint)
    with pytest.raises(ConfigError, match="dataset: 'arrays:digits' is a program's own, no command repeats the run"):
        command(record)
    with pytest.raises(DataError, match="dataset: 'arrays:digits' was made of arrays, no command has them; give train"):
        train(record.run)


X, Y = pixels(), labels()
WRONG = {
    "an order of axes that is none": (lambda: (X, Y, 4, {"layout": "HWCN"}), "layout: 'HWCN' is not allowed; give one"),
    "channels last": (lambda: (X.transpose(0, 2, 3, 1), Y, 4), "x: images of 6×3 pixels are not allowed with layout"),
    "channels first": (lambda: (X, Y, 4, {"layout": "NHWC"}), "x: images of 3×6 pixels are not allowed with layout"),
    "flat": (lambda: (X.reshape(40, -1), Y, 4), "x: shape (40, 108) is not allowed with layout 'NCHW'"),
    "none": (lambda: (X[:0], Y[:0], 4), "x: shape (0, 3, 6, 6) is not allowed"),
    "a string": (lambda: ("cats", Y, 4), "x: <U4 is not allowed; give uint8, floats from 0 to 1"),
    "booleans": (lambda: (X > 99, Y, 4), "x: bool is not allowed; give uint8"),
    "complex": (lambda: (X * 1j, Y, 4), "x: complex128 is not allowed; give uint8"),
    "several sizes": (lambda: ([X[0], X[1, :, 1:]], Y, 4), "x: rows of several shapes are not allowed"),
    "floats to 255": (lambda: (X.astype(np.float32), Y, 4), "x: float32 from 0 to 255 is not allowed; give uint8"),
    "floats around 0": (lambda: (X / 127.5 - 1, Y, 4), "x: float64 from -1 to 1 is not allowed"),
    "not finite": (lambda: (np.where(X == 7, np.nan, X / 255), Y, 4), "x: float64 from nan to nan is not allowed"),
    "integers to 1000": (lambda: (X.astype(np.int32) * 4, Y, 4), "x: int32 from 0 to 1020 is not allowed"),
    "8 bits in 16": (lambda: (X.astype(np.uint16), Y, 4), "x: uint16 up to 255 is all but black"),
    "divided twice": (lambda: (X / 255 / 255, Y, 4), "x: float64 up to 0.00392157 is all but black"),
    "a constant channel": (lambda: (X * np.array([1, 0, 1], "u1")[:, None, None], Y, 4), "x: channel 1 has one value"),
    "one-hot": (lambda: (X, np.eye(4)[Y], 4), "y: float64 of shape (40, 4) is not allowed; give one class for each"),
    "a column": (lambda: (X, Y[:, None], 4), "y: int64 of shape (40, 1) is not allowed; give one class for each"),
    "floats": (lambda: (X, Y / 1.0, 4), "y: float64 of shape (40,) is not allowed; give one class"),
    "words": (lambda: (X, np.array(list("abcd"))[Y], 4), "y: <U1 is not allowed; give one class for each"),
    "from 1": (
        lambda: (X, Y + 1, 4),
        "y: values from 1 to 4 are not allowed; give one class for each of the 40 images",
    ),
    "too few": (lambda: (X, Y[:-1], 4), "y: int64 of shape (39,) is not allowed"),
    "all equal": (lambda: (X, Y * 0, 4, {"test": (X, Y)}), "y: all training images are of class '0'; give two or more"),
    "one class": (lambda: (X, Y, 1), "classes: 1 is not allowed; give a list of two or more different names"),
    "a name twice": (lambda: (X, Y, ["a", "b", "a", "c"]), "classes: ['a', 'b', 'a', 'c'] is not allowed"),
    "names without order": (lambda: (X, Y, {"only", "one"} - {"one"}), "classes: {'only'} is not allowed; give a list"),
    "all for testing": (lambda: (X, Y, 4, {"test": 1.0}), "test: 1.0 is not allowed"),
    "too few to test on": (lambda: (X, Y, 4, {"test": 0.01}), "test: 0.01 is not allowed"),
    "images alone": (lambda: (X, Y, 4, {"test": (X,)}), "test: 1 things are not allowed; give images and labels"),
    "other images": (
        lambda: (X, Y, 4, {"test": (X[:, :1], Y)}),
        "test: images of shape (1, 6, 6) do not fit (3, 6, 6)",
    ),
    "statistics of 255": (lambda: (X, Y, 4, {"normalise": ([127.0] * 3, [60.0] * 3)}), "normalise: ([127.0"),
    "statistics of one": (lambda: (X, Y, 4, {"normalise": (0.5, 0.2)}), "normalise: (0.5, 0.2) is not allowed; give"),
}


@pytest.mark.parametrize("kind", WRONG)
def test_refused_with_field_value_and_fix(kind):
    make, message = WRONG[kind]
    x, y, classes, *more = make()
    with pytest.raises(ConfigError, match=re.escape(message)):
        Data.from_arrays(x, y, classes, **(more[0] if more else {}))


def test_a_run_is_made_of_data_and_not_of_arrays(own):
    with pytest.raises(ConfigError, match=r"dataset: ndarray is not allowed; give a name, or Data.from_arrays"):
        make_run(X)
    with pytest.raises(ConfigError, match="cutout: 'auto' is not known for arrays; give its side in pixels"):
        make_run(own, cutout="auto")
