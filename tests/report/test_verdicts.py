"""A verdict follows from the records: what turns it is tried on records made up for that."""

import pytest
from helpers import bench, changed, content, epochs, record

from sba.records.file import book_folder, read
from sba.records.judging import FAILS, HOLDS, NO_DIFFERENCE, NOT_RUN, OPEN
from sba.records.schema import parse
from sba.report import claims, verdicts
from sba.report.html import code
from sba.studies import paper
from sba.studies.ablations import GROUPS
from sba.studies.paper_runs import HOLDOUT, imagenet_row
from sba.training.run import make_run

OWN = {"eta": 0.01, "folds": 32}


def about(text, found):
    (verdict,) = [v for v in verdicts.verdicts(found) if text in v.claim]
    return verdict


LEARNT = [30.0, 20.0]
FIRST = 3
"""The first seed of AlexNet that a test counts."""


def pairs(sba, erm, first=FIRST):
    found = [record(e, "sba", s, **OWN) for s, e in enumerate(sba, first)]
    return [
        changed(r, source="abc", epochs=epochs(LEARNT))
        for r in found + [record(e, "erm", s) for s, e in enumerate(erm, first)]
    ]


def with_epochs(one, errors):
    return changed(one, epochs=epochs(errors))


BASE = [23.9, 23.8, 24.1, 23.7, 24.0]


def moved(by, spread=0.0):
    return [e + by + spread * s for e, s in zip(BASE, (1, -1, 2, -2, 0.5), strict=True)]


@pytest.mark.parametrize(
    ("sba", "erm", "sign", "size"),
    [
        ([], [], NOT_RUN, NOT_RUN),
        ([18.0], [23.0], OPEN, OPEN),
        (moved(-5.8, 0.05)[:4], BASE[:4], OPEN, OPEN),
        (moved(-5.8, 0.02), BASE, HOLDS, HOLDS),
        (moved(-1.0, 0.02), BASE, HOLDS, FAILS),
        (moved(1.0, 0.02), BASE, FAILS, FAILS),
        (moved(0.0, 0.02), BASE, NO_DIFFERENCE, FAILS),
        (moved(-0.4, 0.3), BASE, OPEN, FAILS),
        (BASE, [], NOT_RUN, NOT_RUN),
    ],
)
def test_the_claim_of_a_row_of_table_1_is_one_of_sign_and_one_of_size(sba, erm, sign, size):
    found = pairs(sba, erm)
    verdict = about("the test error of AlexNet on CIFAR-10 from 23.88 to 18.03", found)
    assert (verdict.outcome, verdict.size) == (sign, size)
    assert len(verdict.ids) == (0 if sign == NOT_RUN else 2 * len(sba))
    assert verdict.family == "signs (13), sizes (8)"
    tested = len(sba) == len(erm) == 5
    assert (verdict.p is not None, verdict.p_size is not None) == (tested, tested)
    assert ("fewer than 5 runs decide nothing" in verdict.because) == (0 < min(len(sba), len(erm)) < 5)


def test_full_runs_in_bfloat16_are_judged_and_never_mixed_with_others():
    at = {"network": "resnet44", "amp": "bf16"}
    own = [record(e - 1, "sba", s, eta=0.01, folds=40, identifier=f"o{s}", **at) for s, e in enumerate(BASE)]
    plain = [record(e, "erm", s, identifier=f"b{s}", **at) for s, e in enumerate(BASE)]
    verdict = about("the test error of ResNet-44 on CIFAR-10 from", own + plain)
    assert verdict.found.mean == pytest.approx(-1) and verdict.found.n == len(BASE) and verdict.outcome == HOLDS
    assert verdict.because.startswith("SBA minus baseline, points, bf16: −1.00")
    # more runs of one side alone at another precision change nothing
    other = [record(e, "erm", s, network="resnet44", identifier=f"f{s}") for s, e in enumerate([*BASE, 20.0])]
    assert about("the test error of ResNet-44 on CIFAR-10 from", own + plain + other).ids == verdict.ids
    assert about("the test error of ResNet-44 on CIFAR-10 from", own + other).outcome == NOT_RUN


def test_a_few_runs_say_whether_the_papers_size_is_in_their_interval():
    near, far = (about("AlexNet on CIFAR-10 from", pairs(moved(by, 0.05)[:3], BASE[:3])) for by in (-5.8, -1))
    assert "the paper's −5.85 lies inside the 95 % interval" in near.because and "outside" in far.because


