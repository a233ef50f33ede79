"""Execute the chapters with papermill into a staged copy of the book.

The book is rendered from a *stage*: a copy of the tree in which every notebook has been executed. Nothing executes
while the pages are rendered, so a page shows only what this module has seen succeed. An executed notebook is kept until
something that it depends on changes (`digest`).
"""

import ast
import hashlib
import importlib.metadata
import json
import os
import platform
import re
import shutil
import tomllib
from collections.abc import Iterable, Mapping
from concurrent.futures import ThreadPoolExecutor, as_completed
from contextlib import nullcontext
from pathlib import Path

import nbformat
import papermill
import pydantic
import yaml
from jupyter_core.utils import ensure_event_loop
from nbclient.exceptions import DeadKernelError
from tqdm import tqdm

from sba.book import kernels
from sba.book.hygiene import NotebookError, check_outputs, strip

STAGED = ("book", "_config.yml", "_toc.yml")
IGNORED = {"__pycache__", ".ipynb_checkpoints"}
UNSEEN = {"cli", "bench"}
"""Rooms that no chapter shows: a change in them executes nothing again."""
STRICT = pydantic.ConfigDict(strict=True, allow_inf_nan=False)
DRAWN = Path("book", "_figures")
KERNEL_ENVIRONMENT = {
    "OMP_NUM_THREADS": "1",  # two kernels that each have a thread pool compete for the cores: five times slower
    "JUPYTER_PLATFORM_DIRS": "1",  # jupyter_core warns about its old folders otherwise
    "MPLBACKEND": "module://matplotlib_inline.backend_inline",  # what a kernel sets before it imports matplotlib
    "JUPYTER_PREFER_ENV_PATH": "1",  # the kernel `python3` is this interpreter, not one installed for the user
}


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
    Every chosen notebook gets `parameters` and must declare all of them. `only` chooses notebooks by their
    names without suffix (all when empty), `jobs` is the number of kernels side by side (default: two if there are
    two cores), `force` ignores the digests.

    Returns the notebooks that it executed. Raises `NotebookError` for an unknown notebook or parameter before anything
    runs, and for a failing notebook after the others have finished. The failed copy, with its error, stays under `failed/`
    beside the stage, and the page's notebook is removed.
    """
    root, stage = Path(notebooks_dir).resolve().parent, Path(stage_dir).resolve()
    sources = _choose(Path(notebooks_dir).resolve(), only)
    parameters = dict(parameters or {})
    for source in sources:
        check_parameters(source, parameters)
    stage_tree(root, stage)
    for old in (stage / "notebooks").glob("*.ipynb"):
        if not (Path(notebooks_dir) / old.name).exists():
            old.unlink()
            _digest_file(old).unlink(missing_ok=True)
    wanted = {source: digest(source, root, parameters) for source in sources}
    stale = [s for s in sources if force or _recorded(stage / "notebooks" / s.name) != wanted[s]]
    jobs = jobs or min(2, os.cpu_count() or 1)
    failures = []
    with (
        kernels.loaded(KERNEL_ENVIRONMENT) if stale else nullcontext(),
        ThreadPoolExecutor(jobs) as pool,
        tqdm(total=len(sources), initial=len(sources) - len(stale), desc="notebooks", unit="notebook") as bar,
    ):
        running = {pool.submit(_run, source, stage, parameters, wanted[source]): source for source in stale}
        try:
            for future in as_completed(running):
                bar.set_postfix_str(running[future].stem)
                bar.update()
                try:
                    future.result()
                except NotebookError as error:
                    failures.append(str(error))
        except KeyboardInterrupt:
            bar.write("stopping: waiting for the notebooks that are running")
            pool.shutdown(cancel_futures=True)
            raise
    if failures:
        raise NotebookError("\n\n".join(failures))
    return [stage / "notebooks" / source.name for source in stale]


def values(parameters: Iterable[tuple[str, str]]) -> dict[str, object]:
    """Read the values of parameters from YAML; raise `NotebookError`, which names the parameter, for text that is not YAML."""
    found = {}
    for name, text in parameters:
        try:
            found[name] = yaml.safe_load(text)
        except yaml.YAMLError as error:
            said = " ".join(str(error).split())
            message = f"{name}: {text!r} is not a value in YAML ({said}); give a number, text or [a, list]"
            raise NotebookError(message) from None
    return found


def check_parameters(notebook: Path, parameters: Mapping[str, object]) -> None:
    """Raise `NotebookError` unless the notebook's `parameters` cell sets every one of these names to a value of its kind.

    papermill itself prints a line for an unknown name and runs with the default.
    """
    declared = papermill.inspect_notebook(str(notebook)) if parameters else {}
    for name, value in parameters.items():
        if name not in declared:
            raise NotebookError(
                f"{notebook.name}: no parameter {name!r}; its parameters cell declares {', '.join(declared) or 'none'}"
            )
        if wrong := unlike(ast.literal_eval(declared[name]["default"]), value):
            raise NotebookError(f"{notebook.name}: {name}: {value!r} is not allowed; give {wrong}")


def unlike(default: object, value: object) -> str:
    """Return "" if a value is of the kind of the parameter's default, otherwise that kind in words."""
    kinds = {bool: "true or false", int: "an integer", float: "a finite number", str: "text", list: "a list"}
    try:
        pydantic.TypeAdapter(type(default), config=STRICT).validate_python(value)
    except pydantic.ValidationError:
        return kinds.get(type(default), "")
    return ""


