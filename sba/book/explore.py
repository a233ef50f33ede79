"""The explorers of the book, one call each: they work in Jupyter, and in the built page without a kernel.

>>> from sba.book import explore
>>> explore.scheduler()  # doctest: +SKIP
"""

from sba.book.explorers.ablate import ablate
from sba.book.explorers.cost import cost
from sba.book.explorers.evidence import evidence
from sba.book.explorers.omega_eta import omega_eta
from sba.book.explorers.playground import playground
from sba.book.explorers.scheduler import scheduler
from sba.book.explorers.soft_label import soft_label
from sba.book.explorers.vicinity import vicinity
from sba.book.explorers.when import when

__all__ = ["ablate", "cost", "evidence", "omega_eta", "playground", "scheduler", "soft_label", "vicinity", "when"]
