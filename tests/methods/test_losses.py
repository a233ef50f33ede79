"""Losses as modules: against loops in float64, against the methods, and what they remember."""

import copy
import re

import numpy as np
import oracles
import pytest
import torch
import torch.nn.functional as F
from helpers import same
from torch import nn

import sba
from sba import ClosedFormSBA, DecoupledLoss, ISDALoss, Scheduler, Step
from sba.core.errors import ConfigError
from sba.methods import ISDA, ImplicitSBA
from sba.methods.closed_form import noise_variance
from sba.methods.decoupled import decoupled_binary_cross_entropy, decoupled_loss
from sba.methods.losses import chain
from sba.methods.mixup import mix, mixed_binary_cross_entropy, mixed_cross_entropy


def batches(n, rows=24, features=4, classes=3):
    generator = torch.Generator().manual_seed(0)
    for _ in range(n):
        h = torch.randn(rows, features, generator=generator, dtype=torch.float64)
        yield (h + 2).requires_grad_(), torch.randint(classes, (rows,), generator=generator)


def linear(features=4, classes=3):
    torch.manual_seed(1)
    return nn.Linear(features, classes).double()


# --------------------------------------------------------------------------------------------------------------- ISDA


def isda_by_hand(seen, head, h, labels, strength):
    """z_c + λ/2 (w_c − w_y)ᵀ Σ_y (w_c − w_y), Σ_y by numpy from all rows so far."""
    rows, classes = np.concatenate([s.detach() for s, _ in seen]), np.concatenate([y for _, y in seen])
    weight, losses = head.weight.detach().numpy(), []
    for z, y in zip(head(h).tolist(), labels.tolist(), strict=True):
        covariance = np.cov(rows[classes == y], rowvar=False, bias=True)
        widened = [
            v + strength / 2 * (w - weight[y]) @ covariance @ (w - weight[y]) for v, w in zip(z, weight, strict=True)
        ]
        losses.append(oracles.cross_entropy([widened], [y]))
    return sum(losses) / len(losses)


def test_isda_is_the_bound_with_the_covariances_of_all_rows_so_far():
    loss, head, seen = ISDALoss(3, 4, lambda0=2.0), linear(), []
    for t, (h, labels) in enumerate(batches(4)):
        seen.append((h, labels))
        found = loss(h, head, labels, progress=t / 4)
        assert found.item() == pytest.approx(isda_by_hand(seen, head, h, labels, 2.0 * t / 4), rel=1e-5)


@pytest.mark.parametrize("form", ["full", "diagonal"])
def test_isda_is_the_method_on_features_bit_for_bit(form):
    loss, head, method = ISDALoss(3, 4, 2.0, form), linear(), ISDA(lambda0=2.0, form=form)
    network = chain(copy.deepcopy(head))
    memory = method.memory(network)
    for t, (h, labels) in enumerate(batches(3)):
        expected = method.terms(network, h, labels, Step(0, progress=t / 3), memory)["cross_entropy"]
        found = loss(h, head, labels, t / 3)
        assert torch.equal(found, expected) and torch.equal(loss.terms["cross_entropy"], expected)
        own = torch.autograd.grad(found, [h, head.weight, head.bias])
        theirs = torch.autograd.grad(expected, [h, network.last_linear.weight, network.last_linear.bias])
        assert all(torch.equal(a, b) for a, b in zip(own, theirs, strict=True))


@pytest.mark.parametrize(
    "fresh",
    [lambda: ISDALoss(3, 4, 2.0), lambda: ClosedFormSBA(3, 4, seed=5, omega=1.0, eta=0.5, scale="running")],
    ids=["isda", "closed form"],
)
def test_a_state_dict_goes_on_where_it_was_saved(fresh):
    """With the optimiser's steps left out: the losses themselves must go on."""
    head, given = linear(), list(batches(8))

    def call(loss, t):
        return loss(given[t][0], head, given[t][1], *([t / 8] if isinstance(loss, ISDALoss) else [])).item()

    whole, part = fresh(), fresh()
    expected = [call(whole, t) for t in range(8)]
    assert [call(part, t) for t in range(4)] == expected[:4]
    rest = fresh()
    rest.load_state_dict(part.state_dict())
    assert [call(rest, t) for t in range(4, 8)] == expected[4:] and rest.step == whole.step == 8
    other = ISDALoss(3, 4, 1.0) if isinstance(rest, ISDALoss) else ClosedFormSBA(3, 4, scale="running")
    with pytest.raises(ConfigError, match=r"method: the state is of .*; give the same method"):
        other.load_state_dict(part.state_dict())


