"""Linearity drawn: deviations by layer, paths to the fine-tuned model, and what edits do."""

import numpy as np
import pandas as pd

from ..checks import listed
from .marks import FAINT, UNIT, beside, curve, dots, errors, inches, new_axes, whole_numbers
from .style import ACCENT, MUTED, class_colours

WARM, VIOLET = "#c8553d", "#7b4ea3"
_PATHS = {
    "weights": ("black", "-", "weights: θ_pre + α τ"),
    "true class": (ACCENT, "-", "κ of the true class (knows the label)"),
    "nearest class": ("#3a9d5d", "-", "κ of the nearest class (no label)"),
    "wrong class": (WARM, "--", "κ of a wrong class"),
    "random direction": (MUTED, ":", "random direction of κ's length"),
}
_SQUARE = {"fmt": "s", "markerfacecolor": "white"}
_STYLES = {"class vector": "-", "random direction": ":"}


def deviation_curves(report, *, ax=None, title: str = ""):
    """Relative deviation over alpha by layer, beside the nearer end alone.

    Args:
        report: what `cross_task_linearity` gives.
    Returns:
        The Axes: a line with its 95 % band for each layer, the baseline dashed.
    """
    ax, rows = _by_layer(report, "deviation", ax)
    one = rows[rows["layer"] == rows["layer"].iloc[-1]]
    look = {"linestyle": "--", "color": "black", "label": "nearer end alone"}
    ax.plot(one["alpha"], one["trivial_deviation"], **look)
    ax.set(ylim=(0, None), ylabel="deviation, share of E|f_1 - f_0|", title=title)
    return beside(ax)


def cosine_curves(report, *, ax=None, title: str = ""):
    """Cosine to the mixture over alpha by layer; dotted, the nearer end alone.

    Args:
        report: what `cross_task_linearity` gives.
    Returns:
        The Axes.
    """
    ax, rows = _by_layer(report, "cosine", ax)
    for line, (_, own) in zip(ax.get_lines(), rows.groupby("layer", sort=False), strict=True):
        ax.plot(own["alpha"], own["nearer_end_cosine"], linestyle=":", color=line.get_color())
    ax.plot([], [], linestyle=":", color=MUTED, label="nearer end alone")
    ax.set(ylabel="cosine to the mixture", title=title)
    return beside(ax)


def deviation_by_layer(report, *, alpha: float = 0.5, ax=None, title: str = ""):
    """Deviation and cosine layer by layer, each beside its baseline.

    Args:
        report: what `cross_task_linearity` gives.
        alpha: the nearest of the report's is drawn.
    Returns:
        The Axes.
    """
    rows = report.summary()
    alpha = rows["alpha"].iloc[(rows["alpha"] - alpha).abs().argmin()]
    rows = rows[rows["alpha"] == alpha]
    ax, x = new_axes(ax, inches(len(rows), 0.55, 3.5, 6.5, 14), 3.8), np.arange(len(rows))
    for value, base, colour, name, other in (
        ("deviation", "trivial_deviation", ACCENT, "deviation", "deviation"),
        ("cosine", "nearer_end_cosine", WARM, "cosine to the mixture", "cosine"),
    ):
        dots(ax, rows, value, x, color=colour, label=name)
        look = {"marker": "_", "markersize": 16, "markeredgewidth": 1.6, "alpha": 0.6}
        label = f"{other} of the nearer end alone"
        ax.plot(x, rows[base], linestyle="none", color=colour, label=label, **look)
    ax.set_xticks(x, rows["layer"], rotation=30, ha="right", rotation_mode="anchor")
    bottom = min(0, rows["cosine"].min() - 0.05)
    said = f"at α = {alpha:g}, n = {rows['n'].iloc[0]}"
    ax.set(ylim=(bottom, 1.05), ylabel=said, title=title)
    return beside(ax)


