"""What the tests of the built site need. If SBA_BROWSER is "required", what is missing is a failure and not a skip."""

import pytest
from helpers import absent
from pages import SITE


@pytest.fixture(scope="session")
def site():
    """The folder of the built site."""
    if not (SITE / "index.html").exists():
        absent("no built site: run make book")
    return SITE
