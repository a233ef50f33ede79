"""What virtual points meet behind layer k: dropout, which pass is the teacher, and that nothing is left switched."""

import oracles
import pytest
import torch
from tail_scene import ALWAYS, every_reading, moved, network, normal, scene, state
from torch import nn
from torch.nn.modules.batchnorm import _BatchNorm

from sba import SBA, Staged, Step
from sba.core.tail import Tail, switched

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
