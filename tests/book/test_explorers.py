"""The explorers compute in the browser what the package computes, in double precision; their controls are the definitions'."""

import math
import subprocess
import sys
import time

import numpy as np
import pytest
import torch
from helpers import bounds
from scipy.stats import norm

import sba
from sba.core.bases import Dense
from sba.core.divergence import kl, sba_objective
from sba.core.errors import ConfigError
from sba.core.hyper import definitions
from sba.core.rng import uniform
from sba.core.scheduler import PURPOSE, probability
from sba.core.vicinity import bounded_noise, dropout_points, gaussian_points
from sba.methods import METHODS
from sba.models.flops import Counted, multiply_adds, share_behind, step_cost
from sba.records.file import book_folder, read
from sba.records.names import facts
from sba.studies.omega_eta import PROBLEMS

widgets = pytest.importorskip("sba.book.widgets", reason="the book's packages are missing: pip install -e '.[book]'")
from sba.book import explore  # noqa: E402

OMEGAS = [0.0, 0.3, math.pi / 6, math.pi / 3, 1.5, math.pi / 2]


def test_importing_the_package_needs_no_widgets():
    code = "import sys, sba; sys.exit(any(name in sys.modules for name in ('ipywidgets', 'anywidget')))"
    assert subprocess.run([sys.executable, "-c", code], check=False).returncode == 0


# ------------------------------------------------------------------------------------------------------------- controls


@pytest.mark.parametrize("cls", METHODS.values(), ids=METHODS)
def test_a_slider_stays_within_the_definition_and_reaches_its_default(cls):
    for name, field in definitions(cls).items():
        if facts(cls, name)["slider"] is None:
            continue
        low, high, step = facts(cls, name)["slider"]
        least, most = bounds(field)
        assert (least is None or low >= least) and (most is None or high <= most), name
        start, scale = field.default, math.log10 if facts(cls, name)["log"] else float
        steps = (scale(start) - scale(low)) / step
        assert low <= start <= high and abs(steps - round(steps)) < 1e-9, name
        steps = (scale(high) - scale(low)) / step
        assert abs(steps - round(steps)) < 1e-9, f"{name}: the end of its slider is no step"


def test_a_control_is_its_definition():
    omega = widgets.slider(sba.SBA, "omega")
    assert (omega.min, omega.max, omega.value) == (0, math.pi / 2, math.pi / 3)
    assert omega.description == "ω, rad" and omega.tooltip == facts(sba.SBA, "omega")["description"]
    eta = widgets.slider(sba.SBA, "eta", 1.0)
    assert (eta.value, eta.base**eta.min) == (1.0, facts(sba.SBA, "eta")["slider"][0])
    assert widgets.slider(sba.SBA, "basis").options == facts(sba.SBA, "basis")["choices"]
    assert isinstance(widgets.slider(sba.SBA, "folds").value, int)


def test_what_cannot_be_a_control_is_refused():
    with pytest.raises(ConfigError, match="layers: its definition has no slider; give it one"):
        widgets.slider(sba.SBA, "layers")
    with pytest.raises(ConfigError, match=r"options: .* repeat themselves"):
        widgets.choice("k", ["a", "a"])


def test_a_module_stands_alone_and_its_imports_are_in_it_once():
    for path in widgets.FOLDER.glob("*.js"):
        text = widgets.module_text(path.stem)
        assert "import {" not in text
        assert text.count("function panel(") <= 1
    assert "function panel(" in widgets.module_text("scheduler")


def test_an_explorer_brings_its_picture_and_its_text():
    data = explore.scheduler()._repr_mimebundle_()
    assert data["image/png"].startswith(b"\x89PNG") and data["text/plain"].startswith("Four panels")
    assert "application/vnd.jupyter.widget-view+json" in data


# ----------------------------------------------------------------------------------------------------------- scheduler


