"""A method on any model: against the chain of this package bit for bit, and against the whole model on M-fold inputs."""

import copy
import io
import typing

import pytest
import torch
import torch.nn.functional as F
from helpers import ACTIVE
from processes import together
from torch import nn
from torch.utils.checkpoint import checkpoint
from zoo import MODELS, batch, build, rows

from sba import METHODS, SBA, SBAError, Staged, Step, attach
from sba.adapters.example import call
from sba.adapters.network import Attached
from sba.adapters.replay import logits_of, with_first
from sba.core import ranks
from sba.core.divergence import kl
from sba.core.errors import ConfigError
from sba.core.tail import BatchNorm, Tail
from sba.methods.isda import ISDA

MODES = typing.get_args(BatchNorm)
POINTS = [(name, point) for name, (_, points) in MODELS.items() for point in points]


@pytest.fixture(scope="module")
def attached():
    """Name of a model → the model in float64 and training mode, by the protocol; proved points are kept from test to test."""
    made = {}

    def get(name):
        if name not in made:
            model = build(name).double().train()
            made[name] = Attached(model, batch(name))
        return made[name]

    return get


# statistics of virtual rows of their own are those of M-fold rows, which are equal: one point shows it
@pytest.mark.parametrize(
    ("name", "point", "batch_norm"),
    [(*POINTS[0], mode) for mode in ("tracked", "untracked")]
    + [(*at, mode) for at in POINTS for mode in ("raw", "running")],
)
def test_zero_noise_gives_zero_divergence(attached, name, point, batch_norm):
    network, x = attached(name), batch(name)
    tail = Tail(network, point, dropout=False, batch_norm=batch_norm)
    h = network(x, until=point)
    if batch_norm == "running":
        raw = tail.evaluation(h)
    else:
        # dropout off in the raw pass as well, normalisation as in training
        others = [m for m in network.behind(point) if not isinstance(m, nn.modules.batchnorm._NormBase)]
        was = [m.training for m in others]
        for module in others:
            module.training = False
        raw = tail.raw(h)
        for module, mode in zip(others, was, strict=True):
            module.training = mode
    assert kl(raw.repeat(3, 1), tail.virtual(h.repeat(*([3] + [1] * (h.dim() - 1))))).abs().max() < 1e-12


@pytest.mark.parametrize(("name", "point"), POINTS)
def test_virtual_points_pass_as_in_the_whole_model_on_m_fold_inputs(attached, name, point):
    """In evaluation mode, where rows are independent: logits and all gradients, through the point and around it."""
    network, x = attached(name), batch(name)
    model = network.model
    model.eval()
    try:
        h = network(x, until=point)
        points = torch.cat([h, h + 0.1, 0.9 * h])
        ours = network(points, after=point)
        whole = oracle(model, point, rows(x, lambda t: t.repeat(3, *[1] * (t.dim() - 1))), points)
        torch.testing.assert_close(ours, whole, rtol=1e-9, atol=1e-11)
        parameters = list(model.parameters())
        got, wanted = (
            torch.autograd.grad(z.square().sum(), parameters, allow_unused=True, retain_graph=True)
            for z in (ours, whole)
        )
        for one, other in zip(got, wanted, strict=True):
            assert (one is None) == (other is None)
            if one is not None:
                torch.testing.assert_close(one, other, rtol=1e-5, atol=1e-8)
    finally:
        model.train()


def oracle(model, point, x, points):
    """Run the whole model on x with the activation at a point put in its place: slow, and nothing of it is cut."""
    module = model.get_submodule(point.removesuffix(":in"))
    if point.endswith(":in"):
        hook = module.register_forward_pre_hook(lambda m, a, k: with_first((a, k), points), with_kwargs=True)
    else:
        hook = module.register_forward_hook(lambda m, a, out: with_first(out, points))
    with hook:
        return logits_of(call(model, x))


