"""What the paper claims, and what the records say to it, by the rules of :mod:`sba.records.judging`.

A verdict is computed, never written. Claims about the sign of a difference are one family, claims about its size are another; the
η that the paper adopts is compared with its rivals by a test of its own. What a claim needs no seeds for is marked as trivial:
arithmetic of the paper's own table, and a cost that follows from the layer.
"""

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from sba.models.registry import build
from sba.records.compare import Index, indexed
from sba.records.inference import Contrast, error_floor
from sba.records.judging import FAILS, HOLDS, MINIMUM, NOT_RUN, OPEN, judge_lowest, judge_signs, judge_sizes
from sba.records.names import signed, title
from sba.records.schema import Record
from sba.report.claims import Claim, claims, fresh
from sba.report.html import NOT_RUN as NO_NUMBER
from sba.report.html import Across, code, table
from sba.report.ingredients import layer_costs
from sba.studies import paper
from sba.studies.catalogue import shared
from sba.studies.paper_runs import HOLDOUT, ROWS, eta_parameters


@dataclass(frozen=True)
class Verdict:
    """What the records say to a claim."""

    place: str  #: in the paper
    claim: str  #: what, in our words
    #: about its sign, or about what it says if that is no difference: "holds", "does not hold", "no difference larger
    #: than 0.3", "open", "not run"
    outcome: str
    because: str  #: the numbers behind it
    ids: tuple[str, ...] = ()  #: their records; empty for arithmetic of the paper's own table
    found: Contrast | None = None  #: the difference with its interval and test, if there is one
    p: float | None = None  #: the p-value behind the outcome, corrected in the family; None for no test
    family: str = ""  #: which claims the correction counts, and how many
    size: str = ""  #: likewise about the size that the paper states; "" if it states none
    p_size: float | None = None  #: the p-value behind it
    trivial: bool = False  #: whether the claim needs no experiment


def judge(made: Sequence[Claim]) -> list[Verdict]:
    """Judge claims as one family of signs and one of sizes."""
    sized = [c for c in made if c.size is not None]
    sizes = dict(
        zip(map(id, sized), judge_sizes([c.found for c in sized], [c.size or 0.0 for c in sized]), strict=True)
    )
    found = []
    for claim, sign in zip(made, judge_signs([c.found for c in made]), strict=True):
        size = sizes.get(id(claim))
        tested = claim.found is not None and claim.found.n >= MINIMUM
        parts = [f"{claim.what}: {claim.found}" if claim.found else "no runs on both sides", claim.note, claim.images]
        if claim.found and not tested:
            parts.append(f"fewer than {MINIMUM} runs decide nothing")
            if claim.size is not None and claim.found.n > 1:
                inside = claim.found.low <= claim.size <= claim.found.high
                parts.append(
                    f"the paper's {signed(claim.size)} lies {'inside' if inside else 'outside'} the 95 % interval"
                )
        found.append(
            Verdict(
                claim.place,
                claim.text,
                sign.verdict,
                "; ".join(filter(None, parts)),
                claim.found.ids if claim.found else (),
                claim.found,
                sign.p if tested else None,
                f"signs ({len(made)})" + (f", sizes ({len(sized)})" if size else ""),
                size.verdict if size else "",
                size.p if size and tested else None,
            )
        )
    return found


def adopted_eta(index: Index) -> list[Verdict]:
    """§4.2: the adopted η is the best of the grid, on held-out images."""
    dataset, network = ROWS[0]
    adopted = paper.ADOPTED_ETA[dataset, network]
    runs = {eta: fresh(index, eta_parameters(dataset, network, eta)) for eta in paper.ETA_GRID}
    grid = ", ".join(f"{eta:g}" for eta in paper.ETA_GRID)
    claim = f"of η ∈ {{{grid}}}, {adopted:g} is the best for {title(network)} on {title(dataset)}"
    if not all(runs.values()):
        return [Verdict("§4.2", claim, NOT_RUN, "not every η was run on held-out images")]
    errors = {eta: np.array([r.error for r in side.values()]) for eta, side in runs.items()}
    best, n = min(errors, key=lambda eta: float(errors[eta].mean())), min(map(len, errors.values()))
    because = (
        f"lowest error on {HOLDOUT} held-out images at η = {best:g}: {errors[best].mean():.2f} %; at {adopted:g}: "
        f"{errors[adopted].mean():.2f} %, at 0: {errors[0.0].mean():.2f} % (Dunnett, n={n})"
    )
    rivals = [values for eta, values in errors.items() if eta != adopted]
    found = judge_lowest(errors[adopted], rivals, error_floor(runs[adopted]))
    ids = tuple(r.id for side in runs.values() for r in side.values())
    p = found.p if n >= MINIMUM else None
    return [Verdict("§4.2", claim, found.verdict, because, ids, p=p, family=f"rivals of η ({len(rivals)})")]


