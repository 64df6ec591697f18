"""From the pre-trained to the fine-tuned model: along the weights, and along class vectors."""

from collections.abc import Mapping, Sequence

import numpy as np
import pandas as pd
from scipy.spatial.distance import cdist

from ...checks import one_of, record
from ...features import Features, extract_features
from ...models import Classifier, check_alphas, interpolate
from ...progress import progress_bar
from ...readout import Latent, check_labelled, predict, random_like
from ...statistics import columns, ends, known_mean, ratio_interval, shares, zero_divisions
from ...vectors import ClassVectors, require_pairs
from ...words import MAJORITY, bound, number, percent

WEIGHTS, TRUE, NEAREST, WRONG = "weights", "true class", "nearest class", "wrong class"
RANDOM = "random direction"
ALPHAS = np.arange(11) / 10
DRAWS = 5  # of random directions
FOLLOWS = {
    "above": "For most samples the added vector decides the prediction: the accuracy of the true "
    "class's path is the label it was given.",
    "below": "For most samples the added vector doesn't decide the prediction.",
    "not told from": "Whether the added vector decides the prediction of most samples is "
    "undecided.",
}


@record
class LatentPaths:
    """Accuracy of the fine-tuned head along five paths, tidy.

    table: path, knows_label (whether the path uses the sample's label), alpha, n, accuracy with its
    95 % Wilson interval (low, high), normalised (min-max over the path's alphas, as published; not
    for wrong and random), added_share (predicted as the class whose vector is added, with its
    interval), and, where a weight path was given, cosine to it and deviation from it,
    E|z_latent - z_weights| / E|z_ft - z_pre|, with their intervals.
    """

    table: pd.DataFrame

    def at(self, alpha: float = 1.0) -> pd.DataFrame:
        """The rows of one alpha; raises MismatchError where the paths were not read there."""
        alphas = self.table["alpha"]
        one_of(alpha, alphas.unique(), "alpha")
        return self.table[alphas == alpha].drop(columns="alpha").reset_index(drop=True)

    def says(self) -> tuple[str, ...]:
        """The sentences: what class vectors do at the last alpha; how far the weight path is."""
        alphas = self.table["alpha"]
        last = alphas.max()
        rows = self.at(last).set_index("path")
        true, wrong = rows.loc[TRUE], rows.loc[WRONG]
        added = ends(wrong, "added_share", "added_")
        sentences = [
            f"At alpha = {last:g} (n = {true['n']}) the vector of the true class gives "
            f"{percent(*ends(true, 'accuracy', ''))} accuracy, that of a wrong class makes "
            f"{percent(*added)} of the samples that class, that of the nearest pre-trained mean, "
            f"which needs no label, gives {percent(rows.loc[NEAREST, 'accuracy'])}, and a random "
            f"direction of the same length {percent(rows.loc[RANDOM, 'accuracy'])}.",
            FOLLOWS[bound(*added, MAJORITY)],
        ]
        if "deviation" in rows:
            middle = alphas[(alphas - last / 2).abs().idxmin()]
            half = self.at(middle).set_index("path").loc[TRUE]
            off = [number(*ends(row, "deviation"), form=".2f") for row in (half, true)]
            sentences.append(
                f"From the weight path the true class's path is off by {off[0]} of the whole "
                f"displacement at alpha = {middle:g} and by {off[1]} at {last:g} (cosines "
                f"{half['cosine']:.2f} and {true['cosine']:.2f})."
            )
        return tuple(sentences)


def weight_path(
    pre: Classifier,
    ft: Classifier,
    dataset,
    *,
    alphas: Sequence[float] = ALPHAS,
    calibration=None,
) -> dict[float, Features]:
    """Features of a data set along θ_pre + alpha τ.

    Where batch-norm statistics differ between the two models they are re-estimated in between.

    Args:
        pre, ft: two classifiers of one architecture.
        dataset: labelled images.
        alphas: in [-1, 2].
        calibration: images for the batch-norm statistics, by default `dataset`.
    Returns:
        alpha to `Features`.
    Raises:
        What `interpolate` and `extract_features` raise.
    """
    images = calibration or dataset
    return {
        alpha: extract_features(
            interpolate(pre, ft, alpha, calibration=images), dataset, progress=False
        )
        for alpha in progress_bar(check_alphas(alphas), desc="weight path")
    }


