"""Linearity drawn: deviations by layer, paths to the fine-tuned model, and what edits do."""

import pandas as pd

from ..checks import listed
from .marks import (
    FAINT,
    UNIT,
    beside,
    counts,
    curve,
    dots,
    errors,
    inches,
    mark,
    name_columns,
    new_axes,
    short,
    whole_numbers,
)
from .style import ACCENT, CONTRAST, MUTED, WIDE, class_colours

_PATHS = {
    "weights": ("black", "-", "weights: θ_pre + α τ"),
    "true class": (ACCENT, "-", "κ of the true class (knows the label)"),
    "nearest class": ("#3a9d5d", "-", "κ of the nearest class (no label)"),
    "wrong class": (CONTRAST, "--", "κ of a wrong class"),
    "random direction": (MUTED, ":", "random direction of κ's length"),
}
_MEASURES = {
    "accuracy": ("accuracy", UNIT),
    "deviation": ("distance to the weight path", (0, None)),
}


def deviation_curves(report, *, ax=None, title: str = ""):
    """Relative deviation over alpha by layer, beside the nearer end alone.

    Args:
        report: what `cross_task_linearity` gives.
    Returns:
        The Axes: a line with its 95 % band for each layer, the baseline dashed.
    """
    ax, layers = new_axes(ax, 8, 3.6, title), report.summary().groupby("layer", sort=False)
    for (layer, own), colour in zip(layers, class_colours(len(layers)), strict=True):
        look = {"marker": "o", "markersize": 4, "color": colour, "label": layer}
        curve(ax, own, "alpha", "deviation", band=0.2, **look)
    ax.plot(own["alpha"], own["trivial_deviation"], "k--", label="nearer end alone")
    xlabel = f"α of (1 - α) θ_0 + α θ_1, n = {own['n'].iloc[0]}"
    ax.set(ylim=(0, None), xlabel=xlabel, ylabel="deviation, share of E|f_1 - f_0|")
    return beside(ax)


def deviation_by_layer(report, *, ax=None, title: str = ""):
    """Deviation and cosine layer by layer at the alpha nearest to 1/2, each beside its baseline.

    Args:
        report: what `cross_task_linearity` gives.
    Returns:
        The Axes.
    """
    rows = report.summary()
    alpha = min(rows["alpha"], key=lambda alpha: abs(alpha - 0.5))
    rows = rows[rows["alpha"] == alpha]
    ax, x = new_axes(ax, inches(len(rows), 0.55, 4.2, 7, WIDE), 4.2, title), range(len(rows))
    for value, base, colour, name in (
        ("deviation", "trivial_deviation", ACCENT, "deviation"),
        ("cosine", "nearer_end_cosine", CONTRAST, "cosine to the mixture"),
    ):
        dots(ax, rows, value, x, color=colour, label=name)
        look = {"markersize": 16, "markeredgewidth": 1.6, "alpha": 0.6, "color": colour}
        ax.plot(x, rows[base], "_", label=f"{value} of the nearer end alone", **look)
    name_columns(ax, rows["layer"])
    bottom = min(0, rows["cosine"].min() - 0.05)
    said = f"at α = {alpha:g}, n = {rows['n'].iloc[0]}"
    ax.set(ylim=(bottom, 1.05), ylabel=said)
    return beside(ax)


def order_scatter(report, *, ax=None, title: str = ""):
    """delta(pre, i) against delta(i, j) of each pair; above the diagonal the order holds.

    Args:
        report: what `path_order` gives.
    Returns:
        The Axes.
    """
    ax, table = new_axes(ax, 7.6, 4.4, title), report.table
    for (kind, premise), rows in table.groupby(["kind", "premise"]):
        colour = ACCENT if premise else CONTRAST
        look = {"color": colour, "capsize": 0, "markersize": 6, "linewidth": 0.8}
        if kind != "as is":
            look |= {"fmt": "s", "markerfacecolor": "white"}
        label = f"{kind}, premise {'holds' if premise else 'fails'} ({len(rows)})"
        across = errors(rows, "delta_pre")
        dots(ax, rows, "delta_between", rows["delta_pre"], xerr=across, label=label, **look)
    ax.axline((0, 0), slope=1, zorder=0, **FAINT)
    ends = 0, 1.08 * table.filter(like="delta_").max(axis=None)
    ax.set(xlim=ends, ylim=ends, aspect="equal", xlabel="δ(pre, i)", ylabel="δ(i, j)")
    return beside(ax)


def over_path(
    report, *, value: str = "accuracy", at: float | None = None, ax=None, title: str = ""
):
    """Accuracy over alpha along the weights and along class vectors, with 95 % bands.

    Args:
        report: what `latent_paths` gives.
        value: "accuracy", or "deviation", how far each latent path is from the weight path, as a
            share of E|z_ft - z_pre|.
        at: an alpha to mark.
    Returns:
        The Axes.
    """
    ax, table = new_axes(ax, 8.4, 3.6, title), report.table
    for path, (colour, style, label) in _PATHS.items():
        rows = table[table["path"] == path].dropna(subset=value).sort_values("alpha")
        if len(rows):
            curve(ax, rows, "alpha", value, color=colour, linestyle=style, marker=".", label=label)
    mark(ax, at, "α = {:g}", linewidth=1.6)
    name, ends = _MEASURES[value]
    ax.set(ylim=ends, ylabel=name, xlabel=f"α, n = {table['n'].iloc[0]}")
    return beside(ax)


