"""What virtual points meet behind layer k: dropout and batch normalisation in each reading, and that nothing is left switched."""

import itertools

import numpy as np
import oracles
import pytest
import torch
from helpers import deep_network
from torch import nn
from torch.nn.modules.batchnorm import _BatchNorm

from sba import ERM, SBA, Staged, Step, build
from sba.core.divergence import kl
from sba.core.tail import Tail, switched

READINGS = ["raw", "tracked", "untracked", "running"]
ALWAYS = {"omega": 0.0, "eta": 1.0, "folds": 3}
every_reading = pytest.mark.parametrize("batch_norm", READINGS)


def normal(*shape, seed=0):
    return torch.randn(*shape, generator=torch.Generator().manual_seed(seed), dtype=torch.float64)


def network(dropout=0.5):
    """Two stages of linear layer, batch normalisation and dropout, and a linear one; its averages have moved from their start."""
    torch.manual_seed(0)
    net = deep_network(side=2, classes=3).double()
    for module in net.modules():
        if isinstance(module, nn.Dropout):
            module.p = dropout
        if isinstance(module, _BatchNorm):
            nn.init.uniform_(module.weight, 0.5, 2)
            nn.init.uniform_(module.bias, -1, 1)
    for seed in range(3):
        net(2 * normal(9, 1, 2, 2, seed=seed) + 1)
    return net.train()


def convolutional():
    torch.manual_seed(0)
    return build("digits", 3, 1, 8).double().train()


def scene(net, layer):
    """A tail and the activations that enter it."""
    side = 2 if layer == "fc1" else 8
    return net(normal(6, 1, side, side), until=layer)


def state(net):
    return {name: value.clone() for name, value in net.state_dict().items()}


def moved(net, before):
    """Names of what is not, bit for bit, what it was."""
    return {name for name, value in net.state_dict().items() if not torch.equal(value, before[name])}


def virtual_norms(net, layer="fc1"):
    return [m for m in net.behind(layer) if isinstance(m, _BatchNorm)]


# --------------------------------------------------------------------------------------------------- batch normalisation


@pytest.mark.parametrize(("make", "layer"), [(lambda: network(0.0), "fc1"), (convolutional, "conv1")])
def test_with_the_raw_statistics_a_copy_of_the_raw_rows_has_their_logits(make, layer):
    net = make()
    h = scene(net, layer)
    tail = Tail(net, layer, True, "raw")
    logits = tail.raw(h)
    torch.testing.assert_close(tail.virtual(h), logits, rtol=1e-12, atol=1e-12)
    torch.testing.assert_close(tail.virtual(h[:2]), logits[:2], rtol=1e-12, atol=1e-12)
    torch.testing.assert_close(tail.virtual(torch.cat([h, 5 * h]))[:6], logits, rtol=1e-12, atol=1e-12)


@every_reading
def test_only_the_raw_and_the_running_statistics_treat_each_point_by_itself(batch_norm):
    net = network(0.0)
    h = scene(net, "fc1")
    tail = Tail(net, "fc1", True, batch_norm)
    tail.raw(h)
    alone, together = tail.virtual(h), tail.virtual(torch.cat([h, 5 * h]))[:6]
    assert torch.allclose(alone, together, rtol=1e-10) == (batch_norm in ("raw", "running"))


@every_reading
def test_a_raw_row_has_a_divergence_from_itself_with_every_reading_but_one(batch_norm):
    """Decisions, point 4: no dropout, and the raw rows stand among virtual ones, as Eq. 6 stacks them."""
    net = network(0.0)
    h = scene(net, "fc1")
    tail = Tail(net, "fc1", True, batch_norm)
    raw = tail.raw(h)
    own = kl(raw, tail.virtual(torch.cat([h, 5 * h]))[: len(h)])
    assert own.max() < 1e-12 if batch_norm == "raw" else own.min() > 1e-4


def test_the_raw_statistics_against_the_loop():
    """fc2 and fc3 written out; the biased variance of the raw rows, each point by itself."""
    net = network(0.0)
    h, points = scene(net, "fc1"), normal(4, 24, seed=5)
    tail = Tail(net, "fc1", True, "raw")
    tail.raw(h)
    linear, norm = net.get_submodule("fc2")[:2]
    last = net.get_submodule("fc3")

    def affine(module, rows):
        return (np.asarray(rows) @ module.weight.detach().numpy().T + module.bias.detach().numpy()).tolist()

    raw = affine(linear, h.detach())
    mean, variance = np.mean(raw, 0).tolist(), oracles.batch_variance(raw)
    normed = oracles.batch_norm(
        affine(linear, points), mean, variance, norm.weight.tolist(), norm.bias.tolist(), norm.eps
    )
    np.testing.assert_allclose(tail.virtual(points).detach(), affine(last, np.maximum(normed, 0)), rtol=1e-10)


