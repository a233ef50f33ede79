"""Can the texts of a figure be read? Their contrast with what is drawn under them, and their size."""

from collections.abc import Sequence
from typing import Any

import numpy as np
from matplotlib.backends.backend_agg import FigureCanvasAgg
from matplotlib.colors import to_hex, to_rgb
from matplotlib.figure import Figure
from matplotlib.text import Text

ENOUGH = 5.0
"""WCAG 2 asks for 4.5; the rest is for the shade that a dark page lays over a figure."""


def luminance(colour: Any) -> float:
    """Return the relative luminance of WCAG 2: from 0, black, to 1, white."""
    parts = (c / 12.92 if c <= 0.04045 else ((c + 0.055) / 1.055) ** 2.4 for c in to_rgb(colour))
    return sum(weight * part for weight, part in zip((0.2126, 0.7152, 0.0722), parts, strict=True))


def contrast(one: Any, other: Any) -> float:
    """Return the contrast of two colours as WCAG 2 defines it: from 1, equal, to 21, black on white."""
    low, high = sorted((luminance(one), luminance(other)))
    return (high + 0.05) / (low + 0.05)


def written(figure: Figure) -> list[Text]:
    """Return the texts of a figure that are to be seen."""
    return [text for text in figure.findobj(Text) if text.get_visible() and text.get_text().strip()]


def smallest(figure: Figure) -> float:
    """Return the size of the smallest text in pixels of a page that shows the figure in full width; infinite without a text."""
    return min((float(text.get_fontsize()) * 96 / 72 for text in written(figure)), default=float("inf"))


def grounds(figure: Figure, texts: Sequence[Text]) -> list[tuple[float, ...]]:
    """Return the colour that prevails under each text; white where matplotlib draws nothing. Fixes the figure's layout."""
    canvas = FigureCanvasAgg(figure)
    canvas.draw()
    # it stands: another one would only take its time
    figure.set_layout_engine("none")
    boxes = [text.get_window_extent(canvas.get_renderer()) for text in texts]
    alphas = [text.get_alpha() for text in texts]
    for text in texts:
        text.set_alpha(0)
    canvas.draw()
    for text, alpha in zip(texts, alphas, strict=True):
        text.set_alpha(alpha)
    image = np.asarray(canvas.buffer_rgba())[::-1, :, :3] / 255
    found = []
    for box in boxes:
        (left, low), (right, high) = np.floor(box.min).astype(int).clip(0), np.ceil(box.max).astype(int).clip(0)
        under = image[low:high, left:right].reshape(-1, 3)
        found.append(tuple(np.median(under, axis=0)) if len(under) else (1.0, 1.0, 1.0))
    return found


def mend(figure: Figure) -> None:
    """Darken, or lighten on a dark ground, every text whose contrast is too low; its hue stays."""
    texts = written(figure)
    for text, under in zip(texts, grounds(figure, texts), strict=True):
        colour = seen(text, under)
        if contrast(colour, under) < ENOUGH:
            end = max(((0.0, 0.0, 0.0), (1.0, 1.0, 1.0)), key=lambda pole: contrast(pole, under))
            mixed = (tuple((1 - share) * a + share * b for a, b in zip(colour, end, strict=True)) for share in STEPS)
            text.set_alpha(None)
            text.set_color(to_hex(next((one for one in mixed if contrast(one, under) >= ENOUGH), end)))


STEPS = np.linspace(0, 1, 41)


def seen(text: Text, under: tuple[float, ...]) -> tuple[float, ...]:
    """Return the colour that a text has to the eye over another one, which shows through if it is transparent."""
    alpha = text.get_alpha()
    share = 1.0 if alpha is None else float(np.max(alpha))
    return tuple(
        share * own + (1 - share) * ground for own, ground in zip(to_rgb(text.get_color()), under, strict=True)
    )
