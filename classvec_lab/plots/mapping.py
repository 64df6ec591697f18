"""The strength of edits and their mappings into weights: what size buys, which samples move."""

from collections.abc import Sequence

import numpy as np
import pandas as pd

from ..checks import one_of
from .editing import legend_of_all, n_columns, split_panels
from .marks import FAINT, HOLLOW, UNIT, beside, counts, curve, dots, inches, panels
from .style import ACCENT, CONTRAST, MUTED, class_colours

_PAIR = (("acc_f", CONTRAST, "ACC_f"), ("acc_r", ACCENT, "ACC_r"))
_SHAPES = ("o", "s", "^", "D", "v", "P", "X", "<", ">", "p")
_MOST_DOTS = 400  # samples of a group that are drawn as dots


def strength_curves(
    curves: pd.DataFrame, *, gates: Sequence[str] | None = None, axes=None, title: str = ""
):
    """ACC_f and ACC_r over lambda, thin for each target and bold for their mean.

    Args:
        curves: `strength_curve`s joined, with columns target, gate and direction (and split). A
            panel for each direction, gate and split that is there.
        gates: those to draw, in this order; by default all.
    Returns:
        The Axes. With one target its own 95 % band is drawn.
    Raises:
        ValueError: for a gate without a curve.
    """
    for gate in gates or ():
        one_of(gate, list(dict.fromkeys(curves["gate"])), "gate", ValueError)
    curves = curves[curves["gate"].isin(gates)] if gates else curves
    parts = split_panels(curves, ("direction", "gate", "split"), {"gate": gates})
    several, n_gates = curves.get("direction", pd.Series()).nunique() > 1, curves["gate"].nunique()
    columns = min(n_gates if several and n_gates > 1 else len(parts), 3)
    axes, titles = _over_lambda(axes, len(parts), columns, title), []
    for ax, (name, part) in zip(axes, parts.items(), strict=True):
        n = part["target"].nunique()
        runs = [c for c in ("target", "seed", "draw") if c in part]
        for column, colour, label in _PAIR:
            for _, own in part.sort_values("lambda_").groupby(runs, sort=False):
                thin = {"linewidth": 0.8, "alpha": 0.3} if n > 1 else {"alpha": 0}
                band = 0.15 * (n == 1)
                curve(ax, own, "lambda_", column, band=band, color=colour, **thin)
            mean = part.groupby("lambda_")[column].mean()
            look = {"color": colour, "linewidth": 2.2, "marker": "."}
            ax.plot(mean, label=f"{label}, mean" if n > 1 else label, **look)
        said = f"class {part['target'].iloc[0]}, n = "
        said += f"{counts(part['n_f'])} and {counts(part['n_r'])}" if n == 1 else ""
        titles.append([name, f"n = {n} targets" if n > 1 else said])
    join = ": " if max(len("".join(words)) for words in titles) < 34 else "\n"
    for ax, words in zip(axes, titles, strict=True):
        ax.set_title(join.join(filter(None, words)))
    if curves["target"].nunique() > 1:
        axes[-1].plot([], [], label="one target", **FAINT)
    legend_of_all(axes)
    return axes