def test_the_raw_statistics_of_a_feature_map_are_those_of_its_channels():
    net = convolutional()
    h = scene(net, "conv1")
    tail = Tail(net, "conv1", True, "raw")
    tail.raw(h)
    ((norm, [(mean, variance)]),) = tail.statistics.items()
    x = net.get_submodule("conv2")[0](h).detach()
    assert norm is net.get_submodule("conv2")[1]
    np.testing.assert_allclose(mean, x.numpy().mean((0, 2, 3)), rtol=1e-10)
    np.testing.assert_allclose(variance, x.numpy().var((0, 2, 3)), rtol=1e-10)


def test_the_raw_statistics_are_constants():
    """No gradient reaches the raw activations through the virtual points' normalisation."""
    net = network(0.0)
    h = scene(net, "fc1").detach().requires_grad_()
    tail = Tail(net, "fc1", True, "raw")
    tail.raw(h)
    (gradient,) = torch.autograd.grad(tail.virtual(normal(4, 24)).sum() + 0 * h.sum(), h)
    assert not gradient.any()
    assert not any(t.requires_grad for t in itertools.chain.from_iterable(itertools.chain(*tail.statistics.values())))


def test_statistics_of_low_precision_activations_are_float32():
    tail = Tail(network(), "fc1", True, "raw")
    norm = virtual_norms(tail.network)[0]
    x = (100 + normal(64, 16)).bfloat16()
    tail.observe(norm, (x,))
    ((mean, variance),) = tail.statistics[norm]
    assert mean.dtype == variance.dtype == torch.float32
    np.testing.assert_allclose(variance, x.double().var(0, correction=0), rtol=1e-5)


@every_reading
@pytest.mark.parametrize(("make", "layers"), [(network, ("fc1",)), (convolutional, ("conv1",))])
def test_running_averages_move_as_in_a_plain_step_but_where_virtual_points_are_tracked(make, layers, batch_norm):
    """Bit for bit. The norms before the layer see no virtual points in any reading."""

    def after_a_step(method):
        net = make()
        side = 2 if layers == ("fc1",) else 8
        before = state(net)
        torch.manual_seed(1)
        method.terms(net, normal(6, 1, side, side), torch.tensor([0, 1, 2, 0, 1, 2]), Step(0), None)
        assert len(moved(net, before)) == 6  # mean, variance and count of two norms
        return net

    plain, augmented = after_a_step(ERM()), after_a_step(SBA(layers=layers, batch_norm=batch_norm, **ALWAYS))
    behind = {"fc1": "fc2.1", "conv1": "conv2.1"}[layers[0]]
    expected = {f"{behind}.{name}" for name in ("running_mean", "running_var", "num_batches_tracked")}
    assert moved(augmented, state(plain)) == (expected if batch_norm == "tracked" else set())


def test_tracked_statistics_enter_the_running_averages_as_a_second_batch():
    net = network(0.0)
    h, points = scene(net, "fc1"), normal(7, 24, seed=5)
    tail = Tail(net, "fc1", True, "tracked")
    tail.raw(h)
    (norm,) = virtual_norms(net)
    mean, variance, count = norm.running_mean.clone(), norm.running_var.clone(), norm.num_batches_tracked.item()
    tail.virtual(points)
    x = net.get_submodule("fc2")[0](points).detach()
    torch.testing.assert_close(norm.running_mean, 0.9 * mean + 0.1 * x.mean(0))
    torch.testing.assert_close(norm.running_var, 0.9 * variance + 0.1 * x.var(0))
    assert norm.num_batches_tracked.item() == count + 1


def test_tracked_and_untracked_points_have_the_logits_of_any_training_pass():
    net = network(0.0)
    h, points = scene(net, "fc1"), normal(7, 24, seed=5)
    expected = net(points, after="fc1")
    for batch_norm in ("tracked", "untracked"):
        tail = Tail(net, "fc1", True, batch_norm)
        tail.raw(h)
        assert torch.equal(tail.virtual(points), expected)


