"""What the statistical plots draw equals numpy's and scipy's numbers; what was not run is left out, or said."""

import matplotlib
import numpy as np
import pytest
from helpers import content, epochs
from scipy import stats

matplotlib.use("agg")

import matplotlib.pyplot as plt

from sba.book import maps, plots, style
from sba.book.tenths import signs_forest
from sba.records.names import signed
from sba.records.schema import parse
from sba.report.grid import grid
from sba.report.tenths import differences, on_ten_classes
from sba.studies import paper
from sba.studies.omega_eta import ETAS, NAME, OMEGAS, PROBLEMS
from sba.studies.paper_runs import table1_core
from sba.studies.planned import scaled
from sba.training.run import make_run

PLAIN, SBA, CUTOUT, BOTH, LIMIT = table1_core("cifar10", "alexnet")
ERRORS = {"Baseline": [22.0, 23.0, 24.5], "SBA": [21.0, 22.2, 23.1, 20.9], "SBA, M → ∞": [20.0]}


@pytest.fixture(autouse=True)
def closed():
    style.use()
    yield
    plt.close("all")


def runs(parameters, errors, curve=lambda error: [error]):
    """Records of one setting, one for each error, with its errors of every epoch."""
    made = [make_run(**parameters, seed=seed) for seed in range(len(errors))]
    return [parse(content(run, error, epochs=epochs(curve(error)))) for run, error in zip(made, errors, strict=True)]


def evidence(curve=lambda error: [error]):
    return [r for p, e in zip((PLAIN, SBA, LIMIT), ERRORS.values(), strict=True) for r in runs(p, e, curve)]


def student(values):
    """The 95 % interval of a mean, by scipy."""
    values = np.asarray(values)
    return stats.t.interval(0.95, len(values) - 1, values.mean(), stats.sem(values))


def points(axes, marker):
    """Row → x of the markers on it."""
    ends = [end for line in axes.lines if line.get_marker() == marker for end in zip(*line.get_data(), strict=True)]
    return {int(y): x for x, y in ends if not np.isnan(x)}


def bars(axes):
    """Row → the ends of the bar on it."""
    drawn = [line.get_data() for line in axes.lines if line.get_marker() == "None"]
    return {int(y[0]): x for x, y in drawn if len(x) == 2 and y[0] == y[1] and not np.isnan(x).any()}


def names(axes):
    return [label.get_text() for label in axes.get_yticklabels()]


def test_a_strip_has_every_run_the_mean_and_students_interval():
    drawn = plots.seed_strips(evidence())
    (axes,) = drawn.figure.axes
    order = ["SBA, M → ∞", "SBA", "Baseline"]
    assert names(axes) == [f"{name} (n={len(ERRORS[name])})" for name in order]
    means, ends = points(axes, "|"), bars(axes)
    for row, name in enumerate(order):
        strip = [x for c in axes.collections for x, y in c.get_offsets() if round(y) == row]
        assert sorted(strip) == sorted(ERRORS[name])
        assert means[row] == pytest.approx(np.mean(ERRORS[name]))
        assert f"{name} {np.mean(ERRORS[name]):.2f}" in drawn.alt
    assert sorted(ends) == [1, 2], "one run has no interval"
    for row in ends:
        assert ends[row] == pytest.approx(student(ERRORS[order[row]]))
    assert "Cutout" not in drawn.alt and all(r.id in drawn.caption for r in evidence())


def test_shortened_runs_and_other_networks_make_no_strip():
    short = runs(PLAIN | {"epochs": 3}, [10.0]) + runs({**PLAIN, "network": "resnet44"}, [11.0])
    assert plots.seed_strips(short) is None and plots.learning_curves(short) is None


def test_a_curve_is_the_mean_over_seeds_in_students_band():
    def curve(error):
        return [3 * error, error**2 / 20, error]

    drawn = plots.learning_curves(evidence(curve))
    panel, hidden = drawn.figure.axes
    assert panel.get_visible() and not hidden.get_visible(), "the limit has one run, and no panel"
    for line, band, name in zip(panel.lines, panel.collections, ("Baseline", "SBA"), strict=False):
        errors = np.array([curve(error) for error in ERRORS[name]])
        assert line.get_label() == f"{name} (n={len(errors)})"
        assert line.get_xdata().tolist() == [1, 2, 3]
        assert line.get_ydata() == pytest.approx(errors.mean(0))
        corners = band.get_paths()[0].vertices
        for epoch, (low, high) in enumerate(map(student, errors.T), 1):
            at = corners[corners[:, 0] == epoch, 1]
            assert (at.min(), at.max()) == pytest.approx((low, high))
    (claim,) = (line for line in panel.lines if line.get_label() == "the paper")
    assert set(claim.get_ydata()) == {paper.reported("cifar10", "alexnet", "sba").error}
    assert plots.learning_curves(runs(PLAIN, [20.0])) is None


