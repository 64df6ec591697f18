"""Methods against each other, gates and strengths of an edit, and how far mappings move samples."""

from collections import Counter

import numpy as np
import pandas as pd

from .marks import (
    ACCURACIES,
    FAINT,
    UNIT,
    below,
    counts,
    dots,
    few_ticks,
    inches,
    mark,
    name_rows,
    new_axes,
    panels,
    short,
)
from .style import ACCENT, CONTRAST, MUTED, SMALL, WIDE, class_colours

FINE_TUNED = "fine-tuned"
SETTING = ["method", "family", "gate", "chosen"]
CONTROL = "random vector"
_FAMILIES = {
    "reference": "black",
    "trivial": "#de8f05",
    "latent edit": ACCENT,
    CONTROL: MUTED,
    "weight mapping": CONTRAST,
    "eraser": "#a35aa3",
    "training": "#3a9d5d",
}
_MARKERS = ("os", "v8", "^p", "D<", "hX", "P>", "dH")
_FILLS = ("full", "none", "bottom", "top", "left", "right")
_ROW, _PLANE = 0.17, 2.2  # inches: of a setting's row, and of the plane above the rows
_BASE = {"linestyle": "--", "linewidth": 0.9}
_SPAN = {"along": "x", "markersize": 5.5, "linewidth": 1.2}
_WORST = {"markersize": 5, "fillstyle": "none"}


def trade_off(table: pd.DataFrame, *, like: pd.DataFrame | None = None, ax=None, title: str = ""):
    """ACC_f over ACC_r, a point for each method and target, above a row for each setting.

    Targets with ACC_f exactly 0 stand in the row of their setting and not in the plane; beside it
    are its mark in the plane and how many they are. Colour is the family, with random directions
    in grey as their control. The dashed line is the fine-tuned model's mean ACC_r. The means of
    settings that keep less than half of it are written instead of drawn.

    Args:
        table: `ForgetStudy.table`.
        like: a table with more methods, whose rows and marks this figure has.
    Returns:
        The Axes.
    """
    from matplotlib.transforms import offset_copy

    table = table.dropna(subset=["acc_f", "acc_r"])
    means = (table if like is None else like).groupby(SETTING, sort=False)
    means = means[["lambda_", "acc_f", "acc_r"]].mean().reset_index()
    looks, names, targets = _looks(means), setting_names(means), table["target"].nunique()
    title = f"{title}{': ' if title else ''}n = {targets} targets{_starred(names)}"
    given = ax is not None
    ax = new_axes(ax, 8.6, _PLANE + _ROW * len(means) + 1.6, title)
    base = table.loc[table["method"] == FINE_TUNED, "acc_r"].mean()
    rows = -0.08 - _ROW / _PLANE * np.arange(1, len(means) + 1)
    key, told = (
        {"transform": offset_copy(ax.get_yaxis_transform(), ax.figure, x, units="points")}
        for x in (7, 14)
    )
    told |= {"fontsize": SMALL, "va": "center"}
    for (setting, look), name, y in zip(looks.items(), names, rows, strict=True):
        part = table[(table[SETTING] == list(setting)).all(axis=1)]
        gone, middle = part["acc_f"] == 0, part[["acc_f", "acc_r"]].mean()
        if middle["acc_r"] < 0.5 * base:
            said = f"← mean ACC_r {middle['acc_r']:.2f}, ACC_f {middle['acc_f']:.2f}"
            ax.text(0, y, said, **told)
            continue
        place = part["acc_f"].mask(gone, y)
        ax.plot(part["acc_r"], place, linestyle="none", gid=name, alpha=0.6, **look)
        ax.plot([1], [y], clip_on=False, **look, **key)
        ax.text(1, y, f"{gone.sum()} of {len(part)}" if len(part) else "not run", **told)
    ax.text(1, -0.02, "at 0:", **told)
    ax.axhspan(rows[-1] - 0.06, -0.08, color=MUTED, alpha=0.12, linewidth=0, zorder=0)
    ticks = np.linspace(0, 1, 6)
    ax.set_yticks([*ticks, *rows], [f"{tick:.1f}" for tick in ticks] + names, fontsize=SMALL)
    ax.set(ylim=(rows[-1] - 0.06, 1.04), xlabel="ACC_r, all other classes")
    ax.set_ylabel("ACC_f, class to forget", loc="top")
    mark(ax, base, "fine-tuned, mean ACC_r {:.3f}", zorder=1, **_BASE)
    for family in dict.fromkeys(map(_family, looks)):
        ax.plot([], [], "o", label=family, color=_colour(family))
    return below(ax, columns=2 if given else 4)


