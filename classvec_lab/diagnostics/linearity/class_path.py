"""Samples of one class on their way to another, at any alpha: what they are taken for, and where a third class lies between."""

from collections.abc import Sequence
from dataclasses import dataclass, field

import numpy as np
import pandas as pd

from ...errors import MismatchError
from ...features import Features
from ...readout import Latent, check_labelled
from ...statistics import wilson
from ...vectors import ClassVectors

ALPHAS = tuple(round(0.01 * k, 10) for k in range(101))


@dataclass(frozen=True, eq=False)
class ClassPath:
    """The samples of `source`, z - alpha κ_source + alpha κ_target, read by the head at any alpha; no image is encoded.

    rows (n,): their positions in the features.
    """

    source: str
    target: str
    classes: tuple[str, ...]
    rows: np.ndarray
    _latent: Latent = field(repr=False)
    _step: np.ndarray = field(repr=False)

    def __len__(self) -> int:
        return len(self.rows)

    def predicted(self, alpha: float) -> np.ndarray:
        """Predicted classes (n,) at one alpha."""
        return self._latent.predict(self._step, [alpha])[0]

    def third(self, predicted: np.ndarray) -> np.ndarray:
        """Whether predictions (…,) are neither source nor target."""
        return (predicted != self.classes.index(self.source)) & (
            predicted != self.classes.index(self.target)
        )

    def distribution(self, alpha: float) -> pd.DataFrame:
        """What the samples are taken for at one alpha: class, hits, n, share with its 95 % Wilson interval (low, high).

        Source and target first, then whichever third classes there are, most frequent first.
        """
        count, n = np.bincount(self.predicted(alpha), minlength=len(self.classes)), len(self)
        ends = [self.classes.index(self.source), self.classes.index(self.target)]
        rest = [i for i in np.argsort(-count, kind="stable") if count[i] and i not in ends]
        hits = count[[*ends, *rest]]
        low, high = wilson(hits, n)
        names = [self.classes[i] for i in (*ends, *rest)]
        return pd.DataFrame(
            {"class": names, "hits": hits, "n": n, "share": hits / n, "low": low, "high": high}
        )

    def detours(self, alphas: Sequence[float] = ALPHAS) -> pd.DataFrame:
        """The ranges of neighbouring alphas at each of which some sample is taken for a third class.

        One row a range and third class: first and last alpha of the range, class, samples ever taken for that class in it, and n;
        within a range the class of most samples comes first. Samples that are taken for a third class at alpha = 0 count too.
        """
        alphas = np.unique(np.asarray(alphas, dtype=np.float64))
        predicted = self._latent.predict(self._step, alphas)  # (A, n)
        third = self.third(predicted)
        edges = np.diff(np.concatenate([[False], third.any(axis=1), [False]]).astype(int))
        rows = []
        for first, end in zip(np.flatnonzero(edges == 1), np.flatnonzero(edges == -1), strict=True):
            part = np.where(third[first:end], predicted[first:end], -1)
            passed = {int(c): int((part == c).any(axis=0).sum()) for c in np.unique(part) if c >= 0}
            for c in sorted(passed, key=lambda c: (-passed[c], c)):
                place = {"first": alphas[first], "last": alphas[end - 1]}
                rows.append(
                    {**place, "class": self.classes[c], "samples": passed[c], "n": len(self)}
                )
        return pd.DataFrame(rows, columns=["first", "last", "class", "samples", "n"])


def class_path(
    ft, features: Features, vectors: ClassVectors, source: str, target: str
) -> ClassPath:
    """The way of class `source` to class `target`, to be read where one likes; `class_interpolation` sums it up.

    features: of ft, best of images that the vectors were not made from. Raises MismatchError for an unknown
    class, source = target, no sample of `source`, or classes and dimensions that don't agree.
    """
    check_labelled(ft, features, vectors)
    s, t = vectors.index(source), vectors.index(target)
    if s == t:
        raise MismatchError(f"source and target are both {source!r}: name two classes")
    rows = np.flatnonzero(features.y == s)
    if not len(rows):
        raise MismatchError(f"no sample of class {source!r} to move")
    step = vectors.kappa[t] - vectors.kappa[s]
    return ClassPath(source, target, vectors.classes, rows, Latent(ft, features.z[rows]), step)
