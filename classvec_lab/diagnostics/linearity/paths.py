"""From the pre-trained to the fine-tuned model: along the weights, and along class vectors in the representation."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import numpy as np
import pandas as pd

from ...errors import MismatchError
from ...features import Features, extract_features
from ...models import Classifier
from ...models.interpolation import check_alphas, interpolate, recalibrate, statistics_moved
from ...progress import progress_bar
from ...readout import Latent, check_labelled, random_like
from ...statistics import mean_interval, ratio_interval, wilson
from ...vectors import ClassVectors

WEIGHTS, TRUE, NEAREST, WRONG, RANDOM = (
    "weights",
    "true class",
    "nearest class",
    "wrong class",
    "random direction",
)
ALPHAS = tuple(round(0.1 * k, 10) for k in range(11))


@dataclass(frozen=True, eq=False)
class LatentPaths:
    """Accuracy of the fine-tuned head along five paths, tidy.

    table: path, knows_label (whether the path uses the sample's label), alpha, n, accuracy with its
    95 % Wilson interval (low, high), normalised (min-max over the path's alphas, as published; not for wrong and random),
    added_share (predicted as the class whose vector is added, with its interval), and, where a weight
    path was given, cosine to it and deviation from it, E|z_latent - z_weights| / E|z_ft - z_pre|, with
    their intervals.
    """

    table: pd.DataFrame

    def at(self, alpha: float = 1.0) -> pd.DataFrame:
        """The rows of one alpha; raises MismatchError where the paths were not read there."""
        rows = self.table[np.isclose(self.table["alpha"], alpha)]
        if rows.empty:
            raise MismatchError(
                f"no alpha {alpha:g} on these paths; there are {sorted(self.table['alpha'].unique())}"
            )
        return rows.drop(columns="alpha").reset_index(drop=True)

    def says(self) -> tuple[str, ...]:
        """The sentences: what each kind of class vector does at the last alpha, and how far the weight path is."""
        last = self.table["alpha"].max()
        rows = self.at(last).set_index("path")
        true, wrong, nearest, random = (rows.loc[p] for p in (TRUE, WRONG, NEAREST, RANDOM))
        sentences = [
            f"At alpha = {last:g} (n = {true['n']}) the vector of the true class gives {true['accuracy']:.1%} accuracy "
            f"[{true['low']:.1%}, {true['high']:.1%}], that of a wrong class makes {wrong['added_share']:.1%} of the samples "
            f"that class, that of the nearest pre-trained mean, which needs no label, gives {nearest['accuracy']:.1%}, "
            f"and a random direction of the same length {random['accuracy']:.1%}."
        ]
        if wrong["added_low"] > 0.5:
            sentences.append(
                "The added vector decides the prediction: the accuracy of the true class's path is the label it was given."
            )
        elif wrong["added_high"] < 0.5:
            sentences.append(
                "The added vector doesn't decide the prediction: what the sample is still shows."
            )
        else:
            sentences.append("About half of the samples follow the added vector.")
        if np.isfinite(true.get("deviation", np.nan)):
            middle = self.table.loc[(self.table["alpha"] - last / 2).abs().idxmin(), "alpha"]
            half = self.at(middle).set_index("path").loc[TRUE]
            sentences.append(
                f"From the weight path the true class's path is off by {half['deviation']:.2f} of the whole displacement at "
                f"alpha = {middle:g} and by {true['deviation']:.2f} at {last:g} "
                f"(cosines {half['cosine']:.2f} and {true['cosine']:.2f})."
            )
        return tuple(sentences)


def weight_path(
    pre: Classifier,
    ft: Classifier,
    dataset,
    *,
    alphas: Sequence[float] = ALPHAS,
    calibration=None,
    progress: bool = True,
    **extraction,
) -> dict[float, Features]:
    """Features of a data set along θ_pre + alpha τ, alpha in [-1, 2].

    Where batch-norm statistics differ between the two models they are re-estimated at every other
    alpha, on `calibration` (default: the data set itself). `extraction` goes to `extract_features`.
    Raises as `interpolate` and `extract_features` do.
    """
    path, moved = {}, statistics_moved(pre.encoder, ft.encoder)
    for alpha in progress_bar(check_alphas(alphas), desc="weight path", disable=not progress):
        between = interpolate(pre, ft, alpha)
        if moved and alpha not in (0.0, 1.0):  # the ends are the two models as they are
            between = recalibrate(between, dataset if calibration is None else calibration)
        path[alpha] = extract_features(between, dataset, progress=False, **extraction)
    return path


def latent_paths(
    pre_features: Features,
    vectors: ClassVectors,
    classifier: Classifier,
    *,
    alphas: Sequence[float] = ALPHAS,
    weight: Mapping[float, Features] | None = None,
    n_random: int = 5,
    seed: int = 0,
) -> LatentPaths:
    """Accuracy of f(x; θ_pre) + alpha κ_c for the true, the nearest, and a wrong class c, read by the fine-tuned head.

    pre_features: the pre-trained model's, best of images that the vectors were not made from.
    "true class" is handed the label, so its accuracy isn't the model's; "nearest class" (nearest
    pre-trained class mean) needs none; "wrong class" is drawn with `seed`; "random direction" gives
    each class its own direction of κ's length in place of κ: the same leak without class vectors
    (mean of n_random draws). weight: the result of `weight_path` for these images, at each of
    `alphas` and at 1. Raises MismatchError where classes, dimensions, images or alphas don't agree.
    """
    alphas = check_alphas(alphas)
    check_labelled(classifier, pre_features, vectors)
    z, y, kappa = pre_features.z.astype(np.float64), pre_features.y, vectors.kappa
    _check_weight_path(weight, alphas, pre_features)
    rng = np.random.default_rng(seed)
    latent = Latent(classifier, z)
    labels = {
        TRUE: y,
        NEAREST: _nearest(z, vectors.z_pre),
        WRONG: (y + 1 + rng.integers(len(vectors) - 1, size=len(y))) % len(vectors),
    }
    steps = {path: [kappa[label]] for path, label in labels.items()}
    steps[RANDOM] = [random_like(kappa, rng)[y] for _ in range(n_random)]
    rows = []
    if weight is not None:
        for alpha in alphas:
            predicted = Latent(classifier, weight[alpha].z).predict(
                np.zeros(latent.z.shape[1]), [0.0]
            )[0]
            rows.append(
                {"path": WEIGHTS, "knows_label": False, "alpha": alpha, **_shares(predicted == y)}
            )
    for path, moves in steps.items():
        predicted = np.stack([latent.predict(step, alphas) for step in moves])  # (draws, A, N)
        for k, alpha in enumerate(alphas):
            row = {
                "path": path,
                "knows_label": path != NEAREST,
                "alpha": alpha,
                **_shares((predicted[:, k] == y).mean(axis=0)),
            }
            if path in labels:
                row |= _shares(predicted[0, k] == labels[path], "added_share", "added_")
            if weight is not None:
                row |= _distance(
                    [z + alpha * step for step in moves], weight[alpha].z, weight[1.0].z - z
                )
            rows.append(row)
    table = pd.DataFrame(rows)
    lowest, highest = (table.groupby("path")["accuracy"].transform(f) for f in ("min", "max"))
    normalised = (table["accuracy"] - lowest) / (highest - lowest).replace(0, np.nan)
    table.insert(
        7, "normalised", normalised.where(table["path"].isin([WEIGHTS, TRUE, NEAREST]))
    )  # the others aren't meant to rise
    return LatentPaths(table)


def _check_weight_path(weight, alphas, features) -> None:
    if weight is None:
        return
    if absent := [a for a in (*alphas, 1.0) if a not in weight]:
        raise MismatchError(
            f"the weight path lacks alpha {', '.join(f'{a:g}' for a in absent)}: make it at these alphas and at 1"
        )
    for alpha, given in weight.items():
        if given.z.shape != features.z.shape or not np.array_equal(given.y, features.y):
            raise MismatchError(
                f"the weight path at alpha {alpha:g} was made from other images than the features"
            )


def _nearest(z: np.ndarray, means: np.ndarray) -> np.ndarray:
    from scipy.spatial.distance import cdist

    return cdist(z, means).argmin(axis=1)


def _shares(hits: np.ndarray, name: str = "accuracy", prefix: str = "") -> dict:
    """A share with Wilson's interval; hits (N,) may be fractional, as means over draws are."""
    low, high = wilson(hits.sum(), len(hits))
    first = {"n": len(hits)} if name == "accuracy" else {}
    return {
        **first,
        name: float(hits.mean()),
        f"{prefix}low": float(low),
        f"{prefix}high": float(high),
    }


def _distance(points: list[np.ndarray], reference: np.ndarray, displacement: np.ndarray) -> dict:
    """Cosine and relative deviation of points (each (N, m)) to the weight path's features, averaged over draws per sample."""
    reference = reference.astype(np.float64)
    with np.errstate(invalid="ignore", divide="ignore"):
        norm = np.linalg.norm(reference, axis=1)
        cosine = np.mean(
            [
                np.einsum("nm,nm->n", p, reference) / (np.linalg.norm(p, axis=1) * norm)
                for p in points
            ],
            axis=0,
        )
    gap = np.mean([np.linalg.norm(p - reference, axis=1) for p in points], axis=0)
    moved = np.linalg.norm(displacement, axis=1)
    row = dict(
        zip(
            ("cosine", "cosine_low", "cosine_high"),
            mean_interval(cosine[np.isfinite(cosine)]),
            strict=True,
        )
    )
    deviation = ratio_interval(gap, moved) if moved.any() else (np.nan,) * 3
    return row | dict(zip(("deviation", "deviation_low", "deviation_high"), deviation, strict=True))
