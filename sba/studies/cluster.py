"""Runs are done by a Ray cluster of this machine or of many. What is done where and what is tried again is Ray's business; records
come back to the sweep, which alone appends them, so no file system needs to be shared."""

import asyncio
import dataclasses
import importlib
import os
import pathlib
import tempfile
import time
from collections.abc import Callable
from concurrent.futures import Future
from typing import Any, cast

from sba.core.errors import ConfigError, require
from sba.data.datasets import Data, DataCache, fingerprint
from sba.data.in_memory import Split
from sba.records.record import SOURCE, versions
from sba.studies.jobs import Event, Executor, Job, Lost, Result, Say, Stop, which
from sba.studies.kept import NODE, place
from sba.studies.sweep import Sweep

RETRIES = 3
"""How often Ray tries a run again whose process or node died."""
ASK_SECONDS = 0.1
QUIET = {
    "RAY_USAGE_STATS_ENABLED": "0",
    "RAY_ACCEL_ENV_VAR_OVERRIDE_ON_ZERO": "0",
    "RAY_ENABLE_UV_RUN_RUNTIME_ENV": "0",
}
"""Ray reports nothing to its makers, and keeps its advice to itself."""


class Ray(Executor):
    """Does jobs on a cluster.

    Args:
        address: "auto" for a cluster that runs here, "local" to start one on this machine, or as ``ray.init`` takes it.
        task: the sweep.
        cpus: of a run; its threads and workers by default.
        gpus: of a run, or a part of one; 1 by default if the device is cuda.

    Raises:
        MissingExtraError: Ray is not installed.
        ConfigError: there is no such cluster; no node of it can do a run; a node has another source, other versions, or does not
            see the folder of checkpoints.
    """

    # all claims are files that are held open
    ahead = 500

    def __init__(self, address: str, task: Sweep, cpus: float | None = None, gpus: float | None = None):
        require("--ray", "cluster", "ray")
        machine = task.machine
        if machine.device not in ("cpu", "cuda"):
            raise ConfigError(f"device: Ray chooses the card, not {machine.device!r}; give cuda or cpu")
        gpus = float(machine.device == "cuda") if gpus is None else gpus
        if (machine.device == "cuda") != (gpus > 0):
            raise ConfigError(f"gpus-per-run: {gpus:g} does not fit the device {machine.device!r}; leave it out")
        self.needs = {"CPU": (machine.threads or 1) + machine.workers if cpus is None else cpus, "GPU": gpus}
        os.environ.update({name: value for name, value in QUIET.items() if name not in os.environ})
        self.ray = ray = cast(Any, importlib.import_module("ray"))
        own = {"include_dashboard": False} if address == "local" else {}
        try:
            ray.init(address, log_to_driver=False, logging_level="error", **own)
        except (ConnectionError, ValueError, RuntimeError, ImportError) as error:
            raise ConfigError(f"ray: no cluster at {address!r} ({error}); start one, or give --ray local") from error
        try:
            self.slots = self.capacity()
            self.expected = self.checked(task.store.checkpoints)
        except BaseException:
            ray.shutdown()
            raise
        options = {"num_cpus": self.needs["CPU"], "num_gpus": gpus, "max_retries": RETRIES}
        self.task = ray.remote(do).options(**options)
        # where the sweep is, or its client's server: it lives as long as the cluster
        head = {"num_cpus": 0, "resources": {"node:__internal_head__": 0.001}}
        self.line: Any = ray.remote(Line).options(**head).remote()
        self.boxes: dict[str, list[Any]] = {}
        self.taken: dict[int, Any] = {}
        self.begun: set[int] = set()

    def nodes(self) -> list[dict[str, Any]]:
        """Return what Ray knows of each node that is alive."""
        return [node for node in self.ray.nodes() if node["Alive"]]

    def capacity(self) -> int:
        """Return how many runs are done side by side."""
        if found := sum(room(node["Resources"], self.needs) for node in self.nodes()):
            return found
        wanted, *has = (
            " and ".join(f"{resources.get(kind, 0):g} {kind}s" for kind in self.needs)
            for resources in (self.needs, *(node["Resources"] for node in self.nodes()))
        )
        raise ConfigError(
            f"ray: no node has {wanted} for a run ({'; '.join(has)}); give other --cpus-per-run or --gpus-per-run"
        )

    def checked(self, checkpoints: str) -> dict[str, str]:
        """Look at every node; return what each process there must be like."""
        system, folder = place(checkpoints)
        if system or checkpoints == NODE:
            return self.compared(None)
        pathlib.Path(folder).mkdir(parents=True, exist_ok=True)
        with tempfile.NamedTemporaryFile(dir=folder, prefix=".seen-") as token:
            return self.compared(pathlib.Path(token.name))

    def compared(self, token: pathlib.Path | None) -> dict[str, str]:
        """Compare the nodes with this process; ``token`` is a file that all must see."""
        pinned = importlib.import_module("ray.util.scheduling_strategies").NodeAffinitySchedulingStrategy
        look, expected, asked = self.ray.remote(passport), passport(None), []
        for node in self.nodes():
            there = look.options(num_cpus=0, max_retries=0, scheduling_strategy=pinned(node["NodeID"], soft=False))
            asked.append((name(node), there.remote(token)))
        for called, reference in asked:
            try:
                found = self.ray.get(reference)
            # Ray cannot even begin where this project is not installed
            except self.ray.exceptions.RayError as error:
                reason = getattr(error, "cause", None) or type(error).__name__
                raise ConfigError(
                    f"ray: the node {called} cannot do runs ({reason}); install this project there"
                ) from error
            refuse(called, expected, found)
        return expected

    def submit(self, job: Job, data: DataCache, say: Say, stop: Stop) -> "Future[Result]":
        found = data(*which(job.planned.run))
        if job.fingerprint not in self.boxes:
            # in a list the reference stays one: each node fetches the data once, each process reads it once
            self.boxes[job.fingerprint] = [self.ray.put(found)] if isinstance(found.train, Split) else []
        reference = self.task.remote(job, self.expected, self.needs, self.boxes[job.fingerprint], self.line)
        self.taken[job.index] = reference
        return reference.future()

    def result(self, future: "Future[Result]") -> Result:
        try:
            return future.result()
        except self.ray.exceptions.RayTaskError as error:
            raise error.cause from None
        except self.ray.exceptions.RayError as error:
            raise Lost(type(error).__name__) from error

    def news(self) -> list[Event]:
        try:
            events = self.ray.get(self.line.take.remote())
        except self.ray.exceptions.RayError as error:
            raise ConfigError(
                f"ray: the cluster is gone ({type(error).__name__}); start it, and the same command goes on"
            ) from error
        self.begun.update(event.index for event in events)
        return events

    def stop(self) -> None:
        self.ray.get(self.line.stop.remote())
        # those that have begun write a checkpoint
        for index, reference in self.taken.items():
            if index not in self.begun:
                self.ray.cancel(reference)

    def close(self) -> None:
        self.ray.shutdown()