def test_running_statistics_are_those_of_evaluation():
    net = network(0.0)
    h, points = scene(net, "fc1"), normal(7, 24, seed=5)
    tail = Tail(net, "fc1", True, "running")
    tail.raw(h)
    virtual = tail.virtual(points)
    assert torch.equal(virtual, net.eval()(points, after="fc1"))
    assert not torch.allclose(virtual, net.train()(points, after="fc1"))


# ---------------------------------------------------------------------------------------------------------------- dropout


@pytest.mark.parametrize("dropout", [True, False])
def test_the_networks_own_dropout_acts_on_virtual_points_or_not(dropout):
    net = network(0.5)
    h = scene(net, "fc1")
    tail = Tail(net, "fc1", dropout, "raw")
    raw = [tail.raw(h) for _ in range(2)]
    assert not torch.equal(*raw)  # it always acts on the raw points
    before = torch.get_rng_state()
    virtual = [tail.virtual(h) for _ in range(2)]
    assert torch.equal(*virtual) != dropout
    assert torch.equal(before, torch.get_rng_state()) != dropout


@pytest.mark.parametrize("field", [{}, {"virtual_dropout": False}], ids=["default", "off"])
def test_the_methods_switch_reaches_the_tail(field):
    net = network(0.5)
    x, y = normal(6, 1, 2, 2), torch.tensor([0, 1, 2, 0, 1, 2])
    method = SBA(layers=("fc1",), sigma=0.0, dropout_rate=0.0, **ALWAYS, **field)
    virtual = []
    net.get_submodule("fc2").register_forward_hook(lambda module, args, out: virtual.append(out.unflatten(0, (-1, 6))))
    method.terms(net, x, y, Step(0), None)
    raw, points = virtual
    assert len(raw) == 1 and len(points) == 3
    assert torch.equal(points[0], points[1]) == bool(field)  # three copies of one point, three masks or none
    assert (raw == 0).double().mean() > 0.4  # half of what ReLU lets through is dropped


@pytest.mark.parametrize("kind", [nn.Dropout1d, nn.Dropout2d, nn.AlphaDropout, nn.FeatureAlphaDropout])
def test_every_kind_of_dropout_is_known(kind):
    net = Staged([("a", nn.Identity()), ("b", nn.Sequential(kind(0.5))), ("c", nn.Flatten())])
    points = normal(3, 4, 2, 2) if kind is not nn.Dropout1d else normal(3, 4, 2)
    assert torch.equal(Tail(net, "a", False, "raw").virtual(points), points.flatten(1))


# ---------------------------------------------------------------------------------------------------------------- teacher


def test_the_teacher_in_evaluation_mode_is_the_networks_tail_in_evaluation_mode():
    net = network()
    h = scene(net, "fc1")
    before, rng = state(net), torch.get_rng_state()
    teacher = Tail(net, "fc1", True, "raw").evaluation(h)
    assert not moved(net, before) and torch.equal(rng, torch.get_rng_state())
    assert all(m.training for m in net.modules())
    assert torch.equal(teacher, net.eval()(h, after="fc1"))


@pytest.mark.parametrize("teacher", ["training", "evaluation"])
def test_the_virtual_points_are_pulled_to_the_teacher(teacher):
    """The term of a step, from the logits of the tail's passes, each made by hand."""
    net, twin = network(0.5), network(0.5)
    x, y = normal(6, 1, 2, 2), torch.tensor([0, 1, 2, 0, 1, 2])
    method = SBA(layers=("fc1",), teacher=teacher, dropout_rate=0.2, **ALWAYS)
    torch.manual_seed(1)
    terms = method.terms(net, x, y, Step(0), None)
    torch.manual_seed(1)
    h = twin(x, until="fc1")
    tail = Tail(twin, "fc1", True, "raw")
    logits = tail.raw(h)
    virtual = tail.virtual(method.virtual_points(h, Step(0).generator("vicinity")))
    reference = logits if teacher == "training" else twin.eval()(h, after="fc1")
    assert terms["virtual"].item() == pytest.approx(oracles.soft_loss(reference.tolist(), virtual.tolist()), rel=1e-10)
    assert terms["cross_entropy"].item() == pytest.approx(oracles.cross_entropy(logits.tolist(), y.tolist()), rel=1e-10)


