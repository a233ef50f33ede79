"""The cards say what the code and the records say."""

import re
from pathlib import Path

import pytest
from helpers import bench

from sba import METHODS, make_run
from sba.core.hyper import definitions
from sba.records.file import read
from sba.records.schema import TrainRecord
from sba.report import cards

ROOT = Path(__file__).parents[2]
FOUND = read(ROOT / "book" / "results")
every_card = pytest.mark.parametrize("card", cards.cards(), ids=lambda card: card.name)


def test_every_method_has_a_card_and_so_have_its_relatives_on_the_datas_side():
    names = [card.name for card in cards.cards()]
    assert set(names) == {*METHODS, "cutout", "ba", "latent-ba"} and len(names) == len(set(names))


@every_card
def test_its_sources_are_in_the_bibliography(card):
    known = re.findall(r"^@\w+\{([^,]+),", (ROOT / "book" / "references.bib").read_text(encoding="utf-8"), re.MULTILINE)
    assert set(card.cited) <= set(known)
    assert card.cited or card.name == "erm"


@every_card
def test_its_formula_has_balanced_braces_and_no_line_break(card):
    depth = 0
    for sign in re.sub(r"\\[{}]", "", card.formula):
        depth += {"{": 1, "}": -1}.get(sign, 0)
        assert depth >= 0
    assert depth == 0 and "\n" not in card.formula


@pytest.mark.parametrize("name", METHODS)
def test_it_lists_every_hyper_parameter_with_the_default_that_a_run_takes(name):
    card = cards.of_method(name)
    assert [fact["name"] for fact in card.fields] == list(definitions(METHODS[name]))
    method = make_run("digits", method=name).method
    assert {f["name"]: f["default"] for f in card.fields} == {
        f["name"]: getattr(method, f["name"]) for f in card.fields
    }
    text = cards.fields_html(card)
    assert all(f"<code>{fact['name']}</code>" in text for fact in card.fields)


def test_the_presets_card_lists_the_presets_defaults():
    method = make_run("digits", method="sba", preset="latent-ba").method
    assert all(getattr(method, fact["name"]) == fact["default"] for fact in cards.LATENT.fields)


@pytest.mark.parametrize(
    ("given", "owner", "name"),
    [
        ({}, "erm", "Baseline"),
        ({"cutout": 4}, "cutout", "Cutout"),
        ({"views": 2}, "ba", "Batch Augmentation (BA)"),
        ({"views": 2, "cutout": 4}, "ba", "Cutout + Batch Augmentation (BA)"),
        ({"method": "sba"}, "sba", "SBA"),
        ({"method": "sba", "cutout": 4}, "sba", "Cutout + SBA"),
        ({"method": "sba", "preset": "latent-ba", "folds": 3}, "latent-ba", "Batch Augmentation at a layer"),
        ({"method": "k-mixup"}, "k-mixup", "k-mixup"),
        ({"method": "sba+isda", "cutout": 4}, "sba+isda", "Cutout + SBA + ISDA"),
        ({"method": "mixup", "views": 2}, "mixup", "BA + mixup"),
        ({"method": "sba", "views": 2, "cutout": 4}, "sba", "Cutout + BA + SBA"),
    ],
)
def test_a_run_belongs_to_one_card(given, owner, name):
    made = make_run("digits", **given)
    assert [card.name for card in cards.cards() if card.owns(made)] == [owner]
    assert cards.name_of(made) == name


def test_every_training_record_of_the_book_belongs_to_one_card():
    for made in FOUND:
        if isinstance(made, TrainRecord):
            assert sum(card.owns(made.run) for card in cards.cards()) == 1


def test_the_cost_is_the_newest_measured_one():
    found = [
        bench("resnet44: mixup step over a plain step", 1.5, "new", "2026-01-02T00:00:00Z"),
        bench("resnet44: mixup step over a plain step", 9.0, "old", "2026-01-01T00:00:00Z"),
        bench("resnet44: k-mixup step over a plain step", 7.0, "other", "2026-01-03T00:00:00Z"),
        bench("alexnet: mixup step over a plain step", 8.0, "other network", "2026-01-03T00:00:00Z"),
    ]
    assert cards.timing(cards.of_method("mixup"), found).id == "new"
    assert "1.50 × a plain step (`new`" in cards.markdown(cards.of_method("mixup"), found)
    assert cards.timing(cards.of_method("mixup"), found, "alexnet").id == "other network"
    assert cards.timing(cards.of_method("isda"), found) is None
    assert "**Cost of a step:** —" in cards.markdown(cards.of_method("isda"), found)


@every_card
def test_its_evidence_names_every_record_of_it_and_no_other(card):
    text = cards.markdown(card, FOUND)
    trained = [r for r in FOUND if isinstance(r, TrainRecord)]
    own = {r.id for r in trained if card.owns(r.run) and not r.study}
    others = {r.id for r in trained} - own
    assert not {i for i in others if i in text}
    assert {i for i in own if i in text} == own
