"""A sweep on two nodes of a Ray cluster makes the records of one machine, whatever dies in the middle."""

import contextlib
import dataclasses
import os
import shutil
import signal
import sys
import time
from collections import Counter
from importlib.util import find_spec
from pathlib import Path
from types import SimpleNamespace

import pytest
from click.testing import CliRunner
from processes import FORKED as PROGRAM
from processes import context
from tiny_study import CELLS, TINY, store, stored, swept

import sba
from sba.cli.commands import main
from sba.core.errors import ConfigError
from sba.data.datasets import load
from sba.records.record import SOURCE
from sba.studies import catalogue
from sba.studies.cluster import QUIET, Ray, do, passport, refuse, room
from sba.studies.jobs import Job
from sba.studies.planned import planned_runs
from sba.studies.sweep import Sweep
from sba.training.checkpoint import FILE
from sba.training.machine import Machine

ray = pytest.mark.skipif(find_spec("ray") is None, reason="Ray is not installed: pip install 'sba-torch[cluster]'")
# all that need the cluster use one; Ray's own files and processes are closed by garbage collection
pytestmark = [
    pytest.mark.xdist_group("ray"),
    pytest.mark.filterwarnings("ignore:unclosed:ResourceWarning"),
    pytest.mark.filterwarnings("ignore:subprocess .* is still running:ResourceWarning"),
]
PATHS = [str(Path(sba.__file__).parents[1]), str(Path(__file__).parents[1])]
MANY = planned_runs(TINY, range(3))
FEW = MANY[:6]
LONG, *LATER = [planned_runs(TINY, [seed], scale=20)[0] for seed in range(3)]
SMALL = {"num_cpus": 1, "object_store_memory": 80 << 20}
FORKED = SMALL | {"setup_worker_path": PROGRAM}
SOON = {"health_check_initial_delay_ms": 500, "health_check_period_ms": 500, "health_check_failure_threshold": 3}
SPARE = {"include_dashboard": False, "include_log_monitor": False, "no_monitor": True}
HEAD = SPARE | {"_system_config": SOON | {"enable_worker_prestart": False}}


@pytest.fixture(scope="module")
def reference(tmp_path_factory):
    """The records of this process."""
    folder = tmp_path_factory.mktemp("local")
    swept(store(folder), [*MANY, LONG, *LATER])
    return stored(folder)


@pytest.fixture(scope="module")
def cluster(tmp_path_factory, forked):
    """Two nodes of one processor each, whose processes are forked; nothing of them is left behind."""
    folder = tmp_path_factory.mktemp("ray")
    # every process of Ray takes 2 s to load this, and has no use for it
    (folder / "rfc3987_syntax.py").write_text("raise ImportError\n")
    with pytest.MonkeyPatch.context() as patch:
        for name, value in QUIET.items():
            patch.setenv(name, value)
        # Ray hands on the working directory alone
        patch.syspath_prepend(folder)
        patch.setenv("PYTHONPATH", os.pathsep.join([str(folder), *PATHS]))
        from ray.cluster_utils import Cluster

        made = Cluster(True, head_node_args={**HEAD, **FORKED})
        session = made.head_node.get_session_dir_path()
        made.add_node(**FORKED)
        yield made
        made.shutdown()
    for _ in range(100):
        if not (left := processes_of(session)):
            break
        time.sleep(0.1)
    else:
        pytest.fail(f"processes were left: {left}")


def processes_of(session):
    """What still runs of a cluster."""
    found = []
    for path in Path("/proc").glob("[0-9]*/cmdline"):
        with contextlib.suppress(OSError):
            if session in (said := path.read_bytes().decode(errors="replace")):
                found.append(said.replace("\0", " ")[:80])
    return found


def on(cluster, folder, planned, **options):
    """Sweep on the cluster."""
    task = Sweep(TINY, planned, store(folder))
    executor = Ray(cluster.address, task)
    try:
        task.do(executor, say=options.pop("hear", lambda event: None), **options)
    finally:
        executor.close()


