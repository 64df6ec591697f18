"""What the linearity panel shows of paths, and of a class on its way to another."""

import numpy as np
import pandas as pd

from ..diagnostics.linearity import ClassInterpolation, ClassPath
from ..words import percent
from .payload import chart, group, series, table

MOST_ROWS = 8  # third classes listed by name
PATHS = {
    "weights": ("weights θ_pre + α τ", "ink"),
    "true class": ("κ of the true class (knows the label)", "accent"),
    "nearest class": ("κ of the nearest class (no label)", "green"),
    "wrong class": ("κ of a wrong class", "contrast", (6, 3)),
    "random direction": ("random direction", "muted", (2, 3)),
}


def path_chart(rows: pd.DataFrame) -> dict:
    """Accuracy over alpha along the paths in these rows of a `LatentPaths`' table."""
    columns = "alpha", "accuracy", "low", "high"
    lines = [
        series(path.sort_values("alpha"), columns, *PATHS[name], dots=True)
        for name, path in rows.groupby("path", sort=False)
    ]
    title = f"pre-trained → fine-tuned: accuracy, n = {rows['n'].iloc[0]}"
    return chart(title, "α", lines, percent=True, xlim=[0, 1])


def path_table(rows: pd.DataFrame, alpha: float) -> str:
    """What was measured on each path at the alpha nearest to `alpha`, as HTML."""
    at = min(rows["alpha"], key=lambda measured: abs(measured - alpha))
    rows = rows[rows["alpha"] == at]
    near = "" if np.isclose(at, alpha) else f", the measured α nearest to {alpha:g}"
    cells = [(PATHS[r.path][0], percent(r.accuracy, r.low, r.high), r.n) for r in rows.itertuples()]
    return table(("path", "accuracy [95 %]", "n"), cells, caption=f"At α = {at:g}{near}")


def shift_chart(report: ClassInterpolation, detours: pd.DataFrame) -> dict:
    """What samples of the source are taken for over alpha, with crossings and detours."""
    looks = {
        "source": (f"taken for {report.source}", "contrast"),
        "target": (f"taken for {report.target}", "accent"),
        "other": ("taken for a third class", "muted"),
    }
    lines = [
        series(report.table, ("alpha", f"{side}_share", f"{side}_low", f"{side}_high"), *look)
        for side, look in looks.items()
    ]
    marks = [
        {"x": r.alpha, "label": f"{r.of} cross {r.alpha:.2f}"}
        for r in report.crossing.dropna(subset="alpha").itertuples()
    ]
    spans = [
        {"from": first, "to": last, "label": _listed(rows, 3), "colour": "violet"}
        for (first, last), rows in detours.groupby(["first", "last"])
    ]
    look = {"percent": True, "xlim": [0, 1], "marks": marks, "spans": spans}
    title = f"{report.source} → {report.target}, n = {report.success.n}"
    return chart(title, "α of z − α κ[source] + α κ[target]", lines, **look)


def shift_words(report: ClassInterpolation, detours: pd.DataFrame) -> list[str]:
    """Success, crossing, detour and the shaded ranges, in words."""
    ranges = []
    for (first, last), rows in detours.groupby(["first", "last"]):
        span = f"{first:.2f}" if first == last else f"{first:.2f} to {last:.2f}"
        ranges.append(f"{span} as {_listed(rows, MOST_ROWS)}")
    shaded = f"Shaded, samples taken for a third class: α {'; '.join(ranges)}."
    return [*report.says(), shaded if ranges else "At no α is a sample taken for a third class."]


def shift_table(path: ClassPath, alpha: float) -> str:
    """What the samples are taken for at one alpha, as HTML."""
    rows = path.distribution(alpha)
    cells = [(r[1], r.hits, percent(r.share, r.low, r.high)) for r in rows.itertuples()]
    if len(rest := rows.iloc[2 + MOST_ROWS :]):
        last = f"{len(rest)} more classes", rest["hits"].sum(), percent(rest["share"].sum())
        cells[2 + MOST_ROWS :] = [last]
    caption = f"Samples of {path.source} at α = {alpha:g}, n = {len(path)}"
    return table(("taken for", "samples", "share [95 %]"), cells, caption=caption)


def stray_images(path: ClassPath, alpha: float) -> dict:
    """A group of a `Gallery`: the first samples that are taken for a third class at one alpha."""
    predicted = path.predicted(alpha)
    found = np.flatnonzero(path.third(predicted))

    def item(i):
        key, name = int(path.rows[i]), path.classes[predicted[i]]
        return {"key": key, "caption": name, "title": f"no. {key}, taken for {name}"}

    return group(f"taken for a third class now: {len(found)} of {len(path)}", found, item)


def _listed(rows, most):
    """The third classes of one range, each with the samples that are taken for it."""
    names = [f"{r[3]} ({r.samples})" for r in rows.head(most).itertuples()]
    return ", ".join(names) + (f" and {len(rows) - most} more" if len(rows) > most else "")
