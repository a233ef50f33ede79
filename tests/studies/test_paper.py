"""The paper's numbers agree with each other where the paper lets them be checked."""

import pytest

from sba.studies import paper
from sba.training.run import REGIMES


def test_stated_relative_improvements_follow_from_the_columns():
    for (dataset, network), stated in paper.RELATIVE_IMPROVEMENT.items():
        base, best = (paper.reported(dataset, network, m).error for m in ("erm", "sba"))
        assert 100 * (base - best) / base == pytest.approx(stated, abs=0.02)


def test_section_4_4_quotes_differences_that_table_1_does_not_have_between_those_columns():
    """§4.4 calls +1.96 "Cutout+BA against baseline" and +3.44 "Cutout against baseline" (open point 25)."""
    error = {m: paper.reported("cifar10", "vgg16", m).error for m in paper.COLUMNS}
    assert error["cutout+ba"] - error["sba"] == pytest.approx(1.96)
    assert error["cutout"] - error["sba"] == pytest.approx(3.44)
    assert error["erm"] - error["cutout+ba"] != pytest.approx(1.96)


def test_every_cifar_row_names_a_network_with_a_regime():
    rows = {r.network for r in paper.TABLE1 if r.dataset.startswith("cifar")}
    assert rows <= set(REGIMES)
    assert {(r.dataset, r.network) for r in paper.TABLE1 if r.dataset != "imagenet"} == set(paper.ADOPTED_ETA)


def test_cells_without_a_number_are_none():
    assert paper.reported("imagenet", "resnet50", "cutout") is None
    assert paper.reported("cifar10", "alexnet", "cutout+sba") is None
    assert paper.reported("cifar10", "alexnet", "sba").folds == 32
    assert paper.reported("cifar10", "alexnet", "erm").folds is None
