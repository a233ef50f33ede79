"""The API page names every module, so that every public docstring is in the book."""

import re
from pathlib import Path

import sba

ROOT = Path(__file__).resolve().parents[2]
COMMAND_LINE = {"sba.cli.commands", "sba.__main__"}


def modules():
    files = (p.relative_to(ROOT).with_suffix("") for p in (ROOT / "sba").rglob("*.py"))
    names = {".".join(p.parts).removesuffix(".__init__") for p in files}
    return {n for n in names if not n.startswith("sba.") or n.split(".")[-1] != "__init__"} - COMMAND_LINE


def test_every_module_is_on_the_page_once():
    named = re.findall(r"automodule:: (\S+)", (ROOT / "book" / "api.md").read_text(encoding="utf-8"))
    assert len(named) == len(set(named))
    # packages of one idea a file: what they hand on is documented where it is written
    packages = {m for m in modules() if (ROOT / m.replace(".", "/")).is_dir()}
    assert set(named) >= modules() - packages
    assert set(named) <= modules()


def test_the_names_of_the_package_are_listed():
    first = (ROOT / "book" / "api.md").read_text(encoding="utf-8").split("\n## ")[1]
    assert sorted(re.findall(r"`(\w+) <sba", first)) == sorted(sba.__all__)
