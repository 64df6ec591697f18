"""What an edit did to a class, from arrays: divergences, where its samples go, side effects."""

from collections.abc import Callable, Sequence
from dataclasses import replace

import numpy as np
import pandas as pd

from ...checks import index_of
from ...statistics import Estimate, mean_interval, share, tally


def js_divergence(p, q) -> np.ndarray:
    """Jensen-Shannon divergence of p and q (..., C), in bits, in [0, 1]; each is made to sum to 1.

    1/2 KL(p|m) + 1/2 KL(q|m) with m = (p + q) / 2, summed over the classes. A class of probability
    0 adds nothing to its own term.
    """
    from scipy.special import rel_entr

    p, q = _distributions(p, q)
    m = (p + q) / 2
    return np.clip((rel_entr(p, m) + rel_entr(q, m)).sum(axis=-1) / np.log(4), 0, 1)


def total_variation(p, q) -> np.ndarray:
    """Total variation distance 1/2 Σ |p - q| of p and q (..., C), in [0, 1]; each sums to 1."""
    p, q = _distributions(p, q)
    return np.abs(p - q).sum(axis=-1) / 2


def zrf(unlearned_probabilities, incompetent_probabilities) -> Estimate:
    """Zero retrain forgetting: 1 - mean JS (bits) of two models' outputs (N, C) on the forget set.

    In [0, 1], and 1 where the model answers as one that never learnt anything. The interval is
    Student's t over samples.
    Source: Chundawat et al. 2023 (Bad Teaching), with KL from each output to their mean.
    """
    js = js_divergence(unlearned_probabilities, incompetent_probabilities)
    return Estimate(*np.clip(mean_interval(1 - js), 0, 1), len(js))


def routing(predicted, y, target: str, classes: Sequence[str]) -> pd.DataFrame:
    """Where the samples of a class go, a row a predicted class, as `statistics.tally` gives it.

    Args:
        predicted, y: class indices (N,).
        target: name of the class.
        classes: names, in the order of the indices.
    """
    return tally(np.asarray(predicted)[np.asarray(y) == index_of(target, classes)], classes)


def routing_distance(
    counts, reference, *, n_boot: int = 1000, seed: int = 0
) -> dict[str, tuple[Estimate, float]]:
    """How far apart two routing histograms are.

    Args:
        counts, reference: (C,), how many samples went to each class.
        n_boot, seed: resamples of both sides, and what draws them.
    Returns:
        "JS" (bits) and "TV", both in [0, 1], to the distance (95 % bootstrap percentiles, less the
        bias that resampling adds; n of `counts`) and to chance: what 95 % of pairs of samples of
        these sizes from their common histogram stay below. A distance within chance shows no
        difference.
    """
    pair = [np.asarray(c, np.int64) for c in (counts, reference)]
    shares, rng, found = _distributions(*pair), np.random.default_rng(seed), {}
    drawn = [rng.multinomial(c.sum(), p, n_boot) for c, p in zip(pair, shares, strict=True)]
    same = [rng.multinomial(c.sum(), sum(shares) / 2, n_boot) for c in pair]
    for name, distance in (("JS", js_divergence), ("TV", total_variation)):
        value, boot = float(distance(*pair)), distance(*drawn)
        low, high = np.clip(np.quantile(boot, (0.025, 0.975)) - (boot.mean() - value), 0, 1)
        estimate = Estimate(value, min(low, value), max(high, value), int(pair[0].sum()))
        found[name] = estimate, float(np.quantile(distance(*same), 0.95))
    return found


def linear_cka(x, y) -> Estimate:
    """Linear CKA of two representations (N, m) and (N, k) of the same samples, in [0, 1].

    |YᵀX|² / (|XᵀX| |YᵀY|) of centred X and Y (Frobenius), without an N × N matrix; NaN where one is
    constant. Biased upwards where N is not large beside the dimensions. No interval is known.
    Source: Kornblith et al. 2019.
    """
    x, y = (np.asarray(a, float) for a in (x, y))
    x, y = x - x.mean(axis=0), y - y.mean(axis=0)
    size = np.linalg.norm(x.T @ x) * np.linalg.norm(y.T @ y)
    value = min(np.square(np.linalg.norm(y.T @ x)) / size, 1.0) if size > 0 else np.nan
    return Estimate(float(value), np.nan, np.nan, len(x))


def of_others(
    measure: Callable[..., Estimate], y, target: str, classes: Sequence[str], *values
) -> list[Estimate]:
    """`measure(*values of the class)` of every class but `target` that has samples, by its name."""
    others = np.setdiff1d(y, index_of(target, classes))
    return [replace(measure(*(v[y == i] for v in values)), name=classes[i]) for i in others]


def worst_sibling(fired, y, target: str, classes: Sequence[str]) -> Estimate:
    """The class other than `target` on whose samples a gate fires most often, as `name`.

    The interval is that one class's own: it is not corrected for having been picked as the largest.
    Ties go to the class with more samples.

    Args:
        fired: whether the gate fires, bool (N,).
        y: class indices (N,), of another class, too.
        target: name of the class that the gate is meant for.
        classes: names, in the order of the indices.
    """
    found = of_others(share, y, target, classes, fired)
    return max(found, key=lambda one: (one.value, one.n))


def _distributions(*counts) -> list[np.ndarray]:
    """Shares that sum to 1 over the last axis."""
    return [a / np.sum(a, axis=-1, keepdims=True) for a in map(np.asarray, counts)]
