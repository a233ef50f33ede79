"""The README says what is there: its table is the generated one, its tree is the tree, its example runs."""

import pathlib
import re
import shlex
from xml.etree import ElementTree

import pytest
from click.testing import CliRunner

from sba.book import answer
from sba.cli.commands import main
from sba.records.file import read
from sba.report import tables
from sba.report.ingredients import ingredients_markdown

ROOT = pathlib.Path(__file__).parents[2]
README = (ROOT / "README.md").read_text(encoding="utf-8")


@pytest.fixture(scope="module")
def records():
    return read(ROOT / "book" / "results")


def test_its_tables_are_what_the_records_give(records):
    tables.insert_table(ROOT / "README.md", tables.readme_table(records), check=True)
    tables.insert_table(ROOT / "README.md", ingredients_markdown(records), check=True, name="ingredients")


def test_its_figure_is_what_the_records_give(records):
    line = answer.picture_markdown(records)
    tables.insert_table(ROOT / "README.md", line, check=True, name="picture")
    drawn = ElementTree.parse(ROOT / answer.PICTURE).iter("{http://purl.org/dc/elements/1.1/}description")
    assert [f"![{one.text}]({answer.PICTURE.as_posix()})" for one in drawn] == [line]


def test_its_picture_is_there_and_has_a_text():
    found = dict((path, text) for text, path in re.findall(r"!\[([^\]]*)\]\(([^)]+)\)", README))
    assert set(found) == {"book/_assets/sba.svg", answer.PICTURE.as_posix()}
    assert all(len(text) > 100 for text in found.values())
    picture = (ROOT / "book/_assets/sba.svg").read_text(encoding="utf-8")
    assert picture.startswith("<svg") and "prefers-color-scheme: dark" in picture


def test_every_room_is_on_the_map_once():
    tree = README.split("## What is where")[1].split("## Cite")[0]
    named = re.findall(r"^ +sba/([a-z]+)/", tree, re.MULTILINE)
    assert sorted(named) == sorted(p.name for p in (ROOT / "sba").iterdir() if (p / "__init__.py").exists())


def test_its_python_example_runs():
    (example,) = re.findall(r"```python\n(.*?)```", README, re.DOTALL)
    exec(compile(example, "README.md", "exec"), names := {})
    assert set(names["criterion"].terms) <= {"cross_entropy", "virtual"} and names["criterion"].step == 1
    assert all(p.grad is not None for p in names["network"].parameters())


@pytest.mark.parametrize("line", re.findall(r"^ +python -m sba train (.+?)(?:  +#.*)?$", README, re.MULTILINE))
def test_its_commands_are_understood(line, monkeypatch):
    words = [w for w in shlex.split(line) if w != "--download"]
    if "--help" not in words:
        words = [*words, "--data-root", "/nowhere"]
        words = ["cpu" if w == "cuda" else w for w in words]
    result = CliRunner().invoke(main, ["train", *words])
    expected = 0 if "--help" in words else 2
    assert result.exit_code == expected
    assert expected == 0 or re.search(r"error: data_root: .*data_batch_1 is missing", result.output)
