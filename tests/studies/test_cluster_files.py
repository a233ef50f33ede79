"""The files of examples/cluster/, run with stand-ins for what a cluster has."""

import os
import re
import shutil
import subprocess
import sys
from pathlib import Path

import pytest
import yaml
from click.testing import CliRunner
from processes import FORKED

from sba.cli.commands import main
from sba.records.file import read

ROOT = Path(__file__).resolve().parents[2]
FOLDER = ROOT / "examples" / "cluster"
SCRIPTS = sorted(FOLDER.glob("*.sbatch"))
STUDY = ["omega-eta", "--where", "moons", "--methods", "erm", "--epochs-scale", "0.02"]
SLURM = {
    "SLURM_JOB_NODELIST": "n[1-2]",
    "SLURM_NNODES": "2",
    "SLURM_JOB_ID": "7",
    "SLURM_ARRAY_JOB_ID": "7",
    "SLURM_CPUS_PER_TASK": "4",
    "SLURM_GPUS_ON_NODE": "2",
}
NOW = 1_800_000_000
"""Seconds of the clock, which stands: what is left of a job's time is to be known."""
STAND_INS = {
    "date": f"echo {NOW}",
    # the options of a real one stand in the head of the script
    "srun": 'exec "$@"',
    "scontrol": 'if [ "$1" = show ]; then printf "n1\\nn2\\n"; else echo "$@" >> said; fi',
    # what is behind -- runs on the first machine
    "ray": 'printf "%s\\n" "$@" > ray; while [ "$1" != -- ]; do shift; done; shift; exec "$@"',
    "torchrun": 'printf "%s\\n" "$@" > torchrun',
}


@pytest.fixture
def cluster(tmp_path, forked):
    """Run a script in a folder with stand-ins; return how it ended."""
    (tools := tmp_path / "tools").mkdir()
    for name, body in STAND_INS.items():
        (tools / name).write_text(f"#!/bin/sh\n{body}\n")
    (tools / "python").write_text(
        f'#!/bin/sh\nprintf "%s\\n" "$@" > python\n[ -z "$STATUS" ] || exit "$STATUS"\nexec "{sys.executable}" "{FORKED}" "$@"\n'
    )
    for tool in tools.iterdir():
        tool.chmod(0o755)

    def run(script, *arguments, seconds=3600, **given):
        own = {
            "PATH": f"{tools}:{os.environ['PATH']}",
            "PYTHONPATH": str(ROOT),
            "SLURM_JOB_END_TIME": f"{NOW + seconds}",
        }
        environment = os.environ | SLURM | own | given
        command = [shutil.which("bash"), FOLDER / script, *arguments]
        return subprocess.run(command, cwd=tmp_path, env=environment, capture_output=True, text=True, timeout=120)

    return run


def words(path):
    return path.read_text().splitlines()


@pytest.mark.parametrize("script", SCRIPTS, ids=lambda path: path.name)
def test_bash_can_read_it_and_slurm_its_options(script):
    subprocess.run(["bash", "-n", script], check=True)
    lines = words(script)
    assert lines[0] == "#!/bin/bash" and any(line.startswith("#SBATCH --time=") for line in lines)
    commands = [i for i, line in enumerate(lines) if line and not line.startswith("#")]
    # sbatch reads options up to the first command
    assert not any(line.startswith("#SBATCH") for line in lines[commands[0] :])


def test_the_page_shows_lines_of_the_files():
    page = (ROOT / "book" / "scale.md").read_text(encoding="utf-8")
    shown = [block for block in re.findall(r"```bash\n(.*?)```", page, re.S) if block.startswith("srun ")]
    assert len(shown) == 2
    for block in shown:
        assert any(block in script.read_text() for script in SCRIPTS)
    assert all(path.name in page for path in FOLDER.iterdir())


def test_an_array_makes_every_seed_once_and_its_files_are_one_store(cluster, tmp_path):
    for seed in ("0", "1"):
        done = cluster("sweep-array.sbatch", *STUDY, SLURM_ARRAY_TASK_ID=seed, DEVICE="cpu")
        assert done.returncode == 0, done.stderr
    assert sorted(path.name for path in (tmp_path / "runs").glob("*.jsonl")) == ["seed-0.jsonl", "seed-1.jsonl"]
    assert sorted(record.seed for record in read(tmp_path / "runs")) == [0, 1]
    whole = CliRunner().invoke(main, ["sweep", *STUDY, "--seeds", "2", "--store", str(tmp_path / "runs")])
    assert whole.exit_code == 0 and whole.output == "all 2 runs have records\n"


def test_a_job_whose_time_is_over_is_queued_again(cluster, tmp_path):
    long = ["omega-eta", "--where", "moons"]
    done = cluster("sweep-array.sbatch", *long, seconds=301, SLURM_ARRAY_TASK_ID="0", DEVICE="cpu")
    assert done.returncode == 3 and "the same command goes on" in done.stderr
    assert words(tmp_path / "said") == ["requeue 7_0"]


@pytest.mark.parametrize("script", SCRIPTS, ids=lambda path: path.name)
def test_a_job_without_time_to_train_is_refused_and_not_queued_again(cluster, tmp_path, script):
    done = cluster(script.name, *STUDY, seconds=300, SLURM_ARRAY_TASK_ID="0")
    assert done.returncode == 2 and done.stderr.startswith("--time: five minutes are kept for checkpoints")
    assert not (tmp_path / "said").exists()


@pytest.mark.parametrize("status", ["0", "2", "3"])
def test_ray_starts_on_all_machines_and_the_sweep_on_the_first(cluster, tmp_path, status):
    done = cluster("sweep-ray.sbatch", *STUDY, STATUS=status, GPUS_PER_RUN="0.5")
    assert done.returncode == int(status), done.stderr
    expected = ["symmetric-run", "--address", "n1:6379", "--min-nodes", "2", "--num-cpus", "4", "--num-gpus", "2", "--"]
    assert words(tmp_path / "ray")[: len(expected)] == expected
    said = words(tmp_path / "python")
    assert said[:3] == ["-m", "sba", "sweep"]
    assert (tmp_path / "said").exists() == (status == "3")
    # the command line knows every option
    listed = CliRunner().invoke(main, [*said[2:], "--list"])
    assert listed.exit_code == 0 and "missing: moons" in listed.output, listed.output


def test_one_run_on_all_cards(cluster, tmp_path):
    assert cluster("train-torchrun.sbatch", "--dataset", "digits").returncode == 0
    said = words(tmp_path / "torchrun")
    assert said[:4] == ["--nnodes", "2", "--nproc-per-node", "2"] and "n1:29500" in said
    assert said[said.index("-m") :][:5] == ["-m", "sba", "train", "--dataset", "digits"]


def test_ray_accepts_the_list_of_machines():
    commands = pytest.importorskip(
        "ray.autoscaler._private.util", reason="Ray is not installed: pip install 'sba-torch[cluster]'"
    )
    machines = yaml.safe_load((FOLDER / "ray-up.yaml").read_text())
    assert commands.validate_config(commands.prepare_config(dict(machines))) is None
    with pytest.raises(Exception, match="no_such_field"):
        commands.validate_config(commands.prepare_config(machines | {"no_such_field": 1}))
