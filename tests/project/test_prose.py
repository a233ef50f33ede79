"""What the book says can be traced: every number in its prose, every "not run", every reference to another place."""

import re

import pytest
from prose import spoken, texts

from sba.measure.corruptions import CIFAR_C, IMAGENET_C, strengths
from sba.records.file import book_folder, read
from sba.records.schema import TrainRecord
from sba.report.price import IMAGES
from sba.studies.omega_eta import ETAS
from sba.studies.paper_runs import HOLDOUT

TEXTS = list(texts())
ORDINAL = re.compile(
    r"^(?:#+ | *)\d+\. |^\| \d+, ", re.MULTILINE
)  # of a heading, an item of a list, a row of an equation
NUMBER = re.compile(
    r"(?<![\w⟨])[−+-]?\d(?:[\d,.]*\d)?"
    r"|\b(?:half an?|one|two|three|four|five|six|seven|eight|nine|ten) (?:per cent|percentage points?|points|nats?)\b"
)

# What a number may be without a cell that computes it: no measurement.
NO_MEASUREMENTS = {
    "a place": r"(?:(?:Eqs?\.|Tables?|Figures?|Algorithm|points?|line|PEP) |§§?)\d[\d.]*(?:(?:,? and |, | to |–)§?\d[\d.]*)*",
    "a date or a year": r"\d{4}-\d\d-\d\d|\b(?:19|20)\d\d\b",
    "a name": r"(?<![⟨\w])[A-Za-zℓ]+-?\d[\w.]*(?:-[CH]\b)?|\b(?:torch|Python|torchvision|ipywidgets) \d[\d.]*(?: to \d[\d.]*)?",
    "a setting of a parameter": r"(?:\b[ωησταλrMBkQC]|⟪⟫|λ₀|λ\(t\)|\bseed) ?[=<>≤≥] ?[−-]?\d*[\d.,]*(?:\d/\d+|π/\d+|\d)",
    "an angle, a part of a symbol": r"\d*π/\d+|(?<![\w])[α-ω]/\d",
    "the level of an interval or a test": r"\b95 % (?:interval|of the runs)|middle 90 %|level of 5 %|[Pp]ower of 80 %|, 90 % needs",
    "a width of numbers": r"\b(?:8|16|32|64)[- ]bits?\b|\bbase 2\b|1/ln 2|\bln 2\b|\b2³²",
    "the place of a lesson's part": r"\bMinutes \d+–\d+\.|\bquestion \d\b",
    "zero and one": r"(?<![\d.,])[01]\b(?![.,]\d| %)",
}

# Numbers of single sentences, each with what it is. A phrase that is gone must go here as well.
PHRASES = {
    "01_tour.ipynb": {
        "reaches 90 %": "the definition of the band",
        "range [0, 10]": "quoted from §4.2",
        "to 10 and run": "a setting to try",
    },
    "02_vicinity.ipynb": {
        "from 0 to 4, with": "the ends of Marchenko and Pastur's law",
        "at 12 features its rows belong to a block of 8 and one of 4": "the picture's matrix",
        "At 12 features each row mixes the 8 features of one block or the 4 of the other": "the same",
        "every 4 × 4 block": "the same",
    },
    "03_scheduler.ipynb": {
        "hold 95 % of such counts": "the level of a band",
        "50 epochs of 390 steps": "the setting of an exercise",
        "60 % of its steps": "the same",
        "50 trials": "the same",
        "19,500 trials, and 60 %": "the same: their product",
    },
    "04_soft_label.ipynb": {"line of slope 2": "the exponent of a square"},
    "14_gradient.ipynb": {
        "change of 0.01 in a class of probability 0.01": "arithmetic of 1/Y",
        "probability 0.5": "the same",
    },
    "05_cifar.ipynb": {
        "half a percentage point between two methods": "the setting of an exercise",
        "equal seed were 0.3 points": "the same",
    },
    "06_imagenet.ipynb": {"image of 224 pixels": "the side of ImageNet's crops"},
    "10_relatives.ipynb": {"reaches 90 %": "the definition of the band"},
    "11_robustness.ipynb": {
        '"SBA, 10 η"': "the name of a line",
        "8×8 pixels": "the data set",
        "on 64 pixels": "the setting of an exercise",
        "With 64 equal": "the same",
    },
    "07_ablations.ipynb": {"27 points": "counted below", "8×8 pixels": "the data set"},
    "decisions.md": {
        "27 points": "counted below",
        "near 0 to near 4": "the ends of Marchenko and Pastur's law",
        "65,536 features": "VGG-16's first layer, 64 × 32 × 32",
        "layers of 16 channels": "ResNet-44's first group",
        "1.28 million files": "ImageNet's training set, sba.report.price.IMAGES",
        "η goes to 30": "a setting of the study, sba.studies.omega_eta",
        "3.6 MB": "the weight of files that are not used",
        "30 KB each": "the same",
        "2.5 radii": "a setting, sba.measure.attacks",
        "up to 64 pixels": "a setting, sba.measure.corruptions.strengths",
        "For 64 pixels": "the same",
        "8×8 pixels": "the data set",
        "the 256 of a file": "levels of eight bits",
        "JPEG of quality 85": "a setting of the authors' code",
    },
    "log.md": {
        "of 16 channels": "ResNet-44's first group",
        "of 16-channel layers": "the same",
        "with 2.15 it": "a version of torch",
        "1.5 MB": "the weight of a file that is not used",
    },
    "reproduce.md": {
        "on 5,000 held-out": "a setting, sba.studies.paper_runs.HOLDOUT",
        "3 when some are left, 2 when": "exit codes",
        "390 pixels": "a setting of a test",
        "5 MB": "the limit of a test",
    },
    "README.md": {
        "arXiv:2006.15284": "the paper",
        "27 points": "counted below",
        "≥ 2.11 and": "a version of torch",
    },
}

