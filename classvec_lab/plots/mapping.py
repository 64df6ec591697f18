"""The strength of edits and their mappings into weights: what size buys, which samples move."""

import numpy as np
import pandas as pd

from .editing import gate_name
from .marks import (
    ACCURACIES,
    FAINT,
    UNIT,
    below,
    counts,
    dots,
    few_ticks,
    inches,
    name_rows,
    new_axes,
    panels,
    short,
)
from .style import ACCENT, CONTRAST, MUTED, WIDE, class_colours

_MOST_DOTS = 400  # samples of a group that are drawn one by one


def strength_curves(curves: pd.DataFrame, *, title: str = ""):
    """ACC_f and ACC_r over lambda, thin for each target and bold for their mean.

    Args:
        curves: `strength_curve`s joined, with columns target, seed and gate; a panel for each gate.
    Returns:
        The Axes.
    """
    parts = curves.groupby("gate", sort=False)
    axes = panels(len(parts), size=(3.0, 3.2), sharey=True, over=title)
    for ax, (gate, part) in zip(axes, parts, strict=True):
        over_lambda(ax, part, ["target", "seed"])
        ax.set(title=f"{gate_name(gate)}: n = {part['target'].nunique()} targets", ylabel="")
    axes[0].set_ylabel("accuracy")
    return below(axes)


def over_lambda(ax, curves: pd.DataFrame, each: list[str]) -> None:
    """The curves of one gate, in which the edit grows to the right; `each`: whose they are."""
    ax.axvline(-1, color="black", linestyle=":", linewidth=0.9)
    ax.axvline(0, color=MUTED, linewidth=0.6)
    for column, colour, name in ACCURACIES:
        for _, own in curves.sort_values("lambda_").groupby(each):
            ax.plot(own["lambda_"], own[column], color=colour, linewidth=0.8, alpha=0.3)
        mean = curves.groupby("lambda_")[column].mean()
        ax.plot(mean, ".-", color=colour, linewidth=2.2, label=f"{name}, mean")
    ax.plot([], [], label="one target", **FAINT)
    ax.set(ylim=UNIT, xlabel="λ of z + λ κ_c", ylabel="accuracy")
    ax.invert_xaxis()


def mapping_intervals(frame: pd.DataFrame, *, title: str = ""):
    """ACC_f and ACC_r of mappings with 95 % intervals, a row a mapping, the smallest first.

    Args:
        frame: what `summarise_mappings` gives.
    Returns:
        The two Axes. Hollow: the worst target. Behind each name is how many numbers it stores.
    """
    frame = frame.sort_values("n_parameters", kind="stable")
    axes = left, right = panels(2, size=(4.5, 0.3 * len(frame) + 1.6), sharey=True, over=title)
    look = {"along": "x", "color": ACCENT, "linewidth": 1.2}
    for ax, column in zip(axes, ("acc_f", "acc_r"), strict=True):
        dots(ax, frame, column, range(len(frame)), label="mean, 95 % interval", **look)
        few_ticks(ax, 5)
    worst = {"color": CONTRAST, "fillstyle": "none", "label": "worst target"}
    left.plot(frame["worst_acc_f"], range(len(frame)), "D", **worst)
    sizes = frame["n_parameters"].map("{:,.0f}".format).replace("nan", "unknown")
    name_rows(axes, frame["mapping"] + ": " + sizes)
    left.set_title(f"numbers stored; n = {counts(frame['n'])} targets")
    left.set(xlim=UNIT, xlabel="ACC_f, accuracy on the class to forget")
    right.set_xlabel("ACC_r, all other classes")
    return below(axes)


def displacement_strips(frame: pd.DataFrame, *, ax=None, title: str = ""):
    """How far mappings move the samples of each group, as a share of the step.

    Args:
        frame: one row a sample: mapping, group, amount.
    Returns:
        The Axes. The box holds the middle half, its line the median, the whiskers 90 % of the
        samples. Left of it a stroke is a sample; of large groups they are an evenly spaced
        selection. The dotted lines are 0, not moved, and 1, moved by the whole step.
    """
    groups, mappings = (list(frame[column].unique()) for column in ("group", "mapping"))
    frame = frame.dropna(subset="amount").sort_values("amount")
    ax = new_axes(ax, inches(len(groups), 1.9, 2.4, 6, WIDE), 3.8, title)
    step, colours = 0.8 / len(mappings), class_colours(len(mappings))
    for level in (0, 1):
        ax.axhline(level, color="black", linestyle=":", linewidth=0.8, zorder=0)
    look = {"alpha": 0.35, "linewidths": 0.6, "marker": "_", "rasterized": True}
    box = {"widths": 0.4 * step, "whis": (5, 95), "showfliers": False, "manage_ticks": False}
    box |= {"medianprops": {"color": "black", "linewidth": 2.2}}
    for k, (mapping, colour) in enumerate(zip(mappings, colours, strict=True)):
        ax.plot([], [], "s", color=colour, label=f"{mapping}, a stroke a sample")
        for group, own in frame[frame["mapping"] == mapping].groupby("group")["amount"]:
            x = groups.index(group) + step * (k - (len(mappings) - 1) / 2)
            chosen = np.linspace(0, len(own) - 1, min(len(own), _MOST_DOTS)).astype(int)
            strokes = np.full(len(chosen), x - 0.3 * step)
            ax.scatter(strokes, own.iloc[chosen], s=120, color=colour, **look)
            box["boxprops"] = {"color": colour, "linewidth": 1.6}
            ax.boxplot(own, positions=[x + 0.05 * step], **box)
    n = frame.groupby(["group", "mapping"])["amount"].count()
    ax.set_xticks(range(len(groups)), [f"{short(g, 24)}\nn = {counts(n[g])}" for g in groups])
    for g in range(1, len(groups)):
        ax.axvline(g - 0.5, color="0.88", linewidth=0.8, zorder=0)
    ax.tick_params(axis="x", length=0)
    ax.set(xlim=(-0.5, len(groups) - 0.5), ylabel="moved by, share of the step")
    return below(ax)
