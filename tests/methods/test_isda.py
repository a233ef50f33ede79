"""ISDA: streaming class covariances against numpy, and the loss against the direct form and against sampling."""

import itertools
import threading

import numpy as np
import pytest
import torch
import torch.nn.functional as F
from helpers import scene
from hypothesis import given
from hypothesis import strategies as st
from torch.utils._python_dispatch import TorchDispatchMode

from sba import METHODS
from sba.core.errors import ConfigError
from sba.core.rng import Step
from sba.methods import isda
from sba.methods.isda import ClassCovariances, Moments, isda_logits, merge, moments, quadratic_table, strength

FORMS = ("full", "diagonal")
forms = pytest.mark.parametrize("form", FORMS)
EXACT = {"rtol": 1e-10, "atol": 1e-10}


# ------------------------------------------------------------------------------------------------------------- oracles


def direct_logits(logits, labels, weight, covariance, strength):
    """The authors' computation on CIFAR: a product of shape (N, C, C) of which only the diagonal is used."""
    differences = weight - weight[labels][:, None]
    spread = differences @ covariance[labels] @ differences.transpose(1, 2)
    return logits + strength / 2 * spread.diagonal(dim1=1, dim2=2)


def quadratic_form(weight, covariance, y, c):
    """(w_c − w_y)ᵀ Σ_y (w_c − w_y), with the sums written out."""
    difference = [a - b for a, b in zip(weight[c], weight[y], strict=True)]
    total = 0.0
    for a, u in enumerate(difference):
        for b, v in enumerate(difference):
            total += u * covariance[y][a][b] * v
    return total


def by_class(h, labels, classes, form):
    """numpy's mean and covariance of each class; zeros where it has no sample."""
    h, labels = np.asarray(h, dtype=np.float64), np.asarray(labels)
    width = h.shape[1]
    means, covariances = np.zeros((classes, width)), np.zeros((classes, width, width))
    for c in range(classes):
        group = h[labels == c]
        if len(group):
            means[c] = group.mean(0)
            covariances[c] = np.cov(group, rowvar=False, bias=True).reshape(width, width)
    counts = np.bincount(labels, minlength=classes)
    return counts, means, covariances if form == "full" else np.diagonal(covariances, axis1=1, axis2=2)


def agree(found, expected, **tolerance):
    for name, a, b in zip(Moments._fields, found, expected, strict=True):
        np.testing.assert_allclose(a, b, err_msg=name, **(tolerance or EXACT))


# --------------------------------------------------------------------------------------------------------------- scene


def normal(*shape, seed=0):
    return torch.randn(*shape, generator=torch.Generator().manual_seed(seed), dtype=torch.float64)


def features(rows, width=4, classes=5, seed=0, offset=3.0):
    """Features whose mean and covariance differ by class, and labels of which the last class has none."""
    labels = torch.randint(classes - 1, (rows,), generator=torch.Generator().manual_seed(seed + 1))
    mix = normal(classes, width, width, seed=seed + 2)
    h = (mix[labels] @ normal(rows, width, 1, seed=seed + 3)).squeeze(2)
    return offset * normal(classes, width, seed=seed + 4)[labels] + h, labels


def covariances(classes, width, form="full", seed=7):
    root = normal(classes, width, width, seed=seed)
    full = root @ root.transpose(1, 2) / width
    return full if form == "full" else full.diagonal(dim1=1, dim2=2)


def as_full(covariance):
    return covariance if covariance.ndim == 3 else torch.diag_embed(covariance)


def buffers(module):
    return module.count, module.mean, module.covariance


class Largest(TorchDispatchMode):
    """Record the largest tensor that any operation puts out."""

    numbers = 0

    def __torch_dispatch__(self, function, types, args=(), kwargs=None):
        out = function(*args, **(kwargs or {}))
        parts = out if isinstance(out, (tuple, list)) else (out,)
        self.numbers = max([self.numbers, *(part.numel() for part in parts if isinstance(part, torch.Tensor))])
        return out


# ------------------------------------------------------------------------------------------------- moments of one batch


@forms
def test_moments_are_numpys_class_by_class(form):
    h, labels = features(60)
    agree(moments(h, labels, 5, form), by_class(h, labels, 5, form))


@forms
def test_a_class_of_one_sample_has_no_covariance_and_an_absent_one_no_moments(form):
    h, labels = normal(4, 3), torch.tensor([2, 0, 0, 0])
    found = moments(h, labels, 4, form)
    assert found.count.tolist() == [3, 0, 1, 0]
    assert torch.equal(found.mean[2], h[0]) and not found.covariance[2].any()
    assert not found.mean[[1, 3]].any() and not found.covariance[[1, 3]].any()


@forms
def test_moments_of_an_empty_batch_are_zero(form):
    for part in moments(torch.zeros(0, 3), torch.zeros(0, dtype=torch.long), 2, form):
        assert not part.any() and part.isfinite().all()


