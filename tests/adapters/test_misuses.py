"""What users get wrong: each mistake is an error at the first call that names the field, its value and what to give."""

import re

import pytest
import torch
import torchvision
from torch import nn
from torch.nn.parallel import DistributedDataParallel

from sba import METHODS, SBA, Data, ImplicitSBA, Scheduler, Staged, Step, attach, make_run, train
from sba.core.divergence import sba_objective
from sba.core.errors import ConfigError
from sba.methods.isda import ISDA
from sba.methods.mixup import mixed_cross_entropy

X, Y = torch.randn(8, 6, generator=torch.Generator().manual_seed(0)), torch.arange(8) % 5
IMAGES = torch.randint(0, 256, (8, 3, 6, 6), dtype=torch.uint8, generator=torch.Generator().manual_seed(0))
Z = torch.zeros(4, 3)
NEVER = SBA(omega=torch.pi / 2, layers=("fc9",))
"""λ(t) is always 0, and its layer does not exist."""


def model(classes=5):
    return nn.Sequential(nn.Linear(6, 8), nn.BatchNorm1d(8), nn.ReLU(), nn.Linear(8, classes))


def chain():
    return Staged([("fc1", nn.Linear(6, 8)), ("act", nn.ReLU()), ("fc2", nn.Linear(8, 5))], (6,))


def attached(network=None, method=None, example=X, total_steps=5, **options):
    return attach(model() if network is None else network, method or SBA(omega=0.0), example, total_steps, **options)


def with_nan(x):
    return x.index_fill(0, torch.tensor([2]), torch.nan)


def spoiled(network):
    nn.init.constant_(network[0].weight, torch.nan)
    return network


@torch.no_grad()
def validated_in_training_mode():
    attached()(X, Y)


class Twice(nn.Module):
    def __init__(self):
        super().__init__()
        self.fc, self.out = nn.Linear(6, 6), nn.Linear(6, 5)

    def forward(self, x):
        return self.out(self.fc(self.fc(x)))


class Pixels(nn.Module):
    """Classes for each pixel."""

    def __init__(self):
        super().__init__()
        self.conv = nn.Conv2d(3, 5, 1)

    def forward(self, x):
        return self.conv(x)


def arrays(x=IMAGES, y=Y, classes=5, **options):
    return Data.from_arrays(x, y, classes, test=(x, y), **options)


