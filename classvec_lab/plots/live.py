"""What an edit does, as one figure: every class before and after, its gate's and strength's
curves.
"""

from collections.abc import Sequence

import numpy as np
import pandas as pd

from .marks import ACCURACIES, UNIT, below, curve, inches, mark, name_rows, panels, short
from .style import ACCENT, CONTRAST, MUTED

_MOST = 45


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
    """Accuracy of each class before and after an edit, beside the curves that it was chosen on.

    Args:
        per_class: as `LiveReadout.per_class` gives it. Of more than 45 classes the edited ones
            are drawn and those that changed most.
        edited: classes whose names are bold.
        gate: a `gate_curve`, its `threshold` marked.
        strength: as `LiveEdits.strengths` gives it, the strength `at` marked.
    Returns:
        The Axes, 1 to 3.
    """
    frame = most_changed(per_class.dropna(subset="before"), edited, _MOST)
    n = sum(curves is not None for curves in (gate, strength))
    size = ((4.6 + 3.4 * n) / (1 + n), inches(len(frame), 0.19, 1.8, 3.4, 10.4))
    axes = panels(1 + n, size=size, over=title, width_ratios=[1.5, *[1] * n])
    _dumbbells(axes[0], frame, edited)
    if gate is not None:
        _gate(axes[1], gate, threshold)
    if strength is not None:
        ax = axes[-1]
        for column, colour, name in ACCURACIES:
            label = f"{name}, n = {strength[f'n_{column[-1]}'].iloc[0]:.0f}"
            curve(ax, strength, "factor", column, color=colour, label=label)
        mark(ax, at, "strength {:g}")
        ax.set(ylim=UNIT, xlabel="strength of the edit", ylabel="accuracy")
        below(ax, columns=1)
    return axes


def most_changed(per_class: pd.DataFrame, edited: Sequence[str], most: int) -> pd.DataFrame:
    """At most so many rows in the given order: edited classes, and those that changed most."""
    change = (per_class["after"] - per_class["before"]).abs().fillna(0)
    change += 2 * per_class["class"].isin(edited)
    return per_class.loc[change.nlargest(most).index.sort_values()]


def _dumbbells(ax, frame: pd.DataFrame, edited) -> None:
    y, colours = range(len(frame)), np.where(frame["after"] < frame["before"], CONTRAST, ACCENT)
    ax.hlines(y, frame["before"], frame["after"], color=colours, linewidth=4, alpha=0.5)
    ax.plot(frame["before"], y, "k|", markersize=9, markeredgewidth=1.6, label="before")
    ax.scatter(frame["after"], y, color=colours, s=26, zorder=3, label="after")
    if frame["random"].notna().any():
        ax.plot(frame["random"], y, "x", color=MUTED, markersize=5, label="random direction")
    name_rows(
        [ax], [f"{short(c, 24)} (n = {n})" for c, n in zip(frame["class"], frame["n"], strict=True)]
    )
    for row in np.flatnonzero(frame["class"].isin(edited)):
        ax.get_yticklabels()[row].set_fontweight("bold")
    ax.set(xlim=UNIT, xlabel="accuracy")
    below(ax, columns=1)


def _gate(ax, rates: pd.DataFrame, threshold: float | None) -> None:
    rates = rates.assign(fires=1 - rates["miss"])
    for column, colour, style, label in (
        ("fires", ACCENT, "-", "fires on the class"),
        ("false_fire", CONTRAST, "-", "false fires, all others"),
        ("worst", CONTRAST, "--", "worst other class"),
    ):
        ax.plot(rates["threshold"], rates[column], style, color=colour, label=label)
    mark(ax, threshold, "γ = {:.3f}")
    xlabel = f"threshold of the {rates['score'].iloc[0]} gate"
    ax.set(ylim=UNIT, xlabel=xlabel, ylabel="share that fires")
    below(ax, columns=1)