def latent_paths(
    pre_features: Features,
    vectors: ClassVectors,
    classifier: Classifier,
    *,
    alphas: Sequence[float] = ALPHAS,
    weight: Mapping[float, Features] | None = None,
    seed: int = 0,
) -> LatentPaths:
    """Accuracy of f(x; θ_pre) + alpha κ_c, read by the fine-tuned head, for several choices of c.

    "true class" is handed the label, so its accuracy isn't the model's. "nearest class" (nearest
    pre-trained class mean) needs none. "wrong class" is drawn with `seed`. "random direction" gives
    each class its own direction of κ's length in place of κ: the same leak without class vectors,
    as the mean of 5 draws.

    Args:
        pre_features: the pre-trained model's, best of images that the vectors were not made from.
        vectors: class vectors of the same classes.
        classifier: the fine-tuned one.
        alphas: in [-1, 2].
        weight: the result of `weight_path` for these images, at each of `alphas` and at 1.
        seed: draws wrong classes and random directions.
    Returns:
        A `LatentPaths`.
    Raises:
        MismatchError: where classes, dimensions, images or alphas don't agree.
    """
    alphas, weight = check_alphas(alphas), weight or {}
    check_labelled(classifier, pre_features, vectors)
    latent = Latent(classifier, pre_features.z)
    z, y, kappa = latent.z, pre_features.y, vectors.kappa
    for alpha in (*alphas, 1.0) if weight else ():
        require_pairs(pre_features, weight[one_of(alpha, weight, "weight path at alpha")])
    rng = np.random.default_rng(seed)
    labels = {
        TRUE: y,
        NEAREST: cdist(z, vectors.z_pre).argmin(axis=1),
        WRONG: (y + 1 + rng.integers(len(vectors) - 1, size=len(y))) % len(vectors),
    }
    steps = {path: kappa[label][None] for path, label in labels.items()}
    steps[RANDOM] = np.stack([random_like(kappa, rng)[y] for _ in range(DRAWS)])
    predicted = {  # (draws, A, N) of each path
        path: np.stack([latent.predict(step, alphas) for step in moves])
        for path, moves in steps.items()
    }
    if weight:
        on_path = np.stack([predict(classifier, weight[alpha]) for alpha in alphas])
        predicted = {WEIGHTS: on_path[None], **predicted}
        displacement = np.linalg.norm(weight[1.0].z - z, axis=1)
    tables = []
    for path, calls in predicted.items():
        table = {
            "path": path,
            "knows_label": path not in (WEIGHTS, NEAREST),
            "alpha": alphas,
            "n": len(y),
            **columns("accuracy", shares((calls == y).mean(axis=0)), ""),
        }
        if path not in (WRONG, RANDOM):  # which aren't meant to rise
            rise = pd.Series(table["accuracy"] - table["accuracy"].min())
            table["normalised"] = rise / rise.max()
        if path in labels:
            table |= columns("added_share", shares(calls[0] == labels[path]), "added_")
        if weight and path in steps:
            apart = [_distance(z + a * steps[path], weight[a].z, displacement) for a in alphas]
            table |= pd.DataFrame(apart)
        tables.append(pd.DataFrame(table))
    return LatentPaths(pd.concat(tables, ignore_index=True))


def _distance(points, reference, displacement) -> dict:
    """Cosine and deviation of points (draws, N, m) to the weight path's features, (N, m)."""
    reference = reference.astype(float)
    with zero_divisions():
        lengths = np.linalg.norm(points, axis=2) * np.linalg.norm(reference, axis=1)
        cosine = (np.einsum("dnm,nm->dn", points, reference) / lengths).mean(axis=0)
    gap = np.linalg.norm(points - reference, axis=2).mean(axis=0)
    deviation = ratio_interval(gap, displacement)
    return columns("cosine", known_mean(cosine)) | columns("deviation", deviation)