MODEL = {
    "DistributedDataParallel": (
        # it looks for a process group when it is made, and is refused by its type
        lambda: attached(DistributedDataParallel.__new__(DistributedDataParallel)),
        "model: DistributedDataParallel(network) is not allowed; attach to the network, and wrap the criterion",
    ),
    "DataParallel": (
        lambda: attached(nn.DataParallel(model())),
        "model: DataParallel(network) is not allowed; attach to the network, and wrap the criterion",
    ),
    "copies for several devices": (
        lambda: attached()._replicate_for_data_parallel(),
        "criterion: DataParallel calls copies, whose steps are lost; use DistributedDataParallel, one process a device",
    ),
    "a function": (lambda: attached(lambda x: x), "is not allowed; give a torch.nn.Module"),
    "a class": (lambda: attached(nn.Linear), "model: <class 'torch.nn.modules.linear.Linear'> is not allowed; give a"),
    "a criterion": (lambda: attached(attached()), "model: a criterion is not allowed; give the model that it was made"),
    "no forward": (lambda: attached(nn.Module()), "example: the model cannot take torch.float32 (N, …) on cpu"),
    "a regression": (lambda: attached(model(1)), "model: logits of shape (8, 1) for 8 rows are not allowed; put out"),
    "classes of pixels": (
        lambda: attached(Pixels(), example=torch.randn(2, 3, 4, 4)),
        "model: logits of shape (2, 5, 4, 4) for 2 rows are not allowed; put out (N, classes)",
    ),
    "NaN in its weights": (lambda: attached(spoiled(model())), "model: logits of the example are NaN; look at its wei"),
    "no chain": (
        lambda: SBA().terms(torchvision.models.resnet18(), X, Y, Step(0), None),
        "network: ResNet is no chain of stages; give Staged(…), or use attach(model, …)",
    ),
    "no chain for a memory": (lambda: ISDA().memory(model()), "network: Sequential is no chain of stages; give Staged"),
    "no linear end": (
        lambda: attached(nn.Sequential(nn.Linear(6, 5), nn.Tanh()), ImplicitSBA()),
        "method: 'implicit-sba' needs a network that ends in a linear layer",
    ),
}
POINTS = {
    "a layer that is none": (lambda: attached(method=SBA(layers=("fc1",))), "layers: 'fc1' is no point of this model"),
    "a layer that is none, λ = 0": (lambda: attached(method=NEVER), "layers: 'fc9' is no point of this model"),
    "the same in a chain": (
        lambda: NEVER.terms(chain(), X, Y, Step(0), None),
        "layers: there is no layer 'fc9' in this network; choose from input, fc1, act, fc2",
    ),
    "an unused one": (
        lambda: METHODS["bamboo"](eta=0.0, layers=("fc9",)).terms(chain(), X, Y, Step(0), None),
        "layers: there is no layer 'fc9' in this network",
    ),
    "a layer twice": (lambda: attached(method=SBA(layers=("0", "0"))), "layers: ('0', '0') names one twice"),
    "a layer called twice": (
        lambda: attached(Twice(), SBA(layers=("fc",))),
        "layers: 'fc' is called 2 times in a pass",
    ),
    "the logits": (lambda: attached(method=SBA(layers=("3",))), "layers: '3' puts out the logits, nothing comes after"),
    "text for a list": (lambda: SBA(layers="fc1"), "layers (S): 'fc1' is not allowed; give a list"),
}
NUMBERS = {
    "an angle above π/2": (lambda: Scheduler(2.0), "omega (ω): 2.0 is not allowed; give a number in [0, π/2"),
    "a negative weight": (lambda: SBA(eta=-0.1), "eta (η): -0.1 is not allowed; give a number in [0, ∞)"),
    "no virtual points": (lambda: SBA(folds=0), "folds (M): 0 is not allowed; give an integer in [1, ∞)"),
    "a misspelt one": (lambda: SBA(omgea=1.0), "omgea: SBA has no such parameter; did you mean 'omega'?"),
    "the method's class": (
        lambda: attached(method=SBA),
        "method: <class 'sba.core.sba.SBA'> is not allowed; give a met",
    ),
    "the method's name": (lambda: attached(method="sba"), "method: 'sba' is not allowed; give a method with its sett"),
    "no steps": (lambda: attached(total_steps=0), "total_steps: 0 is not allowed; give an integer from 1"),
    "half a step": (lambda: attached(total_steps=2.5), "total_steps: 2.5 is not allowed; give an integer from 1"),
    "no steps in an epoch": (lambda: attached(steps_per_epoch=0), "steps_per_epoch: 0 is not allowed; give an integer"),
    "a seed with a point": (lambda: attached(seed=0.0), "seed, step, rank: (0.0, 0, 0) are not all integers; give"),
    "a run's, misspelt": (
        lambda: make_run(epoch=3),
        "epoch: neither a run nor the method 'erm' has this parameter; did",
    ),
    "another method's": (
        lambda: make_run(eta=1.0),
        "eta: neither a run nor the method 'erm' has this parameter; it be",
    ),
    "a share above 1": (lambda: mixed_cross_entropy(Z, Y[:4] % 3, Y[:4] % 3, 1.7), "lam (λ): 1.7 is not allowed; give"),
}
BATCHES = {
    "an example of one row": (lambda: attached(example=X[:1]), "example: one row is not enough"),
    "no example": (
        lambda: attached(example=None),
        "example: NoneType holds no tensor; give a small batch as the model",
    ),
    "an example of float64": (
        lambda: attached(example=X.double()),
        "example: the model cannot take torch.float64 (N, …",
    ),
    "an example too wide": (
        lambda: attached(example=torch.randn(4, 7)),
        "example: the model cannot take torch.float32",
    ),
    "an example elsewhere": (lambda: attached(example=X.to("meta")), "example: a tensor on meta has no values; move"),
    "an example that is NaN": (lambda: attached(example=with_nan(X)), "example: it has numbers that are NaN; mend the"),
    "a batch that is NaN": (lambda: attached()(with_nan(X), Y), "x: it has numbers that are NaN; mend the data"),
    "a batch elsewhere": (lambda: attached()(X.to("meta"), Y), "x: a tensor on meta has no values; move the batch to"),
    "an empty batch": (lambda: attached()(X[:0], Y[:0]), "has no rows; give batches like the example"),
    "a batch of float64": (
        lambda: attached()(X.double(), Y),
        "x: torch.float64 (N, …) on cpu, rows of (6,), is unlike",
    ),
    "a batch too wide": (
        lambda: attached()(torch.randn(8, 7), Y),
        "rows of (7,), is unlike the example (torch.float32",
    ),
    "a tuple for a tensor": (lambda: attached()((X, X), Y), "is unlike the example (torch.float32 (N, …) on cpu"),
    "a step without gradients": (
        validated_in_training_mode,
        "criterion: a step without gradients is not allowed; call",
    ),
}
LABELS = {
    "no probabilities": (lambda: attached()(X, 2 * torch.eye(5)[Y]), "labels: rows that are no probabilities are not"),
    "floats": (lambda: attached()(X, Y.float()), "labels: torch.float32 of shape (8,) are not allowed; give classes"),
    "int32": (lambda: attached()(X, Y.int()), "labels: torch.int32 of shape (8,) are not allowed; give classes"),
    "too few": (lambda: attached()(X, Y[:-1]), "labels: torch.int64 of shape (7,) are not allowed; give classes"),
    "from 1": (lambda: attached()(X, Y + 1), "labels: values from 1 to 5 are not allowed; give classes"),
    "a list": (lambda: attached()(X, Y.tolist()), "labels: <class 'list'> of shape () are not allowed; give classes"),
    "elsewhere": (
        lambda: attached()(X, Y.to("meta")),
        "labels: a tensor on meta has no values; give labels on the dev",
    ),
    "swapped with the batch": (lambda: attached()(Y, X), "labels: torch.float32 of shape (8, 6) are not allowed; give"),
    "of a loss": (lambda: sba_objective(Z, Y[:4] + 9, None, 1.0), "labels: values from 9 to 12 are not allowed; give"),
    "of a loss with odd points": (
        lambda: sba_objective(Z, Y[:4] % 3, torch.zeros(5, 3), 1.0),
        "virtual: shape (5, 3) is not allowed; give M times as many rows as logits of (4, 3) have",
    ),
}
DATA = {
    "floats up to 255": (lambda: arrays(IMAGES.float()), "x: float32 from 0 to 255 is not allowed; give uint8, floats"),
    "channels last": (lambda: arrays(IMAGES.movedim(1, -1)), "x: images of 6×3 pixels are not allowed with layout 'NC"),
    "labels from 1": (
        lambda: arrays(y=Y + 1),
        "y: values from 1 to 5 are not allowed; give one class for each of the 8",
    ),
    "one class": (lambda: arrays(y=Y * 0), "y: all training images are of class '0'; give two or more"),
    "an array for a data set": (
        lambda: make_run(IMAGES),
        "dataset: Tensor is not allowed; give a name, or Data.from_ar",
    ),
    "too large a batch": (
        lambda: train(make_run(arrays(), batch_size=9), arrays()),
        "batch_size: 9 exceeds the 8 training images; give fewer",
    ),
    "images of another size": (
        lambda: train(make_run(arrays(), "alexnet", batch_size=4), arrays()),
        "network: 'alexnet' is made for images of 32×32 pixels, the data has 6×6; choose from",
    ),
}
KINDS = {"model": MODEL, "layers": POINTS, "numbers": NUMBERS, "batch": BATCHES, "labels": LABELS, "data": DATA}
MISUSES = {f"{kind}: {name}": case for kind, cases in KINDS.items() for name, case in cases.items()}


