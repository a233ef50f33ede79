"""The examples run as scripts, from a folder elsewhere: the loss goes down, and the virtual points are in it."""

import ast
import os
import pathlib
import re
import subprocess
import sys

import pytest
import torch
from helpers import scene
from processes import FORKED

from sba import SBA, attach

FOLDER = pathlib.Path(__file__).parents[2] / "examples"
PACKAGES = {
    "plain_timm": ["timm"],
    "lightning_module": ["lightning"],
    "transformers_trainer": ["transformers", "accelerate"],
    "accelerate_loop": ["accelerate", "timm"],
    "ddp": [],
}
LAUNCHED = {
    "ddp": [
        "-m",
        "torch.distributed.run",
        "--standalone",
        "--nproc-per-node",
        "2",
        "--no-python",
        sys.executable,
        FORKED,
    ]
}


def test_each_is_listed_and_short():
    assert sorted(PACKAGES) == sorted(path.stem for path in FOLDER.iterdir() if path.suffix == ".py")
    assert all(len(path.read_text(encoding="utf-8").splitlines()) <= 40 for path in FOLDER.glob("*.py"))


@pytest.mark.parametrize("name", PACKAGES)
def test_it_trains_with_sba(name, tmp_path, forked):
    for package in PACKAGES[name]:
        pytest.importorskip(package, reason=f"{package} is not installed: pip install '.[examples]'")
    command = [sys.executable, FORKED, *LAUNCHED.get(name, []), str(FOLDER / f"{name}.py")]
    environment = os.environ | {"OMP_NUM_THREADS": "1", "HF_HUB_OFFLINE": "1", "CUDA_VISIBLE_DEVICES": ""}
    done = subprocess.run(command, cwd=tmp_path, env=environment, capture_output=True, text=True, timeout=300)
    assert done.returncode == 0, done.stdout + done.stderr
    printed = [ast.literal_eval(line) for line in re.findall(r"\{'.*\}", done.stdout)]
    terms = [{key: float(line[key]) for key in ("cross_entropy", "virtual")} for line in printed]
    assert len(terms) >= 3 and all(line["virtual"] > 0 for line in terms)
    assert terms[-1]["cross_entropy"] < 0.8 * terms[0]["cross_entropy"]


def test_a_state_can_be_saved_as_tensors_alone(tmp_path):
    """As accelerate and transformers save it."""
    safetensors = pytest.importorskip("safetensors.torch", reason="accelerate and timm bring safetensors")
    network, x, y = scene()
    criterion = attach(network, SBA(omega=0.0, scale="running"), x, total_steps=5, seed=7)
    criterion(x, y)
    safetensors.save_file(criterion.state_dict(), tmp_path / "state.safetensors")
    other = attach(scene(1)[0], SBA(omega=0.0, scale="running"), x, total_steps=5)
    other.load_state_dict(safetensors.load_file(tmp_path / "state.safetensors"))
    assert (other.step, other.seed) == (1, 7)
    assert all(torch.equal(v, criterion.state_dict()[k]) for k, v in other.state_dict().items())
