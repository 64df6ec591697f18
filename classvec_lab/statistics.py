"""Intervals and resampling that the diagnostics share: float64, seeded, without loops over resamples."""

from dataclasses import dataclass

import numpy as np
import pandas as pd

from .errors import MismatchError


@dataclass(frozen=True)
class Estimate:
    """A value, its 95 % interval (NaN ends where none is known), n, the samples behind it, and `name`, the class it is of."""

    value: float
    low: float
    high: float
    n: int
    name: str = ""


def resampling_counts(n: int, n_boot: int, rng: np.random.Generator) -> np.ndarray:
    """How often each of n samples is drawn in each of n_boot bootstrap resamples of size n, (n_boot, n) float64."""
    drawn = rng.integers(n, size=(n_boot, n)) + n * np.arange(n_boot)[:, None]
    return np.bincount(drawn.ravel(), minlength=n_boot * n).reshape(n_boot, n).astype(np.float64)


def wilson(hits, n, *, level: float = 0.95) -> tuple[np.ndarray, np.ndarray]:
    """Wilson's interval of a proportion, (low, high), elementwise; NaN where n is 0. `hits` may be fractional."""
    from scipy.special import (
        ndtri,  # norm.ppf, without its argument checks, which cost ten times as much
    )

    hits, n = np.asarray(hits, dtype=np.float64), np.asarray(n, dtype=np.float64)
    z = ndtri(0.5 + level / 2)
    with np.errstate(invalid="ignore", divide="ignore"):
        p = hits / n
        centre = (p + z**2 / (2 * n)) / (1 + z**2 / n)
        half = z / (1 + z**2 / n) * np.sqrt(p * (1 - p) / n + z**2 / (4 * n**2))
    return np.clip(centre - half, 0, 1), np.clip(centre + half, 0, 1)


def t_interval(mean, standard_error, df, *, level: float = 0.95) -> tuple[np.ndarray, np.ndarray]:
    """mean ± t(df) · standard error, (low, high), elementwise; NaN where df < 1."""
    from scipy.stats import t

    df = np.asarray(df, dtype=np.float64)
    half = np.where(df >= 1, t.ppf(0.5 + level / 2, np.maximum(df, 1)), np.nan) * standard_error
    return np.asarray(mean) - half, np.asarray(mean) + half


def mean_interval(values: np.ndarray, *, level: float = 0.95) -> tuple[float, float, float]:
    """(mean, low, high) of independent values (n,) by Student's t; the ends are NaN for fewer than two."""
    values = np.asarray(values, dtype=np.float64)
    n = len(values)
    mean = values.mean() if n else np.nan
    error = values.std(ddof=1) / np.sqrt(n) if n > 1 else np.nan
    low, high = t_interval(mean, error, n - 1, level=level)
    return float(mean), float(low), float(high)


def ratio_interval(
    numerator: np.ndarray, denominator: np.ndarray, *, level: float = 0.95
) -> tuple[float, float, float]:
    """(ratio, low, high) of mean(numerator) / mean(denominator) over paired samples (n,), by linearisation and Student's t."""
    numerator, denominator = (np.asarray(x, dtype=np.float64) for x in (numerator, denominator))
    with np.errstate(invalid="ignore", divide="ignore"):
        ratio = numerator.mean() / denominator.mean()
        _, low, high = mean_interval(
            (numerator - ratio * denominator) / denominator.mean(), level=level
        )
    return float(ratio), float(ratio + low), float(ratio + high)


def per_class(function, y: np.ndarray, classes, *values: np.ndarray) -> pd.DataFrame:
    """One row a class and a last row "all": n and what `function(*values of the class)` gives, a mapping of columns."""
    rows = []
    for name, chosen in [
        *((c, y == i) for i, c in enumerate(classes)),
        ("all", np.ones(len(y), bool)),
    ]:
        rows.append(
            {"class": name, "n": int(chosen.sum()), **function(*(v[chosen] for v in values))}
        )
    return pd.DataFrame(rows)


def share(hits) -> Estimate:
    """Share of True in `hits` (n,) with its Wilson interval; NaN for none."""
    hits = np.asarray(hits, dtype=bool)
    n = len(hits)
    low, high = wilson(hits.sum(), n)
    return Estimate(float(hits.mean()) if n else np.nan, float(low), float(high), n)


def median(values) -> Estimate:
    """Median of independent values (n,), NaN left out; the interval joins two order statistics.

    It is the range that bounds the median with 95 % confidence; below 6 values there is none.
    """
    from scipy.stats import binom

    ordered = np.sort(np.asarray(values, dtype=np.float64))
    ordered = ordered[np.isfinite(ordered)]
    n = len(ordered)
    k = int(binom.ppf(0.025, n, 0.5))
    low, high = (ordered[k - 1], ordered[n - k]) if k >= 1 else (np.nan, np.nan)
    return Estimate(float(np.median(ordered)), float(low), float(high), n)


def split_accuracy(hit: np.ndarray, own: np.ndarray) -> dict[str, float]:
    """ACC_f over the samples of the classes to forget and ACC_r over all others: n_f, acc_f, its 95 % Wilson interval
    (acc_f_low, acc_f_high), and the same for r. hit, own (N,) bool: answered rightly, and of a class to forget.
    """
    row = {}
    for name, chosen in (("f", own), ("r", ~own)):
        found = share(hit[chosen])
        row |= {
            f"n_{name}": found.n,
            f"acc_{name}": found.value,
            f"acc_{name}_low": found.low,
            f"acc_{name}_high": found.high,
        }
    return row


def paired_change(before, after) -> Estimate:
    """Share of `after` less share of `before`, hits (n,) of the same samples, in [-1, 1].

    The interval joins the Wilson intervals of the gains and of the losses (Newcombe 1998's square-and-add), so that it
    has a width where nothing changed.
    """
    before, after = np.asarray(before, dtype=bool), np.asarray(after, dtype=bool)
    if before.shape != after.shape:
        raise MismatchError(
            f"a paired change needs the same samples twice; got {before.shape} and {after.shape}"
        )
    gain, loss = share(after & ~before), share(before & ~after)
    value = gain.value - loss.value
    low = value - np.hypot(gain.value - gain.low, loss.high - loss.value)
    high = value + np.hypot(gain.high - gain.value, loss.value - loss.low)
    return Estimate(value, float(max(low, -1)), float(min(high, 1)), len(before))


def accuracy(predicted: np.ndarray, y: np.ndarray, classes) -> pd.DataFrame:
    """One row a class and a last row "all": n, accuracy, and its 95 % Wilson interval (`low`, `high`); NaN without samples."""
    predicted, y = np.asarray(predicted), np.asarray(y)
    table = per_class(lambda hit: {"hits": int(hit.sum())}, y, classes, predicted == y)
    with np.errstate(invalid="ignore"):
        table["accuracy"] = table.pop("hits") / table["n"]
    table["low"], table["high"] = wilson(table["accuracy"] * table["n"], table["n"])
    return table
