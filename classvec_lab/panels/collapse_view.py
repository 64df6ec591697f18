"""What the canvases of the collapse panel are given: a chart for each metric, and a film of samples and class means."""

import numpy as np
import pandas as pd

from ..plots.collapse import PANELS
from ..plots.style import class_colours
from .canvas import chart, packed, series

COLOURS = ("accent", "contrast", "green", "violet", "ink", "muted")  # of runs, while they suffice
LOGARITHMIC = ("nc1", "cdnv")
MOST_DOTS = 40  # epochs that are drawn with dots


def metric_chart(tables: pd.DataFrame, metric: str, chosen: str, kept: int | None) -> dict:
    """One metric over epochs: a line a run, the chosen one thicker, intervals, NC2's null dashed, the kept epoch marked."""
    rows = tables[tables["metric"] == metric].sort_values("epoch")
    runs = list(dict.fromkeys(tables["run"]))
    lines = []
    for name, colour in zip(runs, run_colours(len(runs)), strict=True):
        lines += _lines(
            rows[rows["run"] == name],
            colour,
            name if len(runs) > 1 else "",
            thick=len(runs) > 1 and name == chosen,
        )
    marks = [] if kept is None else [{"x": kept, "label": "kept", "high": metric != "nc4"}]
    return chart(
        lines, title=PANELS[metric], xlabel="epoch", marks=marks, whole=True, **_axis(metric, rows)
    )


def key(tables: pd.DataFrame, metrics: tuple) -> list[dict]:
    """What stands under the charts: the runs where there are several, and the null of NC2 where one is drawn."""
    runs = list(dict.fromkeys(tables["run"]))
    named = zip(runs, run_colours(len(runs)), strict=True) if len(runs) > 1 else ()
    lines = [{"name": name, "colour": colour, "dash": []} for name, colour in named]
    if np.isfinite(tables.loc[tables["metric"].isin(metrics), "null_high"]).any():
        colour = "ink" if len(runs) > 1 else run_colours(1)[0]
        lines.append(
            {"name": "95 % of what an exact ETF would show", "colour": colour, "dash": [5, 3]}
        )
    return lines


def film(history) -> dict:
    """Points, means, labels and box of a `Scatter`, and the shares of the variance that its plane shows, in words."""
    points, means = history.points, history.means2d
    both = pd.concat([points, means])[["x", "y"]].to_numpy()
    low, high = both.min(axis=0), both.max(axis=0)
    room = 0.05 * (high - low)
    return {
        "points": packed(points[["x", "y"]].to_numpy()),
        "means": packed(means[["x", "y"]].to_numpy()),
        "labels": packed(history.labels),
        "box": np.stack([low - room, high + room], axis=1).ravel().tolist(),
        "explained": " + ".join(f"{share:.0%}" for share in means.attrs["explained"]),
    }


def run_colours(n: int) -> list[str]:
    """Colours of n runs: the theme's, for one and two as `plots.collapse_curves` has them; of very many evenly spaced hues."""
    if n <= 2:
        return ["accent"] if n == 1 else ["muted", "accent"]
    if n <= len(COLOURS):
        return list(COLOURS[:n])
    return [f"#{class_bytes(n)[3 * k : 3 * k + 3].hex()}" for k in range(n)]


def class_bytes(n: int) -> bytes:
    """The colours of n classes, three bytes each."""
    return (np.array(class_colours(n))[:, :3] * 255).round().astype(np.uint8).tobytes()


def _lines(rows: pd.DataFrame, colour: str, run: str, *, thick: bool) -> list[dict]:
    x, y, low, high, null = (
        rows[["epoch", "value", "low", "high", "null_high"]].to_numpy(dtype=np.float64).T
    )
    line = series(
        run or "value",
        x,
        y,
        colour,
        low=low,
        high=high,
        dots=len(x) <= MOST_DOTS,
        width=3.0 if thick else 1.8,
    )
    lines = [line | {"legend": False}]
    if np.isfinite(null).any():
        name = f"{run}: 95 % of its null" if run else "95 % of its null"
        lines.append(series(name, x, null, colour, dash=(5, 3), width=1.4) | {"legend": False})
    return lines


def _axis(metric: str, rows: pd.DataFrame) -> dict:
    """Logarithmic, from 0, or free, as `plots.collapse_curves` has it."""
    values = rows["value"].to_numpy()
    if metric in LOGARITHMIC and (values[np.isfinite(values)] > 0).all():
        return {"log": True}
    if metric == "nc4":
        return {}
    ends = rows[["value", "high", "null_high"]].to_numpy()
    return {"ylim": [0, 1.06 * (ends[np.isfinite(ends)].max() or 1.0)]}
