"""Classifier editing: methods against each other, and the gates that an edit stands behind."""

from collections.abc import Sequence
from itertools import cycle

import numpy as np
import pandas as pd

from .style import ACCENT, CONTRAST, MUTED, class_colours

FINE_TUNED = "fine-tuned"
SETTING = ["method", "family", "gate", "chosen"]
_MARKERS = ("o", "s", "^", "D", "v", "P")
_FILLS = ("full", "none", "bottom", "top", "left", "right")
_SLOT, _BAND = (
    0.05,
    0.24,
)  # width that one method takes beside ACC_f = 0, and that all of them take at least
_LONGEST = 14  # letters of a target's name beside its mark


def trade_off(table: pd.DataFrame, *, ax=None, title: str = ""):
    """ACC_r against ACC_f, a point for each method and target; returns the Axes.

    table: `ForgetStudy.table`. Colour is the method, marker its family, filling its setting where it has several.
    Points with ACC_f exactly 0 stand side by side left of the axis, each method in its own column and its targets in
    order; the dashed line is the fine-tuned model's mean ACC_r, and above it lies what an edit aims for. Settings that
    keep less than half of that mean are named below instead of drawn; draws of a random direction are faint.
    """
    ax = _axes(ax, (9.6, 4.6))
    # a target without samples in the split has no ACC_f
    table = table.dropna(subset=["acc_f", "acc_r"])
    base = table.loc[table["method"] == FINE_TUNED, "acc_r"].mean()
    parts = dict(list(table.groupby(SETTING, sort=False)))
    means = pd.DataFrame(
        [dict(zip(SETTING, key, strict=True)) | _means(part) for key, part in parts.items()]
    )
    looks, names, targets = (
        _looks(means),
        setting_names(means),
        list(dict.fromkeys(table["target"])),
    )
    below = means["acc_r"] < 0.5 * base
    gone_from = sum(
        (part["acc_f"] == 0).any()
        for part, hidden in zip(parts.values(), below, strict=True)
        if not hidden
    )
    slot, wide = 0, max(_SLOT, _BAND / max(gone_from, 1))
    for (_, part), look, name, hidden in zip(parts.items(), looks, names, below, strict=True):
        if hidden:
            continue
        x, gone = part["acc_f"].to_numpy(), (part["acc_f"] == 0).to_numpy()
        place = part["target"].map(targets.index).to_numpy() / max(len(targets) - 1, 1) - 0.5
        x = np.where(gone, -wide * (slot + 0.6 + 0.7 * place), x)
        slot += gone.any()
        size = 5 if len(targets) <= 20 else 3.5
        drawn = "draw" in part and (part["draw"].astype(str) != "").any()
        faint = (
            {"alpha": 0.3, "markersize": 0.8 * size}
            if drawn
            else {"alpha": 0.85, "markersize": size}
        )
        ax.plot(
            x, part["acc_r"], linestyle="none", markeredgewidth=0.8, label=name, **look, **faint
        )
    edge = -wide * (slot + 0.2) if slot else -0.03
    ax.set_xlim(edge, 1.03)
    bottom, top = ax.get_ylim()
    top = min(
        max(top, base + 0.25 * (top - bottom)) if np.isfinite(base) else top,
        1 + 0.02 * (1 - bottom),
    )
    if slot:
        ax.axvspan(edge, 0, color=MUTED, alpha=0.1, linewidth=0, zorder=0)
        ax.axvline(0, color=MUTED, linewidth=0.8, zorder=0)
    if np.isfinite(base):
        ax.axhline(
            base,
            color="black",
            linestyle="--",
            linewidth=0.9,
            zorder=1,
            label=f"fine-tuned, mean ACC_r {base:.3f}",
        )
        goal = {
            "color": "#3a9d5d",
            "alpha": 0.16,
            "linewidth": 0,
            "zorder": 0,
            "label": "ideal: ACC_f 0, nothing else lost",
        }
        ax.fill_between([edge, 0 if slot else 0.01], base, top, **goal)
    ticks, words = np.linspace(0, 1, 6), [f"{t:.1f}" for t in np.linspace(0, 1, 6)]
    if slot:
        ticks, words = [edge / 2, *ticks], ["exactly 0\n(spread)", "", *words[1:]]
    ax.set_xticks(ticks, words)
    n = f"n = {len(targets)} targets"
    ax.set(
        ylim=(bottom, top),
        xlabel="ACC_f, accuracy on the class to forget",
        ylabel="ACC_r, all other classes",
    )
    ax.set_title(f"{title}{': ' if title else ''}{n}")
    for name, row in zip(np.asarray(names)[below], means[below].itertuples(), strict=True):
        ax.plot(
            [],
            [],
            linestyle="none",
            label=f"not in view: {name}\n(ACC_f {row.acc_f:.2f}, ACC_r {row.acc_r:.2f})",
        )
    _star(ax, names)
    ax.legend(
        loc="upper left",
        bbox_to_anchor=(1.01, 1.02),
        fontsize=8,
        labelspacing=0.35,
        borderaxespad=0,
    )
    return ax


