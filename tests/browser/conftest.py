"""What the tests of the built site need. If SBA_BROWSER is "required", what is missing is a failure and not a skip."""

import shutil

import pytest
from helpers import absent
from pages import SITE
from playwright.sync_api import sync_playwright

BROWSERS = ("chromium", "chromium-browser", "google-chrome", "google-chrome-stable")


@pytest.fixture(scope="session")
def site():
    """The folder of the built site."""
    if not (SITE / "index.html").exists():
        absent("no built site: run make book")
    return SITE


@pytest.fixture(scope="session")
def browser():
    """A browser of the system, driven by playwright."""
    path = next(filter(None, map(shutil.which, BROWSERS)), None)
    if path is None:
        absent("no browser: install Chromium (Debian, Ubuntu: apt install chromium) or Chrome")
    with sync_playwright() as playwright:
        # a container has no user namespaces for Chromium's sandbox; the pages are the book's own
        found = playwright.chromium.launch(executable_path=path, args=["--no-sandbox"])
        yield found
        found.close()
