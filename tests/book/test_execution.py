"""The chapters' sources are clean, and what the pipeline stages is what a page may show."""

import ast
import os
import signal
import subprocess
import sys
import time
from pathlib import Path

import nbformat
import pytest

from sba.book import execution
from sba.book.hygiene import NotebookError, check_outputs, clean, clean_files, repository

ROOT = Path(__file__).resolve().parents[2]
SOURCES = sorted((ROOT / "notebooks").glob("*.ipynb"))
each_source = pytest.mark.parametrize("path", SOURCES, ids=lambda p: p.stem)


def tags(cell):
    return cell.metadata.get("tags", [])


def markdown(text, **fields):
    return nbformat.v4.new_markdown_cell(text, **fields)


def code(text, *names, **fields):
    return nbformat.v4.new_code_cell(text, metadata={"tags": list(names)} if names else {}, **fields)


def save(path, *cells):
    path.parent.mkdir(parents=True, exist_ok=True)
    nbformat.write(clean(nbformat.v4.new_notebook(cells=list(cells))), path)
    return path


@pytest.fixture
def tree(tmp_path):
    """A small project: two chapters, a page, a record and a source file."""
    for name, text in {
        "book/index.md": "# A book",
        "book/results/runs.jsonl": "{}",
        "sba/core.py": "x = 1",
        "_config.yml": "title: A book",
        "_toc.yml": "format: jb-book\nroot: book/index",
    }.items():
        (tmp_path / name).parent.mkdir(parents=True, exist_ok=True)
        (tmp_path / name).write_text(text)
    parameters = code("seed = 0\ndevice = 'cpu'", "parameters")
    facts = "import os, sys, pandas\nprint(seed, device, os.environ['OMP_NUM_THREADS'], os.getcwd(), sys.prefix,"
    facts += " pandas.get_option('display.max_columns'))"
    save(tmp_path / "notebooks" / "00_good.ipynb", markdown("# Good"), parameters, code(facts))
    save(tmp_path / "notebooks" / "01_bad.ipynb", markdown("# Bad"), parameters, code("1 / seed"), code("'never'"))
    return tmp_path


def execute(tree, **options):
    return execution.execute(tree / "notebooks", tree / "_build" / "stage", **options)


def test_there_are_chapters():
    assert SOURCES


@each_source
def test_a_source_is_clean(path):
    """No outputs, counts, widget state, times or random cell ids. `python -m sba notebooks --clean` mends a source."""
    notebook = nbformat.read(path, as_version=4)
    nbformat.validate(notebook)
    assert notebook == clean(notebook, repository(ROOT))


@each_source
def test_a_source_begins_its_code_with_parameters_that_papermill_can_set(path):
    cells = [cell for cell in nbformat.read(path, as_version=4).cells if cell.cell_type == "code"]
    assert "parameters" in tags(cells[0])
    assert [n for n, cell in enumerate(cells) if "parameters" in tags(cell)] == [0]
    execution.check_parameters(path, {"device": "cpu", "dataset": "digits"})


@each_source
def test_a_source_leaves_no_dead_sliders_in_the_page(path):
    """`interact` needs a kernel: in the page it does nothing."""
    assert "interact(" not in path.read_text(encoding="utf-8")


def test_clean_removes_what_running_leaves_behind_and_nothing_else():
    mine = {"name": "mine", "display_name": "My own"}
    random_id, chosen_id = "3f2a91bc", "plot-of-lambda"
    cells = [
        markdown("# Title", id="b5f0c7de-0f4e-4c55-9d4f-1f3a0c2b9d11"),
        code("1 + 1", "parameters", id=random_id, execution_count=7),
        code("2", "hide-input", id=chosen_id, execution_count=8),
    ]
    cells[1].outputs = [nbformat.v4.new_output("execute_result", {"text/plain": "2"}, execution_count=7)]
    cells[2].metadata["execution"] = {"iopub.execute_input": "2026-01-01T00:00:00Z"}
    dirty = nbformat.v4.new_notebook(cells=cells, metadata={"widgets": {"state": {}}, "kernelspec": mine})
    before = nbformat.writes(dirty)
    cleaned = clean(dirty)
    assert nbformat.writes(dirty) == before
    assert [c.id for c in cleaned.cells] == ["cell-00", "cell-01", chosen_id]
    assert [c.source for c in cleaned.cells] == ["# Title", "1 + 1", "2"]
    assert [tags(c) for c in cleaned.cells] == [[], ["parameters"], ["hide-input"]]
    assert all(c.outputs == [] and c.execution_count is None for c in cleaned.cells[1:])
    assert cleaned.metadata.kernelspec.name == "python3" and "widgets" not in cleaned.metadata
    assert "execution" not in cleaned.cells[2].metadata
    assert clean(cleaned) == cleaned


