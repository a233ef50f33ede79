"""Command lines whose processes are forked from one that has loaded already what takes seconds to load.

For ``python forked.py -m sba …`` and ``python forked.py script.py …`` :func:`serve` forks the process that does it. The fixture
``forked`` starts the server. Ray starts this file in place of its own ``setup_worker.py``, and kills its processes by the number
that they report. Such a process has loaded sba and its packages already, and ends by SIGKILL when its client ends: what is about
imports or about signals needs a process of its own.
"""

import atexit
import json
import multiprocessing
import multiprocessing.connection
import os
import runpy
import signal
import socket
import sys
import threading
import traceback

SERVER = "SBA_TESTS_FORKED"
"""The variable that names the server's socket."""


def serve(server):
    """Fork a process for every command that comes, as long as there is the process of the tests."""
    # nobody waits for them
    signal.signal(signal.SIGCHLD, signal.SIG_IGN)
    tests = multiprocessing.parent_process().sentinel
    while tests not in multiprocessing.connection.wait([server, tests]):
        line, _ = server.accept()
        if os.fork() == 0:
            server.close()
            become(line)
        line.close()


def become(line):
    """Be the process that a command would have started, and end with it."""
    status = 1
    try:
        signal.signal(signal.SIGCHLD, signal.SIG_DFL)
        signal.signal(signal.SIGTERM, signal.SIG_DFL)
        signal.signal(signal.SIGINT, signal.default_int_handler)
        length, files, *_ = socket.recv_fds(line, 8, 3)
        for number, file in enumerate(files):
            os.dup2(file, number)
            os.close(file)
        words, environment, folder = json.loads(line.recv(int.from_bytes(length), socket.MSG_WAITALL))
        threading.Thread(target=end_with, args=(line,), daemon=True).start()
        os.environ.clear()
        os.environ.update(environment)
        os.chdir(folder)
        own = os.path.dirname(os.path.abspath(__file__))
        sys.path[1:] = [path for path in sys.path[1:] if os.path.abspath(path) != own]
        sys.path[1:1] = filter(None, environment.get("PYTHONPATH", "").split(os.pathsep))
        # a child of the server, but no daemon, which could have no processes of its own
        multiprocessing.current_process()._config["daemon"] = False
        execute(words)
        status = 0
    except SystemExit as error:
        status = error.code if isinstance(error.code, int) else int(error.code is not None)
        if isinstance(error.code, str):
            print(error.code, file=sys.stderr)
    except BaseException:
        traceback.print_exc()
    finally:
        threading._shutdown()
        atexit._run_exitfuncs()
        sys.stdout.flush()
        sys.stderr.flush()
        line.sendall(bytes([status & 255]))
        os._exit(status)


def end_with(line):
    """End this process when the one is gone in whose place it is."""
    if not line.recv(1):
        os.kill(os.getpid(), signal.SIGKILL)


def execute(words):
    """Do what the interpreter does with the words behind it."""
    if words[0] == "-m":
        sys.argv, sys.path[0] = words[1:], os.getcwd()
        runpy.run_module(words[1], run_name="__main__", alter_sys=True)
    else:
        sys.argv, sys.path[0] = words, os.path.dirname(os.path.abspath(words[0]))
        runpy.run_path(words[0], run_name="__main__")


if __name__ == "__main__":
    with socket.socket(socket.AF_UNIX) as asked:
        asked.connect(os.environ[SERVER])
        # those two are for Ray's own
        command = [word for word in sys.argv[1:] if not word.startswith(("--serialized-runtime-env", "--language"))]
        said = json.dumps([command, dict(os.environ), os.getcwd()]).encode()
        socket.send_fds(asked, [len(said).to_bytes(8)], [0, 1, 2])
        asked.sendall(said)
        ended = asked.recv(1)
    if not ended:
        os.kill(os.getpid(), signal.SIGKILL)
    sys.exit(ended[0])
