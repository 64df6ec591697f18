"""Methods against each other, and the gates that an edit stands behind."""

from collections import Counter

import numpy as np
import pandas as pd

from .marks import FAINT, HOLLOW, beside, counts, dots, name_rows, new_axes, panels, short
from .style import ACCENT, CONTRAST, MUTED, class_colours

FINE_TUNED = "fine-tuned"
SETTING = ["method", "family", "gate", "chosen"]
_PLAIN = {"reference": "black", "random vector": MUTED}  # a family or a method
_MARKERS = ("o", "s", "^", "D", "v", "P")
_FILLS = ("full", "none", "bottom", "top", "left", "right")
_SLOT, _BAND = 0.05, 0.24  # widths beside ACC_f = 0: of one method, and of all at least
_BASE = {"color": "black", "linestyle": "--", "linewidth": 0.9}
_IDEAL = {"color": "#3a9d5d", "alpha": 0.16, "linewidth": 0, "zorder": 0}
_SPAN = {"along": "x", "markersize": 5.5, "linewidth": 1.2}
_WORST = {"marker": "D", "markersize": 5, **HOLLOW}


def trade_off(table: pd.DataFrame, *, like: pd.DataFrame | None = None, ax=None, title: str = ""):
    """ACC_r against ACC_f, a point for each method and target.

    Colour is the method, marker its family, filling its setting where it has several. Points with
    ACC_f exactly 0 stand side by side left of the axis, each method in its own column. The dashed
    line is the fine-tuned model's mean ACC_r. Settings that keep less than half of it are named
    below instead of drawn. Random directions are faint.

    Args:
        table: `ForgetStudy.table`.
        like: a table with more methods, as whose figure this one colours them.
    Returns:
        The Axes.
    """
    looks = _looks(table if like is None else like)
    ax, table = new_axes(ax, 9.6, 4.6), table.dropna(subset=["acc_f", "acc_r"])
    base = table.loc[table["method"] == FINE_TUNED, "acc_r"].mean()
    groups, targets = table.groupby(SETTING, sort=False), list(table["target"].unique())
    means = groups[["lambda_", "acc_f", "acc_r"]].mean().reset_index()
    names, hidden = setting_names(means), means["acc_r"] < 0.5 * base
    gone = ~hidden & (groups["acc_f"].min().to_numpy() == 0)
    slots, wide = gone.cumsum(), max(_SLOT, _BAND / max(gone.sum(), 1))
    for k, (key, part) in enumerate(groups):
        if not hidden[k]:
            place = part["target"].map(targets.index) / max(len(targets) - 1, 1)
            left = -wide * (slots[k] - 0.75 + 0.7 * place)
            x = part["acc_f"].where(part["acc_f"] != 0, left)
            look = looks[key] | {"markersize": 5 if len(targets) <= 20 else 3.5}
            ax.plot(x, part["acc_r"], linestyle="none", label=names[k], **look)
    edge, (bottom, top) = -wide * (slots.max() + 0.2), ax.get_ylim()
    ax.axvspan(edge, 0, color=MUTED, alpha=0.1, linewidth=0, zorder=0)
    ax.axvline(0, zorder=0, **FAINT)
    ticks = np.linspace(0, 1, 6)
    ax.set_xticks([edge / 2, *ticks], ["exactly 0\n(spread)", "", *ticks[1:].round(1)])
    if np.isfinite(base):
        top = max(top, base + 0.25 * (top - bottom))
        ax.axhline(base, zorder=1, label=f"fine-tuned, mean ACC_r {base:.3f}", **_BASE)
        label = "ideal: ACC_f 0, nothing else lost"
        ax.fill_between([edge, 0], base, 2, label=label, **_IDEAL)
    ax.set(xlim=(edge, 1.03), ylim=(bottom, min(top, 1 + 0.02 * (1 - bottom))))
    ax.set(xlabel="ACC_f, accuracy on the class to forget", ylabel="ACC_r, all other classes")
    ax.set_title(f"{title}{': ' if title else ''}n = {len(targets)} targets")
    for row in means[hidden].itertuples():
        label = f"not in view: {names[row.Index]}\n(ACC_f {row.acc_f:.2f}, ACC_r {row.acc_r:.2f})"
        ax.plot([], [], linestyle="none", label=label)
    _star(ax, names)
    return beside(ax, fontsize=8, labelspacing=0.35, borderaxespad=0)


