"""From one class to another along κ: where the predictions cross, and by what way."""

from collections.abc import Sequence
from dataclasses import replace

import numpy as np
import pandas as pd
from scipy.special import expit

from ...checks import record
from ...features import Features
from ...models import Classifier, check_alphas
from ...statistics import Estimate, columns, ends, resampling_counts, share, shares
from ...vectors import ClassVectors
from ...words import MAJORITY, most, number, percent
from .pair import class_path

ALPHAS = np.arange(21) / 20


@record
class ClassInterpolation:
    """Samples of `source` moved towards `target`, read by the head.

    table: alpha, n, and source_share, target_share, other_share (predictions) with 95 % Wilson
    intervals; source_probability and target_probability, the softmax over the two logits alone,
    averaged. crossing, two rows: alpha where the two shares, and where the mean pair probabilities,
    cross, with a bootstrap interval over samples; NaN where they never do. detour: share of the
    samples predicted as `source` at alpha = 0 that are predicted as a third class at any alpha
    strictly between 0 and 1; its name is the class that most of them pass. success: share predicted
    as `target` at 1.
    """

    source: str
    target: str
    table: pd.DataFrame
    crossing: pd.DataFrame
    detour: Estimate
    success: Estimate

    def says(self) -> tuple[str, ...]:
        """The sentences: success, crossing, detour."""
        success, detour = self.success, self.detour
        way = "None passes"
        if detour.value > 0:
            way = f"Most often {detour.name!r} is passed: {percent(*detour)} pass"
        return (
            f"Of the samples of {self.source!r} (n = {success.n}) {most(*success)} arrive at "
            f"{self.target!r}: {percent(*success)} at alpha = 1.",
            f"The predictions {_crossed(ends(self.crossing.iloc[0], 'alpha', ''))} on this path.",
            f"{way} a third class on the way (n = {detour.n}).",
        )


@record
class ClassInterpolations:
    """Ordered pairs of classes, a row each.

    table: source, target, n, and crossing, probability_crossing, success and detour, those of
    `ClassInterpolation` with their 95 % intervals (crossing_low, …). n_detour counts the samples
    that start as the source class, detour_class is the third class that most of them pass.
    """

    table: pd.DataFrame
    classes: tuple[str, ...]

    def matrix(self, column: str) -> pd.DataFrame:
        """A column of the table as C × C frame: rows source, columns target, NaN where left out."""
        frame = self.table.pivot(index="source", columns="target", values=column)
        names = list(self.classes)
        return frame.reindex(index=names, columns=names)

    def summary(self) -> pd.DataFrame:
        """One row over all pairs: mean and worst success and detour, and where they cross.

        crossing_median, with the range of 95 % of the pairs; never_cross is the share that don't.
        """
        t = self.table
        success, crossing, detour = t["success"], t["crossing"], t["detour"]
        row = {
            "n_pairs": len(t),
            "n_samples": t.drop_duplicates("source")["n"].sum(),
            "success": success.mean(),
            "worst_success": success.min(),
            **columns("crossing_median", crossing.quantile([0.5, 0.025, 0.975]), "crossing_"),
            "never_cross": crossing.isna().mean(),
            "detour": detour.mean(),
            "worst_detour": detour.max(),
        }
        return pd.DataFrame([row])

    def says(self) -> tuple[str, ...]:
        """The sentences: how many pairs arrive, where they cross, what lies between."""
        row = self.summary().iloc[0]
        worst = self.table.loc[self.table["success"].idxmin()]
        arrive = (self.table["success_low"] > MAJORITY).mean()
        crossing = _crossed(ends(row, "crossing_median", "crossing_"))
        return (
            f"{percent(arrive)} of {len(self.table)} pairs of classes arrive for most samples "
            f"(mean success {percent(row['success'])}, worst {worst['source']} to "
            f"{worst['target']} {percent(worst['success'])}, n = {worst['n']}).",
            f"Over the pairs (median, and the range of 95 % of them) the predictions {crossing}, "
            f"or never, for {percent(row['never_cross'])} of the pairs; "
            f"{percent(row['detour'])} of the samples pass a third class on the way.",
        )


def class_interpolation(
    ft: Classifier,
    features: Features,
    vectors: ClassVectors,
    source: str,
    target: str,
    *,
    alphas: Sequence[float] = ALPHAS,
    n_boot: int = 1000,
    seed: int = 0,
) -> ClassInterpolation:
    """Move the samples of class `source` by alpha (κ_target - κ_source) and read ft's head.

    The class of the samples is known here.

    Args:
        ft: the fine-tuned classifier.
        features: ft's, best of images that the vectors were not made from.
        vectors: class vectors of the same classes.
        source, target: names of two classes.
        alphas: positions in [-1, 2]; 0 and 1 are always among them.
        n_boot, seed: bootstrap resamples behind the intervals of the crossings; what draws them.
    Returns:
        A `ClassInterpolation`.
    Raises:
        MismatchError: for an unknown class, source = target, no sample of `source`, or classes and
            dimensions that don't agree.
        ModelError: for alphas out of range.
    Source: Kim and Do, NeurIPS 2025, the class-to-class plots.
    """
    path = class_path(ft, features, vectors, source, target)
    counts = resampling_counts(len(path), n_boot, np.random.default_rng(seed))
    return _interpolated(path, counts, np.unique([0.0, 1.0, *check_alphas(alphas)]))