def mapping_scatter(frame: pd.DataFrame, *, axes=None, title: str = ""):
    """ACC_f and ACC_r of mappings against the numbers that they store, with 95 % intervals.

    Args:
        frame: one row a mapping: mapping, n_parameters, acc_f and acc_r with _low and _high,
            worst_acc_f, and perhaps n.
    Returns:
        The two Axes. Hollow: the worst target. Mappings of one size stand side by side, up to 5 %
        off their size each.
    Raises:
        ValueError: for a mapping that stores nothing, which a logarithmic axis has no place for.
    """
    axes = panels(axes, 2, columns=2, size=(4.4, 3.5), over=title)
    frame = frame.dropna(subset="n_parameters")
    for name in frame.loc[frame["n_parameters"] <= 0, "mapping"]:
        raise ValueError(f"mapping {name!r} stores no numbers: a logarithmic axis can't show it")
    sizes = frame.groupby("n_parameters")["mapping"]
    again, among = sizes.cumcount(), sizes.transform("size")
    spread = frame["n_parameters"].max() / frame["n_parameters"].min()
    reach = min(np.log(max(spread, 2)) / 60, 0.048)
    x = frame["n_parameters"] * np.exp(reach * (2 * again - among + 1) / (among - 1).clip(lower=1))
    for k, at in enumerate(x):
        row = frame.iloc[[k]]
        look = {"color": _colour(k, len(frame)), "markersize": 6.5}
        shape = _SHAPES[(k + k // 10) % len(_SHAPES)]
        for ax, column in zip(axes, ("acc_f", "acc_r"), strict=True):
            label = row["mapping"].iloc[0]
            dots(ax, row, column, [at], fmt=shape, linewidth=1.2, label=label, **look)
        axes[0].plot([at], row["worst_acc_f"], marker=shape, **look, **HOLLOW)
    axes[0].plot([], [], color="black", marker="o", label="worst target (hollow)", **HOLLOW)
    for ax, name in zip(axes, ("ACC_f, class to forget", "ACC_r, all other classes"), strict=True):
        ax.set(xscale="log", xlabel="numbers stored", ylabel=name)
    n = f", n = {counts(frame['n'])} targets" if "n" in frame else ""
    axes[0].set_title(f"mean, 95 % interval{n}")
    top = max(axes[0].get_ylim()[1], 0.1)
    axes[0].set_ylim(-0.03 * top, top)
    beside(axes[1], source=axes[0])
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
    groups, mappings = list(dict.fromkeys(frame["group"])), list(dict.fromkeys(frame["mapping"]))
    size = (inches(len(groups), 1.9, 2.4, 6, 14), 3.8)
    (ax,) = panels(None if ax is None else [ax], 1, columns=1, size=size)
    step, rng, frame = 0.8 / len(mappings), np.random.default_rng(0), frame.dropna(subset="amount")
    for level in (0, 1):
        ax.axhline(level, color="black", linestyle=":", linewidth=0.8, zorder=0)
    line = {"color": "black", "linewidth": 1.1}
    box = {f"{part}props": line for part in ("box", "whisker", "cap")}
    box |= {"medianprops": line | {"linewidth": 2.2}, "whis": (5, 95), "showfliers": False}
    cloud = {"s": 7, "alpha": 0.3, "linewidths": 0, "rasterized": True, "zorder": 1}
    labels = []
    for g, group in enumerate(groups):
        own = frame[frame["group"] == group].groupby("mapping")["amount"]
        labels.append(f"{group}\nn = {counts(own.count())}")
        for k, mapping in enumerate(mappings):
            if mapping not in own.groups:
                continue
            values = np.sort(own.get_group(mapping))
            x = g + step * (k - (len(mappings) - 1) / 2)
            chosen = np.linspace(0, len(values) - 1, min(len(values), _MOST_DOTS))
            dotted = values[np.unique(chosen.round().astype(int))]
            side = x + rng.uniform(-0.3, 0.3, len(dotted)) * step
            ax.scatter(side, dotted, color=_colour(k, len(mappings)), **cloud)
            where = {"positions": [x], "widths": 0.62 * step, "manage_ticks": False, "zorder": 2}
            ax.boxplot([values], **where, **box)
    for k, mapping in enumerate(mappings):
        ax.scatter([], [], s=28, color=_colour(k, len(mappings)), label=mapping)
    for g in range(1, len(groups)):
        ax.axvline(g - 0.5, color="0.88", linewidth=0.8, zorder=0)
    ax.set_xticks(range(len(groups)), labels)
    ax.tick_params(axis="x", length=0)
    ax.set(xlim=(-0.5, len(groups) - 0.5), ylabel="moved by, share of the step", title=title)
    return beside(ax)


def _over_lambda(axes, n: int, columns: int, title: str):
    """n panels of accuracies over lambda, in which the edit grows to the right."""
    size = (3.6 if n > 1 else 5.4, 3.1)
    axes = panels(axes, n, columns=columns, size=size, sharey=True, sharex=True, over=title)
    for i, ax in enumerate(axes):
        ax.axvline(-1, color="black", linestyle=":", linewidth=0.9)
        ax.axvline(0, color=MUTED, linewidth=0.6)
        ax.set_ylim(UNIT)
        if not ax.xaxis_inverted():
            ax.invert_xaxis()
        if i % n_columns(axes) == 0:
            ax.set_ylabel("accuracy")
        if i >= n - n_columns(axes):
            ax.set_xlabel("λ of z + λ κ_c")
    return axes


def _colour(k: int, n: int):
    """Colours that stay apart for the colour-blind, repeated beyond ten with other shapes."""
    return class_colours(min(n, 10))[k % 10]
