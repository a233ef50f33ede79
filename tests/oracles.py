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


def batch_variance(rows):
    """Of each feature over the rows, divided by their number."""
    columns = list(zip(*rows, strict=True))
    means = [sum(c) / len(c) for c in columns]
    return [sum((v - m) ** 2 for v in c) / len(c) for c, m in zip(columns, means, strict=True)]


def running_spread(batches, momentum):
    """Root of the average of the batches' variances with weights that fall geometrically into the past and add up to one."""
    weights = [(1 - momentum) ** age for age in range(len(batches))][::-1]
    variances = [batch_variance(rows) for rows in batches]
    return [
        math.sqrt(sum(w * v[a] for w, v in zip(weights, variances, strict=True)) / sum(weights))
        for a in range(len(variances[0]))
    ]


def batch_norm(rows, mean, variance, weight, bias, eps):
    return [
        [w * (v - m) / math.sqrt(s + eps) + b for v, m, s, w, b in zip(row, mean, variance, weight, bias, strict=True)]
        for row in rows
    ]


def winner(distributions):
    """Class of the most votes of one image; among equals the one with the highest mean probability, then the first."""
    classes = range(len(distributions[0]))
    votes = [max(classes, key=d.__getitem__) for d in distributions]
    return max(classes, key=lambda c: (votes.count(c), sum(d[c] for d in distributions)))


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


def vgg16_parameters(classes, hidden=(4096, 4096), beside=2):
    """``beside`` the weights, each channel has two numbers of batch normalisation, or one bias."""
    widths = [3, 64, 64, 128, 128, 256, 256, 256, 512, 512, 512, 512, 512, 512]
    convolutions = sum(9 * i * o + beside * o for i, o in itertools.pairwise(widths))
    return convolutions + linear_parameters(512, *hidden, classes)


def resnet_parameters(classes, depth, projections=False):
    """One convolution, then n blocks of two convolutions at 16, 32 and 64 channels; each followed by 2 numbers per channel."""
    blocks = (
        (depth - 2) // 3 * (16 * 16 * 9 + 32 * 32 * 9 + 64 * 64 * 9 + 2 * (16 + 32 + 64)) - 16 * 32 * 9 - 32 * 64 * 9
    )
    shortcuts = 16 * 32 + 2 * 32 + 32 * 64 + 2 * 64 if projections else 0
    return 3 * 16 * 9 + 2 * 16 + blocks + shortcuts + linear_parameters(64, classes)


def linear_parameters(*widths):
    return sum((i + 1) * o for i, o in itertools.pairwise(widths))


# ----------------------------------------------------------------------------------------------------------- relatives


def soft_cross_entropy(logits, targets):
    """−Σ_c t_c log Y_c, averaged over rows."""
    rows = (
        sum(-t * math.log(y) for t, y in zip(t, softmax(z), strict=True)) for z, t in zip(logits, targets, strict=True)
    )
    return sum(rows) / len(logits)


def smoothed(labels, classes, epsilon):
    """(1 − ε) 1_y + ε/C."""
    return [[(1 - epsilon) * (c == y) + epsilon / classes for c in range(classes)] for y in labels]


def r_drop(first, second, labels, alpha):
    """Half of Eq. 4 of Liang et al.: −log Y₁[y] − log Y₂[y] + α/2 [KL(Y₁ ‖ Y₂) + KL(Y₂ ‖ Y₁)], averaged over rows."""
    loss = 0.0
    for a, b, y in zip(first, second, labels, strict=True):
        loss -= math.log(softmax(a)[y]) + math.log(softmax(b)[y])
        loss += alpha / 2 * (divergence(a, b) + divergence(b, a))
    return loss / 2 / len(labels)


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


# ---------------------------------------------------------------------------------------------------------- closed form


def linear(weight, bias, h):
    return [b + sum(w * x for w, x in zip(row, h, strict=True)) for row, b in zip(weight, bias, strict=True)]


def log_sum_exp(z):
    return max(z) + math.log(sum(math.exp(v - max(z)) for v in z))


def dropout_law(h, rate, rescale):
    """Eq. 8: every mask's probability and point, all 2^Q of them."""
    for mask in itertools.product((0, 1), repeat=len(h)):
        kept = sum(mask)
        yield (
            (1 - rate) ** kept * rate ** (len(h) - kept),
            [b * x / (1 - rate) if rescale else b * x for b, x in zip(mask, h, strict=True)],
        )


def gaussian_law(h, spread, sigma, tau, bound, nodes=40):
    """Eq. 7 with Σ = I as probabilities and points, by Gaussian quadrature in each feature; tau is in multiples of σ."""
    if bound == "none":
        places, shares = np.polynomial.hermite_e.hermegauss(nodes)
        shares = shares / shares.sum()
    else:
        places, shares = np.polynomial.legendre.leggauss(nodes)
        places, shares = places * tau, shares * tau * np.exp(-((places * tau) ** 2) / 2) / math.sqrt(2 * math.pi)
        if bound == "truncate":
            shares = shares / shares.sum()
        else:
            tail = math.erfc(tau / math.sqrt(2)) / 2
            places, shares = np.append(places, [-tau, tau]), np.append(shares, [tail, tail])
    for chosen in itertools.product(range(len(places)), repeat=len(h)):
        yield (
            math.prod(shares[i] for i in chosen),
            [x + s * sigma * places[i] for x, s, i in zip(h, spread, chosen, strict=True)],
        )


def expectation(value, law):
    return sum(probability * value(point) for probability, point in law)


def fisher_trace(z, weight, covariance):
    """½ tr(F W C Wᵀ) with F = diag(Y) − Y Yᵀ."""
    y, classes, width = softmax(z), len(z), len(covariance)
    total = 0.0
    for c in range(classes):
        for d in range(classes):
            fisher = (y[c] if c == d else 0.0) - y[c] * y[d]
            for a in range(width):
                for b in range(width):
                    total += fisher * weight[d][a] * covariance[a][b] * weight[c][b]
    return total / 2


def jensen_bound(z, weight, log_mgf, anchor):
    """log E Σ_c e^{z_c + (w_c − anchor)ᵀδ} − lse(z), where log_mgf(q, a) = log E e^{a δ_q}."""
    exponents = [v + sum(log_mgf(q, w - a) for q, (w, a) in enumerate(zip(row, anchor, strict=True))) for v, row in
                 zip(z, weight, strict=True)]  # fmt: skip
    return log_sum_exp(exponents) - log_sum_exp(z)


def mean_row(z, weight):
    """w̄ = Σ_c Y_c w_c."""
    return [sum(y * row[q] for y, row in zip(softmax(z), weight, strict=True)) for q in range(len(weight[0]))]


# ------------------------------------------------------------------------------------------------------------- gradient


def central_differences(function, point, step=1e-5):
    """Gradient of a function of a list of numbers, one coordinate at a time; its error is of order step²."""
    slopes = []
    for i in range(len(point)):
        above, below = list(point), list(point)
        above[i] += step
        below[i] -= step
        slopes.append((function(above) - function(below)) / (2 * step))
    return slopes