@pytest.mark.parametrize("point", ["fc2", "act:in", "block"])
def test_what_is_read_around_a_point_is_found(point):
    class Skips(nn.Module):
        def __init__(self):
            super().__init__()
            self.fc1, self.fc2, self.act = nn.Linear(6, 8), nn.Linear(8, 8), nn.ReLU()
            self.block, self.out = nn.Linear(8, 8), nn.Linear(8, 5)

        def forward(self, x):
            h = self.fc1(x)
            h = h + self.act(self.fc2(h))
            return self.out(self.block(h))

    network = Attached(Skips(), torch.randn(4, 6))
    assert network.isolated(point) == (point == "block")
    if point != "block":
        with pytest.raises(ConfigError, match=f"layers: what follows '{point}' reads more than its activation"):
            METHODS["mixup"](layers=(point,)).check(network)


def chain():
    torch.manual_seed(1)
    stages = []
    for i, (before, width) in enumerate([(64, 24), (24, 16)], start=1):
        block = [nn.Linear(before, width), nn.BatchNorm1d(width), nn.ReLU(), nn.Dropout(0.5)]
        stages.append((f"fc{i}", nn.Sequential(*block)))
    return Staged([("flatten", nn.Flatten()), *stages, ("fc3", nn.Linear(16, 10))], (1, 8, 8))


def images(n=16):
    generator = torch.Generator().manual_seed(0)
    return torch.randn(n, 1, 8, 8, generator=generator), torch.arange(n) % 10


AT = {"sba": {"layers": ("fc2",)}, "sba+isda": {"layers": ("fc1",)}, "manifold-mixup": {"layers": ("fc1", "fc2")}}
VARIANTS = [(name, ACTIVE.get(name, {}) | AT.get(name, {})) for name in METHODS] + [
    ("sba", {"omega": 0.0, "eta": 1.0, "layers": ("fc1",), "batch_norm": mode}) for mode in MODES
]


@pytest.mark.parametrize(("name", "given"), VARIANTS, ids=[f"{n}-{g.get('batch_norm', '')}" for n, g in VARIANTS])
def test_a_chain_gives_the_losses_of_the_package(name, given):
    """The first step bit for bit; six steps of the optimiser to rounding."""
    x, y = images(32)
    own, other = chain(), chain()
    method = METHODS[name](**given)
    criterion = attach(other, method, x[:4], total_steps=6)
    memory = method.memory(own)
    optimisers = [torch.optim.SGD(network.parameters(), lr=0.05, momentum=0.9) for network in (own, other)]
    for step in range(6):
        torch.manual_seed(step)
        terms = method.terms(own, x, y, Step(0, step, 0, step / 6), memory)
        torch.manual_seed(step)
        loss = criterion(x, y)
        assert list(terms) == list(criterion.terms)
        for term, mine in zip(terms.values(), criterion.terms.values(), strict=True):
            assert torch.equal(term, mine) if step == 0 else torch.allclose(term, mine, rtol=1e-6, atol=1e-6)
        for optimiser, value in zip(optimisers, (sum(terms.values()), loss), strict=True):
            optimiser.zero_grad()
            value.backward()
            optimiser.step()
    for one, two in zip(own.state_dict().values(), other.state_dict().values(), strict=True):
        torch.testing.assert_close(one, two, rtol=1e-5, atol=1e-6)


LAST = {"resnet18": "fc:in", "timm vit": "head:in", "bert": "classifier:in", "vit": "heads.head:in"}


@pytest.mark.parametrize("model", LAST)
@pytest.mark.parametrize("name", METHODS)
def test_every_method_trains_every_kind_of_model(model, name):
    x = rows(batch(model), lambda t: t.repeat(2, *[1] * (t.dim() - 1)))
    x = rows(x, lambda t: t.float() if t.is_floating_point() else t)
    y = torch.arange(8) % 5
    given = {k: v for k, v in ACTIVE.get(name, {}).items() if k not in ("layers", "lambda0")}
    if "layers" in METHODS[name].__dataclass_fields__:
        given["layers"] = (LAST[model],)
    network = build(model).train()
    if (model, name) == ("resnet18", "r-drop"):
        with pytest.raises(
            ConfigError, match="method: 'r-drop' compares two passes under dropout, and this network has no module"
        ):
            attach(network, METHODS[name](**given), x, total_steps=20)
        return
    criterion = attach(network, METHODS[name](**given), x, total_steps=20)
    optimiser = torch.optim.SGD(network.parameters(), lr=0.01)
    before = {k: v.clone() for k, v in network.named_parameters()}
    for _ in range(2):
        loss = criterion(x, y)
        optimiser.zero_grad()
        loss.backward()
        optimiser.step()
        assert loss.isfinite()
    assert any(not torch.equal(v, before[k]) for k, v in network.named_parameters())
    assert criterion.step == 2 and set(criterion.terms)


