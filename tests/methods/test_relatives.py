"""The relatives as methods: what each adds to its mathematics, whose own tests are elsewhere."""

import math

import oracles
import pytest
import torch
from helpers import network_of, outcome, plane, same

from sba import build, train
from sba.core.errors import ConfigError
from sba.core.rng import Step
from sba.methods import ISDA, SBA, SBAISDA, Bamboo, DecoupledMixup, KMixup, ManifoldMixup, Mixup
from sba.methods.mixup import beta, resolution_ends

# ----------------------------------------------------------------------------------------------------- mixup and its kin


@pytest.mark.parametrize("layer", ["input", "fc1"])
def test_mixup_is_the_loss_of_mixed_activations_and_labels_by_hand(layer):
    network, x, y = plane()
    now = Step(0, 5)
    loss = Mixup(layers=(layer,)).terms(network, x, y, now, None)["cross_entropy"]
    lam = beta(now.uniform("weight"), 1.0)
    partners = torch.randperm(8, generator=now.generator("partners"))
    h = network(x, until=layer)
    logits = network(lam * h + (1 - lam) * h[partners], after=layer).tolist()
    expected = lam * oracles.cross_entropy(logits, y.tolist())
    expected += (1 - lam) * oracles.cross_entropy(logits, y[partners].tolist())
    assert loss.item() == pytest.approx(expected, rel=1e-12)


def test_the_weight_follows_its_beta_law_over_the_steps():
    draws = torch.tensor([beta(Step(0, step).uniform("weight"), 2.0) for step in range(4000)])
    assert draws.mean().item() == pytest.approx(0.5, abs=4 * math.sqrt(0.05 / 4000))
    assert draws.var().item() == pytest.approx(0.05, rel=0.1)  # 1 / (4 (2α + 1))


def test_k_mixup_with_blocks_of_one_is_mixup(run, small):
    mixup, single = outcome(run(method="mixup"), small), outcome(run(method="k-mixup", k=1, alpha=1.0), small)
    assert mixup[0] == single[0] and same(mixup[1], single[1])


