"""The pages of the API name every module under its room, so that every public docstring is in the book."""

import re
from pathlib import Path

import sba

ROOT = Path(__file__).resolve().parents[2]
COMMAND_LINE = {"sba.cli.commands", "sba.__main__"}


def modules():
    files = (p.relative_to(ROOT).with_suffix("") for p in (ROOT / "sba").rglob("*.py"))
    names = {".".join(p.parts).removesuffix(".__init__") for p in files}
    return {n for n in names if not n.startswith("sba.") or n.split(".")[-1] != "__init__"} - COMMAND_LINE


PAGES = {p.stem: p.read_text(encoding="utf-8") for p in sorted((ROOT / "book" / "api").glob("*.md"))}


def test_every_module_is_on_the_page_of_its_room_once():
    found = {room: re.findall(r"automodule:: (\S+)", text) for room, text in PAGES.items()}
    named = [name for names in found.values() for name in names]
    assert len(named) == len(set(named))
    assert all(name.split(".")[1] == room for room, names in found.items() for name in names)
    # packages of one idea a file: what they hand on is documented where it is written
    packages = {m for m in modules() if (ROOT / m.replace(".", "/")).is_dir()}
    assert set(named) >= modules() - packages
    assert set(named) <= modules()


def test_the_names_of_the_package_are_listed():
    first = (ROOT / "book" / "api.md").read_text(encoding="utf-8").split("\n## ")[1]
    assert sorted(re.findall(r"`(\w+) <sba", first)) == sorted(sba.__all__)


def test_the_index_leads_to_every_room():
    rooms = {p.parent.name for p in (ROOT / "sba").glob("*/__init__.py")}
    text = (ROOT / "book" / "api.md").read_text(encoding="utf-8")
    listed = re.findall(r"^\[`sba\.(\w+)`\]\(api/(\w+)\.md\)\n: \S.{40}", text, re.MULTILINE)
    assert sorted(listed) == sorted((room, room) for room in rooms) and {room for room, _ in listed} == set(PAGES)
