"""The errors a user can cause.

Each message names the field, the value and the fix; the command line prints it without a traceback.
"""


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