def test_the_stream_in_the_page_is_the_stream_of_training(call):
    draws = {seed: [uniform(seed, PURPOSE, t) for t in range(300)] for seed in (0, 3)}
    cases = [(seed, omega) for seed in draws for omega in OMEGAS]
    found = call("scheduler", *(["stream", draws[seed], omega] for seed, omega in cases))
    assert found == [sba.Scheduler(omega).stream(seed, 300).tolist() for seed, omega in cases]
    assert call("scheduler", *(["probability", omega] for omega in OMEGAS)) == [probability(omega) for omega in OMEGAS]


def test_runs_are_counted_without_the_ends(call):
    states = np.random.default_rng(0).random(500) < 0.7
    edges = np.flatnonzero(np.diff(np.concatenate([[False], states, [False]]).astype(int)))
    found = call("scheduler", ["runLengths", states.tolist()], ["runLengths", [False] * 5], ["runLengths", [True] * 5])
    assert found == [(edges[1::2] - edges[::2])[1:-1].tolist(), [], []]


def test_multiply_adds_are_those_of_the_layers():
    """Of a perceptron by hand; of ResNet-44 what is known of it, 97.2 million."""
    network = sba.build("mlp", 2, 2, 1)
    linear = [m for m in network.modules() if isinstance(m, torch.nn.Linear)]
    places = multiply_adds(network)
    assert places[0].layer == "input" and places[0].behind == sum(m.weight.numel() for m in linear)
    assert places[-1].behind == linear[-1].weight.numel() and places[-1].width == linear[-1].in_features
    assert network.training
    assert multiply_adds(sba.build("resnet44", 10, 3, 32))[0].behind == pytest.approx(97.2e6, rel=1e-3)


def test_the_cost_of_a_step(call):
    place = Counted("fc", 600.0, 64)
    costs = {"colnorm": 600 + 0.5 * 64**2, "hadamard": 600 + 0.5 * 64 * 6, "identity": 600}
    for basis, cost in costs.items():
        assert share_behind(place, 1e4, basis) == cost / 1e4
    assert step_cost(0.0, 32, 0.3) == 1 and step_cost(1.0, 4, 1.0) == 5
    assert call("scheduler", ["stepCost", 0.4, 7, 0.21]) == [step_cost(0.4, 7, 0.21)]
    with pytest.raises(ConfigError, match=r"basis \(Σ\): no cost is known for 'channel'"):
        share_behind(place, 1e4, "channel")


# ------------------------------------------------------------------------------------------------------------ vicinity


def test_the_normal_law_in_the_page(call):
    x = np.linspace(-6, 6, 241).tolist()
    u = [1e-6, 1e-4, 0.01, 0.0799, 0.0801, 0.3, 0.5, 0.77, 0.95, 0.999, 1 - 1e-6]
    np.testing.assert_allclose(call("points", *(["normalCdf", v] for v in x)), norm.cdf(x), rtol=1e-12)
    np.testing.assert_allclose(call("points", *(["normalQuantile", v] for v in u)), norm.ppf(u), rtol=1e-10, atol=1e-14)


@pytest.mark.parametrize("bound", ["clip", "truncate"])
@pytest.mark.parametrize(("sigma", "tau"), [(0.25, 0.5), (1.0, 0.3), (2.0, 8.0), (0.0, 0.0)])
def test_noise_is_bounded_as_the_package_does(call, bound, sigma, tau):
    u = torch.rand(200, dtype=torch.float64, generator=torch.Generator().manual_seed(1)).clamp(1e-6, 1 - 1e-6)
    (found,) = call("points", ["boundedNoise", u.tolist(), sigma, tau, bound])
    standard = torch.from_numpy(norm.ppf(u)) if bound == "clip" else u
    np.testing.assert_allclose(found, bounded_noise(standard, sigma, tau, bound), rtol=1e-9, atol=1e-12)


