"""Class names stand in figures as they are: no mathematics, no missing letters, none left out."""

import numpy as np
import pandas as pd
import pytest
from fontTools.fontBuilder import FontBuilder
from fontTools.pens.ttGlyphPen import TTGlyphPen
from matplotlib import font_manager
from matplotlib import pyplot as plt
from matplotlib.text import Text

from classvec_lab import plots
from classvec_lab.plots import style

pytestmark = pytest.mark.usefixtures("look")
MONEY = ("bill_$1_to_$5", r"$\frac$", "$x_1$", "5 $")
LETTERS = ("猫", "犬", "قط", "😀", "_hidden", "हाथी", "tab\tbed", "🦊")


@pytest.fixture
def machine(tmp_path, monkeypatch):
    """A machine whose fonts are matplotlib's own and one that draws 猫 alone."""
    pen = TTGlyphPen(None)
    for k, point in enumerate([(0, 0), (0, 700), (500, 700), (500, 0)]):
        (pen.lineTo if k else pen.moveTo)(point)
    pen.closePath()
    builder = FontBuilder(1000)
    builder.setupGlyphOrder([".notdef", "cat"])
    builder.setupCharacterMap({ord("猫"): "cat"})
    builder.setupGlyf({".notdef": pen.glyph(), "cat": pen.glyph()})
    builder.setupHorizontalMetrics({".notdef": (600, 0), "cat": (600, 0)})
    builder.setupHorizontalHeader(ascent=800, descent=-200)
    builder.setupNameTable({"familyName": "Cats Only", "styleName": "Regular"})
    builder.setupOS2()
    builder.setupPost()
    builder.save(tmp_path / "cats.ttf")
    own = [f for f in font_manager.fontManager.ttflist if "mpl-data" in f.fname]
    broken = tmp_path / "broken.ttf"
    broken.write_bytes(b"no font")
    bad = font_manager.FontEntry(fname=str(broken), name="Aaa Broken")
    monkeypatch.setattr(font_manager.fontManager, "ttflist", [bad, *own])
    style._spelling.cache_clear()
    yield tmp_path / "cats.ttf"
    style._spelling.cache_clear()


def bars(names):
    rows = [
        {"class": c, "n": 9, "accuracy": 0.5, "low": 0.2, "high": 0.8, "model": m}
        for c in (*names, "all")
        for m in ("pre-trained", "fine-tuned")
    ]
    return plots.accuracy_bars(pd.DataFrame(rows))


def matrix(names, **more):
    values = np.linspace(-1, 1, len(names) ** 2).reshape(len(names), -1)
    return plots.heatmap(pd.DataFrame(values, names, names), **more)


def collateral(names):
    frame = pd.DataFrame(np.zeros((len(names),) * 2), names, names)
    return plots.collateral_maps({f"behind {names[0]}": frame, names[1]: frame})


def map_of(names):
    frame = pd.DataFrame({"pc1": np.arange(len(names)), "pc2": 0.0})
    frame["class"] = pd.Categorical(names, names)
    frame.attrs["explained"] = (0.6, 0.2)
    return plots.scatter_map(frame, title=f"a map of {names[0]}")


def pair_entries(names):
    rows = [(a, b) for a in names for b in names if a != b]
    frame = pd.DataFrame(rows, columns=["kappa", "z_ft"])
    zero = frame.assign(corrected=0.1, low=0.0, high=0.2, expected=-0.1, differs=True)
    return plots.entries(zero)


def effect(names):
    frame = pd.DataFrame({"class": names, "before": 0.9, "after": 0.1, "random": 0.5, "n": 9})
    return plots.edit_effect(frame, edited=[names[0]], title=f"forget {names[0]}")


DRAW = [bars, matrix, collateral, map_of, pair_entries, effect]


def shown(figure):
    """All words of a figure, as they are once it is drawn; no warning may come of drawing it."""
    figure.canvas.draw()
    return "\n".join(t.get_text() for t in figure.findobj(Text) if t.get_visible())


@pytest.mark.parametrize("draw", DRAW, ids=lambda f: f.__name__)
def test_names_stand_as_they_are_and_missing_letters_as_escapes(draw, machine):
    figure = np.ravel(draw((*MONEY, *LETTERS)))[0].figure
    words = shown(figure)
    for name in (*MONEY, "قط", "😀", "_hidden"):
        assert name in words
    for escape in (r"\u732b", r"\u72ac", r"\u0939", r"tab\tbed", r"\U0001f98a"):
        assert escape in words
    assert "猫" not in words
    assert not any(t.get_parse_math() for t in figure.findobj(Text))


def test_a_font_of_this_machine_is_taken_where_it_has_the_letters(tmp_path, machine):
    font_manager.fontManager.addfont(machine)
    style._spelling.cache_clear()
    ax = matrix(("猫", "犬", "cat"), title="猫 beside 犬")
    words = shown(ax.figure)
    assert "猫" in words
    assert r"\u72ac" in words
    assert "犬" not in words
    assert ax.get_xticklabels()[0].get_text() == "猫"
    ax.figure.savefig(tmp_path / "x.pdf")
    assert "Cats Only" in ax.title.get_family()


def test_a_name_that_begins_with_an_underscore_stands_in_the_legend():
    legend = map_of(("_background", "cat", "__")).get_legend()
    assert [t.get_text().strip() for t in legend.get_texts()] == ["_background", "cat", "__"]


def test_plain_figures_keep_their_text_and_their_axes():
    ax = matrix(("a", "b"))
    before = [t.get_text() for t in ax.figure.findobj(Text)]
    assert "a" in before
    _, axes = plt.subplots(1, 2)
    assert plots.heatmap(pd.DataFrame(np.eye(2)), ax=axes[0]) is axes[0]
    assert plots.cluster_order(pd.DataFrame(np.eye(2), ["a", "b"], ["a", "b"])) == ["a", "b"]
    assert plots.heatmap.__doc__
    assert axes[1].text(0, 0, "$x_1$").get_parse_math()  # what is not ours is left alone
