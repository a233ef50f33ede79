"""The parts of an explorer: controls from the definitions of the hyper-parameters, linked to a picture.

The picture is an ES module, the controls are plain ipywidgets, and the links between them run in the browser. So the same cell
works in Jupyter with a kernel, and in a page without one: there ``book/_assets/widgets/host.js`` draws what the notebook stored.
A still picture serves print, GitHub and pages without scripts.
"""

import io
import math
import pathlib
import re
from collections.abc import Mapping, Sequence
from typing import Any

import anywidget
import ipywidgets
import matplotlib.pyplot as plt
import numpy as np
import traitlets
from matplotlib.figure import Figure

from sba.book import style
from sba.core.errors import ConfigError
from sba.records.names import facts

FOLDER = pathlib.Path(__file__).parent / "explorers"
IMPORT = re.compile(r'^import \{[^}]*\} from "\./([\w.]+)";\n', re.MULTILINE)
GROUNDS = {
    "ink": (style.INK, "#ececec"),
    "grey": (style.GREY, "#a8a8a8"),
    "pale": ("#e4e4e4", "#3a3f4a"),
    "paper": ("#ffffff", "#14181e"),
    "mark": ("#b5b5b5", "#5d6470"),
    "bar": ("#cfcfcf", "#565d69"),
}
"""Colours of all explorers, each on a light and on a dark ground; those of methods and series are lightened for the dark one."""
LOOK = {"style": {"description_width": "initial"}, "layout": {"width": "320px"}}
"""Of every control."""
EXPORT = re.compile(r"^export (?=function|const|class)", re.MULTILINE)


def module_text(name: str) -> str:
    """Return the ES module ``explorers/NAME.js`` and all that it imports as one text: a page cannot import from a file."""
    texts: dict[str, str] = {}

    def bring(file: str) -> None:
        text = (FOLDER / file).read_text(encoding="utf-8")
        for other in IMPORT.findall(text):
            if other not in texts:
                bring(other)
        texts[file] = IMPORT.sub("", text)

    bring(f"{name}.js")
    *shared, own = texts.values()
    return "\n".join([*(EXPORT.sub("", text) for text in shared), own])


def style_text(name: str = "") -> str:
    """Return the explorers' style sheet, and that of one of them, with the book's colours on a light and on a dark ground."""
    shades = style.COLOURS | {f"shade{n}": shade for n, shade in enumerate(style.SHADES)}
    shades |= {f"class{n}": shade for n, shade in enumerate(style.CLASSES)}
    light = {name: on_light for name, (on_light, _) in GROUNDS.items()} | shades
    dark = {name: on_dark for name, (_, on_dark) in GROUNDS.items()}
    dark |= {name: style.on_dark(shade) for name, shade in shades.items()} | {"erm": dark["ink"]}
    rules = []
    for selectors, colours in (
        (".sba-explorer", light),
        ('html[data-theme="dark"] .sba-explorer, [data-jp-theme-light="false"] .sba-explorer', dark),
    ):
        values = "; ".join(f"--sba-{name.replace('+', '-')}: {shade}" for name, shade in colours.items())
        rule = f"{selectors} {{ {values} }}"
        # paper is white
        rules.append(rule if colours is light else f"@media screen {{ {rule} }}")
    sheets = [FOLDER / "explorer.css", *FOLDER.glob(f"{name}.css")]
    return "\n".join([*rules, *(sheet.read_text(encoding="utf-8") for sheet in sheets)])


def packed(values: Any, kind: str = "float32") -> dict[str, Any]:
    """Pack an array as the ES modules read it: shape, type and bytes, instead of a text of every number."""
    array = np.ascontiguousarray(values, dtype=kind)
    return {"shape": list(array.shape), "type": kind, "bytes": array.tobytes()}