def method_intervals(summary: pd.DataFrame, *, axes=None, title: str = ""):
    """ACC_f and ACC_r of every method with 95 % intervals over targets, a row a setting; returns the two Axes.

    summary: `ForgetStudy.summary()`. Hollow: the worst target, named where it keeps more than the interval
    says. Dashed: the fine-tuned model's ACC_r. An ACC_r under half of that is written at the left edge.
    """
    axes = panels(
        axes, 2, columns=2, size=(5.6, 0.31 * len(summary) + 1.2), sharey=True, over=title
    )
    y = np.arange(len(summary))
    families = list(dict.fromkeys(summary["family"]))
    colours = dict(zip(families, cycle(class_colours(10)), strict=False))
    usual = int(summary["n"].mode().iloc[-1])
    base = summary.loc[summary["method"] == FINE_TUNED, "acc_r"].mean()
    far = (summary["acc_r"] < 0.5 * base).to_numpy()
    for family in families:
        own = (summary["family"] == family).to_numpy()
        for ax, column, hidden in (
            (axes[0], "acc_f", np.zeros(len(y), bool)),
            (axes[1], "acc_r", far),
        ):
            rows = summary[own & ~hidden]
            _dots(ax, rows, column, y[own & ~hidden], color=colours[family], label=family)
        worst = summary["worst_acc_f"][own]
        axes[0].plot(
            worst,
            y[own],
            linestyle="none",
            marker="D",
            markersize=5,
            color=colours[family],
            fillstyle="none",
        )
    axes[0].plot(
        [],
        [],
        linestyle="none",
        marker="D",
        markersize=5,
        color="black",
        fillstyle="none",
        label="worst target",
    )
    for i, row in enumerate(summary.itertuples()):
        if (
            row.family != "reference"
            and row.worst_acc_f > np.nanmax([row.acc_f, row.acc_f_high]) + 0.01
        ):
            word = str(row.worst_target)
            word = word if len(word) <= _LONGEST else f"{word[: _LONGEST - 1]}…"
            reach = 0.04 + 0.024 * len(word)
            left = row.worst_acc_f + reach > 1.05
            if left and row.worst_acc_f - reach < np.nanmax([row.acc_f, row.acc_f_high]):
                continue  # it would cover the interval
            where = {
                "ha": "right" if left else "left",
                "va": "center",
                "fontsize": 8,
                "color": colours[row.family],
            }
            where |= {"xytext": (-7 if left else 7, 0), "textcoords": "offset points"}
            axes[0].annotate(word, (row.worst_acc_f, i), **where)
    for i in np.flatnonzero(far):
        row = summary.iloc[i]
        known = (
            f" [{row['acc_r_low']:.2f}, {row['acc_r_high']:.2f}]"
            if np.isfinite(row["acc_r_low"])
            else ""
        )
        said = f"← {row['acc_r']:.2f}{known}"
        place = {
            "transform": axes[1].get_yaxis_transform(),
            "va": "center",
            "fontsize": 8.5,
            "color": colours[row["family"]],
        }
        axes[1].text(0.015, i, said, **place)
    for i in np.flatnonzero(np.diff([families.index(f) for f in summary["family"]])):
        for ax in axes:
            ax.axhline(i + 0.5, color=MUTED, linewidth=0.5, alpha=0.6)
    if np.isfinite(base):
        axes[1].axvline(
            base, color="black", linestyle="--", linewidth=0.9, label="fine-tuned, ACC_r"
        )
    names = setting_names(summary)
    axes[0].set_yticks(
        y, [f"{a} (n = {n})" if n != usual else a for a, n in zip(names, summary["n"], strict=True)]
    )
    axes[0].set(
        ylim=(len(y) - 0.4, -0.6),
        xlim=(-0.03, 1.03),
        xlabel="ACC_f, accuracy on the class to forget",
    )
    axes[0].set_title(f"mean of n = {usual} targets, 95 % interval")
    axes[1].set(xlabel="ACC_r, all other classes")
    axes[1].locator_params(axis="x", nbins=5)
    _star(axes[1], names)
    handles = [dict(zip(*ax.get_legend_handles_labels()[::-1], strict=True)) for ax in axes]
    handles = handles[0] | handles[1]
    axes[1].legend(handles.values(), handles.keys(), loc="upper left", bbox_to_anchor=(1.01, 1))
    return axes


