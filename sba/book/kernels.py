"""Kernels that have loaded what chapters import: on Linux they are copies of one process.

So torch, pandas and seaborn are loaded once for all chapters. Elsewhere processes cannot be copied safely, and each kernel loads
what it needs.
"""

import multiprocessing
import os
import sys
import threading
import uuid
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from multiprocessing import forkserver
from multiprocessing.connection import wait
from typing import Any

import pandas
from ipykernel.kernelapp import IPKernelApp
from jupyter_client import AsyncKernelManager
from jupyter_client.provisioning import LocalProvisioner

COPIED = sys.platform == "linux"
LOADED = [
    "sba.book.kernels",
    "sba.book.explore",
    "sba.book.plots",
    "sba.book.maps",
    "sba.studies.catalogue",
    "sba.report.verdicts",
    "sklearn.datasets",
    "sklearn.model_selection",
    "statsmodels.stats.contingency_tables",
    "torchvision",
]


def context() -> Any:
    """Return where processes come from."""
    return multiprocessing.get_context("forkserver" if COPIED else "spawn")


@contextmanager
def loaded(environment: Mapping[str, str]) -> Iterator[None]:
    """Have the process that kernels are copies of: it starts with these variables, as torch reads some when it is imported."""
    before = dict(os.environ)
    os.environ.update(environment)
    try:
        if COPIED:
            context().set_forkserver_preload(LOADED)
            forkserver.ensure_running()
        yield
    finally:
        os.environ.clear()
        os.environ.update(before)


def end_with(parent: Any) -> None:
    """End this process when the one that executes is gone, however it ended."""
    wait([parent.sentinel])
    os._exit(1)


def serve(arguments: list[str], environment: Mapping[str, str], folder: str) -> None:
    """Be a kernel in a folder. Its outputs are messages: what it prints besides goes nowhere."""
    # Ctrl-C in a terminal is for the process that executes, which decides
    if COPIED:
        os.setsid()
    os.chdir(folder)
    os.environ.update(environment)
    # not the process that executes, which ipykernel would look for: a copy has another parent
    os.environ["JPY_PARENT_PID"] = str(os.getppid())
    threading.Thread(target=end_with, args=(multiprocessing.parent_process(),), daemon=True).start()
    nowhere = os.open(os.devnull, os.O_WRONLY)
    for stream in (1, 2):
        os.dup2(nowhere, stream)
    # pandas thinks of a terminal where it is not a kernel that imports it
    pandas.set_option("display.max_columns", 20)
    IPKernelApp.launch_instance(argv=arguments)


class Process:
    """A kernel as jupyter_client wants it: like `subprocess.Popen`."""

    stdin = stdout = stderr = None

    def __init__(self, *arguments: object):
        self.own = context().Process(target=serve, args=arguments)
        self.own.start()
        self.pid = self.own.pid
        self.terminate, self.kill = self.own.terminate, self.own.kill

    def poll(self) -> int | None:
        return self.own.exitcode

    def wait(self) -> int | None:
        self.own.join()
        return self.own.exitcode

    def send_signal(self, number: int) -> None:
        os.kill(self.pid, number)


class Provisioner(LocalProvisioner):
    """Starts such a process instead of a program."""

    async def launch_kernel(self, cmd: list[str], **options: Any) -> Any:
        started: Any = Process(cmd[cmd.index("-f") :], options["env"], options["cwd"])
        self.process, self.pid, self.pgid = started, started.pid, started.pid
        return self.connection_info


class Manager(AsyncKernelManager):
    """Manages a kernel of this module."""

    def __init__(self, **given: Any):
        super().__init__(**given)
        self.kernel_id = str(uuid.uuid4())
        self.provisioner = Provisioner(kernel_id=self.kernel_id, kernel_spec=self.kernel_spec, parent=self)
