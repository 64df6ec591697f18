"""The verdict on a pair of models: one page, or the essence of two side by side."""

import textwrap

import numpy as np

from ..style import MUTED
from .audit import collateral_maps, routing_bars
from .editing import trade_off
from .mapping import forecast_curves
from .matrices import heatmap

LIGHTS = {"green": "#2e8b57", "amber": "#d98e04", "red": "#b5322a"}
MEANING = {
    "green": "class vectors will edit it",
    "amber": "only stronger or other edits will",
    "red": "class vectors will not edit it",
}
SHOWN = (
    "fine-tuned", "retrained without it", "class vector", "z_ft - μ", "head direction", "random vector",
    "head-aware class vector", "mapping, class vector", "mapping, retired to the mean",
)  # fmt: skip
PERCENT = ("accuracy", "displacement", "head on", "share of", "probe on")


def verdict_page(report, routes, *, title: str = ""):
    """One page on a pair of models: light and numbers, methods, routing, cosines, forecast, who pays; returns the figure.

    report: a `Verdict`; routes: `editing.routed(report)`.
    """
    import matplotlib.pyplot as plt

    fig = plt.figure(figsize=(15, 19))
    head, methods, middle, pays = fig.subfigures(4, 1, height_ratios=(0.5, 1.05, 1.15, 1.05), hspace=0.02)
    _header(head.subplots(), report, title or report.name, width=150, columns=2)
    left, right = methods.subplots(1, 2, gridspec_kw={"width_ratios": (1, 1)})
    trade_off(_shown(report.study.table), ax=left)
    routing_bars(routes, axes=[right])
    left, right = middle.subplots(1, 2, gridspec_kw={"width_ratios": (1, 1.15)})
    geometry = report.geometry
    heatmap(
        geometry.cosine, ax=left, limit=1, mark=geometry.expected,
        title=f"cos(κ_c, z_ft^c'), val, n = {int(geometry.count.sum())}",
    )  # fmt: skip
    _curves(report, right)
    axes = pays.subplots(1, 3)
    collateral_maps(report.measured, report.forecast, axes=list(axes))
    gate = report.editability.deploy
    pays.suptitle(f"Who pays: every class under every class's edit, λ = {report.lambda_:g}, gate {gate!r}", x=0.01, ha="left")
    return fig


def verdict_pair(reports, *, titles=("", "")):
    """Two verdicts side by side: light and numbers, ACC_f against ACC_r of every method, forecast curve; returns the figure."""
    import matplotlib.pyplot as plt

    fig = plt.figure(figsize=(15, 12.6))
    head, methods, curves = fig.subfigures(3, 1, height_ratios=(0.8, 1.25, 0.85), hspace=0.02)
    tops, middles, bottoms = head.subplots(1, 2), methods.subplots(1, 2), curves.subplots(1, 2)
    for i, (report, title) in enumerate(zip(reports, titles, strict=True)):
        _header(tops[i], report, title or report.name, width=74, columns=1)
        trade_off(_shown(report.study.table), ax=middles[i])
        _curves(report, bottoms[i])
    bottoms[0].get_legend().remove()  # one legend serves both columns
    found = {}
    for ax in middles:
        for handle, label in zip(*ax.get_legend_handles_labels(), strict=True):
            if label.startswith("λ*"):
                continue
            name = label if label.endswith("λ = -1.00") else label.split(", λ")[0]  # what differs between the columns goes
            found.setdefault("fine-tuned, mean ACC_r" if ", mean ACC_r" in label else name, handle)
        ax.get_legend().remove()
    place = {"loc": "upper left", "bbox_to_anchor": (1.01, 1.02), "fontsize": 9, "borderaxespad": 0}
    middles[1].legend(found.values(), found.keys(), **place)
    return fig


def _curves(report, ax) -> None:
    forecast_curves(report.curves, axes=[ax])
    n, gate = len(report.study.outcomes), report.editability.deploy
    ax.set_title(f"class vector, gate {gate!r}, mean of n = {n} classes")


def _shown(table):
    return table[table["method"].isin(SHOWN)]


def _header(ax, report, title: str, *, width: int, columns: int) -> None:
    """The light with its word, what it means, and the quantities that were known before any edit."""
    ax.set_axis_off()
    ax.set(xlim=(0, 1), ylim=(0, 1))
    colour = LIGHTS[report.light]
    ax.text(0.0, 1.0, title, fontsize=15, fontweight="bold", va="top")
    ax.text(0.0, 0.86, f"● {report.light}: {MEANING[report.light]}", fontsize=13, fontweight="bold", va="top", color=colour)
    known = [row for row in report.table.itertuples() if row.split != "test" or row.quantity.startswith("accuracy")]
    lines = [_quantity(row) for row in known]
    per = -(-len(lines) // columns)
    for i in range(columns):
        ax.text(i / columns, 0.68, "\n".join(lines[i * per : (i + 1) * per]), fontsize=10.5, va="top", linespacing=1.4)
    said = textwrap.wrap(report.says()[0].split(": ", 1)[1], width)
    ax.text(0.0, 0.0, "\n".join(said), fontsize=10, va="bottom", color=MUTED, linespacing=1.3)


def _quantity(row) -> str:
    share = row.quantity.startswith(PERCENT)
    value, low, high = (f"{x:.1%}" if share else f"{x:.2f}" for x in (row.value, row.low, row.high))
    interval = f" [{low}, {high}]" if np.isfinite(row.low) else ""
    return f"{row.quantity}: {value}{interval}, n = {row.n}"
