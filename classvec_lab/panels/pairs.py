"""What stands beside a selected cell: nearest images, the logits along κ, the confusion of both."""

import numpy as np

from ..diagnostics.linearity import ClassPair, class_pair
from ..words import percent
from .payload import chart, group, series, table

N_ALONE = 8  # images shown of a class by itself


def pair_view(classifier, features, vectors, names: tuple) -> tuple[list, list, str]:
    """The groups of a `Gallery`, the charts, and the confusion as HTML.

    Args:
        classifier: the fine-tuned one.
        features: its own.
        vectors: the class vectors.
        names: two classes; of one class twice there are its nearest images, of () nothing.
    """
    if len(set(names)) == 2:
        pair = class_pair(classifier, features, vectors, *names)
        groups = [_nearest(*ends, rows) for ends, rows in pair.nearest.items()]
        return groups, pair_charts(pair), confusion_table(pair)
    groups = []
    for name in names[:1]:
        i = vectors.index(name)
        rows = np.flatnonzero(features.y == i)
        distance = np.linalg.norm(features.z[rows] - vectors.z_ft[i], axis=1)
        groups.append(_nearest(name, name, rows[distance.argsort()[:N_ALONE]]))
    return groups, [], ""


def _nearest(name, to, rows):
    title = f"{name}: nearest to {'its own mean' if to == name else to}"
    return group(title, rows, lambda i: {"key": i, "caption": f"no. {i}"})


def pair_charts(pair: ClassPair) -> list[dict]:
    """For the images of each class the mean logits of both and of the largest other, along κ."""
    looks = {
        "first": (f"logit {pair.first}", "contrast"),
        "second": (f"logit {pair.second}", "accent"),
        "other": ("largest other", "muted", (5, 3)),
    }
    charts, columns = [], ("lambda_", "mean", "low", "high")
    for own, part in pair.logits.groupby("samples_of", sort=False):
        curves = part.groupby("logit", sort=False)
        lines = [series(rows, columns, *looks[logit]) for logit, rows in curves]
        title, xlabel = f"images of {own}, n = {part['n'].iloc[0]}", f"λ of z + λ κ[{pair.first}]"
        charts.append(chart(title, xlabel, lines, marks=[{"x": 0, "label": ""}]))
    return charts


def confusion_table(pair: ClassPair) -> str:
    """True class against predicted as an HTML table: counts, and shares with 95 % intervals."""
    rows = []
    for true, part in pair.confusion.groupby("true", sort=False):
        cells = [
            f"{r.hits}: {percent(r.share, r.low, r.high, 0)}" if r.n else "no image"
            for r in part.itertuples()
        ]
        rows.append((f"{true} (n = {part['n'].iloc[0]})", *cells))
    return table(("true", f"→ {pair.first}", f"→ {pair.second}", "→ another"), rows)
