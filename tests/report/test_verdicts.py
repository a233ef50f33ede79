"""A verdict follows from the records: what turns it is tried on records made up for that."""

import pytest
from helpers import bench, changed, content, epochs, record

from sba.records.file import book_folder, read
from sba.records.schema import parse
from sba.report import verdicts
from sba.report.convergence import epochs_to
from sba.report.verdicts import FAILS, HOLDS, NOT_RUN, OPEN
from sba.studies import paper
from sba.studies.paper_runs import HOLDOUT, imagenet_row
from sba.training.run import make_run

OWN = {"eta": 0.01, "folds": 32}


def about(text, found):
    (verdict,) = [v for v in verdicts.verdicts(found) if text in v.claim]
    return verdict


def pairs(sba, erm):
    return [record(e, "sba", s, **OWN) for s, e in enumerate(sba)] + [record(e, "erm", s) for s, e in enumerate(erm)]


def with_epochs(one, errors):
    return changed(one, epochs=epochs(errors))


LEARNT = [30.0, 20.0]


@pytest.mark.parametrize(
    ("sba", "erm", "outcome", "says"),
    [
        ([], [], NOT_RUN, "no pair"),
        ([18.0], [23.0], OPEN, "−5.00 (n=1)"),
        ([18.0, 18.1, 18.2], [23.9, 23.9, 24.1], HOLDS, "the paper's −5.85 lies inside the interval"),
        ([22.0, 22.1, 22.2], [23.0, 23.1, 23.3], HOLDS, "the paper's −5.85 lies outside the interval"),
        ([24.0, 24.1, 24.2], [23.0, 23.1, 23.3], FAILS, "outside"),
        ([22.0, 24.1, 23.2], [23.0, 23.1, 23.3], OPEN, "outside"),
        ([18.0, 18.1], [], NOT_RUN, "no pair"),
    ],
)
def test_the_claim_of_a_row_of_table_1(sba, erm, outcome, says):
    found = [with_epochs(r, LEARNT) for r in pairs(sba, erm)]
    verdict = about("the test error of AlexNet on CIFAR-10 from 23.88 to 18.03", found)
    assert verdict.outcome == outcome and says in verdict.because
    assert len(verdict.ids) == (0 if outcome == NOT_RUN else 2 * len(sba))


def test_other_settings_and_held_out_images_say_nothing_of_table_1():
    others = [record(10.0, "sba", s, **OWN | {"sigma": 0.5}) for s in range(3)]
    others += [record(10.0, "sba", s, **OWN, epochs=5) for s in range(3)]
    found = [with_epochs(r, LEARNT) for r in [*others, *[record(23.0 + s, "erm", s) for s in range(3)]]]
    assert about("AlexNet on CIFAR-10 from", found).outcome == NOT_RUN


def test_convergence_counts_epochs_to_the_baselines_error_and_all_where_it_is_never_reached():
    slow, fast = [30.0, 25.0, 23.15, 23.0], [23.1, 23.0, 23.0, 23.0]
    erm = [with_epochs(record(23.0, "erm", s), slow) for s in range(3)]
    sba = [with_epochs(record(22.0, "sba", s, **OWN), fast) for s in range(2)]
    sba.append(with_epochs(record(24.0, "sba", 2, **OWN), [30.0, 29.0, 28.0, 23.3]))
    assert [epochs_to(r, 23.2) for r in (erm[0], sba[0], sba[2])] == [3, 1, 4]
    verdict = about("speeds up convergence", erm + sba)
    assert (
        verdict.outcome == OPEN
        and "−1.00 ± " in verdict.because
        and "1 of 3 SBA runs never got there" in verdict.because
    )
    quick = [with_epochs(record(22.0, "sba", s, **OWN), fast) for s in range(3)]
    assert about("speeds up convergence", erm + quick).outcome == HOLDS
    assert about("speeds up convergence", [with_epochs(r, slow) for r in pairs([23.0] * 3, [23.0] * 3)]).outcome == OPEN


def eta_runs(errors, seeds):
    """Held-out runs of Figure 2: error of each η, at each seed a little higher."""
    found = []
    for eta, error in zip(paper.ETA_GRID, errors, strict=True):
        for s in range(seeds):
            options = {"method": "sba", "folds": 32, "eta": eta} if eta else {"method": "erm"}
            found.append(record(error + 0.1 * s, seed=s, holdout=HOLDOUT, **options))
    return found


@pytest.mark.parametrize(
    ("errors", "seeds", "outcome"),
    [
        ([9, 9, 9, 5, 9, 9, 9], 3, HOLDS),
        ([9, 9, 9, 5, 9, 9, 3], 3, FAILS),
        ([9, 9, 9, 5, 9, 9, 3], 1, OPEN),
        ([9, 9, 9, 5, 9, 9, 3], 0, NOT_RUN),
    ],
)
def test_the_adopted_eta_is_held_against_every_other(errors, seeds, outcome):
    verdict = about("0.01 is the best for AlexNet", eta_runs(errors, seeds))
    assert verdict.outcome == outcome
    if seeds:
        best = paper.ETA_GRID[errors.index(min(errors))]
        assert f"held-out images at η = {best:g}" in verdict.because and f"(n={seeds})" in verdict.because


def test_a_row_on_imagenet_is_judged_as_soon_as_it_was_run():
    base, sba, _ = imagenet_row("resnet50")
    found = [parse(content(make_run(**base, seed=s), 24.0 + s / 10)) for s in range(3)]
    found += [parse(content(make_run(**sba, seed=s), 23.0 + s / 9)) for s in range(3)]
    assert about("of ResNet-50 on ImageNet", found).outcome == HOLDS
    assert about("of VGG-16 on ImageNet", found).outcome == NOT_RUN


def test_a_vote_that_errs_less_and_a_hard_label_that_errs_more_speak_for_the_paper(monkeypatch):
    row = {"group": "the default layers", "n": 3, "ids": []}
    found = [
        row | {"label": "reference", "vote": (-1.0, 0.5)},
        row | {"label": "hard label (Eq. 9)", "error": (2.0, 0.5)},
    ]
    monkeypatch.setattr(verdicts, "compare", lambda records: found)
    vote, soft = verdicts.small_problem([])
    assert (vote.outcome, vote.because) == (HOLDS, "vote minus single pass: −1.00 ± 0.50 (n=3) points")
    assert (soft.outcome, soft.because) == (HOLDS, "soft minus hard label: −2.00 ± 0.50 (n=3) points")


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
    assert all(v.outcome in (HOLDS, FAILS, OPEN, NOT_RUN) and set(v.ids) <= ids for v in found)
    assert len({v.claim for v in found}) == len(found)
    for verdict in found:
        assert verdict.ids or verdict.outcome == NOT_RUN or verdict.place in ("Table 1", "§4.4")


def test_without_records_only_the_papers_own_arithmetic_is_judged():
    assert {v.outcome for v in verdicts.verdicts([]) if v.place not in ("Table 1", "§4.4")} == {NOT_RUN}
