"""What an edit does, as one figure: every class before and after, its gate's curve, its strength's curve."""

from collections.abc import Sequence

import numpy as np
import pandas as pd

from .style import ACCENT, CONTRAST, MUTED

_MOST = 60


def edit_effect(
    per_class: pd.DataFrame,
    *,
    edited: Sequence[str] = (),
    gate: pd.DataFrame | None = None,
    threshold: float | None = None,
    strength: pd.DataFrame | None = None,
    at: float | None = None,
    title: str = "",
):
    """Accuracy of each class before and after an edit, beside the curves it was chosen on; returns the Axes (1 to 3).

    per_class: as `LiveReadout.per_class` gives it; of more than 60 classes those edited and those that changed most. gate: a
    `gate_curve`, its `threshold` marked; strength: as `LiveEdits.strengths` gives it, the strength `at` marked.
    """
    import matplotlib.pyplot as plt

    curves = [c for c in (("gate", gate), ("strength", strength)) if c[1] is not None]
    frame = per_class.dropna(subset="before")
    if len(frame) > _MOST:
        moved = (frame["after"] - frame["before"]).abs() + 2 * frame["class"].isin(edited)
        frame = frame.loc[moved.nlargest(_MOST).index.sort_values()]
    high = float(np.clip(0.26 * len(frame) + 1.4, 3.4, 14))
    ratios = [1.5, *[1] * len(curves)]
    fig, axes = plt.subplots(
        1,
        1 + len(curves),
        figsize=(4.6 + 3.4 * len(curves), high),
        width_ratios=ratios,
        squeeze=False,
    )
    axes = axes[0]
    _dumbbells(axes[0], frame, edited)
    for ax, (kind, curve) in zip(axes[1:], curves, strict=True):
        _gate(ax, curve, threshold) if kind == "gate" else _strength(ax, curve, at)
    fig.suptitle(title, x=0.01, ha="left", fontsize=11)
    return axes


def _dumbbells(ax, frame: pd.DataFrame, edited) -> None:
    y = np.arange(len(frame))[::-1]
    colours = np.where(frame["after"] < frame["before"], CONTRAST, ACCENT)
    ax.hlines(y, frame["before"], frame["after"], color=colours, linewidth=4, alpha=0.5)
    ax.plot(
        frame["before"], y, "|", color="black", markersize=9, markeredgewidth=1.6, label="before"
    )
    ax.scatter(frame["after"], y, color=colours, s=26, zorder=3, label="after")
    if frame["random"].notna().any():
        ax.plot(frame["random"], y, "x", color=MUTED, markersize=5, label="random direction")
    names = [f"{c} (n = {n})" for c, n in zip(frame["class"], frame["n"], strict=True)]
    ax.set_yticks(y, names)
    for label, name in zip(ax.get_yticklabels(), frame["class"], strict=True):
        label.set_fontweight("bold" if name in set(edited) else "normal")
    ax.set(xlim=(-0.04, 1.04), xlabel="accuracy", ylim=(-0.8, len(frame) - 0.2))
    _below(ax, 3)


def _gate(ax, curve: pd.DataFrame, threshold: float | None) -> None:
    ax.plot(curve["threshold"], 1 - curve["miss"], color=ACCENT, label="fires on the class")
    ax.plot(
        curve["threshold"], curve["false_fire"], color=CONTRAST, label="false fires, all others"
    )
    ax.plot(
        curve["threshold"],
        curve["worst"],
        color=CONTRAST,
        linestyle="--",
        linewidth=1,
        label="worst other class",
    )
    if threshold is not None and np.isfinite(threshold):
        ax.axvline(threshold, color="black", linewidth=1.2, label=f"γ = {threshold:.3f}")
    ax.set(
        ylim=(-0.03, 1.03),
        xlabel=f"threshold of the {curve['score'].iloc[0]} gate",
        ylabel="share that fires",
    )
    _below(ax, 2)


def _strength(ax, curve: pd.DataFrame, at: float | None) -> None:
    for column, colour, label in (("acc_f", CONTRAST, "ACC_f"), ("acc_r", ACCENT, "ACC_r")):
        n = int(curve[f"n_{column[-1]}"].iloc[0])
        ax.plot(curve["factor"], curve[column], color=colour, label=f"{label}, n = {n}")
        ax.fill_between(
            curve["factor"],
            curve[f"{column}_low"],
            curve[f"{column}_high"],
            color=colour,
            alpha=0.16,
            linewidth=0,
        )
    if at is not None:
        ax.axvline(at, color="black", linewidth=1.2, label=f"strength {at:g}")
    ax.set(ylim=(-0.03, 1.03), xlabel="strength of the edit", ylabel="accuracy")
    _below(ax, 2)


def _below(ax, columns: int) -> None:
    """A legend under the axis label, clear of the curves."""
    ax.legend(
        loc="upper center", bbox_to_anchor=(0.5, 0), borderaxespad=4.5, ncols=columns, fontsize=8
    )