def test_in_evaluation_mode_it_is_plain_cross_entropy():
    x, y = images()
    network = chain()
    criterion = attach(network, SBA(omega=0.0), x[:2], total_steps=5).eval()
    assert torch.equal(criterion(x, y), F.cross_entropy(network(x), y)) and criterion.step == 0


def test_attaching_changes_nothing():
    network = chain()
    before, state = copy.deepcopy(network.state_dict()), torch.random.get_rng_state()
    attach(network, SBA(layers=("fc1", "fc2")), images()[0][:4], total_steps=5)
    assert all(torch.equal(v, before[k]) for k, v in network.state_dict().items())
    assert torch.equal(torch.random.get_rng_state(), state) and network.training


def steps(criterion, optimiser, first, last):
    x, y = images()
    losses = []
    for step in range(first, last):
        torch.manual_seed(step)
        loss = criterion(x, y)
        optimiser.zero_grad()
        loss.backward()
        optimiser.step()
        losses.append(loss.item())
    return losses


@pytest.mark.parametrize("method", [SBA(omega=1.0, eta=1.0, scale="running"), ISDA(lambda0=1.0)], ids=["sba", "isda"])
def test_a_resumed_loop_goes_on_exactly(method):
    def fresh():
        network = chain()
        criterion = attach(network, method, images()[0], total_steps=6)
        return criterion, torch.optim.SGD(network.parameters(), lr=0.05, momentum=0.9)

    whole = steps(*fresh(), 0, 6)
    criterion, optimiser = fresh()
    first = steps(criterion, optimiser, 0, 3)
    buffer = io.BytesIO()
    torch.save([criterion.state_dict(), optimiser.state_dict()], buffer)
    buffer.seek(0)
    other, its_optimiser = fresh()
    saved, its = torch.load(buffer, weights_only=True)
    other.load_state_dict(saved)
    its_optimiser.load_state_dict(its)
    assert first + steps(other, its_optimiser, 3, 6) == whole


def test_a_state_of_another_method_is_refused():
    state = attach(chain(), SBA(eta=0.1), images()[0], total_steps=6).state_dict()
    with pytest.raises(ConfigError, match="method: the state is of"):
        attach(chain(), SBA(eta=0.2), images()[0], total_steps=6).load_state_dict(state)


def test_a_deep_copy_works_on_its_own():
    criterion = attach(chain(), SBA(omega=0.0, eta=1.0, layers=("fc1",)), images()[0], total_steps=6)
    twin = copy.deepcopy(criterion)
    x, y = images()
    results = []
    for one in (criterion, twin):
        torch.manual_seed(0)
        loss = one(x, y)
        loss.backward()
        results.append(loss.item())
    assert results[0] == results[1]
    for a, b in zip(criterion.parameters(), twin.parameters(), strict=True):
        assert a is not b and torch.equal(a.grad, b.grad)


def test_accumulated_gradients_are_those_of_the_parts():
    criterion = attach(chain(), SBA(omega=0.0, eta=1.0), images()[0], total_steps=6)
    x, y = images()
    for part in (slice(0, 8), slice(8, 16)):
        (criterion(x[part], y[part]) / 2).backward()
    assert criterion.step == 2
    assert all(p.grad is not None and p.grad.isfinite().all() for p in criterion.parameters())


def test_automatic_mixed_precision():
    criterion = attach(chain(), SBA(omega=0.0, eta=1.0, layers=("fc1",)), images()[0], total_steps=6)
    x, y = images()
    with torch.autocast("cpu", torch.bfloat16):
        loss = criterion(x, y)
    loss.backward()
    torch.manual_seed(0)
    assert loss.dtype == torch.float32 and loss.isfinite()