class Line:
    """An actor that brings the sweep what its jobs say, and them its word to stop."""

    def __init__(self) -> None:
        self.events: list[Event] = []
        self.told = asyncio.Event()

    async def say(self, event: Event) -> None:
        """Keep an event for the sweep."""
        self.events.append(event)

    async def take(self) -> list[Event]:
        """Hand the events over."""
        events, self.events = self.events, []
        return events

    async def stop(self) -> None:
        """Let all jobs stop."""
        self.told.set()

    async def stopped(self) -> None:
        """Return when jobs are to stop."""
        await self.told.wait()


def name(node: dict[str, Any]) -> str:
    """Name a node as people know it."""
    return f"{node['NodeManagerHostname']} ({node['NodeManagerAddress']}, {node['NodeID'][:8]})"


def room(resources: dict[str, float], needs: dict[str, float]) -> int:
    """Return how many runs fit on a node at once."""
    return min((int(resources.get(kind, 0.0) / need + 1e-6) for kind, need in needs.items() if need), default=0)


def passport(token: pathlib.Path | None) -> dict[str, str]:
    """Say what a node must have in common with the sweep: the source, the versions, and a folder, seen by a file in it."""
    # a processor's torch and a card's differ in the build alone
    mine = {package: version.split("+")[0] for package, version in versions().items()}
    return {"source": SOURCE, **mine, "folder": "" if token is None or token.exists() else str(token.parent)}


def refuse(node: str, expected: dict[str, str], found: dict[str, str]) -> None:
    """Raise :class:`sba.core.errors.ConfigError` if a node is not like the sweep."""
    if found.get("folder"):
        raise ConfigError(
            f"checkpoints: the node {node} does not see {found['folder']}; give --checkpoints a folder or URL that all nodes see, "
            f"or {NODE!r} to lose them with their node"
        )
    if other := [f"{k} {found.get(k, 'none')}, not {v}" for k, v in expected.items() if found.get(k) != v]:
        raise ConfigError(f"ray: the node {node} has {'; '.join(other)}; install there what the sweep runs with")


own: dict[str, Data] = {}
"""Fingerprint → data that a process of the cluster has."""


def do(job: Job, expected: dict[str, str], needs: dict[str, float], box: list[Any], line: Any) -> Result:
    """Do a job on a node."""
    ray = cast(Any, importlib.import_module("ray"))
    here = ray.get_runtime_context().get_node_id()
    node = next(node for node in ray.nodes() if node["NodeID"] == here)
    # it may have come after the sweep has looked
    refuse(name(node), expected, passport(None))

    def data(*named: Any) -> Data:
        if job.fingerprint not in own:
            if box:
                found = ray.get(box[0])
                own[job.fingerprint] = dataclasses.replace(found, fingerprint=fingerprint(found.train, found.test))
            else:
                own[job.fingerprint] = DataCache(job.machine.data_root, job.machine.download)(*named)
        return own[job.fingerprint]

    job = dataclasses.replace(job, jobs=room(node["Resources"], needs))

    def say(event: Event) -> None:
        line.say.remote(dataclasses.replace(event, text=name(node)))

    return job.do(data, say, asking(line, ray))


def asking(line: Any, ray: Any) -> Callable[[], bool]:
    """Return what says, quickly, whether to stop."""
    told, asked = line.stopped.remote(), time.monotonic()

    def stop() -> bool:
        nonlocal asked
        if time.monotonic() - asked < ASK_SECONDS:
            return False
        asked = time.monotonic()
        return bool(ray.wait([told], timeout=0)[0])

    return stop
