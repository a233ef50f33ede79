"""How the book's pictures look: fonts, widths, one colour per method, and a text for readers who cannot see them.

Figures have a white ground, so that they read the same on a light page, on a dark one and in any editor.
"""

import base64
import html
import io
import pathlib
import re
from typing import Any

import matplotlib.pyplot as plt
import pandas as pd
from cycler import cycler
from IPython.display import HTML, display
from matplotlib.axes import Axes
from matplotlib.colors import LinearSegmentedColormap, to_hex, to_rgb
from matplotlib.figure import Figure

from sba.book import legible
from sba.core.errors import ConfigError
from sba.methods import METHODS

WIDTH = 7.2
"""Width of every figure in inches: 691 pixels of the page, so that type has the same size everywhere."""

SMALLEST = 9.0
"""Pixels that the smallest type of a figure may have on a page: a narrow page lets a figure scroll rather than shrink below it."""

COLOURS = {name: method.colour for name, method in METHODS.items()} | {"ba": "#0072B2"}
"""Mostly the eight colours of Okabe and Ito (2008), one per method, and one for Batch Augmentation, which is a setting of the run.

Cutout belongs to the data and not to the method: "cutout" and "cutout+sba" are drawn in the colours of "erm" and "sba",
dashed and hollow.
"""
MARKERS = {name: method.marker for name, method in METHODS.items()} | {"ba": "D"}

INK, GREY, PALE = "#1a1a1a", "#6b6b6b", "#d9d9d9"
"""For text and main lines; for secondary lines; for grounds."""
SHADES = ("#0B3C6B", "#2F7EBC", "#8FC2DE")
"""Dark to light, for a series of settings of one thing (several ω, several layers), never for methods."""
CLASSES = ("#4B2A7B", "#A85A00")
"""The two classes of a plane, drawn with ``CLASS_MARKERS`` as well."""
CLASS_MARKERS = ("o", "^")
REGIONS = LinearSegmentedColormap.from_list("regions", ["#F2B36B", "#FBE6CC", "#FFFFFF", "#E2DAF0", "#A78FD0"])
"""Probability of the first class, from 0 to 1; white is one half."""
DENSITY = LinearSegmentedColormap.from_list("density", ["#FFFFFF", *reversed(SHADES), "#041C33"])
"""Density of a cloud of points; white is none."""

CAPTION = "color:inherit;font-weight:400;text-align:left"
"""A caption carries the argument: full contrast on any ground that the page or the editor puts under an output."""


def use() -> None:
    """Set matplotlib up for the book. Equal figures give equal files: no date, no random ids."""
    plt.rcParams.update(
        {
            "figure.figsize": (WIDTH, 3.2),
            "figure.facecolor": "white",
            "figure.constrained_layout.use": True,
            "savefig.facecolor": "white",
            "savefig.dpi": 160,
            "svg.fonttype": "path",
            "svg.hashsalt": "sba",
            # a layout is measured as it is drawn: hinted letters are narrower than the shapes in the file
            "text.hinting": "none",
            "font.family": "DejaVu Sans",
            "font.size": 10.5,
            "axes.titlesize": 10.5,
            "axes.labelsize": 10.5,
            "xtick.labelsize": 9.5,
            "ytick.labelsize": 9.5,
            "legend.fontsize": 9.5,
            "axes.titlelocation": "left",
            "axes.edgecolor": GREY,
            "axes.labelcolor": INK,
            "text.color": INK,
            "xtick.color": GREY,
            "ytick.color": GREY,
            "xtick.labelcolor": INK,
            "ytick.labelcolor": INK,
            "axes.spines.top": False,
            "axes.spines.right": False,
            "axes.grid": False,
            "axes.axisbelow": True,
            "grid.color": PALE,
            "grid.linewidth": 0.7,
            "lines.linewidth": 1.8,
            "lines.markersize": 5,
            "legend.frameon": False,
            "image.cmap": "gray",
            "axes.prop_cycle": cycler(color=[*SHADES, GREY]),
        }
    )


def colour(method: str) -> str:
    """Return the colour of a method or of a column such as "cutout+sba", or raise :class:`ConfigError` if it has none."""
    base = _base(method)
    if base not in COLOURS:
        raise ConfigError(f"method: {method!r} has no colour; choose from {', '.join(COLOURS)}, alone or as cutout+…")
    return COLOURS[base]