def test_runs_of_other_code_are_compared_by_welchs_test():
    found = pairs(moved(-1, 0.02), BASE)
    assert about("AlexNet on CIFAR-10 from", found).found.test == "paired t"
    assert about("AlexNet on CIFAR-10 from", [changed(found[0], source="def"), *found[1:]]).found.test == "Welch"


def test_seeds_that_prompted_further_runs_are_left_out_of_their_test():
    known, fresh = pairs([10.0] * 3, [30.0] * 3, first=0), pairs(moved(1.0, 0.02), BASE)
    assert about("AlexNet on CIFAR-10 from", known).found.n == 3
    verdict = about("AlexNet on CIFAR-10 from", known + fresh)
    assert (verdict.outcome, verdict.found.n) == (FAILS, 5)


def test_a_composed_method_is_compared_with_its_part():
    cutout = [changed(r, settings=r.settings | {"cutout": 16}) for r in pairs(moved(-1.0, 0.02), BASE)]
    cutout = [parse(r.as_json() | {"id": f"cutout-{r.id}", "key": r.run.key}) for r in cutout]
    verdict = about("beside Cutout, too", cutout + pairs([10.0] * 5, [50.0] * 5))
    assert verdict.outcome == HOLDS and verdict.found.mean == pytest.approx(-0.998)
    assert "Cutout + SBA minus Cutout" in verdict.because


def test_other_settings_and_held_out_images_say_nothing_of_table_1():
    others = [record(10.0, "sba", s, **OWN | {"sigma": 0.5}) for s in range(5)]
    others += [record(10.0, "sba", s, **OWN, epochs=5) for s in range(5)]
    found = [with_epochs(r, LEARNT) for r in [*others, *[record(23.0 + s, "erm", s) for s in range(5)]]]
    assert about("AlexNet on CIFAR-10 from", found).outcome == NOT_RUN


def test_convergence_is_to_the_papers_baseline_error_for_both():
    def run(name, at, seed):
        """Reaches the threshold in an epoch, or never."""
        errors = [30.0 if at is None or epoch < at else 23.0 for epoch in range(1, 165)]
        return with_epochs(record(20.0, name, seed, **(OWN if name == "sba" else {})), errors)

    def made(sba, erm):
        return [run(name, at, s) for name, row in (("sba", sba), ("erm", erm)) for s, at in enumerate(row, FIRST)]

    slow = [90, 95, 100, None, 164, 120]
    quick = about("speeds up convergence", made([10, 12, 14, 11, 15, 13], slow))
    assert quick.outcome == HOLDS and quick.found.test == "permutation" and "23.88" in quick.because
    assert "reached by 100% of the runs with SBA and 83% without" in quick.because
    assert about("speeds up convergence", made(slow, [10, 12, 14, 11, 15, 13])).outcome == FAILS
    assert about("speeds up convergence", made(slow, slow)).outcome == OPEN
    # five runs on a side have a least p-value of 2/252, which a family of thirteen needs more than
    assert about("speeds up convergence", made([10, 12, 14, 11, 15], slow[:5])).outcome == OPEN


def eta_runs(errors, seeds):
    """Held-out runs of Figure 2: error of each η, at each seed a little higher."""
    found = []
    for eta, error in zip(paper.ETA_GRID, errors, strict=True):
        for s in range(FIRST, FIRST + seeds):
            options = {"method": "sba", "folds": 32, "eta": eta} if eta else {"method": "erm"}
            found.append(record(error + 0.1 * s, seed=s, holdout=HOLDOUT, **options))
    return found


@pytest.mark.parametrize(
    ("errors", "seeds", "outcome"),
    [
        ([9, 9, 9, 5, 9, 9, 9], 5, HOLDS),
        ([9, 9, 9, 5, 9, 9, 3], 5, FAILS),
        ([9, 9, 9, 5, 9, 9, 5.1], 5, OPEN),
        ([9, 9, 9, 5, 9, 9, 3], 4, OPEN),
        ([9, 9, 9, 5, 9, 9, 3], 0, NOT_RUN),
    ],
)
def test_the_adopted_eta_is_held_against_every_other(errors, seeds, outcome):
    verdict = about("0.01 is the best for AlexNet", eta_runs(errors, seeds))
    assert verdict.outcome == outcome
    if seeds:
        best = paper.ETA_GRID[errors.index(min(errors))]
        assert f"held-out images at η = {best:g}" in verdict.because and f"(Dunnett, n={seeds})" in verdict.because
        assert verdict.family == "rivals of η (6)" and (verdict.p is None) == (seeds < 5)


