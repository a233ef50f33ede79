"""Where the project meets its users: the wheel outside of the repository, what an import loads, types, examples."""

import doctest
import importlib
import os
import pkgutil
import shutil
import subprocess
import sys
import zipfile
from pathlib import Path

import pytest

import sba

ROOT = Path(__file__).resolve().parents[2]
MODULES = sorted(m.name for m in pkgutil.walk_packages(sba.__path__, "sba.") if m.name != "sba.cli.commands")
HEAVY = {"matplotlib", "seaborn", "pandas", "sklearn", "torchvision", "papermill", "nbformat", "IPython", "ipywidgets"}
HEAVY |= {"anywidget", "jupyter_book", "sphinx", "PIL", "click", "torchmetrics", "yaml"}


@pytest.fixture(scope="module")
def installed(tmp_path_factory):
    """The wheel, and a folder that it is installed in, far from the repository."""
    folder = tmp_path_factory.mktemp("wheel")
    # setuptools builds beside its sources, and takes up again what an older build left there
    source = folder / "source"
    shutil.copytree(ROOT / "sba", source / "sba", ignore=shutil.ignore_patterns("__pycache__"))
    for name in ("pyproject.toml", "README.md", "LICENSE"):
        shutil.copy(ROOT / name, source)
    command = [sys.executable, "-m", "pip", "--disable-pip-version-check"]
    subprocess.run(
        [*command, "wheel", "--quiet", "--no-deps", "--no-build-isolation", "-w", folder, source],
        check=True,
        cwd=folder,
        capture_output=True,
    )
    (wheel,) = folder.glob("sba-*.whl")
    subprocess.run(
        [*command, "install", "--quiet", "--no-deps", "--target", folder / "site", wheel],
        check=True,
        cwd=folder,
        capture_output=True,
    )
    return wheel, folder / "site"


def outside(site, folder, *command):
    """Run Python where the repository is not to be found."""
    environment = os.environ | {"PYTHONPATH": str(site), "OMP_NUM_THREADS": "1"}
    done = subprocess.run(
        [sys.executable, *command], cwd=folder, env=environment, capture_output=True, text=True, timeout=300
    )
    assert done.returncode == 0, done.stderr + done.stdout
    return done.stdout


def test_the_wheel_holds_every_module_and_every_file_that_modules_read(installed):
    names = set(zipfile.ZipFile(installed[0]).namelist())
    kept = {f.relative_to(ROOT).as_posix() for f in (ROOT / "sba").rglob("*") if f.suffix in (".py", ".js", ".css")}
    assert {n for n in names if n.startswith("sba/")} == kept | {"sba/py.typed"}
    assert not [n for n in names if n.startswith(("tests/", "book/", "notebooks/", "_build/"))]


def test_the_installed_package_is_imported_and_its_commands_run(installed, tmp_path):
    _, site = installed
    assert outside(site, tmp_path, "-c", "import sba; print(sba.__file__)").startswith(str(site))
    assert "sweep" in outside(site, tmp_path, "-m", "sba", "--help")
    said = outside(site, tmp_path, "-m", "sba", "train", "--epochs", "1", "--method", "sba", "--quiet")
    assert "record" in said and (tmp_path / "runs" / "results.jsonl").exists()


def test_the_tour_runs_on_digits_with_the_installed_package(installed, tmp_path):
    notebook = ROOT / "notebooks" / "00_tour.ipynb"
    small = {"seeds": 1, "epochs": 1, "picture_seeds": 1, "picture_epochs": 2, "folds": 2}
    given = [part for name, value in small.items() for part in ("-p", name, str(value))]
    command = ["-m", "papermill", "--no-progress-bar", "--kernel", "python3", str(notebook), "out.ipynb", *given]
    outside(installed[1], tmp_path, *command)
    assert (tmp_path / "out.ipynb").exists()


def test_an_import_loads_nothing_that_training_does_not_need():
    """Time follows from it: pictures, tables, notebooks and image decoders are imported by who uses them."""
    code = "import sys, torch; before = set(sys.modules); import sba; print(*sorted(set(sys.modules) - before))"
    done = subprocess.run([sys.executable, "-c", code], cwd=ROOT, capture_output=True, text=True, check=True)
    loaded = {name.split(".")[0] for name in done.stdout.split()}
    assert loaded & HEAVY == set()


@pytest.mark.parametrize("name", MODULES)
def test_examples_in_docstrings_are_true(name):
    failed, _ = doctest.testmod(importlib.import_module(name), optionflags=doctest.IGNORE_EXCEPTION_DETAIL)
    assert failed == 0


def test_there_are_examples():
    finder = doctest.DocTestFinder(exclude_empty=True)
    found = [t.name for name in MODULES for t in finder.find(importlib.import_module(name)) if t.examples]
    assert len(found) >= 12
    assert {
        "sba.training.loop.train",
        "sba.training.run.make_run",
        "sba.data.datasets.load",
        "sba.core.scheduler.Scheduler",
    } <= set(found)
