"""Models in the forms that users have: what they take and put out, what was compiled before, and kernels that skip modules."""

import contextlib
import copy
import re
import types
from collections import UserDict, namedtuple

import pytest
import torch
import torch.nn.functional as F
from torch import nn

from sba import METHODS, SBA, attach
from sba.core.errors import ConfigError

X, Y = torch.randn(8, 6, generator=torch.Generator().manual_seed(0)), torch.arange(8) % 5
Named = namedtuple("Named", ["features", "logits"])


class Puts(nn.Module):
    """Puts its activation and its logits out in some form."""

    def __init__(self, form=lambda h, z: z):
        super().__init__()
        torch.manual_seed(0)
        self.first, self.block = nn.Linear(6, 8), nn.Sequential(nn.Linear(8, 8), nn.BatchNorm1d(8), nn.ReLU())
        self.fc, self.form = nn.Linear(8, 5), form

    def forward(self, x):
        h = self.block(self.first(x))
        return self.form(h, self.fc(h))


class Recurrent(nn.Module):
    """Reads the last state of an LSTM, and not its first output."""

    def __init__(self):
        super().__init__()
        self.lstm, self.fc = nn.LSTM(6, 7, batch_first=True), nn.Linear(7, 5)

    def forward(self, x):
        return self.fc(self.lstm(x)[1][0][-1])


class ByFunction(Puts):
    def forward(self, x):
        return self.fc(F.dropout(self.first(x), 0.3, self.training))


def outcome(model, method, x=X):
    """The loss of a step and the gradient of the first weight."""
    criterion = attach(model, method, x, total_steps=5)
    criterion.training = True
    loss = criterion(x, Y)
    loss.backward()
    return loss.detach(), next(model.parameters()).grad


@pytest.mark.parametrize(
    "form",
    [
        lambda h, z: (z,),
        lambda h, z: {"out": z},
        lambda h, z: {"features": h, "logits": z},
        lambda h, z: UserDict(features=h, logits=z),
        lambda h, z: types.SimpleNamespace(features=h, logits=z),
        Named,
    ],
)
def test_the_only_tensor_or_what_is_named_logits_is_the_logits(form):
    method = SBA(omega=0.0, eta=1.0)
    for one, other in zip(outcome(Puts(form), method), outcome(Puts(), method), strict=True):
        assert torch.equal(one, other)


REFUSED = {
    "two tensors": (
        lambda: (Puts(lambda h, z: {"features": h, "out": z}), SBA(), X),
        "model: it puts out a dict in which 2 tensors may be the logits; put them out alone, or name them",
    ),
    "a pair": (lambda: (Puts(lambda h, z: (h, z)), SBA(), X), "model: it puts out a tuple in which 2 tensors may be"),
    "an object": (
        lambda: (Puts(lambda h, z: types.SimpleNamespace(out=z)), SBA(), X),
        "model: it puts out a SimpleNamespace in which 0 tensors may be the logits",
    ),
    "two updates": (
        lambda: (Puts(), SBA(update="sequential_fresh"), X),
        "update: 'sequential_fresh' belongs to the loop, not to its loss; leave it out, or give joint",
    ),
    "an unread point": (
        lambda: (Recurrent(), SBA(layers=("lstm",)), torch.randn(4, 3, 6)),
        "layers: the logits do not depend on the first tensor at 'lstm'; give a point behind it",
    ),
    "a number first": (
        lambda: (Puts(), SBA(), (torch.tensor(2.0), X)),
        "example: torch.float32 () on cpu, torch.float32 (N, …) on cpu has no rows; give two or more, in the first tensor",
    ),
    "dropout by function": (
        lambda: (ByFunction(), METHODS["r-drop"](), X),
        "this network has no module that does it (F.dropout cannot be seen); give a network with nn.Dropout",
    ),
}


@pytest.mark.parametrize("kind", REFUSED)
def test_what_cannot_be_told_is_refused_by_name_at_once(kind):
    make, message = REFUSED[kind]
    with pytest.raises(ConfigError, match=re.escape(message)):
        attach(*make(), total_steps=5)


def test_any_mapping_is_a_batch_of_named_arguments():
    """As a tokenizer's BatchEncoding is one that is no dict."""
    method = SBA(omega=0.0, eta=1.0, layers=("first",))
    for one, other in zip(outcome(Puts(), method, UserDict(x=X)), outcome(Puts(), method), strict=True):
        assert torch.equal(one, other)


def whole(model):
    model.compile(backend="eager")


def block(model):
    model.block = torch.compile(model.block, backend="eager")


@pytest.mark.parametrize("compiled", [whole, block])
@pytest.mark.parametrize("layer", ["first", "block", "fc:in"])
def test_what_was_compiled_before_gives_the_same(compiled, layer):
    method, model = SBA(omega=0.0, eta=1.0, layers=(layer,)), Puts()
    compiled(model)
    for one, other in zip(outcome(model, method), outcome(Puts(), method), strict=True):
        assert torch.equal(one, other)


@pytest.mark.parametrize("point", ["encoder.layers.0", "encoder.layers.1.norm1:in"])
def test_an_encoder_whose_kernel_skips_its_modules(point):
    """In evaluation mode, frozen: where torch would take it, and takes it again afterwards."""
    torch.manual_seed(0)
    model, x = nn.Sequential(), torch.randn(8, 3, 8)
    model.encoder = nn.TransformerEncoder(nn.TransformerEncoderLayer(8, 2, 16, batch_first=True), 2)
    model.flatten, model.fc = nn.Flatten(), nn.Linear(24, 5)
    model.eval().encoder.requires_grad_(False)
    other = copy.deepcopy(model)
    other.encoder.layers[0].self_attn.register_forward_pre_hook(lambda *_: None)  # torch keeps its kernel from hooks
    criterion = attach(model, SBA(omega=0.0, eta=1.0, layers=(point,)), x, total_steps=5)
    criterion.training = True
    assert criterion(x, Y).isfinite() and criterion.terms["virtual"] > 0
    torch.testing.assert_close(criterion.terms["cross_entropy"], F.cross_entropy(other(x), Y))
    assert torch.backends.mha.get_fastpath_enabled()


@pytest.mark.parametrize(
    ("scale", "share", "warned"),
    [("batch", 1.0, True), ("batch", 0.0, False), ("running", 1.0, False), ("absolute", 1.0, False)],
)
def test_one_row_whose_gaussian_points_equal_it_is_said(scale, share, warned):
    torch.manual_seed(0)
    model = nn.Sequential(nn.Linear(6, 8), nn.ReLU(), nn.Linear(8, 5)).double()
    x = X.double()
    criterion = attach(model, SBA(omega=0.0, gaussian_share=share, scale=scale, folds=2), x[:4], 10)
    criterion(x[:2], Y[:2])
    with (
        pytest.warns(UserWarning, match="x: one row has no standard deviation") if warned else contextlib.nullcontext()
    ):
        criterion(x[:1], Y[:1])
    # one row and several may be summed in another order; the least of the others seen was 7e-8
    assert (abs(criterion.terms["virtual"]) < 1e-12) == warned