def test_virtual_points_are_those_of_the_equations(call):
    generator = torch.Generator().manual_seed(2)
    h, spread, matrix, noise, mask = (
        torch.randn(shape, dtype=torch.float64, generator=generator) for shape in ((5,), (5,), (5, 5), (7, 5), (7, 5))
    )
    u = mask.sigmoid()
    flat = [t.flatten().tolist() for t in (h, matrix, noise, spread, u)]
    found = call(
        "points",
        ["gaussianPoints", *flat[:4]],
        ["gaussianPoints", *flat[:3]],
        *(["dropoutPoints", flat[0], flat[4], 0.4, rescale] for rescale in (True, False)),
    )
    gaussian = [gaussian_points(h[None], Dense(matrix), noise[:, None], s)[:, 0] for s in (spread, None)]
    dropout = [dropout_points(h[None], u[:, None] >= 0.4, 0.4, rescale)[:, 0] for rescale in (True, False)]
    for ours, theirs in zip(found, [*gaussian, *dropout], strict=True):
        np.testing.assert_allclose(ours, theirs, rtol=1e-12, atol=1e-14)


def test_points_are_split_as_the_method_splits_them(call):
    cases = [(folds, share) for folds in (1, 5, 32) for share in (0.0, 0.1, 0.5, 0.75, 1.0)]
    found = call("points", *(["gaussianCount", folds, share] for folds, share in cases))
    assert found == [sba.SBA(folds=folds, gaussian_share=share).vicinity.gaussian for folds, share in cases]


def test_the_ends_of_a_view_and_its_middle_are_written_apart(call):
    """However small it is beside where it lies."""
    places = [(middle, 2.0**power) for middle in (1.39, -0.004, 23.7) for power in range(-10, 6)]
    wanted = [(at, size) for middle, size in places for at in (middle - size, middle, middle + size)]
    told = call("vicinity", *(["written", at, size] for at, size in wanted))
    assert all(len(set(told[i : i + 3])) == 3 for i in range(0, len(told), 3))
    for text, (at, size) in zip(told, wanted, strict=True):
        assert abs(float(text.replace("−", "-")) - at) <= size / 20


def test_a_view_zooms_with_the_cloud_by_factors_of_two(call):
    """It holds the cloud and is at most about twice as wide; a cloud that is no dot is seen with the others."""
    cloud, far = [[0.3, 1.0], [-0.02, 1.1]], [[9.0, 1.0]]
    small, both, alone, near = call(
        "vicinity", ["zoom", cloud, far, [0, 1]], ["zoom", [], far, [0, 1]], ["zoom", cloud, [], [0, 1]],
        ["zoom", cloud, [[1.0, 1.0]], [0, 1]],
    )  # fmt: skip
    assert small == alone == 0.5 and both == 16.0 and near == 2.0


# ---------------------------------------------------------------------------------------------------------- soft label


def test_the_divergence_in_the_page(call):
    generator = torch.Generator().manual_seed(3)
    z, v = (8 * torch.randn(40, 10, dtype=torch.float64, generator=generator) for _ in range(2))
    found = call("soft_label", *(["kl", a, b] for a, b in zip(z.tolist(), v.tolist(), strict=True)))
    np.testing.assert_allclose(found, kl(z, v), rtol=1e-12, atol=1e-14)
    huge = call("soft_label", ["kl", [1000.0, 0.0], [0.0, 1000.0]], ["kl", [3.0, 1.0], [3.0, 1.0]])
    assert huge == [1000.0, 0.0]


def test_the_two_terms_in_the_page_are_those_of_the_objective(call):
    """With the same draws: logits behind a linear layer, both kinds of points, Eq. 11 for a batch of one."""
    generator = torch.Generator().manual_seed(4)
    q, classes, folds, label, p = 6, 4, 8, 2, 3
    weight, bias, h, spread, matrix = (
        torch.randn(shape, dtype=torch.float64, generator=generator)
        for shape in ((classes, q), (classes,), (q,), (q,), (q, q))
    )
    u, masks = (torch.rand(folds, q, dtype=torch.float64, generator=generator) for _ in range(2))
    noise = bounded_noise(torch.from_numpy(norm.ppf(u[:p])), 0.5, 1.0)
    points = torch.cat(
        [
            gaussian_points(h[None], Dense(matrix), noise[:, None], spread)[:, 0],
            dropout_points(h[None], masks[p:, None] >= 0.3, 0.3, True)[:, 0],
        ]
    )
    raw, virtual = weight @ h + bias, points @ weight.T + bias
    terms = sba_objective(raw[None], torch.tensor([label]), virtual, 0.7)
    read = call(
        "soft_label",
        *(["logits", row, weight.flatten().tolist(), bias.tolist()] for row in [h.tolist(), *points.tolist()]),
    )
    np.testing.assert_allclose(read, torch.cat([raw[None], virtual]), rtol=1e-12, atol=1e-13)
    given = {"sample": {"label": label}, "z": read[0], "gaussian": read[1 : p + 1], "dropout": read[p + 1 :]}
    (found,) = call("soft_label", ["losses", given])
    assert found["ce"] == pytest.approx(terms["cross_entropy"].item(), rel=1e-12)
    assert 0.7 * found["kl"] == pytest.approx(terms["virtual"].item(), rel=1e-12)
    assert found["gaussian"] == pytest.approx(kl(raw, virtual[:p]).mean().item(), rel=1e-12)


