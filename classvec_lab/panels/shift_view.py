"""One class on its way to another: curves, what its samples are taken for at an alpha, and those taken for a third class."""

from html import escape

import ipywidgets as w
import numpy as np
import pandas as pd

from ..diagnostics.linearity import ClassInterpolation, class_interpolation
from ..diagnostics.linearity.class_path import ClassPath, class_path
from .canvas import Charts, Gallery, chart, series
from .tables import interval, table

MOST_THUMBS = 24  # samples shown as pictures
MOST_ROWS = 8  # third classes listed by name
MOST_KEPT = 16  # pairs whose results stay in memory


class ShiftView:
    """Shows the pair last given to `show` at the alpha last given to `at`; a pair is computed once.

    report: its `ClassInterpolation`; path: its `ClassPath`; detours: the ranges of alpha with a third class.
    """

    report: ClassInterpolation
    path: ClassPath
    detours: pd.DataFrame

    def __init__(self, classifier, features, vectors, dataset):
        self._given = classifier, features, vectors
        self._kept: dict[tuple, tuple] = {}
        self.chart = Charts(
            label="shares of predictions from one class to another", height=300, picks=True
        )
        self.words, self.table = w.HTML(), w.HTML()
        self.gallery = Gallery(dataset, label="samples taken for a third class")
        parts = [self.chart, self.words, self.table, self.gallery]
        self.view = w.VBox(parts, layout=w.Layout(flex="1 1 420px", min_width="320px"))

    def show(self, source: str, target: str) -> None:
        """Another pair; `at` has to follow."""
        key = source, target
        if key not in self._kept:
            while len(self._kept) >= MOST_KEPT:
                self._kept.pop(next(iter(self._kept)))
            path = class_path(*self._given, *key)
            self._kept[key] = class_interpolation(*self._given, *key), path, path.detours()
        self.report, self.path, self.detours = self._kept[key]
        self.chart.charts = [self._chart()]
        self.words.value = (
            "<div style='line-height:1.4'>" + "<br>".join(escape(s) for s in self.says()) + "</div>"
        )

    def at(self, alpha: float) -> None:
        """The marker, the table and the pictures at one alpha."""
        self.chart.markers = [alpha]
        self.table.value = self._table(alpha)
        strays = self.strays(alpha)
        items = [
            {
                "key": int(r.row),
                "caption": r.predicted,
                "title": f"no. {r.row}, taken for {r.predicted}",
            }
            for r in strays.head(MOST_THUMBS).itertuples()
        ]
        more = f", the first {MOST_THUMBS}" if len(strays) > len(items) else ""
        title = f"taken for a third class now: {len(strays)} of {len(self.path)}{more}"
        self.gallery.groups = [{"title": title, "items": items, "empty": "none at this α"}]

    def strays(self, alpha: float) -> pd.DataFrame:
        """The samples taken for a third class at one alpha: row in the features, predicted class."""
        predicted = self.path.predicted(alpha)
        third = self.path.third(predicted)
        return pd.DataFrame(
            {
                "row": self.path.rows[third],
                "predicted": [self.path.classes[i] for i in predicted[third]],
            }
        )

    def says(self) -> tuple[str, ...]:
        """Success, crossing, detour and the shaded ranges, in words."""
        if self.detours.empty:
            return (*self.report.says(), "At no α is a sample taken for a third class.")
        ranges = [
            f"{_span(first, last)} as {_listed(rows)}"
            for (first, last), rows in self.detours.groupby(["first", "last"])
        ]
        return (
            *self.report.says(),
            f"Shaded, samples taken for a third class: α {'; '.join(ranges)}.",
        )

    def _chart(self) -> dict:
        report, lines = self.report, []
        named = (
            ("source", "contrast", report.source),
            ("target", "accent", report.target),
            ("other", "muted", "a third class"),
        )
        for name, colour, label in named:
            x, y, low, high = (
                report.table[c].to_numpy()
                for c in ("alpha", f"{name}_share", f"{name}_low", f"{name}_high")
            )
            lines.append(series(f"taken for {label}", x, y, colour, low=low, high=high))
        marks = [
            {"x": r.alpha, "label": f"{r.of} cross {r.alpha:.2f}"}
            for r in report.crossing.itertuples()
            if np.isfinite(r.alpha)
        ]
        spans = [
            {"from": first, "to": last, "label": _listed(rows, most=3), "colour": "violet"}
            for (first, last), rows in self.detours.groupby(["first", "last"])
        ]
        shape = {
            "xlim": [0, 1],
            "ylim": [-0.02, 1.02],
            "percent": True,
            "marks": marks,
            "spans": spans,
        }
        title = f"{report.source} → {report.target}, n = {len(self.path)}"
        return chart(lines, title=title, xlabel="α of z − α κ[source] + α κ[target]", **shape)

    def _table(self, alpha: float) -> str:
        rows = self.path.distribution(alpha)
        named, rest = rows.head(2 + MOST_ROWS), rows.iloc[2 + MOST_ROWS :]
        cells = [
            (r[0], r[1], f"{r[3]:.1%}", interval(r[4], r[5], ".1%"))
            for r in named.itertuples(index=False, name=None)
        ]
        if len(rest):
            cells.append(
                (f"{len(rest)} more classes", rest["hits"].sum(), f"{rest['share'].sum():.1%}", "")
            )
        caption = f"Samples of {self.path.source} at α = {alpha:g}, n = {len(self.path)}"
        return table(("taken for", "samples", "share", "95 % interval"), cells, caption=caption)


def _listed(rows: pd.DataFrame, most: int = MOST_ROWS) -> str:
    """The third classes of one range, each with the samples that are taken for it."""
    names = [
        f"{name} ({n})"
        for name, n in zip(rows["class"][:most], rows["samples"][:most], strict=True)
    ]
    return ", ".join(names) + (f" and {len(rows) - most} more" if len(rows) > most else "")


def _span(first: float, last: float) -> str:
    return f"{first:.2f}" if first == last else f"{first:.2f} to {last:.2f}"
