"""Methods against each other, and the gates that an edit stands behind."""

from collections.abc import Sequence
from itertools import cycle

import numpy as np
import pandas as pd

from .marks import FAINT, HOLLOW, beside, counts, dots, new_axes, panels
from .style import ACCENT, CONTRAST, MUTED, class_colours

FINE_TUNED = "fine-tuned"
SETTING = ["method", "family", "gate", "chosen"]
_MARKERS = ("o", "s", "^", "D", "v", "P")
_FILLS = ("full", "none", "bottom", "top", "left", "right")
_SLOT, _BAND = 0.05, 0.24  # widths beside ACC_f = 0: of one method, and of all at least
_LONGEST = 14  # letters of a target's name beside its mark
_BASE = {"color": "black", "linestyle": "--", "linewidth": 0.9}
_IDEAL = {"color": "#3a9d5d", "alpha": 0.16, "linewidth": 0, "zorder": 0}
_SPAN = {"markersize": 5.5, "linewidth": 1.2, "capsize": 2}
_WORST = {"marker": "D", "markersize": 5, **HOLLOW}


def trade_off(table: pd.DataFrame, *, ax=None, title: str = ""):
    """ACC_r against ACC_f, a point for each method and target.

    Colour is the method, marker its family, filling its setting where it has several. Points with
    ACC_f exactly 0 stand side by side left of the axis, each method in its own column. The dashed
    line is the fine-tuned model's mean ACC_r. Settings that keep less than half of it are named
    below instead of drawn. Draws of a random direction are faint.

    Args:
        table: `ForgetStudy.table`.
    Returns:
        The Axes.
    """
    ax, table = new_axes(ax, 9.6, 4.6), table.dropna(subset=["acc_f", "acc_r"])
    base = table.loc[table["method"] == FINE_TUNED, "acc_r"].mean()
    numbers = ["lambda_", "acc_f", "acc_r"]
    groups = table.groupby(SETTING, sort=False)
    means, parts = groups[numbers].mean().reset_index(), [part for _, part in groups]
    names, looks = setting_names(means), _looks(means)
    targets = list(dict.fromkeys(table["target"]))
    below, gone = means["acc_r"] < 0.5 * base, groups["acc_f"].min().to_numpy() == 0
    slot, wide = 0, max(_SLOT, _BAND / max((gone & ~below).sum(), 1))
    size = 5 if len(targets) <= 20 else 3.5
    for part, look, name, hidden, zero in zip(parts, looks, names, below, gone, strict=True):
        if hidden:
            continue
        place = part["target"].map(targets.index) / max(len(targets) - 1, 1) - 0.5
        x = part["acc_f"].where(part["acc_f"] != 0, -wide * (slot + 0.6 + 0.7 * place))
        slot += zero
        drawn = "draw" in part and (part["draw"].astype(str) != "").any()
        faint = (0.3, 0.8 * size) if drawn else (0.85, size)
        look |= dict(zip(("alpha", "markersize"), faint, strict=True))
        ax.plot(x, part["acc_r"], linestyle="none", markeredgewidth=0.8, label=name, **look)
    edge, (bottom, top) = -wide * (slot + 0.2) if slot else -0.03, ax.get_ylim()
    ticks = np.linspace(0, 1, 6)
    words = [f"{t:.1f}" for t in ticks]
    if slot:
        ax.axvspan(edge, 0, color=MUTED, alpha=0.1, linewidth=0, zorder=0)
        ax.axvline(0, zorder=0, **FAINT)
        ticks, words = [edge / 2, *ticks], ["exactly 0\n(spread)", "", *words[1:]]
    if np.isfinite(base):
        top = max(top, base + 0.25 * (top - bottom))
        ax.axhline(base, zorder=1, label=f"fine-tuned, mean ACC_r {base:.3f}", **_BASE)
        span = [edge, 0 if slot else 0.01]
        ax.fill_between(span, base, top, label="ideal: ACC_f 0, nothing else lost", **_IDEAL)
    ax.set_xticks(ticks, words)
    ax.set(xlim=(edge, 1.03), ylim=(bottom, min(top, 1 + 0.02 * (1 - bottom))))
    ax.set(xlabel="ACC_f, accuracy on the class to forget", ylabel="ACC_r, all other classes")
    ax.set_title(f"{title}{': ' if title else ''}n = {len(targets)} targets")
    for name, row in zip(np.asarray(names)[below], means[below].itertuples(), strict=True):
        label = f"not in view: {name}\n(ACC_f {row.acc_f:.2f}, ACC_r {row.acc_r:.2f})"
        ax.plot([], [], linestyle="none", label=label)
    _star(ax, names)
    return beside(ax, fontsize=8, labelspacing=0.35, borderaxespad=0)


