"""Corruptions: against SciPy, matplotlib, Pillow and plain loops, and what must hold of every one."""

import itertools

import numpy as np
import oracles_measure
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from matplotlib.colors import hsv_to_rgb, rgb_to_hsv
from PIL import Image
from scipy import stats
from scipy.ndimage import gaussian_filter

from sba.core.errors import ConfigError
from sba.measure import corruptions
from sba.measure.corruptions import CIFAR_C, CORRUPTIONS, IMAGENET_C, SMALL, corrupt, strengths

RANDOM = ("gaussian_noise", "shot_noise", "impulse_noise")


def generator(seed=0):
    return torch.Generator().manual_seed(seed)


def pixels(n=4, channels=3, side=9, seed=0):
    return torch.rand(n, channels, side, side, generator=generator(seed), dtype=torch.float64)


def pictures(n=6, channels=3, side=32, seed=0):
    """Images with structure: a few waves, as uint8."""
    at = torch.linspace(0, 6, side)
    phase = 6 * torch.rand(n, channels, 2, generator=generator(seed))
    waves = torch.sin(at[:, None] + phase[..., :1, None]) * torch.cos(1.7 * at + phase[..., 1:, None])
    return (127.5 + 120 * waves).round().to(torch.uint8)


# --------------------------------------------------------------------------------------------------- against others


@pytest.mark.parametrize("sigma", [0.4, 1.0, 1.6])
def test_the_blur_is_scipys(sigma):
    x = pixels(side=12)
    radius = min(round(4 * sigma), 11)
    for own, image in zip(corruptions.gaussian_blur(x, sigma), x, strict=True):
        expected = [gaussian_filter(c.numpy(), sigma, mode="mirror", radius=radius) for c in image]
        assert np.allclose(own.numpy(), expected, atol=1e-6)


def test_at_a_border_the_blur_is_not_that_of_the_authors_who_repeat_the_edge():
    """What the module says of itself; inside, where no kernel reaches over the edge, the two agree."""
    sigma, x = CIFAR_C["gaussian_blur"][-1], pictures()
    own = 255 * corruptions.gaussian_blur(x / 255, sigma)
    theirs = np.array([[gaussian_filter(c.double().numpy(), sigma, mode="nearest") for c in image] for image in x])
    gap, reach = np.abs(own.numpy() - theirs), round(4 * sigma)
    assert gap[..., reach:-reach, reach:-reach].max() < 1e-3
    assert 2 < gap.max() < 30


def test_levels_are_rounded_where_the_authors_cut_them_off():
    between = (torch.arange(255, dtype=torch.float64) + 0.7) / 255
    assert torch.equal(corruptions.to_levels(between), torch.arange(1, 256, dtype=torch.uint8))
    assert (255 * between.numpy()).astype(np.uint8).tolist() == list(range(255))


def test_brightness_is_the_value_of_matplotlibs_hsv():
    x = torch.cat([pixels(), torch.zeros(1, 3, 9, 9, dtype=torch.float64)])
    hsv = rgb_to_hsv(x.permute(0, 2, 3, 1).numpy())
    hsv[..., 2] = np.clip(hsv[..., 2] + 0.3, 0, 1)
    expected = torch.from_numpy(hsv_to_rgb(hsv)).permute(0, 3, 1, 2)
    assert torch.allclose(corruptions.brightness(x, 0.3), expected, atol=1e-12)


def test_brightness_of_grey_images_is_a_sum():
    x = pixels(channels=1)
    assert torch.allclose(corruptions.brightness(x, 0.3), (x + 0.3).clamp(max=1))


@pytest.mark.parametrize("level", range(5))
def test_jpeg_of_one_grey_block_is_its_rounded_cosines(level):
    """8×8 grey pixels are one block: its cosine transform, divided by the standard's table, rounded, and back."""
    images = torch.randint(256, (40, 1, 8, 8), generator=generator()).to(torch.uint8)
    own = corrupt(images, "jpeg", level + 1, generator())
    expected = [oracles_measure.jpeg_block(image, IMAGENET_C["jpeg"][level]) for image in images[:, 0].double().numpy()]
    away = np.abs(np.array(expected) - own[:, 0].numpy()).max((1, 2))
    # the library computes in integers: now and then a coefficient next to a half is rounded to the other side
    assert (away <= 2).mean() >= 0.8


def test_jpeg_keeps_colours_in_their_channels():
    images = pictures()
    own = corrupt(images, "jpeg", 1, generator()).double()
    for other in ([0, 1, 2], [1, 2, 0], [2, 0, 1]):
        distance = (own - images[:, other].double()).abs().mean()
        assert (distance < 12) == (other == [0, 1, 2])


@pytest.mark.parametrize("share", [0.95, 0.85, 0.65, 0.3])
@pytest.mark.parametrize("side", [8, 32])
def test_pixels_are_pillows(share, side):
    images, small = pictures(3, 1, side), int(side * share)
    own = 255 * corruptions.pixelate(images.double() / 255, share)
    for image, ours in zip(images[:, 0], own[:, 0], strict=True):
        shrunk = Image.fromarray(image.numpy()).resize((small, small), Image.Resampling.BOX)
        theirs = np.asarray(shrunk.resize((side, side), Image.Resampling.BOX))
        assert np.abs(theirs - ours.numpy()).max() <= 1.01  # it rounds after each pass


@pytest.mark.parametrize(("share", "small"), [(0.5, 4), (0.25, 2), (1.0, 8)])
def test_pixels_of_whole_boxes_are_their_means(share, small):
    x, box = pixels(side=8), 8 // small
    own = corruptions.pixelate(x, share)
    for r, c in np.ndindex(8, 8):
        top, left = r // box * box, c // box * box
        mean = x[:, :, top : top + box, left : left + box].mean((2, 3))
        assert torch.allclose(own[:, :, r, c], mean, atol=1e-12)


