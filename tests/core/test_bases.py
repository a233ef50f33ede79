"""Σ in every reading: its columns, its orthogonality, its mean over draws, and what it costs."""

import json
import math
import subprocess
import sys

import numpy as np
import pytest
import scipy.linalg
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from processes import FORKED

from sba import SBA, build, make_run, train
from sba.core.bases import (
    DENSE_LIMIT,
    KINDS,
    ORTHOGONAL_LIMIT,
    Dense,
    Hadamard,
    Identity,
    PerChannel,
    basis,
    check_basis,
    colnorm,
    hadamard,
    orthogonal,
    powers_of_two,
    walsh_hadamard,
)
from sba.core.errors import ConfigError

WIDTHS = [1, 2, 7, 64, 100, 192]


def generator(seed=0):
    return torch.Generator().manual_seed(seed)


def normal(*shape, seed=0):
    return torch.randn(*shape, generator=generator(seed), dtype=torch.float64)


def defect(matrix):
    """Largest entry of ΣᵀΣ − I."""
    return (matrix.T @ matrix - torch.eye(len(matrix), dtype=matrix.dtype)).abs().max().item()


# ------------------------------------------------------------------------------------------------------------ each kind


@pytest.mark.parametrize("width", WIDTHS)
def test_columns_of_the_default_have_norm_one(width):
    matrix = basis("colnorm", width, generator()).matrix(width)
    assert matrix.norm(dim=0).numpy() == pytest.approx(np.ones(width), abs=1e-6)


def test_rows_of_the_default_do_not_and_it_is_not_orthogonal():
    matrix = basis("colnorm", 50, generator()).matrix(50)
    assert matrix.norm(dim=1).std() > 0.05
    assert defect(matrix) > 0.1


@pytest.mark.parametrize(("kind", "widths"), [("orthogonal", [*WIDTHS, 300]), ("hadamard", [*WIDTHS, 3072])])
def test_orthogonal_kinds_are_orthogonal_to_a_millionth(kind, widths):
    for width in widths:
        assert defect(basis(kind, width, generator(width)).matrix(width)) < 1e-6


def test_orthogonal_takes_both_orientations_and_is_uniform():
    """Under the uniform law every entry has mean 0 and variance 1/Q; QR without its signs would give the diagonal one sign."""
    matrices = torch.stack([orthogonal(3, generator(seed)) for seed in range(400)])
    assert {round(torch.linalg.det(m).item()) for m in matrices} == {-1, 1}
    assert (matrices.mean(0).abs() < 4.5 * math.sqrt(1 / 3 / 400)).all()
    assert (matrices.var(0) - 1 / 3).abs().max() < 0.06
    corners = matrices.diagonal(dim1=1, dim2=2)
    # any column may be turned round by itself, so no two entries of different columns are correlated
    pairs = torch.stack([corners[:, 0] * corners[:, 1], corners[:, 0] * corners[:, 2], corners[:, 1] * corners[:, 2]])
    assert (pairs.mean(1).abs() < 4.5 * pairs.std(1) / math.sqrt(400)).all()


@pytest.mark.parametrize("exponent", range(8))
def test_walsh_hadamard_is_scipys_over_the_root_of_n(exponent):
    width = 2**exponent
    matrix = walsh_hadamard(torch.eye(width, dtype=torch.float64))
    np.testing.assert_allclose(matrix, scipy.linalg.hadamard(width) / math.sqrt(width), rtol=1e-15)


@given(st.integers(0, 10), st.integers(0, 3))
def test_walsh_hadamard_is_its_own_inverse(exponent, rows):
    x = normal(rows, 2, 2**exponent)
    torch.testing.assert_close(walsh_hadamard(walsh_hadamard(x)), x)


@given(st.integers(1, 10**6))
def test_powers_of_two_add_up_to_the_width(width):
    powers = powers_of_two(width)
    assert sum(powers) == width
    assert powers == sorted(set(powers), reverse=True)
    assert all(p.bit_count() == 1 for p in powers)


@pytest.mark.parametrize("width", [1, 4, 6, 7, 21])
def test_hadamard_is_a_product_of_signs_an_order_and_blocks(width):
    drawn = hadamard(width, generator(3))
    blocks = [scipy.linalg.hadamard(p) / math.sqrt(p) for p in powers_of_two(width)]
    order = range(width) if drawn.order is None else drawn.order.tolist()
    expected = np.diag(drawn.signs.double()) @ np.eye(width)[list(order)] @ scipy.linalg.block_diag(*blocks)
    np.testing.assert_allclose(drawn.matrix(width), expected, atol=1e-15)
    assert set(drawn.signs.tolist()) <= {-1.0, 1.0}
    assert sorted(order) == list(range(width))


def test_hadamard_draws_signs_always_and_an_order_only_where_it_needs_one():
    drawn = [hadamard(8, generator(seed)) for seed in range(200)]
    assert all(d.order is None for d in drawn)
    assert (torch.stack([d.signs for d in drawn]).mean(0).abs() < 4.5 / math.sqrt(200)).all()
    # of 3 features any may be the one left alone
    alone = {hadamard(3, generator(seed)).order.tolist().index(2) for seed in range(40)}
    assert alone == {0, 1, 2}


