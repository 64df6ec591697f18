"""Neural collapse drawn: curves over epochs, a film of the class means, and the classes."""

from collections.abc import Sequence

import numpy as np
import pandas as pd

from .marks import class_ticks, curve, head, inches, panels, whole_numbers
from .style import ACCENT, MUTED, class_colours

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
_LOGARITHMIC = ("nc1", "cdnv")
_COLUMNS = {
    "variance": "variance within",
    "cdnv": "CDNV, mean over others",
    "self_duality_centred": "cos(head row, mean)",
}
_MOST_NAMES = 40  # class names that an axis has room for


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
        frame: columns epoch, metric, value, and where known low, high, null_high and run.
        metrics: those without a value are left out; NC1 and CDNV have a logarithmic axis.
        at: an epoch to mark.
        kept: the epoch that was kept, marked too.
        figure: a figure, or part of one, to draw on.
    Returns:
        The Axes (array).
    """
    import matplotlib.pyplot as plt

    runs, frame = _by_run(frame)
    known = {m: rows for m, rows in frame.groupby("metric") if rows["value"].notna().any()}
    metrics = [m for m in metrics if m in known]
    columns = min(4, max(1, len(metrics)))
    rows = -(-len(metrics) // columns) or 1
    fig = figure or plt.figure(figsize=(2.9 * columns, 2.5 * rows))
    axes = fig.subplots(rows, columns, squeeze=False)
    marks = [
        (
            epoch,
            {"color": "black", "linewidth": width, "linestyle": line, "label": f"{name} {epoch}"},
        )
        for epoch, name, line, width in ((kept, "kept: epoch", ":", 0.9), (at, "epoch", "-", 1.6))
        if epoch is not None
    ]
    for ax, metric in zip(axes.flat, metrics, strict=False):
        values = known[metric]["value"].dropna()
        for run, part in known[metric].sort_values("epoch").groupby("run"):
            part, colour = part.dropna(axis=1, how="all"), runs[run]
            if "value" in part:
                look = {"marker": ".", "color": colour, "label": run}
                curve(ax, part, "epoch", "value", ends=("low", "high"), band=0.18, **look)
            if {"value", "null_high"} <= set(part):
                part = part.assign(zero=0.0)
                look = {"color": colour, "linestyle": ":", "linewidth": 1, "band": 0.08}
                curve(ax, part, "epoch", "null_high", ends=("zero", "null_high"), **look)
        if metric in _LOGARITHMIC and (values > 0).all():
            _logarithmic(ax)
        elif metric != "nc4":
            ax.set_ylim(bottom=0)
        ax.set_xlabel("epoch")
        ax.set_title(PANELS.get(metric, metric), fontsize=10)
        whole_numbers(ax)
        for epoch, look in marks:
            ax.axvline(epoch, **look)
    for ax in axes.flat[len(metrics) :]:
        ax.set_axis_off()
    looks = [{"color": c, "marker": ".", "label": r} for r, c in runs.items() if len(runs) > 1]
    looks += [look for _, look in marks]
    if looks:
        handles = [plt.Line2D([], [], **look) for look in looks]
        fig.legend(handles=handles, loc="outside lower center", ncols=min(len(looks), 4))
    head(fig, title)
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
    import matplotlib.pyplot as plt

    points, means = history.points, history.means2d
    known = sorted(means["epoch"].unique())
    epochs = epochs or list(dict.fromkeys((known[0], known[len(known) // 2], known[-1])))
    names = list(means["class"].cat.categories)
    colours, few = np.array(class_colours(len(names))), len(names) <= 20
    width = 3.1 * len(epochs) + 1.6 * few
    fig = figure or plt.figure(figsize=(width, 3.4))
    axes = fig.subplots(1, len(epochs), sharex=True, sharey=True, squeeze=False)[0]
    ring = {"edgecolor": "black", "zorder": 3}
    ring |= {"s": 60, "linewidth": 1.0} if few else {"s": 14, "linewidth": 0.4}
    for ax, epoch in zip(axes, epochs, strict=True):
        for frame, full, look in ((points, 0.5, {"s": 8, "linewidths": 0}), (means, None, ring)):
            part = frame[frame["epoch"] == epoch]
            alpha = np.where(part["class"] == focus, full or 1.0, 0.08) if focus else full
            ax.scatter(
                part["x"], part["y"], c=colours[part["class"].cat.codes], alpha=alpha, **look
            )
        ax.set_title(f"epoch {epoch}" if epoch else "before fine-tuning")
    first, second = means.attrs["explained"]
    axes[0].set_ylabel(f"second direction ({second:.0%})")
    said = f"first direction of the class means ({first:.0%} of their variance at the end)"
    axes[len(epochs) // 2].set_xlabel(said)
    if few:
        look = {"marker": "o", "linestyle": ""}
        pairs = zip(names, colours, strict=True)
        handles = [plt.Line2D([], [], color=c, label=n, **look) for n, c in pairs]
        fig.legend(handles=handles, loc="outside right center")
    head(fig, title)
    return axes


def collapse_bars(frame: pd.DataFrame, *, title: str = ""):
    """Each class's variance, CDNV and self-duality, a marker for each run.

    Args:
        frame: rows of `NeuralCollapse.per_class`, with a column run where there are several.
            Classes are ordered by the last run's CDNV, worst first, and named up to 40.
    Returns:
        The Axes (array).
    """
    runs, frame = _by_run(frame)
    last = frame[frame["run"] == list(runs)[-1]]
    names = list(last.sort_values("cdnv", ascending=False, kind="stable")["class"])
    columns = [c for c in _COLUMNS if np.isfinite(frame[c]).any()]
    legible, n = len(names) <= _MOST_NAMES, len(columns)
    size = (inches(len(names), 0.5, 1.5, 5, 14), 1.9 + 0.9 / n)
    axes = panels(None, n, columns=1, size=size, sharex=True, over=title)
    for ax, column in zip(axes, columns, strict=True):
        for k, (run, colour) in enumerate(runs.items()):
            values = frame[frame["run"] == run].set_index("class").loc[names, column]
            x = np.arange(len(names)) + 0.22 * (k - (len(runs) - 1) / 2) * legible
            ax.plot(x, values, "o", markersize=5 if legible else 2.5, color=colour, label=run)
        if column == "self_duality_centred":
            if ax.get_ylim()[0] < 0:
                ax.axhline(0, color="black", linewidth=0.6)
        elif (frame[column] > 0).all():
            _logarithmic(ax)
        ax.set_title(_COLUMNS[column], fontsize=10)
    if legible:
        class_ticks(axes[-1], names)
    else:
        axes[-1].set_xticks([])
        said = f"{len(names)} classes, the largest CDNV of the last run first"
        axes[-1].set_xlabel(said)
    if len(runs) > 1:
        where = {"loc": "lower right", "bbox_to_anchor": (1, 1), "borderaxespad": 0.2}
        axes[0].legend(ncols=len(runs), **where)
    return axes


def _by_run(frame: pd.DataFrame) -> tuple[dict, pd.DataFrame]:
    """Run to colour in order of appearance, and the frame with a column run."""
    frame = frame if "run" in frame else frame.assign(run="")
    runs = list(dict.fromkeys(frame["run"]))
    few = {1: [ACCENT], 2: [MUTED, ACCENT]}.get(len(runs))
    return dict(zip(runs, few or class_colours(len(runs)), strict=True)), frame


def _logarithmic(ax) -> None:
    """A logarithmic y axis labelled 0.2, 0.5, 1, however short it is."""
    from matplotlib.ticker import FuncFormatter, LogLocator, NullFormatter

    ax.set_yscale("log")
    low, high = ax.get_ylim()
    ax.yaxis.set_major_locator(LogLocator(subs=(1, 2, 5) if high < 1000 * low else (1,)))
    ax.yaxis.set_major_formatter(FuncFormatter(lambda value, _: f"{value:g}"))
    ax.yaxis.set_minor_formatter(NullFormatter())