@ray
def test_two_nodes_make_the_records_of_one_machine_bit_for_bit(tmp_path, monkeypatch, cluster, reference):
    monkeypatch.chdir(tmp_path)
    monkeypatch.setitem(catalogue.STUDIES, "tiny", TINY)
    result = CliRunner().invoke(main, ["sweep", "tiny", "--seeds", "3", "--ray", cluster.address])
    assert result.exit_code == 0, result.output
    lines = result.output.splitlines()
    assert [line.split()[0] for line in lines[1:-1]] == ["record"] * 9
    assert lines[-1] == "all 9 runs have records" and "[0 left, 00:00]" in lines[-2]
    assert stored("runs") == {one.run.key: reference[one.run.key] for one in MANY}
    assert not list(Path("runs").rglob(FILE)) and not list(Path("runs").glob(".seen*"))


@ray
def test_a_node_with_another_source_is_refused_by_name(tmp_path, cluster):
    shutil.copytree(Path(sba.__file__).parent, tmp_path / "sba", ignore=shutil.ignore_patterns("__pycache__"))
    with (tmp_path / "sba" / "core" / "rng.py").open("a") as file:
        file.write("# another version\n")
    # a worker puts the sweep's folders first, and this comes before
    early = "import sys\nif any('worker' in word for word in sys.orig_argv):\n    import sba\n"
    (tmp_path / "sitecustomize.py").write_text(early)
    path = os.pathsep.join([str(tmp_path), os.environ["PYTHONPATH"]])
    stranger = cluster.add_node(env_vars={"PYTHONPATH": path}, **SMALL)
    try:
        with pytest.raises(
            ConfigError, match=rf"ray: the node .*{stranger.node_id[:8]}\) has source \w+, not {SOURCE};"
        ):
            on(cluster, tmp_path / "store", FEW)
    finally:
        cluster.remove_node(stranger)
    assert not stored(tmp_path / "store")


@ray
def test_what_no_node_can_do_is_refused(tmp_path, cluster):
    task = Sweep(TINY, MANY, store(tmp_path))
    with pytest.raises(
        ConfigError,
        match=r"ray: no node has 3 CPUs and 0 GPUs for a run \(1 CPUs and 0 GPUs; 1 CPUs and 0 GPUs\); .*--cpus-per-run",
    ):
        Ray(cluster.address, task, cpus=3)


def drive(address, folder):
    """Sweep in a process that is killed when a run is done and recorded."""
    task = Sweep(TINY, FEW, store(folder))
    task.do(Ray(address, task), lambda event: os.kill(os.getpid(), signal.SIGKILL) if event.kind == "done" else None)


@ray
def test_sweep_and_node_that_die_and_one_that_is_stopped_lose_and_double_nothing(tmp_path, cluster, reference):
    # the sweep is killed
    driver = context().Process(target=drive, args=(cluster.address, tmp_path))
    driver.start()
    driver.join()
    assert driver.exitcode == -signal.SIGKILL and len(stored(tmp_path)) == 1

    # another is told to stop, and leaves checkpoints
    heard = []
    on(cluster, tmp_path, [LONG], hear=heard.append, stop=lambda: any(e.kind == "epoch" for e in heard))
    assert heard[-1].kind == "stopped" and 0 < heard[-1].epoch < LONG.run.epochs and list(tmp_path.rglob(FILE))

    # a third goes on, and loses a node that is at work: on a run that takes longer than to hear of it and to kill
    (victim,) = cluster.worker_nodes
    events = []

    def hear(event):
        events.append(event)
        if event.kind == "started" and victim.node_id[:8] in event.text and victim in cluster.worker_nodes:
            cluster.remove_node(victim, allow_graceful=False)

    on(cluster, tmp_path, [LONG, *LATER, *FEW], hear=hear)
    assert victim not in cluster.worker_nodes
    assert next(e for e in events if e.kind == "started" and e.index == 0).epoch > 0
    assert max(Counter(e.index for e in events if e.kind == "started").values()) > 1, "nothing was done again"
    assert sorted(e.index for e in events if e.kind in ("found", "done")) == list(range(3 + len(FEW)))
    assert stored(tmp_path) == {one.run.key: reference[one.run.key] for one in (LONG, *LATER, *FEW)}


# ------------------------------------------------------------------------------------------------------ without a cluster