def test_hadamard_stores_a_few_numbers_for_each_feature():
    for shape in ((64, 32, 32), (65_537,)):
        drawn = basis("hadamard", shape, generator())
        stored = sum(t.untyped_storage().nbytes() for t in (drawn.signs, drawn.order) if t is not None)
        assert stored <= 12 * math.prod(shape)
        assert drawn(torch.zeros(1, math.prod(shape))).shape == (1, math.prod(shape))


def test_dense_is_the_matrix_product():
    matrix, noise = normal(4, 4), normal(2, 3, 4, seed=1)
    expected = np.einsum("ab,jib->jia", matrix, noise)
    np.testing.assert_allclose(Dense(matrix)(noise), expected, rtol=1e-13)
    assert torch.equal(Dense(matrix).matrix(4), matrix)


def test_per_channel_is_the_kronecker_product_with_the_identity():
    matrix = normal(3, 3)
    expected = np.kron(matrix, np.eye(4))
    np.testing.assert_allclose(PerChannel(matrix).matrix(12), expected, atol=1e-15)
    noise = normal(2, 5, 3, 2, 2, seed=1)  # features in the order in which a feature map is flattened
    np.testing.assert_allclose(
        PerChannel(matrix)(noise.flatten(2)).reshape(noise.shape), np.einsum("cd,jidhw->jichw", matrix, noise)
    )


def test_identity_changes_nothing():
    noise = normal(2, 3)
    assert Identity()(noise) is noise
    assert torch.equal(Identity().matrix(3), torch.eye(3, dtype=torch.float64))


# ------------------------------------------------------------------------------------------------------------ all kinds


def test_kinds_are_those_of_the_method_and_their_classes():
    made = {kind: type(basis(kind, (4, 2, 2), generator())) for kind in KINDS}
    assert made == {
        "colnorm": Dense, "orthogonal": Dense, "identity": Identity, "hadamard": Hadamard, "channel": PerChannel
    }  # fmt: skip
    assert {SBA(basis=kind).basis for kind in KINDS} == set(KINDS)


def test_dense_kinds_are_what_their_names_say():
    for kind, function in (("colnorm", colnorm), ("orthogonal", orthogonal)):
        assert torch.equal(basis(kind, (2, 3), generator(5)).entries, function(6, generator(5)))
    assert torch.equal(basis("channel", (4, 2, 2), generator(5)).entries, colnorm(4, generator(5)))
    flat = [basis(kind, 6, generator(5)).matrix(6) for kind in ("channel", "colnorm")]
    assert torch.equal(*flat)


@pytest.mark.parametrize("kind", KINDS)
def test_on_average_it_changes_no_covariance(kind):
    """E[ΣΣᵀ] = I, within five standard errors of each entry; and for colnorm it is not I in each draw."""
    squares = []
    for seed in range(1500):
        matrix = basis(kind, (6, 1, 1), generator(seed)).matrix(6)
        squares.append(matrix @ matrix.T)
    squares = torch.stack(squares)
    error = (squares.mean(0) - torch.eye(6, dtype=torch.float64)).abs()
    assert (error <= 5 * squares.std(0) / math.sqrt(1500) + 1e-6).all()
    assert (squares.std(0).max() > 0.1) == (kind in ("colnorm", "channel"))


@pytest.mark.parametrize("kind", [k for k in KINDS if k != "identity"])
@pytest.mark.parametrize("width", [8, 12])
def test_it_differs_from_draw_to_draw_and_follows_the_generator(kind, width):
    one, same, other = (basis(kind, (width, 1, 1), generator(seed)).matrix(width) for seed in (0, 0, 1))
    assert torch.equal(one, same) and not torch.allclose(one, other, atol=0.1)


@pytest.mark.parametrize("dtype", [torch.float32, torch.float64, torch.bfloat16], ids=str)
@pytest.mark.parametrize("kind", KINDS)
@settings(max_examples=15)
@given(
    shape=st.one_of(st.tuples(st.integers(1, 40)), st.tuples(*[st.integers(1, 6)] * 3)),
    lead=st.lists(st.integers(1, 3), max_size=2).map(tuple),
)
def test_the_noise_keeps_its_shape_its_type_and_is_mapped_linearly(kind, shape, lead, dtype):
    drawn, width = basis(kind, shape, generator()), math.prod(shape)
    noise = normal(*lead, width)
    moved = drawn(noise.to(dtype))
    assert moved.shape == noise.shape and moved.dtype == dtype and moved.isfinite().all()
    expected = noise.to(dtype).double() @ drawn.matrix(width).T
    tolerance = {torch.float64: 1e-12, torch.float32: 1e-5, torch.bfloat16: 0.1}[dtype]
    torch.testing.assert_close(moved.double(), expected, rtol=0, atol=tolerance * (1 + expected.abs().max().item()))


# ------------------------------------------------------------------------------------------------------------- refusals


