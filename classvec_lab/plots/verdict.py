"""The verdict on a pair of models: one page, or two pages' essence side by side."""

import textwrap

import numpy as np

from ..style import MUTED
from .audit import collateral_maps, routing_bars
from .editing import trade_off
from .mapping import forecast_curves
from .matrices import heatmap

LIGHTS = {"green": "#2e8b57", "amber": "#d98e04", "red": "#b5322a"}
SHOWN = (
    "fine-tuned", "retrained without it", "class vector", "z_ft - μ", "head direction", "random vector",
    "head-aware class vector", "mapping, class vector", "mapping, retired to the mean",
)  # fmt: skip


def verdict_page(report, routes, *, title: str = ""):
    """One page: the light and its numbers, ACC_f against ACC_r, where samples go, κ against the means, who pays; returns the figure.

    report: a `Verdict`; routes: `editing.routed(report)`.
    """
    import matplotlib.pyplot as plt

    fig = plt.figure(figsize=(15, 13.5))
    grid = fig.add_gridspec(3, 6, height_ratios=(0.72, 1.05, 1.15))
    _header(fig.add_subplot(grid[0, :]), report, title, width=150)
    ax = trade_off(_shown(report.study.table), ax=fig.add_subplot(grid[1, :2]))
    ax.get_legend().set_bbox_to_anchor((1.01, 1.0))
    routing_bars(routes, axes=[fig.add_subplot(grid[1, 4:])])
    heatmap(
        report.geometry.cosine, ax=fig.add_subplot(grid[2, :2]), limit=1, mark=report.geometry.expected,
        title=f"cos(κ, z_ft), n = {int(report.geometry.count.sum())}",
    )  # fmt: skip
    inner = grid[2, 2:].subgridspec(1, 3)
    collateral_maps(report.measured, report.forecast, axes=[fig.add_subplot(inner[0, i]) for i in range(3)])
    fig.suptitle("")
    return fig


def verdict_pair(reports, *, titles=("", "")):
    """Two verdicts side by side: the light, ACC_f against ACC_r of every method, and the forecast curve; returns the figure."""
    import matplotlib.pyplot as plt

    fig = plt.figure(figsize=(14.5, 10.5))
    grid = fig.add_gridspec(3, 2, height_ratios=(0.62, 1.25, 0.95))
    for column, (report, title) in enumerate(zip(reports, titles, strict=True)):
        _header(fig.add_subplot(grid[0, column]), report, title, width=78)
        ax = trade_off(_shown(report.study.table), ax=fig.add_subplot(grid[1, column]))
        if column == 0:
            ax.get_legend().remove()
        curves = fig.add_subplot(grid[2, column])
        forecast_curves(report.curves, axes=[curves])
        n = len(report.study.outcomes)
        curves.set_title(f"class vector behind the gate {report.editability.deploy!r}, mean of n = {n} classes")
        if column == 0 and curves.get_legend() is not None:
            curves.get_legend().remove()
    fig.suptitle("")
    return fig


def _shown(table):
    return table[table["method"].isin(SHOWN)]


def _header(ax, report, title: str, *, width: int) -> None:
    """The light, the title, and the key quantities with their intervals."""
    ax.set_axis_off()
    ax.set(xlim=(0, 1), ylim=(0, 1))
    name = title or report.name
    ax.text(0.0, 0.97, "●", color=LIGHTS[report.light], fontsize=26, va="top")
    ax.text(0.05 if width < 100 else 0.025, 0.95, f"{name}: {_meaning(report)}", fontsize=13, fontweight="bold", va="top")
    lines = [_quantity(row) for row in report.table.itertuples() if row.split != "test" or "fine-tuned" in row.quantity]
    said = textwrap.wrap(report.says()[0].split(": ", 1)[1], width)
    half = (len(lines) + 1) // 2 if width >= 100 else len(lines)
    for i, part in enumerate((lines[:half], lines[half:])):
        ax.text(0.5 * i, 0.72, "\n".join(part), fontsize=9.5, va="top", linespacing=1.45)
    ax.text(0.0, 0.0, "\n".join(said), fontsize=9.5, va="bottom", color=MUTED, linespacing=1.3)


def _meaning(report) -> str:
    return {
        "green": "class vectors will edit it",
        "amber": "only stronger or other edits will",
        "red": "no latent edit is forecast to work",
    }[report.light]


def _quantity(row) -> str:
    known = np.isfinite(row.low)
    interval = f" [{row.low:.3g}, {row.high:.3g}]" if known else ""
    return f"{row.quantity}: {row.value:.3g}{interval}, n = {row.n}"
