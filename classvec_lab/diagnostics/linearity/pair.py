"""Two classes looked at closely: logits along κ of one, nearest images, and what is confused."""

from dataclasses import dataclass

import numpy as np
import pandas as pd

from ...readout import Latent, check_labelled, predict
from ...statistics import columns, mean_interval, tally
from .route import two_classes

LAMBDAS = np.arange(-10, 11) / 5
NEAREST = 4  # images of each class
MOST_SAMPLES = 200  # of a class that are moved: their mean logits and its interval need no more


@dataclass(frozen=True, eq=False)
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


def class_pair(
    classifier, features, vectors, first: str, second: str, *, seed: int = 0
) -> ClassPair:
    """Look at two classes of one classifier.

    Args:
        classifier: the fine-tuned model.
        features: of `classifier`, labelled.
        vectors: class vectors of the same classes.
        first, second: names of two classes.
        seed: of a class with more than 200 samples, 200 drawn with it are moved.
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
            rows = np.random.default_rng(seed).choice(rows, few, replace=False)
            moved = Latent(classifier, features.z[rows]).along(vectors.kappa[a], LAMBDAS)
            logits += _curves(own, moved, a, b)
    table = pd.concat(confusion, names=["true"]).reset_index("true")
    return ClassPair(first, second, pd.DataFrame(logits), table, nearest)


def _curves(own, moved, a: int, b: int) -> list[dict]:
    """Mean logits over LAMBDAS of the samples of `own`; moved (A, n, C)."""
    curves = {"first": moved[:, :, a], "second": moved[:, :, b]}
    if moved.shape[2] > 2:
        curves["other"] = np.delete(moved, (a, b), axis=2).max(axis=2)
    return [
        {"samples_of": own, "lambda_": lambda_, "logit": name}
        | columns("mean", mean_interval(values), "")
        | {"n": len(values)}
        for name, logits in curves.items()
        for lambda_, values in zip(LAMBDAS, logits, strict=True)
    ]
