"""The files that install the project agree with each other and with the machine-independent rules."""

import os
import re
import shutil
import subprocess
import tomllib
from pathlib import Path

import pytest
import torch
import torchvision
import yaml
from packaging.requirements import Requirement
from packaging.specifiers import SpecifierSet
from packaging.utils import canonicalize_name
from packaging.version import Version

import sba

ROOT = Path(__file__).resolve().parents[2]
PROJECT = tomllib.loads((ROOT / "pyproject.toml").read_text(encoding="utf-8"))["project"]
CONDA_NAMES = {"pytorch": "torch"}


def declared():
    """{name: specifiers} of pyproject.toml: the base and all extras, one of which may name another."""
    lines = [*PROJECT["dependencies"], *(line for extra in PROJECT["optional-dependencies"].values() for line in extra)]
    return as_mapping(line for line in lines if not line.startswith(f"{PROJECT['name']}["))


def as_mapping(lines):
    parsed = [Requirement(line) for line in lines]
    return {canonicalize_name(CONDA_NAMES.get(r.name, r.name)): r.specifier for r in parsed}


def conda():
    """(channels, {name: specifiers}) of environment.yml; pip packages are among the others."""
    environment = yaml.safe_load((ROOT / "environment.yml").read_text(encoding="utf-8"))
    lines = [line for line in environment["dependencies"] if isinstance(line, str)]
    for group in environment["dependencies"]:
        if isinstance(group, dict):
            lines += group["pip"]
    return environment["channels"], as_mapping(lines)


def pins():
    """{name: version} of constraints.txt."""
    text = (ROOT / "constraints.txt").read_text(encoding="utf-8")
    lines = [line for line in text.splitlines() if line and not line.startswith("#")]
    assert [line for line in lines if not re.fullmatch(r"[\w.-]+==[\w.]+", line)] == [], "only NAME==VERSION lines"
    return {canonicalize_name(name): Version(version) for name, version in (line.split("==") for line in lines)}


def test_environment_yml_holds_the_dependencies_of_pyproject():
    channels, packages = conda()
    assert channels == ["conda-forge", "nodefaults"]
    assert packages.pop("python") == SpecifierSet(PROJECT["requires-python"])
    packages.pop("pip")
    assert packages == declared()


def test_constraints_pin_every_declared_dependency_within_its_range():
    pinned = pins()
    assert sorted(declared().keys() - pinned.keys()) == []
    outside = {
        n: str(pinned[n]) for n, range_ in declared().items() if not range_.contains(pinned[n], prereleases=True)
    }
    assert outside == {}


def test_constraints_leave_the_accelerator_libraries_to_torch():
    assert [name for name in pins() if re.match(r"nvidia|cuda|triton", name)] == []


def test_torch_and_torchvision_fit_each_other():
    """torchvision's compiled operators are missing when it was built for another torch."""
    boxes = torch.tensor([[0.0, 0.0, 2.0, 2.0], [0.0, 0.0, 2.0, 1.9], [5.0, 5.0, 6.0, 6.0]])
    kept = torchvision.ops.nms(boxes, scores=torch.tensor([0.9, 0.8, 0.7]), iou_threshold=0.5)
    assert kept.tolist() == [0, 2]


def test_every_version_of_this_project_is_the_same():
    citation = yaml.safe_load((ROOT / "CITATION.cff").read_text(encoding="utf-8"))
    assert citation["version"] == sba.__version__ == PROJECT["version"]
    assert citation["license"] == PROJECT["license"] == "MIT"
    assert (ROOT / "LICENSE").read_text(encoding="utf-8").startswith("MIT License")


def test_the_package_says_that_it_is_typed():
    assert (ROOT / "sba" / "py.typed").is_file()


@pytest.mark.parametrize("target", ["book", "test", "lab", "bench"])
def test_make_knows_the_target_and_sets_it_up(target):
    """`make --dry-run` in a tree where nothing was made yet: the environment comes first."""
    command = ["make", "--dry-run", "--no-print-directory", "VENV=no-such-environment", target]
    done = subprocess.run(command, cwd=ROOT, capture_output=True, text=True, check=True)
    steps = ["-m venv", "-m pip install", {"book": "-m sba notebooks", "lab": "jupyter lab"}.get(target, "")]
    steps[-1] = steps[-1] or {"test": "-m pytest", "bench": "-m sba bench"}[target]
    places = [done.stdout.find(step) for step in steps]
    assert -1 not in places and places == sorted(places), done.stdout


