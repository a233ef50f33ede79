"""The paper's rule at test time: the majority vote of the raw prediction and its virtual points' (§3.4, open point 22).

It is a form of test-time augmentation that any network can use, so it is measured for baselines, too.
"""

import math
from collections.abc import Iterable

import torch
import torch.nn.functional as F
from torch import Tensor

from sba.core.method import sample_layer
from sba.core.rng import Step
from sba.core.staged import Staged
from sba.data.datasets import Data
from sba.data.in_files import Views
from sba.data.in_memory import Split
from sba.methods import SBA
from sba.models.registry import evaluating
from sba.training.evaluation import EVALUATION_BATCH, Evaluation
from sba.training.loop import Training


def winners(predictions: Tensor) -> Tensor:
    """Return the classes, of shape (B,), with the most votes, among equals those with the highest mean probability, from
    distributions of shape (voters, B, C)."""
    votes = F.one_hot(predictions.argmax(-1), predictions.shape[-1]).sum(0)
    # a mean probability is at most 1, so half of it decides between equals only
    return (votes + predictions.mean(0) / 2).argmax(-1)


LIMIT = 2**27
"""Most numbers in the virtual points of a batch: half a GiB in float32."""


@torch.no_grad()
def majority_vote(network: Staged, data: Data, method: SBA, seed: int = 0) -> Evaluation:
    """Evaluate by the vote of 1 + M predictions per image; for each batch of images a layer is drawn from S, as in training. The
    error is that of the vote, the likelihood that of the mean of the 1 + M distributions.

    Args:
        network: on the data's device; its mode is put back after evaluation mode.
        data: whose ``test`` is evaluated on.
        method: whose vicinity and layers are used (:meth:`sba.core.method.Method.voting_vicinity`); η and ω play no part.
        seed: of the virtual points.
    """
    layers = method.eligible(network)
    widest = max(math.prod(network.shape(layer)) for layer in layers) if network.input_shape else 1
    # the standard deviation over such a batch is the unit of σ
    batch = max(1, min(EVALUATION_BATCH, LIMIT // (method.folds * widest)))
    wrong, nll, n, skipped = 0.0, 0.0, 0, 0
    parts: Iterable[Split | Views] = data.test.parts(batch)
    with evaluating(network):
        for step, part in enumerate(parts):
            now, labels = Step(seed, step), part.labels
            layer = sample_layer(layers, now)
            h = network(data.normalised(part.images), until=layer)
            points = method.virtual_points(h, now.generator("vote", h.device))
            voters = torch.cat([network(rows, after=layer).float() for rows in (h, *points.split(len(h)))])
            predictions = voters.log_softmax(-1).unflatten(0, (-1, len(h)))
            wrong += (winners(predictions.exp()) != labels).sum().item()
            mean_log = predictions.logsumexp(0) - math.log(len(predictions))
            nll += F.nll_loss(mean_log, labels, reduction="sum").item()
            n, skipped = n + len(part), skipped + part.skipped
    return Evaluation(100 * wrong / n, nll / n, n, skipped=skipped)


def check_vote(training: Training) -> None:
    """Raise :class:`sba.core.errors.ConfigError` if the network of a training cannot hold a vote: asked before it is trained."""
    training.run.method.voting_vicinity().check(training.network)


def vote_error(training: Training) -> float:
    """Return the error of the majority vote of a finished training, in per cent."""
    run = training.run
    with training.precision():
        return majority_vote(training.network, training.data, run.method.voting_vicinity(), run.seed).error
