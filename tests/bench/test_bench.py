"""The arithmetic of the measurements; how fast anything is belongs into `make bench`."""

import dataclasses
import math
import pathlib

import pytest
import torch

from sba.bench import attached, contestants, loop, timing
from sba.cli import options
from sba.models.registry import build
from sba.records.file import book_folder, read
from sba.records.schema import BenchRecord
from sba.studies.contenders import MAIN
from sba.training.loop import Training
from sba.training.run import make_run


def test_a_ratio_pairs_its_rounds():
    found = timing.ratio("a over b", [2.0, 9.0, 4.0], [1.0, 3.0, 4.0], {})
    assert (found.value, found.low, found.high, found.rounds) == (2.0, 1.0, 3.0, 3)
    assert (found.details["lower quartile"], found.details["upper quartile"]) == (1.5, 2.5)
    with pytest.raises(ValueError):
        timing.ratio("unpaired", [1.0], [1.0, 2.0], {})


def test_both_contestants_see_the_same_pixels():
    images = timing.RandomImages(5)
    data = timing.on_device(images)
    images.transform = timing.v2.PILToTensor()
    for i in range(5):
        pixels, label = images[i]
        assert torch.equal(pixels, data.train.images[i]) and label == data.train.labels[i]


def test_the_loader_delivers_normalised_float_images():
    pixels, _ = timing.RandomImages(1)[0]
    assert pixels.shape == (3, 32, 32) and pixels.dtype == torch.float32
    assert pixels.min() < 0 < pixels.max()


def test_the_steps_of_a_contestant_train_its_network():
    data = timing.on_device(timing.RandomImages(timing.BATCH))
    training = Training(make_run("cifar10", "alexnet", batch_size=timing.BATCH), data)
    before = [p.clone() for p in training.network.parameters()]
    timing.steps_of(training)()
    assert training.step == 1
    assert any(not torch.equal(a, b) for a, b in zip(before, training.network.parameters(), strict=True))


def test_the_counted_operations_of_a_step_are_three_products_per_linear_layer_but_the_first():
    network = torch.nn.Sequential(torch.nn.Linear(20, 30), torch.nn.Linear(30, 5))
    x = torch.randn(7, 20)
    counted = loop.step_gflop(lambda: network(x).sum().backward())
    assert counted == pytest.approx(2 * 7 * (2 * 20 * 30 + 3 * 30 * 5) / 1e9)


def test_the_expected_cost_weighs_augmented_and_plain_steps_by_the_cosine():
    found = timing.expected_cost("cost", [3.0, 5.0], [1.0, 1.0], math.pi / 3, family="folds", folds=4)
    assert found.value == pytest.approx((2.0 + 3.0) / 2) and (found.about.family, found.about.folds) == ("folds", 4)
    assert timing.expected_cost("cost", [3.0], [1.5], 0.0).value == pytest.approx(2.0)
    assert timing.expected_cost("cost", [3.0], [1.5], math.pi / 2).value == pytest.approx(1.0)


def test_all_contestants_take_as_many_steps_in_turns(monkeypatch):
    turns = []
    monkeypatch.setattr(timing, "steps_of", lambda training, batch: lambda: turns.append(training.run.method.name))
    entrants = {"a": contestants.ALWAYS | {"method": "sba", "folds": 2}}
    plain, augmented = contestants.step_costs("alexnet", entrants, pairs=3, batch=4)
    assert turns == ["erm", "sba"] * 4  # the first of each is a warm-up
    assert len(plain) == 3 and {name: len(t) for name, t in augmented.items()} == {"a": 3}


def test_limits_are_for_one_network_and_forms_for_those_that_have_covariances(monkeypatch):
    asked = {}

    def once(network, contestants, pairs):
        asked[network] = contestants
        return [1.0], {name: [2.0] for name in contestants}

    monkeypatch.setattr(contestants, "step_costs", once)
    strict = contestants.of_relatives("resnet44", 1)
    loose = contestants.of_relatives("vgg16", 1, form="diagonal")
    assert {r.limit for r in strict} == {None, 1.05} and {r.limit for r in loose} == {None}
    assert {name for name, given in asked["vgg16"].items() if given.get("form") == "diagonal"} == {"isda", "sba+isda"}
    assert all("form" not in given for given in asked["resnet44"].values())
    for given in asked["vgg16"].values():
        make_run("cifar10", "vgg16", **given)


