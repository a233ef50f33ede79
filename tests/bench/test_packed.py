"""Seeds packed into one network train as each does alone, and the bench runs on a processor."""

import copy

import pytest
import torch
import torch.nn.functional as F
from torch import nn

from sba import build
from sba.bench import packed as module
from sba.bench.packed import against_packed, pack, packed_loss
from sba.core.errors import ConfigError
from sba.core.staged import Staged

SEEDS, STEPS, BATCH, SIDE = 3, 4, 6, 8


def networks(name):
    torch.manual_seed(0)
    return [build(name, 5, 3, SIDE).double().train() for _ in range(SEEDS)]


def sgd(model):
    return torch.optim.SGD(model.parameters(), 0.1, 0.9, weight_decay=1e-2)


@pytest.mark.parametrize("dense", [True, False], ids=["dense", "grouped"])
@pytest.mark.parametrize("name", ["resnet20", "resnet44_b"])
def test_packed_seeds_train_as_each_does_alone(name, dense):
    alone = networks(name)
    together = pack(copy.deepcopy(alone), dense)
    optimizers, joint = [sgd(one) for one in alone], sgd(together)
    for _ in range(STEPS):
        images, labels = torch.randn(SEEDS, BATCH, 3, SIDE, SIDE).double(), torch.randint(5, (SEEDS, BATCH))
        for one, optimizer, x, y in zip(alone, optimizers, images, labels, strict=True):
            optimizer.zero_grad()
            F.cross_entropy(one(x), y).backward()
            optimizer.step()
        joint.zero_grad()
        packed_loss(together, images, labels).backward()
        joint.step()
    start = networks(name)[0].state_dict()
    for seed, one in enumerate(alone):
        packed = together.state_dict()
        found = {name: joined.chunk(SEEDS)[seed] if joined.dim() else joined for name, joined in packed.items()}
        assert found.keys() == one.state_dict().keys()
        for key, tensor in one.state_dict().items():
            torch.testing.assert_close(found[key], tensor, rtol=0, atol=1e-10, msg=key)
    moved = max(float((tensor - start[key]).abs().max()) for key, tensor in alone[0].state_dict().items())
    assert moved > 1e-3, "the steps must change something"


def test_one_network_sees_no_image_of_another():
    together = pack(networks("resnet20")).eval()
    images = torch.randn(BATCH, SEEDS * 3, SIDE, SIDE).double()
    other = images.clone()
    other[:, 3:6] += 1
    changed = (together(images) != together(other)).any(0).view(SEEDS, 5).any(1)
    assert changed.tolist() == [False, True, False]


def test_what_cannot_be_packed_is_refused():
    strange = [Staged([("norm", nn.GroupNorm(1, 3)), ("flatten", nn.Flatten()), ("last", nn.Linear(12, 2))])] * 2
    with pytest.raises(ConfigError, match=r"network: norm \(GroupNorm\) cannot be packed; give convolutional networks"):
        pack(strange)


def test_the_bench_gives_the_time_of_a_seed(monkeypatch):
    monkeypatch.setattr(module, "SEEDS", (2,))
    monkeypatch.setattr(module, "BATCH", 2)
    found = against_packed("resnet20", 1, torch.device("cpu"), "none", steps=1)
    assert [one.about.variant for one in found] == ["2 dense", "2 grouped"]
    for one in found:
        seconds = one.details[f"{one.about.variant} s"], one.details["alone s"]
        assert one.value == pytest.approx(seconds[0] / seconds[1]) and one.about.family == "packed"


@pytest.mark.gpu
def test_a_captured_step_of_packed_seeds_trains_on_a_card(monkeypatch):
    monkeypatch.setattr(module, "SEEDS", (2,))
    found = against_packed("resnet20", 1, torch.device("cuda"), "bf16", steps=2)
    assert len(found) == 2 and all(one.value > 0 for one in found)
