"""What stands beside a selected cell: nearest images of both classes, the logits along κ, the confusion between the two."""

from html import escape

import ipywidgets as w

from ..diagnostics.linearity.pair import ClassPair, class_pair
from .canvas import Charts, Gallery, chart, series

_LINES = {"first": ("contrast", ()), "second": ("accent", ()), "other": ("muted", (5, 3))}


class PairView:
    """Shows a `ClassPair` under the fine-tuned classifier and its features; without them only the headline."""

    def __init__(self, vectors, features, classifier, dataset):
        self.vectors, self.classifier = vectors, classifier
        self.features = features
        self.able = features is not None and classifier is not None
        self.headline = w.HTML()
        self.gallery = Gallery(
            dataset if self.features is not None else None, label="nearest images of both classes"
        )
        self.charts = Charts(label="mean logits along the class vector", columns=2, height=205)
        self.table = w.HTML(layout=w.Layout(overflow="auto"))
        parts = [self.headline, *([self.gallery, self.charts, self.table] if self.able else [])]
        self.view = w.VBox(parts, layout=w.Layout(flex="1 1 400px", min_width="300px"))

    def say(self, headline: str) -> None:
        """The selected value, in words."""
        self.headline.value = (
            f"<div role='status' style='font-weight:600;line-height:1.35'>{escape(headline)}</div>"
        )

    def show(self, names: tuple) -> None:
        """The pair `names`, or nothing for ()."""
        if not self.able:
            return
        if len(set(names)) < 2:
            self.gallery.groups = [] if not names else [self._alone(names[0])]
            self.charts.charts, self.table.value = [], ""
            return
        pair = class_pair(self.classifier, self.features, self.vectors, *names)
        self.gallery.groups = self._groups(pair)
        self.charts.charts = self._charts(pair)
        self.table.value = confusion_table(pair)

    def _alone(self, name: str) -> dict:
        import numpy as np

        rows = np.flatnonzero(self.features.y == self.vectors.index(name))
        distance = np.linalg.norm(
            self.features.z[rows] - self.vectors.z_ft[self.vectors.index(name)], axis=1
        )
        return self._group(f"{name}: nearest to its own mean", rows[np.argsort(distance)[:8]])

    def _group(self, title: str, rows) -> dict:
        items = [{"key": int(i), "caption": f"no. {int(i)}"} for i in rows]
        return {"title": title, "items": items, "empty": "no image of this class"}

    def _groups(self, pair: ClassPair) -> list[dict]:
        groups = []
        for own, other in ((pair.first, pair.second), (pair.second, pair.first)):
            groups.append(self._group(f"{own}: nearest to its own mean", pair.nearest[own, own]))
            groups.append(self._group(f"{own}: nearest to {other}", pair.nearest[own, other]))
        return groups

    def _charts(self, pair: ClassPair) -> list[dict]:
        names = {
            "first": f"logit {pair.first}",
            "second": f"logit {pair.second}",
            "other": "largest other",
        }
        made = []
        for own, part in pair.logits.groupby("samples_of", sort=False):
            lines = [
                series(
                    names[k],
                    rows["lambda_"],
                    rows["mean"],
                    _LINES[k][0],
                    dash=_LINES[k][1],
                    low=rows["low"],
                    high=rows["high"],
                )
                for k, rows in part.groupby("logit", sort=False)
            ]
            title = f"images of {own}, n = {part['n'].iloc[0]}"
            made.append(
                chart(
                    lines,
                    title=title,
                    xlabel=f"λ of z + λ κ[{pair.first}]",
                    marks=[{"x": 0, "label": ""}],
                )
            )
        return made


def confusion_table(pair: ClassPair) -> str:
    """True class against predicted as an HTML table: counts, and shares with 95 % intervals."""
    head = "".join(
        f"<th scope='col'>{escape(n)}</th>"
        for n in (f"→ {pair.first}", f"→ {pair.second}", "→ another")
    )
    body = ""
    for true, rows in pair.confusion.groupby("true", sort=False):
        cells = "".join(
            f"<td>{row.hits}: {row.share:.0%} [{100 * row.low:.0f}, {100 * row.high:.0f}]</td>"
            if row.n
            else "<td>no image</td>"
            for row in rows.itertuples()
        )
        body += f"<tr><th scope='row'>{escape(true)} (n = {rows['n'].iloc[0]})</th>{cells}</tr>"
    return f"<table class='cv-table'><thead><tr><th>true</th>{head}</tr></thead><tbody>{body}</tbody></table>"
