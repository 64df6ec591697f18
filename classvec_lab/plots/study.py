"""Repeated experiments: measures over the number of classes and over the length of training."""

import numpy as np

from .marks import panels, whole_numbers
from .style import ACCENT, CONTRAST, MUTED, class_colours


def over_class_counts(runs, *, axes=None, title: str = ""):
    """Mean off-diagonal cosine over the number of classes, raw and centred, beside theory.

    Args:
        runs: one row a fine-tuning.
    Returns:
        The two Axes. A dot is one run, with the interval over its images, a cross its three-scalar
        expectation. The curve is -1/(C-1).
    """
    runs = runs[runs["epochs"] == runs["epochs"].max()]
    axes = panels(axes, 2, columns=2, size=(5.5, 3.8), sharey=True)
    grid = np.linspace(runs["n_classes"].min(), runs["n_classes"].max(), 200)
    parts = runs.groupby("dataset", sort=False)
    for ax, suffix, name in zip(
        axes, ("", "_centred"), ("raw", "centred on both sides"), strict=True
    ):
        ax.plot(grid, -1 / (grid - 1), color=MUTED, label="-1/(C-1)")
        ax.axhline(0, color="black", linewidth=0.6)
        for k, ((dataset, part), colour) in enumerate(zip(parts, _colours(), strict=False)):
            beside = 0.16 * (k - (len(parts) - 1) / 2)
            x = part["n_classes"] + beside + 0.05 * (part["draw"] - part["draw"].mean())
            if not suffix:
                ax.vlines(x, part["low"], part["high"], color=colour, linewidth=1)
                cross = {"marker": "x", "s": 34, "color": colour, "linewidth": 1}
                ax.scatter(x, part["expected"], label=f"{dataset}: expected", **cross)
            y, label = part[f"off_diagonal{suffix}"], f"{dataset}: measured"
            ax.scatter(x, y, s=20, color=colour, alpha=0.75, label=label)
        ax.set(xlabel="number of classes C", title=f"{name}{': ' if title else ''}{title}")
        whole_numbers(ax)
    axes[0].set_ylabel("mean off-diagonal cos(κ_c, z_ft^c')")
    axes[0].legend(loc="lower right")
    return axes


def over_epochs(
    runs,
    table,
    measures=("off_diagonal", "entries_sd", "shift_ratio", "explained", "nc1"),
    *,
    axes=None,
):
    """Measures over epochs at the largest number of classes: a dot a run, the line their mean.

    The 95 % interval of a mean is drawn where there are three runs or more.

    Args:
        runs: one row a fine-tuning.
        table: their means, one row a data set, number of classes, epochs and measure.
        measures: a panel each.
    Returns:
        The Axes.
    """
    runs, table = (t[t["n_classes"] == t["n_classes"].max()] for t in (runs, table))
    axes = panels(axes, len(measures), columns=len(measures), size=(2.9, 3.0))
    lengths = sorted(table["epochs"].unique())
    for ax, measure in zip(axes, measures, strict=True):
        means = table[table["measure"] == measure].sort_values("epochs")
        for (dataset, part), colour in zip(
            means.groupby("dataset", sort=False), _colours(), strict=False
        ):
            own = runs[runs["dataset"] == dataset]
            ax.scatter(own["epochs"], own[measure], s=12, color=colour, alpha=0.5, linewidths=0)
            ax.plot(part["epochs"], part["mean"], color=colour, label=dataset)
            known = part[part["n_runs"] > 2]
            ax.vlines(known["epochs"], known["low"], known["high"], color=colour, linewidth=1.2)
        low, high = runs[measure].min(), runs[measure].max()
        # the interval of few runs may reach far beyond what any of them shows
        margin = 0.15 * (high - low) or 0.1
        ax.set(xlabel="epochs", title=measure.replace("_", " "), ylim=(low - margin, high + margin))
        ax.set_xscale("log", base=2)
        ax.set_xticks(lengths, [str(e) for e in lengths])
        ax.minorticks_off()
    axes[0].legend()
    return axes


def _colours():
    return (ACCENT, CONTRAST, *class_colours(10))
