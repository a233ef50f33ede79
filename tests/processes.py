"""Processes that tests start: alone or joined in twos, and killed at a chosen step."""

import itertools
import multiprocessing
import os
import pickle
import queue
import runpy
import socket
import sys

import forked
import torch
from torch.optim.optimizer import register_optimizer_step_post_hook

from sba.training import distributed, loop

RANKS = 2
FORKED = forked.__file__
"""Behind the interpreter, this makes a command line start at once."""


def context():
    """Where processes come from: a server that has loaded already what takes seconds to load."""
    found = multiprocessing.get_context("forkserver")
    loaded = ["sba.cli.commands", "sba.studies.executors", "torch._dynamo", "torchvision"]
    found.set_forkserver_preload([*loaded, "sklearn.datasets", "sklearn.model_selection"])
    return found


def kill_at(step, number):
    """Let this process send itself a signal behind one of its steps, counted from 1."""
    steps = itertools.count(1)
    register_optimizer_step_post_hook(lambda *_: os.kill(os.getpid(), number) if next(steps) == step else None)


def command(folder, arguments, prepare=()):
    """Be a command line in a folder, after a function was called with its arguments; what it says goes into the file ``said``."""
    os.chdir(folder)
    said = os.open("said", os.O_CREAT | os.O_TRUNC | os.O_APPEND | os.O_WRONLY)
    for stream in (1, 2):
        os.dup2(said, stream)
    # what was killed goes on from the end of an epoch
    loop.SAVE_SECONDS = 0.0
    if prepare:
        prepare[0](*prepare[1:])
    sys.argv = ["sba", *arguments]
    runpy.run_module("sba", run_name="__main__", alter_sys=True)


# --------------------------------------------------------------------------------------------------------- joined in twos


def free_port():
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        return free.getsockname()[1]


def enter(rank, port, task, arguments, results):
    """Join the group as torchrun would have it, and put down what a task returns."""
    os.environ.update(MASTER_ADDR="127.0.0.1", MASTER_PORT=str(port), RANK=str(rank), WORLD_SIZE=str(RANKS))
    os.environ["LOCAL_RANK"] = str(rank)
    torch.set_num_threads(1)
    with distributed.launched("cpu"):
        # tensors would travel through shared memory that ends with the process
        results.put((rank, pickle.dumps(task(*arguments))))


def together(task, *arguments):
    """Run a task in two processes joined by gloo; return what each of them found, None from one that died."""
    found, results, port = {}, context().Queue(), free_port()
    workers = [
        context().Process(target=enter, args=(r, port, task, arguments, results), daemon=True) for r in range(RANKS)
    ]
    for worker in workers:
        worker.start()
    try:
        while len(found) < RANKS and any(w.is_alive() or w.exitcode == 0 for w in workers):
            try:
                rank, value = results.get(timeout=1)
                found[rank] = pickle.loads(value)
            except queue.Empty:
                if all(not w.is_alive() for w in workers):
                    break
    finally:
        for worker in workers:
            worker.join(timeout=60)
            worker.kill()
    return [found.get(r) for r in range(RANKS)]
