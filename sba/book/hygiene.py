"""What a notebook may hold: no trace of a run in the source, only results in the executed copy."""

import copy
import re
from collections.abc import Mapping
from pathlib import Path

import nbformat
import yaml

from sba.core.errors import SBAError

RANDOM_ID = re.compile(r"[0-9a-f]{8}(-[0-9a-f]{4}){3}-[0-9a-f]{12}|[0-9a-f]{8}")
WARNING = re.compile(r"^.*\w*Warning: .*$", re.MULTILINE)

INSTALL = """\
# If the project is not installed, as on Colab, this cell fetches it; a headless run skips it.
import importlib.util

if importlib.util.find_spec("sba") is None:
    !git clone --quiet --depth 1 --branch {branch} {url} sba-book
    %cd sba-book
    %pip install --quiet ".[book]"\
"""


class NotebookError(SBAError):
    """A notebook cannot be executed, failed, or shows something that a page must not show."""


def repository(root: Path) -> dict[str, str]:
    """Return the repository that `_config.yml` of a tree names: `url` and `branch`, or nothing if the url is empty or missing."""
    config = root / "_config.yml"
    named = (yaml.safe_load(config.read_text(encoding="utf-8")) if config.exists() else {}).get("repository") or {}
    return {"url": named["url"], "branch": named.get("branch") or "main"} if named.get("url") else {}


def clean(notebook: nbformat.NotebookNode, hosted: Mapping[str, str] | None = None) -> nbformat.NotebookNode:
    """Return a copy as git keeps it: no outputs, counts, widget state or times, and cell ids that do not change.

    A random id, as an editor gives it, becomes `cell-N`; an id that somebody chose stays. If the project is hosted
    (`repository`), the cell that installs it follows the parameters; otherwise there is none.
    """
    notebook = copy.deepcopy(notebook)
    notebook.cells = [cell for cell in notebook.cells if cell.get("id") != "install"]
    if hosted:
        behind = [n for n, cell in enumerate(notebook.cells, 1) if "parameters" in cell.metadata.get("tags", [])]
        hidden = {"tags": ["install", "skip-execution", "remove-cell"]}
        cell = nbformat.v4.new_code_cell(INSTALL.format(**hosted), id="install", metadata=hidden)
        notebook.cells.insert(behind[0] if behind else 0, cell)
    kernel = {"display_name": "Python 3", "language": "python", "name": "python3"}
    notebook.metadata = nbformat.from_dict({"kernelspec": kernel, "language_info": {"name": "python"}})
    notebook.nbformat, notebook.nbformat_minor = 4, 5
    taken = {cell.get("id", "") for cell in notebook.cells}
    for n, cell in enumerate(notebook.cells):
        if RANDOM_ID.fullmatch(cell.get("id", "00000000")):
            cell.id = next(name for i in range(n, n + 1000) if (name := f"cell-{i:02d}") not in taken)
            taken.add(cell.id)
        for key in ("execution", "papermill", "collapsed", "trusted"):
            cell.metadata.pop(key, None)
        if cell.cell_type == "code":
            cell.outputs, cell.execution_count = [], None
    return notebook


def clean_files(notebooks_dir: Path | str = "notebooks") -> list[Path]:
    """Rewrite every notebook of the folder as `clean` gives it; return those that changed."""
    changed, hosted = [], repository(Path(notebooks_dir).resolve().parent)
    for path in sorted(Path(notebooks_dir).glob("*.ipynb")):
        text = nbformat.writes(clean(nbformat.read(path, as_version=4), hosted)) + "\n"
        if text != path.read_text(encoding="utf-8"):
            path.write_text(text, encoding="utf-8")
            changed.append(path)
    return changed


def check_outputs(name: str, notebook: nbformat.NotebookNode) -> None:
    """Raise `NotebookError`, which names the cell, if an executed notebook holds an error or a warning or a cell was not run."""
    for index, cell in enumerate(notebook.cells):
        if cell.cell_type != "code":
            continue
        where = f"{name}, cell {index}"
        for output in cell.outputs:
            if output.output_type == "error":
                trace = "\n".join(output.traceback)
                raise NotebookError(f"{where}: {output.ename}: {output.evalue}\n{trace}")
            printed = output.text if output.get("name") == "stderr" else ""
            if found := WARNING.search(printed):
                raise NotebookError(f"{where}: {found[0].strip()} (a page shows no warnings: remove its cause)")
        skipped = "skip-execution" in cell.metadata.get("tags", [])
        if cell.source.strip() and cell.execution_count is None and not skipped:
            raise NotebookError(f"{where}: not executed; a cell that is meant so has the tag skip-execution")


def strip(notebook: nbformat.NotebookNode) -> nbformat.NotebookNode:
    """Remove papermill's bookkeeping and all times in place, and hide the injected cell; readers download this file."""
    notebook.metadata.pop("papermill", None)
    for cell in notebook.cells:
        cell.metadata.pop("papermill", None)
        cell.metadata.pop("execution", None)
        if "injected-parameters" in cell.metadata.get("tags", []):
            cell.id = "injected-parameters"
            cell.metadata["tags"] = ["injected-parameters", "remove-cell"]
    return notebook