@pytest.mark.parametrize(
    ("resources", "needs", "count"),
    [
        ({"CPU": 8.0}, {"CPU": 2, "GPU": 0.0}, 4),
        ({"CPU": 8.0, "GPU": 1.0}, {"CPU": 1, "GPU": 0.25}, 4),
        ({"CPU": 3.0, "GPU": 1.0}, {"CPU": 1, "GPU": 0.1}, 3),
        ({"CPU": 64.0, "GPU": 1.0}, {"CPU": 1, "GPU": 0.1}, 10),
        ({"CPU": 8.0}, {"CPU": 1, "GPU": 1.0}, 0),
    ],
)
def test_as_many_runs_fit_on_a_node_as_its_scarcest_resource_allows(resources, needs, count):
    assert room(resources, needs) == count


@pytest.fixture
def node(monkeypatch):
    """Be a node with room for two runs, where Ray says nothing and nobody asks to stop; return its end of the line."""
    known = {"NodeID": "1", "NodeManagerHostname": "n1", "NodeManagerAddress": "::1", "Resources": {"CPU": 2.0}}
    stand_in = SimpleNamespace(
        get_runtime_context=lambda: SimpleNamespace(get_node_id=lambda: "1"),
        nodes=lambda: [known],
        wait=lambda told, timeout: ([], told),
    )
    monkeypatch.setitem(sys.modules, "ray", stand_in)
    monkeypatch.setattr("sba.studies.cluster.own", {})
    return SimpleNamespace(say=SimpleNamespace(remote=lambda _: None), stopped=SimpleNamespace(remote=lambda: None))


def test_a_node_takes_its_own_data_if_none_are_sent_and_refuses_others(tmp_path, node):
    planned = CELLS[2]
    job = Job(2, planned, TINY, load("moons").fingerprint, str(tmp_path), Machine(threads=1))
    event, record = do(job, passport(None), {"CPU": 1.0}, [], node)
    assert (event.kind, event.index, record.key, record.jobs) == ("done", 2, planned.run.key, 2)
    event, record = do(dataclasses.replace(job, fingerprint="another"), passport(None), {"CPU": 1.0}, [], node)
    assert event.kind == "failed" and record is None
    assert "dataset: 'moons' has the fingerprint" in event.text and "another where the sweep was started" in event.text
    with pytest.raises(ConfigError, match=r"ray: the node n1 \(::1, 1\) has source \w+, not elsewhere"):
        do(job, passport(None) | {"source": "elsewhere"}, {"CPU": 1.0}, [], node)


def test_other_versions_are_refused_by_name_and_an_unseen_folder_too():
    expected = {"source": "a", "torch": "2.11.0", "folder": ""}
    refuse("n1", expected, dict(expected))
    with pytest.raises(ConfigError, match=r"ray: the node n1 has torch 2\.10\.0, not 2\.11\.0; install there"):
        refuse("n1", expected, expected | {"torch": "2.10.0"})
    with pytest.raises(
        ConfigError, match="checkpoints: the node n1 does not see /x; give --checkpoints a folder or URL"
    ):
        refuse("n1", expected, expected | {"folder": "/x"})


@pytest.mark.parametrize(
    ("options", "message"),
    [
        (["--gpus-per-run", "0.5"], "error: gpus-per-run: 0.5 does not fit the device 'cpu'; leave it out"),
        (["--device", "cuda:1"], "error: device: Ray chooses the card, not 'cuda:1'; give cuda or cpu"),
        (["--jobs", "2"], "error: jobs: Ray decides how many runs are done side by side; give --cpus-per-run"),
        (["--checkpoints", "s9://there"], "error: checkpoints: 's9://there' cannot be used"),
    ],
)
def test_a_mistake_gets_a_message_and_status_2(tmp_path, monkeypatch, options, message):
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr("sba.core.errors.find_spec", lambda name: name)
    result = CliRunner().invoke(main, ["sweep", "omega-eta", "--where", "moons", "--ray", "auto", *options])
    assert result.exit_code == 2 and message in result.output, result.output


def test_without_ray_the_option_says_what_to_install(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr("sba.core.errors.find_spec", lambda name: None if name == "ray" else name)
    result = CliRunner().invoke(main, ["sweep", "omega-eta", "--where", "moons", "--ray", "local"])
    assert result.exit_code == 2
    assert "error: --ray imports ray, not installed: pip install 'sba-torch[cluster]'" in result.output


def test_without_ray_options_of_it_are_refused(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    result = CliRunner().invoke(main, ["sweep", "omega-eta", "--where", "moons", "--cpus-per-run", "2"])
    assert result.exit_code == 2 and "error: cpus-per-run: it is for --ray; give that, or leave it out" in result.output