def overhead(records: Sequence[Record]) -> list[Verdict]:
    """§3.2, §4.3: augmenting near the input costs far more than near the output."""
    network = "resnet44"
    claim = f"augmenting close to the input makes the extra cost far larger than close to the output (here {title(network)})"
    cheap, dear = layer_costs(records) or (None, None)
    if cheap is None or dear is None or cheap is dear:
        return [Verdict("§3.2, §4.3", claim, NOT_RUN, "no measurement", trivial=True)]
    because = (
        f"an augmented step takes {dear.value:.2f} plain steps at {dear.compared.layer} and {cheap.value:.2f} at "
        f"{cheap.compared.layer} (medians of {dear.rounds} rounds)"
    )
    stages = build(network, 10, 3, 32).stages
    nearer = stages.index(dear.compared.layer) < stages.index(cheap.compared.layer)
    outcome = HOLDS if nearer and dear.low > cheap.high else OPEN
    return [Verdict("§3.2, §4.3", claim, outcome, because, (dear.id, cheap.id), trivial=True)]


def arithmetic() -> list[Verdict]:
    """§4.4 and the last column of Table 1: what the paper's table says of itself."""
    gap = max(
        abs(stated - 100 * (1 - paper.stated(*key, "sba").error / paper.stated(*key, "erm").error))
        for key, stated in paper.RELATIVE_IMPROVEMENT.items()
    )
    column = Verdict(
        "Table 1",
        "the column of relative improvements follows from the others",
        HOLDS if gap < 0.05 else FAILS,
        f"largest mismatch {gap:.3f} percentage points",
        trivial=True,
    )
    errors = {name: paper.stated("cifar10", "vgg16", name).error for name in paper.COLUMNS}
    gains = [errors["erm"] - errors[name] for name in ("cutout+ba", "cutout")]
    matches = all(abs(gain - stated) < 0.05 for gain, stated in zip(gains, paper.QUOTED_GAINS, strict=True))
    others = [errors[name] - errors["sba"] for name in ("cutout+ba", "cutout")]
    stated = ", ".join(f"{g:.2f}" for g in paper.QUOTED_GAINS)
    quoted = Verdict(
        "§4.4",
        f"the gains of Cutout + BA and of Cutout against the baseline are {stated} points (VGG-16, CIFAR-10)",
        HOLDS if matches else FAILS,
        f"by Table 1 they are {gains[0]:.2f} and {gains[1]:.2f}; the numbers quoted are SBA's gains against those two, "
        f"{others[0]:.2f} and {others[1]:.2f}",
        trivial=True,
    )
    return [column, quoted]


def iterations() -> list[Verdict]:
    """§4.3: a claim about a regime that the paper does not state, so that no run can be planned for it."""
    claim = "ResNet-44 with SBA needs two thirds of BA's iterations on CIFAR-10"
    return [Verdict("§4.3", claim, NOT_RUN, "another regime, which the paper does not state")]


def verdicts_html(found: Sequence[Verdict]) -> str:
    """Write verdicts as a table: on sign and size, on how many runs, by which test, in which family, from which records."""
    rows: list[list[str] | Across] = []
    for v in found:
        claim = f'<span class="wrapped">{v.claim} ({v.place}){"; trivial" if v.trivial else ""}</span>'
        p = " / ".join(f"{value:.2g}" for value in (v.p, v.p_size) if value is not None)
        sizes = signed(float(v.found.mean)) if v.found else ""
        half = f" ± {v.found.half:.2f}" if v.found and not np.isnan(v.found.half) else ""
        test = (v.found.test or "none", str(v.found.n)) if v.found else ("", "")
        cells = (f"<strong>{v.outcome}</strong>", v.size, claim, sizes + half, *test, v.family, p)
        rows += [[cell or NO_NUMBER for cell in cells], Across("; ".join(filter(None, [v.because, *map(code, v.ids)])))]
    columns = ("Sign", "Stated size", "Claim, in our words", "Difference", "Test", "n", "Family", "p, corrected")
    return table(columns, rows)


def verdicts(records: Sequence[Record]) -> list[Verdict]:
    """Judge every claim by records as :func:`sba.records.file.read` reads them."""
    index = indexed(shared(records))
    return [*judge(claims(index, records)), *adopted_eta(index), *overhead(records), *arithmetic(), *iterations()]
