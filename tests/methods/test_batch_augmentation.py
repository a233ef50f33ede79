"""Batch Augmentation: several views of an image in a step, at once, in chunks, adapted, and at a layer."""

import dataclasses

import oracles
import pytest
import torch
from helpers import outcome, plane, same

import sba
from sba import train
from sba.core.errors import ConfigError
from sba.core.rng import Step
from sba.data.augment import normalise
from sba.methods import SBA
from sba.records.names import column
from sba.report.averages import settings as written_settings
from sba.training.adapted import adapted
from sba.training.run import Run, make_run


@pytest.fixture
def noisy_moons(monkeypatch):
    """Moons with an augmentation that makes every view of an image another one, and a network without batch statistics."""

    def augment(images, mean, std, now):
        noise = torch.randn(images.shape, generator=now.generator("noise", images.device))
        return normalise(images, mean, std) + noise

    monkeypatch.setattr(Run, "augmentation", property(lambda self: augment))
    moons = sba.load("moons")
    few = dataclasses.replace(moons, train=moons.train[:60], test=moons.test[:30])
    return lambda **options: outcome(make_run("moons", epochs=2, batch_size=20, **options), few)


@pytest.mark.parametrize("method", ["erm", "isda"])
def test_views_in_chunks_equal_views_at_once_without_batch_statistics(noisy_moons, method):
    """ISDA at λ₀ = 0: the covariances have taken in the same features."""
    given = {"method": method} | ({"lambda0": 0.0} if method == "isda" else {})
    once, chunked, two, one = (
        noisy_moons(**given, views=views, chunked=chunked)[1]
        for views, chunked in ((3, False), (3, True), (2, True), (1, False))
    )
    for name, value in once.items():
        torch.testing.assert_close(chunked[name], value, rtol=1e-4, atol=1e-5)
    for other in (two, one):
        assert max((other[k] - once[k]).abs().max() for k in once if "network" in k) > 1e-3


@pytest.mark.parametrize("side", [False, True])
def test_views_that_would_be_equal_are_refused(side, run, small):
    equal = {"views": 2, "padding": 0, "chunked": side}
    with pytest.raises(ConfigError, match="views: the 2 of an image would be equal; give padding, flip or cutout"):
        train(run(**equal), small)
    train(run(**equal, network="digits_dropout"), small)
    train(run(**equal | {"cutout": 2}), small)


def test_k_mixup_is_refused_where_the_run_is_made_if_its_batch_has_no_two_blocks_or_holds_an_image_twice(run, small):
    with pytest.raises(ConfigError, match="k: 9 leaves a batch of 16 no two blocks to match; give at most 8"):
        train(run(method="k-mixup", k=9), small)
    with pytest.raises(ConfigError, match="k: 9 leaves a batch of 16 no two blocks"):
        train(run(method="k-mixup", k=9, views=2), small)
    with pytest.raises(
        ConfigError, match="views: 2 in one pass would be matched with each other by k-mixup; give chunked"
    ):
        train(run(method="k-mixup", k=8, views=2), small)
    train(run(method="k-mixup", k=8, views=2, chunked=True), small)
    train(run(method="k-mixup", k=1, views=2), small)


def test_one_view_is_plain_training(run, small):
    plain = outcome(run(), small)
    chunked = {"views": 1, "chunked": True}
    for options in ({"views": 1}, chunked, chunked | {"adapt_norm": True}):
        views = outcome(run(**options), small)
        assert views[0] == plain[0] and same(views[1], plain[1])


def test_views_are_augmented_independently_and_the_first_is_the_plain_one(run, small):
    training = train(run(views=3), small)
    seen = []
    training.objective.forward = lambda x, y, now: seen.append((x, y)) or {"cross_entropy": x.sum()}
    (compute,) = training.chunks(small.train[:16], training.now())
    compute()
    ((x, y),) = seen
    views = x.unflatten(0, (3, 16))
    assert torch.equal(y, small.train.labels[:16].repeat(3))
    assert not torch.equal(views[0], views[1]) and not torch.equal(views[1], views[2])
    plain = training.run.augmentation(small.train.images[:16], small.mean, small.std, training.now())
    assert torch.equal(views[0], plain)


