"""Command-line options made from the definitions of fields: one for each hyper-parameter, one for each field of a machine."""

import functools
import pathlib
import types
import typing
from collections.abc import Callable
from typing import Any

import click

from sba.core.errors import ConfigError
from sba.core.hyper import allowed, choices, definitions
from sba.methods import METHODS
from sba.training.machine import Machine
from sba.training.run import Run

PATH = click.Path(path_type=pathlib.Path)
FLAGS = {"compiled": "compile"}
"""Fields whose option has another name."""


class Comma(click.ParamType):
    """Several values separated by commas."""

    name = "LIST"

    def __init__(self, item: Callable[[str], Any]):
        self.item = item

    def convert(self, value: Any, param: click.Parameter | None, context: click.Context | None) -> tuple[Any, ...]:
        try:
            return value if isinstance(value, tuple) else tuple(self.item(v) for v in value.split(",") if v)
        except ValueError:
            self.fail(f"{value!r} is not a list of {self.item.__name__} separated by commas", param, context)


class Auto(click.ParamType):
    """A whole number, at least 1 if it is a count, or "auto"."""

    name = "INTEGER|auto"

    def __init__(self, count: bool = False):
        self.count = count

    def convert(self, value: Any, param: click.Parameter | None, context: click.Context | None) -> Any:
        number = value if value == "auto" else click.INT.convert(value, param, context)
        if self.count and number != "auto" and number < 1:
            self.fail(f"{number} is not allowed; give auto, or 1 or more", param, context)
        return number


def option(name: str, field: Any, about: str) -> Callable:
    """Return the option of a field, from its definition; without it the value is None."""
    flag = f"--{FLAGS.get(name, name).replace('_', '-')}"
    kind = field.annotation
    if isinstance(kind, types.UnionType):
        kind = next(k for k in typing.get_args(kind) if k is not type(None))
    if kind is bool:
        return click.option(f"{flag}/--no-{flag[2:]}", name, default=None, help=about)
    if choices(field):
        kind = click.Choice(choices(field))
    elif name == "cutout":
        kind, about = Auto(), f"{about}; auto for the side that its authors use"
    elif kind is pathlib.Path:
        kind = PATH
    elif kind not in (int, float, str):
        kind = Comma(int if name == "milestones" else str)
    return click.option(flag, name, type=kind, help=about)


def hyper_options(command: Callable) -> Callable:
    """Add one option for each hyper-parameter of a run and of the methods."""
    fields: dict[str, tuple[Any, list[str]]] = {}
    for cls, owner in [(Run, "run"), *((cls, cls.name) for cls in METHODS.values())]:
        for name, field in definitions(cls).items():
            fields.setdefault(name, (field, []))[1].append(owner)
    for name, (field, owners) in reversed(fields.items()):
        if name not in ("method", "dataset", "network", "full_epochs"):
            about = f"[{', '.join(owners)}] {field.description}; {allowed(field)}"
            command = option(name, field, about)(command)
    return command


def machine_options(**defaults: Any) -> Callable[[Callable], Callable]:
    """Add one option for each field of a machine, with these ``defaults``, and hand the machine to the command."""

    def decorate(command: Callable) -> Callable:
        @functools.wraps(command)
        def with_machine(**options: Any) -> Any:
            given = {name: value for name in definitions(Machine) if (value := options.pop(name)) is not None}
            machine = Machine(**defaults | given)
            if machine.compiled and machine.device.partition(":")[0] == "cpu":
                raise ConfigError(
                    "compile: compiled stages are slower on a processor (ResNet-44 at 0.7 of the speed; "
                    "python -m sba bench --only compiled); "
                    "leave it out, or give --device cuda"
                )
            return command(machine=machine, **options)

        for name, field in reversed(definitions(Machine).items()):
            usual = defaults.get(name, field.default)
            about = field.description if usual in (None, False) else f"{field.description}; {usual} by default"
            with_machine = option(name, field, about)(with_machine)
        return with_machine

    return decorate