@pytest.mark.parametrize("loss", [ISDALoss(3, 4, 2.0), ClosedFormSBA(3, 4, omega=0.0, eta=0.5, scale="running")])
def test_in_evaluation_mode_it_is_plain_cross_entropy_and_remembers_nothing(loss):
    ((h, labels),) = batches(1)
    head, before = linear(), copy.deepcopy(dict(loss.named_buffers()))
    more = [0.5] if isinstance(loss, ISDALoss) else []
    loss.eval()
    assert torch.equal(loss(h, head, labels, *more), F.cross_entropy(head(h), labels))
    assert same(dict(loss.named_buffers()), before) and loss.step == 0
    assert loss.train()(h, head, labels, *more) > F.cross_entropy(head(h), labels)
    assert not same(dict(loss.named_buffers()), before) and loss.step == 1


# -------------------------------------------------------------------------------------------------------- the closed form


def test_the_closed_form_is_the_trace_of_the_fisher_matrix():
    ((h, labels),) = batches(1)
    head, loss = linear(), ClosedFormSBA(3, 4, eta=0.7, omega=0.0, gaussian_share=1.0, sigma=0.3, scale="absolute")
    v, z = noise_variance(0.3, 2.0), head(h).tolist()
    traces = [oracles.fisher_trace(row, head.weight.tolist(), (v * torch.eye(4)).tolist()) for row in z]
    expected = oracles.cross_entropy(z, labels.tolist()) + 0.7 * sum(traces) / len(traces)
    assert loss(h, head, labels).item() == pytest.approx(expected, rel=1e-6)


def test_the_closed_form_is_drawn_as_the_scheduler_says_and_is_the_method():
    ((h, labels),) = batches(1)
    head, loss, method = linear(), ClosedFormSBA(3, 4, seed=3, omega=1.0, eta=0.5), ImplicitSBA(omega=1.0, eta=0.5)
    drawn = Scheduler(1.0).stream(3, 30)
    for step, state in enumerate(drawn):
        found = loss(h, head, labels)
        expected = method.terms(chain(head), h, labels, Step(3, step), None)
        assert ("virtual" in loss.terms) == state and torch.equal(found, torch.stack(list(expected.values())).sum())
    assert 0 < drawn.sum() < 30


def test_without_divergence_the_closed_form_is_plain_cross_entropy_bit_for_bit():
    ((h, labels),) = batches(1)
    head = linear()
    for null in ({"omega": np.pi / 2}, {"eta": 0.0}):
        assert torch.equal(ClosedFormSBA(3, 4, **null)(h, head, labels), F.cross_entropy(head(h), labels))


def test_they_train_a_head_and_its_features():
    """As in a loop of one's own, in half precision too."""
    torch.manual_seed(0)
    x = torch.randn(60, 6)
    y = x[:, :3].argmax(1)
    for loss in (ISDALoss(3, 4, 1.0), ClosedFormSBA(3, 4, omega=0.0, eta=0.1)):
        body, head = nn.Sequential(nn.Linear(6, 16), nn.ReLU(), nn.Linear(16, 4)), nn.Linear(4, 3)
        optimizer = torch.optim.Adam([*body.parameters(), *head.parameters()], lr=0.02)
        values = []
        for t in range(40):
            more = [t / 40] if isinstance(loss, ISDALoss) else []
            with torch.autocast("cpu", torch.bfloat16):
                value = loss(body(x), head, y, *more)
            optimizer.zero_grad()
            value.backward()
            optimizer.step()
            values.append(F.cross_entropy(head(body(x)), y).item())
        assert value.dtype == torch.float32 and values[-1] < 0.7 * values[0]


# -------------------------------------------------------------------------------------------------- one λ for each row

Z = 3 * torch.randn(6, 5, generator=torch.Generator().manual_seed(0), dtype=torch.float64)
A, B = torch.tensor([0, 3, 2, 4, 1, 0]), torch.tensor([2, 1, 2, 0, 4, 3])
LAM = torch.tensor([0.0, 0.3, 0.5, 0.8, 1.0, 0.45], dtype=torch.float64)
ROWWISE = {
    "ce": mixed_cross_entropy,
    "bce": mixed_binary_cross_entropy,
    "decoupled": decoupled_loss,
    "more": lambda *given: decoupled_loss(*given, "more", 0.5),
    "less": lambda *given: decoupled_loss(*given, "less", 1.0),
    "decoupled bce": lambda *given: decoupled_binary_cross_entropy(*given, 0.5),
    "module": DecoupledLoss(eta=0.3),
    "module, bce": DecoupledLoss(loss="bce", power=0.5),
}


@pytest.mark.parametrize("name", ROWWISE)
def test_a_share_for_each_row_is_the_mean_of_rows_with_a_share(name):
    loss = ROWWISE[name]
    rows = [loss(Z[i : i + 1], A[i : i + 1], B[i : i + 1], LAM[i].item()) for i in range(6)]
    assert loss(Z, A, B, LAM).item() == pytest.approx(torch.stack(rows).mean().item(), rel=1e-12)
    assert loss(Z, A, B, torch.full((6,), 0.3)).item() == pytest.approx(loss(Z, A, B, 0.3).item(), rel=1e-6)
    z = Z.clone().requires_grad_()
    assert torch.autograd.gradcheck(lambda z: loss(z, A, B, LAM), z)