@pytest.mark.parametrize("what", ["model", "criterion"])
def test_a_compiled_model_or_criterion_gives_the_same(what):
    x, y = images()
    results = []
    for compiled in (False, True):
        network = chain()
        network.eval()  # dropout of compiled code has draws of its own
        network = torch.compile(network, backend="aot_eager") if compiled and what == "model" else network
        criterion = attach(network, SBA(omega=0.0, eta=1.0, layers=("fc1",)), x, total_steps=6)
        criterion.training = True
        criterion = torch.compile(criterion, backend="aot_eager") if compiled and what == "criterion" else criterion
        loss = criterion(x, y)
        loss.backward()
        results.append((loss.detach(), [p.grad for p in criterion.parameters()]))
    torch.testing.assert_close(results[0], results[1], rtol=1e-5, atol=1e-7)


def on_two_ranks():
    """Train wrapped by DistributedDataParallel on this rank's half of each batch; return weights and the points that were drawn."""
    torch.set_num_threads(1)
    network, (x, y) = chain(), images(32)
    half = slice(16 * ranks.rank(), 16 * (ranks.rank() + 1))
    criterion = attach(network, SBA(omega=0.5, eta=1.0, layers=("fc1", "fc2"), sigma=1.0), x[:4], total_steps=4)
    wrapped = nn.parallel.DistributedDataParallel(criterion)
    optimiser = torch.optim.SGD(wrapped.parameters(), lr=0.05, momentum=0.9)
    drawn = []
    criterion.network.register_forward_pre_hook(
        lambda _, args, kwargs: drawn.append((kwargs.get("after"), args[0].sum().item())), with_kwargs=True
    )
    for _ in range(4):
        loss = wrapped(x[half], y[half])
        optimiser.zero_grad()
        loss.backward()
        optimiser.step()
    return [p.detach() for p in network.parameters()], drawn


def test_two_ranks_keep_equal_weights_take_one_branch_and_draw_points_of_their_own():
    one, other = together(on_two_ranks)
    assert all(torch.equal(a, b) for a, b in zip(one[0], other[0], strict=True))
    assert [layer for layer, _ in one[1]] == [layer for layer, _ in other[1]]
    assert all(a != b for (_, a), (_, b) in zip(one[1], other[1], strict=True))


class Checkpointed(nn.Module):
    """Two blocks that run again in the backward pass."""

    def __init__(self, reentrant=False):
        super().__init__()
        self.reentrant = reentrant
        self.fc1, self.fc2, self.fc3 = nn.Linear(6, 8), nn.Sequential(nn.Linear(8, 8), nn.Tanh()), nn.Linear(8, 5)

    def forward(self, x, use=True):
        h = self.fc1(x)
        h = checkpoint(self.fc2, h, use_reentrant=self.reentrant) if use else self.fc2(h)
        return self.fc3(h)


def test_activation_checkpoints_change_no_gradient():
    torch.manual_seed(0)
    model, (x, y) = Checkpointed(), (torch.randn(8, 6), torch.arange(8) % 5)
    plain = copy.deepcopy(model)
    plain.forward = lambda x: Checkpointed.forward(plain, x, use=False)
    method = SBA(omega=0.0, eta=1.0, layers=("fc1", "fc3:in"), batch_norm="tracked")
    for network in (model, plain):
        criterion = attach(network, method, x, total_steps=4)
        sum(criterion(x, y) for _ in range(4)).backward()
    for one, other in zip(model.parameters(), plain.parameters(), strict=True):
        torch.testing.assert_close(one.grad, other.grad, rtol=1e-6, atol=1e-8)


class Stateful(nn.Module):
    def __init__(self):
        super().__init__()
        self.fc, self.memory = nn.Linear(6, 5), 0.0

    def forward(self, x):
        self.memory = self.memory + 1.0
        return self.fc(x) * self.memory


class Mixes(nn.Module):
    def __init__(self):
        super().__init__()
        self.fc = nn.Linear(6, 5)

    def forward(self, x):
        return self.fc(x - x.mean(0))


