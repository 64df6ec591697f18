"""What figures share: axes, curves with bands, dots with intervals, legends beside the axes."""

import numpy as np
import pandas as pd

from .style import MUTED

UNIT = (-0.03, 1.03)  # an axis of shares, with a little room
FAINT = {"color": MUTED, "linewidth": 0.8}
HOLLOW = {"linestyle": "none", "fillstyle": "none"}


def new_axes(ax, width: float, height: float):
    """`ax`, or a fresh one of so many inches where it is None."""
    import matplotlib.pyplot as plt

    return ax if ax is not None else plt.subplots(figsize=(width, height))[1]


def inches(n: int, each: float, more: float, low: float, high: float) -> float:
    """Room for n things of `each` inches and `more`, between two bounds."""
    return float(np.clip(more + each * n, low, high))


def panels(
    axes, n: int, *, columns: int, size: tuple[float, float], over: str = "", **shared
) -> np.ndarray:
    """n Axes in rows of `columns`, each of `size` inches; given ones are only counted.

    Args:
        over: written above all of them.
        shared: goes to `plt.subplots`.
    Raises:
        ValueError: where another number of axes was given.
    """
    import matplotlib.pyplot as plt

    if axes is not None:
        axes = np.ravel(axes)
        if len(axes) != n:
            raise ValueError(f"this figure has {n} panels; {len(axes)} axes were given")
    else:
        rows = -(-n // columns)
        shape = {"figsize": (size[0] * columns, size[1] * rows), "squeeze": False}
        grid = plt.subplots(rows, columns, **shape, **shared)[1].ravel()
        axes = grid[:n]
        for ax in grid[n:]:
            ax.set_visible(False)
        for ax in axes[-columns:]:
            ax.tick_params(labelbottom=True)
    if over:
        head(axes[0].figure, over, fontsize=12)
    return axes


def head(figure, title: str, *, fontsize: float = 11) -> None:
    """The title of a whole figure, at its left."""
    figure.suptitle(title, x=0.01, ha="left", fontsize=fontsize)


def _ends(value: str, ends: tuple[str, str] | None) -> list[str]:
    return list(ends or (f"{value}_low", f"{value}_high"))


def errors(rows: pd.DataFrame, value: str, ends: tuple[str, str] | None = None) -> np.ndarray:
    """How far an interval reaches below and above a column, (2, N); NaN where there is none.

    Args:
        ends: columns of the interval, by default `value` with _low and _high.
    """
    ends = _ends(value, ends)
    if ends[0] not in rows:
        return np.full((2, len(rows)), np.nan)
    return np.abs(rows[ends].to_numpy(float).T - rows[value].to_numpy(float))


def dots(ax, rows: pd.DataFrame, value: str, at, *, ends=None, along: str = "y", **look) -> None:
    """A dot with its interval for each row, at the places `at` of the other axis.

    Args:
        ends: see `errors`.
        along: the axis on which the values lie, "x" or "y".
    """
    look = {"fmt": "o", "markersize": 5, "capsize": 2} | look
    places = {"x": rows[value], "y": at} if along == "x" else {"x": at, "y": rows[value]}
    ax.errorbar(**places, **{f"{along}err": errors(rows, value, ends)}, **look)


def curve(ax, rows: pd.DataFrame, x: str, y: str, *, ends=None, band=0.15, **look) -> None:
    """A line over x, and a band between its ends where the rows have them."""
    ax.plot(rows[x], rows[y], **look)
    low, high = _ends(y, ends)
    if band and low in rows:
        shade = {"color": look.get("color"), "alpha": band, "linewidth": 0}
        ax.fill_between(rows[x], rows[low], rows[high], **shade)


def beside(ax, source=None, **options):
    """The legend right of an Axes, of another one's marks where `source` is given; returns `ax`."""
    handles = () if source is None else source.get_legend_handles_labels()
    ax.legend(*handles, **({"loc": "upper left", "bbox_to_anchor": (1.01, 1)} | options))
    return ax


def class_ticks(ax, names) -> None:
    """Class names along x, upright where they are short and few."""
    upright = max(map(len, names)) <= 5 and len(names) <= 30
    ax.set_xticks(range(len(names)), names, rotation=0 if upright else 60)


def whole_numbers(ax) -> None:
    """Ticks of the x axis at whole numbers only."""
    ax.xaxis.get_major_locator().set_params(integer=True)


def counts(values: pd.Series, *, join: str = " to ") -> str:
    """The number, or the range of numbers, of samples behind several things: "30", "20 to 40"."""
    low, high = int(values.min()), int(values.max())
    return f"{low:,}" if low == high else f"{low:,}{join}{high:,}"
