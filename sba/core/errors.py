"""The errors a user can cause.

Each message names the field, the value and the fix; the command line prints it without a traceback.
"""

from importlib.util import find_spec


class SBAError(Exception):
    """Base of every error that is the caller's to mend."""


class ConfigError(SBAError, ValueError):
    """A hyper-parameter is unknown, out of range, or does not fit the others."""


class DataError(SBAError):
    """A data set is missing, corrupted, or cannot serve the request."""


class CheckpointError(SBAError):
    """A checkpoint is unreadable, foreign, or belongs to another configuration."""


class ResultsError(SBAError):
    """A results file cannot be written or read."""


class MissingExtraError(SBAError, ModuleNotFoundError):
    """A room was imported without the packages of its extra."""


def require(room: str, extra: str, *modules: str) -> None:
    """Raise :class:`MissingExtraError` if a module that ``room`` imports is not installed; the message names the extra."""
    if missing := [name for name in modules if find_spec(name) is None]:
        raise MissingExtraError(f"{room} imports {', '.join(missing)}, not installed: pip install 'sba-torch[{extra}]'")
