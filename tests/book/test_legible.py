"""The texts of figures can be read: on what they lie on, and as small as a page may show them."""

import io

import matplotlib

matplotlib.use("agg")

import matplotlib.pyplot as plt
import pytest
from matplotlib.backends.backend_svg import RendererSVG

from sba.book import legible, style


def test_contrast_is_that_of_wcag():
    assert legible.contrast("black", "white") == pytest.approx(21)
    assert legible.contrast("white", "white") == 1
    # the greys that WebAIM lists as the palest with 4.5 and 7 on white
    assert legible.contrast("#767676", "white") == pytest.approx(4.54, abs=0.01)
    assert legible.contrast("#595959", "#ffffff") == pytest.approx(7.0, abs=0.01)


def drawn():
    """Texts that are too pale, on white and on a dark ground, one that is half transparent, and one that is fine."""
    style.use()
    figure, axes = plt.subplots()
    axes.set(xlim=(0, 1), ylim=(0, 1))
    axes.axvspan(0.5, 1, color="#0B3C6B")
    return figure, [
        axes.text(0.1, 0.2, "orange", color="#E69F00"),
        axes.text(0.1, 0.5, "pale", color="black", alpha=0.3),
        axes.text(0.6, 0.5, "blue on blue", color="#2F7EBC"),
        axes.text(0.1, 0.8, "fine", color=style.INK),
    ]


def contrasts(figure):
    """Contrast of each text with its ground."""
    texts = legible.written(figure)
    pairs = zip(texts, legible.grounds(figure, texts), strict=True)
    return {text.get_text(): legible.contrast(legible.seen(text, under), under) for text, under in pairs}


def test_a_text_that_is_too_pale_becomes_legible_and_keeps_its_hue():
    figure, texts = drawn()
    before = contrasts(figure)
    assert {text for text, contrast in before.items() if contrast < 4.5} == {"orange", "pale", "blue on blue"}
    style.svg(figure)
    assert min(contrasts(figure).values()) >= legible.ENOUGH
    red, green, blue = matplotlib.colors.to_rgb(texts[0].get_color())
    assert red > green > blue
    assert texts[3].get_color() == style.INK
    plt.close(figure)


def test_every_letter_of_a_long_label_is_inside_the_file():
    """The layout is measured on pixels, the file has shapes: their widths are equal without hinting alone."""
    style.use()
    figure, axes = plt.subplots(figsize=(style.WIDTH, 2))
    labels = ["evaluation mode, no virtual dropout (n=3)", "σ relative to a running spread (n=3)"]
    axes.set_yticks(range(len(labels)), labels)
    axes.set_xlabel("test error, %")
    style.svg(figure)
    figure.set_dpi(72)
    canvas = RendererSVG(figure.bbox.width, figure.bbox.height, io.StringIO())
    boxes = [text.get_window_extent(canvas) for text in legible.written(figure)]
    assert len(boxes) > len(labels)
    assert min(box.x0 for box in boxes) >= 0 and max(box.x1 for box in boxes) <= figure.bbox.width
    plt.close(figure)


def test_a_figure_tells_how_narrow_a_page_may_draw_it(monkeypatch):
    shown = []
    monkeypatch.setattr(style, "display", lambda x: shown.append(x.data))
    figure, texts = drawn()
    texts[0].set_fontsize(7.2)
    style.show(figure, "a picture", "It shows.")
    # 9.6 of 691 pixels; a page that draws it in 648 draws them in 9
    assert "--narrowest:648px" in shown[0]