def order_scatter(report, *, ax=None, title: str = ""):
    """delta(pre, i) against delta(i, j) of each pair; above the diagonal the order holds.

    Args:
        report: what `path_order` gives.
    Returns:
        The Axes.
    """
    ax, table = new_axes(ax, 6.6, 4.4), report.table
    for (kind, premise), rows in table.groupby(["kind", "premise"]):
        colour, as_is = ACCENT if premise else WARM, kind == "as is"
        look = {"color": colour, "capsize": 0, "markersize": 6, "linewidth": 0.8}
        look |= {"fmt": "o", "markerfacecolor": colour} if as_is else _SQUARE
        label = f"{kind}, premise {'holds' if premise else 'fails'} ({len(rows)})"
        across = errors(rows, "delta_pre")
        dots(ax, rows, "delta_between", rows["delta_pre"], xerr=across, label=label, **look)
    ends = [f"delta_{name}{end}" for name in ("pre", "between") for end in ("", "_high")]
    top = 1.08 * table[ends].to_numpy().max()
    ax.plot([0, top], [0, top], zorder=0, **FAINT)
    ax.set(xlim=(0, top), ylim=(0, top), aspect="equal", title=title)
    ax.set(xlabel="δ(pre, i)", ylabel="δ(i, j)")
    return beside(ax)


def path_accuracy(report, *, at: float | None = None, ax=None, title: str = ""):
    """Accuracy over alpha along the weights and along class vectors, with 95 % bands.

    Args:
        report: what `latent_paths` gives.
        at: an alpha to mark.
    Returns:
        The Axes.
    """
    ax = _paths(report.table, "accuracy", ("low", "high"), ax)
    ax.set(ylim=UNIT, ylabel="accuracy", title=title)
    return _marked(ax, at)


def path_distance(report, *, ax=None, title: str = ""):
    """How far each latent path is from the weight path, as a share of E|z_ft - z_pre|.

    Args:
        report: what `latent_paths` gives.
    Returns:
        The Axes.
    """
    ax = _paths(report.table.dropna(subset="deviation"), "deviation", None, ax)
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
    """One class moved to another: shares predicted with bands, pair probabilities dashed.

    Args:
        report: what `class_interpolation` gives; its crossings are marked.
        at: an alpha to mark.
        detours: of a `ClassPath`, the ranges of alpha in which a third class is predicted, shaded.
    Returns:
        The Axes.
    """
    ax, table = new_axes(ax, 7.6, 3.6), report.table
    for name, colour, label in (
        ("source", WARM, report.source),
        ("target", ACCENT, report.target),
        ("other", MUTED, "a third class"),
    ):
        look = {"color": colour, "marker": ".", "label": f"predicted: {label}"}
        curve(ax, table, "alpha", f"{name}_share", ends=(f"{name}_low", f"{name}_high"), **look)
        if name != "other":
            look = {"color": colour, "linestyle": "--", "label": f"pair probability: {label}"}
            ax.plot(table["alpha"], table[f"{name}_probability"], **look)
    for row, style in zip(report.crossing.itertuples(), ("-", "--"), strict=True):
        if np.isfinite(row.alpha):
            label = f"{row.of} cross: α = {row.alpha:.2f}"
            ax.axvline(row.alpha, color="black", linewidth=0.9, linestyle=style, label=label)
    for (first, last), rows in () if detours is None else detours.groupby(["first", "last"]):
        look = {"color": VIOLET, "alpha": 0.12, "linewidth": 0.8}
        ax.axvspan(first, last, label=f"passing {listed(rows['class'], 3)}", **look)
    ax.set(ylim=UNIT, xlabel="α of z - α κ_source + α κ_target", title=title)
    ax.set_ylabel(f"share, n = {table['n'].iloc[0]}")
    return beside(_marked(ax, at))


