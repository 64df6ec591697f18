"""Linearity: deviations by layer and alpha, paths to the fine-tuned model, and edits that move, add and shift classes."""

import numpy as np
import pandas as pd

from .style import ACCENT, MUTED, class_colours

WARM, VIOLET = "#c8553d", "#7b4ea3"
_PATHS = {
    "weights": ("black", "-", "weights: θ_pre + α τ"),
    "true class": (ACCENT, "-", "κ of the true class (knows the label)"),
    "nearest class": ("#3a9d5d", "-", "κ of the nearest class (no label)"),
    "wrong class": (WARM, "--", "κ of a wrong class"),
    "random direction": (MUTED, ":", "random direction of κ's length"),
}


def deviation_curves(report, *, ax=None, title: str = ""):
    """Relative deviation over alpha, a line with its 95 % band for each layer, beside the nearer end alone; returns the Axes."""
    return _curves(
        report, "deviation", "trivial_deviation", "deviation, share of E|f_1 - f_0|", ax, title
    )


def cosine_curves(report, *, ax=None, title: str = ""):
    """Cosine to the mixture over alpha for each layer; dotted, the nearer end alone; returns the Axes."""
    return _curves(report, "cosine", "nearer_end_cosine", "cosine to the mixture", ax, title)


def deviation_by_layer(report, *, alpha: float = 0.5, ax=None, title: str = ""):
    """Deviation and cosine layer by layer at the alpha nearest to `alpha`, each beside its baseline; returns the Axes."""
    rows = report.summary()
    alpha = rows["alpha"].iloc[(rows["alpha"] - alpha).abs().argmin()]
    rows = rows[rows["alpha"] == alpha]
    ax = _axes(ax, (float(np.clip(3.5 + 0.55 * len(rows), 6.5, 14)), 3.8))
    x = np.arange(len(rows))
    for value, base, colour, name, other in (
        (
            "deviation",
            "trivial_deviation",
            ACCENT,
            "deviation",
            "deviation of the nearer end alone",
        ),
        (
            "cosine",
            "nearer_end_cosine",
            WARM,
            "cosine to the mixture",
            "cosine of the nearer end alone",
        ),
    ):
        errors = np.abs(
            rows[[f"{value}_low", f"{value}_high"]].to_numpy().T - rows[value].to_numpy()
        )
        ax.errorbar(
            x, rows[value], yerr=errors, fmt="o", color=colour, capsize=2, markersize=5, label=name
        )
        ax.plot(
            x,
            rows[base],
            linestyle="none",
            marker="_",
            markersize=16,
            markeredgewidth=1.6,
            color=colour,
            label=other,
            alpha=0.6,
        )
    ax.set_xticks(x, rows["layer"], rotation=30, ha="right", rotation_mode="anchor")
    ax.set(
        ylim=(min(0, rows["cosine"].min() - 0.05), 1.05),
        ylabel=f"at α = {alpha:g}, n = {rows['n'].iloc[0]}",
        title=title,
    )
    return _beside(ax)


def order_scatter(report, *, ax=None, title: str = ""):
    """delta(pre, i) against delta(i, j) of each pair, with intervals; above the diagonal the order holds; returns the Axes."""
    ax = _axes(ax, (6.6, 4.4))
    colours = {True: ACCENT, False: WARM}
    for (kind, premise), rows in report.table.groupby(["kind", "premise"]):
        x, y = rows["delta_pre"], rows["delta_between"]
        errors = [
            np.abs(rows[[f"{v.name}_low", f"{v.name}_high"]].to_numpy().T - v.to_numpy())
            for v in (x, y)
        ]
        face = colours[bool(premise)] if kind == "as is" else "white"
        label = f"{kind}, premise {'holds' if premise else 'fails'} ({len(rows)})"
        ax.errorbar(
            x, y, xerr=errors[0], yerr=errors[1], fmt="o" if kind == "as is" else "s",
            color=colours[bool(premise)], markerfacecolor=face, markersize=6, linewidth=0.8, label=label,
        )  # fmt: skip
    top = (
        1.08
        * report.table[["delta_pre_high", "delta_between_high", "delta_pre", "delta_between"]]
        .to_numpy()
        .max()
    )
    ax.plot([0, top], [0, top], color=MUTED, linewidth=0.8, zorder=0)
    ax.set(
        xlim=(0, top),
        ylim=(0, top),
        aspect="equal",
        xlabel="δ(pre, i)",
        ylabel="δ(i, j)",
        title=title,
    )
    return _beside(ax)


