"""ISDA's streaming class covariances, against numpy."""

import itertools
import threading

import numpy as np
import pytest
import torch
import torch.nn.functional as F
from hypothesis import given
from hypothesis import strategies as st
from isda_scene import (
    EXACT,
    Largest,
    buffers,
    by_class,
    differing,
    features,
    forms,
    normal,
)

from sba.core.errors import ConfigError
from sba.methods import isda
from sba.methods.isda import ClassCovariances, merge, moments

# ------------------------------------------------------------------------------------------------- moments of one batch


@forms
def test_moments_are_numpys_class_by_class(form):
    h, labels = features(60)
    assert not differing(moments(h, labels, 5, form), by_class(h, labels, 5, form))


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
    assert not differing(found, by_class(half.double(), labels, 5, form), rtol=1e-5, atol=1e-5)


def test_feature_maps_are_flattened():
    h, labels = features(30)
    assert not differing(moments(h.reshape(30, 2, 1, 2), labels, 5), by_class(h, labels, 5, "full"))


@forms
def test_no_tensor_of_batch_by_classes_by_features(form):
    h, labels = features(256, width=4, classes=16)
    memory = ClassCovariances(16, 4, form).double()
    with Largest() as largest:
        memory.update(h, labels)
        isda._scatter(h, F.one_hot(labels, 16).double())
    assert largest.numbers <= 256 * 16


# --------------------------------------------------------------------------------------------------------------- merging


@forms
@given(st.lists(st.integers(0, 60), max_size=5), st.integers(0, 99))
def test_streaming_covariances_are_numpys_whatever_the_batches(form, cuts, seed):
    h, labels = features(60, seed=seed)
    memory = ClassCovariances(5, 4, form).double()
    edges = [0, *sorted(cuts), 60]
    for start, end in itertools.pairwise(edges):
        memory.update(h[start:end], labels[start:end])
    assert not differing(buffers(memory), by_class(h, labels, 5, form))


@forms
@given(st.permutations(range(4)), st.integers(0, 99))
def test_the_order_of_merges_does_not_matter(form, order, seed):
    h, labels = features(60, seed=seed)
    parts = [moments(h[i : i + 15], labels[i : i + 15], 5, form) for i in range(0, 60, 15)]
    a, b, c, d = (parts[i] for i in order)
    expected = by_class(h, labels, 5, form)
    assert not differing(merge(merge(merge(a, b), c), d), expected)
    assert not differing(merge(a, merge(b, merge(c, d))), expected)
    assert not differing(merge(merge(d, a), merge(c, b)), expected)


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
    assert not differing(buffers(memory), by_class(h, labels, 5, form), rtol=1e-4, atol=1e-4)


# ------------------------------------------------------------------------------------------------------------ the module


def test_the_buffers():
    assert {n: (tuple(b.shape), b.dtype) for n, b in ClassCovariances(3, 4).named_buffers()} == {
        "count": ((3,), torch.int64),
        "mean": ((3, 4), torch.float32),
        "covariance": ((3, 4, 4), torch.float32),
    }
    assert ClassCovariances(3, 4, "diagonal").covariance.shape == (3, 4)
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
    memory = ClassCovariances(5, 4, form).double()
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
    assert ClassCovariances(100, 4096, "diagonal").covariance.shape == (100, 4096)


def test_the_limit_is_one_gibibyte():
    with torch.device("meta"):
        ClassCovariances(16, 4096)
        with pytest.raises(ConfigError, match="at most 4096 features"):
            ClassCovariances(16, 4097)
        # with more classes than features it is the table that does not fit
        ClassCovariances(1024, 256)
        with pytest.raises(ConfigError, match="at most 256 features"):
            ClassCovariances(1024, 257)


def test_an_unknown_form_is_refused():
    with pytest.raises(ConfigError, match="form: 'low-rank' is not allowed; give one of full, diagonal"):
        ClassCovariances(3, 4, "low-rank")


# ----------------------------------------------------------------------------------------------------- several processes


def on_ranks(shards, form, monkeypatch):
    """Run :func:`moments` on one thread a rank, with a sum over ranks as an all-reduce makes it."""
    barrier, board, found, own = threading.Barrier(len(shards), timeout=60), {}, {}, threading.local()

    def total(part):
        board[own.rank] = part
        barrier.wait()
        result = sum(board[r] for r in range(len(shards)))
        barrier.wait()
        return result

    def work(rank, h, labels):
        own.rank = rank
        found[rank] = moments(h, labels, 5, form)

    monkeypatch.setattr(isda, "total", total)
    threads = [threading.Thread(target=work, args=(rank, *shard)) for rank, shard in enumerate(shards)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join(timeout=60)
    return [found[rank] for rank in range(len(shards))]


@forms
@pytest.mark.parametrize("ends", [(20, 41), (0, 41), (60, 60)])
def test_ranks_agree_bit_for_bit_and_with_one_process(form, ends, monkeypatch):
    h, labels = features(60, offset=100.0)
    edges = [0, *ends, 60]
    with monkeypatch.context() as patch:
        ranks = on_ranks([(h[a:b], labels[a:b]) for a, b in itertools.pairwise(edges)], form, patch)
    for other in ranks[1:]:
        assert all(torch.equal(a, b) for a, b in zip(ranks[0], other, strict=True))
    assert not differing(ranks[0], by_class(h, labels, 5, form))


@forms
def test_a_module_takes_in_the_total_of_all_ranks(form, monkeypatch):
    """Two ranks with the same batch: twice the count, the same mean and covariance."""
    h, labels = features(30)
    memory = ClassCovariances(5, 4, form).double()
    monkeypatch.setattr(isda, "total", lambda part: 2 * part)
    memory.update(h, labels)
    assert not differing(buffers(memory), by_class(torch.cat([h, h]), torch.cat([labels, labels]), 5, form))