def scaling_curves(report, *, ax=None, title: str = ""):
    """Accuracy of the edited class and of the others over the strength of κ_c, with the control.

    Args:
        report: what `scaling` gives.
    Returns:
        The Axes.
    """
    columns = {"accuracy": ("", WARM, "class c"), "others": ("others_", ACCENT, "other classes")}
    ax = _with_control(report.summary(), "alpha", columns, "κ_c", ax)
    ax.axvline(0, **FAINT)
    ax.set(xlabel="α of z + α κ_c", ylabel="accuracy, mean of classes", title=title)
    return beside(ax)


def adding_curves(report, *, ax=None, title: str = ""):
    """Accuracy inside and outside a growing set of classes whose vectors are added up.

    Args:
        report: the report on additivity.
    Returns:
        The Axes.
    """
    columns = {
        "inside": ("inside_", WARM, "classes in the set"),
        "outside": ("outside_", ACCENT, "other classes"),
    }
    ax = _with_control(report.table, "k", columns, "sum of κ", ax, marker=".")
    ax.set(xlabel=f"classes in the set, λ = {report.lambda_:+g}", title=title)
    ax.set_ylabel("accuracy, mean of orders")
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
    ax, x = new_axes(ax, inches(len(rows), 0.45, 3.5, 6, 15), 3.4), np.arange(len(rows))
    shades = [ACCENT] * (len(rows) - 1) + ["#084b68"]
    ax.bar(x, rows["success"], color=shades, width=0.7, label="κ of the next class")
    look = {"fmt": "none", "color": "black", "linewidth": 0.9}
    dots(ax, rows, "success", x, ends=("low", "high"), **look)
    look = {"linestyle": "none", "marker": "_", "markersize": 12, "markeredgewidth": 2}
    ax.plot(x, rows["random"], color=WARM, label="random direction", **look)
    names = [f"{a} → {b}" if b else a for a, b in zip(rows["class"], rows["target"], strict=True)]
    turn = 45 if len(names) <= 25 else 90
    ax.set_xticks(x, names, rotation=turn, ha="right", rotation_mode="anchor")
    ax.set(ylim=(-0.03, 1.05), ylabel="predicted as the next class", title=title)
    return beside(ax)


def _marked(ax, at: float | None):
    """`ax` with a line at alpha = at, named in its legend."""
    if at is not None:
        ax.axvline(at, color="black", linewidth=1.6, label=f"α = {at:g}")
        if ax.get_legend() is not None:
            beside(ax)
    return ax


def _by_layer(report, value: str, ax):
    rows, ax = report.summary(), new_axes(ax, 7.6, 3.6)
    layers = dict(list(rows.groupby("layer", sort=False)))
    for (layer, own), colour in zip(layers.items(), class_colours(len(layers)), strict=True):
        look = {"marker": "o", "markersize": 4, "color": colour, "label": layer}
        curve(ax, own, "alpha", value, band=0.2, **look)
    ax.set_xlabel(f"α of (1 - α) θ_0 + α θ_1, n = {rows['n'].iloc[0]}")
    return ax, rows


def _with_control(rows: pd.DataFrame, x: str, columns: dict, name: str, ax, **look):
    ax = new_axes(ax, 7.6, 3.6)
    for direction, style in _STYLES.items():
        own, real = rows[rows["direction"] == direction], direction == "class vector"
        for column, (prefix, colour, label) in columns.items():
            ends = (f"{prefix}low", f"{prefix}high")
            label = f"{label}, {name if real else 'random'}"
            line = {"color": colour, "linestyle": style, "label": label, **look}
            curve(ax, own, x, column, ends=ends, band=0.15 * real, **line)
    ax.set_ylim(UNIT)
    return ax


def _paths(table: pd.DataFrame, value: str, ends, ax):
    ax = new_axes(ax, 7.8, 3.6)
    for path, (colour, style, label) in _PATHS.items():
        rows = table[table["path"] == path].sort_values("alpha")
        if len(rows):
            look = {"color": colour, "linestyle": style, "marker": ".", "label": label}
            curve(ax, rows, "alpha", value, ends=ends, **look)
    ax.set_xlabel("α" if table.empty else f"α, n = {table['n'].iloc[0]}")
    return beside(ax)
