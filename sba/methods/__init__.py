"""The training methods, by name. A new one is one file and one line here."""

from sba.methods.erm import ERM
from sba.methods.implicit import ImplicitSBA
from sba.methods.method import Method
from sba.methods.sba import SBA

METHODS: dict[str, type[Method]] = {cls.name: cls for cls in (ERM, SBA, ImplicitSBA)}

__all__ = ["ERM", "METHODS", "SBA", "ImplicitSBA", "Method"]
