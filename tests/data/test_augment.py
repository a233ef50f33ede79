"""Batched augmentation gives what torchvision gives image by image, with the same law."""

import itertools

import numpy as np
import oracles
import pytest
import torch
from torchvision.transforms import RandomCrop, v2
from torchvision.transforms.v2 import functional as tv

from sba.core.rng import Step
from sba.data.augment import Augmentation, crop, cutout, flip, normalise

MEAN, STD = (0.49, 0.48, 0.45), (0.25, 0.24, 0.26)


def random_images(n=25, channels=3, height=8, width=8):
    generator = torch.Generator().manual_seed(0)
    return torch.randint(1, 256, (n, channels, height, width), generator=generator, dtype=torch.uint8)


@pytest.mark.parametrize(("height", "width"), [(8, 8), (6, 9)])
def test_crop_equals_torchvision_at_every_offset(height, width):
    offsets = list(itertools.product(range(5), range(5)))
    top, left = torch.tensor(offsets).T
    images = random_images(len(offsets), height=height, width=width)
    for image, window, (t, s) in zip(images, crop(images, top, left, padding=2), offsets, strict=True):
        assert torch.equal(window, tv.crop(tv.pad(image, 2), t, s, height, width))
        assert np.array_equal(window.numpy(), oracles.crop(image.numpy(), t, s, 2))


def test_crop_equals_torchvisions_random_crop_given_its_draws(monkeypatch):
    images = random_images(height=32, width=32)
    draws = torch.randint(9, (2, len(images)), generator=torch.Generator().manual_seed(1))
    pending = iter(draws.T.tolist())
    monkeypatch.setattr(RandomCrop, "get_params", staticmethod(lambda image, size: (*next(pending), *size)))
    theirs = torch.stack([RandomCrop(32, padding=4)(image) for image in images])
    assert torch.equal(crop(images, *draws, padding=4), theirs)


def test_flip_equals_torchvision():
    images = random_images(6)
    mirrored = torch.tensor([True, False, False, True, True, False])
    theirs = torch.stack([tv.hflip(x) if m else x for x, m in zip(images, mirrored, strict=True)])
    assert torch.equal(flip(images, mirrored), theirs)


def test_normalise_equals_torchvision_and_leaves_its_input():
    images = random_images()
    theirs = v2.Compose([v2.ToDtype(torch.float32, scale=True), v2.Normalize(MEAN, STD)])(images)
    torch.testing.assert_close(normalise(images, MEAN, STD), theirs, rtol=0, atol=2e-6)
    floats = images.float()
    normalise(floats, MEAN, STD)
    assert torch.equal(floats, images.float())


@pytest.mark.parametrize("length", [1, 2, 4, 5, 16])
def test_cutout_equals_the_loop_at_every_centre_and_is_clipped_at_the_border(length):
    centres = list(itertools.product(range(6), range(8)))
    images = normalise(random_images(len(centres), 2, 6, 8), (0.5, 0.5), (0.2, 0.2))
    out = cutout(images, *torch.tensor(centres).T, length)
    for image, result, (row, column) in zip(images.numpy(), out.numpy(), centres, strict=True):
        assert np.array_equal(result, oracles.cutout(image, row, column, length))


def test_cutout_hides_the_expected_area():
    """The square is clipped, so over all centres it hides less than length² pixels, by a known factor."""
    centres = torch.cartesian_prod(torch.arange(32), torch.arange(32))
    hidden = cutout(torch.ones(1024, 1, 32, 32), *centres.T, 16) == 0
    assert hidden.sum().item() / 1024 == pytest.approx(oracles.mean_covered(32, 16) ** 2)
    assert hidden.sum((1, 2, 3)).max() == 16**2


def numbered(n):
    """Images whose pixel values 1 … 64 tell where each came from."""
    return torch.arange(1, 65, dtype=torch.uint8).view(1, 1, 8, 8).expand(n, 1, 8, 8)


def augmented(augmentation, n, step=0):
    """Augment numbered images; a mean of 0 and a standard deviation of 1/255 keep their numbers."""
    out = augmentation(numbered(n), (0.0,), (1 / 255,), Step(0, step))
    return out.round().long()


def chi_square(observations, cells):
    counts = np.bincount(observations, minlength=cells)
    assert len(counts) == cells
    expected = len(observations) / cells
    return ((counts - expected) ** 2 / expected).sum()


def test_law_of_the_crop_is_uniform_over_offsets_with_one_draw_per_image():
    middle = augmented(Augmentation(padding=2), 10_000)[:, 0, 4, 4] - 1
    row, column = middle // 8 - 2, middle % 8 - 2
    assert chi_square((row * 5 + column).numpy(), 25) < 52  # 24 degrees of freedom: p = 8e-4


def test_law_of_the_flip_is_one_half_and_independent_of_the_crop():
    out = augmented(Augmentation(padding=2, flip=True), 10_000)[:, 0, 4]
    mirrored = out[:, 4] < out[:, 3]
    row = (out[:, 4] - 1) // 8 - 2
    assert chi_square((row * 2 + mirrored).numpy(), 10) < 28  # 9 degrees of freedom: p = 1e-3


def test_law_of_cutout_is_uniform_over_all_centres():
    """An interval of 2 pixels around a centre c hides c − 1 and c: the last hidden row and column are the centre."""
    hidden = augmented(Augmentation(cutout=2), 20_000)[:, 0] == 0
    places = torch.arange(8)
    row, column = ((hidden.any(d) * places).amax(1) for d in (2, 1))
    assert chi_square((row * 8 + column).numpy(), 64) < 104  # 63 degrees of freedom: p = 9e-4


def test_all_three_in_torchvisions_order():
    """Crop and flip pixels, then normalise, then cut out: black borders, and squares of the mean colour."""
    images, now = random_images(12), Step(3, 7)
    whole = Augmentation(padding=2, flip=True, cutout=4)(images, MEAN, STD, now)

    def draw(purpose, *limits):
        generator = now.generator(purpose)
        return [torch.randint(b, (12,), generator=generator) for b in limits]

    (top, left), (mirrored,), centre = draw("crop", 5, 5), draw("flip", 2), draw("cutout", 8, 8)
    for i, image in enumerate(images):
        x = tv.crop(tv.pad(image, 2), top[i], left[i], 8, 8)
        x = tv.hflip(x) if mirrored[i] else x
        x = tv.normalize(tv.to_dtype(x, torch.float32, scale=True), MEAN, STD)
        expected = oracles.cutout(x.numpy(), centre[0][i].item(), centre[1][i].item(), 4)
        np.testing.assert_allclose(whole[i].numpy(), expected, rtol=0, atol=2e-6)


def test_draws_depend_on_the_moment_alone():
    augmentation = Augmentation(padding=2, flip=True, cutout=4)
    torch.manual_seed(0)
    first = augmented(augmentation, 50, step=1)
    assert torch.equal(augmented(augmentation, 50, step=1), first)
    assert not torch.equal(augmented(augmentation, 50, step=2), first)
    assert torch.equal(augmented(Augmentation(), 50), numbered(50).long())