def path_accuracy(report, *, at: float | None = None, ax=None, title: str = ""):
    """Accuracy over alpha along the weights and along class vectors, with 95 % bands, one alpha marked; returns the Axes."""
    ax = _paths(report.table, "accuracy", ("low", "high"), ax)
    ax.set(ylim=(-0.03, 1.03), ylabel="accuracy", title=title)
    return _marked(ax, at)


def path_distance(report, *, ax=None, title: str = ""):
    """How far each latent path is from the weight path, as a share of E|z_ft - z_pre|; returns the Axes."""
    ax = _paths(
        report.table.dropna(subset="deviation"),
        "deviation",
        ("deviation_low", "deviation_high"),
        ax,
    )
    ax.set(ylim=(0, None), ylabel="distance to the weight path", title=title)
    return ax


def class_shift(
    report,
    *,
    at: float | None = None,
    detours: pd.DataFrame | None = None,
    ax=None,
    title: str = "",
):
    """One class moved to another: prediction shares with bands, pair probabilities dashed, crossings marked; returns the Axes.

    at: an alpha to mark; detours: of a `ClassPath`, the ranges of alpha in which a third class is predicted, shaded.
    """
    ax = _axes(ax, (7.6, 3.6))
    table = report.table
    for name, colour, label in (
        ("source", WARM, report.source),
        ("target", ACCENT, report.target),
        ("other", MUTED, "a third class"),
    ):
        ax.plot(
            table["alpha"],
            table[f"{name}_share"],
            color=colour,
            marker=".",
            label=f"predicted: {label}",
        )
        ax.fill_between(
            table["alpha"],
            table[f"{name}_low"],
            table[f"{name}_high"],
            color=colour,
            alpha=0.15,
            linewidth=0,
        )
        if name != "other":
            ax.plot(
                table["alpha"],
                table[f"{name}_probability"],
                color=colour,
                linestyle="--",
                label=f"pair probability: {label}",
            )
    for row, style in zip(report.crossing.itertuples(), ("-", "--"), strict=True):
        if np.isfinite(row.alpha):
            ax.axvline(
                row.alpha,
                color="black",
                linewidth=0.9,
                linestyle=style,
                label=f"{row.of} cross: α = {row.alpha:.2f}",
            )
    if detours is not None:
        for (first, last), rows in detours.groupby(["first", "last"]):
            ax.axvspan(
                first,
                last,
                color=VIOLET,
                alpha=0.12,
                linewidth=0.8,
                label=f"passing {_some(list(rows['class']))}",
            )
    ax.set(
        ylim=(-0.03, 1.03),
        xlabel="α of z - α κ_source + α κ_target",
        ylabel=f"share, n = {table['n'].iloc[0]}",
        title=title,
    )
    return _beside(_marked(ax, at))


def scaling_curves(report, *, ax=None, title: str = ""):
    """Accuracy of the edited class and of the others over the strength of κ_c, with the random control; returns the Axes."""
    ax, summary = _axes(ax, (7.6, 3.6)), report.summary()
    for direction, style, note in (
        ("class vector", "-", "κ_c"),
        ("random direction", ":", "random"),
    ):
        rows = summary[summary["direction"] == direction]
        for column, prefix, colour, name in (
            ("accuracy", "", WARM, "class c"),
            ("others", "others_", ACCENT, "other classes"),
        ):
            ax.plot(
                rows["alpha"], rows[column], color=colour, linestyle=style, label=f"{name}, {note}"
            )
            if style == "-":
                ax.fill_between(
                    rows["alpha"],
                    rows[f"{prefix}low"],
                    rows[f"{prefix}high"],
                    color=colour,
                    alpha=0.15,
                    linewidth=0,
                )
    ax.axvline(0, color=MUTED, linewidth=0.8)
    ax.set(
        ylim=(-0.03, 1.03), xlabel="α of z + α κ_c", ylabel="accuracy, mean of classes", title=title
    )
    return _beside(ax)


