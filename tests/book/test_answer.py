"""The answer's figure: which differences it draws, and what it sets them against."""

import pytest
from helpers import record

from sba.book.answer import answer_rows
from sba.studies import paper

SBA = {"eta": 0.01, "folds": 32}


def pair(network="alexnet", **more):
    """Records of plain training and of SBA, two seeds each; SBA errs a point less."""
    return [
        record(
            error - (method == "sba") + 0.1 * seed * (1 + (method == "sba")),
            method,
            seed,
            network=network,
            **options | more,
        )
        for method, options, error in (("erm", {}, 22.0), ("sba", SBA, 22.0))
        for seed in (0, 1)
    ]


def test_a_full_run_on_cifar10_is_drawn_beside_the_papers_difference():
    (row,) = answer_rows(pair())
    assert row.label == "AlexNet: SBA (n=2)" and row.found.mean == pytest.approx(-0.95)
    assert row.claim == paper.stated_difference("cifar10", "alexnet") and not row.filled


def test_the_papers_difference_belongs_to_its_network():
    (row,) = answer_rows(pair("resnet44"))
    assert row.label == "ResNet-44: SBA (n=2)" and row.claim is None


@pytest.mark.parametrize("other", [{"dataset": "cifar100"}, {"epochs": 5}, {"dataset": "digits", "network": "digits"}])
def test_other_data_and_shortened_runs_are_not_drawn(other):
    assert answer_rows(pair(**other)) == []