@given(st.integers(0, 40), st.integers(1, 6), st.integers(1, 6), st.integers(0, 99))
def test_the_product_without_groups_is_that_of_the_groups(rows, width, classes, seed):
    """What runs on an accelerator, run here; the last block of classes may be short."""
    centred = normal(rows, width, seed=seed)
    labels = torch.randint(classes, (rows,), generator=torch.Generator().manual_seed(seed))
    grouped = isda._grouped_scatter(centred, labels, classes)
    torch.testing.assert_close(isda._scatter(centred, F.one_hot(labels, classes).double()), grouped)
    expected = [
        sum(np.outer(d, d) for d in centred[labels == c].numpy()) * np.ones((width, width)) for c in range(classes)
    ]
    np.testing.assert_allclose(grouped, expected, **EXACT)


@forms
def test_a_mean_far_from_zero_costs_no_digits(form):
    h, labels = features(200, offset=0.0)
    far = moments(h + 1e6, labels, 5, form)
    np.testing.assert_allclose(far.covariance, moments(h, labels, 5, form).covariance, rtol=1e-8, atol=1e-8)


@forms
def test_low_precision_features_have_moments_in_float32(form):
    h, labels = features(50)
    half = h.bfloat16()
    with torch.autocast("cpu", dtype=torch.bfloat16):
        found = moments(half, labels, 5, form)
    assert found.mean.dtype == found.covariance.dtype == torch.float32
    agree(found, by_class(half.double(), labels, 5, form), rtol=1e-5, atol=1e-5)


def test_feature_maps_are_flattened():
    h, labels = features(30)
    agree(moments(h.reshape(30, 2, 1, 2), labels, 5), by_class(h, labels, 5, "full"))


@forms
def test_no_tensor_of_batch_by_classes_by_features(form):
    h, labels = features(256, width=4, classes=16)
    memory = ClassCovariances(16, 4, form, torch.float64)
    with Largest() as largest:
        memory.update(h, labels)
        isda._scatter(h, F.one_hot(labels, 16).double())
    assert largest.numbers <= 256 * 16


# --------------------------------------------------------------------------------------------------------------- merging


@forms
@given(st.lists(st.integers(0, 60), max_size=5), st.integers(0, 99))
def test_streaming_covariances_are_numpys_whatever_the_batches(form, cuts, seed):
    h, labels = features(60, seed=seed)
    memory = ClassCovariances(5, 4, form, torch.float64)
    edges = [0, *sorted(cuts), 60]
    for start, end in itertools.pairwise(edges):
        memory.update(h[start:end], labels[start:end])
    agree(buffers(memory), by_class(h, labels, 5, form))


@forms
@given(st.permutations(range(4)), st.integers(0, 99))
def test_the_order_of_merges_does_not_matter(form, order, seed):
    h, labels = features(60, seed=seed)
    parts = [moments(h[i : i + 15], labels[i : i + 15], 5, form) for i in range(0, 60, 15)]
    a, b, c, d = (parts[i] for i in order)
    expected = by_class(h, labels, 5, form)
    agree(merge(merge(merge(a, b), c), d), expected)
    agree(merge(a, merge(b, merge(c, d))), expected)
    agree(merge(merge(d, a), merge(c, b)), expected)


@forms
def test_merging_with_nothing_changes_nothing(form):
    h, labels = features(20)
    some, nothing = moments(h, labels, 5, form), moments(h[:0], labels[:0], 5, form)
    for merged in (merge(some, nothing), merge(nothing, some)):
        assert all(torch.equal(x, y) for x, y in zip(merged, some, strict=True))
    assert all(not x.any() for x in merge(nothing, nothing))


@forms
def test_an_absent_class_keeps_its_moments_bit_for_bit(form):
    memory = ClassCovariances(3, 4, form)
    h = normal(20, 4)
    memory.update(h, torch.arange(20) % 2)
    before = [part.clone() for part in buffers(memory)]
    memory.update(h + 1, torch.zeros(20, dtype=torch.long))
    for part, old in zip(buffers(memory), before, strict=True):
        assert torch.equal(part[1:], old[1:]) and not torch.equal(part[0], old[0])


@forms
def test_many_batches_in_float32(form):
    """The moments are those of the whole run: neither decayed, nor worn away by rounding."""
    h, labels = features(20_000, offset=30.0)
    memory = ClassCovariances(5, 4, form)
    for rows in torch.arange(20_000).split(20):
        memory.update(h[rows], labels[rows])
    agree(buffers(memory), by_class(h, labels, 5, form), rtol=1e-4, atol=1e-4)


# ------------------------------------------------------------------------------------------------------------ the module


def test_the_buffers():
    assert {n: (tuple(b.shape), b.dtype) for n, b in ClassCovariances(3, 4).named_buffers()} == {
        "count": ((3,), torch.int64),
        "mean": ((3, 4), torch.float32),
        "covariance": ((3, 4, 4), torch.float32),
    }
    assert ClassCovariances(3, 4, "diagonal", torch.float64).covariance.shape == (3, 4)
    assert ClassCovariances(3, 4, dtype=torch.float64).mean.dtype == torch.float64
    assert not any(b.any() for b in ClassCovariances(3, 4).buffers())
    assert not list(ClassCovariances(3, 4).parameters())


