"""What is measured of a trained network under attack, corruption and noise, and how far its confidence can be believed.

At one seed all networks meet the same draws, so that methods can be compared pair by pair.
"""

import dataclasses
import functools
from collections.abc import Sequence
from typing import Any

import torch
from torch import Tensor

from sba.core.rng import fold_in
from sba.data import cifar10h
from sba.data.datasets import Data
from sba.data.in_memory import Split
from sba.measure.attacks import Attack, attacked, misclassified
from sba.measure.calibration import calibration
from sba.measure.corruptions import CORRUPTIONS, SEVERITIES, corrupt
from sba.measure.latent import shaken
from sba.methods import ERM
from sba.training.evaluation import logits
from sba.training.loop import Training
from sba.training.run import Run

SIGMAS = (0.25, 0.5, 1.0, 2.0)
"""Strengths of the noise at layers, in units of each feature's standard deviation."""
ATTACKED = 500
"""Images that are attacked, the first of those the run is evaluated on; everything else is measured on all."""
STEPS = 20
"""Steps of PGD."""
MANY_STEPS = 100
"""Steps of the PGD that checks whether more of them find more."""
TRIES = 20
"""Random draws of signs, of which one that fools the network is enough."""
OTHER_SEED = 1000
"""A network of another seed, this much higher, is attacked in the place of the network under test."""


def measured(training: Training, linf: Sequence[float], l2: Sequence[float], checked: float) -> dict[str, Any]:
    """Measure a finished run; all errors are in per cent of the images.

    Args:
        training: finished.
        linf: radii of ℓ∞ balls, in units of the pixels' range.
        l2: of ℓ2 balls.
        checked: the ℓ∞ radius of :func:`checks`.

    Returns:
        What JSON holds. ``attacked``, the number of attacked images, and ``clean``, the error on these. ``attacks``: for "fgsm",
        "pgd-inf" and "pgd-2" the ``radii`` and the ``error``. ``checks``. ``corruptions``: name → error at severities 1 to 5.
        ``latent``: layer → ``sigmas``, ``error`` and ``divergence`` in nats. ``calibration``, as in the study of ω × η.
        ``human``, if CIFAR-10H lies beside CIFAR-10: ``cross_entropy`` and ``divergence`` in nats.
    """
    run, data, network = training.run, training.data, training.network
    seed, few = fold_in(run.seed, "robustness"), dataclasses.replace(data, test=data.resident[1][:ATTACKED])
    scores = logits(network, data)
    kinds = {
        "fgsm": [Attack(r, steps=0) for r in linf],
        "pgd-inf": [Attack(r, "inf", STEPS) for r in linf],
        "pgd-2": [Attack(r, "2", STEPS) for r in l2],
    }
    found = {
        "attacked": len(few.test),
        "clean": percent(scores[: len(few.test)].argmax(1) != few.test.labels),
        "attacks": {
            kind: {"radii": [a.radius for a in found], "error": [percent(errs(training, few, a)) for a in found]}
            for kind, found in kinds.items()
        },
        "checks": checks(training, few, checked),
        "corruptions": {
            name: [corrupted(training, name, severity, seed) for severity in range(1, SEVERITIES + 1)]
            for name in CORRUPTIONS
        },
        "latent": {layer: noise_at(training, layer, seed) for layer in ("input", *network.linear_inputs)},
        "calibration": calibration(scores, data.test.labels),
    }
    if data.name == "cifar10" and data.evaluated_on == "test" and cifar10h.find(data.root):
        people = cifar10h.read(data.root).to(scores.device)
        found["human"] = {
            "cross_entropy": round(cifar10h.cross_entropy(people, scores), 5),
            "divergence": round(cifar10h.divergence(people, scores), 5),
        }
    return found


def percent(wrong: Tensor) -> float:
    """Return the share of true values in per cent."""
    return round(100 * wrong.double().mean().item(), 3)


def errs(training: Training, data: Data, attack: Attack) -> Tensor:
    """Say which images of ``data`` the network errs on after an attack on it: booleans of shape (N,)."""
    images = attacked(training.network, data, attack, fold_in(training.run.seed, "attack"))
    return misclassified(training.network, data, images)


def checks(training: Training, data: Data, radius: float) -> dict[str, float]:
    """Attack otherwise at one ℓ∞ radius: if something weaker beats PGD, PGD was fooled (Carlini et al., 2019).

    Returns:
        ``radius``, and errors: ``more_steps`` (:data:`MANY_STEPS` in place of :data:`STEPS`), ``margin`` (PGD up the margin),
        ``worst`` (any of PGD, these two), ``random`` (any of :data:`TRIES` draws of pixels moved by ±radius), and, if a second
        training is cheap, ``transfer``: images made for plain training of another seed.
    """
    run, network = training.run, training.network
    plain = errs(training, data, Attack(radius, "inf", STEPS))
    more = errs(training, data, Attack(radius, "inf", MANY_STEPS))
    margin = errs(training, data, Attack(radius, "inf", STEPS, "margin"))
    pixels = data.resident[1].images / 255
    generator = torch.Generator(pixels.device).manual_seed(fold_in(run.seed, "tries"))
    random = torch.zeros_like(plain)
    for _ in range(TRIES):
        sign = 2 * torch.randint(2, pixels.shape, generator=generator, device=pixels.device) - 1
        random |= misclassified(network, data, (pixels + radius * sign).clamp(0, 1))
    found = {"more_steps": more, "margin": margin, "worst": plain | more | margin, "random": random}
    if data.name == "digits":
        other = surrogate(dataclasses.replace(run, method=ERM(), cutout=0, seed=run.seed + OTHER_SEED))
        images = attacked(other.network, data.to(other.device), Attack(radius, "inf", STEPS))
        found["transfer"] = misclassified(network, data, images.to(pixels.device))
    return {"radius": radius} | {name: percent(wrong) for name, wrong in found.items()}


@functools.lru_cache(maxsize=2)
def surrogate(run: Run) -> Training:
    """Train a network to be attacked in the place of others; it is kept for the methods of the same seed."""
    training = Training(run)
    for _ in training:
        pass
    return training


def corrupted(training: Training, name: str, severity: int, seed: int) -> float:
    """Return the error on corrupted images, all of those that are evaluated on."""
    data, (_, test) = training.data, training.data.resident
    generator = torch.Generator(test.labels.device).manual_seed(seed)
    split = Split(corrupt(test.images, name, severity, generator), test.labels)
    return percent(logits(training.network, dataclasses.replace(data, test=split)).argmax(1) != split.labels)


def noise_at(training: Training, layer: str, seed: int) -> dict[str, list[float]]:
    """Return error and mean divergence under noise of every strength at a layer."""
    found = [shaken(training.network, training.data, layer, sigma, seed) for sigma in SIGMAS]
    return {
        "sigmas": list(SIGMAS),
        "error": [round(error, 3) for error, _ in found],
        "divergence": [float(f"{divergence:.5g}") for _, divergence in found],
    }
