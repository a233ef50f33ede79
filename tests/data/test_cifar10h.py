"""Agreement with people: against loops and scikit-learn's identities, with files as they come and as they break."""

import os
import pathlib
import zipfile

import numpy as np
import oracles
import oracles_measure
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from scipy.special import rel_entr

from sba.core.errors import ConfigError, DataError
from sba.data import cifar10h


def made_up():
    """Counts of fifty answers in the shape of CIFAR-10H, as shares."""
    counts = np.random.default_rng(0).multinomial(50, [0.5, 0.3, 0.1, 0.1] + [0.0] * 6, 10_000)
    return counts / 50


def put(folder, place, shares):
    path = folder / place
    path.parent.mkdir(parents=True, exist_ok=True)
    if path.suffix == ".zip":
        np.save(folder / "part.npy", shares)
        with zipfile.ZipFile(path, "w") as archive:
            archive.write(folder / "part.npy", f"cifar10h/{cifar10h.FILE}")
    else:
        np.save(path, shares)
    return path


@given(st.integers(0, 100))
def test_cross_entropy_and_divergence_are_those_of_plain_loops(seed):
    generator = np.random.default_rng(seed)
    people = generator.multinomial(5, [0.4, 0.3, 0.2, 0.1], 6) / 5
    z = generator.normal(0, 3, (6, 4))
    own = cifar10h.cross_entropy(torch.tensor(people), torch.tensor(z))
    assert own == pytest.approx(oracles_measure.human_cross_entropy(people.tolist(), z.tolist()), abs=1e-12)
    y = np.array([oracles.softmax(row) for row in z])
    expected = rel_entr(people, y).sum(1).mean()
    assert cifar10h.divergence(torch.tensor(people), torch.tensor(z)) == pytest.approx(expected, abs=1e-12)


def test_who_answers_as_people_do_has_no_divergence():
    people = torch.tensor([[0.5, 0.25, 0.25], [0.1, 0.8, 0.1]], dtype=torch.float64)
    assert cifar10h.divergence(people, people.log() + 3) == pytest.approx(0, abs=1e-12)
    assert cifar10h.cross_entropy(people, people.log()) == pytest.approx(oracles_measure.entropy(people.tolist()))
    unanimous = torch.eye(3, dtype=torch.float64)
    assert cifar10h.cross_entropy(unanimous, torch.zeros(3, 3)) == pytest.approx(np.log(3))


@pytest.mark.parametrize("place", [*cifar10h.PLACES, cifar10h.ARCHIVE])
def test_the_file_is_found_wherever_it_comes(tmp_path, place):
    assert cifar10h.find(tmp_path) is None and cifar10h.find(None) is None
    path = put(tmp_path, place, made_up())
    assert cifar10h.find(tmp_path) == path
    assert np.array_equal(cifar10h.read(tmp_path).numpy(), made_up())


def test_a_missing_file_is_named():
    with pytest.raises(DataError, match=r"data_root: /nowhere holds neither cifar10h-probs.npy nor .* copy CIFAR-10H"):
        cifar10h.read(pathlib.Path("/nowhere"))


@pytest.mark.parametrize("place", [cifar10h.FILE, cifar10h.ARCHIVE])
def test_a_torn_file_is_named(tmp_path, place):
    path = put(tmp_path, place, made_up())
    path.write_bytes(path.read_bytes()[:1000])
    with pytest.raises(DataError, match=f"data_root: .*{place} cannot be read .* copy it anew"):
        cifar10h.read(tmp_path)


@pytest.mark.parametrize("wrong", [made_up()[:50], 50 * made_up(), made_up() - 0.1 + 0.1 * np.eye(10)[[0]] * 10])
def test_other_numbers_are_refused(tmp_path, wrong):
    put(tmp_path, cifar10h.FILE, wrong)
    with pytest.raises(DataError, match="holds no 10000 distributions over 10 classes"):
        cifar10h.read(tmp_path)


def test_shapes_must_agree():
    with pytest.raises(ConfigError, match=r"people: shape \(2, 3\) does not fit logits of shape \(2, 4\)"):
        cifar10h.cross_entropy(torch.ones(2, 3), torch.ones(2, 4))


def test_people_mostly_see_what_the_labels_say(cifar):
    """The real file lies in the order of the test set."""
    root = pathlib.Path(os.environ["SBA_DATA"])
    if cifar10h.find(root) is None:
        pytest.skip(f"SBA_DATA holds no {cifar10h.ARCHIVE} and no {cifar10h.FILE}")
    people = cifar10h.read(root)
    assert cifar.root == root
    assert (people.argmax(1) == cifar.test.labels).double().mean() > 0.99
    assert 0.1 < cifar10h.cross_entropy(people, people.log().clamp(min=-1e9)) < 0.3
