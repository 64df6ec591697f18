"""The verdict on a pair of models: one page, or the essence of two side by side."""

import textwrap

import numpy as np
import pandas as pd

from ..editing import behind
from .audit import collateral_maps, routing_bars
from .editing import over_lambda, trade_off
from .marks import ACCURACIES, below, labelled, short
from .matrices import heatmap
from .style import SMALL, WIDE

LIGHTS = {"green": "#2e8b57", "amber": "#c77700", "red": "#b5322a"}
MEANING = {
    "green": "class vectors will edit it",
    "amber": "some classes need a stronger or another edit",
    "red": "class vectors will not edit most classes",
}
SHOWN = (
    "fine-tuned", "retrained without it", "class vector", "z_ft - μ", "head direction",
    "random vector", "head-aware class vector", "mapping, class vector",
    "mapping, retired to the mean",
)  # fmt: skip
SENTENCES = {  # a quantity, whether it is a share, and what follows its value
    "accuracy of the fine-tuned model": (True, "of images correct after fine-tuning"),
    "displacement explained by class (R²)": (True, "of fine-tuning's effect due to class"),
    "shift of a class over its spread, median": (False, "times its spread: how far a class moved"),
    "head on the pre-trained representation": (True, "correct before it, with the same head"),
    "share of |κ|² that the head reads, median": (True, "of |κ|² is seen by the head"),
    "pairs of classes shown within ±0.1 of orthogonal": (True, "of pairs shown orthogonal (±0.1)"),
    "pairs of classes refuted within ±0.1 of orthogonal": (True, "of pairs shown not to be so"),
}
HEAD, LINE = 4.4, 0.19  # inches of the header, and from one of its lines to the next
QUIET = "#555b63"


def verdict_page(report):
    """One page on a pair of models: light, numbers, methods, routing, cosines, strength, who pays.

    Numbers known before any edit stand left, what a probe finds of the audited class stands right.

    Args:
        report: a `Verdict`.
    Returns:
        The figure.
    """
    shown = "Recommended", "The edits recommended", "Behind the gate", "With two classes"
    told = [s for s in report.says() if s.startswith(shown)]
    fig, (head, methods, goes, pays) = _page(5.8, 4.6, 8.2)
    said = [line for s in (_outlook(report), *told) for line in textwrap.wrap(s, 58)]
    _head(head, 0.01, 0.98, report, said, probed=True)
    # maps first: seaborn draws the whole figure to see whether labels overlap
    geometry, found = report.geometry, report.deployed
    over = (
        f"Who pays: change of every class's accuracy under every edit, λ = {found.lambda_:g}, test"
    )
    losing = {behind(way): report.collateral[way].measured for way in report.paying}
    collateral_maps(losing, figure=pays, title=over)
    # the place that an odd number of maps leaves, else beside the bars
    right, *beside = np.ravel(goes.subplots(1, 2 - len(losing) % 2))
    (cosines,) = beside or [pays.axes[len(losing)]]
    cosines.set_axis_on()
    heatmap(geometry.cosine, ax=cosines, limit=1, mark=geometry.chance())
    cosines.set(xlabel="c', mean of", ylabel="c, class vector of")
    cosines.set_title(f"cos(κ_c, z_ft^c'), val, n = {int(geometry.count.sum())}")
    left, strength = methods.subplots(1, 2, width_ratios=(1.1, 1))
    trade_off(_shown(report), ax=left)
    left.set_title(f"Every method, n = {len(report.study.outcomes)} classes, test")
    routes = report.routes()
    n = int(routes["n"].max())
    routing_bars(routes, target=report.audited, ax=right)
    right.set_title(f"Where samples of class {short(report.audited)} go: n = {n}, test")
    _curves(found, strength)
    return fig


def verdict_pair(first, second):
    """Two `Verdict`s side by side: light, numbers, ACC_f and ACC_r of every method, strength.

    A method looks the same in both columns, and ACC_r has one scale.

    Returns:
        The figure.
    """
    reports, tables, found = (first, second), [], {}
    for table in map(_shown, reports):  # names are equal in both: lambda only where it is fixed
        fixed = (table["method"] == "class vector") & ~table["chosen"]
        tables.append(table.assign(lambda_=table["lambda_"].where(fixed)))
    fig, (head, methods, key, curves, last) = _page(4.8, 0.6, 2.7, 0.6)
    middles, bottoms = methods.subplots(1, 2, sharex=True), curves.subplots(1, 2, sharey=True)
    for i, (report, middle, bottom) in enumerate(zip(reports, middles, bottoms, strict=True)):
        _head(head, 0.01 + 0.5 * i, 0.48, report, textwrap.wrap(_outlook(report), 64))
        trade_off(tables[i], like=pd.concat(tables), ax=middle)
        n = len(report.study.outcomes)
        middle.set_title(f"λ chosen on val unless named,\nn = {n} classes, test")
        for label, mark in labelled(middle).items():
            found[label.rsplit(" ", 1)[0] if "mean ACC_r" in label else label] = mark
        _curves(report.deployed, bottom)
    middles[1].tick_params(axis="y", labelleft=False)  # the rows are those of the first
    for part, axes, marks in ((key, middles, found), (last, bottoms, labelled(*bottoms))):
        axes[1].set_ylabel("")
        for ax in axes:
            ax.get_legend().remove()
        part.legend(marks.values(), marks.keys(), loc="upper center", ncols=4, labelspacing=0.4)
    return fig


