"""What a benchmark compares is read from the names that its records had first."""

import pytest

from sba.bench import contestants
from sba.records.comparison import Comparison, from_name

STEP = ", ω=1.0472, over a plain step"


@pytest.mark.parametrize(
    ("name", "fields"),
    [
        ("alexnet (bf16): speed of our loop over a plain loop with 2 workers", ("loop", "alexnet", "erm", "", "bf16")),
        ("alexnet (none), an epoch on NVIDIA H200: SBA over plain", ("epochs", "alexnet", "sba", "", "none")),
        (
            "vgg16 (none), an epoch on A: speed of the compiled one over it",
            ("epochs", "vgg16", "erm", "compiled", "none"),
        ),
        ("resnet44: SBA step (M → ∞, bound)" + STEP, ("step", "resnet44", "implicit-sba", "bound", "")),
        ("resnet44: SBA step (M → ∞, second order)" + STEP, ("step", "resnet44", "implicit-sba", "", "")),
        ("alexnet: ba, chunked step over a plain step", ("relatives", "alexnet", "ba", "chunked", "")),
        ("alexnet: sba+isda step over a plain step", ("relatives", "alexnet", "sba+isda", "", "")),
        ("something else", ("", "", "", "", "")),
    ],
)
def test_a_name_gives_its_fields(name, fields):
    found = from_name(name)
    assert (found.family, found.network, found.method, found.variant, found.amp) == fields


@pytest.mark.parametrize(
    ("name", "layer", "folds", "basis"),
    [
        ("resnet44: SBA step (M=40, ω=1.0472, layer pool) over a plain step", "pool", 40, "colnorm"),
        ("resnet44: SBA step (M=40, layer pool)" + STEP, "pool", 40, "colnorm"),
        ("resnet44: cost, M=8, layer pool, ω=0.0000, over a plain step", "pool", 8, "colnorm"),
        ("vgg16: cost, layer fc2, M=4, B=32, Hadamard, ω=0.0000, over a plain step", "fc2", 4, "hadamard"),
    ],
)
def test_virtual_points_have_a_layer_an_m_and_a_basis(name, layer, folds, basis):
    found = from_name(name)
    assert (found.layer, found.folds, found.basis, found.method) == (layer, folds, basis, "sba")


def test_what_is_measured_now_says_the_same_in_its_name_and_in_its_fields(monkeypatch):
    monkeypatch.setattr(contestants, "step_costs", lambda network, given, *_: ([1.0], {name: [2.0] for name in given}))
    made = [*contestants.at_last_layer("resnet44", 40, 1), *contestants.against_folds("alexnet", 1)]
    made += contestants.against_layers("vgg16", 1)
    made += contestants.of_relatives("alexnet", 1)
    assert [one.about for one in made] == [from_name(one.name) for one in made] and Comparison() not in made