def test_chunks_hold_one_view_of_every_image_and_dropout_of_its_own(run, small):
    training = train(run(views=2, chunked=True), small)
    seen = []
    training.objective.forward = lambda x, y, now: (
        seen.append((x, now.view, torch.rand(1))) or {"cross_entropy": x.sum()}
    )
    for compute in training.chunks(small.train[:16], training.now()):
        compute()
    assert [view for _, view, _ in seen] == [0, 1] and all(len(x) == 16 for x, _, _ in seen)
    assert not torch.equal(seen[0][0], seen[1][0]) and not torch.equal(seen[0][2], seen[1][2])


def test_chunks_and_two_updates_exclude_each_other():
    with pytest.raises(
        ConfigError, match="chunked: true is not allowed with update 'sequential_fresh'; give update joint"
    ):
        make_run(method="sba", update="sequential_fresh", views=2, chunked=True)


def test_the_adapted_gradient_has_the_mean_length_of_the_views_own():
    """Against gradients taken view by view, in float64, through one step without momentum."""
    import dataclasses

    import sba

    moons = sba.load("moons")
    few = dataclasses.replace(moons, train=moons.train[:60], test=moons.test[:30])
    options = {"dataset": "moons", "network": "mlp", "views": 3, "padding": 1, "batch_size": 20, "epochs": 1}
    options |= {"momentum": 0.0, "weight_decay": 0.0, "milestones": (), "lr": 0.1}
    training = train(make_run(**options, chunked=True, adapt_norm=True), few)
    # moons have no augmentation that differs much between views: noise makes their gradients disagree
    noise = torch.Generator().manual_seed(0)
    views = [torch.randn(20, 2, 1, 1, generator=noise) for _ in range(3)]
    labels = few.train.labels[:20]
    training.chunks = lambda batch, now: [
        lambda v=v: {"cross_entropy": torch.nn.functional.cross_entropy(training.network(v), labels)} for v in views
    ]
    weights = list(training.network.parameters())
    before = [w.detach().double() for w in weights]
    own = []
    for v in views:
        loss = torch.nn.functional.cross_entropy(training.network(v), labels)
        own.append(torch.cat([g.flatten() for g in torch.autograd.grad(loss, weights)]).double())
    mean = torch.stack(own).mean(0)
    expected = mean * torch.stack(own).norm(dim=1).mean() / mean.norm()
    assert expected.norm() > 1.05 * mean.norm()
    training.run_step(torch.arange(20))
    moved = torch.cat([((b - w.detach().double()) / 0.1).flatten() for b, w in zip(before, weights, strict=True)])
    torch.testing.assert_close(moved, expected, rtol=1e-4, atol=1e-6)


def test_an_adapted_gradient_of_nothing_is_nothing():
    weight = torch.nn.Parameter(torch.ones(3))
    optimizer = torch.optim.SGD([weight], 0.1)
    adapted([lambda: {"loss": (0 * weight).sum()}, lambda: {"loss": (0 * weight).sum()}], optimizer)
    assert torch.equal(weight.detach(), torch.ones(3))


def test_adaptation_needs_the_gradient_of_each_view():
    with pytest.raises(ConfigError, match=r"adapt_norm: true needs .*; give chunked"):
        make_run(views=4, adapt_norm=True)
    run = make_run("cifar10", "alexnet", views=4, chunked=True, adapt_norm=True)
    assert written_settings(run) == "4 views, chunked, adapt norm"


def test_batch_augmentation_has_a_column_of_its_own():
    run = make_run("cifar10", "alexnet", views=4, cutout=16)
    assert column(run) == "cutout+ba"
    assert written_settings(run) == "4 views"
    assert column(make_run("cifar10", "alexnet")) == "erm"


def test_latent_batch_augmentation_is_the_cross_entropy_of_dropout_masks():
    """M masks on what enters a layer, each with the sample's own label, and nothing else; as M dropout layers would draw them."""
    network, x, y = plane()
    method = SBA(**SBA.presets["latent-ba"], folds=5, layers=("fc1",))
    now = Step(0, 4)
    terms = method.terms(network, x, y, now, None)
    h = network(x, until="fc1")
    points = method.virtual_points(h, now.generator("vicinity", h.device))
    masks = points.unflatten(0, (5, 8)) / h
    kept = masks[h.expand_as(masks) != 0]
    assert set(kept.round(decimals=9).tolist()) == {0.0, 2.0}
    expected = oracles.hard_loss(network(points, after="fc1").tolist(), y.tolist())
    assert terms.keys() == {"virtual"} and terms["virtual"].item() == pytest.approx(expected, rel=1e-9)
    assert all(method.augmented_layer(network, Step(0, step)) == "fc1" for step in range(50))
