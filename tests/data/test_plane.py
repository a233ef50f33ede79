"""Coordinates and inputs of the moons."""

import torch

from sba import build, load
from sba.data import plane
from sba.data.augment import normalise


def test_a_plane_maps_there_and_back():
    moons = load("moons")
    points = plane.points_of(moons.train.images)
    inputs = plane.to_network(points, moons)
    torch.testing.assert_close(plane.to_plane(inputs, moons), points, rtol=0, atol=1e-5)
    torch.testing.assert_close(inputs, normalise(moons.train.images, moons.mean, moons.std))


def test_a_lattice_has_the_middles_of_the_pixels():
    grid = plane.lattice((0.0, 4.0, 10.0, 12.0), 2, 4)
    assert grid[0, :, 0].tolist() == [0.5, 1.5, 2.5, 3.5] and grid[:, 0, 1].tolist() == [10.5, 11.5]
    assert (grid[..., 0] == grid[0, :, 0]).all() and (grid[..., 1] == grid[:, :1, 1]).all()


def test_probability_is_that_of_the_first_class_and_leaves_the_mode():
    moons = load("moons")
    network = build("mlp", 2, 2, 1).train()
    grid = plane.lattice((-1.0, 2.0, -1.0, 1.0), 3, 5)
    p = plane.probability(network, grid, moons)
    assert network.training and p.shape == (3, 5)
    one = network.eval()(plane.to_network(grid[2, 4], moons)).softmax(1)[0, 0]
    torch.testing.assert_close(p[2, 4], one)
