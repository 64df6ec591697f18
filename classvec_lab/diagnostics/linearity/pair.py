"""Two classes: the samples of one on their way to the other, and both looked at closely."""

import numpy as np
import pandas as pd

from ...checks import record
from ...errors import MismatchError
from ...readout import Latent, check_labelled, predict
from ...statistics import mean_interval, tally

ALPHAS = np.arange(101) / 100
LAMBDAS = np.arange(-10, 11) / 5
NEAREST = 4  # images of each class
MOST_SAMPLES = 200  # of a class that are moved: their mean logits and its interval need no more
LOGITS = ["samples_of", "logit", "n", "lambda_", "mean", "low", "high"]


@record
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
        found = pd.DataFrame(
            {"span": span, "alpha": ALPHAS[at], "class": predicted[third], "sample": sample}
        )
        spans = found.groupby("span")["alpha"].agg(first="min", last="max")
        rows = found.groupby(["span", "class"])["sample"].nunique().reset_index(name="samples")
        rows = rows.sort_values("samples", ascending=False, kind="stable")
        rows["class"] = np.take(self.classes, rows["class"])
        return spans.merge(rows, on="span").drop(columns="span")


@record
class ClassPair:
    """Classes `first` and `second` under one classifier, on labelled features.

    logits: mean logits of z + lambda · κ_first, lambda from -2 to 2; columns samples_of, lambda_,
    logit ("first", "second" or "other": the largest of all further classes, absent where there are
    but two), mean with its 95 % interval (low, high), n. confusion: true class (first, second),
    class that it is taken for (first, second, other), hits, n, share with its 95 % Wilson interval
    (low, high). nearest: (samples of, nearest to) to the positions of those features, nearest to
    the class mean z_ft first.
    """

    first: str
    second: str
    logits: pd.DataFrame
    confusion: pd.DataFrame
    nearest: dict[tuple[str, str], np.ndarray]


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


def class_pair(classifier, features, vectors, first: str, second: str) -> ClassPair:
    """Look at two classes of one classifier.

    Of a class with more than 200 samples, 200 that are drawn are moved.

    Args:
        classifier: the fine-tuned model.
        features: of `classifier`, labelled.
        vectors: class vectors of the same classes.
        first, second: names of two classes.
    Returns:
        A `ClassPair`.
    Raises:
        MismatchError: for unknown or equal classes, or classes and dimensions that don't agree.
    """
    check_labelled(classifier, features, vectors)
    places = dict(zip((first, second), two_classes(vectors, first, second), strict=True))
    a, b = places.values()
    predicted = predict(classifier, features)
    named = np.select([predicted == a, predicted == b], [0, 1], 2)
    logits, confusion, nearest = [], {}, {}
    for own, i in places.items():
        rows = np.flatnonzero(features.y == i)
        confusion[own] = tally(named[rows], (first, second, "other"))
        for name, j in places.items():
            distance = np.linalg.norm(features.z[rows] - vectors.z_ft[j], axis=1)
            nearest[own, name] = rows[np.argsort(distance, kind="stable")[:NEAREST]]
        if len(rows):
            few = min(len(rows), MOST_SAMPLES)
            rows = np.random.default_rng(0).choice(rows, few, replace=False)
            moved = Latent(classifier, features.z[rows]).along(vectors.kappa[a], LAMBDAS)
            curves = {"first": moved[:, :, a], "second": moved[:, :, b]}
            if len(vectors) > 2:
                curves["other"] = np.delete(moved, (a, b), axis=2).max(axis=2)
            for name, values in curves.items():
                found = zip(LAMBDAS, *mean_interval(values), strict=True)
                logits += [(own, name, few, *point) for point in found]
    logits = pd.DataFrame(logits, columns=LOGITS)
    table = pd.concat(confusion, names=["true"]).reset_index("true")
    return ClassPair(first, second, logits, table, nearest)


def two_classes(vectors, first: str, second: str) -> tuple[int, int]:
    """Positions of two classes; raises MismatchError where one is unknown or both are the same."""
    if first == second:
        raise MismatchError(f"name two classes; got {first!r} twice")
    return vectors.index(first), vectors.index(second)