def test_contrast_is_the_loop():
    x = pixels()
    own = corruptions.contrast(x, 0.3)
    for i, c in np.ndindex(*x.shape[:2]):
        mean = sum(x[i, c].flatten().tolist()) / x[i, c].numel()
        assert torch.allclose(own[i, c], mean + 0.3 * (x[i, c] - mean))
    assert torch.allclose(own.mean((2, 3)), x.mean((2, 3)))


# ----------------------------------------------------------------------------------------------------- laws of the noise


def test_gaussian_noise_is_what_is_handed_in():
    x, normal = pixels(), torch.full((4, 3, 9, 9), -1.0, dtype=torch.float64)
    assert torch.equal(corruptions.gaussian_noise(x, 0.25, normal), (x - 0.25).clamp(min=0))


def test_shot_noise_has_the_mean_and_the_variance_of_counts():
    x = torch.full((20_000, 1, 1, 1), 0.4)
    own = corruptions.CORRUPTIONS["shot_noise"](x, 50, generator()).double()
    assert own.mean().item() == pytest.approx(0.4, abs=4 * (0.4 / 50 / 20_000) ** 0.5)
    assert own.var().item() == pytest.approx(0.4 / 50, rel=0.05)
    assert set((50 * own).round().unique().tolist()) >= {15.0, 20.0, 25.0}
    black = torch.zeros(10, 1, 2, 2)
    assert torch.equal(corruptions.CORRUPTIONS["shot_noise"](black, 50, generator()), black)


def test_salt_and_pepper_fall_equally_often_and_leave_the_rest():
    x = torch.full((100, 1, 20, 20), 0.4)
    own = corruptions.CORRUPTIONS["impulse_noise"](x, 0.2, generator())
    n = own.numel()
    for level in (0.0, 1.0):
        found = int((own == level).sum())
        assert stats.binomtest(found, n, 0.1).pvalue > 0.001
    assert set(own.unique().tolist()) == {0.0, float(x[0, 0, 0, 0]), 1.0}


# ------------------------------------------------------------------------------------------------- what must hold of all


@pytest.mark.parametrize("name", CORRUPTIONS)
@pytest.mark.parametrize(("channels", "side"), [(1, 8), (3, 32), (3, 96)])
def test_harm_grows_with_severity(name, channels, side):
    """By the mean squared distance from the image: one draw, in the same place at every severity."""
    images = pictures(4, channels, side)
    distances = [0.0]
    for severity in range(1, 6):
        own = corrupt(images, name, severity, generator())
        assert own.dtype == torch.uint8 and own.shape == images.shape
        distances.append((own.double() - images.double()).square().mean().item())
    if name == "pixelate":
        # boxes that do not divide the side fall on other pixels at every severity
        assert min(distances[1:]) > 0
    elif name == "jpeg":
        assert 0 < distances[1] < distances[5]
    else:
        assert all(a < b for a, b in itertools.pairwise(distances)), distances


@pytest.mark.parametrize("name", CORRUPTIONS)
def test_equal_draws_give_equal_images_and_others_others(name):
    images = pictures()
    one, same, other = (corrupt(images, name, 3, generator(seed)) for seed in (0, 0, 1))
    assert torch.equal(one, same)
    assert torch.equal(one, other) == (name not in RANDOM)


@pytest.mark.parametrize("name", CORRUPTIONS)
def test_images_do_not_depend_on_each_other(name):
    if name not in RANDOM:
        images = pictures()
        whole = corrupt(images, name, 4, generator())
        alone = torch.cat([corrupt(image[None], name, 4, generator()) for image in images])
        assert torch.equal(whole, alone)


@given(st.sampled_from([n for n in CORRUPTIONS if n != "jpeg"]), st.integers(0, 4), st.integers(0, 50))
def test_values_stay_in_range(name, level, seed):
    x = (1.4 * pixels(2, seed=seed).float() - 0.2).clamp(0, 1)
    own = CORRUPTIONS[name](x, IMAGENET_C[name][level], generator(seed))
    assert own.min() >= 0 and own.max() <= 1 + 1e-6 and own.isfinite().all()


@pytest.mark.parametrize("name", CORRUPTIONS)
def test_severity_zero_is_the_image(name):
    assert corrupt(pictures(), name, 0, generator()) is not None
    assert torch.equal(corrupt(pictures(), name, 0, generator()), pictures())


@pytest.mark.parametrize("table", [CIFAR_C, IMAGENET_C, SMALL])
def test_tables_have_five_strengths_in_order_for_every_corruption(table):
    assert list(table) == list(CORRUPTIONS)
    for name, values in table.items():
        falls = name in ("shot_noise", "contrast", "pixelate", "jpeg")
        assert len(values) == 5 and list(values) == sorted(set(values), reverse=falls)


def test_strengths_go_with_the_size_of_the_images():
    assert [strengths(side) for side in (8, 32, 224)] == [SMALL, CIFAR_C, IMAGENET_C]
    assert {n for n in SMALL if SMALL[n] != IMAGENET_C[n]} == {"gaussian_blur"}


def test_what_does_not_exist_is_refused():
    with pytest.raises(ConfigError, match="corruption: 'fog' is not known; choose from gaussian_noise, "):
        corrupt(pictures(), "fog", 1, generator())
    for severity in (-1, 6, 1.5):
        with pytest.raises(ConfigError, match=f"severity: {severity} is not allowed; give an integer from 0 to 5"):
            corrupt(pictures(), "jpeg", severity, generator())