class Wanders(nn.Module):
    """Calls its layers in an order that depends on the number of calls."""

    def __init__(self):
        super().__init__()
        self.a, self.b, self.c, self.turn = nn.Linear(6, 6), nn.Linear(6, 6), nn.Linear(6, 5), False

    def forward(self, x):
        return self.c(self.a(self.b(x)) if self.turn else self.b(self.a(x)))


class DropsBefore(nn.Module):
    def __init__(self):
        super().__init__()
        self.a, self.c = nn.Linear(6, 6), nn.Linear(6, 5)

    def forward(self, x):
        x = F.dropout(x, 0.5, self.training)
        return self.c(x + self.a(x))


class Integers(nn.Module):
    def __init__(self):
        super().__init__()
        self.table, self.fc = nn.Embedding(9, 6), nn.Linear(6, 5)

    def forward(self, ids):
        return self.fc(self.table(ids).mean(1))


REFUSED = {
    "no such point": (lambda: (chain(), SBA(layers=("fc9",)), images()[0]), "layers: 'fc9' is no point of this model"),
    "the logits": (lambda: (chain(), SBA(layers=("fc3",)), images()[0]), "layers: 'fc3' puts out the logits"),
    "one row": (lambda: (chain(), SBA(), images()[0][:1]), "example: one row is not enough"),
    "state": (lambda: (Stateful(), SBA(), torch.randn(4, 6)), "model: two equal calls in evaluation mode differ"),
    "rows": (lambda: (Mixes(), SBA(), torch.randn(4, 6)), "model: the logits of a row depend on the other rows"),
    "dropout by function": (
        lambda: (DropsBefore(), SBA(layers=("a",)), torch.randn(4, 6)),
        "layers: at 'a' the pieces do not make the whole model",
    ),
    "reentrant": (
        lambda: (Checkpointed(reentrant=True), SBA(), torch.randn(4, 6, requires_grad=True)),
        "model: reentrant checkpoints run real modules again",
    ),
    "inside a checkpoint": (
        lambda: (Checkpointed(), SBA(layers=("fc2.0",)), torch.randn(4, 6)),
        "layers: 'fc2.0' lies in a checkpointed block",
    ),
    "switched in a checkpoint": (
        lambda: (Checkpointed(), SBA(layers=("fc1",), virtual_dropout=False), torch.randn(4, 6)),
        "layers: checkpointed modules behind 'fc1' run again",
    ),
    "integers": (
        lambda: (Integers(), SBA(layers=("input",)), torch.randint(0, 9, (4, 3))),
        "layers: the input is made of integers",
    ),
    "a linear end": (
        lambda: (nn.Sequential(nn.Linear(6, 5), nn.Tanh()), ISDA(), torch.randn(4, 6)),
        "method: 'isda' needs",
    ),
    "no default layer": (
        lambda: (nn.Sequential(nn.Linear(6, 5), nn.Tanh()), SBA(), torch.randn(4, 6)),
        "layers: this network has no linear layer",
    ),
    "several processes": (lambda: (nn.DataParallel(chain()), SBA(), images()[0]), "model: DataParallel"),
    "a basis too large": (
        lambda: (nn.Sequential(nn.Linear(6, 9000), nn.Linear(9000, 5)), SBA(), torch.randn(4, 6)),
        "basis .*needs 9000×9000 numbers",
    ),
}


@pytest.mark.filterwarnings(
    "ignore:None of the inputs have requires_grad"
)  # a reentrant checkpoint without gradients says so
@pytest.mark.parametrize("kind", REFUSED)
def test_what_cannot_be_is_refused_by_name_at_once(kind):
    make, message = REFUSED[kind]
    model, method, example = make()
    with pytest.raises(SBAError, match=message):
        attach(model, method, example, total_steps=5)


def test_control_flow_that_differs_is_refused_when_it_does():
    model = Wanders()
    criterion = attach(model, SBA(omega=0.0, layers=("b",)), torch.randn(4, 6), total_steps=5)
    model.turn = True
    with pytest.raises(ConfigError, match="layers: the model called its modules in another order than on the example"):
        criterion(torch.randn(4, 6), torch.arange(4))


def test_a_number_of_steps_is_needed():
    with pytest.raises(ConfigError, match="total_steps: 0 is not allowed"):
        attach(chain(), SBA(), images()[0], total_steps=0)
