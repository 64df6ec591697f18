"""Shares with their intervals: under several conditions, of several kinds, and over a strength."""

from .marks import UNIT, below, counts, curve, dots, few_ticks, name_rows, panels
from .style import ACCENT, CONTRAST, MUTED, class_colours

_SETTINGS = {
    "deployed": {"color": ACCENT},
    "class known": {"color": CONTRAST, "markerfacecolor": "white"},
    "control": {"color": MUTED, "markerfacecolor": MUTED},
    "reference": {"color": "black"},
    "val": {"color": ACCENT, "markerfacecolor": "white"},
    "worst target": {"color": CONTRAST, "markerfacecolor": "none", "fmt": "D"},
}


def by_condition(
    table, *, value="accuracy", row: str = "method", by: str = "setting", title: str = ""
):
    """Shares with their intervals, a row a method: a panel a condition, or a panel a share.

    Args:
        table: columns condition, `row`, `by` ("deployed", "class known", "control", "reference",
            "val", "test", "worst target" or another), and shares with their _low and _high.
        value: the column of the share; or several of all rows, with their number in a column n.
        row, by: columns, of what has a row of its own and of what has a colour.
    Returns:
        The Axes.
    """
    names, over = [*dict.fromkeys(table[row])], isinstance(value, str)
    if over:
        parts = [(k, part, value) for k, part in table.groupby("condition", sort=False)]
    else:
        parts = [(column, table, column) for column in value]
    n = len(parts)
    size = (max(2.4, 6 / n), 0.27 * len(names) + 1.6)  # room for names and the legend
    axes = panels(n, size=size, columns=min(n, 4), sharey=True, over=title)
    for ax, (name, part, column) in zip(axes, parts, strict=True):
        apart = 0.24 * part.duplicated(row).any()
        for k, (setting, own) in enumerate(part.groupby(by, sort=False)):
            look = _SETTINGS.get(setting, {"color": ACCENT}) | {"label": setting, "along": "x"}
            dots(ax, own, column, own[row].map(names.index) + apart * (k - 0.5), **look)
        below_it = value.replace("_", " ") if over else f"n = {counts(table['n'])}"
        ax.set(title=name, xlabel=below_it)
        few_ticks(ax)
    name_rows(axes, names)
    return below(axes)


def over_strength(
    table, *, x: str = "lambda_", value: str = "accuracy", line: str = "method", title: str = ""
):
    """A share over the strength of an edit, a line a method with the band of its interval.

    Args:
        table: columns condition, x, line, and the share with its _low and _high.
        x, value, line: columns: along the axis, of the share, and what has a line of its own.
    Returns:
        The Axes, one a condition in the order of the table.
    """
    names, parts = [*dict.fromkeys(table[line])], table.groupby("condition", sort=False)
    colours = dict(zip(names, class_colours(len(names)), strict=True))
    n = len(parts)
    size = max(3 - 0.8 * (n > 3), 5 / n), 3
    axes = panels(n, size=size, columns=min(n, 4), sharey=True, over=title)
    for ax, (condition, part) in zip(axes, parts, strict=True):
        for name, own in part.groupby(line, sort=False):
            curve(ax, own.sort_values(x), x, value, color=colours[name], marker=".", label=name)
        label = {"lambda_": "λ"}.get(x, x.replace("_", " "))
        ax.set(title=condition, xlabel=label, ylim=UNIT)
        few_ticks(ax, 5)
    axes[0].set_ylabel(value.replace("_", " "))
    return below(axes)