def method_intervals(summary: pd.DataFrame, *, axes=None, title: str = ""):
    """ACC_f and ACC_r of every method with 95 % intervals, a row a setting.

    Hollow: the worst target, named where it keeps more than the interval says. Dashed: the
    fine-tuned model's ACC_r. An ACC_r under half of that is written at the left edge.

    Args:
        summary: `ForgetStudy.summary()`.
    Returns:
        The two Axes.
    """
    size = (5.6, 0.31 * len(summary) + 1.2)
    axes = left, right = panels(axes, 2, columns=2, size=size, sharey=True, over=title)
    families = list(dict.fromkeys(summary["family"]))
    colours = dict(zip(families, cycle(class_colours(10)), strict=False))
    base = summary.loc[summary["method"] == FINE_TUNED, "acc_r"].mean()
    rows = summary.assign(y=range(len(summary)), far=summary["acc_r"] < 0.5 * base)
    for family, own in rows.groupby("family", sort=False):
        look = {"along": "x", "color": colours[family], "label": family, **_SPAN}
        dots(left, own, "acc_f", own["y"], **look)
        near = own[~own["far"]]
        dots(right, near, "acc_r", near["y"], **look)
        left.plot(own["worst_acc_f"], own["y"], color=colours[family], **_WORST)
    left.plot([], [], color="black", label="worst target", **_WORST)
    for row in rows.itertuples():
        look = {"va": "center", "fontsize": 8, "color": colours[row.family]}
        known = np.nanmax([row.acc_f, row.acc_f_high])
        if row.family != "reference" and row.worst_acc_f > known + 0.01:
            _name_worst(left, row, known, look)
        if row.far:
            ends = f" [{row.acc_r_low:.2f}, {row.acc_r_high:.2f}]"
            said = f"← {row.acc_r:.2f}{ends if np.isfinite(row.acc_r_low) else ''}"
            right.text(0.015, row.y, said, transform=right.get_yaxis_transform(), **look)
    for i in np.flatnonzero(rows["family"] != rows["family"].shift())[1:]:
        for ax in axes:
            ax.axhline(i - 0.5, color=MUTED, linewidth=0.5, alpha=0.6)
    if np.isfinite(base):
        right.axvline(base, label="fine-tuned, ACC_r", **_BASE)
    usual, names = int(summary["n"].mode().iloc[-1]), setting_names(summary)
    counted = [f"{a} (n = {n})" for a, n in zip(names, summary["n"], strict=True)]
    left.set_yticks(rows["y"], np.where(summary["n"] != usual, counted, names))
    left.set(ylim=(len(rows) - 0.4, -0.6), xlim=(-0.03, 1.03))
    left.set_xlabel("ACC_f, accuracy on the class to forget")
    left.set_title(f"mean of n = {usual} {_unit(summary)}, 95 % interval")
    right.set_xlabel("ACC_r, all other classes")
    right.locator_params(axis="x", nbins=5)
    _star(right, names)
    handles = [dict(zip(*ax.get_legend_handles_labels()[::-1], strict=True)) for ax in axes]
    handles = handles[0] | handles[1]
    beside(right, handles=handles.values(), labels=handles.keys())
    return axes


def gate_curves(curves: pd.DataFrame, *, stated: float | None = 0.01, axes=None, title: str = ""):
    """False-fire rate and miss rate of a gate over its threshold, a line for each target.

    Rates are on a scale that is linear up to `stated` and logarithmic above it.

    Args:
        curves: `gate_curve`s joined, with a column split; a panel for each score and split.
        stated: the false-fire rate that the gates were calibrated to, dotted.
    Returns:
        The Axes. Dots mark the thresholds in use.
    """
    parts, width = split_panels(curves, ("score", "split"), {}), stated or 0.01
    size = (4.6 if len(parts) > 1 else 6.4, 3.3)
    axes = panels(axes, len(parts), columns=min(len(parts), 2), size=size, sharey=True, over=title)
    ticks = [0, width, *[t for t in (0.01, 0.1, 1.0) if t > width]]
    for ax, (name, part) in zip(axes, parts.items(), strict=True):
        n, used = part["target"].nunique(), part[part["chosen"]]
        for column, colour, label, style in (
            ("false_fire", ACCENT, "false fire", "-"),
            ("miss", CONTRAST, "miss", "--"),
        ):
            look = {"color": colour, "linestyle": style, "alpha": 0.45 if n > 1 else 1}
            for k, (_, own) in enumerate(part.sort_values("threshold").groupby("target")):
                line = None if k else f"{label}, a line a target"
                ax.plot(own["threshold"], own[column], label=line, linewidth=1.0, **look)
            mark = {"color": colour, "markeredgecolor": "white", "zorder": 3, "markersize": 5}
            label = f"{label} at the threshold in use"
            ax.plot(used["threshold"], used[column], "o", label=label, **mark)
        if stated is not None:
            label = f"false fire asked for: {stated:g}"
            ax.axhline(stated, color="black", linestyle=":", linewidth=1.1, label=label)
        ax.set_yscale("symlog", linthresh=width)
        ax.set_yticks(ticks, [f"{t:g}" for t in ticks])
        ax.set_yticks([], minor=True)
        ax.set(ylim=(-0.08 * width, 1.4), xlabel=f"threshold on the {part['score'].iloc[0]} score")
        ax.set_title(f"{name}{': ' if name else ''}n = {n} target{'s' * (n > 1)}")
    for ax in axes[:: n_columns(axes)]:
        ax.set_ylabel("rate")
    legend_of_all(axes)
    return axes