def gate_curves(curves: pd.DataFrame, *, stated: float | None = 0.01, axes=None, title: str = ""):
    """False-fire rate and miss rate of a gate over its threshold, a line for each target; returns the Axes.

    curves: `gate_curve`s joined, with a column split; a panel for each score and split. Dots mark the
    threshold in use, the dotted line the false-fire rate it was calibrated to. Rates are on a scale that is linear up to
    `stated` and logarithmic above it.
    """
    parts = _split(curves, ("score", "split"), {})
    axes = panels(
        axes,
        len(parts),
        columns=min(len(parts), 2),
        size=(4.6 if len(parts) > 1 else 6.4, 3.3),
        sharey=True,
        over=title,
    )
    for ax, (name, part) in zip(axes, parts.items(), strict=True):
        n = part["target"].nunique()
        for column, colour, label, style in (
            ("false_fire", ACCENT, "false fire", "-"),
            ("miss", CONTRAST, "miss", "--"),
        ):
            for k, (_, own) in enumerate(part.groupby("target", sort=False)):
                own = own.sort_values("threshold")
                look = {
                    "color": colour,
                    "linestyle": style,
                    "linewidth": 1.0,
                    "alpha": 0.45 if n > 1 else 1,
                }
                ax.plot(
                    own["threshold"],
                    own[column],
                    label=None if k else f"{label}, a line a target",
                    **look,
                )
            used = part[part["chosen"]]
            marked = {
                "linestyle": "none",
                "marker": "o",
                "markersize": 5,
                "color": colour,
                "markeredgecolor": "white",
                "zorder": 3,
            }
            ax.plot(
                used["threshold"], used[column], label=f"{label} at the threshold in use", **marked
            )
        if stated is not None:
            ax.axhline(
                stated,
                color="black",
                linestyle=":",
                linewidth=1.1,
                label=f"false fire asked for: {stated:g}",
            )
        width = stated or 0.01
        ax.set_yscale("symlog", linthresh=width)
        ticks = [0, width, *[t for t in (0.01, 0.1, 1.0) if t > width]]
        ax.set_yticks(ticks, [f"{t:g}" for t in ticks])
        ax.set_yticks([], minor=True)
        ax.set(ylim=(-0.08 * width, 1.4), xlabel=f"threshold on the {part['score'].iloc[0]} score")
        said = f"n = {n} target{'s' * (n > 1)}"
        ax.set_title(f"{name}: {said}" if name else said)
    for ax in axes[:: _columns(axes)]:
        ax.set_ylabel("rate")
    _legend(axes)
    return axes


def gate_intervals(gate_summary: pd.DataFrame, *, axes=None, title: str = ""):
    """What an edit does behind each gate: ACC_f, ACC_r, false fires and the worst sibling; returns the four Axes.

    gate_summary: `summarise_gates`. Hollow on val, filled on test; 95 % intervals over targets where the frame has them.
    """
    gates = list(dict.fromkeys(gate_summary["gate"]))
    splits = [s for s in ("val", "test") if s in set(gate_summary["split"])]
    axes = panels(axes, 4, columns=4, size=(2.5, 0.45 * len(gates) + 1.3), sharey=True, over=title)
    shown = (
        ("acc_f", "ACC_f"),
        ("acc_r", "ACC_r"),
        ("false_fire", "false fire"),
        ("worst_sibling", "fires on worst sibling"),
    )
    n = _counts(gate_summary["n"])
    for ax, (column, name) in zip(axes, shown, strict=True):
        for k, split in enumerate(splits):
            rows = gate_summary[gate_summary["split"] == split]
            y = rows["gate"].map(gates.index).to_numpy() + 0.24 * (k - (len(splits) - 1) / 2)
            face = "white" if split == "val" else ACCENT
            _dots(ax, rows, column, y, color=ACCENT, markerfacecolor=face, label=split)
        if column != "acc_r":
            high = max(0.02, 1.04 * ax.get_xlim()[1])
            ax.set_xlim(-0.04 * high, high)
        ax.set(xlabel=name)
        ax.locator_params(axis="x", nbins=4)
        ax.grid(axis="y", color=MUTED, alpha=0.15)
    axes[0].set_yticks(range(len(gates)), gates)
    axes[0].set_ylim(len(gates) - 0.4, -0.6)
    axes[0].set_title(f"n = {n} targets")
    axes[-1].legend(loc="upper left", bbox_to_anchor=(1.01, 1))
    return axes


def setting_names(frame: pd.DataFrame) -> list[str]:
    """A name for each row of a summary: the method, its gate where that tells something, and lambda, starred if chosen on val."""
    gates = frame.groupby("method")["gate"].nunique()
    names = []
    for row in frame.itertuples():
        gate = (
            f", {row.gate} gate"
            if row.gate != "none"
            else ", no gate"
            if gates[row.method] > 1
            else ""
        )
        strength = (
            f", λ{'*' if row.chosen else ''} = {row.lambda_:.2f}" if pd.notna(row.lambda_) else ""
        )
        names.append(f"{row.method}{gate}{strength}")
    return names


