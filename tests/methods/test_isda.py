"""ISDA's table and loss, against the direct form and against sampling."""

import numpy as np
import pytest
import torch
import torch.nn.functional as F
from helpers import scene
from isda_scene import EXACT, Largest, as_full, covariances, direct_logits, features, forms, normal, quadratic_form

from sba import METHODS
from sba.core.errors import ConfigError
from sba.core.rng import Step
from sba.methods.isda import ClassCovariances, isda_logits, quadratic_table

# ------------------------------------------------------------------------------------------------------------- the table


@forms
@pytest.mark.parametrize(("classes", "width"), [(5, 3), (3, 5), (2, 1)])
def test_the_table_is_the_quadratic_form_of_every_pair(form, classes, width):
    weight, covariance = normal(classes, width), covariances(classes, width, form)
    table = quadratic_table(weight, covariance)
    w, sigma = weight.tolist(), as_full(covariance).tolist()
    expected = [[quadratic_form(w, sigma, y, c) for c in range(classes)] for y in range(classes)]
    np.testing.assert_allclose(table, expected, **EXACT)
    assert (table.triu(1) + table.tril(-1) + torch.eye(classes) > 0).all()


@forms
def test_the_diagonal_is_zero_exactly(form):
    weight, covariance = 50 * normal(20, 16).float() + 200, covariances(20, 16, form).float()
    assert quadratic_table(weight, covariance).diagonal().tolist() == [0.0] * 20


@forms
def test_only_differences_of_weights_count(form):
    """A part common to all classes costs float32 no digits."""
    weight, covariance = normal(6, 16).float(), covariances(6, 16, form)
    far = quadratic_table(weight + 1024, covariance.float())
    expected = quadratic_table((weight + 1024).double(), covariance)
    torch.testing.assert_close(far.double(), expected, rtol=1e-4, atol=1e-4)


@forms
def test_the_table_is_float32_at_least(form):
    weight, covariance = normal(6, 16), covariances(6, 16, form)
    with torch.autocast("cpu", dtype=torch.bfloat16):
        table = quadratic_table(weight.bfloat16(), covariance.float())
    torch.testing.assert_close(table, quadratic_table(weight.bfloat16().float(), covariance.float()))
    assert quadratic_table(weight.float(), covariance).dtype == torch.float64


def test_the_table_needs_no_tensor_of_the_batch():
    logits, labels, weight = normal(512, 8).requires_grad_(), torch.arange(512) % 8, normal(8, 12).requires_grad_()
    for form, most in (("full", 8 * 12 * 12), ("diagonal", 8 * 12)):
        covariance = covariances(8, 12, form)
        with Largest() as largest:
            quadratic_table(weight, covariance).sum().backward()
        assert largest.numbers <= most
        with Largest() as largest:
            F.cross_entropy(isda_logits(logits, labels, quadratic_table(weight, covariance), 0.5), labels).backward()
        assert largest.numbers <= max(most, 512 * 8)


# ------------------------------------------------------------------------------------------------------------- gradients


@forms
def test_the_gradient_of_the_table(form):
    weight, covariance = normal(4, 3).requires_grad_(), covariances(4, 3, form).requires_grad_()
    assert torch.autograd.gradcheck(lambda w: quadratic_table(w, covariance.detach()), weight)
    (gradient,) = torch.autograd.grad(quadratic_table(weight, covariance).sum(), covariance, allow_unused=True)
    assert gradient is None


def test_the_full_table_refuses_a_second_derivative():
    weight = normal(4, 3).requires_grad_()
    table = quadratic_table(weight, covariances(4, 3))
    (gradient,) = torch.autograd.grad(table.square().sum(), weight, create_graph=True)
    with pytest.raises(RuntimeError, match="once_differentiable"):
        gradient.sum().backward()


