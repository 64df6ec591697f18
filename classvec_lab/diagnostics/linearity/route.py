"""Samples of one class on their way to another: what they are taken for at any alpha."""

from dataclasses import dataclass

import numpy as np
import pandas as pd

from ...errors import MismatchError
from ...readout import Latent, check_labelled
from ...statistics import tally

ALPHAS = np.arange(101) / 100


@dataclass(frozen=True, eq=False, repr=False)
class ClassPath:
    """The samples of `source` at z - alpha κ_source + alpha κ_target, read by the head.

    No image is encoded. rows (n,) are the samples' positions in the features, `latent` their
    representations, and step (m,) is κ_target - κ_source. places: positions of source and target
    among the classes.
    """

    source: str
    target: str
    classes: tuple[str, ...]
    places: tuple[int, int]
    rows: np.ndarray
    latent: Latent
    step: np.ndarray

    def __len__(self) -> int:
        return len(self.rows)

    def predicted(self, alpha: float) -> np.ndarray:
        """Predicted classes (n,) at one alpha."""
        return self.latent.predict(self.step, [alpha])[0]

    def third(self, predicted: np.ndarray) -> np.ndarray:
        """Whether predictions (…,) are neither source nor target."""
        return ~np.isin(predicted, self.places)

    def distribution(self, alpha: float) -> pd.DataFrame:
        """What the samples are taken for at one alpha, as `statistics.tally` gives it.

        Source and target come first, then whichever third classes there are, most frequent first.
        """
        rows, ends = tally(self.predicted(alpha), self.classes), list(self.places)
        rest = rows.drop(ends).sort_values("hits", ascending=False, kind="stable")
        return pd.concat([rows.loc[ends], rest[rest["hits"] > 0]], ignore_index=True)

    def detours(self) -> pd.DataFrame:
        """The ranges of alpha, in steps of 0.01, in which some sample is taken for a third class.

        Returns:
            One row a range and third class: first and last alpha of the range, class, and samples
            ever taken for that class in it. Within a range the class of most samples comes first.
            Samples that are taken for a third class at alpha = 0 count too.
        """
        predicted = self.latent.predict(self.step, ALPHAS)  # (A, n)
        third = self.third(predicted)
        at, sample = np.nonzero(third)
        span = np.cumsum(~third.any(axis=1))[at]  # stands still within a range
        found = {"span": span, "alpha": ALPHAS[at], "class": predicted[third], "sample": sample}
        found = pd.DataFrame(found)
        spans = found.groupby("span")["alpha"].agg(first="min", last="max")
        rows = found.groupby(["span", "class"])["sample"].nunique().reset_index(name="samples")
        rows = rows.sort_values("samples", ascending=False, kind="stable")
        rows["class"] = np.take(self.classes, rows["class"])
        return spans.merge(rows, on="span").drop(columns="span")


def class_path(ft, features, vectors, source: str, target: str) -> ClassPath:
    """The way of class `source` to class `target`, which `class_interpolation` sums up.

    Args:
        ft: the fine-tuned classifier.
        features: of ft, best of images that the vectors were not made from.
        vectors: class vectors of the same classes.
        source, target: names of two classes.
    Returns:
        A `ClassPath` of the samples of `source`.
    Raises:
        MismatchError: for an unknown class, source = target, no sample of `source`, or classes and
            dimensions that don't agree.
    """
    check_labelled(ft, features, vectors)
    s, t = places = two_classes(vectors, source, target)
    rows = np.flatnonzero(features.y == s)
    if not len(rows):
        raise MismatchError(f"no sample of class {source!r} to move")
    latent, step = Latent(ft, features.z[rows]), vectors.kappa[t] - vectors.kappa[s]
    return ClassPath(source, target, vectors.classes, places, rows, latent, step)


def two_classes(vectors, first: str, second: str) -> tuple[int, int]:
    """Positions of two classes; raises MismatchError where one is unknown or both are the same."""
    if first == second:
        raise MismatchError(f"name two classes; got {first!r} twice")
    return vectors.index(first), vectors.index(second)
