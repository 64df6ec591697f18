"""Repeated experiments: measures over the number of classes and over the length of training."""

import numpy as np

from .style import ACCENT, CONTRAST, MUTED, class_colours


def over_class_counts(runs, *, axes=None, title: str = ""):
    """Mean off-diagonal cosine over the number of classes, raw and centred, beside theory; returns the two Axes.

    runs: one row a fine-tuning. A dot is one run, with the interval over its images; a cross its three-scalar expectation; the curve is -1/(C-1).
    """
    import matplotlib.pyplot as plt

    runs = runs[runs["epochs"] == runs["epochs"].max()]
    if axes is None:
        _, axes = plt.subplots(1, 2, figsize=(11, 3.8), sharey=True)
    counts = np.linspace(runs["n_classes"].min(), runs["n_classes"].max(), 200)
    sets = list(dict.fromkeys(runs["dataset"]))
    for ax, suffix, name in zip(
        axes, ("", "_centred"), ("raw", "centred on both sides"), strict=True
    ):
        ax.plot(counts, -1 / (counts - 1), color=MUTED, label="-1/(C-1)")
        ax.axhline(0, color="black", linewidth=0.6)
        for k, (dataset, colour) in enumerate(
            zip(sets, (ACCENT, CONTRAST, *class_colours(10)), strict=False)
        ):
            part = runs[runs["dataset"] == dataset]
            x = (
                part["n_classes"]
                + 0.16 * (k - (len(sets) - 1) / 2)
                + 0.05 * (part["draw"] - part["draw"].mean())
            )
            y = part[f"off_diagonal{suffix}"]
            if not suffix:
                ax.vlines(x, part["low"], part["high"], color=colour, linewidth=1)
                ax.scatter(
                    x,
                    part["expected"],
                    marker="x",
                    s=34,
                    color=colour,
                    linewidth=1,
                    label=f"{dataset}: expected",
                )
            ax.scatter(x, y, s=20, color=colour, alpha=0.75, label=f"{dataset}: measured")
        ax.set(xlabel="number of classes C", title=f"{name}{': ' if title else ''}{title}")
        ax.xaxis.get_major_locator().set_params(integer=True)
    axes[0].set_ylabel("mean off-diagonal cos(κ_c, z_ft^c')")
    axes[0].legend(loc="lower right")
    return axes


def over_epochs(
    runs, table, measures=("off_diagonal", "entries_sd", "shift_ratio", "explained", "nc1"), *, axes=None
):
    """Measures over epochs at the largest number of classes: a dot a run, the line their mean; returns the Axes.

    runs: one row a fine-tuning; table: their means, see `over_draws`. The 95 % interval of a mean is drawn where there are three runs or more.
    """
    import matplotlib.pyplot as plt

    runs, table = (t[t["n_classes"] == t["n_classes"].max()] for t in (runs, table))
    if axes is None:
        _, axes = plt.subplots(1, len(measures), figsize=(2.9 * len(measures), 3.0))
    for ax, measure in zip(np.ravel(axes), measures, strict=True):
        for dataset, colour in zip(
            dict.fromkeys(table["dataset"]), (ACCENT, CONTRAST, *class_colours(10)), strict=False
        ):
            part = table[(table["dataset"] == dataset) & (table["measure"] == measure)].sort_values(
                "epochs"
            )
            own = runs[runs["dataset"] == dataset]
            ax.scatter(own["epochs"], own[measure], s=12, color=colour, alpha=0.5, linewidths=0)
            ax.plot(part["epochs"], part["mean"], color=colour, label=dataset)
            known = part[part["n_runs"] > 2]
            ax.vlines(known["epochs"], known["low"], known["high"], color=colour, linewidth=1.2)
        low, high = runs[measure].min(), runs[measure].max()
        margin = (
            0.15 * (high - low) or 0.1
        )  # the interval of few runs may reach far beyond what any of them shows
        ax.set(xlabel="epochs", title=measure.replace("_", " "), ylim=(low - margin, high + margin))
        ax.set_xscale("log", base=2)
        ax.set_xticks(
            sorted(table["epochs"].unique()), [str(e) for e in sorted(table["epochs"].unique())]
        )
        ax.minorticks_off()
    np.ravel(axes)[0].legend()
    return axes
