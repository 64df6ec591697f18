"""Neural collapse drawn: curves over epochs, a film of the class means, and the classes one by one."""

from collections.abc import Sequence

import numpy as np
import pandas as pd

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
    """One panel a metric over epochs, one line a `run`, with intervals and the NC2 null where known; returns the Axes (array).

    frame: columns epoch, metric, value, and where known low, high, null_high and run. NC1 and CDNV on a
    logarithmic axis. Metrics without a value are left out. at: an epoch to mark; kept: the epoch that was kept,
    marked too; figure: a figure or part of one to draw on.
    """
    import matplotlib.pyplot as plt

    frame = frame.assign(run="") if "run" not in frame else frame
    runs = list(dict.fromkeys(frame["run"]))
    marks = [
        {
            "x": epoch,
            "color": "black",
            "linewidth": width,
            "linestyle": line,
            "label": f"{name} {epoch}",
        }
        for epoch, name, line, width in ((kept, "kept: epoch", ":", 0.9), (at, "epoch", "-", 1.6))
        if epoch is not None
    ]
    metrics = [m for m in metrics if np.isfinite(frame.loc[frame["metric"] == m, "value"]).any()]
    columns = min(4, max(1, len(metrics)))
    rows = -(-len(metrics) // columns) or 1
    fig = plt.figure(figsize=(2.9 * columns, 2.5 * rows)) if figure is None else figure
    axes = fig.subplots(rows, columns, squeeze=False)
    for ax, metric in zip(axes.flat, metrics, strict=False):
        for run, colour in zip(runs, _run_colours(len(runs)), strict=True):
            part = frame[(frame["metric"] == metric) & (frame["run"] == run)].sort_values("epoch")
            if not np.isfinite(part["value"]).any():
                continue
            ax.plot(part["epoch"], part["value"], marker=".", color=colour, label=run)
            if "low" in part and part["low"].notna().any():
                ax.fill_between(
                    part["epoch"], part["low"], part["high"], color=colour, alpha=0.18, linewidth=0
                )
            if "null_high" in part and part["null_high"].notna().any():
                ax.plot(part["epoch"], part["null_high"], color=colour, linestyle=":", linewidth=1)
                ax.fill_between(
                    part["epoch"], 0, part["null_high"], color=colour, alpha=0.08, linewidth=0
                )
        if (
            metric in _LOGARITHMIC
            and (frame.loc[frame["metric"] == metric, "value"].dropna() > 0).all()
        ):
            _logarithmic(ax)
        elif metric != "nc4":
            ax.set_ylim(bottom=0)
        ax.set(title=PANELS.get(metric, metric), xlabel="epoch")
        ax.title.set_fontsize(10)
        ax.xaxis.get_major_locator().set_params(integer=True)
        for mark in marks:
            ax.axvline(**mark)
    for ax in axes.flat[len(metrics) :]:
        ax.set_axis_off()
    named = zip(runs, _run_colours(len(runs)), strict=True) if len(runs) > 1 else ()
    handles = [plt.Line2D([], [], color=c, marker=".", label=r) for r, c in named]
    handles += [plt.Line2D([], [], **{k: v for k, v in mark.items() if k != "x"}) for mark in marks]
    if handles:
        fig.legend(handles=handles, loc="outside lower center", ncols=min(len(handles), 4))
    fig.suptitle(title, x=0.01, ha="left", fontsize=11)
    return axes


def collapse_map(
    history, *, epochs: Sequence[int] | None = None, focus: str = "", figure=None, title: str = ""
):
    """Held-out samples and ringed class means at a few epochs, on the plane of the last epoch's means; returns the Axes (array).

    history: a `CollapseHistory` (frames `points` and `means2d`). epochs: default first, middle and last;
    focus: a class beside which the others fade; figure: a figure or part of one to draw on. The axes are shared, so
    that what spreads or contracts can be seen; up to 20 classes have a legend.
    """
    import matplotlib.pyplot as plt

    points, means = history.points, history.means2d
    known = sorted(means["epoch"].unique())
    if epochs is None:
        epochs = list(dict.fromkeys((known[0], known[len(known) // 2], known[-1])))
    names = list(means["class"].cat.categories)
    colours = class_colours(len(names))
    few = len(names) <= 20
    width = 3.1 * len(epochs) + (1.6 if few else 0)
    fig = plt.figure(figsize=(width, 3.4)) if figure is None else figure
    axes = fig.subplots(1, len(epochs), sharex=True, sharey=True, squeeze=False)
    for ax, epoch in zip(axes[0], epochs, strict=True):
        part, centre = points[points["epoch"] == epoch], means[means["epoch"] == epoch]
        ax.scatter(
            part["x"],
            part["y"],
            s=8,
            alpha=_strength(part, focus, 0.5),
            linewidths=0,
            c=[colours[i] for i in part["class"].cat.codes],
        )
        face = [colours[i] for i in centre["class"].cat.codes]
        size, edge = (60, 1.0) if few else (14, 0.4)
        strength = _strength(centre, focus, None)
        ax.scatter(
            centre["x"],
            centre["y"],
            s=size,
            c=face,
            edgecolor="black",
            linewidth=edge,
            zorder=3,
            alpha=strength,
        )
        ax.set_title("before fine-tuning" if epoch == 0 else f"epoch {epoch}")
    shares = means.attrs["explained"]
    axes[0, 0].set_ylabel(f"second direction ({shares[1]:.0%})")
    axes[0, len(epochs) // 2].set_xlabel(
        f"first direction of the class means ({shares[0]:.0%} of their variance at the end)"
    )
    if few:
        handles = [
            plt.Line2D([], [], color=c, marker="o", linestyle="", label=n)
            for n, c in zip(names, colours, strict=True)
        ]
        fig.legend(handles=handles, loc="outside right center")
    fig.suptitle(title, x=0.01, ha="left", fontsize=11)
    return axes[0]


def collapse_bars(frame: pd.DataFrame, *, title: str = ""):
    """Each class's variance, CDNV and self-duality, a marker for each `run`; returns the Axes (array).

    frame: the rows of `NeuralCollapse.per_class`, with a column run where there are several. Classes are
    ordered by the last run's CDNV, worst first; names stand at the axis up to 40 classes.
    """
    import matplotlib.pyplot as plt

    frame = frame.assign(run="") if "run" not in frame else frame
    runs = list(dict.fromkeys(frame["run"]))
    last = frame[frame["run"] == runs[-1]].sort_values("cdnv", ascending=False, kind="stable")
    names = list(last["class"])
    columns = [c for c in _COLUMNS if np.isfinite(frame[c]).any()]
    legible = len(names) <= _MOST_NAMES
    width = float(np.clip(1.5 + 0.5 * len(names), 5, 14))
    fig, axes = plt.subplots(
        len(columns), 1, figsize=(width, 1.9 * len(columns) + 0.9), sharex=True, squeeze=False
    )
    for ax, column in zip(axes[:, 0], columns, strict=True):
        for k, (run, colour) in enumerate(zip(runs, _run_colours(len(runs)), strict=True)):
            values = frame[frame["run"] == run].set_index("class").loc[names, column]
            x = np.arange(len(names)) + (0.22 * (k - (len(runs) - 1) / 2) if legible else 0)
            ax.plot(x, values, "o", markersize=5 if legible else 2.5, color=colour, label=run)
        if column != "self_duality_centred":
            if (frame[column] > 0).all():
                _logarithmic(ax)
        elif ax.get_ylim()[0] < 0:
            ax.axhline(0, color="black", linewidth=0.6)
        ax.set_title(_COLUMNS[column], fontsize=10)
    bottom = axes[-1, 0]
    if legible:
        bottom.set_xticks(
            range(len(names)),
            names,
            rotation=0 if max(map(len, names)) <= 5 and len(names) <= 30 else 60,
        )
    else:
        bottom.set_xticks([])
        bottom.set_xlabel(f"{len(names)} classes, the largest CDNV of the last run first")
    if len(runs) > 1:
        axes[0, 0].legend(
            loc="lower right", bbox_to_anchor=(1, 1), ncols=len(runs), borderaxespad=0.2
        )
    fig.suptitle(title, x=0.01, ha="left", fontsize=11)
    return axes[:, 0]


def _strength(frame: pd.DataFrame, focus: str, full: float | None):
    """How opaque each row is drawn: `full`, or faint beside the class in focus."""
    return full if not focus else np.where(frame["class"] == focus, full or 1.0, 0.08)


def _logarithmic(ax) -> None:
    """A logarithmic y axis labelled 0.2, 0.5, 1, however short it is."""
    from matplotlib.ticker import FuncFormatter, LogLocator, NullFormatter

    ax.set_yscale("log")
    low, high = ax.get_ylim()
    ax.yaxis.set_major_locator(LogLocator(subs=(1, 2, 5) if high < 1000 * low else (1,)))
    ax.yaxis.set_major_formatter(FuncFormatter(lambda value, _: f"{value:g}"))
    ax.yaxis.set_minor_formatter(NullFormatter())


def _run_colours(n: int) -> list:
    return [ACCENT] if n == 1 else [MUTED, ACCENT] if n == 2 else class_colours(n)