def class_interpolations(
    ft,
    features,
    vectors,
    *,
    max_pairs: int = 0,
    n_boot: int = 200,
    seed: int = 0,
) -> ClassInterpolations:
    """`class_interpolation` for every ordered pair of classes.

    Pairs whose source has no sample are left out. Memory stays at one pair's logits, (alphas,
    samples of a class, C). It raises what `class_interpolation` raises.

    Args:
        ft, features, vectors, n_boot, seed: as in `class_interpolation`.
        max_pairs: so many pairs are drawn with `seed`; 0 takes all.
    Returns:
        A `ClassInterpolations`.
    """
    classes, rng = features.classes, np.random.default_rng(seed)
    here = np.unique(features.y)
    pairs = [(classes[s], t) for s in here for t in classes if t != classes[s]]
    if 0 < max_pairs < len(pairs):
        pairs = [pairs[k] for k in np.sort(rng.choice(len(pairs), max_pairs, replace=False))]
    rows, counts = [], {}
    for source, target in pairs:
        path = class_path(ft, features, vectors, source, target)
        if source not in counts:
            counts[source] = resampling_counts(len(path), n_boot, rng)
        found = _interpolated(path, counts[source])
        row = {"source": source, "target": target, "n": len(path), "knows_label": True}
        for name, (_, crossing) in zip(
            ("", "probability_"), found.crossing.iterrows(), strict=True
        ):
            row |= columns(f"{name}crossing", ends(crossing, "alpha", ""))
        row |= columns("success", found.success) | columns("detour", found.detour)
        rows.append(row | {"n_detour": found.detour.n, "detour_class": found.detour.name})
    return ClassInterpolations(pd.DataFrame(rows), vectors.classes)


def _interpolated(path, counts, alphas=ALPHAS) -> ClassInterpolation:
    """A path summed up; counts (n_boot, n): how often each sample is drawn in each resample."""
    (s, t), n = path.places, len(path)
    logits = path.latent.along(path.step, alphas)
    predicted = logits.argmax(axis=2)
    probability = expit(logits[:, :, t] - logits[:, :, s])  # the softmax over the two
    table = {"alpha": alphas, "n": n, "knows_label": True}
    hits = {"source": predicted == s, "target": predicted == t, "other": path.third(predicted)}
    for name, taken in hits.items():
        table |= columns(f"{name}_share", shares(taken), f"{name}_")
    chosen = probability.mean(axis=1)
    table |= {"source_probability": 1 - chosen, "target_probability": chosen}
    curves = {"shares": hits["source"] * 1.0 - hits["target"], "probabilities": 0.5 - probability}
    crossing = [
        {
            "of": of,
            **columns("alpha", _crossing(alphas, curve, counts), ""),
            "n": n,
            "n_boot": len(counts),
        }
        for of, curve in curves.items()
    ]
    way = predicted[(alphas > 0) & (alphas < 1)][:, predicted[alphas == 0][0] == s]
    third = path.third(way)
    detour = share(third.any(axis=0))
    if detour.value > 0:
        detour = replace(detour, name=path.classes[np.bincount(way[third]).argmax()])
    return ClassInterpolation(
        path.source,
        path.target,
        pd.DataFrame(table),
        pd.DataFrame(crossing),
        detour,
        share(hits["target"][alphas == 1][0]),
    )


def _crossing(alphas, curve, counts) -> np.ndarray:
    """(alpha, low, high) where the mean of curve (A, n) falls to 0.

    A bound is NaN where resamples that never cross reach it.
    """
    falls = _falls(alphas, np.vstack([curve.mean(axis=1), counts @ curve.T / counts.shape[1]]))
    found = np.append(falls[:1], np.quantile(falls[1:], (0.025, 0.975), method="nearest"))
    return np.where(np.isfinite(found[0]) & np.isfinite(found), found, np.nan)


def _falls(alphas, curves) -> np.ndarray:
    """Where curves (B, A) first go from above 0 to 0 or below; inf where they never do."""
    before, after = curves[:, :-1], curves[:, 1:]
    with np.errstate(invalid="ignore", divide="ignore"):
        at = alphas[:-1] + np.diff(alphas) * before / (before - after)
    return np.where((before > 0) & (after <= 0), at, np.inf).min(axis=1, initial=np.inf)


def _crossed(crossing) -> str:
    known = np.isfinite(crossing[0])
    return f"cross at alpha = {number(*crossing, form='.2f')}" if known else "never cross"