CALM = {"teacher": "evaluation", "virtual_dropout": False, "batch_norm": "running", "sigma": 0.0, "dropout_rate": 0.0}


@pytest.mark.parametrize("dtype", [torch.float32, torch.float64])
def test_in_evaluation_mode_on_both_sides_a_vicinity_of_one_point_has_no_divergence_at_all(dtype):
    net = network().to(dtype)
    x, y = normal(8, 1, 2, 2).to(dtype), torch.arange(8) % 3
    virtual = SBA(layers=("fc1",), **CALM, **ALWAYS).terms(net, x, y, Step(0), None)["virtual"].item()
    # a processor may add up a product of M·B rows in another order than one of B rows
    assert virtual == pytest.approx(0, abs=10 * torch.finfo(dtype).eps)


@pytest.mark.parametrize(
    "change",
    [{"teacher": "training"}, {"virtual_dropout": True}, {"batch_norm": "raw"}, {"batch_norm": "tracked"}, {"sigma": 0.1},
     {"dropout_rate": 0.1}],
    ids=str,
)  # fmt: skip
def test_each_of_these_settings_is_needed_for_that(change):
    net = network()
    x, y = normal(8, 1, 2, 2), torch.arange(8) % 3
    method = SBA(layers=("fc1",), **{**CALM, **ALWAYS, **change})
    assert method.terms(net, x, y, Step(0), None)["virtual"] > 1e-4


# --------------------------------------------------------------------------------------------------------- left as it was


def attributes(net):
    """Everything of a network that a tail switches, and its hooks; buffers by identity."""
    return [
        (m.training, m._forward_pre_hooks.copy(), m._forward_hooks.copy(),
         *((m.track_running_stats, id(m.running_mean), id(m.running_var)) if isinstance(m, _BatchNorm) else ()))
        for m in net.modules()
    ]  # fmt: skip


class Broken(Exception):
    pass


def failing(module, args):
    raise Broken


@every_reading
@pytest.mark.parametrize("dropout", [True, False])
@pytest.mark.parametrize("broken", [None, "fc2", "fc3"])
def test_nothing_stays_switched(batch_norm, dropout, broken):
    """Whether the pass ends or an exception ends it, and with modules that were in different modes before."""
    net = network()
    h = scene(net, "fc1")
    net.get_submodule("fc2")[3].eval()
    tail = Tail(net, "fc1", dropout, batch_norm)
    tail.raw(h)
    hook = net.get_submodule(broken).register_forward_pre_hook(failing) if broken else None
    before = attributes(net)
    for part in (tail.raw, tail.virtual, tail.evaluation):
        if broken:
            with pytest.raises(Broken):
                part(h)
        else:
            part(h)
        assert attributes(net) == before
    if hook:
        hook.remove()


@every_reading
def test_what_comes_before_the_layer_is_never_switched(batch_norm):
    net = network()
    seen = []
    net.get_submodule("fc2").register_forward_pre_hook(
        lambda *_: seen.append({m.training for name, m in net.named_modules() if name.startswith("fc1")})
    )
    method = SBA(layers=("fc1",), virtual_dropout=False, batch_norm=batch_norm, teacher="evaluation", **ALWAYS)
    method.terms(net, normal(6, 1, 2, 2), torch.tensor([0, 1, 2, 0, 1, 2]), Step(0), None)
    assert seen == [{True}] * 3


def test_switched_gives_each_module_its_own_value_back():
    modules = [nn.Dropout(), nn.Dropout().eval()]
    with switched(modules, training=False, p=0.1):
        assert [(m.training, m.p) for m in modules] == [(False, 0.1)] * 2
    assert [(m.training, m.p) for m in modules] == [(True, 0.5), (False, 0.5)]


@every_reading
@pytest.mark.parametrize("teacher", ["training", "evaluation"])
def test_mixed_precision(batch_norm, teacher):
    net = network().float()
    method = SBA(layers=("fc1",), batch_norm=batch_norm, teacher=teacher, **ALWAYS)
    with torch.autocast("cpu", torch.bfloat16):
        terms = method.terms(net, normal(6, 1, 2, 2).float(), torch.tensor([0, 1, 2, 0, 1, 2]), Step(0), None)
    sum(terms.values()).backward()
    assert all(p.grad.isfinite().all() for p in net.parameters())
    assert all(value.isfinite().all() for value in net.state_dict().values())