def method_intervals(summary: pd.DataFrame, *, title: str = ""):
    """ACC_f and ACC_r of every method with 95 % intervals, a row a setting.

    Hollow: the worst target, named where it keeps more than the interval says. Dashed: the
    fine-tuned model's ACC_r. An ACC_r under half of that is written at the left edge.

    Args:
        summary: `ForgetStudy.summary()`.
    Returns:
        The two Axes.
    """
    axes = left, right = panels(2, size=(5.6, 0.31 * len(summary) + 1.2), sharey=True, over=title)
    base = summary.loc[summary["method"] == FINE_TUNED, "acc_r"].mean()
    families = summary.assign(y=range(len(summary))).groupby("family", sort=False)
    for (family, rows), colour in zip(families, class_colours(len(families)), strict=True):
        near = rows[~(rows["acc_r"] < 0.5 * base)]
        dots(left, rows, "acc_f", rows["y"], color=colour, label=family, **_SPAN)
        dots(right, near, "acc_r", near["y"], color=colour, **_SPAN)
        left.plot(rows["worst_acc_f"], rows["y"], color=colour, **_WORST)
        look = {"va": "center", "fontsize": 8, "color": colour}
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
    left.plot([], [], color="black", label="worst target", **_WORST)
    if np.isfinite(base):
        right.axvline(base, label="fine-tuned, ACC_r", **_BASE)
    (usual, unit), names = summary[["n", "unit"]].value_counts().index[0], setting_names(summary)
    counted = [f"{a} (n = {n})" for a, n in zip(names, summary["n"], strict=True)]
    name_rows(axes, np.where(summary["n"] == usual, names, counted))
    left.set(xlim=(-0.03, 1.03), xlabel="ACC_f, accuracy on the class to forget")
    left.set_title(f"mean of n = {usual} {unit}, 95 % interval")
    right.set_xlabel("ACC_r, all other classes")
    right.locator_params(axis="x", nbins=5)
    _star(right, names)
    beside(*axes)
    return axes


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
    axes = panels(len(parts), size=(4.6, 3.3), sharey=True, over=title)
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
        ax.set_yticks([], minor=True)
        ax.set(ylim=(-0.08 * stated, 1.4), title=f"{split}: n = {part['target'].nunique()} targets")
        ax.set_xlabel(f"threshold on the {part['score'].iloc[0]} score")
    axes[0].set_ylabel("rate")
    beside(*axes)
    return axes


def gate_intervals(gate_summary: pd.DataFrame, *, title: str = ""):
    """What an edit does behind each gate: ACC_f, ACC_r, false fires and the worst sibling.

    Args:
        gate_summary: the summary of compared gates by split.
    Returns:
        The four Axes. Hollow on val, filled on test, with 95 % intervals where the frame has them.
    """
    gates = list(gate_summary["gate"].unique())
    axes = panels(4, size=(2.5, 0.45 * len(gates) + 1.3), sharey=True, over=title)
    names = {"acc_f": "ACC_f", "acc_r": "ACC_r", "false_fire": "false fire"}
    names["worst_sibling"] = "fires on worst sibling"
    for ax, (column, name) in zip(axes, names.items(), strict=True):
        for split, face, beneath in (("val", "white", -0.12), ("test", ACCENT, 0.12)):
            rows = gate_summary[gate_summary["split"] == split]
            look = {"color": ACCENT, "markerfacecolor": face, "label": split, **_SPAN}
            dots(ax, rows, column, rows["gate"].map(gates.index) + beneath, **look)
        if column != "acc_r":
            high = max(0.02, 1.04 * ax.get_xlim()[1])
            ax.set_xlim(-0.04 * high, high)
        ax.set_xlabel(name)
        ax.locator_params(axis="x", nbins=4)
    name_rows(axes, gates)
    n, unit = counts(gate_summary["n"]), gate_summary["unit"].iloc[0]
    axes[0].set_title(f"n = {n} {unit}")
    beside(axes[-1])
    return axes


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


def _looks(table: pd.DataFrame) -> dict[tuple, dict]:
    """Setting to look: colour by method, marker by family, filling by setting, no two alike."""
    palette = class_colours(10)
    del palette[7]  # its grey is for random directions
    families, colours, used, looks = list(table["family"].unique()), {}, Counter(), {}
    for method, family, gate, chosen in dict.fromkeys(table[SETTING].itertuples(False, None)):
        colour = _PLAIN.get(family) or _PLAIN.get(method)
        colour = colour or colours.setdefault(method, palette[len(colours) % len(palette)])
        marker = _MARKERS[families.index(family) % len(_MARKERS)]
        look = {"color": colour, "marker": marker, "markerfacecoloralt": "white"}
        look["fillstyle"] = _FILLS[used[colour, marker] % len(_FILLS)]
        alpha = 0.3 if colour == MUTED else 0.85
        looks[method, family, gate, chosen] = look | {"alpha": alpha, "markeredgewidth": 0.8}
        used[colour, marker] += 1
    return looks


def _star(ax, names) -> None:
    if any("λ*" in name for name in names):
        ax.plot([], [], linestyle="none", label="λ*: chosen on val, mean of targets")