def test_clean_files_rewrites_only_what_is_not_clean(tree):
    good = tree / "notebooks" / "00_good.ipynb"
    dirty = nbformat.read(good, as_version=4)
    dirty.cells[1].execution_count = 3
    assert clean_files(tree / "notebooks") == []
    nbformat.write(dirty, good)
    assert clean_files(tree / "notebooks") == [good]
    assert clean_files(tree / "notebooks") == []


def test_executing_stages_the_tree_sets_the_parameters_and_skips_what_is_up_to_date(tree):
    stage = (tree / "_build" / "stage").resolve()
    before = dict(os.environ)
    (done,) = execute(tree, only=["00_good"], parameters={"seed": 3})
    assert dict(os.environ) == before
    executed = nbformat.read(done, as_version=4)
    assert done == stage / "notebooks" / "00_good.ipynb"
    assert executed.cells[-1].outputs[0].text.split() == ["3", "cpu", "1", str(stage), sys.prefix, "20"]
    injected = executed.cells[2]
    assert tags(injected) == ["injected-parameters", "remove-cell"] and injected.id == "injected-parameters"
    assert "papermill" not in nbformat.writes(executed) and "iopub" not in nbformat.writes(executed)
    for name in ("book/index.md", "book/results/runs.jsonl", "_config.yml", "_toc.yml"):
        assert (stage / name).read_bytes() == (tree / name).read_bytes()
    assert not (stage / "sba").exists()

    assert execute(tree, only=["00_good"], parameters={"seed": 3}) == []
    done.unlink()
    assert execute(tree, only=["00_good"], parameters={"seed": 3}) == [done]


def test_a_failing_notebook_is_named_with_its_error_and_leaves_no_page(tree):
    page = tree / "_build" / "stage" / "notebooks" / "01_bad.ipynb"
    page.parent.mkdir(parents=True)
    page.write_text("an old page")
    with pytest.raises(NotebookError, match=r"01_bad\.ipynb.*ZeroDivisionError: division by zero") as caught:
        execute(tree)
    assert not page.exists()
    assert (page.parent / "00_good.ipynb").exists(), "the others are executed all the same"
    failed = tree / "_build" / "failed" / "01_bad.ipynb"
    assert str(failed) in str(caught.value)
    outputs = [o for c in nbformat.read(failed, as_version=4).cells if c.cell_type == "code" for o in c.outputs]
    assert [o.ename for o in outputs] == ["ZeroDivisionError"]


def test_a_kernel_that_dies_is_named(tree):
    save(tree / "notebooks" / "02_dead.ipynb", code("device = 'cpu'", "parameters"), code("import os\nos._exit(1)"))
    with pytest.raises(NotebookError, match=r"02_dead\.ipynb: Kernel died"):
        execute(tree, only=["02_dead"])
    assert not (tree / "_build" / "stage" / "notebooks" / "02_dead.ipynb").exists()


def test_a_kernel_ends_with_the_process_that_executes(tree):
    """However that ended: it is killed here."""
    told = tree / "told"
    sleep = f"import os, pathlib, time\npathlib.Path({str(told)!r}).write_text(str(os.getpid()))\ntime.sleep(600)"
    save(tree / "notebooks" / "02_long.ipynb", code("device = 'cpu'", "parameters"), code(sleep))
    folders = ["--source", tree / "notebooks", "--stage", tree / "_build" / "stage"]
    command = [sys.executable, "-m", "sba", "notebooks", *folders, "--only", "02_long"]
    running = subprocess.Popen(command, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)
    while not (told.exists() and told.read_text()):
        assert running.poll() is None, "it ended before the kernel began"
        time.sleep(0.05)
    running.kill()
    running.wait()
    for _ in range(1200):
        try:
            os.kill(int(told.read_text()), 0)
        except ProcessLookupError:
            return
        time.sleep(0.05)
    os.kill(int(told.read_text()), signal.SIGKILL)
    pytest.fail("the kernel was left")


# what stands on a line: a module, and attributes of it that a chapter uses
FRESH = """
import importlib, sys
for line in sys.stdin:
    module, *names = line.split()
    found = importlib.import_module(module)
    for name in names:
        assert hasattr(found, name), f"{line.strip()}: import it by its full name"
        found = getattr(found, name)
"""


