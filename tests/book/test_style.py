"""Figures can be told apart, read without sight, and repeated byte for byte."""

import re

import matplotlib
import numpy as np
import pandas as pd
import pytest
from matplotlib.colors import to_rgb

matplotlib.use("agg")

import matplotlib.pyplot as plt

from sba.book import style
from sba.core.errors import ConfigError
from sba.records.names import title


def drawn():
    style.use()
    figure, axes = plt.subplots()
    axes.plot([1, 2, 3], [1, 4, 9], label="squares")
    axes.legend()
    return figure


def luminance(colour):
    """Relative luminance of WCAG 2."""
    linear = [c / 12.92 if c <= 0.03928 else ((c + 0.055) / 1.055) ** 2.4 for c in to_rgb(colour)]
    return np.dot(linear, (0.2126, 0.7152, 0.0722))


def test_equal_figures_give_equal_files():
    first, second = style.svg(drawn()), style.svg(drawn())
    assert first == second
    assert first.startswith(b"<?xml")


def test_a_shown_figure_has_its_text_and_is_closed(monkeypatch):
    shown = []
    monkeypatch.setattr(style, "display", lambda x: shown.append(x.data))
    figure = drawn()
    style.show(figure, alt='a curve that <rises> & "bends"', caption="It rises.")
    assert 'alt="a curve that &lt;rises&gt; &amp; &quot;bends&quot;"' in shown[0]
    assert re.search(r"<figcaption[^>]*>It rises\.</figcaption>", shown[0])
    assert not plt.fignum_exists(figure.number)


def test_a_figure_without_a_text_is_refused():
    with pytest.raises(ConfigError, match=r"alt: .* is not allowed"):
        style.show(drawn(), alt="  ", caption="It rises.")
    with pytest.raises(ConfigError, match=r"caption: .* is not allowed"):
        style.show(drawn(), alt="a curve", caption="")


def test_a_table_has_its_caption_and_its_name():
    frame = pd.DataFrame({"error": [1, 2]})
    shown = style.table(frame, "Errors < 3.", "tab-errors").data
    assert re.search(r'<table[^>]* id="tab-errors"><caption[^>]*>Errors &lt; 3\.</caption>', shown)
    with pytest.raises(ConfigError, match=r"caption: .* is not allowed"):
        style.table(frame, " ")
    with pytest.raises(ConfigError, match="2 tables"):
        style.table(2 * frame.to_html(), "Errors.")


def test_methods_have_different_colours_that_stand_out_from_white():
    assert (
        len(set(style.COLOURS.values())) == len(style.COLOURS) == len(set(style.MARKERS.values())) == len(style.MARKERS)
    )
    for colour in style.COLOURS.values():
        assert 1.05 / (luminance(colour) + 0.05) > 2, colour


def test_cutout_keeps_the_colour_of_its_method_but_not_its_line():
    for plain, cut in (("erm", "cutout"), ("sba", "cutout+sba")):
        assert style.colour(plain) == style.colour(cut)
        assert style.line(plain)["linestyle"] != style.line(cut)["linestyle"]
    with pytest.raises(ConfigError, match="method: 'dropblock' has no colour"):
        style.colour("dropblock")


def test_names_for_people():
    assert title("cifar10") == "CIFAR-10"
    assert title("cutout+mixup") == "Cutout + mixup"
    assert title("something else") == "something else"
    assert title("erm") == "Baseline"


def test_a_figure_is_kept_where_there_is_a_book_only(tmp_path, monkeypatch):
    (tmp_path / "elsewhere" / "deeper").mkdir(parents=True)
    monkeypatch.chdir(tmp_path / "elsewhere" / "deeper")
    assert style.keep(drawn(), "picture") is None
    (tmp_path / "elsewhere" / "book").mkdir()
    path = style.keep(drawn(), "picture")
    assert path.read_bytes() == style.svg(drawn())
