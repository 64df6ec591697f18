"""The strength of edits and their mappings into weights: what size buys, which samples move."""

import numpy as np
import pandas as pd

from .editing import gate_name
from .marks import FAINT, HOLLOW, UNIT, beside, counts, dots, inches, new_axes, panels
from .style import ACCENT, CONTRAST, MUTED, class_colours

_SHAPES = ("o", "s", "^", "D", "v", "P", "X", "<", ">", "p")
_MOST_DOTS = 400  # samples of a group that are drawn as dots


def strength_curves(curves: pd.DataFrame, *, title: str = ""):
    """ACC_f and ACC_r over lambda, thin for each target and bold for their mean.

    Args:
        curves: `strength_curve`s joined, with columns target, seed and gate; a panel for each gate.
    Returns:
        The Axes.
    """
    parts = curves.groupby("gate", sort=False)
    axes = panels(len(parts), size=(3.6, 3.1), sharey=True, over=title)
    for ax, (gate, part) in zip(axes, parts, strict=True):
        over_lambda(ax, part, ["target", "seed"])
        ax.set(title=f"{gate_name(gate)}: n = {part['target'].nunique()} targets", ylabel="")
    axes[0].set_ylabel("accuracy")
    beside(*axes)
    return axes


def over_lambda(ax, curves: pd.DataFrame, each: list[str]) -> None:
    """The curves of one gate, in which the edit grows to the right; `each`: whose they are."""
    ax.axvline(-1, color="black", linestyle=":", linewidth=0.9)
    ax.axvline(0, color=MUTED, linewidth=0.6)
    for column, colour, name in (("acc_f", CONTRAST, "ACC_f"), ("acc_r", ACCENT, "ACC_r")):
        for _, own in curves.sort_values("lambda_").groupby(each):
            ax.plot(own["lambda_"], own[column], color=colour, linewidth=0.8, alpha=0.3)
        mean = curves.groupby("lambda_")[column].mean()
        ax.plot(mean, color=colour, linewidth=2.2, marker=".", label=f"{name}, mean")
    ax.plot([], [], label="one target", **FAINT)
    ax.set(ylim=UNIT, xlabel="λ of z + λ κ_c", ylabel="accuracy")
    ax.invert_xaxis()


def mapping_scatter(frame: pd.DataFrame, *, title: str = ""):
    """ACC_f and ACC_r of mappings against the numbers that they store, with 95 % intervals.

    Args:
        frame: what `summarise_mappings` gives.
    Returns:
        The two Axes. Hollow: the worst target. Mappings of one size stand side by side, 4 % apart.
    Raises:
        ValueError: for a mapping that stores nothing, which a logarithmic axis has no place for.
    """
    axes = panels(2, size=(4.4, 3.5), over=title)
    frame = frame.dropna(subset="n_parameters")
    for name in frame.loc[frame["n_parameters"] <= 0, "mapping"]:
        raise ValueError(f"mapping {name!r} stores no numbers: a logarithmic axis can't show it")
    sizes = frame.groupby("n_parameters")["mapping"]
    beside_it = sizes.cumcount() - (sizes.transform("size") - 1) / 2
    x, colours = frame["n_parameters"] * 1.04**beside_it, class_colours(min(len(frame), 10))
    for k, at in enumerate(x):
        row, shape = frame.iloc[[k]], _SHAPES[(k + k // 10) % 10]
        look = {"color": colours[k % 10], "markersize": 6.5}
        for ax, column in zip(axes, ("acc_f", "acc_r"), strict=True):
            label = row["mapping"].iloc[0]
            dots(ax, row, column, [at], fmt=shape, linewidth=1.2, label=label, **look)
        axes[0].plot([at], row["worst_acc_f"], marker=shape, **look, **HOLLOW)
    axes[1].plot([], [], color="black", marker="o", label="worst target (hollow)", **HOLLOW)
    for ax, name in zip(axes, ("ACC_f, class to forget", "ACC_r, all other classes"), strict=True):
        ax.set(xscale="log", xlabel="numbers stored", ylabel=name)
    axes[0].set_title(f"mean, 95 % interval, n = {counts(frame['n'])} targets")
    top = max(axes[0].get_ylim()[1], 0.1)
    axes[0].set_ylim(-0.03 * top, top)
    beside(*axes)
    return axes


def displacement_strips(frame: pd.DataFrame, *, ax=None, title: str = ""):
    """How far mappings move the samples of each group, as a share of the step.

    Args:
        frame: one row a sample: mapping, group, amount.
    Returns:
        The Axes. The box holds the middle half, its line the median, the whiskers 90 % of the
        samples. Of large groups the dots are an evenly spaced selection. The dotted lines are 0,
        not moved, and 1, moved by the whole step.
    """
    groups, mappings = (list(frame[column].unique()) for column in ("group", "mapping"))
    frame = frame.dropna(subset="amount").sort_values("amount")
    ax = new_axes(ax, inches(len(groups), 1.9, 2.4, 6, 14), 3.8)
    rng, step, colours = np.random.default_rng(0), 0.8 / len(mappings), class_colours(len(mappings))
    for level in (0, 1):
        ax.axhline(level, color="black", linestyle=":", linewidth=0.8, zorder=0)
    look = {"alpha": 0.3, "linewidths": 0, "rasterized": True, "zorder": 1}
    box = {"widths": 0.62 * step, "whis": (5, 95), "showfliers": False, "manage_ticks": False}
    box |= {"medianprops": {"color": "black", "linewidth": 2.2}}
    for k, (mapping, colour) in enumerate(zip(mappings, colours, strict=True)):
        ax.scatter([], [], s=28, color=colour, label=mapping)
        for group, own in frame[frame["mapping"] == mapping].groupby("group")["amount"]:
            x = groups.index(group) + step * (k - (len(mappings) - 1) / 2)
            chosen = np.linspace(0, len(own) - 1, min(len(own), _MOST_DOTS)).astype(int)
            side = x + 0.3 * step * rng.uniform(-1, 1, len(chosen))
            ax.scatter(side, own.iloc[chosen], s=7, color=colour, **look)
            ax.boxplot(own, positions=[x], **box)
    n = frame.groupby(["group", "mapping"])["amount"].count()
    ax.set_xticks(range(len(groups)), [f"{group}\nn = {counts(n[group])}" for group in groups])
    for g in range(1, len(groups)):
        ax.axvline(g - 0.5, color="0.88", linewidth=0.8, zorder=0)
    ax.tick_params(axis="x", length=0)
    ax.set(xlim=(-0.5, len(groups) - 0.5), ylabel="moved by, share of the step", title=title)
    return beside(ax)
