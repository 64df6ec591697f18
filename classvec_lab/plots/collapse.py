"""Neural collapse drawn: curves over epochs, a film of the class means, and the classes."""

from collections.abc import Sequence

import numpy as np
import pandas as pd

from .marks import (
    MOST_NAMES,
    curve,
    inches,
    labelled,
    mark,
    name_columns,
    panels,
    short,
    whole_numbers,
)
from .style import ACCENT, MUTED, WIDE, class_colours

PANELS = {
    "nc1": "NC1: spread within classes",
    "cdnv": "CDNV: spread over distance",
    "nc2_equinorm": "NC2: lengths of means",
    "nc2_equiangular": "NC2: angles of means",
    "nc2_etf": "NC2: distance from an ETF",
    "nc3": "NC3: head against means",
    "nc3_centred": "NC3: centred head",
    "nc4": "NC4: as the nearest mean",
}
LOGARITHMIC = ("nc1", "cdnv")
_COLUMNS = {
    "variance": "variance within",
    "cdnv": "CDNV, mean over others",
    "self_duality_centred": "cos(head row, mean)",
}


def collapse_curves(
    frame: pd.DataFrame,
    *,
    metrics: Sequence[str] = tuple(PANELS),
    at: int | None = None,
    kept: int | None = None,
    figure=None,
    title: str = "",
):
    """One panel a metric over epochs, one line a run, with intervals and the NC2 null.

    Args:
        frame: the table of a `CollapseHistory`, or several joined, with a column run.
        metrics: those without a value are left out; NC1 and CDNV have a logarithmic axis.
        at: an epoch to mark.
        kept: the epoch that was kept, marked too.
        figure: a figure, or part of one, to draw on.
    Returns:
        The Axes (array).
    """
    runs, frame = _coloured(frame)
    known = frame.sort_values("epoch").groupby("metric")
    known = {m: rows for m, rows in known if rows["value"].notna().any()}
    metrics = [m for m in metrics if m in known]
    axes = panels(
        len(metrics), columns=min(4, len(metrics)), size=(2.9, 2.5), over=title, figure=figure
    )
    for ax, metric in zip(axes, metrics, strict=True):
        for run, part in known[metric].groupby("run"):
            look = {"color": runs[run], "label": run if len(runs) > 1 else None, "marker": "."}
            curve(ax, part, "epoch", "value", band=0.18, **look)
            null = part.assign(low=0.0, high=part["null_high"])
            look = {"color": runs[run], "linestyle": ":", "linewidth": 1}
            curve(ax, null, "epoch", "null_high", band=0.08, **look)
        if metric in LOGARITHMIC:
            _logarithmic(ax, known[metric]["value"])
        elif metric != "nc4":
            ax.set_ylim(bottom=0)
        ax.set_xlabel("epoch")
        ax.set_title(PANELS[metric], fontsize=9)
        whole_numbers(ax)
        mark(ax, kept, "kept: epoch {}", linewidth=0.9, linestyle=":")
        mark(ax, at, "epoch {}", linewidth=1.6)
    if len(axes) and (marks := labelled(axes[0])):
        axes[0].figure.legend(marks.values(), marks.keys(), loc="outside lower center", ncols=4)
    return axes


