"""The study of the open points: every run is what its label says, and differences are taken at equal seeds."""

import dataclasses
import itertools

import numpy as np
import pytest
from helpers import bench, changed, content
from scipy import stats

from sba.data.datasets import load
from sba.records.file import append, book_folder, read
from sba.records.schema import TrainRecord, parse
from sba.studies import ablations
from sba.studies.ablations import GROUPS
from sba.studies.planned import planned_runs
from sba.training.run import make_run


def made(run, error, nll=0.1, vote=0.0):
    """A record as a training would leave it."""
    whole = content(run, error, study="switches", error_vote=error + vote, source="abc")
    return parse(whole | {"epochs": [epoch | {"nll": nll} for epoch in whole["epochs"]] * 5})


def test_every_variant_differs_from_its_reference_in_what_it_says_and_in_nothing_else():
    for group in GROUPS:
        reference = make_run(**group.parameters(None)).settings()
        for variant in group.variants:
            settings = make_run(**group.parameters(variant)).settings()
            own, usual = settings.pop("method"), {k: v for k, v in reference.items() if k != "method"}
            assert settings == usual
            changed = {k for k, v in own.items() if k in reference["method"] and reference["method"][k] != v}
            expected = (
                set(make_run(method="sba", preset="paper").method.presets["paper"])
                if "preset" in variant.changes
                else set()
            )
            expected |= {"name" if k == "method" else k for k in variant.changes if k not in ("preset", "expectation")}
            assert changed == expected, variant


def test_runs_are_all_different_and_one_seed_comes_everywhere_before_a_second():
    runs = [cell.run for cell in planned_runs(ablations.STUDY, range(2))]
    assert len({run.key for run in runs}) == len(runs)
    assert [run.seed for run in runs] == sorted(run.seed for run in runs)


def test_what_is_run_on_other_digits_is_what_was_run_on_the_first_hundred():
    """The plan was committed before its first run: nine variants and two references, five subsets, three seeds."""
    study = ablations.ON_SUBSETS
    runs = [cell.run for cell in planned_runs(study, range(study.seeds))]
    assert len(runs) == (9 + 2) * 5 * 3
    known = {cell.run.key for cell in planned_runs(ablations.STUDY, range(study.seeds))}
    assert all(dataclasses.replace(run, dataset="digits").key in known for run in runs)
    trained = [load(name, holdout=ablations.FEW["holdout"]).train for name in ("digits", *ablations.SUBSETS)]
    assert {len(split) for split in trained} == {100}
    # of 1,198 images, about eight of a hundred are shared by chance
    rows = [{image.numpy().tobytes() for image in split.images} for split in trained]
    assert max(len(a & b) for a, b in itertools.combinations(rows, 2)) < 20


def test_the_book_has_every_run_on_other_digits_once_and_by_one_code():
    study = ablations.ON_SUBSETS
    found = [r for r in read(book_folder()) if isinstance(r, TrainRecord) and r.study == study.name]
    assert sorted(r.key for r in found) == sorted(cell.run.key for cell in planned_runs(study, range(study.seeds)))
    assert len({(r.source, r.device, r.device_name, r.versions["torch"], r.threads) for r in found}) == 1
    assert not any(r.reduced for r in found)


def test_differences_are_of_paired_runs_with_students_interval():
    group = GROUPS[0]
    variant = group.variants[1]
    before, after = [1.0, 2.0, 4.0, 3.0, 3.5], [1.5, 2.25, 5.0, 3.2, 3.9]
    found = [
        made(make_run(**group.parameters(v), seed=seed), error, nll=error / 10, vote=seed / 10)
        for v, values in ((None, before), (variant, after))
        for seed, error in enumerate(values)
    ]
    found.append(made(make_run(**group.parameters(variant), seed=5), 50.0))  # without a partner
    reference, effect = ablations.effects([*found, bench("a")])
    assert (reference.label, effect.label, effect.point) == ("reference", variant.label, variant.point)
    expected = stats.ttest_rel(after, before)
    low, high = expected.confidence_interval(0.95)
    assert (effect.error.low, effect.error.high) == pytest.approx((low, high))
    assert (effect.nll.mean, effect.nll.n, effect.nll.test) == (pytest.approx(effect.error.mean / 10), 5, "paired t")
    # of all 31 variants of the study, run or not
    assert sum(len(g.variants) for g in GROUPS) == 31
    assert effect.p_error == pytest.approx(min(1, 31 * expected.pvalue)) == effect.p_nll
    assert reference.error is None and reference.levels == pytest.approx((np.mean(before), np.mean(before) / 10))
    vote = ablations.vote_effect(reference.runs)
    assert vote.mean == pytest.approx(0.2) and vote.p == pytest.approx(stats.ttest_1samp(np.arange(5) / 10, 0).pvalue)


def test_the_unit_of_the_second_factor_is_the_subset():
    """Of each subset the mean over seeds is one value: seeds within a subset do not count as independent."""
    group = GROUPS[0]
    variant = next(v for v in group.variants if v.label == "Gaussian points only")
    gains = np.random.default_rng(1).normal([[1.0], [2.0], [2.5], [0.5], [1.5]], 0.1, (5, 3))
    found = []
    for name, row in zip(ablations.SUBSETS, gains, strict=True):
        for seed, gain in enumerate(row):
            for v, error in ((None, 20.0 + seed), (variant, 20.0 + seed + gain)):
                run = make_run(**group.parameters(v) | {"dataset": name}, seed=seed)
                found.append(changed(made(run, error, nll=error / 10), study=ablations.ON_SUBSETS.name))
    (effect,) = ablations.on_subsets(found)
    expected = stats.ttest_1samp(gains.mean(1), 0)
    assert (effect.error.n, effect.error.freedom, len(effect.error.ids)) == (5, 4, 30)
    assert effect.error.p == pytest.approx(expected.pvalue)
    assert effect.p_error == pytest.approx(min(1, len(ablations.AGAIN) * expected.pvalue))
    assert ablations.on_subsets([r for r in found if r.run.dataset == "digits:1"])[0].error is None
    # made elsewhere: no pair
    moved = [changed(r, device="cuda") if r.run.method.gaussian_share == 1 else r for r in found]
    assert ablations.on_subsets(moved)[0].error is None


def test_records_of_a_study_stay_out_of_the_tables(tmp_path):
    from sba.report.tables import readme_table

    record = made(make_run("cifar10", "alexnet"), 12.34)
    path = tmp_path / "r.jsonl"
    append(path, record)
    assert "12.34" not in readme_table(read(path))
    assert "12.34" in readme_table([changed(record, study="")])
