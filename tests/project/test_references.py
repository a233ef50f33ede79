"""What the prose points at is there: sections, equations, files, names of the package, cited works, numbers of cells."""

import ast
import importlib
import json
import re

import pytest
from prose import NOTEBOOKS, PAGES, ROOT, texts

TEXTS = list(texts())
EVERYTHING = "\n".join(text for _, text in TEXTS)
CODE = [p for folder in ("sba", "tests") for p in sorted((ROOT / folder).rglob("*.py"))]
LABELS = set(re.findall(r"^\(([\w-]+)\)=$", EVERYTHING, re.MULTILINE))
EQUATIONS = set(re.findall(r"^:label: (\S+)$", EVERYTHING, re.MULTILINE))
WORKS = set(re.findall(r"^@\w+\{(.+?),", (ROOT / "book" / "references.bib").read_text(encoding="utf-8"), re.MULTILINE))
BY_PAGE = pytest.mark.parametrize(("where", "text"), TEXTS, ids=[where for where, _ in TEXTS])


def roles(name, text):
    """Targets of a role: {name}`target` or {name}`words <target>`."""
    return [
        re.sub(r".*<(.+)>$", r"\1", " ".join(found.split())) for found in re.findall(rf"\{{{name}\}}`([^`]+)`", text)
    ]


def folder(where):
    return ROOT / ("notebooks" if ".ipynb" in where else "." if where == "README.md" else "book")


def there(name):
    """Whether a dotted name of the package can be imported; its last parts may be attributes."""
    parts = name.split(".")
    for cut in range(len(parts), 0, -1):
        try:
            found = importlib.import_module(".".join(parts[:cut]))
        except ModuleNotFoundError:
            continue
        for part in parts[cut:]:
            if not hasattr(found, part):
                return part in getattr(found, "__dataclass_fields__", ())
            found = getattr(found, part)
        return True
    return False


def test_every_label_stands_once():
    found = re.findall(r"^\(([\w-]+)\)=$", EVERYTHING, re.MULTILINE)
    assert sorted(found) == sorted(set(found))


@BY_PAGE
def test_sections_equations_and_works_are_there(where, text):
    assert set(roles("ref", text)) <= LABELS
    assert set(roles("eq", text)) <= EQUATIONS
    assert {key.strip() for found in roles("cite(?::t|:p)?", text) for key in found.split(",")} <= WORKS


@BY_PAGE
def test_links_lead_to_a_file_or_a_section(where, text):
    text = re.sub(r"`[^`]*`", "", text)
    targets = [t for t in re.findall(r"\]\(([^)\s]+)\)", text) if not t.startswith(("http", "#", "mailto"))]
    targets += [f"{t}.ipynb" if (folder(where) / f"{t}.ipynb").exists() else f"{t}.md" for t in roles("doc", text)]
    assert [t for t in targets if t not in LABELS and not (folder(where) / t.partition("#")[0]).exists()] == []


@BY_PAGE
def test_names_and_files_of_the_project_are_there(where, text):
    """The log is of its date."""
    if where == "log.md":
        return
    names = re.findall(r"`(sba(?:\.\w+)+)(?:\(.*?\))?`", text) + [t.lstrip("~") for t in roles(r"py:\w+", text)]
    assert [name for name in names if not there(name)] == []
    files = re.findall(r"`((?:sba|tests|book|notebooks)/[\w./-]+\.\w+)`", text)
    assert [name for name in files if not (ROOT / name).exists()] == []


def test_the_number_of_an_equation_is_the_papers():
    """Sphinx numbers the equations of a page in their order."""
    notation = dict(TEXTS)["notation.md"]
    order = re.findall(r"^\*\*Eq\. (\d+) of the paper\*\*.*?^:label: (\S+)$", notation, re.MULTILINE | re.DOTALL)
    labels = re.findall(r"^:label: (\S+)$", notation, re.MULTILINE)
    assert [(int(n), label) for n, label in order] == list(enumerate(labels[:15], start=1))


def test_the_open_points_that_the_code_names_are_there():
    named = {n for p in CODE for n in re.findall(r"open point (\d+)", p.read_text(encoding="utf-8"))}
    assert len(named) > 10 and {f"point-{n}" for n in named} <= LABELS


@pytest.mark.parametrize("path", NOTEBOOKS, ids=lambda p: p.stem)
def test_every_number_that_a_chapter_shows_is_made_by_a_cell_of_it(path):
    cells = json.loads(path.read_text(encoding="utf-8"))["cells"]
    code = "\n".join("".join(c["source"]) for c in cells if c["cell_type"] == "code")
    made = re.findall(r"glue\(\s*f?\"([^\"]+)\"", code)
    made = [re.sub(r"\\\{.+?\\\}", r"\\w+", re.escape(name)) for name in made]
    shown = {
        key.partition(":")[0]
        for where, text in TEXTS
        if where.startswith(path.name)
        for key in roles("glue:text", text)
    }
    assert [key for key in sorted(shown) if not any(re.fullmatch(name, key) for name in made)] == []


@pytest.mark.parametrize("path", NOTEBOOKS, ids=lambda p: p.stem)
def test_a_number_is_made_once(path):
    """A second one of a name is a warning, with which the book does not build."""
    cells = json.loads(path.read_text(encoding="utf-8"))["cells"]
    trees = [ast.parse("".join(c["source"])) for c in cells if c["cell_type"] == "code"]
    named = [n.args[0].value for tree in trees for n in ast.walk(tree) if isinstance(n, ast.Call) and plain_glue(n)]
    assert sorted(named) == sorted(set(named))


def plain_glue(call):
    return ast.unparse(call.func) == "glue" and isinstance(call.args[0], ast.Constant)


@BY_PAGE
def test_what_is_computed_in_this_notebook_is_a_number_of_it(where, text):
    for paragraph in re.split(r"\n\s*\n", text):
        if "in this notebook" in paragraph and "computed" in paragraph:
            assert "{glue" in paragraph
    assert ".ipynb" in where or "in this notebook" not in text


def test_all_pages_are_looked_at():
    assert len(NOTEBOOKS) >= 13 and {"decisions.md", "log.md", "notation.md"} <= {p.name for p in PAGES}
