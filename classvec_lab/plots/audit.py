"""What an edit left behind: where a forgotten class goes, who pays, and how an audit reads."""

from collections.abc import Mapping

import numpy as np
import pandas as pd

from ..checks import one_of
from .marks import beside, counts, dots, inches, name_rows, new_axes, panels
from .matrices import heatmap
from .style import ACCENT, MUTED, class_colours

RETRAINED = "retrained without it"
METRICS = {
    "ACC_f": "test",
    "ACC_r": "test",
    "routing JS": "test",
    "probe": "test",
    "MIA": "train",
    "CKA to retrained": "test",
    "ZRF": "test",
}
MOST_CLASSES = 10  # with a colour of their own
NAMED_FROM = 0.08  # share from which a part of a bar bears its name


def routing_bars(routes: pd.DataFrame, *, target: str, ax=None, title: str = ""):
    """Where each method sends the samples of a forgotten class: a stacked bar a method.

    The retrained model's bar comes first, set apart. The class's own colour is hatched. Of more
    than ten classes only it and those with the largest shares have a colour, and the others are
    joined. Shares from 8 % on are written into the bars.

    Args:
        routes: `ForgetStudy.routes`.
        target: the forgotten class.
    Returns:
        The Axes.
    Raises:
        ValueError: for a target without routes.
    """
    from seaborn.utils import relative_luminance

    one_of(target, list(routes["target"].unique()), "routes of target", ValueError)
    routes = routes[routes["target"] == target]
    largest = routes.groupby("class", sort=False)["share"].max()
    largest[target] = 1.0
    kept = largest.index[largest.rank(ascending=False, method="first") <= MOST_CLASSES]
    name = routes["class"].where(routes["class"].isin(kept), "other")
    shares = routes.assign(name=name).pivot_table("share", "method", "name", "sum", sort=False)
    shares = shares.reindex(columns=[*kept, *{"other"}.intersection(name)])
    shares = shares.sort_index(key=lambda methods: methods != RETRAINED, kind="stable")
    y = np.arange(len(shares)) + 0.35 * (shares.index != RETRAINED)
    ax, left = new_axes(ax, 8, 0.44 * len(shares) + 1), shares.cumsum(axis=1) - shares
    for part, colour in zip(shares, [*class_colours(len(kept)), "#d5d8dc"], strict=False):
        own = {"hatch": "////", "label": f"{part}, the class itself"} if part == target else {}
        look = {"color": colour, "edgecolor": "white", "linewidth": 0.6, "label": part, **own}
        bars = ax.barh(y, shares[part], left=left[part], height=0.8, **look)
        words = [_within(part, share) if share >= NAMED_FROM else "" for share in shares[part]]
        pad = {"facecolor": colour, "edgecolor": "none", "pad": 0.8} if own else None
        ink = "black" if relative_luminance(colour) > 0.4 else "white"
        look = {"color": ink, "fontsize": 7.5, "linespacing": 0.95, "bbox": pad}
        ax.bar_label(bars, words, label_type="center", **look)
    ax.set(xlim=(0, 1), ylim=(y[-1] + 0.55, y[0] - 0.55), xlabel="share predicted as")
    said = f"samples of class {target}, n = {counts(routes['n'])}"
    ax.set_title(f"{title}{': ' if title else ''}{said}")
    ax.set_yticks(y, shares.index)
    ax.spines["left"].set_visible(False)
    ax.tick_params(axis="y", length=0)
    return beside(ax, title="predicted as", alignment="left")


def collateral_maps(changes: Mapping[str, pd.DataFrame], *, figure=None, title: str = ""):
    """What forgetting each class (rows) does to the accuracy of every other (columns), in points.

    All maps share one colour scale. Hatched is the class itself, whose loss is intended and would
    swamp the others.

    Args:
        changes: titles of maps to changes in -1..1, as `Replayed.change` gives them.
        figure: a figure, or part of one, to draw on.
    Returns:
        The Axes, one a map.
    """
    first = next(iter(changes.values()))
    own = first.index.to_numpy()[:, None] == first.columns.to_numpy()
    side = inches(len(first.columns), 0.32, 1.6, 4.0, 7.8)
    axes = panels(len(changes), size=(0.89 * side, 0.88 * side), over=title, figure=figure)
    points = {name: 100 * frame.mask(own).astype(float) for name, frame in changes.items()}
    limit = float(np.nanmax(np.abs([*points.values()]), initial=1.0))
    label = "change of accuracy, percentage points"
    for ax, (name, frame) in zip(axes, points.items(), strict=True):
        known = frame.stack().dropna()
        if len(known):
            mean, lowest = np.round([known.mean(), known.min()], 1) + 0.0
            name += f"\nmean {mean:+.1f}, lowest {lowest:+.1f}"
        look = {"limit": limit, "label": label, "fmt": "g", "title": name}
        heatmap(frame.round(1) + 0.0, ax=ax, **look)
        ax.patch.set(facecolor="#e3e5e8", edgecolor=MUTED, hatch="////", linewidth=0)
        ax.set_xlabel("accuracy of")
    axes[0].set_ylabel("edited")
    for ax in axes[:-1]:
        ax.collections[0].colorbar.remove()  # one scale, one bar
    return axes


def audit_dots(audits: pd.DataFrame, *, title: str = ""):
    """Audits of several methods on one class, a row a method and a panel a metric.

    Args:
        audits: tables of `Audit` joined, with a column method.
    Returns:
        The Axes. The value has its 95 % interval where that is known. The line is the retrained
        model's value, the dotted one the original's.
    Raises:
        ValueError: where a method has two audits.
    """
    if len(again := audits[audits.duplicated(["method", "metric", "split"])]):
        method = again["method"].iloc[0]
        raise ValueError(f"{method!r} has several audits here; draw one target and seed at a time")
    shown = audits[audits["metric"].map(METRICS) == audits["split"]]
    parts = {m: part for m in METRICS if len(part := shown[shown["metric"] == m])}
    methods = list(audits["method"].unique())
    size = (1.9, 0.42 * len(methods) + 1.4)
    axes = panels(len(parts), size=size, sharey=True, over=title)
    for ax, (metric, rows) in zip(axes, parts.items(), strict=True):
        for column, style, colour in (("retrained", "-", "black"), ("original", ":", MUTED)):
            for known in rows[column].dropna()[:1]:
                look = {"color": colour, "linestyle": style, "linewidth": 1.1, "zorder": 1}
                ax.axvline(known, label=column, **look)
        look = {"color": ACCENT, "label": "after the edit", "markersize": 5.5, "linewidth": 1.2}
        dots(ax, rows, "value", rows["method"].map(methods.index), along="x", **look)
        values = rows[["value", "low", "high", "retrained", "original"]].to_numpy(float)
        low, high = np.nanmin(values), np.nanmax(values)
        if high - low > 0.1:  # all of 0..1, unless everything lies within a tenth of that
            ax.set_xlim(min(-0.06, low - 0.06), max(1.06, high + 0.06))
        ax.set_title(f"{metric}\n{METRICS[metric]}, n = {counts(rows['n'])}", fontsize=9.5)
        ax.locator_params(axis="x", nbins=3)
    name_rows(axes, methods)
    beside(*axes)
    return axes


def _within(name: str, share: float) -> str:
    """A part's name and share, the name cut off where it is longer than the part."""
    fits = int(65 * share)  # characters
    word = name if len(name) <= fits else f"{name[: fits - 2]}…" if fits > 5 else ""
    return f"{word}\n{share:.0%}".strip()
