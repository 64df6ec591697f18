"""Applications of class vectors: methods under several conditions, and a share over strength."""

from .marks import UNIT, below, curve, dots, few_ticks, name_rows, panels
from .style import ACCENT, CONTRAST, MUTED, class_colours

_SETTINGS = {
    "deployed": {"color": ACCENT},
    "class known": {"color": CONTRAST, "markerfacecolor": "white"},
    "control": {"color": MUTED, "markerfacecolor": MUTED},
    "reference": {"color": "black"},
}


def by_condition(table, *, value: str = "accuracy", title: str = ""):
    """A share of every method under every condition, with its interval: a row a method.

    Args:
        table: columns condition, method, setting ("deployed", "class known", "control",
            "reference", or another), and the share with its _low and _high.
        value: the column of the share.
    Returns:
        The Axes, one a condition in the order of the table.
    """
    methods, parts = [*dict.fromkeys(table["method"])], table.groupby("condition", sort=False)
    size = (max(2.4, 6 / len(parts)), 0.27 * len(methods) + 1.6)  # room for names and the legend
    axes = panels(len(parts), size=size, columns=min(len(parts), 4), sharey=True, over=title)
    for ax, (condition, part) in zip(axes, parts, strict=True):
        for setting, own in part.groupby("setting", sort=False):
            look = _SETTINGS.get(setting, {"color": CONTRAST}) | {"label": setting, "along": "x"}
            dots(ax, own, value, own["method"].map(methods.index), **look)
        ax.set(title=condition, xlabel=value.replace("_", " "))
        few_ticks(ax)
    name_rows(axes, methods)
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
    axes = panels(
        len(parts),
        size=(max(3, 5 / len(parts)), 3),
        columns=min(len(parts), 3),
        sharey=True,
        over=title,
    )
    for ax, (condition, part) in zip(axes, parts, strict=True):
        for name, own in part.groupby(line, sort=False):
            curve(ax, own.sort_values(x), x, value, color=colours[name], marker=".", label=name)
        label = {"lambda_": "λ"}.get(x, x.replace("_", " "))
        ax.set(title=condition, xlabel=label, ylim=UNIT)
        few_ticks(ax, 5)
    axes[0].set_ylabel(value.replace("_", " "))
    return below(axes)
