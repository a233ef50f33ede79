"""Slow, obvious reference versions of what is measured of a trained network; :mod:`oracles` has those of its training."""

import math

import numpy as np
from oracles import central_differences, softmax


def half_chi_square(z, z_virtual):
    """½ Σ_c (Y′ − Y)²/Y between softmax(z) and softmax(z′)."""
    return sum((v - y) ** 2 / y for y, v in zip(softmax(z), softmax(z_virtual), strict=True)) / 2


# ---------------------------------------------------------------------------------------------------------- calibration


def calibration(logits, labels, bins):
    """Counts, mean confidence and accuracy of bins of equal width, and the expected calibration error."""
    members = [[] for _ in range(bins)]
    for z, label in zip(logits, labels, strict=True):
        y = softmax(z)
        place = next((b for b in range(bins) if max(y) < (b + 1) / bins), bins - 1)
        members[place].append((max(y), y.index(max(y)) == label))
    counts = [len(m) for m in members]
    confidence = [sum(c for c, _ in m) / len(m) if m else 0.0 for m in members]
    accuracy = [sum(right for _, right in m) / len(m) if m else 0.0 for m in members]
    gaps = [abs(c - a) * n for c, a, n in zip(confidence, accuracy, counts, strict=True)]
    return counts, confidence, accuracy, sum(gaps) / len(logits)


def brier(z, label):
    """Squared distance of softmax(z) from the label's distribution."""
    return sum((y - (c == label)) ** 2 for c, y in enumerate(softmax(z)))


# ---------------------------------------------------------------------------------------------------------- robustness


def norm_of(values, norm):
    """Largest absolute value, or the root of the sum of squares."""
    return max(map(abs, values)) if norm == "inf" else math.sqrt(sum(v * v for v in values))


def climb(loss, image, radius, norm, steps, rate, start):
    """Projected gradient ascent on one image, a flat list of pixels in [0, 1], from image + start; slopes by differences of
    the loss, a function of such a list."""
    point = [min(max(x + s, 0.0), 1.0) for x, s in zip(image, start, strict=True)]
    for _ in range(steps):
        slopes = central_differences(loss, point)
        if norm == "inf":
            moved = [x + rate * math.copysign(1, g) if g else x for x, g in zip(point, slopes, strict=True)]
            moved = [x + min(max(m - x, -radius), radius) for x, m in zip(image, moved, strict=True)]
        else:
            length = norm_of(slopes, norm)
            moved = [x + rate * g / length for x, g in zip(point, slopes, strict=True)]
            away = norm_of([m - x for x, m in zip(image, moved, strict=True)], norm)
            shrink = min(1.0, radius / away)
            moved = [x + shrink * (m - x) for x, m in zip(image, moved, strict=True)]
        point = [min(max(m, 0.0), 1.0) for m in moved]
    return point


def best_margin(z, label):
    """How far the best wrong class is above the label's."""
    return max(v for c, v in enumerate(z) if c != label) - z[label]


def human_cross_entropy(people, logits):
    """Mean over images of −Σ_c p_c log softmax(z)_c, classes that nobody named left out."""
    total = 0.0
    for p, z in zip(people, logits, strict=True):
        total -= sum(share * math.log(y) for share, y in zip(p, softmax(z), strict=True) if share)
    return total / len(people)


def entropy(people):
    """Mean entropy of distributions in nats."""
    return -sum(share * math.log(share) for p in people for share in p if share) / len(people)


JPEG_TABLE = [
    [16, 11, 10, 16, 24, 40, 51, 61],
    [12, 12, 14, 19, 26, 58, 60, 55],
    [14, 13, 16, 24, 40, 57, 69, 56],
    [14, 17, 22, 29, 51, 87, 80, 62],
    [18, 22, 37, 56, 68, 109, 103, 77],
    [24, 35, 55, 64, 81, 104, 113, 92],
    [49, 64, 78, 87, 103, 121, 120, 101],
    [72, 92, 95, 98, 112, 100, 103, 99],
]


def jpeg_block(block, quality):
    """One grey block of 8×8 levels through JPEG's quantisation (ITU T.81, Annex K), scaled to a quality as libjpeg does."""
    scale = 5000 // quality if quality < 50 else 200 - 2 * quality

    def wave(frequency, place):
        return math.cos((2 * place + 1) * frequency * math.pi / 16) * (math.sqrt(0.5) if frequency == 0 else 1) / 2

    waves = np.array([[wave(f, p) for p in range(8)] for f in range(8)])
    table = np.clip((np.array(JPEG_TABLE) * scale + 50) // 100, 1, 255)
    kept = np.rint(waves @ (block - 128) @ waves.T / table) * table
    return np.clip(np.rint(waves.T @ kept @ waves) + 128, 0, 255)