def adding_curves(report, *, ax=None, title: str = ""):
    """Accuracy inside and outside a growing set of classes whose vectors are added up, with the control; returns the Axes."""
    ax = _axes(ax, (7.6, 3.6))
    for direction, style, note in (
        ("class vector", "-", "sum of κ"),
        ("random direction", ":", "random"),
    ):
        rows = report.table[report.table["direction"] == direction]
        for name, colour, label in (
            ("inside", WARM, "classes in the set"),
            ("outside", ACCENT, "other classes"),
        ):
            ax.plot(
                rows["k"],
                rows[name],
                color=colour,
                linestyle=style,
                marker=".",
                label=f"{label}, {note}",
            )
            if style == "-":
                ax.fill_between(
                    rows["k"],
                    rows[f"{name}_low"],
                    rows[f"{name}_high"],
                    color=colour,
                    alpha=0.15,
                    linewidth=0,
                )
    ax.set(
        ylim=(-0.03, 1.03),
        xlabel=f"classes in the set, λ = {report.lambda_:+g}",
        ylabel="accuracy, mean of orders",
        title=title,
    )
    ax.xaxis.get_major_locator().set_params(integer=True)
    return _beside(ax)


def shift_bars(report, *, ax=None, title: str = ""):
    """Success of the cyclic shift per class with its interval, and of random directions; returns the Axes."""
    rows = report.table.dropna(subset="success")
    ax = _axes(ax, (float(np.clip(3.5 + 0.45 * len(rows), 6, 15)), 3.4))
    x = np.arange(len(rows))
    errors = np.abs(rows[["low", "high"]].to_numpy().T - rows["success"].to_numpy())
    ax.bar(
        x,
        rows["success"],
        color=[ACCENT] * (len(rows) - 1) + ["#084b68"],
        width=0.7,
        label="κ of the next class",
    )
    ax.errorbar(
        x, rows["success"], yerr=errors, fmt="none", color="black", linewidth=0.9, capsize=2
    )
    ax.plot(
        x,
        rows["random"],
        linestyle="none",
        marker="_",
        markersize=12,
        markeredgewidth=2,
        color=WARM,
        label="random direction",
    )
    names = [f"{a} → {b}" if b else a for a, b in zip(rows["class"], rows["target"], strict=True)]
    ax.set_xticks(
        x, names, rotation=45 if len(names) <= 25 else 90, ha="right", rotation_mode="anchor"
    )
    ax.set(ylim=(-0.03, 1.05), ylabel="predicted as the next class", title=title)
    return _beside(ax)


def _axes(ax, size):
    import matplotlib.pyplot as plt

    return ax if ax is not None else plt.subplots(figsize=size)[1]


def _some(names: list[str], most: int = 3) -> str:
    return ", ".join(names[:most]) + (f" and {len(names) - most} more" if len(names) > most else "")


def _marked(ax, at: float | None):
    """`ax` with a line at alpha = at, named in its legend."""
    if at is not None:
        ax.axvline(at, color="black", linewidth=1.6, label=f"α = {at:g}")
        if ax.get_legend() is not None:
            _beside(ax)
    return ax


def _beside(ax):
    ax.legend(loc="upper left", bbox_to_anchor=(1.01, 1))
    return ax


def _curves(report, value: str, baseline: str, label: str, ax, title: str):
    rows = report.summary()
    layers = list(dict.fromkeys(rows["layer"]))
    ax = _axes(ax, (7.6, 3.6))
    for layer, colour in zip(layers, class_colours(len(layers)), strict=True):
        part = rows[rows["layer"] == layer]
        ax.plot(part["alpha"], part[value], marker="o", markersize=4, color=colour, label=layer)
        ax.fill_between(
            part["alpha"],
            part[f"{value}_low"],
            part[f"{value}_high"],
            color=colour,
            alpha=0.2,
            linewidth=0,
        )
        if value == "cosine":
            ax.plot(part["alpha"], part[baseline], linestyle=":", color=colour)
    if value == "deviation":
        ax.plot(
            part["alpha"], part[baseline], linestyle="--", color="black", label="nearer end alone"
        )
        ax.set_ylim(0, None)
    else:
        ax.plot([], [], linestyle=":", color=MUTED, label="nearer end alone")
    ax.set(xlabel=f"α of (1 - α) θ_0 + α θ_1, n = {rows['n'].iloc[0]}", ylabel=label, title=title)
    return _beside(ax)


def _paths(table: pd.DataFrame, value: str, ends: tuple[str, str], ax):
    ax = _axes(ax, (7.8, 3.6))
    for path, (colour, style, label) in _PATHS.items():
        rows = table[table["path"] == path].sort_values("alpha")
        if len(rows):
            ax.plot(
                rows["alpha"], rows[value], color=colour, linestyle=style, marker=".", label=label
            )
            ax.fill_between(
                rows["alpha"], rows[ends[0]], rows[ends[1]], color=colour, alpha=0.15, linewidth=0
            )
    ax.set_xlabel("α" if table.empty else f"α, n = {table['n'].iloc[0]}")
    return _beside(ax)
