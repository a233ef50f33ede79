"""The playground's arithmetic is the package's: the same weights, batches and draws give the same network."""

import itertools
import json
import math

import numpy as np
import pytest
import torch
from scipy.stats import kstest
from sklearn.datasets import make_circles, make_moons

import sba
from sba.core.rng import Step
from sba.core.updates import joint
from sba.models.small import mlp

widgets = pytest.importorskip("sba.book.widgets", reason="the book's packages are missing: pip install -e '.[book]'")

WIDTHS, BATCH, STEPS, SEED = (2, 6, 5, 3), 8, 50, 3
LAYERS = ("flatten", "fc1", "fc2")
CASES = [
    {"layers": (0,)},
    {"layers": (1,)},
    {"layers": (2,)},
    {"layers": (0, 1, 2)},
    {"layers": (1,), "label": "hard"},
    {"layers": (0,), "label": "hard", "gaussian_share": 1.0, "momentum": 0.0},
    {"layers": (2,), "gaussian_share": 0.0, "dropout_rate": 0.3},
    {"layers": (1,), "gaussian_share": 1.0, "sigma": 1.0, "tau": 0.5},
    {"layers": (1, 2), "gaussian_share": 0.25, "eta": 10.0, "rate": 0.02},
    {"layers": (0, 2), "folds": 1, "omega": 1.0},
    {"layers": (1,), "eta": 0.0},
    {"layers": (2,), "omega": math.pi / 2, "momentum": 0.0},
]
TRAIN = """async ([text, cases]) => {
  const address = URL.createObjectURL(new Blob([text], { type: "text/javascript" }));
  const { perceptron, step } = await import(address);
  return cases.map(({ widths, weights, batches, draws, settings }) => {
    const numbers = weights.flatMap(([weight, bias]) => [weight, bias]);
    const model = perceptron(widths, () => 0);
    model.layers.forEach(({ values }, k) => values.forEach((array, part) => array.set(numbers[2 * k + part])));
    const terms = batches.map(([x, labels], t) => {
      const { coin, layer, ...arrays } = draws[t];
      const vicinity = () => Object.fromEntries(Object.entries(arrays).map(([k, v]) => [k, Float64Array.from(v)]));
      return step(model, { x: Float64Array.from(x), labels }, settings, { coin, layer, vicinity });
    });
    return { terms, weights: model.layers.map(({ values }) => values.map((array) => Array.from(array))) };
  });
}"""


@pytest.fixture
def double():
    """Draws and weights in double precision, as JavaScript has them."""
    torch.set_default_dtype(torch.float64)
    yield
    torch.set_default_dtype(torch.float32)


@pytest.fixture(scope="module")
def evaluate(browser):
    page = browser.new_page()
    yield page.evaluate
    page.close()


def draws_of(method, now, network):
    """What the package draws in a step, in the order of `Vicinity.sample`: from the same generator, without the method."""
    width = math.prod(network.shape(method.augmented_layer(network, now) or "flatten"))
    generator, vicinity = now.generator("vicinity"), method.vicinity
    arrays = {"entries": torch.empty(0), "standard": torch.empty(0), "uniform": torch.empty(0)}
    if vicinity.gaussian:
        arrays["entries"] = torch.randn(width, width, generator=generator)
        arrays["standard"] = torch.randn(vicinity.gaussian, BATCH, width, generator=generator)
    if vicinity.dropout:
        arrays["uniform"] = torch.rand(vicinity.dropout, BATCH, width, generator=generator)
    flat = {name: array.flatten().tolist() for name, array in arrays.items()}
    return flat | {"coin": now.uniform("scheduler"), "layer": now.uniform("layer")}


def trained(layers, rate=0.1, momentum=0.9, **given):
    """Train a network with the package; return what JavaScript needs to do the same, and the outcome."""
    given = {"omega": 0.6, "eta": 1.0, "folds": 5, "gaussian_share": 0.5, **given}
    method = sba.SBA(layers=tuple(LAYERS[k] for k in layers), **given)
    torch.manual_seed(SEED)
    network = mlp(WIDTHS[-1], WIDTHS[0], WIDTHS[1:-1]).train()
    network.input_shape = (2, 1, 1)
    linear = [m for m in network.modules() if isinstance(m, torch.nn.Linear)]
    values = lambda: [[p.flatten().tolist() for p in (m.weight, m.bias)] for m in linear]  # noqa: E731
    settings = method.settings() | {"layers": layers, "rate": rate, "momentum": momentum}
    case = {"widths": WIDTHS, "weights": values(), "settings": settings, "batches": [], "draws": []}
    optimizer = torch.optim.SGD(network.parameters(), lr=rate, momentum=momentum)
    terms = []
    for t in range(STEPS):
        now = Step(SEED, step=t)
        x, y = torch.randn(BATCH, 2, 1, 1), torch.randint(WIDTHS[-1], (BATCH,))
        case["batches"].append([x.flatten().tolist(), y.tolist()])
        case["draws"].append(draws_of(method, now, network))
        found = joint([lambda x=x, y=y, now=now: method.terms(network, x, y, now, None)], optimizer)
        terms.append({name: term.item() for name, term in found.items()})
    return case, values(), terms


