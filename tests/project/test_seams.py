"""Where the project meets its users: sdist and wheel outside of the repository, what an import loads and needs, examples."""

import doctest
import importlib.metadata
import os
import pkgutil
import re
import shutil
import subprocess
import sys
import tarfile
import tomllib
import zipfile
from pathlib import Path

import pytest
from helpers import nightly
from packaging.requirements import Requirement

import sba

ROOT = Path(__file__).resolve().parents[2]
MODULES = sorted(m.name for m in pkgutil.walk_packages(sba.__path__, "sba.") if m.name != "sba.cli.commands")
HEAVY = {"matplotlib", "seaborn", "pandas", "sklearn", "torchvision", "papermill", "nbformat", "IPython", "ipywidgets"}
BESIDE = {"CHANGELOG.md", "CITATION.cff", "MANIFEST.in"}
HEAVY |= {"anywidget", "jupyter_book", "sphinx", "PIL", "click", "torchmetrics", "yaml"}


BUILD = "import setuptools.build_meta as backend, sys; backend.build_sdist(sys.argv[1])"


@pytest.fixture(scope="module")
def installed(tmp_path_factory):
    """The sdist, the wheel built from it, and a folder that the wheel is installed in, far from the repository."""
    folder = tmp_path_factory.mktemp("wheel")
    # setuptools builds beside its sources, and takes up again what an older build left there
    source = folder / "source"
    shutil.copytree(ROOT / "sba", source / "sba", ignore=shutil.ignore_patterns("__pycache__"))
    for name in ("pyproject.toml", "README.md", "LICENSE", *BESIDE):
        shutil.copy(ROOT / name, source)
    silent = {"check": True, "capture_output": True}
    subprocess.run([sys.executable, "-c", BUILD, folder], cwd=source, **silent)
    (sdist,) = folder.glob("sba_torch-*.tar.gz")
    command = [sys.executable, "-m", "pip", "--disable-pip-version-check"]
    subprocess.run(
        [*command, "wheel", "--quiet", "--no-deps", "--no-build-isolation", "-w", folder, sdist], cwd=folder, **silent
    )
    (wheel,) = folder.glob("sba_torch-*.whl")
    # what pip does with a wheel that brings no scripts
    zipfile.ZipFile(wheel).extractall(folder / "site")
    return sdist, wheel, folder / "site"


def outside(site, folder, *command):
    """Run Python where the repository is not to be found."""
    environment = os.environ | {"PYTHONPATH": str(site), "OMP_NUM_THREADS": "1"}
    done = subprocess.run(
        [sys.executable, *command], cwd=folder, env=environment, capture_output=True, text=True, timeout=300
    )
    assert done.returncode == 0, done.stderr + done.stdout
    return done.stdout


def test_the_wheel_holds_every_module_and_every_file_that_modules_read(installed):
    names = set(zipfile.ZipFile(installed[1]).namelist())
    kept = {f.relative_to(ROOT).as_posix() for f in (ROOT / "sba").rglob("*") if f.suffix in (".py", ".js", ".css")}
    assert {n for n in names if n.startswith("sba/")} == kept | {"sba/py.typed"}
    assert not [n for n in names if n.startswith(("tests/", "book/", "notebooks/", "_build/"))]


def test_the_sdist_holds_what_the_wheel_holds_and_who_to_cite(installed):
    with tarfile.open(installed[0]) as archive:
        names = {name.partition("/")[2] for name in archive.getnames()}
    assert set(zipfile.ZipFile(installed[1]).namelist()) - names == {
        n for n in zipfile.ZipFile(installed[1]).namelist() if ".dist-info/" in n
    }
    assert names >= {*BESIDE, "LICENSE", "README.md", "pyproject.toml"}
    assert not [n for n in names if n.startswith(("tests", "book", "notebooks"))]


def brought(requirements):
    """The installed distributions that these requirements bring, with those that they bring in turn."""
    found, left = {}, [Requirement(line) for line in requirements]
    while left:
        one = left.pop()
        if one.name not in found and (one.marker is None or one.marker.evaluate({"extra": ""})):
            found[one.name] = importlib.metadata.distribution(one.name)
            left += map(Requirement, found[one.name].requires or [])
    return found.values()


