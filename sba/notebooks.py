"""Execute the chapters with papermill into a staged copy of the book, and keep their sources clean.

The book is rendered from a *stage*: a copy of the tree in which every notebook has been executed. Nothing executes
while the pages are rendered, so a page can only show what this module has seen succeed. An executed notebook is kept
until one of the things it depends on changes (`digest`).
"""

import hashlib
import importlib.metadata
import json
import os
import platform
import re
import shutil
from collections.abc import Iterable, Iterator, Mapping
from concurrent.futures import ThreadPoolExecutor, as_completed
from contextlib import contextmanager
from pathlib import Path

import nbformat
import papermill
from papermill.exceptions import PapermillExecutionError
from tqdm import tqdm

from sba.errors import SBAError

STAGED = ("book", "_config.yml", "_toc.yml")
KERNEL_ENVIRONMENT = {
    "OMP_NUM_THREADS": "1",  # two kernels with a thread pool each fight over the cores: five times slower
    "JUPYTER_PLATFORM_DIRS": "1",  # jupyter_core warns about its old folders otherwise
    "JUPYTER_PREFER_ENV_PATH": "1",  # the kernel `python3` is this interpreter, whatever is installed for the user
}
RANDOM_ID = re.compile(r"[0-9a-f]{8}(-[0-9a-f]{4}){3}-[0-9a-f]{12}|[0-9a-f]{8}")
WARNING = re.compile(r"^.*\w*Warning: .*$", re.MULTILINE)


class NotebookError(SBAError):
    """A notebook cannot be executed, failed, or shows something that a page must not show."""


def execute(
    notebooks_dir: Path | str = "notebooks",
    stage_dir: Path | str = "_build/stage",
    parameters: Mapping[str, object] | None = None,
    *,
    only: Iterable[str] = (),
    jobs: int | None = None,
    force: bool = False,
) -> list[Path]:
    """Stage the book and execute every notebook of it whose digest has changed.

    `notebooks_dir` lies in the root of the tree; `book/`, `_config.yml` and `_toc.yml` are copied from beside it, and
    the kernels run in the root of the stage, as with `papermill notebooks/NN.ipynb out.ipynb` in the root of the tree.
    `parameters` are handed to every chosen notebook, and each must know all of them. `only` chooses notebooks by their
    names without suffix (all when empty), `jobs` is the number of kernels side by side (default: two where there are
    two cores), `force` ignores the digests.

    Returns the executed notebooks (those up to date are not among them). Raises `NotebookError` for an unknown notebook
    or parameter before anything runs, and for a failing notebook after the others have finished; the failed copy, its
    error in place, is left under `failed/` beside the stage, and the page's notebook is removed.
    """
    root, stage = Path(notebooks_dir).resolve().parent, Path(stage_dir).resolve()
    sources = _choose(Path(notebooks_dir).resolve(), only)
    parameters = dict(parameters or {})
    for source in sources:
        check_parameters(source, parameters)
    stage_tree(root, stage)
    _forget_removed(stage / "notebooks", Path(notebooks_dir))
    wanted = {source: digest(source, root, parameters) for source in sources}
    stale = [s for s in sources if force or _recorded(stage / "notebooks" / s.name) != wanted[s]]
    jobs = jobs or min(2, os.cpu_count() or 1)
    failures = []
    with (
        _environment(KERNEL_ENVIRONMENT),
        ThreadPoolExecutor(jobs) as pool,
        tqdm(total=len(sources), initial=len(sources) - len(stale), desc="notebooks", unit="notebook") as bar,
    ):
        running = {pool.submit(_run, source, stage, parameters, wanted[source]): source for source in stale}
        try:
            for future in as_completed(running):
                bar.set_postfix_str(running[future].stem)
                bar.update()
                if error := future.exception():
                    failures.append(error)
        except KeyboardInterrupt:
            bar.write("stopping: waiting for the notebooks that are running")
            pool.shutdown(cancel_futures=True)
            raise
    for error in failures:
        if not isinstance(error, NotebookError):
            raise error
    if failures:
        raise NotebookError("\n\n".join(str(error) for error in failures))
    return [stage / "notebooks" / source.name for source in stale]