@forms
def test_loss_and_gradients_are_those_of_the_direct_form(form):
    h, labels = features(40, width=6, classes=7)
    parameters = [h.requires_grad_(), normal(7, 6).requires_grad_(), normal(7).requires_grad_()]
    h, weight, bias = parameters
    covariance = covariances(7, 6, form)
    logits = F.linear(h, weight, bias)
    direct = F.cross_entropy(direct_logits(logits, labels, weight, as_full(covariance), 0.8), labels)
    ours = F.cross_entropy(isda_logits(logits, labels, quadratic_table(weight, covariance), 0.8), labels)
    torch.testing.assert_close(ours, direct, **EXACT)
    expected = torch.autograd.grad(direct, parameters, retain_graph=True)
    found = torch.autograd.grad(ours, parameters, retain_graph=True)
    for a, b in zip(found, expected, strict=True):
        torch.testing.assert_close(a, b, **EXACT)
    # the weights are also moved by the quadratic form, not only by the logits
    fixed = isda_logits(logits, labels, quadratic_table(weight.detach(), covariance), 0.8)
    (without,) = torch.autograd.grad(F.cross_entropy(fixed, labels), weight)
    assert (found[1] - without).abs().max() > 1e-2


# -------------------------------------------------------------------------------------------------------------- the loss


def test_the_logits_are_those_of_the_direct_form():
    h, labels = features(40, width=6, classes=7)
    weight, covariance = normal(7, 6), covariances(7, 6)
    logits = h @ weight.T
    found = isda_logits(logits, labels, quadratic_table(weight, covariance), 0.8)
    torch.testing.assert_close(found, direct_logits(logits, labels, weight, covariance, 0.8), **EXACT)


def test_the_logit_of_the_label_stays_bit_for_bit():
    h, labels = features(40, width=6, classes=7)
    weight = normal(7, 6)
    logits, rows = h @ weight.T, torch.arange(40)
    found = isda_logits(logits, labels, quadratic_table(weight, covariances(7, 6)), 0.8)
    assert torch.equal(found[rows, labels], logits[rows, labels]) and (found >= logits).all()


def test_at_the_start_the_loss_is_the_cross_entropy_bit_for_bit():
    network, x, y = scene()
    logits = network.eval()(x).detach().requires_grad_()
    method = METHODS["isda"]()
    memory = method.memory(network)
    h = network(x, until=network.stages[-2])
    null = method.widened(network, h, logits, y, Step(0, progress=0.0), memory)
    assert null is logits and memory.count.any()


def test_without_strength_the_loss_is_the_cross_entropy_bit_for_bit():
    logits, labels = normal(20, 5).float().requires_grad_(), torch.arange(20) % 5
    plain = F.cross_entropy(logits, labels)
    null = F.cross_entropy(isda_logits(logits, labels, torch.full((5, 5), torch.inf), 0.0), labels)
    assert torch.equal(null, plain)
    assert torch.equal(*(torch.autograd.grad(loss, logits)[0] for loss in (null, plain)))


def test_low_precision_logits_are_raised_in_float32():
    logits, labels = normal(20, 5).bfloat16(), torch.arange(20) % 5
    table = quadratic_table(normal(5, 3), covariances(5, 3))
    found = isda_logits(logits, labels, table.float(), 0.01)
    assert found.dtype == torch.float32
    torch.testing.assert_close(found.double(), logits.double() + 0.005 * table[labels], rtol=1e-6, atol=1e-6)
    assert isda_logits(logits.float(), labels, table, 0.01).dtype == torch.float32


class Sampled:
    """Features drawn around those of a batch, ã ~ N(a, λ Σ_y), and their logits, of shape (draws, B, C)."""

    def __init__(self, lam, draws=20_000):
        self.lam = lam
        self.h, self.labels = features(6, width=4, offset=1.0)
        self.weight, self.bias, self.covariance = normal(5, 4, seed=20), normal(5, seed=21), covariances(5, 4)
        self.logits = F.linear(self.h, self.weight, self.bias)
        roots = np.linalg.cholesky(self.covariance)[self.labels]
        noise = np.random.default_rng(0).standard_normal((draws, 6, 4))
        moved = self.h + np.sqrt(lam) * torch.from_numpy(np.einsum("bqr,dbr->dbq", roots, noise))
        self.virtual = F.linear(moved, self.weight, self.bias)

    def ours(self):
        return isda_logits(self.logits, self.labels, quadratic_table(self.weight, self.covariance), self.lam)