def gate_intervals(gate_summary: pd.DataFrame, *, axes=None, title: str = ""):
    """What an edit does behind each gate: ACC_f, ACC_r, false fires and the worst sibling.

    Args:
        gate_summary: the summary of compared gates by split.
    Returns:
        The four Axes. Hollow on val, filled on test, with 95 % intervals where the frame has them.
    """
    gates = list(dict.fromkeys(gate_summary["gate"]))
    splits = [s for s in ("val", "test") if s in set(gate_summary["split"])]
    size = (2.5, 0.45 * len(gates) + 1.3)
    axes = panels(axes, 4, columns=4, size=size, sharey=True, over=title)
    for ax, (column, name) in zip(
        axes,
        {
            "acc_f": "ACC_f",
            "acc_r": "ACC_r",
            "false_fire": "false fire",
            "worst_sibling": "fires on worst sibling",
        }.items(),
        strict=True,
    ):
        for k, split in enumerate(splits):
            rows = gate_summary[gate_summary["split"] == split]
            y = rows["gate"].map(gates.index) + 0.24 * (k - (len(splits) - 1) / 2)
            look = {"color": ACCENT, "markerfacecolor": "white" if split == "val" else ACCENT}
            dots(ax, rows, column, y, along="x", label=split, **_SPAN, **look)
        if column != "acc_r":
            high = max(0.02, 1.04 * ax.get_xlim()[1])
            ax.set_xlim(-0.04 * high, high)
        ax.set_xlabel(name)
        ax.locator_params(axis="x", nbins=4)
        ax.grid(axis="y", color=MUTED, alpha=0.15)
    axes[0].set_yticks(range(len(gates)), gates)
    axes[0].set_ylim(len(gates) - 0.4, -0.6)
    axes[0].set_title(f"n = {counts(gate_summary['n'])} {_unit(gate_summary)}")
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


def split_panels(frame: pd.DataFrame, keys: Sequence[str], orders: dict) -> dict[str, pd.DataFrame]:
    """The parts of a frame by those keys of which it has several values, named.

    Args:
        orders: a key to the order of its values, by default that of appearance.
    """
    keys = [k for k in keys if k in frame]
    several = [k for k in keys if frame[k].nunique() > 1]
    if not several:
        return {", ".join(str(frame[k].iloc[0]) for k in keys if k != "score"): frame}
    found = dict(list(frame.groupby(several, sort=False)))
    for place, key in reversed(list(enumerate(several))):
        order = list(orders.get(key) or dict.fromkeys(frame[key]))
        found = dict(sorted(found.items(), key=lambda item: order.index(item[0][place])))
    words = {"gate": gate_name}
    return {
        ", ".join(words.get(k, str)(v) for k, v in zip(several, key, strict=True)): part
        for key, part in found.items()
    }


def n_columns(axes) -> int:
    """How many Axes stand side by side."""
    spec = axes[0].get_subplotspec()
    return spec.get_gridspec().ncols if spec is not None else len(axes)


def legend_of_all(axes) -> None:
    """One legend for panels that share their marks, right of the first row."""
    beside(axes[min(n_columns(axes), len(axes)) - 1], source=axes[-1])


def _unit(frame: pd.DataFrame) -> str:
    """What n counts: of what the interval is."""
    units = set(frame["unit"]) if "unit" in frame else ()
    return units.pop() if len(units) == 1 else "targets"


def _name_worst(ax, row, known: float, look: dict) -> None:
    """The worst target's name beside its mark, where it covers no interval."""
    word = str(row.worst_target)
    word = word if len(word) <= _LONGEST else f"{word[: _LONGEST - 1]}…"
    reach = 0.04 + 0.024 * len(word)
    left = row.worst_acc_f + reach > 1.05
    if not left or row.worst_acc_f - reach >= known:
        look = look | {"ha": "right" if left else "left", "textcoords": "offset points"}
        ax.annotate(word, (row.worst_acc_f, row.y), xytext=(-7 if left else 7, 0), **look)


def _looks(means: pd.DataFrame) -> list[dict]:
    """Colour by method, marker by family, filling by setting: no two rows look alike."""
    palette = class_colours(10)
    del palette[7]  # its grey is for random directions
    plain = {"reference": "black", "random vector": MUTED}
    families, colours, used, looks = list(dict.fromkeys(means["family"])), {}, {}, []
    for row in means.itertuples():
        colour = plain.get(row.family) or plain.get(row.method)
        colour = colour or colours.setdefault(row.method, palette[len(colours) % len(palette)])
        marker = _MARKERS[families.index(row.family) % len(_MARKERS)]
        used[colour, marker] = fill = used.get((colour, marker), -1) + 1
        look = {"color": colour, "marker": marker, "markerfacecoloralt": "white"}
        looks.append(look | {"fillstyle": _FILLS[fill % len(_FILLS)]})
    return looks


def _star(ax, names) -> None:
    if any("λ*" in name for name in names):
        ax.plot([], [], linestyle="none", label="λ*: chosen on val, mean of targets")