@pytest.fixture(scope="module")
def base(installed, tmp_path_factory):
    """A folder that holds the installed wheel, and of other packages only those that the wheel's own dependencies bring."""
    folder = tmp_path_factory.mktemp("base")
    (folder / "sba").symlink_to(installed[2] / "sba")
    for distribution in brought(tomllib.loads((ROOT / "pyproject.toml").read_text("utf-8"))["project"]["dependencies"]):
        for top in {file.parts[0] for file in distribution.files} - {"..", "__pycache__"}:
            if not (folder / top).exists():
                (folder / top).symlink_to(distribution.locate_file(top))
    return folder


BARE = """
import sys, torch
from torch import nn
from sba import METHODS, SBA, Staged, Step, attach
network = Staged([("flatten", nn.Flatten()), ("fc", nn.Linear(64, 16)), ("head", nn.Linear(16, 10))], (1, 8, 8))
x, y = torch.randn(32, 1, 8, 8), torch.randint(10, (32,))
for method in (SBA(omega=0.0, folds=2), METHODS["k-mixup"]()):
    sum(method.terms(network, x, y, Step(seed=0, step=0), memory=None).values()).backward()
own = nn.Sequential(nn.Flatten(), nn.Linear(64, 16), nn.ReLU(), nn.Linear(16, 10))
attach(own, SBA(omega=0.0, folds=2), example=x[:2], total_steps=1)(x, y).backward()
import sba
assert {*sba.__all__} <= {*dir(sba)} and "sba.training" not in sys.modules
for code in CODES:
    try:
        exec(code)
    except ImportError as error:
        print(str(error).partition("pip install ")[2])
"""
EXTRAS = {
    "import sba; sba.load('digits')": "train",
    "from sba import build": "train",
    "from sba import train": "train",
    "from sba.book import style": "book",
}


def test_the_base_alone_gives_a_loss_and_names_the_extra_that_is_missing(base):
    """-S leaves out the site-packages of the interpreter."""

    def alone(code):
        environment = {"PYTHONPATH": str(base), "OMP_NUM_THREADS": "1"}
        command = [sys.executable, "-S", *code]
        return subprocess.run(command, cwd=base, env=environment, capture_output=True, text=True, timeout=300)

    done = alone(["-c", f"CODES = {[*EXTRAS]}\n{BARE}"])
    assert done.returncode == 0, done.stderr
    assert [line.split("'")[1] for line in done.stdout.splitlines()] == [
        f"sba-torch[{extra}]" for extra in EXTRAS.values()
    ]
    done = alone(["-m", "sba", "train"])
    assert done.returncode == 1 and "pip install 'sba-torch[train]'" in done.stderr, done.stderr


def test_the_installed_package_is_imported_and_its_commands_run(installed, tmp_path):
    site = installed[2]
    code = (
        "import sba, sys, runpy; print(sba.__file__); sys.argv[0] = 'sba'; runpy.run_module('sba', run_name='__main__')"
    )
    command = ["train", "--dataset", "moons", "--epochs", "1", "--method", "sba", "--quiet"]
    place, said = outside(site, tmp_path, "-c", code, *command).splitlines()
    assert place.startswith(str(site))
    assert said.startswith("record ") and (tmp_path / "runs" / "results.jsonl").exists()


@nightly
def test_the_tour_runs_on_digits_with_the_installed_package(installed, tmp_path):
    notebook = ROOT / "notebooks" / "01_tour.ipynb"
    small = {"seeds": 1, "epochs": 1, "picture_seeds": 1, "picture_epochs": 2, "folds": 2}
    given = [part for name, value in small.items() for part in ("-p", name, str(value))]
    command = ["-m", "papermill", "--no-progress-bar", "--kernel", "python3", str(notebook), "out.ipynb", *given]
    outside(installed[2], tmp_path, *command)
    assert (tmp_path / "out.ipynb").exists()


def test_an_import_loads_nothing_that_training_does_not_need():
    """Time follows from it: pictures, tables, notebooks and image decoders are imported by who uses them."""
    code = "import sys, torch; before = set(sys.modules); import sba; print(*sorted(set(sys.modules) - before))"
    done = subprocess.run([sys.executable, "-c", code], cwd=ROOT, capture_output=True, text=True, check=True)
    loaded = {name.split(".")[0] for name in done.stdout.split()}
    assert loaded & HEAVY == set() and "torch._dynamo" not in done.stdout.split()


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


def test_nothing_is_imported_that_one_system_alone_has():
    """Locks are filelock's, so that Windows has them, too."""
    alone = re.compile(r"^\s*(import|from) (fcntl|resource|msvcrt|pwd|grp|termios)\b", re.MULTILINE)
    assert not [path for path in (ROOT / "sba").rglob("*.py") if alone.search(path.read_text())]