def test_two_settings_of_one_column_have_a_panel_each():
    few, many = (PLAIN | {"cutout": "auto", "views": views} for views in (4, 32))
    made = [r for p, e in ((PLAIN, [22.0, 23.0]), (many, [21.0, 22.0]), (few, [19.0, 20.0])) for r in runs(p, e)]
    panels = [axes for axes in plots.learning_curves(made).figure.axes if axes.get_visible()]
    ends = [[line.get_ydata()[-1] for line in axes.lines if "(n=2)" in line.get_label()] for axes in panels]
    assert sorted(ends) == [[22.5, 19.5], [22.5, 21.5]]
    papers = {
        ends[i][1] for i, axes in enumerate(panels) if any(line.get_label() == "the paper" for line in axes.lines)
    }
    assert papers == {21.5}, "the paper has 32 views"
    assert len({line.get_label() for axes in panels for line in axes.lines if "(n=2)" in line.get_label()}) == 3


def test_a_forest_has_welchs_interval_and_the_papers_claim():
    drawn = plots.methods_forest(evidence())
    (axes,) = drawn.figure.axes
    test = stats.ttest_ind(ERRORS["SBA"], ERRORS["Baseline"], equal_var=False)
    row = names(axes).index("SBA (n=3)")
    assert points(axes, "o")[row] == pytest.approx(np.mean(ERRORS["SBA"]) - np.mean(ERRORS["Baseline"]))
    assert bars(axes) == {row: pytest.approx(tuple(test.confidence_interval()))}
    stated = [paper.reported("cifar10", "alexnet", name).error for name in ("sba", "erm")]
    assert points(axes, "*")[row] == pytest.approx(stated[0] - stated[1])
    assert "Cutout: not run" in drawn.alt


def test_a_cell_of_the_heat_map_is_the_mean_difference_from_plain_training_at_the_same_seed():
    errors = {None: [10.0, 12.0, 11.0], (1, 2): [9.0, 11.5, 10.9], (3, 4): [12.0, 14.0, 13.0]}
    records = []
    for pair, values in errors.items():
        method = {"method": "sba", "omega": OMEGAS[pair[0]], "eta": ETAS[pair[1]]} if pair else {"method": "erm"}
        for seed, value in enumerate(values):
            rest = {"count": [1], "confidence": [0.5], "accuracy": [0.5], "brier": 0.1, "ece": value**2 / 1000}
            curve = {"error": [90.0, *[value] * 5], "nll": [1.0] * 6, "cross_entropy": [1.0] * 6}
            run = make_run(**PROBLEMS[0], **method, seed=seed)
            records.append(parse(content(run, value, study=NAME, curve=curve, calibration=rest)))
    drawn = maps.omega_eta_maps(grid(records, "digits"))
    plain = np.array(errors.pop(None))
    for axes, measure in zip(drawn.figure.axes[:2], (lambda e: e, lambda e: e**2 / 10), strict=True):
        cells = axes.collections[0].get_array()
        assert cells.shape == (len(OMEGAS) - 1, len(ETAS) - 1)
        assert cells.count() == len(axes.texts) == 2, "pairs that were not run stay empty"
        for (row, column), text in zip(errors, axes.texts, strict=True):
            differences = measure(np.array(errors[row, column])) - measure(plain)
            assert cells[row, column - 1] == pytest.approx(differences.mean())
            half = student(differences)[1] - differences.mean() if np.ptp(differences) else None
            wanted = f"{differences.mean():+.2f}".replace("-", "−") + (f"\n±{half:.2f}" if half else "")
            assert text.get_text() == wanted
            assert text.get_position() == (column - 1 + 0.5, row + 0.5)
        low, high = axes.collections[0].get_clim()
        assert low == -high == cells.min(), "white is plain training"
    assert names(drawn.figure.axes[0]) == ["0", "π/12", "π/6", "π/4", "π/3", "5π/12"]


@pytest.mark.parametrize(("value", "text"), [(-1.256, "−1.26"), (0.5, "+0.50"), (-0.001, "+0.00")])
def test_a_sign_stands_before_every_difference(value, text):
    assert signed(value) == text


def test_a_forest_of_signs_has_every_row_its_verdict_and_no_number_of_the_paper():
    parameters = [scaled(one, 0.1) | {"amp": "bf16"} for one in [*table1_core("cifar10", "resnet44")][:2]]
    errors = [[13.0, 13.2, 13.1], [12.9, 13.3, 12.8]]
    found = differences([r for p, e in zip(parameters, errors, strict=True) for r in runs(p, e)])
    drawn = signs_forest(found, "A tenth of the regime")
    (axes,) = drawn.figure.axes
    own, label = names(axes), "ResNet-44, CIFAR-10, 20 epochs\nSBA minus Baseline\nopen (n=3, bf16)"
    assert len(own) == 14 and own.count(label) == 1
    assert points(axes, "o")[own.index(label)] == pytest.approx(np.mean(np.subtract(errors[1], errors[0])))
    assert not points(axes, "*"), "a star is a number of the paper"
    assert drawn.alt.count("not run") == 13 and "family of 14" in drawn.caption


def test_a_forest_of_signs_without_a_run_is_not_drawn():
    assert signs_forest(on_ten_classes([]), "Ten of the classes") is None