def method_intervals(summary: pd.DataFrame, *, title: str = ""):
    """ACC_f and ACC_r of every method with 95 % intervals, a row a setting.

    Hollow: the worst target, named where it keeps more than the interval says. Dashed: the
    fine-tuned model's ACC_r. An ACC_r under half of that is written at the left edge.

    Args:
        summary: `ForgetStudy.summary()`.
    Returns:
        The two Axes.
    """
    axes = left, right = panels(2, size=(4.5, 0.27 * len(summary) + 1.6), sharey=True, over=title)
    base = summary.loc[summary["method"] == FINE_TUNED, "acc_r"].mean()
    for family, rows in summary.assign(y=range(len(summary))).groupby("family", sort=False):
        near, colour = rows[~(rows["acc_r"] < 0.5 * base)], _colour(family)
        dots(left, rows, "acc_f", rows["y"], color=colour, label=family, **_SPAN)
        dots(right, near, "acc_r", near["y"], color=colour, **_SPAN)
        left.plot(rows["worst_acc_f"], rows["y"], "D", color=colour, **_WORST)
        look = {"va": "center", "fontsize": SMALL, "color": colour}
        for row in rows.itertuples():
            known = np.nanmax([row.acc_f, row.acc_f_high])
            if family != "reference" and row.worst_acc_f > known + 0.01:
                where = {"xytext": (7, 0), "textcoords": "offset points"}
                left.annotate(short(row.worst_target), (row.worst_acc_f, row.y), **where, **look)
            if row.acc_r < 0.5 * base:
                said = f"← {row.acc_r:.2f} [{row.acc_r_low:.2f}, {row.acc_r_high:.2f}]"
                right.text(0.015, row.y, said, transform=right.get_yaxis_transform(), **look)
        for ax in axes:
            ax.axhline(rows["y"].max() + 0.5, color=MUTED, linewidth=0.5, alpha=0.6)
    left.plot([], [], "kD", label="worst target", **_WORST)
    mark(right, base, "fine-tuned, ACC_r", **_BASE)
    (usual, unit), names = summary[["n", "unit"]].value_counts().index[0], setting_names(summary)
    counted = [f"{a} (n = {n})" for a, n in zip(names, summary["n"], strict=True)]
    name_rows(axes, np.where(summary["n"] == usual, names, counted))
    left.set(xlim=(-0.03, 1.3), xlabel="ACC_f, accuracy on the class to forget")  # room for names
    left.set_xticks(np.linspace(0, 1, 6))
    left.set_title(f"mean of n = {usual} {unit}, 95 % interval{_starred(names)}")
    right.set_xlabel("ACC_r, all other classes")
    few_ticks(right, 5)
    return below(axes)


def gate_curves(curves: pd.DataFrame, *, stated: float = 0.01, title: str = ""):
    """False-fire rate and miss rate of a gate over its threshold, a line for each target.

    Rates are on a scale that is linear up to `stated` and logarithmic above it.

    Args:
        curves: `gate_curve`s of one score joined, with a column split; a panel for each split.
        stated: the false-fire rate that the gates were calibrated to, dotted.
    Returns:
        The Axes. Dots mark the thresholds in use.
    """
    parts = curves.groupby("split", sort=False)
    axes = panels(len(parts), size=(4.4, 3.6), sharey=True, over=title)
    for ax, (split, part) in zip(axes, parts, strict=True):
        used = part[part["chosen"]]
        for column, colour, name, style in (
            ("false_fire", ACCENT, "false fire", "-"),
            ("miss", CONTRAST, "miss", "--"),
        ):
            look = {"color": colour, "linestyle": style, "alpha": 0.45, "linewidth": 1}
            for _, own in part.sort_values("threshold").groupby("target"):
                ax.plot(own["threshold"], own[column], label=f"{name}, a line a target", **look)
            look = {"color": colour, "markeredgecolor": "white", "zorder": 3, "markersize": 5}
            label = f"{name} at the threshold in use"
            ax.plot(used["threshold"], used[column], "o", label=label, **look)
        label = f"false fire asked for: {stated:g}"
        ax.axhline(stated, color="black", linestyle=":", linewidth=1.1, label=label)
        ax.set_yscale("symlog", linthresh=stated)
        ticks = [0, stated, *(t for t in (0.01, 0.1, 1.0) if t > stated)]
        ax.set_yticks(ticks, [f"{t:g}" for t in ticks])
        ax.minorticks_off()
        title = f"{split}: n = {part['target'].nunique()} targets"
        xlabel = f"threshold on the {part['score'].iloc[0]} score"
        ax.set(ylim=(-0.08 * stated, 1.4), title=title, xlabel=xlabel)
    axes[0].set_ylabel("rate")
    return below(axes, columns=3)


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


