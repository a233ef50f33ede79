"""Chapters, figures and explorers."""

import sys
from typing import Any, cast

from sba.core.errors import require

# jsonschema, which nbformat imports, would take 2 s to load this, and no notebook holds what it checks
sys.modules.setdefault("rfc3987_syntax", cast(Any, None))

require(__name__, "book", "matplotlib", "papermill", "nbformat", "yaml", "anywidget", "ipywidgets")
