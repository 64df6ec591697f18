"""Repeated experiments: measures over the number of classes and over the length of training."""

from pathlib import PurePath

import numpy as np

from .marks import UNIT, below, counts, panels, short, whole_numbers
from .style import ACCENT, CONTRAST, MUTED, class_colours

MEASURES = {  # and the ends of what each can be
    "shown": (0, 1),
    "entries_sd": (0, 1),
    "shift_ratio": (0, np.inf),
    "explained": (0, 1),
    "nc1": (0, np.inf),
}
_SHAPES = "osD^vP"


def over_class_counts(runs, *, title: str = ""):
    """Mean cosine, pairs shown and refuted, and spread of the pairs over the number of classes.

    Args:
        runs: one row a fine-tuning.
    Returns:
        The three Axes. A dot is one run. Left the mean with the interval over its images, beside
        what shift, offset and C force on it (crosses) and -1/(C-1): their closeness is no finding.
        Middle the share of pairs of which independence is shown (filled) and refuted (hollow).
        Right the standard deviation of the entries, beside that of random directions (dashes) and
        that of an exact simplex ETF, 0.
    """
    runs = runs[runs["epochs"] == runs["epochs"].max()]
    axes = mean, pairs, spread = panels(3, size=(2.9, 4), over=title)
    grid = np.linspace(runs["n_classes"].min(), runs["n_classes"].max(), 200)
    mean.plot(grid, -1 / (grid - 1), color=MUTED, label="-1/(C-1), no shift")
    for (dataset, part, colour), shape in zip(_by_dataset(runs), _SHAPES, strict=False):
        x = part["n_classes"]  # a run stands at its number of classes
        mean.vlines(x, part["low"], part["high"], color=colour, linewidth=1, alpha=0.6)
        hollow = {"s": 24, "marker": shape, "facecolor": "none", "edgecolor": colour}
        full = hollow | {"facecolor": colour}
        cross, dash = ({"color": colour, "linewidth": 1, "marker": m, "s": 40} for m in "x_")
        for ax, column, name, look in (
            (mean, "expected", "forced by shift, offset, C", cross),
            (mean, "off_diagonal", "measured", hollow),
            (pairs, "shown", "shown", full),
            (pairs, "refuted", "refuted", hollow),
            (spread, "null_sd", "random directions", dash),
            (spread, "entries_sd", "measured", hollow),
        ):
            ax.scatter(x, part[column], label=f"{short(dataset)}: {name}", **look)
    for ax, name in zip(
        axes,
        (
            "mean off-diagonal cosine",
            f"share of pairs within ±{runs['delta'].iloc[0]:g}",
            "sd of off-diagonal entries",
        ),
        strict=True,
    ):
        ax.axhline(0, color="black", linewidth=0.6)
        ax.set(xlabel="number of classes C", title=name)
        below(ax, columns=1)
        whole_numbers(ax)
    pairs.set_ylim(UNIT)
    return axes


def over_epochs(runs, table):
    """Measures over epochs at the largest number of classes: a dot a run, the line their mean.

    The 95 % interval of a mean is drawn where there are three runs or more, as far as its measure
    can reach.

    Args:
        runs: one row a fine-tuning.
        table: their means, one row a data set, number of classes, epochs and measure.
    Returns:
        The Axes, one a measure.
    """
    runs, table = (t[t["n_classes"] == t["n_classes"].max()] for t in (runs, table))
    axes = panels(len(MEASURES), columns=3, size=(3, 2.7))
    lengths = sorted(table["epochs"].unique())
    for ax, (measure, ends) in zip(axes, MEASURES.items(), strict=True):
        for _, own, colour in _by_dataset(runs):
            ax.scatter(own["epochs"], own[measure], s=12, color=colour, alpha=0.5, linewidths=0)
        means = table[table["measure"] == measure].sort_values("epochs")
        for dataset, part, colour in _by_dataset(means):
            ax.plot(part["epochs"], part["mean"], color=colour, label=dataset)
            known = part[part["n_runs"] > 2]
            spans = known[["low", "high"]].clip(*ends).to_numpy().T
            ax.vlines(known["epochs"], *spans, color=colour, linewidth=1.2)
        low, high = runs[measure].agg(["min", "max"])
        # the interval of few runs may reach far beyond what any of them shows
        margin = 0.15 * (high - low) or 0.1
        ax.set(title=measure.replace("_", " "), ylim=(low - margin, high + margin))
        ax.set_xlabel(f"epochs, n = {counts(table['n_runs'])} runs")
        ax.set_xscale("log", base=2)
        ax.set_xticks(lengths, map(str, lengths))
        ax.minorticks_off()
    return below(axes)


def _by_dataset(frame) -> list[tuple]:
    """Name (of a folder the last part), rows and colour of each data set."""
    colours = ACCENT, CONTRAST, *class_colours(10)
    parts = zip(frame.groupby("dataset", sort=False), colours, strict=False)
    return [(short(PurePath(name).name, 24), part, colour) for (name, part), colour in parts]
