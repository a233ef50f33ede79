"""The study of robustness: what it runs, in which order, and that every line is what its label says."""

import pytest
from helpers import bench, content

from sba.book.style import colour
from sba.core.errors import ConfigError
from sba.records.schema import parse
from sba.studies import robustness
from sba.studies.planned import planned_runs
from sba.studies.robustness import (
    LINES,
    PROBLEMS,
    STUDY,
    at_radius,
    mean_corrupted,
    measure,
    problem_named,
    runs_on,
)
from sba.training.run import make_run

METHODS = {"erm", "sba", "implicit-sba", "mixup", "manifold-mixup", "isda", "decoupled"}


def test_digits_come_before_cifar_and_the_baseline_before_all():
    places = [setting.where for setting in robustness.settings()]
    assert places == ["digits/digits"] * len(LINES) + ["cifar10/alexnet"] * len(LINES)
    assert LINES[0].changes == {"method": "erm"}
    assert {line.changes["method"] for line in LINES} == METHODS
    assert len({line.label for line in LINES}) == len(LINES)


def test_all_runs_differ_and_each_belongs_to_its_problem():
    found = [cell.run for cell in planned_runs(STUDY, range(2))]
    assert len({run.key for run in found}) == len(found) == 4 * len(LINES)
    for run in found:
        assert problem_named(run.dataset).base["network"] == run.network
    assert STUDY.vote and STUDY.exclusive


@pytest.mark.parametrize("problem", PROBLEMS, ids=lambda p: p.base["dataset"])
def test_a_line_changes_the_baseline_in_what_it_says_and_in_nothing_else(problem):
    plain = make_run(**problem.parameters(LINES[0])).settings()
    for line in LINES[1:]:
        run = make_run(**problem.parameters(line))
        changed = {k for k, v in run.settings().items() if v != plain[k]}
        assert changed == ({"cutout"} if "cutout" in line.changes else {"method"}), line.label
        assert getattr(run.method, "eta", None) == (
            line.weight * problem.eta if line.weight else {"latent BA": 1.0, "decoupled mixup": 0.1}.get(line.label)
        )
        assert colour(line.look)


def test_radii_grow_and_the_checked_one_is_among_them():
    for problem in PROBLEMS:
        assert list(problem.linf) == sorted(problem.linf) and list(problem.l2) == sorted(problem.l2)
        assert problem.checked in problem.linf


def test_its_measure_takes_the_radii_of_the_problem(monkeypatch):
    monkeypatch.setattr(robustness, "measured", lambda training, *radii: radii)

    class Trained:
        run = make_run(**PROBLEMS[0].parameters(LINES[0]))

    assert measure(Trained) == (PROBLEMS[0].linf, PROBLEMS[0].l2, PROBLEMS[0].checked)


def made(line, seed, study="robustness", **more):
    run = make_run(**PROBLEMS[0].parameters(line), seed=seed)
    return parse(content(run, id=f"{run.key}-{study}", study=study, **more))


def test_records_are_sorted_by_line_and_seed_and_those_of_other_studies_left_out():
    """The study of the open points holds equal runs, which measured less."""
    found = [made(LINES[0], 3, "switches"), made(LINES[0], 3), made(LINES[2], 12), made(LINES[2], 3), bench("a")]
    own = runs_on(PROBLEMS[0], found)
    assert {k: sorted(v) for k, v in own.items()} == {"baseline": [3], "SBA": [3, 12]}
    assert own["baseline"][3] == found[1]
    assert runs_on(PROBLEMS[1], found) == {}


def test_numbers_are_read_from_where_they_stand():
    attacks = {"fgsm": {"radii": [0.1, 0.2], "error": [7.0, 9.0]}}
    corruptions = {"jpeg": [1, 2, 3, 4, 5], "contrast": [10, 10, 10, 10, 20]}
    record = made(LINES[0], 0, attacks=attacks, corruptions=corruptions)
    assert at_radius("fgsm", 0.2)(record) == 9.0
    assert mean_corrupted(record) == 7.5


def test_a_data_set_without_a_problem_is_refused():
    with pytest.raises(ConfigError, match=r"dataset: 'moons' is no part .* choose from digits, cifar10"):
        problem_named("moons")
