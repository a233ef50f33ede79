"""The explorers of the book, one call each: live in Jupyter, and in the built page without a kernel.

>>> from sba import explore
>>> explore.scheduler()  # doctest: +SKIP
"""

from sba.explorers.cost import cost
from sba.explorers.omega_eta import omega_eta
from sba.explorers.scheduler import scheduler
from sba.explorers.soft_label import soft_label
from sba.explorers.vicinity import vicinity

__all__ = ["cost", "omega_eta", "scheduler", "soft_label", "vicinity"]