# Sentences that say "not run" and state no fact about the records.
NOT_RUN = {
    '"—" was not run': "a legend",
    "“—” was not run": "a legend",
    '"—" is not in the paper, or was not run': "a legend",
    '"—" was not measured': "a legend",
    "If something was not run, its cell reads “—”": "a rule",
    "they do the runs that have no record yet": "what a command does",
    "does the runs of a study that have no record yet": "the same",
    "the first run that has no record": "the same",
    "Several cards and several machines were **not** run": "what the tests can reach",
}
ABSENT = re.compile(
    r"\b(?:not|never|none of them was)\W+(?:yet |been )*(?:run|trained|measured|recorded)\b(?! (?:the|with))"
    r"|\bno (?:record|measurement)s?\b",
    re.IGNORECASE,
)


def page(where):
    return where.partition("[")[0]


def unexplained(where, text):
    """The numbers of a text that no rule and no phrase explains, each with its surroundings."""
    said = " ".join(ORDINAL.sub("", spoken(text)).split())
    for phrase in PHRASES.get(page(where), {}):
        said = said.replace(phrase, " ")
    for kind in NO_MEASUREMENTS.values():
        said = re.sub(kind, " ", said)
    return [said[max(0, m.start() - 40) : m.end() + 30] for m in NUMBER.finditer(said)]


@pytest.mark.parametrize(("where", "text"), TEXTS, ids=[where for where, _ in TEXTS])
def test_every_number_is_computed_or_is_no_measurement(where, text):
    assert unexplained(where, text) == []


@pytest.mark.parametrize(
    "claim",
    ["The error falls by 0.5 points.", "with n = 3", "SBA errs in 22 %", "the 95 % of it", "p = 0.03", "a gain of five per cent",
     "of two points", "It took 12 runs", "In 2 of them"],
)  # fmt: skip
def test_a_measurement_that_somebody_typed_is_found(claim):
    assert unexplained("a page", claim)


@pytest.mark.parametrize(
    "said",
    ["Eqs. 12–15 and §3.4", "CIFAR-10 with ResNet-44", "ω = π/3, M = 32", "a 95 % interval", "1. a list", "{glue:text}`gain:.2f` %",
     "$0.5$ and `0.5`", "on 2026-11-28", "either 0 or 1"],
)  # fmt: skip
def test_what_is_no_measurement_is_left_alone(said):
    assert unexplained("a page", said) == []


def test_no_phrase_is_allowed_that_nobody_writes():
    said = {}
    for where, text in TEXTS:
        said[page(where)] = said.get(page(where), "") + " ".join(ORDINAL.sub("", spoken(text)).split()) + "\n"
    assert [(name, phrase) for name, own in PHRASES.items() for phrase in own if phrase not in said[name]] == []
    assert [phrase for phrase in NOT_RUN if not any(phrase in text for text in said.values())] == []


def test_numbers_quoted_from_elsewhere_are_those():
    """What the allow-list explains by a constant or a count is that."""
    points = sorted(int(n) for n in re.findall(r"^\(point-(\d+)\)=$", dict(TEXTS)["decisions.md"], re.MULTILINE))
    assert points == list(range(1, 28))
    assert (HOLDOUT, max(ETAS), round(IMAGES, -4)) == (5000, 30, 1_280_000)
    assert strengths(64) is CIFAR_C and strengths(65) is IMAGENET_C
    assert 64 * 32 * 32 == 65_536 and 50 * 390 == 19_500
    # "Several cards and several machines were not run"
    assert {r.processes for r in read(book_folder()) if isinstance(r, TrainRecord)} == {1}


@pytest.mark.parametrize(("where", "text"), TEXTS, ids=[where for where, _ in TEXTS])
def test_what_was_not_run_is_computed(where, text):
    """The log is of its date."""
    said = re.sub(r"^#.*$", "", spoken(text), flags=re.MULTILINE)
    sentences = re.split(r"(?<=[.;!?])\s", " ".join(said.split()))
    typed = [s for s in sentences if ABSENT.search(s) and "⟨⟩" not in s and not any(known in s for known in NOT_RUN)]
    assert typed == [] or where == "log.md"


@pytest.mark.parametrize(("where", "text"), TEXTS, ids=[where for where, _ in TEXTS])
def test_no_line_is_a_comment_of_myst(where, text):
    """A line that begins with a per cent sign is left out of the page, and what stood around it is torn apart."""
    assert re.findall(r"^\s*%.*$", text, re.MULTILINE) == []
