"""The arithmetic of the measurements; how fast anything is belongs into `make bench`."""

import pytest
import torch

from sba import bench


def test_a_ratio_pairs_its_rounds():
    found = bench.ratio("a over b", [2.0, 9.0, 4.0], [1.0, 3.0, 4.0], {})
    assert (found.value, found.low, found.high, found.rounds) == (2.0, 1.0, 3.0, 3)
    with pytest.raises(ValueError):
        bench.ratio("unpaired", [1.0], [1.0, 2.0], {})


def test_both_contestants_see_the_same_pixels():
    images = bench.RandomImages(5)
    data = bench.on_device(images)
    images.transform = bench.v2.PILToTensor()
    for i in range(5):
        pixels, label = images[i]
        assert torch.equal(pixels, data.train.images[i]) and label == data.train.labels[i]


def test_the_loader_delivers_normalised_float_images():
    pixels, _ = bench.RandomImages(1)[0]
    assert pixels.shape == (3, 32, 32) and pixels.dtype == torch.float32
    assert pixels.min() < 0 < pixels.max()


def test_the_steps_of_a_contestant_train_its_network():
    data = bench.on_device(bench.RandomImages(bench.BATCH))
    training = bench.Training(bench.make_run("cifar10", "alexnet", batch_size=bench.BATCH), data)
    before = [p.clone() for p in training.network.parameters()]
    bench.steps_of(training)()
    assert training.step == 1
    assert any(not torch.equal(a, b) for a, b in zip(before, training.network.parameters(), strict=True))


def test_the_counted_operations_of_a_step_are_three_products_per_linear_layer_but_the_first():
    network = torch.nn.Sequential(torch.nn.Linear(20, 30), torch.nn.Linear(30, 5))
    x = torch.randn(7, 20)
    counted = bench.step_gflop(lambda: network(x).sum().backward())
    assert counted == pytest.approx(2 * 7 * (2 * 20 * 30 + 3 * 30 * 5) / 1e9)
