"""A chapter in JupyterLab with a kernel, driven as its reader drives it: sliders move the picture, and a network is trained."""

import importlib.util
import json
import os
import re
import shutil
import subprocess
import sys
import time
from contextlib import contextmanager
from urllib.parse import urlsplit

import pytest
from helpers import absent, nightly
from pages import ROOT
from playwright.sync_api import expect

pytestmark = [nightly, pytest.mark.xdist_group("browser"), pytest.mark.timeout(400)]
CHAPTER = "08_omega_eta.ipynb"
TOKEN = "a-token-of-this-test"
SECOND = 1000
"""In the browser's milliseconds."""


@contextmanager
def jupyterlab(folder):
    """Yield the address of a JupyterLab that shows a folder."""
    settings = {"port": 0, "open_browser": False, "root_dir": str(folder), "allow_root": True}
    command = [sys.executable, "-m", "jupyterlab", *(f"--ServerApp.{k}={v}" for k, v in settings.items())]
    places = {f"JUPYTER_{name}_DIR": str(folder / f".{name.lower()}") for name in ("RUNTIME", "CONFIG")}
    environment = {**os.environ, **places, "PYTHONPATH": str(ROOT), "JUPYTER_PLATFORM_DIRS": "1"}
    command += [f"--IdentityProvider.token={TOKEN}", "--LabApp.news_url=", "--LabApp.extension_manager=readonly"]
    with (folder / "server.log").open("w") as log:
        process = subprocess.Popen(command, cwd=folder, env=environment, stdout=log, stderr=log)
        try:
            deadline = time.monotonic() + 60
            while not (found := list((folder / ".runtime").glob("jpserver-*.json"))) and time.monotonic() < deadline:
                assert process.poll() is None, (folder / "server.log").read_text()
                time.sleep(0.1)
            assert found, (folder / "server.log").read_text()
            yield json.loads(found[0].read_text())["url"]
        finally:
            process.terminate()
            try:
                process.wait(timeout=30)
            except subprocess.TimeoutExpired:
                process.kill()


@pytest.fixture
def lab(browser, tmp_path, request):
    """A tab with a chapter open in JupyterLab, every cell run."""
    chapter = getattr(request, "param", CHAPTER)
    if importlib.util.find_spec("jupyterlab") is None:
        absent("JupyterLab is missing: pip install -e '.[lab]'")
    (folder := tmp_path / "notebooks").mkdir()
    shutil.copy(ROOT / "notebooks" / chapter, folder)
    (tmp_path / "book").symlink_to(ROOT / "book")
    with jupyterlab(folder) as address:
        context = browser.new_context(viewport={"width": 1400, "height": 1000})
        tab = context.new_page()
        asked = []
        tab.on("request", lambda request: asked.append(urlsplit(request.url)))
        tab.goto(f"{address}lab/tree/{chapter}?token={TOKEN}")
        tab.locator(".jp-Cell").first.wait_for(timeout=90 * SECOND)
        # the indicator beside the cells is idle before there is a kernel
        tab.get_by_text("Python 3 (ipykernel) | Idle").wait_for(timeout=90 * SECOND)
        tab.get_by_role("menuitem", name="Run", exact=True).click()
        tab.locator(".lm-Menu-itemLabel", has_text="Run All Cells").first.click()
        yield tab
        assert {one.netloc for one in asked if one.scheme.startswith("http")} == {urlsplit(address).netloc}
        context.close()


def find(lab, selector, seconds=120):
    """Scroll through the chapter until something is there: cells out of sight are not in the page."""
    deadline, step = time.monotonic() + seconds, 300
    lab.mouse.move(800, 500)
    while not lab.locator(selector).count():
        errors = lab.locator(
            ".jp-OutputArea-output[data-mime-type$=stderr], .jp-OutputArea-output[data-mime-type$=error]"
        )
        assert errors.count() == 0, errors.first.inner_text()
        assert time.monotonic() < deadline, f"{selector} did not appear"
        before = lab.locator(".jp-WindowedPanel-outer").first.evaluate("(panel) => panel.scrollTop")
        lab.mouse.wheel(0, step)
        lab.wait_for_timeout(0.3 * SECOND)
        if lab.locator(".jp-WindowedPanel-outer").first.evaluate("(panel) => panel.scrollTop") == before:
            step = -step


def test_a_chapter_works_in_jupyterlab_with_a_kernel(lab):
    find(lab, ".sba-explorer")
    explorer = lab.locator(".jp-OutputArea-output", has=lab.locator(".sba-explorer")).first
    picture, readout = explorer.locator(".sba-explorer svg").first, explorer.locator(".readout").first
    picture.scroll_into_view_if_needed()
    handles = explorer.locator(".noUi-handle")
    assert handles.count() == 2
    for handle in handles.all():
        before = picture.inner_html(), readout.inner_text()
        handle.focus()
        for _ in range(15):
            lab.keyboard.press("ArrowLeft")
        lab.wait_for_function("(old) => document.querySelector('.sba-explorer svg').innerHTML !== old", arg=before[0])
        expect(readout).not_to_have_text(before[1])
    explorer.get_by_role("button", name="Train here").click()
    explorer.get_by_text(re.compile(r"epoch \d+, error \d")).wait_for(timeout=60 * SECOND)
    explorer.get_by_role("button", name="Stop").click()
    trained = explorer.get_by_role("button", name="Train here")
    trained.wait_for()
    lab.wait_for_function("(button) => !button.disabled", arg=trained.element_handle(), timeout=60 * SECOND)


@pytest.mark.parametrize("lab", ["result.ipynb"], indirect=True)
def test_the_playground_trains_in_jupyterlab(lab):
    """And its keys are its own, and the address is JupyterLab's."""
    find(lab, ".sba-playground")
    playground = lab.locator(".sba-playground").first
    playground.scroll_into_view_if_needed()
    steps = "Number(document.querySelector('.sba-playground').dataset.steps)"
    lab.wait_for_function(f"{steps} === 300")
    playground.get_by_label("η, weight").press("ArrowRight")
    expect(playground.locator(".readout")).to_contain_text("η = 1.78")
    playground.get_by_role("button", name="Train").press("Enter")
    lab.wait_for_function(f"{steps} > 320")
    playground.get_by_role("button", name="Pause").click()
    before = playground.locator(".plane svg").first.inner_html()
    playground.locator(".plane").first.focus()
    for _ in range(3):
        lab.keyboard.press("ArrowDown")
    assert playground.locator(".plane svg").first.inner_html() != before
    assert "#" not in lab.url
