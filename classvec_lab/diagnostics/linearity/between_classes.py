"""From one class to another: z - alpha κ_source + alpha κ_target, where it crosses over and what lies between."""

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import pandas as pd

from ...errors import MismatchError
from ...features import Features
from ...models import Classifier
from ...models.interpolation import check_alphas
from ...readout import Latent, check_labelled
from ...statistics import resampling_counts, wilson
from ...vectors import ClassVectors

ALPHAS = tuple(round(0.05 * k, 10) for k in range(21))
SHARES, PROBABILITIES = "shares", "probabilities"


@dataclass(frozen=True, eq=False)
class ClassInterpolation:
    """Samples of `source` moved towards `target`, read by the head.

    table: alpha, n, and source_share, target_share, other_share (predictions) with 95 % Wilson
    intervals; source_probability and target_probability, the softmax over the two logits alone,
    averaged. crossing, two rows: alpha where the two shares, and where the mean pair probabilities,
    cross, with a bootstrap interval over samples; NaN where they never do. detour: share of the
    samples predicted as `source` at alpha = 0 that are predicted as a third class at any alpha
    strictly between 0 and 1, and the class most of them pass. success: share predicted as `target` at 1.
    """

    source: str
    target: str
    table: pd.DataFrame
    crossing: pd.DataFrame
    detour: dict
    success: dict

    def says(self) -> tuple[str, ...]:
        """The sentences: success, crossing, detour."""
        s, d = self.success, self.detour
        share = self.crossing.set_index("of").loc[SHARES]
        crossing = (
            f"The predictions cross at alpha = {share['alpha']:.2f} [{share['low']:.2f}, {share['high']:.2f}]."
            if np.isfinite(share["alpha"])
            else "The predictions never cross on this path."
        )
        arrived = (
            "arrive at"
            if s["low"] > 0.5
            else "do not arrive at"
            if s["high"] < 0.5
            else "are too few to tell whether they arrive at"
        )
        way = (
            f"{d['share']:.1%} pass a third class on the way, most often {d['class']!r}." if d["share"] > 0 else
            "None passes a third class on the way." if d["n"] else "None starts as the source class."
        )  # fmt: skip
        return (
            f"Samples of {self.source!r} (n = {s['n']}) {arrived} {self.target!r}: {s['share']:.1%} "
            f"[{s['low']:.1%}, {s['high']:.1%}] at alpha = 1.",
            crossing,
            way,
        )


