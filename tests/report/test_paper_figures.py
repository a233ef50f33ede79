"""Figures 2 and 3 from records made up for it, and what their ratio is by hand."""

import math

import pytest
from helpers import changed, epochs, record

from sba.records.compare import indexed
from sba.records.file import book_folder, read
from sba.report import paper_figures
from sba.studies import paper
from sba.studies.paper_runs import FIG2, FIG3, HOLDOUT, LAYERS
from sba.studies.planned import planned_runs

ROW = ("cifar10", "alexnet")


def curve(one, errors):
    return changed(one, epochs=epochs(errors))


def test_figure_2_has_every_eta_once_and_keeps_held_out_and_test_errors_apart():
    runs = [record(30.0, "erm", holdout=HOLDOUT), record(29.0, "erm")]
    runs += [record(20 + 10 * eta, "sba", s, eta=eta, folds=32, holdout=HOLDOUT) for eta in (0.1, 1.0) for s in (0, 1)]
    runs += [record(25.0, "sba", eta=0.01, folds=32), record(1.0, "sba", eta=0.1, folds=8, holdout=HOLDOUT)]
    found = {one.eta: one for one in paper_figures.figure2(indexed(runs), *ROW)}
    assert tuple(found) == paper.ETA_GRID

    def errors(runs):
        return [runs[s].error for s in sorted(runs)]

    assert (errors(found[0].holdout), errors(found[0].test)) == ([30.0], [29.0])
    assert errors(found[0.1].holdout) == [21.0, 21.0] and errors(found[1.0].holdout) == [30.0, 30.0]
    assert errors(found[0.01].test) == [25.0] and not found[0.01].holdout and not found[10.0].holdout


def test_figure_3_compares_at_equal_layer_and_seed():
    at = {"layers": ("conv3",), "folds": 4}
    base = [curve(record(20.0 + s, "erm", s), [40.0, 30.0, 25.0, 20.0 + s]) for s in (0, 1)]
    sba = [curve(record(19.0, "sba", s, eta=0.01, **at), [21.1, 20.0, 19.0, 19.0]) for s in (0, 1)]
    ba = [curve(record(21.0, "sba", 0, preset="latent-ba", **at), [30.0, 25.0, 20.1, 21.0])]
    found = {one.layer: one for one in paper_figures.figure3(indexed([*base, *sba, *ba]), *ROW)}
    assert tuple(found) == LAYERS[ROW]
    one = found["conv3"]
    assert (one.difference.mean, one.difference.n) == (-2.0, 1)
    # the paper's baseline errs on 23.88 %: SBA is below in epoch 1, BA in epoch 3
    assert one.threshold == 23.88
    assert [one.epochs(name).restricted_mean for name in ("sba", "ba")] == [1, 3]
    assert one.ratio == pytest.approx(3 * one.cost["ba"] / one.cost["sba"])
    never = curve(ba[0], [30.0] * 164)
    (slow,) = (x for x in paper_figures.figure3(indexed([*base, *sba, never]), *ROW) if x.layer == "conv3")
    assert slow.epochs("ba").share == 0 and slow.ratio is None
    for other in set(found) - {"conv3"}:
        assert found[other].difference is None and found[other].ratio is None and not found[other].sba
    shorter = paper_figures.figure3(indexed([*base, *sba, *ba]), *ROW, epochs=5)
    assert not any(layer.base or layer.sba for layer in shorter)


def test_a_layer_costs_what_its_multiply_adds_say():
    """AlexNet's last layer reads 256 features; the convolutions before it are written out here."""
    maps = [
        (11 * 11 * 3 * 64, 8),
        (5 * 5 * 64 * 192, 4),
        (9 * 192 * 384, 2),
        (9 * 384 * 256, 2),
        (9 * 256 * 256, 2),
    ]
    convolutions, last = [weights * side**2 for weights, side in maps], 256 * 10
    whole = sum(convolutions) + last
    found = {one.layer: one for one in paper_figures.figure3({}, *ROW, folds=8)}
    assert found["flatten"].cost["ba"] == pytest.approx(1 + 8 * last / whole)
    assert found["flatten"].cost["sba"] == pytest.approx(1 + math.cos(math.pi / 3) * 8 * (last + 0.5 * 256**2) / whole)
    costs = [one.cost["ba"] for one in found.values()]
    assert costs == sorted(costs, reverse=True), "the earlier, the dearer"


def test_the_books_own_records_are_found_where_the_sweep_looks_for_them():
    """A cell of the study with a record shows in the figure, and the other way round."""
    index = indexed(read(book_folder()))
    drawn = {
        r.id for one in paper_figures.figure2(index, *ROW) for runs in (one.holdout, one.test) for r in runs.values()
    }
    drawn |= {
        r.id
        for folds in (4, 32)
        for one in paper_figures.figure3(index, *ROW, folds)
        for runs in (one.sba, one.ba, one.base)
        for r in runs.values()
    }
    wanted = {
        cell.run.key
        for study in (FIG2, FIG3)
        for cell in planned_runs(study, range(3))
        if cell.run.network == "alexnet"
    }
    own = {r.id for runs in index.values() for r in runs.values() if r.key in wanted and r.run.views == 1}
    assert own and drawn == own