# ---------------------------------------------------------------------------------------------------------- with a kernel


def test_a_box_that_needs_a_kernel_has_a_note_and_no_tooltip():
    """JupyterLab cannot draw a box that has one."""
    box = widgets.KernelOnly([], "make lab")
    assert (box.note, box.tooltip) == ("make lab", None)


@pytest.mark.parametrize("problem", ["digits", "moons"])
def test_train_here_trains_the_network_of_the_sliders(monkeypatch, problem):
    """The errors that the box draws are those of the same run trained by the package."""
    short = [settings | {"epochs": 3} for settings in PROBLEMS]
    monkeypatch.setattr(sba.book.explorers.omega_eta, "PROBLEMS", short)
    explorer = explore.omega_eta(read(book_folder()), problem, omega=0.2, eta=0.5)
    assert explorer.picture.own == {"problem": None, "errors": []}
    row, told = explorer.children[-1].children
    button, stop, progress = row.children
    button.click()
    deadline = time.monotonic() + 120
    while button.disabled and time.monotonic() < deadline:
        time.sleep(0.02)
    run = sba.make_run(**short[problem == "moons"], method="sba", omega=0.2, eta=0.5)
    errors = [record.error for record in sba.train(run)]
    assert explorer.picture.own == {"problem": int(problem == "moons"), "errors": errors}
    assert progress.value == progress.max == 3 and stop.disabled and "epoch 3" in told.value


@pytest.mark.parametrize("problem", ["digits", "moons"])
def test_train_here_stops_when_told(problem):
    explorer = explore.omega_eta(read(book_folder()), problem, omega=0.0, eta=0.1)
    row, told = explorer.children[-1].children
    button, stop, progress = row.children
    button.click()
    deadline = time.monotonic() + 120
    while len(explorer.picture.own["errors"]) < 2 and time.monotonic() < deadline and button.disabled:
        time.sleep(0.05)
    stop.click()
    while button.disabled and time.monotonic() < deadline:
        time.sleep(0.05)
    done = len(explorer.picture.own["errors"])
    assert done >= 2 and progress.value == done, told.value
    assert told.value.startswith(f"{explorer.picture.controls['problem'].label}, ω = 0.000, η = 0.1: epoch ")


def test_what_was_trained_here_is_shown_in_its_own_problem_alone(call):
    own = {"problem": 0, "errors": [50.0, 40.0]}
    first, second, none = call(
        "omega_eta",
        ["trained", {"own": own, "problem": 0}],
        ["trained", {"own": own, "problem": 1}],
        ["trained", {"own": {"problem": None, "errors": []}, "problem": 0}],
    )
    assert (first, second, none) == ([50.0, 40.0], [], [])


# ----------------------------------------------------------------------------------------------------------------- cost


def test_errors_are_shown_at_the_layer_of_the_runs_alone(call):
    """Nobody measured AlexNet's errors at a layer of ResNet-44."""
    data = explore.cost(read(book_folder())).picture.data
    names = [layer["name"] for layer in data["layers"]]
    assert len(data["trained"]) < len(names) and set(data["trained"]) < set(names)
    shown = call("cost", *(["trained", {"layer": i}, data] for i in range(len(names))))
    assert shown == [name in data["trained"] for name in names]