class Picture(anywidget.AnyWidget):
    """The drawn part of an explorer.

    Args:
        module: name of its ES module under ``sba/book/explorers/``.
        data: for the module's ``prepare``: numbers, texts, lists, and arrays from :func:`packed`.
        alt: what the picture shows, for readers who cannot see it.
        hint: what to look for.
        controls: name of a trait → the control that moves it: its index if it has one, or its value.
        own: more traits, with their first values.
    """

    data = traitlets.Dict().tag(sync=True)
    alt = traitlets.Unicode().tag(sync=True)
    hint = traitlets.Unicode().tag(sync=True)

    def __init__(
        self, module: str, data: Mapping[str, Any], alt: str, hint: str, controls: Mapping[str, Any], **own: Any
    ):
        self.controls, self._esm, self._css = dict(controls), module_text(module), style_text(module)
        moving = {name: "index" if hasattr(control, "index") else "value" for name, control in controls.items()}
        values = {name: getattr(controls[name], trait) for name, trait in moving.items()} | own
        self.add_traits(**{name: traitlets.Any(value).tag(sync=True) for name, value in values.items()})
        super().__init__(data=dict(data), alt=alt, hint=hint)
        for name, trait in moving.items():
            ipywidgets.jslink((controls[name], trait), (self, name))


class Explorer(ipywidgets.VBox):
    """A picture with its controls and, if there is one, a box of widgets that need a kernel. ``still`` is a drawing of the first
    state, for print, GitHub and pages without scripts; this closes it."""

    def __init__(self, picture: Picture, still: Figure, kernel: "KernelOnly | None" = None):
        buffer = io.BytesIO()
        still.savefig(buffer, format="png", dpi=110, metadata={"Software": None})
        plt.close(still)
        self.still, self.picture, self.controls = buffer.getvalue(), picture, picture.controls
        row = ipywidgets.HBox(list(self.controls.values()), layout={"flex_flow": "row wrap"})
        super().__init__([row, picture, *([kernel] if kernel else [])])

    def _repr_mimebundle_(self, **kwargs: Any) -> dict[str, Any]:
        return super()._repr_mimebundle_(**kwargs) | {"image/png": self.still, "text/plain": self.picture.alt}


def slider(cls: type, name: str, value: float | None = None) -> ipywidgets.Widget:
    """Make the control of a hyper-parameter from its definition in a configuration class: range, step, symbol, unit and
    description.

    It starts at the value, or at the definition's default; :class:`ConfigError` says that this has neither choices nor a slider.
    """
    defined = facts(cls, name)
    start = defined["default"] if value is None else value
    label = defined["symbol"] or name.replace("_", " ")
    words = {
        "description": f"{label}, {defined['unit']}" if defined["unit"] else label,
        "tooltip": defined["description"],
        **LOOK,
    }
    if defined["choices"]:
        return ipywidgets.Dropdown(options=defined["choices"], value=start, **words)
    if defined["slider"] is None:
        raise ConfigError(f"{name}: its definition has no slider; give it one: slider=(lowest, highest, step)")
    low, high, step = defined["slider"]
    if defined["log"]:
        scale = {"min": math.log10(low), "max": math.log10(high), "step": step, "readout_format": ".2g"}
        return ipywidgets.FloatLogSlider(value=start, **scale, **words)
    if isinstance(defined["default"], int):
        return ipywidgets.IntSlider(value=start, min=low, max=high, step=step, **words)
    # as many digits as the step has, at most three
    digits = next(d for d in range(4) if d == 3 or math.isclose(round(step, d), step))
    return ipywidgets.FloatSlider(value=start, min=low, max=high, step=step, readout_format=f".{digits}f", **words)


def choice(label: str, options: Sequence[str], index: int = 0, tooltip: str = "") -> ipywidgets.Dropdown:
    """Make a control that chooses among options that are no hyper-parameter, and hands the index to its picture. Options that
    repeat themselves are a :class:`ConfigError`."""
    if len(set(options)) < len(options):
        raise ConfigError(f"options: {list(options)!r} repeat themselves; give each a name of its own")
    return ipywidgets.Dropdown(options=list(options), index=index, description=label, tooltip=tooltip or label, **LOOK)


def count(label: str, low: int, high: int, value: int, tooltip: str) -> ipywidgets.IntSlider:
    """Make a slider over whole numbers that are no hyper-parameter: a seed, a number of neighbours."""
    return ipywidgets.IntSlider(value=value, min=low, max=high, description=label, tooltip=tooltip, **LOOK)


class KernelOnly(ipywidgets.VBox):
    """A box of widgets that need a kernel: Jupyter shows it, the page shows the note instead."""

    # not a tooltip: JupyterLab cannot draw a box that has one
    note = traitlets.Unicode().tag(sync=True)

    def __init__(self, children: Sequence[ipywidgets.Widget], note: str):
        super().__init__(list(children), note=note)
        self.add_class("needs-kernel")