def test_make_builds_the_book_once_without_a_warning(tmp_path):
    """With a python and a jupyter-book that only say that they were called."""
    (tmp_path / "venv" / "bin").mkdir(parents=True)
    for folder in ("sba", "_build/stage", "_build/html", "_build/.doctrees"):
        (tmp_path / folder).mkdir(parents=True)
    for name in ("Makefile", "pyproject.toml", "constraints.txt"):
        shutil.copy(ROOT / name, tmp_path)
    for name in ("python", "jupyter-book"):
        (tmp_path / "venv" / "bin" / name).write_text(f'#!/bin/sh\necho "{name} $*" >> calls\n')
        (tmp_path / "venv" / "bin" / name).chmod(0o755)
    (page := tmp_path / "_build" / "stage" / "page.md").touch()
    (tmp_path / "venv" / ".installed").touch()

    def make():
        (tmp_path / "calls").write_text("")
        done = subprocess.run(
            ["make", "VENV=venv", "book"], cwd=tmp_path, capture_output=True, text=True, check=False, timeout=60
        )
        said = f"The book: file://{tmp_path}/_build/html/index.html" in done.stdout
        assert said == (done.returncode == 0), done.stderr
        return [line.split()[0] for line in (tmp_path / "calls").read_text().splitlines()]

    assert make() == ["python", "jupyter-book"] and make() == ["python"]
    page.touch()
    (tmp_path / "venv" / "bin" / "jupyter-book").write_text("#!/bin/sh\necho jupyter-book >> calls\nexit 1\n")
    assert make() == make() == ["python", "jupyter-book"]
    assert not (tmp_path / "_build" / ".doctrees").exists()


def test_make_refuses_a_python_that_is_too_old(tmp_path):
    old = tmp_path / "python3"
    old.write_text("#!/bin/sh\nexit 1\n")
    old.chmod(0o755)
    command = ["make", "--no-print-directory", f"VENV={tmp_path}/venv", f"PYTHON={old}", "setup"]
    done = subprocess.run(command, cwd=ROOT, capture_output=True, text=True, check=False)
    assert done.returncode != 0
    assert "No Python 3.11, 3.12 or 3.13" in done.stderr and str(old) in done.stderr


def test_the_ci_script_runs():
    script = ROOT / ".ci" / "run"
    assert os.access(script, os.X_OK)
    subprocess.run(["bash", "-n", script], check=True)


@pytest.mark.parametrize("nightly", [True, False], ids=["nightly", "by day"])
@pytest.mark.parametrize("found", [True, False], ids=["with a browser", "without one"])
def test_the_ci_script_wants_a_browser_and_makes_the_book_and_then_the_tests(tmp_path, found, nightly):
    """With a make, an apt-get and a browser that only say that they were called."""
    tools = tmp_path / "tools"
    (tmp_path / ".ci").mkdir()
    shutil.copy(ROOT / ".ci" / "run", tmp_path / ".ci" / "run")
    tools.mkdir()
    for name in ("make", "apt-get", "sudo", *(["chromium"] if found else [])):
        (tools / name).write_text(f'#!/bin/sh\necho "{name} $* $SBA_BROWSER" >> "{tmp_path}/calls"\n')
        (tools / name).chmod(0o755)
    for name in ("bash", "dirname", "timeout", "sh", "env"):
        (tools / name).symlink_to(shutil.which(name))
    done = subprocess.run(
        [tmp_path / ".ci" / "run"],
        env={"PATH": str(tools)} | ({"SBA_NIGHTLY": "1"} if nightly else {}),
        capture_output=True,
        text=True,
        timeout=60,
    )
    calls = [line.split() for line in (tmp_path / "calls").read_text().splitlines()]
    made = [call[1:] for call in calls if call[0] == "make"]
    assert done.returncode == 0, done.stderr
    targets = [".venv/.examples", *([".venv/.lab"] if nightly else []), "book", "test"]
    assert made == [[target, "required"] for target in targets]
    assert (
        any(word.startswith("chromium") for call in calls for word in call)
        == ("install it by hand" in done.stderr)
        == (not found)
    )


@pytest.mark.parametrize("path", sorted((ROOT / ".github" / "workflows").glob("*.yml")), ids=lambda p: p.name)
def test_a_workflow_runs_what_the_project_has(path):
    """The hosted workflows are examples: they call make's targets, .ci/run and verbs of the command line."""
    workflow = yaml.safe_load(path.read_text(encoding="utf-8"))
    commands = [step["run"] for job in workflow["jobs"].values() for step in job["steps"] if "run" in step]
    assert commands or path.name == "none"
    targets = set(re.findall(r"^([a-z]+):", (ROOT / "Makefile").read_text(encoding="utf-8"), re.MULTILINE))
    for command in commands:
        word, _, rest = command.partition(" ")
        if word == "make":
            assert rest in targets
        elif word == ".venv/bin/python":
            assert rest.split()[:2] == ["-m", "sba"] and rest.split()[2] in {"notebooks", "bench"}
        else:
            assert command == ".ci/run" and (ROOT / ".ci" / "run").exists()