def test_a_row_on_imagenet_is_judged_as_soon_as_it_was_run():
    base, sba, _ = imagenet_row("resnet50")
    found = [parse(content(make_run(**base, seed=s), 24.0 + s / 10)) for s in range(5)]
    found += [parse(content(make_run(**sba, seed=s), 23.0 + s / 9)) for s in range(5)]
    assert about("of ResNet-50 on ImageNet", found).outcome == HOLDS
    assert about("of VGG-16 on ImageNet", found).outcome == NOT_RUN


def test_a_vote_that_errs_less_and_a_hard_label_that_errs_more_speak_for_the_paper():
    group = GROUPS[0]
    hard = next(v for v in group.variants if v.label == "hard label (Eq. 9)")
    found = []
    for variant, error in ((None, 10.0), (hard, 12.0)):
        for s in range(6):
            run = make_run(**group.parameters(variant), seed=s)
            made = content(run, error + s / 7, study="switches", source="abc", error_vote=error + s / 7 - 1 + s / 90)
            found.append(parse(made))
    vote, soft = claims.small_problem(found)
    assert vote.found.mean == pytest.approx(-1 + 2.5 / 90) and soft.found.mean == pytest.approx(-2)
    assert [v.outcome for v in verdicts.judge([vote, soft])] == [HOLDS, HOLDS]


def test_what_the_paper_says_of_its_own_table(monkeypatch):
    assert about("relative improvements", []).outcome == HOLDS
    quoted = about("gains of Cutout + BA", [])
    assert quoted.outcome == FAILS and "11.56 and 10.08" in quoted.because and "1.96 and 3.44" in quoted.because
    monkeypatch.setattr(paper, "QUOTED_GAINS", (11.56, 10.08))
    assert about("gains of Cutout + BA", []).outcome == HOLDS
    monkeypatch.setitem(paper.RELATIVE_IMPROVEMENT, ("cifar10", "vgg16"), 50.0)
    assert about("relative improvements", []).outcome == FAILS


def cost(layer, low, value, high, date):
    name = f"resnet44: cost, layer {layer}, M=4, B=32, Hadamard, ω=0.0000, over a plain step"
    return bench(name, value, f"{layer}-{date}", date, low=low, high=high)


def test_the_cost_near_the_input_is_that_of_the_newest_measurement_of_each_layer():
    old = [cost("conv1", 1, 1, 1, "2025"), cost("pool", 1, 1, 1, "2025")]
    new = [cost("conv1", 4.5, 4.9, 5, "2026"), cost("pool", 1, 1.01, 1.2, "2026")]
    verdict = about("close to the input", new + old)
    assert verdict.outcome == HOLDS and verdict.ids == ("conv1-2026", "pool-2026")
    assert about("close to the input", [changed(new[0], low=1.1), new[1]]).outcome == OPEN
    assert about("close to the input", [cost("conv1", 1, 1, 1, "1"), cost("pool", 4, 5, 6, "1")]).outcome == OPEN
    assert about("close to the input", []).outcome == NOT_RUN
    # the layers' order is the network's, whichever was timed first
    later = changed(new[0], date="2027")
    assert [about("close to the input", found).outcome for found in ([later, new[1]], [new[1], later])] == [HOLDS] * 2


def test_every_verdict_of_the_books_records_can_be_traced_and_nothing_is_claimed_without_evidence():
    known = read(book_folder())
    ids = {r.id for r in known}
    found = verdicts.verdicts(known)
    assert all(v.outcome in (HOLDS, FAILS, OPEN, NOT_RUN, NO_DIFFERENCE) and set(v.ids) <= ids for v in found)
    assert {v.place for v in found if v.trivial} == {"§3.2, §4.3", "Table 1", "§4.4"}
    page = verdicts.verdicts_html(found)
    assert all(code(i) in page for v in found for i in v.ids) and page.count("; trivial") == 3
    assert "paired t" in page and "signs (13), sizes (8)" in page and "rivals of η (6)" in page
    assert len({v.claim for v in found}) == len(found)
    for verdict in found:
        assert verdict.ids or verdict.outcome == NOT_RUN or verdict.place in ("Table 1", "§4.4")


def test_without_records_only_the_papers_own_arithmetic_is_judged():
    assert {v.outcome for v in verdicts.verdicts([]) if v.place not in ("Table 1", "§4.4")} == {NOT_RUN}
