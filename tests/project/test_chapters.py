"""Each chapter has one shape: a summary of three sentences, content before code, and what it cannot say."""

import json
import re

import pytest
from prose import NOTEBOOKS, spoken

BY_CHAPTER = pytest.mark.parametrize("path", NOTEBOOKS, ids=lambda p: p.stem)
FOLDED = {"hide-input", "hide-cell", "remove-input", "remove-cell"}


def cells(path):
    for cell in json.loads(path.read_text(encoding="utf-8"))["cells"]:
        yield cell["cell_type"], set(cell["metadata"].get("tags", [])), "".join(cell["source"])


@BY_CHAPTER
def test_it_begins_with_a_question_an_answer_and_the_evidence(path):
    kind, _, first = next(cells(path))
    said = " ".join(spoken(first).split())
    found = re.match(r"# .+? \*\*Question\.\*\* (.+?) \*\*Answer\.\*\* (.+?) \*\*Evidence\.\*\* ([^.]+\.)", said)
    assert kind == "markdown" and found
    for sentence, end in zip(found.groups(), "?..", strict=True):
        inner = re.sub(r"\bEqs?\.|\d\.\d", "", sentence)
        assert inner.endswith(end) and len(re.findall(r"[.?!](?:\s|$)", inner)) == 1, sentence


@BY_CHAPTER
def test_it_says_what_it_cannot_say(path):
    headings = [
        h for kind, _, text in cells(path) if kind == "markdown" for h in re.findall(r"^## (.+)$", text, re.MULTILINE)
    ]
    assert headings.count("Limitations") == 1


@BY_CHAPTER
def test_parameters_and_imports_are_folded(path):
    opened = [
        text
        for kind, tags, text in cells(path)
        if kind == "code"
        and not tags & FOLDED
        and ("parameters" in tags or re.search(r"^(?:import|from) ", text, re.MULTILINE))
    ]
    assert opened == []


def test_the_first_page_answers_what_a_reader_asks_first():
    """From records: all but what SBA is."""
    (path,) = [p for p in NOTEBOOKS if p.stem == "result"]
    first = next(cells(path))[2]
    answers = dict(
        re.findall(r"^- \*\*(.+?)\*\*(.*?)(?=^- |\Z|\n\n)", first.partition("\n## ")[0], re.MULTILINE | re.DOTALL)
    )
    questions = [
        "Does it work?",
        "Where does it help?",
        "And on little data?",
        "Which ingredient does it?",
        "What does it cost?",
        "What does most?",
        "What was not run?",
    ]
    assert list(answers) == ["What it is.", *questions]
    assert [q for q in questions if "{glue:text}" not in answers[q]] == []