@pytest.mark.parametrize(("network", "layers"), contestants.LAYERS.items())
def test_the_layers_that_are_measured_exist_and_have_a_successor(network, layers):
    stages = build(network, 10, 3, 32).stages
    assert set(layers) <= set(stages[:-1]) and layers[-1] == build(network, 10, 3, 32).linear_inputs[-1]


def test_the_forms_that_are_compared_compute_the_same(monkeypatch):
    """ISDA's table and its direct form leave equal gradients; both pairings match equal rows, up to the unsquared distance."""
    found = []

    def once(name, ours, theirs, rounds, **about):
        found.append((ours, theirs))

    monkeypatch.setattr(contestants, "in_turns", once)
    contestants.isda_table(1, batch=12, classes=5, features=4)
    (ours, theirs) = found[0]
    ours()
    weight = next(c.cell_contents for c in ours.__closure__ if getattr(c.cell_contents, "shape", None) == (5, 4))
    first, weight.grad = weight.grad, None
    theirs()
    torch.testing.assert_close(weight.grad, first, rtol=1e-4, atol=1e-6)
    contestants.k_mixup_pairing(1, batch=24, k=4)
    blocks, padded = (form() for form in found[1])
    assert (blocks // 4 == padded // 4).all() and (blocks == padded).float().mean() > 0.8


def test_a_limit_is_judged():
    found = timing.ratio("a", [1.0], [2.0], {})
    assert "limit" not in str(found)
    assert "limit 0.6 kept" in str(dataclasses.replace(found, limit=0.6))
    assert "limit 0.4 MISSED" in str(dataclasses.replace(found, limit=0.4))


def test_a_benchmark_is_recorded_with_its_fields_and_a_quick_one_is_not(monkeypatch, tmp_path):
    found = timing.ratio("import sba over import torch", [3.0], [2.0], {"sba s": 3.0}, 1.5, family="import")
    monkeypatch.setattr(contestants, "import_time", lambda rounds: found)
    for quick in (True, False):
        contestants.run_benchmarks(tmp_path / "r.jsonl", quick, only=("import",))
    (record,) = read(tmp_path / "r.jsonl")
    assert (record.name, record.value, record.quartiles, record.compared) == (found.name, 1.5, (1.5, 1.5), found.about)
    assert record.as_json()["about"] == {"family": "import"}


def test_a_step_through_attach_is_timed_against_the_same_step_of_the_chain(monkeypatch):
    seen, losses = [], []
    monkeypatch.setattr(torch.Tensor, "backward", lambda loss: losses.append(loss.detach()))

    def once(name, ours, theirs, rounds, limit, **about):
        seen.append((about["layer"], about["folds"], limit))
        ours(), theirs()
        assert torch.equal(*losses[-2:])

    monkeypatch.setattr(attached, "in_turns", once)
    monkeypatch.setattr(attached, "POINTS", {"resnet44": (("pool", 2), ("block3_7", 1))})
    attached.against_chain("resnet44", 1, batch=4)
    assert seen == [("pool", 2, 1.1), ("block3_7", 1, 1.1)]


def test_every_contender_of_little_data_is_timed_at_every_layer_it_may_choose(monkeypatch):
    asked = {}

    def once(network, entrants, pairs, batch):
        asked.update(entrants)
        return [1.0], {who: [2.0] for who in entrants}

    monkeypatch.setattr(contestants, "step_costs", once)
    found = contestants.of_contenders(MAIN, 1)
    assert {one.about.variant for one in found} == set(MAIN.contenders) - {"plain"}
    assert [one.about.layer for one in found if one.about.variant == "SBA at a convolution"] == ["conv2", "conv3"]
    for one in found:
        given = asked[one.about.variant, one.about.layer]
        run = make_run("cifar10", "alexnet", **given)
        assert run.method.name == one.about.method
        # λ(t) is 1 at half of the steps, and all of them are timed augmented
        assert one.value == pytest.approx(1.5 if "omega" in given else 2.0) and given.get("omega", 0.0) == 0.0


def test_the_refusal_of_compiled_stages_names_the_ratio_that_was_measured():
    said = (
        pathlib.Path(options.__file__)
        .read_text(encoding="utf-8")
        .partition("ResNet-44 at ")[2]
        .partition(" of the speed")[0]
    )
    measured = [r for r in read(book_folder()) if isinstance(r, BenchRecord) and r.compared.family == "compiled"]
    own = [r.value for r in measured if r.compared.network == "resnet44"]
    assert own and all(round(value, 1) == float(said) for value in own)