def test_samples_are_mixed_row_by_row():
    x, partners = torch.rand(6, 3, 2, 2, dtype=torch.float64), torch.tensor([1, 2, 0, 5, 4, 3])
    mixed = mix(x, partners, LAM)
    for i, j in enumerate(partners.tolist()):
        torch.testing.assert_close(mixed[i], LAM[i] * x[i] + (1 - LAM[i]) * x[j])


def test_the_module_is_mixups_loss_and_the_term():
    loss = DecoupledLoss(eta=0.3, mode="less", power=0.5)
    expected = mixed_cross_entropy(Z, A, B, 0.3) + 0.3 * decoupled_loss(Z, A, B, 0.3, "less", 0.5)
    torch.testing.assert_close(loss(Z, A, B, 0.3), expected, rtol=1e-12, atol=0)
    assert torch.equal(DecoupledLoss()(Z, A, B, 1.0), F.cross_entropy(Z, A)) and not list(loss.state_dict())


# --------------------------------------------------------------------------------------------------------------- misuse

H, Y = torch.randn(8, 4), torch.arange(8) % 3


@pytest.mark.parametrize(
    ("call", "message"),
    [
        (lambda: ISDALoss(1, 4), "classes, features: 1, 4 are not allowed; give at least 2 and 1"),
        (lambda: ISDALoss(3, 4, form="low"), "form: 'low' is not allowed; give one of full, diagonal"),
        (lambda: ISDALoss(100, 4096), "form: 'full' needs 6.2 GiB for 100 classes and 4096 features"),
        (lambda: ISDALoss(3, 4, -1.0), "lambda0 (λ₀): -1.0 is not allowed"),
        (lambda: ISDALoss(3, 4)(H, nn.Linear(4, 3), Y), "progress: None would leave ISDA plain"),
        (lambda: ISDALoss(3, 4)(H, nn.Linear(4, 3), Y, 1.5), "progress: 1.5 is not allowed; give a number in [0, 1]"),
        (lambda: ISDALoss(3, 4)(H, nn.Linear(5, 3), Y, 0.5), "give the nn.Linear from 4 features to 3 classes"),
        (lambda: ISDALoss(3, 4)(H, nn.Identity(), Y, 0.5), "head: Identity() is not allowed"),
        (
            lambda: ISDALoss(3, 4)(H[None], nn.Linear(4, 3), Y, 0.5),
            "features: shape (1, 8, 4) is not allowed; give (B, 4)",
        ),
        (lambda: ISDALoss(3, 4)(H, nn.Linear(4, 3), Y + 1, 0.5), "labels: values from 1 to 3 are not allowed"),
        (lambda: ISDALoss(3, 4)(H, nn.Linear(4, 3), torch.eye(3)[Y], 0.5), "(its formula has one class a row)"),
        (lambda: ClosedFormSBA(3, 4, folds=3), "folds: ImplicitSBA has no such parameter"),
        (
            lambda: ClosedFormSBA(3, 4, schedule="epoch"),
            "schedule: it belongs to the loop, not to its loss; leave it out",
        ),
        (lambda: ClosedFormSBA(3, 4)(H, nn.Linear(4, 3), Y.int()), "labels: torch.int32 of shape (8,) are not allowed"),
        (lambda: DecoupledLoss(eta=-1.0), "eta (η): -1.0 is not allowed"),
        (lambda: DecoupledLoss(mode="most"), "mode: 'most' is not allowed; give one of both, more, less"),
        (lambda: DecoupledLoss(eta=1.0, loss="bce"), "eta: 1.0 has no place in loss 'bce'"),
        (lambda: DecoupledLoss()(Z, A, B, 1.2), "lam (λ): 1.2 is not allowed; give a number in [0, 1]"),
        (lambda: DecoupledLoss()(Z, A, B, LAM[:3]), "lam (λ): torch.float64 of shape (3,) is not allowed; give floats"),
        (
            lambda: DecoupledLoss()(Z, A, B, 2 * LAM),
            "lam (λ): values from 0 to 2 are not allowed; give numbers in [0, 1]",
        ),
        (lambda: mix(Z, A, A), "lam (λ): torch.int64 of shape (6,) is not allowed; give floats of shape (6,)"),
        (lambda: DecoupledLoss()(Z, torch.eye(5)[A], B, 0.3), "labels: torch.float32 of shape (6, 5) are not allowed"),
    ],
)
def test_misuse_is_refused_by_name(call, message):
    with pytest.raises(ConfigError, match=re.escape(message)):
        call()


def test_the_package_hands_them_out():
    assert {"ISDALoss", "ClosedFormSBA", "DecoupledLoss"} <= set(sba.__all__)