def test_k_mixup_pairs_no_row_with_itself_or_its_own_block():
    partners, _ = KMixup(k=4).matching(torch.randn(16, 3), Step(0))
    assert (partners // 4 != torch.arange(16) // 4).all()


def test_k_mixup_refuses_a_batch_of_less_than_two_blocks(run, small):
    with pytest.raises(ConfigError, match="k: 16 leaves a batch of 16 no two blocks to match; give at most 8"):
        list(train(run(method="k-mixup"), small))


@pytest.mark.parametrize(
    ("name", "channels", "side", "ends"),
    [
        ("resnet44", 3, 32, ["block1_7", "block2_7"]),
        ("vgg16", 3, 32, ["conv1_1", "conv2_1"]),
        ("digits", 1, 8, ["conv1", "conv2"]),
        ("mlp", 2, 1, []),
    ],
)
def test_manifold_mixup_mixes_at_the_input_and_the_ends_of_the_first_two_resolutions(name, channels, side, ends):
    network = build(name, 10, channels, side)
    assert resolution_ends(network)[:2] == ends
    method = ManifoldMixup()
    assert method.eligible(network) == ("input", *ends)
    method.check(network)


def test_manifold_mixup_draws_its_layer_anew():
    method = ManifoldMixup(layers=("input", "fc1", "fc2"))
    network, x, y = plane()
    values = {method.terms(network, x, y, Step(0, step), None)["cross_entropy"].item() for step in range(3)}
    assert len(values) == 3


def test_decoupled_mixup_without_its_term_is_mixup(run, small):
    mixup, decoupled = outcome(run(method="mixup"), small), outcome(run(method="decoupled", eta=0.0), small)
    assert mixup[0] == decoupled[0] and same(mixup[1], decoupled[1])


@pytest.mark.parametrize("options", [{"mixer": "cutmix"}, {"loss": "bce"}, {"mode": "more", "power": 0.5}])
def test_decoupled_mixup_trains_in_every_form(run, small, options):
    records, state = outcome(run(method="decoupled", **options), small)
    assert all(math.isfinite(nll) for _, _, nll in records)
    assert not same(network_of(state), network_of(outcome(run(method="decoupled"), small)[1]))


@pytest.mark.parametrize(
    ("method", "message"),
    [
        (DecoupledMixup(mixer="cutmix", layers=("fc1",)), r"layers: .*cannot be cut as images are"),
        (Mixup(layers=()), "layers: none is given; choose from input, flatten"),
        (Mixup(layers=("fc3",)), "layers: 'fc3' puts out the logits"),
        (Bamboo(layers=("fc7",)), "layers: there is no layer 'fc7'"),
    ],
)
def test_layers_that_cannot_serve_are_refused(method, message):
    with pytest.raises(ConfigError, match=message):
        method.check(build("mlp", 3, 2, 1))


# --------------------------------------------------------------------------------------------------------- ISDA and Bamboo


def test_isda_is_plain_at_the_start_and_stronger_with_time():
    network, x, y = plane(rows=30)
    method, losses = ISDA(lambda0=5.0), []
    for progress in (0.0, 0.3, 0.9):
        terms = method.terms(network, x, y, Step(0, 1, 1, progress), method.memory(network))
        losses.append(terms["cross_entropy"].item())
    assert losses[0] == pytest.approx(oracles.cross_entropy(network(x).tolist(), y.tolist()), rel=1e-6)
    assert losses[0] < losses[1] < losses[2]


def test_isda_needs_a_linear_layer_at_the_end_and_covariances_that_fit():
    network = build("digits", 10, 1, 8)
    ISDA().check(network)
    with pytest.raises(ConfigError, match=r"form: 'full' needs .* GiB"):
        ISDA().memory(build("alexnet_fc", 100, 3, 32))
    assert ISDA(form="diagonal").memory(build("alexnet_fc", 100, 3, 32)).covariance.shape == (100, 4096)


@pytest.mark.parametrize("norm", ["1", "2", "inf"])
def test_bamboos_points_lie_in_the_ball_whose_unit_is_the_spread(norm):
    h = torch.randn(6, 5, generator=torch.Generator().manual_seed(0)) * torch.tensor([1.0, 2, 3, 0.5, 0])
    points = Bamboo(folds=200, radius=0.5, norm=norm).points(h, Step(0)).unflatten(0, (200, 6))
    lengths = torch.linalg.vector_norm(points - h, float(norm), dim=-1)
    unit = torch.linalg.vector_norm(h.std(0, correction=0), float(norm))
    assert lengths.max() <= 0.5 * unit * (1 + 1e-5)
    assert lengths.max() > 0.45 * unit


def test_bamboos_term_is_the_hard_loss_of_its_points(monkeypatch):
    network, x, y = plane()
    method = Bamboo(eta=0.7, folds=3, layers=("fc1",))
    now = Step(0, 2)
    points = method.points(network(x, until="fc1"), now)
    terms = method.terms(network, x, y, now, None)
    expected = 0.7 * oracles.hard_loss(network(points, after="fc1").tolist(), y.tolist())
    assert terms["virtual"].item() == pytest.approx(expected, rel=1e-9)


@pytest.mark.parametrize(("name", "value"), [("eta", 0.0), ("eta", 5.0), ("mode", "more")])
def test_decoupled_binary_form_refuses_what_it_would_ignore(name, value):
    with pytest.raises(ConfigError, match=f"{name}: .* has no place in loss 'bce'"):
        DecoupledMixup(loss="bce", **{name: value})


@pytest.mark.parametrize("loss", ["ce", "bce"])
def test_decoupled_loss_is_continuous_where_nothing_is_mixed(monkeypatch, loss):
    """CutMix's box may be empty: such a step is of the same kind as the others. λ and 1 − λ exchange the two samples.

    The softmax form has no second term there, by its definition.
    """
    network, x, y = plane()
    order = torch.randperm(len(x))

    def total(lam, images, labels):
        monkeypatch.setattr("sba.methods.decoupled.draw_mixture", lambda h, now, alpha: (order, lam))
        terms = DecoupledMixup(loss=loss, eta=0.1).terms(network, images, labels, Step(0, 2), None)
        return sum(terms.values()).item()

    if loss == "bce":
        assert total(1.0, x, y) == pytest.approx(total(1 - 1e-9, x, y), rel=1e-6)
        assert total(0.0, x, y) == pytest.approx(total(1e-9, x, y), rel=1e-6)
    assert total(0.0, x, y) == pytest.approx(total(1.0, x[order], y[order]), rel=1e-9)


def test_cutmix_needs_room_for_a_box():
    with pytest.raises(ConfigError, match="mixer: 'cutmix' finds no box in images of 1×1 pixels; give mixup"):
        DecoupledMixup(mixer="cutmix").check(build("mlp", 2, 2, 1))


def test_bamboos_points_meet_the_raw_batchs_statistics_and_leave_the_running_ones(run, small):
    """As SBA's do by default: the two are compared."""
    states = {}
    for batch_norm in ("raw", "tracked"):
        training = train(run(method="bamboo", layers=("input",), batch_norm=batch_norm, epochs=1), small)
        training.run_step(torch.arange(16))
        states[batch_norm] = training.network.state_dict()
    plain = train(run(epochs=1), small)
    plain.run_step(torch.arange(16))
    expected = {k: v for k, v in plain.network.state_dict().items() if "running" in k or "tracked" in k}
    assert expected and same({k: states["raw"][k] for k in expected}, expected)
    assert not same({k: states["tracked"][k] for k in expected}, expected)


# ------------------------------------------------------------------------------------------------------------ SBA with ISDA


@pytest.mark.parametrize(
    ("off", "alone"),
    [
        ({"lambda0": 0.0}, {"method": "sba", "omega": 0.5, "eta": 0.7}),
        ({"eta": 0.0}, {"method": "isda", "lambda0": 5.0}),
    ],
)
def test_sba_with_isda_is_either_where_the_other_is_off(run, small, off, alone):
    """Bit for bit, with batch normalisation and dropout behind some of the layers."""
    both = outcome(run(**{"method": "sba+isda", "omega": 0.5, "eta": 0.7, "lambda0": 5.0} | off), small)
    one = outcome(run(**alone), small)
    assert both[0] == one[0] and same(network_of(both[1]), network_of(one[1]))


@pytest.mark.parametrize("layer", ["input", "fc1"])
def test_sba_with_isda_has_isdas_term_and_sbas(layer):
    network, x, y = plane(rows=30)
    now = Step(0, 3, 1, 0.5)
    method = SBAISDA(omega=0.0, eta=0.7, lambda0=5.0, layers=(layer,))
    memories = [method.memory(network) for _ in range(2)]
    terms = method.terms(network, x, y, now, memories[0])
    isda, sba = method.isda.terms(network, x, y, now, memories[1]), method.sba.terms(network, x, y, now, None)
    assert terms["cross_entropy"].item() == isda["cross_entropy"].item() > sba["cross_entropy"].item()
    assert terms["virtual"].item() == sba["virtual"].item() > 0
    assert all(torch.equal(a, b) for a, b in zip(*(m.buffers() for m in memories), strict=True))


# ------------------------------------------------------------------------------------------------ what makes no sense


@pytest.mark.parametrize("update", ["sequential_stale", "sequential_fresh"])
def test_two_updates_need_two_terms(update):
    with pytest.raises(ConfigError, match=f"update: '{update}' is not allowed with objective 'either_or'"):
        SBA(objective="either_or", update=update)


def test_a_cutout_square_larger_than_the_image_is_refused(run, small):
    with pytest.raises(ConfigError, match="cutout: a square of side 9 is larger than the images of side 8"):
        train(run(cutout=9), small)
    train(run(cutout=8), small)


def test_isda_and_sba_with_it_need_a_linear_end():
    network = build("digits", 10, 1, 8)
    del network[-1]
    for method in (ISDA(), SBAISDA()):
        with pytest.raises(
            ConfigError, match=f"method: '{method.isda.name if method.name != 'isda' else 'isda'}' needs"
        ):
            method.check(network)