def line(method: str) -> dict[str, Any]:
    """Return matplotlib's keywords for the line of a method: colour, marker, and dashes if Cutout was on."""
    cutout = method.startswith("cutout")
    return {
        "color": colour(method),
        "marker": MARKERS[_base(method)],
        "linestyle": "--" if cutout else "-",
        "markerfacecolor": "white" if cutout else colour(method),
    }


def on_dark(shade: str) -> str:
    """Return a colour mixed with 35 % of white, "#rrggbb": it keeps its hue and stands out from a dark ground."""
    red, green, blue = ((1 - 0.35) * part + 0.35 for part in to_rgb(shade))
    return to_hex((red, green, blue))


def bare(axes: Axes) -> None:
    """Remove ticks and frame, for images and planes."""
    axes.set(xticks=[], yticks=[])
    for spine in axes.spines.values():
        spine.set_visible(False)


def label_end(axes: Axes, x: float, y: float, text: str, color: str, **options: Any) -> None:
    """Write a line's name at its right end, in its colour: easier to read than a legend."""
    options = {"va": "center", "xytext": (7, 0), "fontweight": "bold"} | options
    axes.annotate(text, (x, y), textcoords="offset points", color=color, annotation_clip=False, **options)


def svg(figure: Figure, about: str | None = None) -> bytes:
    """Return a figure as an SVG file, every text in a colour that can be read, with a text inside that says what it shows if one
    is given."""
    legible.mend(figure)
    buffer = io.BytesIO()
    figure.savefig(buffer, format="svg", metadata={"Date": None, "Creator": None, "Description": about})
    return buffer.getvalue()


def show(figure: Figure, alt: str, caption: str) -> None:
    """Display a figure in a notebook as a picture with a text, and close it. The text cites it by the address of the cell.

    Args:
        figure: drawn under :func:`use`.
        alt: what a reader who cannot see the picture must know.
        caption: what to see in it; plain text.

    Raises:
        ConfigError: a text is missing.
    """
    if not caption.strip():
        raise ConfigError(f"caption: {caption!r} is not allowed; say in a sentence what is to be seen in the picture")
    if not alt.strip():
        raise ConfigError(f"alt: {alt!r} is not allowed; say in a sentence what the picture shows")
    data = base64.b64encode(svg(figure)).decode()
    narrowest = figure.get_figwidth() * 96 * SMALLEST / legible.smallest(figure)
    plt.close(figure)
    below = f'<figcaption style="{CAPTION}">{html.escape(caption)}</figcaption>'
    look = f"max-width:100%;background:#fff;--narrowest:{narrowest:.0f}px"
    picture = f'<img alt="{html.escape(alt)}" src="data:image/svg+xml;base64,{data}" style="{look}">'
    box = f'<div class="sideways">{picture}</div>'
    display(HTML(f'<figure class="drawn" style="margin:0.5rem 0">{box}{below}</figure>'))


def table(content: pd.DataFrame | str, caption: str, name: str = "") -> HTML:
    """Return a table to be shown, with its caption; the page gives it a number.

    Args:
        content: a frame, or HTML with one table in it.
        caption: what to see in it; plain text.
        name: the address by which the text cites it, ``tab-…``; that of the cell if empty.

    Raises:
        ConfigError: the caption is missing, or the content has no table, or several.
    """
    text = content if isinstance(content, str) else content.to_html()
    if not caption.strip():
        raise ConfigError(f"caption: {caption!r} is not allowed; say in a sentence what is to be seen in the table")
    if text.count("<table") != 1:
        raise ConfigError(f"content: it holds {text.count('<table')} tables; show each by a call of its own")
    said = f'<caption style="{CAPTION};caption-side:top">{html.escape(caption)}</caption>'
    text = re.sub("(<table[^>]*)(>)", lambda t: t[1] + (f' id="{name}"' if name else "") + t[2] + said, text)
    return HTML(text if "table-box" in text else f'<div class="table-box">{text}</div>')


def keep(figure: Figure, name: str) -> pathlib.Path | None:
    """Write a figure, drawn under :func:`use`, for a page of the book to ``book/_figures/NAME.svg``; return the file, or None if
    neither the current folder nor the one above holds ``book/``. The figure stays open."""
    book = next((b for b in (pathlib.Path("book"), pathlib.Path("..", "book")) if b.is_dir()), None)
    if book is None:
        return None
    path = book / "_figures" / f"{name}.svg"
    path.parent.mkdir(exist_ok=True)
    path.write_bytes(svg(figure))
    return path


def _base(method: str) -> str:
    return "erm" if method == "cutout" else method.removeprefix("cutout+")