@pytest.mark.parametrize("name", MISUSES)
def test_a_mistake_is_named_with_its_fix_at_the_first_call(name):
    call, message = MISUSES[name]
    with pytest.raises(ConfigError, match=re.escape(message)):
        call()


def test_a_refused_batch_counts_as_no_step():
    network = model()
    criterion = attached(network)
    before = {name: value.clone() for name, value in network.state_dict().items()}
    for x, y in ((with_nan(X), Y), (X, Y + 1), (X[:0], Y[:0])):
        with pytest.raises(ConfigError):
            criterion(x, y)
    assert criterion.step == 0 and all(torch.equal(v, before[k]) for k, v in network.state_dict().items())
    criterion(X, Y)
    assert criterion.step == 1


def test_masks_may_be_infinite_and_sizes_may_vary():
    class Pooled(nn.Module):
        def __init__(self):
            super().__init__()
            self.fc, self.out = nn.Linear(6, 8), nn.Linear(8, 5)

        def forward(self, tokens, mask):
            return self.out((self.fc(tokens) * mask.softmax(1)[..., None]).sum(1))

    masks = torch.zeros(4, 3).index_fill(1, torch.tensor([2]), -torch.inf)
    criterion = attach(Pooled(), SBA(omega=0.0), (torch.randn(4, 3, 6), masks), total_steps=5)
    assert criterion((torch.randn(4, 9, 6), torch.zeros(4, 9)), Y[:4]).isfinite()