def check_parameters(notebook: Path, parameters: Mapping[str, object]) -> None:
    """Raise `NotebookError` unless the notebook's `parameters` cell sets every one of these names.

    papermill itself only prints a line for an unknown name and runs with the default.
    """
    known = papermill.inspect_notebook(str(notebook)) if parameters else {}
    for name in parameters:
        if name not in known:
            raise NotebookError(
                f"{notebook.name}: no parameter {name!r}; its parameters cell knows {', '.join(known) or 'none'}"
            )


def digest(notebook: Path, root: Path, parameters: Mapping[str, object]) -> str:
    """SHA-256 (hex) of what the notebook's outputs depend on.

    That is the notebook, the sources under `sba/`, the records under `book/results/`, the parameters, and the versions
    of Python and of every package that pyproject.toml names for the core and for the book.
    """
    files = [notebook, *sorted((root / "sba").rglob("*.py")), *sorted((root / "book" / "results").rglob("*"))]
    parts = [f"{f.relative_to(root)} {hashlib.sha256(f.read_bytes()).hexdigest()}" for f in files if f.is_file()]
    parts += [json.dumps(parameters, sort_keys=True, default=str), platform.python_version(), *_versions()]
    return hashlib.sha256("\n".join(parts).encode()).hexdigest()


def stage_tree(root: Path, stage: Path) -> None:
    """Make the stage's pages equal to the tree's. Only what differs is written: Sphinx rebuilds by time of change."""
    files = [f for name in STAGED for f in ([root / name] if (root / name).is_file() else (root / name).rglob("*"))]
    kept = {f.relative_to(root) for f in files if f.is_file() and not {"__pycache__", ".ipynb_checkpoints"} & {*f.parts}}
    for path in kept:
        target = stage / path
        if not target.is_file() or target.read_bytes() != (root / path).read_bytes():
            target.parent.mkdir(parents=True, exist_ok=True)
            shutil.copyfile(root / path, target)
    for old in (stage / "book").rglob("*"):
        if old.is_file() and old.relative_to(stage) not in kept and "__pycache__" not in old.parts:
            old.unlink()


def clean(notebook: nbformat.NotebookNode) -> nbformat.NotebookNode:
    """The notebook as git keeps it: no outputs, counts, widget state or times, and cell ids that do not change.

    A random id (as an editor gives it) becomes `cell-N`; an id that somebody chose stays. Returns a new notebook.
    """
    notebook = nbformat.from_dict(json.loads(nbformat.writes(notebook)))
    notebook.metadata = nbformat.from_dict(
        {
            "kernelspec": {"display_name": "Python 3", "language": "python", "name": "python3"},
            "language_info": {"name": "python"},
        }
    )
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
    """Rewrite every notebook of the folder as `clean` gives it; returns those that changed."""
    changed = []
    for path in sorted(Path(notebooks_dir).glob("*.ipynb")):
        text = nbformat.writes(clean(nbformat.read(path, as_version=4))) + "\n"
        if text != path.read_text(encoding="utf-8"):
            path.write_text(text, encoding="utf-8")
            changed.append(path)
    return changed


def _choose(folder: Path, only: Iterable[str]) -> list[Path]:
    sources = {path.stem: path for path in sorted(folder.glob("*.ipynb"))}
    if not sources:
        raise NotebookError(f"{folder}: no notebooks here; give the folder that holds them")
    for name in only:
        if name not in sources:
            raise NotebookError(f"no notebook {name!r} in {folder}; there are {', '.join(sources)}")
    return [sources[name] for name in only or sources]


