"""What figures share: axes, curves with bands, dots with intervals, legends beside the axes."""

import textwrap

import numpy as np
import pandas as pd

from .style import ACCENT, CONTRAST, MUTED, SMALL, WIDE

ACCURACIES = (("acc_f", CONTRAST, "ACC_f"), ("acc_r", ACCENT, "ACC_r"))  # of an edit
UNIT = (-0.03, 1.03)  # an axis of shares, with a little room
FAINT = {"color": MUTED, "linewidth": 0.8}
MOST_NAMES = 50  # along the x axis of the widest figure


def new_axes(ax, width: float, height: float, title: str = ""):
    """`ax`, or a fresh one of so many inches where it is None, with its title."""
    import matplotlib.pyplot as plt

    ax = ax if ax is not None else plt.subplots(figsize=(min(width, WIDE), height))[1]
    ax.set_title(wrapped(title, 1.15 * ax.get_window_extent().width / ax.figure.dpi))
    return ax


def wrapped(title: str, width: float) -> str:
    """A title in lines of so many inches, broken at spaces only."""
    whole = {"break_long_words": False, "break_on_hyphens": False}
    wide = max(int(11 * width), 20)
    return "\n".join(textwrap.fill(line, wide, **whole) for line in title.split("\n"))


def inches(n: int, each: float, more: float, low: float, high: float) -> float:
    """Room for n things of `each` inches and `more`, between two bounds."""
    return float(np.clip(more + each * n, low, high))


def panels(
    n: int, *, size: tuple[float, float], columns: int = 0, over: str = "", figure=None, **shared
) -> np.ndarray:
    """n Axes in rows of `columns`, by default side by side, each of `size` inches.

    Args:
        over: written above all of them.
        figure: a figure, or part of one, to draw on.
        shared: goes to `subplots`.
    """
    import matplotlib.pyplot as plt

    columns = max(columns or n, 1)
    rows = max(-(-n // columns), 1)
    wide = min(size[0] * columns, WIDE)
    figure = figure or plt.figure(figsize=(wide, size[1] * rows))
    axes = figure.subplots(rows, columns, squeeze=False, **shared).ravel()
    for ax in axes[n:]:
        ax.set_axis_off()
    if over:
        wide = figure.bbox.width / figure.dpi
        figure.suptitle(wrapped(over, wide), x=0.01, ha="left")
    return axes[:n]


def interval(rows: pd.DataFrame, value: str) -> np.ndarray:
    """The ends (2, N) of a column's interval, NaN where there is none.

    They are the columns `value` with _low and _high, or else low and high.
    """
    own = [f"{value}_low", f"{value}_high"]
    ends = own if own[0] in rows else ["low", "high"]
    return rows.reindex(columns=ends).to_numpy(float).T


def errors(rows: pd.DataFrame, value: str) -> np.ndarray:
    """How far an `interval` reaches below and above its column, (2, N)."""
    return np.abs(interval(rows, value) - rows[value].to_numpy(float))


def dots(ax, rows: pd.DataFrame, value: str, at, *, along: str = "y", **look) -> None:
    """A dot with its interval for each row, at the places `at` of the other axis.

    Args:
        along: the axis on which the values lie, "x" or "y".
    """
    look = {"fmt": "o", "markersize": 5, "capsize": 2} | look
    x, y = (rows[value], at) if along == "x" else (at, rows[value])
    ax.errorbar(x, y, **{f"{along}err": errors(rows, value)}, **look)


def curve(ax, rows: pd.DataFrame, x: str, y: str, *, band: float = 0.15, **look) -> None:
    """A line over x, and over its intervals a band as dark as `band`, none at 0."""
    ax.plot(rows[x], rows[y], **look)
    if band:
        ax.fill_between(rows[x], *interval(rows, y), color=look["color"], alpha=band, linewidth=0)


def mark(ax, at: float | None, label: str, **look) -> None:
    """A line across the x axis where `at` is a number, which the label names as "α = {:g}"."""
    if at is not None and np.isfinite(at):
        ax.axvline(at, label=label.format(at), **{"color": "black", "linewidth": 1.2} | look)


def labelled(*axes) -> dict:
    """Label to mark, each label once, of all these Axes."""
    found = {}
    for ax in axes:
        handles, labels = ax.get_legend_handles_labels()
        found |= dict(zip(labels, handles, strict=True))
    return found


def beside(ax, **options):
    """The legend of these Axes right of them; they are returned."""
    found, where = labelled(ax), {"loc": "upper left", "bbox_to_anchor": (1.01, 1)}
    ax.legend(found.values(), found.keys(), **where, **options)
    return ax


def below(axes, columns: int = 4):
    """The legend of one Axes under its label, or of several under all; the last is returned."""
    drawn = np.ravel(axes)
    found, owner, where = labelled(*drawn), drawn[0].figure, {"loc": "outside lower center"}
    if len(drawn) == 1:
        (owner,) = drawn
        where = {"loc": "upper center", "bbox_to_anchor": (0.5, 0), "borderaxespad": 4.5}
    owner.legend(found.values(), found.keys(), ncols=columns, **where)
    return axes


def name_rows(axes, names) -> None:
    """Names of rows that panels share, the first at the top, and a faint line along each."""
    axes[0].set_yticks(range(len(names)), names)
    axes[0].set_ylim(len(names) - 0.4, -0.6)
    for ax in axes:
        ax.grid(axis="y", color=MUTED, alpha=0.15)


def name_columns(ax, names) -> None:
    """Names along x: level where they are short and few, slanted where they are few, else upright.

    Of more than fifty, every second, third, … is written.
    """
    names, step = [short(name, 24) for name in names], -(-len(names) // MOST_NAMES)
    few = len(names) <= 20
    look = {"rotation": 45 if few else 90, "ha": "right", "va": "center", "fontsize": SMALL}
    look = {} if few and max(map(len, names)) <= 5 else look | {"rotation_mode": "anchor"}
    ax.set_xticks(range(0, len(names), step), names[::step], **look)


def few_ticks(ax, most: int = 3) -> None:
    """At most so many intervals between the ticks of the x axis, of short numbers."""
    ax.locator_params(axis="x", nbins=most, steps=[1, 2, 5, 10])


def whole_numbers(ax) -> None:
    """Ticks of the x axis at whole numbers only."""
    ax.xaxis.get_major_locator().set_params(integer=True)


def counts(values: pd.Series) -> str:
    """The number, or the range of numbers, of samples behind several things: "30", "20 to 40"."""
    low, high = int(values.min()), int(values.max())
    return f"{low:,}" if low == high else f"{low:,} to {high:,}"


def short(name, most: int = 14) -> str:
    """Both ends of a long name: what tells classes apart is often the last part."""
    name, half = str(name), most // 2
    name = " " * name.startswith("_") + name  # else matplotlib leaves it out of legends
    return name if len(name) <= most else f"{name[: half - 1]}…{name[-half:]}"
