"""torchvision's networks as chains: the same weights under the same names, the same numbers out."""

import copy

import pytest
import torch
from torch import nn
from torchvision import models

from sba.core.errors import ConfigError
from sba.models import torchvision
from sba.models.borrowed import Borrowed
from sba.models.registry import build, count_parameters

THEIRS = {"alexnet_imagenet": models.alexnet, "vgg16_imagenet": models.vgg16, "resnet50": models.resnet50}
OURS = {"alexnet_imagenet": torchvision.alexnet, "vgg16_imagenet": torchvision.vgg16, "resnet50": torchvision.resnet50}
every_network = pytest.mark.parametrize("name", THEIRS)


@pytest.fixture(scope="module", params=THEIRS)
def pair(request):
    """Ours with torchvision's weights loaded by name, and torchvision's."""
    torch.manual_seed(1)
    theirs = THEIRS[request.param](weights=None, num_classes=7)
    torch.manual_seed(2)
    ours = build(request.param, 7, 3, 64)
    ours.load_state_dict(theirs.state_dict(), strict=True)
    return ours, theirs


def test_state_dicts_have_the_same_keys_in_the_same_order(pair):
    ours, theirs = pair
    assert list(ours.state_dict()) == list(theirs.state_dict())
    theirs.load_state_dict(ours.state_dict(), strict=True)


@pytest.mark.parametrize("training", [False, True])
@torch.no_grad()
def test_outputs_are_torchvisions_bit_for_bit(pair, training):
    outputs = []
    for network in pair:
        torch.manual_seed(3)  # dropout
        outputs.append(copy.deepcopy(network).train(training)(torch.randn(2, 3, 64, 64)))
    assert torch.equal(*outputs)


@every_network
def test_fresh_weights_are_torchvisions(name):
    states = []
    for make in (lambda: build(name, 4, 3, 224), lambda: THEIRS[name](weights=None, num_classes=4)):
        torch.manual_seed(5)
        states.append(make().state_dict())
    assert all(torch.equal(a, b) for a, b in zip(*(s.values() for s in states), strict=True))


@pytest.mark.parametrize(
    ("name", "weights"),
    [
        ("alexnet_imagenet", models.AlexNet_Weights.IMAGENET1K_V1),
        ("vgg16_imagenet", models.VGG16_Weights.IMAGENET1K_V1),
        ("resnet50", models.ResNet50_Weights.IMAGENET1K_V1),
    ],
)
def test_sizes_are_those_of_the_published_weights(name, weights):
    with torch.device("meta"):
        network = OURS[name](1000, 3)
    assert count_parameters(network) == weights.meta["num_params"]


def test_layers_that_linear_ones_read():
    with torch.device("meta"):
        assert torchvision.resnet50(10, 3).linear_inputs == ("pool",)
        assert (
            torchvision.vgg16(10, 3).linear_inputs
            == torchvision.alexnet(10, 3).linear_inputs
            == ("flatten", "fc1", "fc2")
        )


def test_every_convolution_of_vgg_is_a_stage():
    with torch.device("meta"):
        network = torchvision.vgg16(10, 3)
    counts = [sum(isinstance(m, nn.Conv2d) for m in stage.modules()) for stage in network]
    assert counts == [1] * 13 + [0] * 4 and sum(isinstance(m, nn.Linear) for m in network.modules()) == 3


def test_modes_and_copies_reach_all_modules(pair):
    network = copy.deepcopy(pair[0]).eval()
    assert not any(m.training for stage in network for m in stage.modules())
    used = {id(p) for stage in network for p in stage.parameters()}
    assert used == {id(p) for p in network.parameters()}
    assert used.isdisjoint(map(id, pair[0].parameters()))
    assert len(network) == len(network.stages) and network[-1] is network.last_linear
    assert list(network[:2]) == [network[0], network[1]]


@every_network
def test_grey_images_are_refused(name):
    with pytest.raises(ConfigError, match=r"take 3 channels, the data has 1; give RGB"):
        build(name, 10, 1, 224)


@pytest.mark.parametrize("side", [16, 31])
def test_images_that_are_too_small_are_refused(side):
    with pytest.raises(
        ConfigError, match=rf"'resnet50' .* 224×224 pixels, and at least 32×32, the data has {side}×{side}"
    ):
        build("resnet50", 10, 3, side)


@pytest.mark.parametrize("stages", [{"a": ("0",)}, {"a": ("0", "1"), "b": ("1",)}])
def test_a_chain_that_lacks_or_repeats_weights_is_refused(stages):
    with pytest.raises(ValueError, match="must hold every weight of the network once"):
        Borrowed(nn.Sequential(nn.Linear(2, 2), nn.Linear(2, 2)), stages)