def _run(source: Path, stage: Path, parameters: dict, wanted: str) -> None:
    """Execute one notebook beside the stage, check it, and only then move it to its place with its digest."""
    target, attempt = stage / "notebooks" / source.name, stage.parent / "failed" / source.name
    for old in (target, _digest_file(target)):
        old.unlink(missing_ok=True)
    for folder in (target.parent, attempt.parent):
        folder.mkdir(parents=True, exist_ok=True)
    try:
        notebook = papermill.execute_notebook(
            source,
            attempt,
            parameters,
            kernel_name="python3",
            progress_bar=False,
            # not papermill's `cwd`: that changes the folder of this whole process, and two notebooks may be running
            resources={"metadata": {"path": str(stage)}},
            # a kernel talks to this process over localhost; ipykernel 7 prints a warning about that each time
            extra_arguments=["--IPKernelApp.log_level=CRITICAL"],
        )
    except PapermillExecutionError as error:
        where = f"{source.name}, cell {error.cell_index}"
        raise NotebookError(f"{where}: {error.ename}: {error.evalue}\n{error}\nexecuted copy: {attempt}") from None
    check_outputs(source.name, notebook)
    target.write_text(nbformat.writes(strip(notebook)) + "\n", encoding="utf-8")
    _digest_file(target).write_text(wanted)
    attempt.unlink()


def check_outputs(name: str, notebook: nbformat.NotebookNode) -> None:
    """Raise `NotebookError` naming the cell where an executed notebook holds an error or a warning, or was not run."""
    for index, cell in enumerate(notebook.cells):
        if cell.cell_type != "code":
            continue
        for output in cell.outputs:
            if output.output_type == "error":
                raise NotebookError(f"{name}, cell {index}: {output.ename}: {output.evalue}")
            if output.output_type == "stream" and output.name == "stderr" and (found := WARNING.search(output.text)):
                raise NotebookError(f"{name}, cell {index}: {found[0].strip()} (a page shows no warnings: remove its cause)")
        if cell.source.strip() and cell.execution_count is None and "skip-execution" not in cell.metadata.get("tags", []):
            raise NotebookError(f"{name}, cell {index}: not executed; a cell that is meant so has the tag skip-execution")


def strip(notebook: nbformat.NotebookNode) -> nbformat.NotebookNode:
    """Remove papermill's bookkeeping and all times in place, and hide the injected cell: readers download this file."""
    notebook.metadata.pop("papermill", None)
    for cell in notebook.cells:
        cell.metadata.pop("papermill", None)
        cell.metadata.pop("execution", None)
        if "injected-parameters" in cell.metadata.get("tags", []):
            cell.id = "injected-parameters"
            cell.metadata["tags"] = ["injected-parameters", "remove-cell"]
    return notebook


def _digest_file(notebook: Path) -> Path:
    return notebook.with_name(f".{notebook.stem}.digest")


def _recorded(notebook: Path) -> str | None:
    file = _digest_file(notebook)
    return file.read_text() if file.exists() and notebook.exists() else None


def _forget_removed(staged: Path, sources: Path) -> None:
    for old in staged.glob("*.ipynb"):
        if not (sources / old.name).exists():
            old.unlink()
            _digest_file(old).unlink(missing_ok=True)


def _versions() -> list[str]:
    """`name version` of what pyproject.toml names for the core and the book (an uninstalled tree depends on none)."""
    try:
        requirements = importlib.metadata.requires("sba") or []
    except importlib.metadata.PackageNotFoundError:
        return []
    needed = [r for r in requirements if "extra ==" not in r or re.search(r"extra == .book.", r)]
    names = sorted(re.match(r"[\w.-]+", r)[0] for r in needed)
    return [f"{name} {importlib.metadata.version(name)}" for name in names]


@contextmanager
def _environment(values: Mapping[str, str]) -> Iterator[None]:
    """Set variables of this process, which the kernels inherit, and restore them."""
    before = {name: os.environ.get(name) for name in values}
    os.environ.update(values)
    try:
        yield
    finally:
        for name, value in before.items():
            if value is None:
                del os.environ[name]
            else:
                os.environ[name] = value