def digest(notebook: Path, root: Path, parameters: Mapping[str, object]) -> str:
    """SHA-256 (hex) of what the notebook's outputs depend on.

    That is the notebook, the sources under `sba/` but those of `UNSEEN`, the records under `book/results/`, the parameters, and
    the versions of Python and of the packages that pyproject.toml names for the base, for training and for the book.
    """
    package = [f for f in sorted((root / "sba").rglob("*")) if f.suffix in {".py", ".js", ".css"}]
    sources = [f for f in package if f.relative_to(root).parts[1] not in UNSEEN]
    files = [notebook, *sources, *sorted((root / "book" / "results").rglob("*"))]
    parts = [f"{f.relative_to(root)} {hashlib.sha256(f.read_bytes()).hexdigest()}" for f in files if f.is_file()]
    parts += [json.dumps(parameters, sort_keys=True, default=str), platform.python_version(), *_versions(root)]
    return hashlib.sha256("\n".join(parts).encode()).hexdigest()


def stage_tree(root: Path, stage: Path) -> None:
    """Make the stage's pages equal to the tree's, except what notebooks have drawn into `book/_figures/` of the stage.

    Write only what differs: Sphinx rebuilds a page by its time of change.
    """
    files = [f for name in STAGED for f in ([root / name] if (root / name).is_file() else (root / name).rglob("*"))]
    paths = {f.relative_to(root) for f in files if f.is_file()}
    # a picture that a notebook once drew beside its source is not newer than the one drawn in the stage
    kept = {path for path in paths if not IGNORED.intersection(path.parts) and DRAWN not in path.parents}
    for path in kept:
        target = stage / path
        if not target.is_file() or target.read_bytes() != (root / path).read_bytes():
            target.parent.mkdir(parents=True, exist_ok=True)
            shutil.copyfile(root / path, target)
    for old in (stage / "book").rglob("*"):
        path = old.relative_to(stage)
        if old.is_file() and path not in kept and not IGNORED.intersection(path.parts) and DRAWN not in path.parents:
            old.unlink()


def _choose(folder: Path, only: Iterable[str]) -> list[Path]:
    sources = {path.stem: path for path in sorted(folder.glob("*.ipynb"))}
    if not sources:
        raise NotebookError(f"{folder}: no notebooks here; give the folder that holds them")
    for name in only:
        if name not in sources:
            raise NotebookError(f"no notebook {name!r} in {folder}; there are {', '.join(sources)}")
    return [sources[name] for name in only or sources]


def _run(source: Path, stage: Path, parameters: dict, wanted: str) -> None:
    """Execute one notebook beside the stage, check it, and only then move it into the stage with its digest."""
    target, attempt = stage / "notebooks" / source.name, stage.parent / "failed" / source.name
    for old in (target, _digest_file(target), attempt):
        old.unlink(missing_ok=True)
        old.parent.mkdir(parents=True, exist_ok=True)
    failure: Exception | None = None
    try:
        papermill.execute_notebook(
            source,
            attempt,
            parameters,
            kernel_name="python3",
            progress_bar=False,
            start_timeout=300,
            kernel_manager_class=kernels.Manager,
            # where the kernel runs: papermill's own `cwd` would be that of both notebooks
            resources={"metadata": {"path": str(stage)}},
        )
    except Exception as error:
        failure = error
    finally:
        # of this thread: jupyter_client leaves it open
        ensure_event_loop().close()
    if not attempt.exists():
        raise NotebookError(f"{source.name}: papermill wrote nothing\n{failure!r}")
    notebook = nbformat.read(attempt, as_version=4)
    # papermill puts notes into a copy that failed: without them the cells count as in the source
    notebook.cells = [c for c in notebook.cells if "papermill-error-cell-tag" not in c.metadata.get("tags", [])]
    try:
        # what a dead kernel left behind says less
        if not isinstance(failure, DeadKernelError):
            check_outputs(source.name, notebook)
        if failure:
            raise NotebookError(f"{source.name}: {failure}")
    except NotebookError as error:
        raise NotebookError(f"{error}\nexecuted copy: {attempt}") from None
    target.write_text(nbformat.writes(strip(notebook)) + "\n", encoding="utf-8")
    _digest_file(target).write_text(wanted)
    attempt.unlink()


def _digest_file(notebook: Path) -> Path:
    return notebook.with_name(f".{notebook.stem}.digest")


def _recorded(notebook: Path) -> str | None:
    file = _digest_file(notebook)
    return file.read_text() if file.exists() and notebook.exists() else None


def _versions(root: Path) -> list[str]:
    """Return `name version` of what the tree's pyproject.toml names for the base, for training and for the book."""
    file = root / "pyproject.toml"
    project = tomllib.loads(file.read_text(encoding="utf-8"))["project"] if file.exists() else {}
    extras = project.get("optional-dependencies", {})
    needed = [*project.get("dependencies", []), *extras.get("train", []), *extras.get("book", [])]
    names = {re.split(r"[^\w.-]", line, maxsplit=1)[0] for line in needed} - {project.get("name")}
    return [f"{name} {importlib.metadata.version(name)}" for name in sorted(names)]
