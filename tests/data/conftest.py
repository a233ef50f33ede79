"""A data set of photographs that stay in files, of noise."""

import itertools
import shutil

import numpy as np
import pytest
from PIL import Image

from sba import load

CLASSES, EACH = 3, 8


@pytest.fixture(scope="session")
def photographs(tmp_path_factory):
    """A root with an Imagenette of noise: 24 training images and 12 others, of several sizes and modes."""
    root = tmp_path_factory.mktemp("root")
    noise = np.random.default_rng(0)
    for split, each in (("train", EACH), ("val", 4)):
        for c, i in itertools.product(range(CLASSES), range(each)):
            folder = root / "imagenette2-160" / split / f"n{c:08}"
            folder.mkdir(parents=True, exist_ok=True)
            pixels = noise.integers(0, 256, (20 + i, 30 - i, 3), dtype=np.uint8)
            pixels[..., c] = 255
            # ImageNet has grey images, too
            Image.fromarray(pixels).convert("L" if i == 3 else "RGB").save(folder / f"{i}.JPEG")
    return root


@pytest.fixture
def own(photographs, tmp_path):
    """A copy that may be broken."""
    shutil.copytree(photographs, tmp_path / "root")
    return tmp_path / "root"


@pytest.fixture(scope="session")
def stream(photographs):
    return load("imagenette", photographs, side=8).train