def displacement_strips(frame: pd.DataFrame, *, ax=None, title: str = ""):
    """How far mappings move the samples of each group, as a share of the step.

    Args:
        frame: one row a sample: mapping, group, amount.
    Returns:
        The Axes. The dot is the median, its bar holds the middle 90 % of the samples; a stroke is
        a sample. The dotted lines are 0, not moved, and 1, moved by the whole step.
    """
    import seaborn as sns

    groups, frame = list(frame["group"].unique()), frame.dropna(subset="amount")
    ax = new_axes(ax, inches(len(groups), 1.9, 2.4, 6, WIDE), 3.8, title)
    for level in (0, 1):
        ax.axhline(level, color="black", linestyle=":", linewidth=0.8, zorder=0)
    hues = frame["mapping"].nunique()
    look = {"x": "group", "y": "amount", "hue": "mapping", "order": groups, "ax": ax}
    look["palette"] = class_colours(hues)
    strokes = {"marker": "_", "s": 24, "linewidth": 0.6, "alpha": 0.35, "rasterized": True}
    sns.stripplot(frame, **look, **strokes, dodge=True, jitter=False, legend=False, zorder=1)
    dots = {"markersize": 7, "markeredgecolor": "black", "err_kws": {"color": "black"}}
    middle = {"estimator": "median", "errorbar": ("pi", 90), "linestyle": "none"}
    sns.pointplot(frame, **look, **middle, **dots, dodge=0.8 - 0.8 / hues)
    n = frame.groupby(["group", "mapping"])["amount"].count()
    ax.set_xticks(range(len(groups)), [f"{short(g, 24)}\nn = {counts(n[g])}" for g in groups])
    for g in range(1, len(groups)):
        ax.axvline(g - 0.5, color="0.88", linewidth=0.8, zorder=0)
    ax.tick_params(axis="x", length=0)
    ax.set(xlabel="a stroke a sample, median and middle 90 %", ylabel="moved by, share of the step")
    return below(ax)


def setting_names(frame: pd.DataFrame) -> list[str]:
    """A name for each row of a summary: method, gate where that tells something, and lambda.

    Lambda is starred where it was chosen on val.
    """
    gates, names = frame.groupby("method")["gate"].transform("nunique"), []
    for row, several in zip(frame.itertuples(), gates > 1, strict=True):
        gate = f", {gate_name(row.gate)}" if row.gate != "none" or several else ""
        star = "*" if row.chosen else ""
        strength = f", λ{star} = {row.lambda_:.2f}" if pd.notna(row.lambda_) else ""
        names.append(f"{row.method}{gate}{strength}")
    return names


def gate_name(gate: str) -> str:
    """A gate's score in words."""
    return "no gate" if gate == "none" else f"{gate} gate"


def _starred(names: list[str]) -> str:
    return ", λ* chosen on val" * any("λ*" in name for name in names)


def _family(setting: tuple) -> str:
    """Of a setting: its family, but random directions are one of their own, the control."""
    return CONTROL if setting[0] == CONTROL else setting[1]


def _colour(family: str):
    """A family's colour; those that a user adds share one."""
    return _FAMILIES.get(family, "#7a5230")


def _looks(means: pd.DataFrame) -> dict[tuple, dict]:
    """Setting to look: colour and marker by family, filling by setting."""
    used, looks = Counter(), {}
    for key in means[SETTING].itertuples(False, None):
        family = _family(key)
        order = list(_FAMILIES).index(family) if family in _FAMILIES else -1
        shapes, k = _MARKERS[order % len(_MARKERS)], used[family]
        marker, fill = shapes[k // len(_FILLS) % len(shapes)], _FILLS[k % len(_FILLS)]
        look = {"color": _colour(family), "marker": marker, "fillstyle": fill}
        looks[key] = look | {"markerfacecoloralt": "white", "markeredgewidth": 0.8, "markersize": 5}
        used[family] += 1
    return looks