@forms
def test_a_state_dict_restores_the_moments_and_what_follows(form):
    h, labels = features(60)
    whole, first = ClassCovariances(5, 4, form), ClassCovariances(5, 4, form)
    for memory in (whole, first):
        memory.update(h[:30], labels[:30])
    resumed = ClassCovariances(5, 4, form)
    resumed.load_state_dict(first.state_dict())
    for memory in (whole, resumed):
        memory.update(h[30:], labels[30:])
    assert all(torch.equal(a, b) for a, b in zip(buffers(whole), buffers(resumed), strict=True))
    assert whole.count.sum() == 60


@forms
def test_no_gradient_flows_through_the_moments(form):
    h, labels = features(20)
    memory = ClassCovariances(5, 4, form, torch.float64)
    memory.update(h.requires_grad_(), labels)
    assert not any(part.requires_grad for part in buffers(memory))


def test_a_label_that_is_no_class_is_an_error():
    with pytest.raises(RuntimeError, match="out of bounds"):
        moments(normal(2, 3), torch.tensor([0, 2]), 2)


def test_covariances_that_do_not_fit_are_refused_with_their_size_and_a_way_out():
    with pytest.raises(
        ConfigError, match=r"6\.2 GiB for 100 classes and 4096 features of fc1; give form 'diagonal', or .* 1638 fea"
    ):
        ClassCovariances(100, 4096, layer="fc1")
    with pytest.raises(ConfigError, match=r"1\.2 GiB .* a layer of at most 3663 features"):
        ClassCovariances(10, 4096, dtype=torch.float64)
    assert ClassCovariances(100, 4096, "diagonal").covariance.shape == (100, 4096)


def test_the_limit_is_one_gibibyte():
    isda.check_covariances("full", 16, 4096)
    with pytest.raises(ConfigError, match="at most 4096 features"):
        isda.check_covariances("full", 16, 4097)
    # with more classes than features it is the table that does not fit
    isda.check_covariances("full", 1024, 256)
    with pytest.raises(ConfigError, match="at most 256 features"):
        isda.check_covariances("full", 1024, 257)


@pytest.mark.parametrize("dtype", [torch.float16, torch.bfloat16, torch.int64])
def test_coarse_moments_are_refused(dtype):
    with pytest.raises(ConfigError, match=r"dtype: .* too coarse .* torch\.float32"):
        ClassCovariances(3, 4, dtype=dtype)


def test_an_unknown_form_is_refused():
    with pytest.raises(ConfigError, match="form: 'low-rank' is not allowed; give one of full, diagonal"):
        ClassCovariances(3, 4, "low-rank")


# ----------------------------------------------------------------------------------------------------- several processes


def on_ranks(shards, form):
    """Run :func:`moments` on one thread a rank, with a sum over ranks as an all-reduce makes it."""
    barrier, board, found = threading.Barrier(len(shards), timeout=60), {}, {}

    def work(rank, h, labels):
        def total(part):
            board[rank] = part
            barrier.wait()
            result = sum(board[r] for r in range(len(shards)))
            barrier.wait()
            return result

        found[rank] = moments(h, labels, 5, form, total)

    threads = [threading.Thread(target=work, args=(rank, *shard)) for rank, shard in enumerate(shards)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join(timeout=60)
    return [found[rank] for rank in range(len(shards))]


@forms
@pytest.mark.parametrize("ends", [(20, 41), (0, 41), (60, 60)])
def test_ranks_agree_bit_for_bit_and_with_one_process(form, ends):
    h, labels = features(60, offset=100.0)
    edges = [0, *ends, 60]
    ranks = on_ranks([(h[a:b], labels[a:b]) for a, b in itertools.pairwise(edges)], form)
    for other in ranks[1:]:
        assert all(torch.equal(a, b) for a, b in zip(ranks[0], other, strict=True))
    agree(ranks[0], by_class(h, labels, 5, form))


@forms
def test_a_module_takes_in_the_total_of_all_ranks(form):
    """Two ranks with the same batch: twice the count, the same mean and covariance."""
    h, labels = features(30)
    memory = ClassCovariances(5, 4, form, torch.float64)
    memory.update(h, labels, total=lambda part: 2 * part)
    agree(buffers(memory), by_class(torch.cat([h, h]), torch.cat([labels, labels]), 5, form))


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


def test_without_strength_the_loss_is_the_cross_entropy_bit_for_bit():
    logits, labels = normal(20, 5).float().requires_grad_(), torch.arange(20) % 5
    plain = F.cross_entropy(logits, labels)
    null = F.cross_entropy(isda_logits(logits, labels, None, 0.0), labels)
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
    assert strength(0.5, 0.0) == 0
    assert strength(0.5, 0.25) == 0.125
    assert strength(7.5, 0.999) == pytest.approx(7.4925)


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
        strength(0.5, None)
    with pytest.raises(ConfigError, match=r"progress: 17 is not allowed; give a number in \[0, 1\]"):
        strength(0.5, 17)


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