def test_a_chapter_imports_itself_what_it_uses():
    """The book's kernels have loaded more than a reader's: `sba.report` may be an attribute there, and none in Jupyter."""
    used = set()
    for path in SOURCES:
        text = "\n".join(c.source for c in nbformat.read(path, as_version=4).cells if c.cell_type == "code")
        nodes = list(ast.walk(ast.parse(text)))
        imported = [a for n in nodes if isinstance(n, ast.Import) for a in n.names]
        modules = {a.asname or a.name: a.name for a in imported if a.asname or "." not in a.name}
        for node in nodes:
            names = []
            while isinstance(node, ast.Attribute):
                node, names = node.value, [node.attr, *names]
            if names and isinstance(node, ast.Name) and node.id in modules:
                used.add(" ".join([modules[node.id], *names]))
    assert any(line.startswith("torch nn ") for line in used)
    done = subprocess.run([sys.executable, "-c", FRESH], input="\n".join(sorted(used)), capture_output=True, text=True)
    assert done.returncode == 0, done.stderr


def test_an_unknown_parameter_is_refused_before_anything_runs(tree):
    with pytest.raises(NotebookError, match=r"00_good\.ipynb: no parameter 'sede'.*declares seed, device"):
        execute(tree, parameters={"sede": 1})
    assert not (tree / "_build").exists()


def test_an_unknown_notebook_is_refused_with_the_known_ones(tree):
    with pytest.raises(NotebookError, match=r"no notebook '07_none'.*00_good, 01_bad"):
        execute(tree, only=["07_none"])
    with pytest.raises(NotebookError, match="no notebooks here"):
        execution.execute(tree / "book", tree / "stage")


ERROR = nbformat.v4.new_output("error", ename="E", evalue="why")
WARNING = nbformat.v4.new_output("stream", name="stderr", text="f.py:3: UserWarning: odd\n  x")


@pytest.mark.parametrize(
    ("cell", "message"),
    [
        (code("x", execution_count=1, outputs=[ERROR]), "cell 0: E: why"),
        (code("x", execution_count=1, outputs=[WARNING]), "cell 0: f.py:3: UserWarning: odd"),
        (code("x = 1"), "cell 0: not executed"),
    ],
    ids=["error", "warning", "not executed"],
)
def test_a_page_must_not_show(cell, message):
    with pytest.raises(NotebookError, match=message):
        check_outputs("00.ipynb", nbformat.v4.new_notebook(cells=[cell]))


def test_a_page_may_show():
    bar = nbformat.v4.new_output("stream", name="stderr", text="epoch 3: 100%|████| 5/5")
    cells = [markdown("# A"), code("x", execution_count=1, outputs=[bar]), code(""), code("train()", "skip-execution")]
    check_outputs("00.ipynb", nbformat.v4.new_notebook(cells=cells))


@pytest.mark.parametrize("changed", ["notebooks/00_good.ipynb", "sba/core.py", "book/results/runs.jsonl"])
def test_the_digest_depends_on_the_file(tree, changed):
    notebook = tree / "notebooks" / "00_good.ipynb"
    before = execution.digest(notebook, tree, {})
    assert execution.digest(notebook, tree, {}) == before
    (tree / changed).write_text((tree / changed).read_text() + "\n")
    assert execution.digest(notebook, tree, {}) != before


def test_the_digest_depends_on_parameters_and_versions_but_not_on_prose(tree, monkeypatch):
    notebook = tree / "notebooks" / "00_good.ipynb"
    before = execution.digest(notebook, tree, {})
    (tree / "book" / "index.md").write_text("# Another title")
    assert execution.digest(notebook, tree, {}) == before
    assert execution.digest(notebook, tree, {"seed": 1}) != before

    extras = 'train = ["click>=8"]\nbook = ["x[train]", "papermill>=2"]\nlab = ["jupyterlab>=4"]'
    named = f'[project]\nname = "x"\ndependencies = ["torch>=2"]\n[project.optional-dependencies]\n{extras}'
    (tree / "pyproject.toml").write_text(named)
    versions = {"torch": "2.0", "click": "8.1", "papermill": "2.6", "jupyterlab": "4.0"}
    monkeypatch.setattr(execution.importlib.metadata, "version", versions.__getitem__)
    before = execution.digest(notebook, tree, {})
    versions["jupyterlab"] = "5.0"
    assert execution.digest(notebook, tree, {}) == before
    for name in ("torch", "click", "papermill"):
        older, versions[name] = versions[name], "9"
        assert execution.digest(notebook, tree, {}) != before
        versions[name] = older


def test_the_stage_follows_the_tree_and_touches_only_what_differs(tree):
    stage = tree / "_build" / "stage"
    execution.stage_tree(tree, stage)
    (tree / "book" / "index.md").rename(tree / "book" / "start.md")
    drawn = stage / "book" / "_figures" / "drawn.svg"
    drawn.parent.mkdir()
    drawn.write_text("drawn by a notebook, in its working directory")
    os.utime(stage / "_toc.yml", (1, 1))
    execution.stage_tree(tree, stage)
    assert sorted(p.name for p in (stage / "book").glob("*.md")) == ["start.md"]
    assert drawn.exists()
    assert (stage / "_toc.yml").stat().st_mtime == 1