def collapse_map(
    history, *, epochs: Sequence[int] | None = None, focus: str = "", figure=None, title: str = ""
):
    """Held-out samples and ringed class means at a few epochs, on one plane.

    The plane is that of the last epoch's means. The axes are shared, so that what spreads or
    contracts can be seen. Up to 20 classes have a legend.

    Args:
        history: a `CollapseHistory` (frames `points` and `means2d`).
        epochs: by default the first, the middle and the last.
        focus: a class beside which the others fade.
        figure: a figure, or part of one, to draw on.
    Returns:
        The Axes (array).
    """
    points, means = history.points, history.means2d
    known = np.unique(means["epoch"])
    epochs = epochs or np.unique(known[[0, len(known) // 2, -1]])
    names = list(means["class"].cat.categories)
    colours, few = np.array(class_colours(len(names))), len(names) <= 20
    size = (3.1 + 1.6 * few / len(epochs), 3.4)
    axes = panels(len(epochs), size=size, over=title, figure=figure, sharex=True, sharey=True)
    ring = {"edgecolor": "black", "zorder": 3}
    ring |= {"s": 60, "linewidth": 1.0} if few else {"s": 14, "linewidth": 0.4}
    for ax, epoch in zip(axes, epochs, strict=True):
        for frame, full, look in ((points, 0.5, {"s": 8, "linewidths": 0}), (means, 1.0, ring)):
            part = frame[frame["epoch"] == epoch]
            alpha = np.where(part["class"] == focus, full, 0.08) if focus else full
            colour = colours[part["class"].cat.codes]
            ax.scatter(part["x"], part["y"], c=colour, alpha=alpha, **look)
        ax.set_title(f"epoch {epoch}" if epoch else "before fine-tuning")
    first, second = means.attrs["explained"]
    axes[0].set_ylabel(f"second direction ({second:.0%})")
    said = f"first direction of the class means ({first:.0%} of their variance at the end)"
    axes[len(epochs) // 2].set_xlabel(said)
    if few:
        for name, colour in zip(names, colours, strict=True):
            axes[0].plot([], [], "o", color=colour, label=short(name, 20))
        axes[0].figure.legend(loc="outside right center")
    return axes


def collapse_bars(frame: pd.DataFrame, *, title: str = ""):
    """Each class's variance, CDNV and self-duality, a marker for each run.

    Args:
        frame: rows of `NeuralCollapse.per_class`, with a column run where they are of several.
            Classes are ordered by the last run's CDNV, worst first, and named up to 50.
    Returns:
        The Axes (array).
    """
    runs, frame = _coloured(frame)
    last = frame[frame["run"] == list(runs)[-1]]
    names = list(last.sort_values("cdnv", ascending=False, kind="stable")["class"])
    columns = [c for c in _COLUMNS if np.isfinite(frame[c]).any()]
    legible, n = len(names) <= MOST_NAMES, len(columns)
    size = (inches(len(names), 0.5, 1.5, 5, WIDE), 1.9 + 0.9 / n)
    axes = panels(n, columns=1, size=size, sharex=True, over=title)
    for ax, column in zip(axes, columns, strict=True):
        for k, (run, colour) in enumerate(runs.items()):
            values = frame[frame["run"] == run].set_index("class").loc[names, column]
            x = np.arange(len(names)) + 0.22 * (k - (len(runs) - 1) / 2) * legible
            ax.plot(x, values, "o", markersize=5 if legible else 2.5, color=colour, label=run)
        if column != "self_duality_centred":
            _logarithmic(ax, frame[column])
        elif ax.get_ylim()[0] < 0:
            ax.axhline(0, color="black", linewidth=0.6)
        ax.set_title(_COLUMNS[column], fontsize=10)
    if legible:
        name_columns(axes[-1], names)
    else:
        said = f"{len(names)} classes, the largest CDNV of the last run first"
        axes[-1].set(xticks=[], xlabel=said)
    axes[0].legend(ncols=len(runs), loc="lower right", bbox_to_anchor=(1, 1), borderaxespad=0.2)
    return axes


def _coloured(frame: pd.DataFrame) -> tuple[dict, pd.DataFrame]:
    """Run to colour, in order of appearance, and the frame with a column run."""
    frame = frame if "run" in frame else frame.assign(run="")
    runs = frame["run"].unique()
    few = {1: [ACCENT], 2: [MUTED, ACCENT]}.get(len(runs))
    return dict(zip(runs, few or class_colours(len(runs)), strict=True)), frame


def _logarithmic(ax, values: pd.Series) -> None:
    """A logarithmic y axis labelled 0.2, 0.5, 1, however short it is; where a value is 0, none."""
    from matplotlib.ticker import LogLocator, NullFormatter

    if (values <= 0).any():
        return
    ax.set_yscale("log")
    low, high = ax.get_ylim()
    ax.yaxis.set_major_locator(LogLocator(subs=(1, 2, 5) if high < 1000 * low else (1,)))
    ax.yaxis.set_major_formatter("{x:g}")
    ax.yaxis.set_minor_formatter(NullFormatter())
