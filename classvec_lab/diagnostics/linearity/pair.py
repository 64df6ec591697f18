"""Two classes looked at closely: what κ of one does to the logits of both, which images lie nearest, what is confused."""

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import pandas as pd

from ...errors import MismatchError
from ...readout import Latent, check_labelled, predict
from ...statistics import mean_interval, wilson

LAMBDAS = tuple(round(-2 + 0.2 * k, 10) for k in range(21))
MOST_SAMPLES = 200  # of a class that are moved: their mean logits and its interval need no more


@dataclass(frozen=True, eq=False)
class ClassPair:
    """Classes `first` and `second` under one classifier, on labelled features.

    logits: mean logits of z + lambda · κ_first with 95 % intervals; columns samples_of, lambda_, logit ("first", "second" or
    "other": the largest of all further classes, absent where there are but two), mean, low, high, n.
    confusion: true class (first, second) against predicted (first, second, other): n, share, low and high (Wilson).
    nearest: (samples of, nearest to) to the positions of those features, nearest first, by distance to the class mean z_ft.
    """

    first: str
    second: str
    logits: pd.DataFrame
    confusion: pd.DataFrame
    nearest: dict[tuple[str, str], np.ndarray]

    def says(self) -> tuple[str, ...]:
        """What κ of the first class, taken off once, does to the mean logit of the second class's own images."""
        own = self.logits[
            (self.logits["samples_of"] == self.second) & (self.logits["logit"] == "second")
        ].set_index("lambda_")
        if own.empty:
            return (f"No image of {self.second!r} to look at.",)
        change = own.loc[-1.0, "mean"] - own.loc[0.0, "mean"]
        return (
            f"Taking κ of {self.first!r} off once moves the mean logit of {self.second!r} on its own images by {change:+.2f} "
            f"(n = {int(own['n'].iloc[0])}).",
        )


def class_pair(
    classifier,
    features,
    vectors,
    first: str,
    second: str,
    *,
    lambdas: Sequence[float] = LAMBDAS,
    n_nearest: int = 4,
    seed: int = 0,
) -> ClassPair:
    """Look at two classes; features: of `classifier`, the fine-tuned model. -1 and 0 are always among the lambdas.

    Of a class with more than 200 samples, 200 drawn with `seed` are moved. Raises MismatchError for unknown or equal
    classes, or classes and dimensions that don't agree.
    """
    check_labelled(classifier, features, vectors)
    a, b = vectors.index(first), vectors.index(second)
    if a == b:
        raise MismatchError(f"a pair is two classes; got {first!r} twice")
    members = {name: np.flatnonzero(features.y == i) for name, i in ((first, a), (second, b))}
    lambdas = np.unique([*lambdas, -1.0, 0.0])
    parts = [_logits(classifier, features.z, rows, vectors.kappa[a], a, b, lambdas, seed).assign(samples_of=name)
             for name, rows in members.items() if len(rows)]  # fmt: skip
    empty = pd.DataFrame(columns=["samples_of", "lambda_", "logit", "mean", "low", "high", "n"])
    logits = pd.concat(parts, ignore_index=True)[list(empty)] if parts else empty
    nearest = {}
    for own, rows in members.items():
        for name, i in ((first, a), (second, b)):
            distance = np.linalg.norm(features.z[rows] - vectors.z_ft[i], axis=1)
            nearest[own, name] = rows[np.argsort(distance, kind="stable")[:n_nearest]]
    predicted = predict(classifier, features)
    return ClassPair(
        first, second, logits, _confusion(predicted, members, {first: a, second: b}), nearest
    )


def _logits(classifier, z, rows, kappa, a: int, b: int, lambdas, seed: int) -> pd.DataFrame:
    if len(rows) > MOST_SAMPLES:
        rows = np.sort(np.random.default_rng(seed).choice(rows, MOST_SAMPLES, replace=False))
    moved = Latent(classifier, z[rows]).along(kappa, lambdas)  # (A, n, C)
    curves = {"first": moved[:, :, a], "second": moved[:, :, b]}
    if moved.shape[2] > 2:
        curves["other"] = np.delete(moved, (a, b), axis=2).max(axis=2)
    table = []
    for name, values in curves.items():
        for lambda_, row in zip(lambdas, values, strict=True):
            mean, low, high = mean_interval(row)
            table.append(
                {
                    "lambda_": lambda_ + 0.0,
                    "logit": name,
                    "mean": mean,
                    "low": low,
                    "high": high,
                    "n": len(rows),
                }
            )
    return pd.DataFrame(table)


def _confusion(predicted: np.ndarray, members: dict, index: dict) -> pd.DataFrame:
    rows = []
    for true, chosen in members.items():
        hits = {name: int((predicted[chosen] == i).sum()) for name, i in index.items()}
        hits["other"] = len(chosen) - sum(hits.values())
        for name, n in hits.items():
            low, high = wilson(n, len(chosen))
            share = n / len(chosen) if len(chosen) else np.nan
            rows.append(
                {
                    "true": true,
                    "predicted": name,
                    "hits": n,
                    "n": len(chosen),
                    "share": share,
                    "low": float(low),
                    "high": float(high),
                }
            )
    return pd.DataFrame(rows)