@pytest.mark.parametrize("lam", [0.05, 0.5, 2.0])
def test_the_loss_is_at_least_the_expected_cross_entropy(lam):
    scene = Sampled(lam)
    draws = [F.cross_entropy(z, scene.labels).item() for z in scene.virtual]
    error = np.std(draws) / np.sqrt(len(draws))
    loss = F.cross_entropy(scene.ours(), scene.labels).item()
    assert loss >= np.mean(draws) - 3 * error
    # it is an upper bound that lies above, and the plain loss one that does not
    assert loss > np.mean(draws) + 3 * error > np.mean(draws) > F.cross_entropy(scene.logits, scene.labels) + 3 * error


def test_the_logits_are_the_moments_of_the_odds():
    """E e^{z̃_c − z̃_y} over ã is e^{z_c + (λ/2) T[y, c] − z_y}, exactly; that is where λ/2 and Σ_y come from."""
    scene = Sampled(0.1, draws=40_000)
    label = scene.labels[:, None]
    odds = (scene.virtual - scene.virtual.gather(2, label.expand(len(scene.virtual), -1, 1))).exp()
    ours = scene.ours()
    expected = (ours - ours.gather(1, label)).exp()
    error = odds.std(0) / len(odds) ** 0.5
    assert ((odds.mean(0) - expected).abs() <= 4 * error + 1e-12).all()
    # at twice or half the strength the test would see it
    plain = (scene.logits - scene.logits.gather(1, label)).exp()
    assert ((odds.mean(0) - plain).abs() > 8 * error).float().mean() > 0.5


def test_the_strength_grows_with_the_run():
    network, x, y = scene()
    logits, method = network.eval()(x).detach(), METHODS["isda"](lambda0=0.5)
    h, memory = network(x, until=network.stages[-2]), method.memory(network)
    found = method.widened(network, h, logits, y, Step(0, progress=0.25), memory)
    table = quadratic_table(network.last_linear.weight, memory.covariance)
    assert torch.equal(found, isda_logits(logits, y, table, 0.125))


@forms
@pytest.mark.parametrize("spoil", [torch.nan, torch.inf, 1e30])
def test_a_batch_that_is_not_finite_is_left_out_and_said_so(form, spoil):
    """It would stay in the moments for ever."""
    h, y = torch.randn(12, 4, generator=torch.Generator().manual_seed(0)), torch.arange(12) % 3
    memory, expected = ClassCovariances(3, 4, form), ClassCovariances(3, 4, form)
    for part in (slice(0, 6), slice(6, 12)):
        expected.update(h[part], y[part])
        memory.update(h[part], y[part])
        with pytest.warns(UserWarning, match="ISDA left out a batch: its features are not finite"):
            memory.update(h.index_fill(0, torch.tensor([1]), spoil), y)
    assert all(torch.equal(a, b) for a, b in zip(memory.buffers(), expected.buffers(), strict=True))


def test_a_strength_that_nobody_tells_the_progress_of_is_refused():
    with pytest.raises(
        ConfigError, match=r"progress: None would leave ISDA plain .* give Step\(…, progress=step / total"
    ):
        METHODS["isda"]().terms(*scene(), Step(0), METHODS["isda"]().memory(scene()[0]))
    with pytest.raises(ConfigError, match=r"progress: 17 is not allowed; give a number in \[0, 1\]"):
        METHODS["isda"]().terms(*scene(), Step(0, progress=17), METHODS["isda"]().memory(scene()[0]))


@pytest.mark.parametrize("name", ["isda", "sba+isda"])
def test_a_step_without_progress_is_refused_before_the_covariances_move(name):
    """It was plain cross-entropy, however many of them followed."""
    network, x, y = scene()
    method = METHODS[name]()
    memory = method.memory(network)
    with pytest.raises(ConfigError, match="progress: None"):
        method.terms(network, x, y, Step(0, 3), memory)
    assert not memory.count.any()
    method.terms(network, x, y, Step(0, 3, progress=0.0), memory)
    METHODS[name](lambda0=0.0).terms(network, x, y, Step(0, 3), None)
