"""Repeated experiments: measures over the number of classes and over the length of training."""

import numpy as np

from .marks import panels, whole_numbers
from .style import ACCENT, CONTRAST, MUTED, class_colours

MEASURES = ("off_diagonal", "entries_sd", "shift_ratio", "explained", "nc1")


def over_class_counts(runs, *, title: str = ""):
    """Mean off-diagonal cosine over the number of classes, raw and centred, beside theory.

    Args:
        runs: one row a fine-tuning.
    Returns:
        The two Axes. A dot is one run, with the interval over its images, a cross its three-scalar
        expectation. The curve is -1/(C-1).
    """
    runs = runs[runs["epochs"] == runs["epochs"].max()]
    axes = panels(2, size=(5.5, 3.8), sharey=True)
    grid = np.linspace(runs["n_classes"].min(), runs["n_classes"].max(), 200)
    names = {"off_diagonal": "raw", "off_diagonal_centred": "centred on both sides"}
    for ax, (column, name) in zip(axes, names.items(), strict=True):
        ax.plot(grid, -1 / (grid - 1), color=MUTED, label="-1/(C-1)")
        ax.axhline(0, color="black", linewidth=0.6)
        for k, (dataset, part, colour) in enumerate(_by_dataset(runs)):
            beside = 0.16 * (k - (runs["dataset"].nunique() - 1) / 2)
            x = part["n_classes"] + beside + 0.05 * (part["draw"] - part["draw"].mean())
            if name == "raw":
                ax.vlines(x, part["low"], part["high"], color=colour, linewidth=1)
                cross = {"marker": "x", "s": 34, "color": colour, "linewidth": 1}
                ax.scatter(x, part["expected"], label=f"{dataset}: expected", **cross)
            look = {"s": 20, "color": colour, "alpha": 0.75, "label": f"{dataset}: measured"}
            ax.scatter(x, part[column], **look)
        ax.set(xlabel="number of classes C", title=f"{name}{': ' if title else ''}{title}")
        whole_numbers(ax)
    axes[0].set_ylabel("mean off-diagonal cos(κ_c, z_ft^c')")
    axes[0].legend(loc="lower right")
    return axes


def over_epochs(runs, table):
    """Measures over epochs at the largest number of classes: a dot a run, the line their mean.

    The 95 % interval of a mean is drawn where there are three runs or more.

    Args:
        runs: one row a fine-tuning.
        table: their means, one row a data set, number of classes, epochs and measure.
    Returns:
        The Axes, one a measure.
    """
    runs, table = (t[t["n_classes"] == t["n_classes"].max()] for t in (runs, table))
    axes = panels(len(MEASURES), size=(2.9, 3.0))
    lengths = sorted(table["epochs"].unique())
    for ax, measure in zip(axes, MEASURES, strict=True):
        for _, own, colour in _by_dataset(runs):
            ax.scatter(own["epochs"], own[measure], s=12, color=colour, alpha=0.5, linewidths=0)
        means = table[table["measure"] == measure].sort_values("epochs")
        for dataset, part, colour in _by_dataset(means):
            ax.plot(part["epochs"], part["mean"], color=colour, label=dataset)
            known = part[part["n_runs"] > 2]
            ax.vlines(known["epochs"], known["low"], known["high"], color=colour, linewidth=1.2)
        low, high = runs[measure].min(), runs[measure].max()
        # the interval of few runs may reach far beyond what any of them shows
        margin = 0.15 * (high - low) or 0.1
        ax.set(xlabel="epochs", title=measure.replace("_", " "), ylim=(low - margin, high + margin))
        ax.set_xscale("log", base=2)
        ax.set_xticks(lengths, map(str, lengths))
        ax.minorticks_off()
    axes[0].legend()
    return axes


def _by_dataset(frame) -> list[tuple]:
    """Name, rows and colour of each data set."""
    colours = ACCENT, CONTRAST, *class_colours(10)
    parts = frame.groupby("dataset", sort=False)
    return [(*part, colour) for part, colour in zip(parts, colours, strict=False)]
