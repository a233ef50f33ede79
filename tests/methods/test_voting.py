"""Whose virtual points vote for a network: a method's own vicinity, or the defaults of SBA (open point 22)."""

import pytest

from sba import METHODS, SBA, ImplicitSBA, build
from sba.core.hyper import definitions
from sba.methods import SBAISDA, Bamboo

OWN = {"sba", "implicit-sba", "sba+isda", "bamboo"}


@pytest.mark.parametrize("name", sorted(METHODS.keys() - OWN))
def test_methods_without_a_vicinity_have_sbas_defaults(name):
    """Layers too: those that mixup mixes at are none of the vote's."""
    cls = METHODS[name]
    options = {"layers": ("conv1",)} if "layers" in definitions(cls) else {}
    assert cls(**options).voting_vicinity() == SBA()


def test_a_vicinity_of_ones_own_votes():
    method = SBA(folds=3, sigma=0.7, layers=("fc1",), basis="identity")
    assert method.voting_vicinity() == method
    fields = {"sigma": 0.7, "gaussian_share": 0.25}
    implicit = ImplicitSBA(dropout_rescale=False, **fields)
    assert implicit.voting_vicinity() == SBA(dropout_rescale=False, **fields)
    both = SBAISDA(lambda0=0.1, layers=("conv1",), **fields)
    assert both.voting_vicinity() == SBA(layers=("conv1",), **fields)
    assert Bamboo(folds=5).voting_vicinity() == SBA(folds=5, layers=("input",), basis="identity")


@pytest.mark.parametrize("cls", [SBA, ImplicitSBA])
def test_a_running_scale_gives_way_to_the_batchs(cls):
    assert cls(scale="running", sigma=0.7).voting_vicinity() == SBA(scale="batch", sigma=0.7)
    assert cls(scale="absolute").voting_vicinity() == SBA(scale="absolute")


@pytest.mark.parametrize("name", sorted(METHODS))
def test_the_vote_of_every_methods_defaults_can_be_held_on_large_images(name):
    """An error would name options that the method has not. Only SBA has a basis to choose."""
    network = build("resnet44", 10, 3, 96)
    METHODS[name]().voting_vicinity().check(network)
