"""What the tests share: one thread, no random examples between runs, and small data."""

import dataclasses
import os
import shutil
import socket
import sys
import tempfile
from pathlib import Path

import forked as commands
import hypothesis
import pytest
import torch
from helpers import absent, deep_network
from pages import BROWSERS
from processes import context

import sba

# as in sba.book, which is not imported first here
sys.modules.setdefault("rfc3987_syntax", None)
os.environ["OMP_NUM_THREADS"] = "1"  # for the processes that tests start
torch.set_num_threads(1)
hypothesis.settings.register_profile("sba", deadline=None, derandomize=True, database=None, max_examples=50)
hypothesis.settings.load_profile("sba")


@pytest.hookimpl(tryfirst=True)
def pytest_collection_modifyitems(items):
    """Keep the tests that share a fixture of their module in one process (``--dist loadgroup``), or each makes it again; skip
    those that need a GPU if there is none."""
    for item in items:
        if item.get_closest_marker("gpu") and not torch.cuda.is_available():
            item.add_marker(pytest.mark.skip(reason="needs a GPU"))
        scopes = {found[-1].scope for found in item._fixtureinfo.name2fixturedefs.values()}
        if "module" in scopes and item.get_closest_marker("xdist_group") is None:
            item.add_marker(pytest.mark.xdist_group(item.path.stem))


@pytest.fixture(autouse=True)
def one_thread():
    """A test that runs a command in this process leaves no number of threads to the next, whose sums would round differently."""
    yield
    torch.set_num_threads(1)


@pytest.fixture(scope="session")
def forked():
    """Serve the command lines that start with ``processes.FORKED``; those of a test get the variable that names the server."""
    # a socket's name has at most a hundred letters
    with tempfile.TemporaryDirectory(dir="/tmp") as folder:
        name = f"{folder}/socket"
        with socket.socket(socket.AF_UNIX) as server:
            server.bind(name)
            server.listen()
            process = context().Process(target=commands.serve, args=(server,), daemon=True)
            process.start()
        # closed here: without the server a command is refused, and does not wait
        try:
            with pytest.MonkeyPatch.context() as patch:
                patch.setenv(commands.SERVER, name)
                yield
        finally:
            process.kill()
            process.join()


@pytest.fixture(scope="session")
def digits():
    return sba.load("digits")


@pytest.fixture(scope="session")
def small(digits):
    """The digits, 100 to train on and 60 to test on: 6 steps of 16 in an epoch, and 4 images left over."""
    return dataclasses.replace(digits, train=digits.train[:100], test=digits.test[:60], fingerprint="small")


@pytest.fixture
def run():
    """Make a run on ``small`` of two epochs, with any parameter given."""

    def make(**parameters):
        return sba.make_run(**{"epochs": 2, "batch_size": 16, **parameters})

    return make


@pytest.fixture
def deep(monkeypatch):
    """Let every training build :func:`deep_network`, whatever network its run names."""
    monkeypatch.setattr("sba.training.setup.build", lambda name, *shape: deep_network(*shape[:3]))


@pytest.fixture(scope="session")
def cifar():
    """CIFAR-10 from the folder that SBA_DATA names."""
    root = os.environ.get("SBA_DATA")
    if not root or not (Path(root) / "cifar-10-batches-py").is_dir():
        pytest.skip("SBA_DATA names no folder with cifar-10-batches-py")
    return sba.load("cifar10", root)


@pytest.fixture(scope="session")
def browser():
    """A browser of the system, driven by playwright."""
    from playwright.sync_api import expect, sync_playwright

    # a busy machine is slow, and not wrong
    expect.set_options(timeout=30_000)
    path = next(filter(None, map(shutil.which, BROWSERS)), None)
    if path is None:
        absent("no browser: install Chromium (Debian: apt install chromium-headless-shell, or chromium) or Chrome")
    with sync_playwright() as playwright:
        # a container has no user namespaces for Chromium's sandbox; the pages are the book's own
        found = playwright.chromium.launch(executable_path=path, args=["--no-sandbox"])
        yield found
        found.close()