def _page(*heights: float):
    """A figure and its strips, one above the other: the header, and others of so many inches."""
    import matplotlib.pyplot as plt

    fig = plt.figure(figsize=(WIDE, HEAD + sum(heights)), layout="constrained")
    fig.get_layout_engine().set(w_pad=0.06, h_pad=0.06)
    return fig, fig.subfigures(1 + len(heights), 1, height_ratios=(HEAD, *heights))


def _curves(collateral, ax) -> None:
    """ACC_f and ACC_r of the class vector over strength: classes on test, and the mean on val."""
    over_lambda(ax, collateral.test.curves(), ["class"])
    on_val = collateral.val.curves().groupby("lambda_")
    for column, colour, name in ACCURACIES:
        label = f"{name}, mean on val"
        ax.plot(on_val[column].mean(), ":", color=colour, linewidth=1.8, label=label)
    n = len(collateral.test.targets)
    ax.set_title(f"Class vector, test, n = {n} classes,\n{behind(collateral.gate)}")
    below(ax, columns=1)


def _shown(report) -> pd.DataFrame:
    table = report.study.table
    return table[table["method"].isin(SHOWN)]


def _outlook(report) -> str:
    return report.says()[0].partition(" ")[2].replace("lambda", "λ").replace("<=", "≤")


def _head(parent, left: float, wide: float, report, said: list[str], *, probed=False) -> None:
    """Name, light, numbers and sentences, written outside the layout: inches across, lines down."""
    ax, colour = parent.add_axes([left, 0, wide, 0.97]), LIGHTS[report.light]
    ax.set_axis_off()
    ax.set(xlim=(0, wide * parent.figure.get_figwidth()), ylim=(0.97 * HEAD / LINE, 0))
    fits = 8.4 * ax.get_xlim()[1] / max(len(report.name), 1)  # in lines of 14 points
    _text(ax, 0, 0, report.name, max(14 * min(1, fits), SMALL), fontweight="bold")
    ax.plot([0.11], [2.2], "o", markersize=14, color=colour, clip_on=False, label=report.light)
    light = textwrap.fill(f"{report.light}: {MEANING[report.light]}", 90 if probed else 44)
    _text(ax, 0.3, 2.2, light, 11, va="center", color=colour, fontweight="bold")
    start = f"probe on class {report.audited} "
    probes = report.table["quantity"].str.startswith(start)
    lines = 1 if probed else 2  # of a fact
    end = _facts(ax, 3.6, "Before any edit", report.table[~probes], lines)
    if probed:
        over = f"Is class {short(report.audited)} recoverable? A probe on its features finds"
        _facts(ax, end + 0.6, over, report.table[probes], lines, start)
    where = (5.1, 3.6) if probed else (0, end + 0.4)
    _text(ax, *where, "\n".join(said), SMALL, color=QUIET, linespacing=1.4)


def _facts(ax, top: float, over: str, table: pd.DataFrame, lines: int, probe: str = "") -> float:
    """A quantity's value bold, a sentence, and the interval with n behind it or on a line below.

    Returns where the next line starts.
    """
    _text(ax, 0, top, over, 9, color=QUIET)
    for y, row in zip(top + 1.2 + lines * np.arange(len(table)), table.itertuples(), strict=True):
        usual = bool(probe), row.quantity.removeprefix(probe)
        share, sentence = SENTENCES.get(row.quantity, usual)
        value, low, high = (
            f"{100 * x:.1f}" if share else f"{x:.2f}".replace("-", "−")
            for x in (row.value, row.low, row.high)
        )
        value = value + "%" * share if np.isfinite(row.value) else "unknown"
        interval = f"[{low}, {high}], " if np.isfinite(row.low) else ""
        unit = "pairs" if "pairs" in row.quantity else row.split
        unit = "classes" if "median" in row.quantity else unit
        _text(ax, 0.62, y, value, SMALL, fontweight="bold", ha="right")
        _text(ax, 0.68, y, sentence, SMALL)
        place, side = (4.95, "right") if lines == 1 else (0.68, "left")
        _text(
            ax, place, y + lines - 1, f"{interval}n = {row.n:,} {unit}", SMALL, ha=side, color=QUIET
        )
    return top + 1.2 + lines * len(table)


def _text(ax, x: float, y: float, words: str, size: float, **look) -> None:
    ax.text(x, y, words, fontsize=size, **{"va": "top"} | look)
