"""Chapters, figures and explorers."""

import sys
from typing import Any, cast

from sba.core.errors import require

SLOW = "rfc3987_syntax"

require(__name__, "book", "matplotlib", "papermill", "nbformat", "yaml", "anywidget", "ipywidgets")

# jsonschema, which nbformat imports, would take 2 s to load this, and no notebook holds what it checks
if SLOW not in sys.modules:
    sys.modules[SLOW] = cast(Any, None)
    import nbformat  # noqa: F401

    del sys.modules[SLOW]
