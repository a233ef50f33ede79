"""Where the project is hosted: one setting gives the chapters buttons for Colab and Binder, and the cell that installs it there."""

import importlib.util
import os

import nbformat
import pytest
import yaml
from IPython.core.inputtransformer2 import TransformerManager
from pages import HOSTED, ROOT, build, small_book

from sba.book import execution
from sba.book.hygiene import clean, clean_files, repository


def test_the_project_names_no_repository_of_its_own():
    assert repository(ROOT) == {}


def test_the_install_cell_stands_behind_the_parameters_where_there_is_a_repository(tmp_path):
    folder = tmp_path / "notebooks"
    folder.mkdir()
    parameters = nbformat.v4.new_code_cell("seed = 0", id="first", metadata={"tags": ["parameters"]})
    text = nbformat.v4.new_markdown_cell("# A", id="title")
    nbformat.write(clean(nbformat.v4.new_notebook(cells=[text, parameters])), folder / "00_a.ipynb")

    def ids():
        return [cell.id for cell in nbformat.read(folder / "00_a.ipynb", as_version=4).cells]

    for named, wanted in ((HOSTED, ["title", "first", "install"]), ({"url": ""}, ["title", "first"])):
        (tmp_path / "_config.yml").write_text(yaml.safe_dump({"repository": named}))
        assert clean_files(folder) == [folder / "00_a.ipynb"] and ids() == wanted
        assert clean_files(folder) == []


def test_headlessly_the_install_cell_is_skipped(tmp_path):
    cells = [
        nbformat.v4.new_code_cell("seed = 0", metadata={"tags": ["parameters"]}),
        nbformat.v4.new_code_cell("seed"),
    ]
    folder = tmp_path / "notebooks"
    folder.mkdir()
    nbformat.write(clean(nbformat.v4.new_notebook(cells=cells), HOSTED), folder / "00_a.ipynb")
    for name in ("book", "sba"):
        (tmp_path / name).mkdir()
    (done,) = execution.execute(folder, tmp_path / "_build" / "stage")
    executed = nbformat.read(done, as_version=4)
    assert [(c.id, c.execution_count is None) for c in executed.cells] == [
        ("cell-00", False),
        ("install", True),
        ("cell-02", False),
    ]


@pytest.mark.parametrize("installed", [True, False])
def test_the_install_cell_does_nothing_where_the_project_is(monkeypatch, installed):
    """Its commands as IPython would run them, with a shell that only notes them."""

    class Shell:
        def __init__(self):
            self.asked = []

        def system(self, command):
            self.asked.append(command)

        def run_line_magic(self, name, line, *rest):
            self.asked.append(f"{name} {line}")

    shell, find = Shell(), importlib.util.find_spec
    monkeypatch.setattr(importlib.util, "find_spec", lambda name: find(name) if installed else None)
    code = TransformerManager().transform_cell(clean(nbformat.v4.new_notebook(), HOSTED).cells[0].source)
    exec(compile(code, "install", "exec"), {"get_ipython": lambda: shell})
    commands = [
        f"git clone --quiet --depth 1 --branch trunk {HOSTED['url']} sba-book",
        "cd sba-book",
        'pip install --quiet ".[book]"',
    ]
    assert shell.asked == ([] if installed else commands)


def test_binder_finds_the_dependencies_and_installs_the_package():
    folder = ROOT / ".binder"
    assert (folder / "environment.yml").read_bytes() == (ROOT / "environment.yml").read_bytes()
    assert (
        os.access(folder / "postBuild", os.X_OK) and "pip install --no-deps -e ." in (folder / "postBuild").read_text()
    )


def test_a_page_whose_address_is_known_has_a_picture_for_previews(tmp_path):
    """By its whole address: a preview is made elsewhere."""
    where = "https://somebody.github.io/some-book"
    book = small_book(tmp_path)
    config = yaml.safe_load((book / "_config.yml").read_text(encoding="utf-8"))
    config["html"]["baseurl"] = where
    (book / "_config.yml").write_text(yaml.safe_dump(config), encoding="utf-8")
    (book / "book" / "_figures").mkdir()
    (book / "book" / "_figures" / "answer.png").write_bytes(b"a picture")
    found = build(book, "# A page\n\nIts first paragraph is what a search engine and a preview say that it is about.\n")
    assert found.returncode == 0, found.stderr
    text = (book / "_build" / "html" / "book" / "index.html").read_text(encoding="utf-8")
    assert f'<meta property="og:image" content="{where}/_static/answer.png">' in text
    assert f'<meta property="og:url" content="{where}/book/index.html">' in text
    assert (book / "_build" / "html" / "_static" / "answer.png").read_bytes() == b"a picture"