def test_the_same_weights_batches_and_draws_give_the_same_network(evaluate, double):
    assert len(CASES) == 12
    cases, weights, terms = zip(*(trained(**case) for case in CASES), strict=True)
    assert sum("virtual" in step for step in terms[0]) > 30
    assert not any("virtual" in step for step in [*terms[10], *terms[11]])
    found = evaluate(TRAIN, [widgets.module_text("perceptron"), json.loads(json.dumps(cases))])
    for case, own, theirs, steps in zip(CASES, found, weights, terms, strict=True):
        for mine, other in zip(itertools.chain(*own["weights"]), itertools.chain(*theirs), strict=True):
            np.testing.assert_allclose(mine, other, rtol=0, atol=1e-9, err_msg=str(case))
        for name in ("cross_entropy", "virtual"):
            mine, other = [one[name] for one in own["terms"]], [one.get(name, 0.0) for one in steps]
            np.testing.assert_allclose(mine, other, rtol=1e-7, atol=1e-10, err_msg=f"{name} of {case}")


# --------------------------------------------------------------------------------------------------------------- draws


CALL = """async ([text, calls]) => {
  const module = await import(URL.createObjectURL(new Blob([text], { type: "text/javascript" })));
  const read = (given) => (given?.floats ? Float64Array.from(given.floats) : given);
  return calls.map(([name, ...given]) => {
    const found = module[name](...given.map(read));
    return ArrayBuffer.isView(found) ? Array.from(found) : found.x ? { ...found, x: Array.from(found.x) } : found;
  });
}"""


@pytest.fixture(scope="module")
def call(evaluate):
    return lambda module, *calls: evaluate(CALL, [widgets.module_text(module), [list(one) for one in calls]])


def philox(counter, key):
    """Philox4x32-10 with Python's long integers (Salmon et al., 2011, section 4.3)."""
    (a, b, c, d), (k, l) = counter, key  # noqa: E741
    for _ in range(10):
        p, q = 0xD2511F53 * a, 0xCD9E8D57 * c
        a, b, c, d = (q >> 32) ^ b ^ k, q % 2**32, (p >> 32) ^ d ^ l, p % 2**32
        k, l = (k + 0x9E3779B9) % 2**32, (l + 0xBB67AE85) % 2**32  # noqa: E741
    return [a, b, c, d]


def test_the_generator_gives_the_published_words(call):
    """Of the known answers of Random123, `kat_vectors`; and of any counter those of long integers."""
    known = {
        ((0, 0, 0, 0), (0, 0)): [0x6627E8D5, 0xE169C58D, 0xBC57AC4C, 0x9B00DBD8],
        ((0xFFFFFFFF,) * 4, (0xFFFFFFFF,) * 2): [0x408F276D, 0x41C83B0E, 0xA20BC7C6, 0x6D5451FD],
        ((0x243F6A88, 0x85A308D3, 0x13198A2E, 0x03707344), (0xA4093822, 0x299F31D0)): [
            0xD16CFE09, 0x94FDCCEB, 0x5001E420, 0x24126EA1,
        ],
    }  # fmt: skip
    words = np.random.default_rng(0).integers(2**32, size=(200, 6)).tolist()
    cases = [*known, *((tuple(row[:4]), tuple(row[4:])) for row in words)]
    found = call("philox", *(["philox", counter, key] for counter, key in cases))
    assert found == [philox(*case) for case in cases] and found[: len(known)] == list(known.values())


def test_draws_have_their_laws_and_belong_to_their_step(call):
    names = ("uniforms", "normals")
    asked = [[name, seed, purpose, 7, 3001] for name in names for seed in (0, 1) for purpose in ("normal", "mask")]
    found = np.array(call("philox", *asked))
    for rows in (found[:4], found[4:]):
        assert np.abs(np.corrcoef(rows) - np.eye(4)).max() < 0.06  # √3001 · 0.06 is 3.3
    for row, (name, *_) in zip(found, asked, strict=True):
        assert kstest(row, {"uniforms": "uniform", "normals": "norm"}[name]).pvalue > 1e-3
    first, again, later, order = call(
        "philox", *(["uniforms", 0, "order", t, 9] for t in (1, 1, 2)), ["permutation", 0, "order", 1, 9]
    )
    assert first == again != later and order == np.argsort(first).tolist()


def test_clouds_are_those_of_scikit_learn(call):
    """Without noise, at the places where scikit-learn puts its points: half moons in the middle, and circles of our radii."""
    n = 40
    along = np.repeat(np.linspace(0, 1, n // 2), 2)
    ends = np.repeat(np.linspace(0, 1, n // 2, endpoint=False), 2)
    noise = np.random.default_rng(0).standard_normal(2 * n)
    call_of = lambda name, t, s: ["cloud", name, {"floats": t.tolist()}, {"floats": noise.tolist()}, s]  # noqa: E731
    moons, circles, moved = call(
        "clouds", call_of("two moons", along, 0), call_of("circles", ends, 0), call_of("circles", ends, 0.5)
    )
    points, labels = make_moons(n, shuffle=False)
    for c in (0, 1):
        own = np.array(moons["x"]).reshape(-1, 2)[c::2]
        np.testing.assert_allclose(own, points[labels == c] - (0.5, 0.25), atol=1e-12)
    points, labels = make_circles(n, shuffle=False, factor=0.5)
    for c, radius in ((0, 1.3), (1, 1.0)):
        np.testing.assert_allclose(
            np.array(circles["x"]).reshape(-1, 2)[c::2], radius * points[labels == c], atol=1e-12
        )
    np.testing.assert_allclose(np.array(moved["x"]) - circles["x"], 0.5 * noise, atol=1e-12)
    assert moons["labels"] == circles["labels"] == [0, 1] * (n // 2)
