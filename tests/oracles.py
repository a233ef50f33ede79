"""Slow, obvious reference versions, written from the papers with plain loops in float64; nothing of the library is used here."""

import itertools
import math

import numpy as np
import torch
import torch.nn.functional as F

# ---------------------------------------------------------------------------------------------- vicinity and divergence


def softmax(z):
    powers = [math.exp(v - max(z)) for v in z]
    return [p / sum(powers) for p in powers]


def divergence(z, z_virtual):
    """D_KL(softmax(z) ‖ softmax(z′)) in nats."""
    return sum(y * math.log(y / v) for y, v in zip(softmax(z), softmax(z_virtual), strict=True))


def gaussian_points(h, matrix, noise, scale):
    """Eq. 7 for (p, B, Q): x_kj = x_k + s ⊙ (Σ ε_kj), with the matrix product written out."""
    folds, batch, width = noise.shape
    out = np.empty(noise.shape)
    for j in range(folds):
        for i in range(batch):
            for a in range(width):
                moved = sum(matrix[a, b] * noise[j, i, b] for b in range(width))
                out[j, i, a] = h[i, a] + scale[a] * moved
    return out


def dropout_points(h, keep, rate, rescale):
    """Eq. 8 for (q, B, Q)."""
    out = np.zeros(keep.shape)
    for j, i, a in np.ndindex(*keep.shape):
        if keep[j, i, a]:
            out[j, i, a] = h[i, a] / (1 - rate) if rescale else h[i, a]
    return out


def cross_entropy(logits, labels):
    return sum(-math.log(softmax(z)[y]) for z, y in zip(logits, labels, strict=True)) / len(labels)


def hard_loss(virtual, labels):
    """Eq. 9, averaged: row j·B + i is virtual point j of sample i."""
    batch = len(labels)
    return sum(-math.log(softmax(z)[labels[row % batch]]) for row, z in enumerate(virtual)) / len(virtual)


def soft_loss(logits, virtual):
    """Eq. 10 and the second sum of Eq. 11: 1/(M·B) Σ_i Σ_j D_KL(Y_i ‖ Y_ij)."""
    batch = len(logits)
    folds = len(virtual) // batch
    total = 0.0
    for i in range(batch):
        for j in range(folds):
            total += divergence(logits[i], virtual[j * batch + i])
    return total / (folds * batch)


def objective(logits, labels, virtual, eta):
    """Eq. 11 at λ(t) = 1."""
    return cross_entropy(logits, labels) + eta * soft_loss(logits, virtual)


# --------------------------------------------------------------------------------------------------------- augmentation


def crop(image, top, left, padding):
    """Window of the image's own size out of the image on black, pixel by pixel."""
    _, height, width = image.shape
    out = np.zeros_like(image)
    for r in range(height):
        for c in range(width):
            row, column = r + top - padding, c + left - padding
            if 0 <= row < height and 0 <= column < width:
                out[:, r, c] = image[:, row, column]
    return out


def cutout(image, row, column, length):
    """DeVries and Taylor's loop: [c − L/2, c + L/2) in both directions, clipped to the image."""
    _, height, width = image.shape
    out = image.copy()
    for r in range(max(0, row - length // 2), min(height, row + length // 2)):
        for c in range(max(0, column - length // 2), min(width, column + length // 2)):
            out[:, r, c] = 0
    return out


def mean_covered(side, length):
    """Expected number of pixels of a line of ``side`` that an interval of even ``length`` with a uniform centre covers."""
    half = length // 2
    assert length % 2 == 0 and half <= side
    # The left half loses 0 + 1 + … + half at the near border, the right half 0 + 1 + … + (half − 1) at the far one.
    return length - (half * (half + 1) / 2 + half * (half - 1) / 2) / side


# ------------------------------------------------------------------------------------------------------------- networks


def alexnet_parameters(classes, hidden=()):
    convolutions = [(3, 64, 11), (64, 192, 5), (192, 384, 3), (384, 256, 3), (256, 256, 3)]
    return sum((i * k * k + 1) * o for i, o, k in convolutions) + linear_parameters(256, *hidden, classes)


def vgg16_parameters(classes, hidden=(4096, 4096)):
    widths = [3, 64, 64, 128, 128, 256, 256, 256, 512, 512, 512, 512, 512, 512]
    return sum(9 * i * o + 2 * o for i, o in itertools.pairwise(widths)) + linear_parameters(512, *hidden, classes)


def resnet44_parameters(classes, projections):
    """One convolution, then 7 blocks of two convolutions at 16, 32 and 64 channels; each followed by 2 numbers per channel."""
    blocks = 14 * (16 * 16 * 9 + 32 * 32 * 9 + 64 * 64 * 9 + 2 * (16 + 32 + 64)) - 16 * 32 * 9 - 32 * 64 * 9
    shortcuts = 16 * 32 + 2 * 32 + 32 * 64 + 2 * 64 if projections else 0
    return 3 * 16 * 9 + 2 * 16 + blocks + shortcuts + linear_parameters(64, classes)


def linear_parameters(*widths):
    return sum((i + 1) * o for i, o in itertools.pairwise(widths))


# ------------------------------------------------------------------------------------------------------------- training


def plain_training(network, batches, rates, momentum, weight_decay, nesterov):
    """Stochastic gradient descent as in a textbook: one batch (x, y) and one rate per step; returns each step's cross-entropy."""
    parameters = list(network.parameters())
    velocities = [torch.zeros_like(p) for p in parameters]
    losses = []
    network.train()
    for (x, y), rate in zip(batches, rates, strict=True):
        loss = F.cross_entropy(network(x), y)
        gradients = torch.autograd.grad(loss, parameters)
        with torch.no_grad():
            for p, v, g in zip(parameters, velocities, gradients, strict=True):
                g = g + weight_decay * p
                v.mul_(momentum).add_(g)
                p.sub_(rate * (g + momentum * v if nesterov else v))
        losses.append(loss.item())
    return losses


def evaluation(network, images, labels, mean, std):
    """Error in per cent and mean negative log-likelihood, image by image."""
    wrong, nll = 0, 0.0
    for image, label in zip(images.numpy(), labels.tolist(), strict=True):
        x = (image / 255 - np.reshape(mean, (-1, 1, 1))) / np.reshape(std, (-1, 1, 1))
        z = network(torch.tensor(x[None], dtype=torch.float32))[0].tolist()
        wrong += max(range(len(z)), key=z.__getitem__) != label
        nll -= math.log(softmax(z)[label])
    return 100 * wrong / len(labels), nll / len(labels)
