"""One definition of a hyper-parameter: its type, range, symbol, description and source.

From it come the validation and its messages, the command-line flag, the papermill parameter, the slider's range and the row in
the method's card. A class whose fields are such definitions is made with :func:`configuration`.
"""

import copy
import difflib
import functools
import math
import types
import typing
from typing import Any, TypeVar, dataclass_transform

import pydantic
from pydantic.dataclasses import dataclass as pydantic_dataclass

from sba.core.errors import ConfigError

BRACKETS = {"ge": "[", "gt": "(", "le": "]", "lt": ")"}


def hyper(
    default: Any, description: str, *, symbol: str = "", source: str = "", unit: str = "",
    slider: tuple[float, float, float] | None = None, log: bool = False, **bounds: float,
) -> Any:  # fmt: skip
    """Define a field of a :func:`configuration` class.

    Args:
        default: the value it has when not given.
        description: one clause for help texts and cards, without a full stop.
        symbol: how the book writes it, e.g. "ω".
        source: the place in the paper, or whose choice it is.
        unit: the unit of its values, if they have one.
        slider: lowest value, highest value and step of its slider, if one is drawn for it.
        log: whether the slider is logarithmic; its step then counts in decades.
        bounds: ``ge``, ``gt``, ``le``, ``lt``.
    """
    extra = {"symbol": symbol, "source": source, "unit": unit, "slider": slider, "log": log}
    field: Any = pydantic.Field
    return field(default, description=description, json_schema_extra=extra, **bounds)


def definitions(cls: Any) -> dict[str, Any]:
    """Return name → definition (pydantic's ``FieldInfo``) of the hyper-parameters of a configuration class, in order."""
    return dict(cls.__pydantic_fields__)


def shared(cls: type, name: str, note: str = "") -> Any:
    """Define a field as another :func:`configuration` class does; ``note`` says what is different here, after the description."""
    field = copy.copy(definitions(cls)[name])
    field.description = f"{field.description}; {note}" if note else field.description
    return field


C = TypeVar("C")
"""A class of hyper-parameters."""


@dataclass_transform(frozen_default=True)
def positional(cls: type[C], kw_only: bool = False) -> type[C]:
    """Make a class of :func:`hyper` fields a frozen dataclass that raises :class:`ConfigError` at construction."""
    settings = pydantic.ConfigDict(extra="forbid", allow_inf_nan=False, arbitrary_types_allowed=True)
    made: Any = pydantic_dataclass(frozen=True, kw_only=kw_only, config=settings)(cls)
    validate, fields = made.__init__, () if kw_only else tuple(definitions(made))

    @functools.wraps(validate)
    def checked(self: Any, *given: Any, **named: Any) -> None:
        if len(given) > len(fields):
            raise TypeError(f"{cls.__name__} takes {len(fields)} values without a name, not {len(given)}")
        try:
            validate(self, **dict(zip(fields, given, strict=False)), **named)
        except pydantic.ValidationError as error:
            raise ConfigError(explain(made, error)) from None

    made.__init__ = checked
    return made


@dataclass_transform(frozen_default=True, kw_only_default=True)
def configuration(cls: type[C]) -> type[C]:
    """Make a class :func:`positional`, with fields that are given by name only."""
    return positional(cls, kw_only=True)


def check_choice(name: str, value: object, options: Any) -> None:
    """Raise :class:`ConfigError` unless a function's argument is one of a ``Literal``'s values."""
    if value not in (known := typing.get_args(options)):
        raise ConfigError(f"{name}: {value!r} is not allowed; give one of {', '.join(known)}")


def choices(field: Any) -> tuple[Any, ...]:
    """Return the values of a ``Literal`` definition, or nothing."""
    return typing.get_args(field.annotation) if typing.get_origin(field.annotation) is typing.Literal else ()


def allowed(field: Any) -> str:
    """Say in words or as an interval which values a definition allows."""
    if options := choices(field):
        return "one of " + ", ".join(map(str, options))
    kinds = typing.get_args(field.annotation) if isinstance(field.annotation, types.UnionType) else (field.annotation,)
    kind = {int: "an integer", float: "a number", bool: "true or false", str: "text"}.get(kinds[0])
    if kind is None:
        kind = f"an instance of {kinds[0].__name__}" if isinstance(kinds[0], type) else "a list"
    ends = {name: getattr(item, name) for item in field.metadata for name in BRACKETS if hasattr(item, name)}
    if not ends:
        return kind
    left = next((BRACKETS[name] + pretty(ends[name]) for name in ("ge", "gt") if name in ends), "(−∞")
    right = next((pretty(ends[name]) + BRACKETS[name] for name in ("le", "lt") if name in ends), "∞)")
    return f"{kind} in {left}, {right}"


def pretty(value: float) -> str:
    """Write a number, and the multiples of π that angles are, as people do."""
    for divisor in (1, 2, 3, 4, 6):
        if value and math.isclose(value, math.pi / divisor):
            return ("π" if divisor == 1 else f"π/{divisor}") + f" ≈ {value:.6f}"
    return f"{value:g}" if isinstance(value, float) else str(value)


def suggestion(name: str, known: typing.Iterable[str]) -> str:
    """Say which known name is meant, or list them all."""
    near = difflib.get_close_matches(name, list(known), n=1)
    return f"did you mean {near[0]!r}?" if near else f"known are {', '.join(known)}"


def explain(cls: type, error: pydantic.ValidationError) -> str:
    """Say what is wrong with the fields of ``cls``, one line each: name, value, fix."""
    lines = []
    for item in error.errors():
        cause, name = item.get("ctx", {}).get("error"), str(item["loc"][0]) if item["loc"] else cls.__name__
        field = definitions(cls).get(name)
        if isinstance(cause, ConfigError):
            lines.append(str(cause))
        elif field is None:
            lines.append(f"{name}: {cls.__name__} has no such parameter; {suggestion(name, definitions(cls))}")
        else:
            symbol = (field.json_schema_extra or {}).get("symbol")
            written = f"{name} ({symbol})" if symbol else name
            lines.append(f"{written}: {item['input']!r} is not allowed; give {allowed(field)}")
    return "\n".join(dict.fromkeys(lines))