def panels(
    axes, n: int, *, columns: int, size: tuple[float, float], over: str = "", **shared
) -> np.ndarray:
    """n Axes in rows of `columns`, each of `size` inches, `over` written above them; given ones are only counted."""
    import matplotlib.pyplot as plt

    if axes is not None:
        axes = np.ravel(axes)
        if len(axes) != n:
            raise ValueError(f"this figure has {n} panels; {len(axes)} axes were given")
    else:
        rows = -(-n // columns)
        _, grid = plt.subplots(
            rows, columns, figsize=(size[0] * columns, size[1] * rows), squeeze=False, **shared
        )
        for ax in grid.ravel()[n:]:
            ax.set_visible(False)
        for ax in grid.ravel()[max(n - columns, 0) : n]:
            ax.tick_params(labelbottom=True)
        axes = grid.ravel()[:n]
    if over:
        axes[0].figure.suptitle(over, x=0.01, ha="left", fontsize=12)
    return axes


def errors(frame: pd.DataFrame, column: str) -> np.ndarray:
    """How far the interval of a column reaches below and above it (2, N); NaN where the frame has none."""
    if f"{column}_low" not in frame:
        return np.full((2, len(frame)), np.nan)
    return np.abs(
        frame[[f"{column}_low", f"{column}_high"]].to_numpy(float).T - frame[column].to_numpy(float)
    )


def _dots(ax, rows, column: str, y, **look):
    return ax.errorbar(
        rows[column],
        y,
        xerr=errors(rows, column),
        fmt="o",
        markersize=5.5,
        capsize=2,
        linewidth=1.2,
        **look,
    )


def _axes(ax, size):
    import matplotlib.pyplot as plt

    return ax if ax is not None else plt.subplots(figsize=size)[1]


def _means(part: pd.DataFrame) -> dict:
    return part[["lambda_", "acc_f", "acc_r"]].mean().to_dict()


def _looks(means: pd.DataFrame) -> list[dict]:
    """Colour by method, marker by family, filling by setting: no two rows look alike."""
    palette = [
        c for i, c in enumerate(class_colours(10)) if i != 7
    ]  # its grey is for random directions
    families = list(dict.fromkeys(means["family"]))
    plain = {"reference": "black", "random vector": MUTED}
    coloured = list(
        dict.fromkeys(r.method for r in means.itertuples() if not {r.family, r.method} & set(plain))
    )
    used, looks = {}, []
    for row in means.itertuples():
        colour = (
            plain.get(row.family)
            or plain.get(row.method)
            or palette[coloured.index(row.method) % len(palette)]
        )
        marker = _MARKERS[families.index(row.family) % len(_MARKERS)]
        used[colour, marker] = fill = used.get((colour, marker), -1) + 1
        looks.append(
            {
                "color": colour,
                "marker": marker,
                "fillstyle": _FILLS[fill % len(_FILLS)],
                "markerfacecoloralt": "white",
            }
        )
    return looks


def _star(ax, names):
    if any("λ*" in name for name in names):
        ax.plot([], [], linestyle="none", label="λ*: chosen on val, mean of targets")


def _split(frame: pd.DataFrame, keys: Sequence[str], orders: dict) -> dict[str, pd.DataFrame]:
    """The parts of a frame by those keys of which it has several values, in order of appearance or the order given."""
    several = [k for k in keys if k in frame and frame[k].nunique() > 1]
    if not several:
        known = [str(frame[k].iloc[0]) for k in keys if k in frame and k != "score"]
        return {", ".join(known): frame}
    found = dict(list(frame.groupby(several, sort=False)))
    for place, key in reversed(list(enumerate(several))):
        order = list(orders.get(key) or dict.fromkeys(frame[key]))
        found = dict(sorted(found.items(), key=lambda item: order.index(item[0][place])))
    return {
        ", ".join(_worded(k, v) for k, v in zip(several, key, strict=True)): part
        for key, part in found.items()
    }


def _worded(key: str, value) -> str:
    return str(value) if key != "gate" else "no gate" if value == "none" else f"{value} gate"


def _columns(axes) -> int:
    spec = axes[0].get_subplotspec()
    return spec.get_gridspec().ncols if spec is not None else len(axes)


def _legend(axes):
    last = axes[min(_columns(axes), len(axes)) - 1]
    last.legend(*axes[-1].get_legend_handles_labels(), loc="upper left", bbox_to_anchor=(1.01, 1))


def _counts(values: pd.Series) -> str:
    low, high = int(values.min()), int(values.max())
    return f"{low:,}" if low == high else f"{low:,} to {high:,}"