@dataclass(frozen=True, eq=False)
class ClassInterpolations:
    """Every ordered pair of classes: C × C frames (rows source, columns target) and a tidy table with n and intervals.

    crossing: alpha where the predicted shares cross; detour and success as in `ClassInterpolation`. Pairs
    that were left out, and classes without samples, are NaN. table adds probability_crossing, the
    intervals, n, and n_detour, the samples that start as the source class.
    """

    crossing: pd.DataFrame
    detour: pd.DataFrame
    success: pd.DataFrame
    table: pd.DataFrame

    def summary(self) -> pd.DataFrame:
        """Over pairs: mean, median and worst success and detour, median crossing, the share of pairs that never cross."""
        t = self.table
        return pd.DataFrame(
            [
                {
                    "n_pairs": len(t),
                    "n_samples": int(t.groupby("source")["n"].first().sum()),
                    "success": t["success"].mean(),
                    "worst_success": t["success"].min(),
                    "crossing_median": t["crossing"].median(),
                    "crossing_low": t["crossing"].quantile(0.025),
                    "crossing_high": t["crossing"].quantile(0.975),
                    "never_cross": t["crossing"].isna().mean(),
                    "detour": t["detour"].mean(),
                    "worst_detour": t["detour"].max(),
                }
            ]
        )

    def says(self) -> tuple[str, ...]:
        """The sentences: how many pairs arrive, where they cross, and how many samples pass a third class."""
        row = self.summary().iloc[0]
        worst = self.table.loc[self.table["success"].idxmin()]
        arrive = (self.table["success_low"] > 0.5).mean()
        word = "all" if arrive == 1 else "none" if arrive == 0 else f"{arrive:.0%}"
        crossing = (
            f"The predictions cross at alpha = {row['crossing_median']:.2f} in the median (95 % of pairs: "
            f"{row['crossing_low']:.2f} to {row['crossing_high']:.2f})"
            if np.isfinite(row["crossing_median"])
            else "The predictions never cross"
        )
        return (
            f"Of {int(row['n_pairs'])} pairs of classes {word} arrive for most samples (mean success {row['success']:.1%}, worst "
            f"{worst['source']} to {worst['target']} {worst['success']:.1%}, n = {worst['n']}).",
            f"{crossing}; {row['detour']:.1%} of the samples pass a third class on the way.",
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
    """Move the samples of class `source` by alpha (κ_target - κ_source) and read ft's head; the class is known here.

    features: ft's, best of images that the vectors were not made from. Raises MismatchError for an
    unknown class, source = target, no sample of `source`, or classes and dimensions that don't agree.
    Source: Kim and Do, NeurIPS 2025, the class-to-class plots.
    """
    check_labelled(ft, features, vectors)
    s, t = vectors.index(source), vectors.index(target)
    if s == t:
        raise MismatchError(f"source and target are both {source!r}: name two classes")
    rows = features.y == s
    if not rows.any():
        raise MismatchError(f"no sample of class {source!r} to move")
    alphas = np.unique(check_alphas(alphas))
    counts = resampling_counts(int(rows.sum()), n_boot, np.random.default_rng(seed))
    moved = _move(Latent(ft, features.z[rows]), vectors.kappa, s, t, alphas, counts)
    n = int(rows.sum())
    table = pd.DataFrame({"alpha": alphas, "n": n, "knows_label": True})
    for name, share in zip(("source", "target", "other"), moved["shares"], strict=True):
        table[f"{name}_share"] = share
        table[f"{name}_low"], table[f"{name}_high"] = wilson(share * n, n)
    table["source_probability"], table["target_probability"] = (
        1 - moved["probability"],
        moved["probability"],
    )
    crossing = pd.DataFrame(
        [
            {"of": of, "alpha": at, "low": low, "high": high, "n": n, "n_boot": n_boot}
            for of, (at, low, high) in zip((SHARES, PROBABILITIES), moved["crossings"], strict=True)
        ]
    )
    detour = _share(moved["third"], moved["starting"]) | {
        "class": _most(moved["thirds"], vectors.classes)
    }
    return ClassInterpolation(source, target, table, crossing, detour, _share(moved["arrived"], n))


def class_interpolations(
    ft: Classifier,
    features: Features,
    vectors: ClassVectors,
    *,
    alphas: Sequence[float] = ALPHAS,
    max_pairs: int | None = None,
    n_boot: int = 200,
    seed: int = 0,
) -> ClassInterpolations:
    """`class_interpolation` for every ordered pair of classes, or `max_pairs` of them drawn with `seed`.

    Memory stays at one pair's logits, (alphas, samples of a class, C). Raises as `class_interpolation` does.
    """
    check_labelled(ft, features, vectors)
    alphas = np.unique(check_alphas(alphas))
    n_classes, rng = len(vectors), np.random.default_rng(seed)
    pairs = [(s, t) for s in range(n_classes) for t in range(n_classes) if s != t]
    if max_pairs is not None and max_pairs < len(pairs):
        if max_pairs < 1:
            raise MismatchError(f"max_pairs must be at least 1; got {max_pairs}")
        pairs = [pairs[k] for k in np.sort(rng.choice(len(pairs), max_pairs, replace=False))]
    rows, previous, latent, counts = [], None, None, None
    for s, t in pairs:
        if s != previous:
            chosen = features.y == s
            latent = Latent(ft, features.z[chosen])
            counts = resampling_counts(len(latent), n_boot, rng) if len(latent) else None
            previous = s
        if len(latent):
            moved = _move(latent, vectors.kappa, s, t, alphas, counts)
            rows.append(
                _row(moved, vectors.classes[s], vectors.classes[t], len(latent), vectors.classes)
            )
    if not rows:
        raise MismatchError("no class of these pairs has a sample to move")
    table = pd.DataFrame(rows)
    frames = {}
    for name in ("crossing", "detour", "success"):
        frame = pd.DataFrame(np.nan, index=list(vectors.classes), columns=list(vectors.classes))
        for row in rows:
            frame.loc[row["source"], row["target"]] = row[name]
        frames[name] = frame.rename_axis(index="source", columns="target")
    return ClassInterpolations(**frames, table=table)


def _move(
    latent: Latent, kappa: np.ndarray, s: int, t: int, alphas: np.ndarray, counts: np.ndarray
) -> dict:
    """What one pair's path shows: shares (3, A), mean probability (A,), crossings, detour and arrival counts."""
    from scipy.special import expit

    step = kappa[t] - kappa[s]
    logits = latent.along(step, np.append(alphas, (0.0, 1.0)))
    predicted = logits.argmax(axis=2)
    first, last, predicted = predicted[-2], predicted[-1], predicted[:-2]
    probability = expit(logits[:-2, :, t] - logits[:-2, :, s])  # the softmax over the two
    is_source, is_target = predicted == s, predicted == t
    curves = (is_source.astype(np.float64) - is_target, 0.5 - probability)
    way = (alphas > 0) & (alphas < 1)
    starts = first == s
    third = np.where(is_source | is_target, -1, predicted)[way][:, starts]
    passing = (third >= 0).any(axis=0)
    return {
        "shares": (
            is_source.mean(axis=1),
            is_target.mean(axis=1),
            1 - is_source.mean(axis=1) - is_target.mean(axis=1),
        ),
        "probability": probability.mean(axis=1),
        "crossings": [_crossing(alphas, curve, counts) for curve in curves],
        "starting": int(starts.sum()),
        "third": int(passing.sum()),
        "thirds": third[third >= 0],
        "arrived": int((last == t).sum()),
    }


def _crossing(
    alphas: np.ndarray, curve: np.ndarray, counts: np.ndarray
) -> tuple[float, float, float]:
    """(alpha, low, high) where the mean of curve (A, n) falls to 0; a bound is NaN where resamples that never cross reach it."""
    point = _falls(alphas, curve.mean(axis=1)[None])[0]
    resampled = _falls(alphas, counts @ curve.T / counts.shape[1])
    if not np.isfinite(point):
        return (np.nan,) * 3
    ends = np.quantile(
        np.where(np.isnan(resampled), np.inf, resampled), (0.025, 0.975), method="nearest"
    )
    low, high = np.where(np.isfinite(ends), ends, np.nan)
    return float(point), float(low), float(high)


def _falls(alphas: np.ndarray, curves: np.ndarray) -> np.ndarray:
    """Where each of curves (B, A) first goes from above 0 to 0 or below, linearly between alphas; NaN where it never does."""
    falls = (curves[:, :-1] > 0) & (curves[:, 1:] <= 0)
    if not falls.shape[1]:
        return np.full(len(curves), np.nan)
    k = falls.argmax(axis=1)
    rows = np.arange(len(curves))
    before, after = curves[rows, k], curves[rows, k + 1]
    with np.errstate(invalid="ignore", divide="ignore"):
        at = alphas[k] + (alphas[k + 1] - alphas[k]) * before / (before - after)
    return np.where(falls.any(axis=1), at, np.nan)


def _share(hits: int, n: int) -> dict:
    low, high = wilson(hits, n)
    return {"share": hits / n if n else np.nan, "low": float(low), "high": float(high), "n": n}


def _most(predicted: np.ndarray, classes: Sequence[str]) -> str:
    return classes[np.bincount(predicted).argmax()] if len(predicted) else ""


def _row(moved: dict, source: str, target: str, n: int, classes: Sequence[str]) -> dict:
    row = {"source": source, "target": target, "n": n, "knows_label": True}
    for name, (at, low, high) in zip(
        ("crossing", "probability_crossing"), moved["crossings"], strict=True
    ):
        row |= {name: at, f"{name}_low": low, f"{name}_high": high}
    for name, (hits, of) in {
        "success": (moved["arrived"], n),
        "detour": (moved["third"], moved["starting"]),
    }.items():
        share = _share(hits, of)
        row |= {name: share["share"], f"{name}_low": share["low"], f"{name}_high": share["high"]}
    return {**row, "n_detour": moved["starting"], "detour_class": _most(moved["thirds"], classes)}
