"""Processes of a Ray cluster, forked from one that has loaded already what takes seconds to load.

Ray starts this file in place of its own ``setup_worker.py``. It hands the command on to :func:`serve`, and ends with what becomes
of it. Ray kills its processes by the number that they report, or they end with their node's line: both as without this file.
"""

import json
import os
import runpy
import signal
import socket
import sys

SERVER = "SBA_TESTS_WORKERS"
"""The variable that names the server's socket."""


def serve(server):
    """Fork a process for every command that comes."""
    # nobody waits for them
    signal.signal(signal.SIGCHLD, signal.SIG_IGN)
    while True:
        line, _ = server.accept()
        if os.fork() == 0:
            become(line)
        line.close()


def become(line):
    """Be the process that a command would have started."""
    try:
        for name in (signal.SIGCHLD, signal.SIGTERM):
            signal.signal(name, signal.SIG_DFL)
        _, files, *_ = socket.recv_fds(line, 1, 3)
        for number, file in enumerate(files):
            os.dup2(file, number)
            os.close(file)
        with line.makefile("rb") as said:
            sys.argv, environment, folder = json.load(said)
        os.environ.clear()
        os.environ.update(environment)
        os.chdir(folder)
        sys.path[0] = os.path.dirname(sys.argv[0])
        runpy.run_path(sys.argv[0], run_name="__main__")
    finally:
        os._exit(0)


if __name__ == "__main__":
    with socket.socket(socket.AF_UNIX) as asked:
        asked.connect(os.environ[SERVER])
        socket.send_fds(asked, [b"."], [0, 1, 2])
        # those two are for Ray's own
        command = [word for word in sys.argv[1:] if not word.startswith(("--serialized-runtime-env", "--language"))]
        asked.sendall(json.dumps([command, dict(os.environ), os.getcwd()]).encode())
        asked.shutdown(socket.SHUT_WR)
        asked.recv(1)
