"""The explorers of the book, one call each: live in Jupyter, and in the built page without a kernel.

>>> from sba import explore
>>> explore.scheduler()  # doctest: +SKIP
"""

from sba.explorers.scheduler import scheduler

__all__ = ["scheduler"]