def test_unknown_kind():
    with pytest.raises(
        ConfigError,
        match=r"basis \(Σ\): 'qr' is not allowed; give one of colnorm, orthogonal, identity, hadamard, channel",
    ):
        basis("qr", 4, generator())


@pytest.mark.parametrize(
    ("kind", "shape", "message"),
    [
        ("colnorm", (64, 32, 32), r"'colnorm' needs 65536×65536 numbers, 16.0 GiB, for conv1_1 of shape \(64, 32, 32\); "
                                  r"give basis 'hadamard', 'channel' or 'identity', or a layer of at most 8192 features"),
        ("orthogonal", (9216,), r"'orthogonal' needs 9216×9216 numbers, 0.3 GiB, and their QR at every augmented step, "
                                r"for conv1_1 of shape \(9216,\); "
                                r"give basis 'hadamard' or 'identity', or a layer of at most"),
        ("channel", (10_000, 1, 1), r"'channel' needs 10000×10000 numbers, 0.4 GiB, for conv1_1 of shape \(10000, 1, 1\); "
                                    r"give basis 'hadamard' or 'identity', or a layer"),
    ],
)  # fmt: skip
def test_too_wide_is_refused_with_its_size_and_what_fits(kind, shape, message):
    with pytest.raises(ConfigError, match=message):
        check_basis(kind, shape, "conv1_1")
    with pytest.raises(ConfigError, match="for an activation of shape"):
        basis(kind, shape, generator())


@pytest.mark.parametrize(
    ("kind", "limit"), [("colnorm", DENSE_LIMIT), ("orthogonal", ORTHOGONAL_LIMIT), ("channel", DENSE_LIMIT)]
)
def test_the_widest_that_fits(kind, limit):
    check_basis(kind, (limit,))
    with pytest.raises(ConfigError, match=f"needs {limit + 1}×{limit + 1} .* a layer of at most {limit} features"):
        check_basis(kind, (limit + 1,))


def test_wide_layers_have_a_basis_that_fits():
    check_basis("channel", (64, 32, 32))
    check_basis("hadamard", (10**6,))
    check_basis("identity", (10**6,))


def test_a_layer_too_wide_is_refused_by_name_when_training_is_made(small, monkeypatch):
    monkeypatch.setattr("sba.core.bases.DENSE_LIMIT", 1000)  # conv1 of the digits network has 16·8·8 = 1024 features
    with pytest.raises(ConfigError, match=r"1024×1024 numbers, 0.0 GiB, for conv1 of shape \(16, 8, 8\); give basis"):
        train(make_run(method="sba", layers=("flatten", "conv1")), small)
    for fits in ({"basis": "channel"}, {"basis": "hadamard"}, {"gaussian_share": 0.0}):
        train(make_run(method="sba", layers=("flatten", "conv1"), **fits), small)


def test_every_layer_of_the_networks_of_the_paper_can_be_augmented():
    for name in ("alexnet", "vgg16_512", "resnet44"):
        network = build(name, 10, 3, 32)
        for kind in ("hadamard", "channel"):
            SBA(layers=("input", *network.stages[:-1]), basis=kind).check(network)
    with pytest.raises(ConfigError, match=r"16\.0 GiB, for conv1_1 of shape"):
        SBA(layers=("conv1_1",)).check(build("vgg16_linear", 10, 3, 32))


# VmHWM is the largest size of this program; that of getrusage may be the size of the process that started it
MEASURE = r"""
import json, re, sys, torch
from sba import SBA, Step, build
name, layer, kinds = sys.argv[1], sys.argv[2], sys.argv[3].split(",")
torch.set_num_threads(1)
torch.manual_seed(0)
network = build(name, 10, 3, 32).train()
x, y = torch.randn(32, 3, 32, 32), torch.arange(32) % 10
def size(name):
    return 1024 * int(re.search(name + r":\s+(\d+) kB", open("/proc/self/status").read())[1])
before, finite = size("VmRSS"), True
for kind in kinds:
    method = SBA(omega=0.0, folds=4, layers=(layer,), basis=kind)
    sum(method.terms(network, x, y, Step(0), None).values()).backward()
    finite &= all(p.grad.isfinite().all().item() for p in network.parameters())
print(json.dumps({"finite": finite, "extra": size("VmHWM") - before}))
"""


@pytest.mark.skipif(sys.platform != "linux", reason="the size of a process is read from /proc")
@pytest.mark.parametrize(("network", "layer"), [("vgg16", "conv1_1"), ("resnet44", "conv1")])
def test_the_widest_layers_are_augmented_within_two_gigabytes(tmp_path, forked, network, layer):
    """32 images, M = 4, forward and backward, in a process of its own; a dense Σ would take 16 and 1 GiB alone."""
    (tmp_path / "measure.py").write_text(MEASURE)
    command = [sys.executable, FORKED, tmp_path / "measure.py", network, layer, "hadamard,channel"]
    done = subprocess.run(command, capture_output=True, text=True, check=True)
    result = json.loads(done.stdout)
    assert result["finite"] and 0 < result["extra"] < 2e9