def class_shift(
    report,
    *,
    at: float | None = None,
    detours: pd.DataFrame | None = None,
    ax=None,
    title: str = "",
):
    """One class moved to another: shares predicted with bands, pair probabilities dashed.

    Args:
        report: what `class_interpolation` gives; its crossings are marked.
        at: an alpha to mark.
        detours: of a `ClassPath`, the ranges of alpha in which a third class is predicted, shaded.
    Returns:
        The Axes.
    """
    table = report.table.rename(columns=lambda name: name.removesuffix("_share"))
    ax = new_axes(ax, 8.4, 3.6, title)
    for name, colour, label in (
        ("source", CONTRAST, short(report.source, 20)),
        ("target", ACCENT, short(report.target, 20)),
        ("other", MUTED, "a third class"),
    ):
        curve(ax, table, "alpha", name, color=colour, marker=".", label=f"predicted: {label}")
        if name != "other":
            ax.plot(table["alpha"], table[f"{name}_probability"], "--", color=colour)
    ax.plot([], [], "k--", label="probability among the pair")
    for row, style in zip(report.crossing.itertuples(), ("-", "--"), strict=True):
        mark(ax, row.alpha, f"{row.of} cross: α = {{:.2f}}", linewidth=0.9, linestyle=style)
    for (first, last), rows in () if detours is None else detours.groupby(["first", "last"]):
        look = {"color": "#7b4ea3", "alpha": 0.12, "linewidth": 0.8}
        ax.axvspan(first, last, label=f"passing {listed(rows['class'], 3)}", **look)
    mark(ax, at, "α = {:g}", linewidth=1.6)
    ylabel = f"share, n = {table['n'].iloc[0]}"
    ax.set(ylim=UNIT, xlabel="α of z - α κ_source + α κ_target", ylabel=ylabel)
    return beside(ax)


def scaling_curves(report, *, ax=None, title: str = ""):
    """Accuracy of the edited class and of the others over the strength of κ_c, with the control.

    Args:
        report: what `scaling` gives.
    Returns:
        The Axes.
    """
    names = {"accuracy": "class c", "others": "other classes"}
    ax = _with_control(report.summary(), "alpha", names, "κ_c", ax, title)
    ax.axvline(0, **FAINT)
    ax.set(xlabel="α of z + α κ_c", ylabel="accuracy, mean of classes")
    return beside(ax)


def adding_curves(report, *, ax=None, title: str = ""):
    """Accuracy inside and outside a growing set of classes whose vectors are added up.

    Args:
        report: the report on additivity.
    Returns:
        The Axes.
    """
    names = {"inside": "classes in the set", "outside": "other classes"}
    ax = _with_control(report.table, "k", names, "sum of κ", ax, title)
    xlabel = f"classes in the set, λ = {report.lambda_:+g}"
    ax.set(xlabel=xlabel, ylabel="accuracy, mean of orders")
    whole_numbers(ax)
    return beside(ax)


def shift_bars(report, *, ax=None, title: str = ""):
    """Success of the cyclic shift per class with its interval, and of random directions.

    Args:
        report: what `cyclic_shift` gives.
    Returns:
        The Axes.
    """
    rows = report.table.dropna(subset="success")
    ax, x = new_axes(ax, inches(len(rows), 0.45, 3.5, 6, WIDE), 4.2, title), range(len(rows))
    shades = [ACCENT] * (len(rows) - 1) + ["#084b68"]
    ax.bar(x, rows["success"], color=shades, width=0.7, label="κ of the next class")
    dots(ax, rows, "success", x, fmt="none", color="black", linewidth=0.9)
    look = {"markersize": 12, "markeredgewidth": 2, "color": CONTRAST}
    ax.plot(x, rows["random"], "_", label="random direction", **look)
    pairs = zip(rows["class"].map(short), rows["target"].map(short), strict=True)
    name_columns(ax, [f"{a} → {b}" if b and len(rows) <= 20 else a for a, b in pairs])
    ax.set(ylim=UNIT, ylabel=f"predicted as the next, n = {counts(rows['n'][:-1])}")
    return beside(ax)


def _with_control(rows: pd.DataFrame, x: str, names: dict[str, str], edit: str, ax, title: str):
    """Two accuracies over x, along class vectors with bands and along random directions."""
    ax = new_axes(ax, 8, 3.6, title)
    for direction, style, name, band in (
        ("class vector", "-", edit, 0.15),
        ("random direction", ":", "random", 0),
    ):
        own = rows[rows["direction"] == direction]
        for (column, label), colour in zip(names.items(), (CONTRAST, ACCENT), strict=True):
            look = {"color": colour, "linestyle": style, "label": f"{label}, {name}"}
            curve(ax, own, x, column, band=band, marker=".", **look)
    ax.set_ylim(UNIT)
    return ax
