"""Chapters, figures and explorers."""

from sba.core.errors import require

require(__name__, "book", "matplotlib", "papermill", "nbformat", "yaml", "anywidget", "ipywidgets")
