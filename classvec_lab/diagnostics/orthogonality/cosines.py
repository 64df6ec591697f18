"""Cosines between class vectors and class means with honest intervals, from a bootstrap of their inner products."""

from collections.abc import Mapping
from dataclasses import dataclass

import numpy as np
import pandas as pd

from ...statistics import t_interval
from . import geometry
from .grams import FEWEST, GramBootstrap, Grams, diagonal

KINDS = {  # which inner products, and what is on the rows and columns
    "cosine": ("kz", "kappa", "z_ft"),
    "kappa_cosine": ("kk", "kappa", "kappa"),
    "mean_cosine": ("zz", "z_ft", "z_ft"),
}
# Largest standard error of a squared length, in units of the typical and of the own one. Beyond it there is no interval.
TYPICAL_LIMIT, OWN_LIMIT = 0.5, 1.0
# How much of the remainder's variance is taken off the linear part's. All of it leaves no bias but, with few
# images, intervals that cover 91 to 93 %, since the variance is itself an estimate; half covers 93 to 97 %. Where noise is
# heavier than HEAVY (of the typical squared length), or a cosine near ±1, nothing is taken off.
SUBTRACTED, HEAVY = 0.5, 0.3


@dataclass(frozen=True, eq=False)
class CosineIntervals:
    """Intervals of one C × C family of cosines (KINDS, raw or centred).

    estimate: cosine with noise-corrected norms; se, df (C, C): its standard error and the degrees of freedom of
    Student's t; unresolved (C, C): a reason, or "" where there is an interval. critical: how many
    standard errors all off-diagonal entries stay within at once in 95 % of resamples (max-T).
    mean_off, mean_diagonal: (value, standard error) of the mean entry.
    """

    estimate: np.ndarray
    se: np.ndarray
    df: np.ndarray
    unresolved: np.ndarray
    critical: float
    mean_off: tuple[float, float]
    mean_diagonal: tuple[float, float]

    def interval(self, level: float = 0.95) -> tuple[np.ndarray, np.ndarray]:
        """(low, high), each (C, C), of every entry by itself, on Fisher's z scale (but near ±1); NaN where there is none."""
        plain = t_interval(self.estimate, self.se, self.df, level=level)
        with np.errstate(invalid="ignore", divide="ignore"):
            near = near_one(self.estimate, self.se)
            estimate = np.where(near, 0.0, self.estimate)
            fisher = t_interval(
                np.arctanh(estimate), self.se / (1 - estimate**2), self.df, level=level
            )
        return tuple(
            np.where(near, np.clip(p, -1, 1), np.tanh(f))
            for p, f in zip(plain, fisher, strict=True)
        )

    def differs_from(self, value: float = 0.0) -> np.ndarray:
        """(C, C) bool: entries that differ from `value` at 5 % over all off-diagonal entries at once (max-T)."""
        from scipy.stats import norm, t

        tail = norm.sf(self.critical)
        with np.errstate(invalid="ignore"):
            return np.abs(self.estimate - value) > t.isf(tail, self.df) * self.se

    def inside(self, delta: float, *, level: float = 0.05) -> np.ndarray:
        """(C, C) bool: entries shown to lie within ±delta: two one-sided tests at `level`, so the 1 - 2·level interval."""
        low, high = self.interval(1 - 2 * level)
        with np.errstate(invalid="ignore"):
            return (low > -delta) & (high < delta)


@dataclass(frozen=True, eq=False)
class Resampled:
    """What one bootstrap of the inner products gives.

    families: CosineIntervals of "cosine", "cosine_centred", …; scalars: a frame, one row each of those of
    `geometry` with value (noise-corrected), low, high (95 %), and a note where there is no interval; norms: a
    frame, one row a class, with the noise-corrected lengths of kappa and z_ft; departures: see `geometry.departures`.
    """

    families: Mapping[str, CosineIntervals]
    scalars: pd.DataFrame
    norms: pd.DataFrame
    departures: pd.DataFrame


def cosine_intervals(boot: GramBootstrap, *, n_boot: int, seed: int) -> Resampled:
    """Intervals of all families of cosines and of all that is made of the same inner products, by one bootstrap."""
    points = {"": boot.point, "_centred": boot.point.centred()}
    families = {
        name + suffix: _Family(gram, at)
        for suffix, at in points.items()
        for name, (gram, _, _) in KINDS.items()
    }
    lengths = {
        suffix: _Variance(lambda g: np.stack([diagonal(g.kk), diagonal(g.zz)], axis=-2))
        for suffix in points
    }
    scalars = _Variance(
        lambda g: np.stack([*geometry.scalars(g, boot.count).values()], axis=-1),
        nonlinear=boot.point,
    )
    squares = _Variance(lambda g: np.stack([*geometry.squares(g).values()], axis=-1))
    departures = None
    for linear, rest in boot.resamples(n_boot, seed):
        if departures is None:
            departures = geometry.departures(boot.point, boot.point + linear[: len(rest.kk)] + rest)
        scalars.add(linear, rest)
        squares.add(linear, rest)
        for suffix in points:
            a, b = (linear.centred(), rest.centred()) if suffix else (linear, rest)
            lengths[suffix].add(a, b)
            for name in KINDS:
                families[name + suffix].add(a, b)
    table = {}
    for suffix, at in points.items():
        squared = np.stack([diagonal(at.kk), diagonal(at.zz)])
        reasons, heavy = _unresolved(squared, lengths[suffix].value(), boot.count, bool(suffix))
        for name in KINDS:
            table[name + suffix] = families[name + suffix].result(
                boot, reasons, heavy, centred=bool(suffix)
            )
    norms = _norm_table(boot, lengths[""].value())
    return Resampled(
        table, _scalar_table(boot, scalars.value(), squares.value()), norms, departures
    )


def _norm_table(boot: GramBootstrap, variance: np.ndarray) -> pd.DataFrame:
    table = {}
    for name, gram, own in (
        ("kappa", boot.point.kk, variance[0]),
        ("z_ft", boot.point.zz, variance[1]),
    ):
        squared, error = diagonal(gram), np.where(boot.resolved, np.sqrt(own), np.nan)
        ends = t_interval(squared, error, boot.count - 1)
        for column, value in zip(
            (name, f"{name}_low", f"{name}_high"), (squared, *ends), strict=True
        ):
            table[column] = np.sqrt(np.maximum(value, 0))
    return pd.DataFrame(table)


def near_one(cosine: np.ndarray, se: np.ndarray) -> np.ndarray:
    """Is ±1 within two standard errors? There Fisher's scale ends, and all noise counts."""
    with np.errstate(invalid="ignore"):
        return ~(np.abs(cosine) < 1 - 2 * se)


class _Variance:
    """Variance, over resamples, of statistics of the inner products: first order, less a part of what the rest adds.

    `statistic` maps Grams with b resamples to (b, ...). A linear one is applied to the perturbations, any other
    (`nonlinear`, the point) to the perturbed inner products.
    """

    def __init__(self, statistic, nonlinear: Grams | None = None):
        self._statistic, self._point = statistic, nonlinear
        self._sums = {"linear": [0, 0.0, 0.0], "rest": [0, 0.0, 0.0]}

    def add(self, linear: Grams, rest: Grams) -> np.ndarray:
        """Take in a chunk; returns the statistic's first-order changes (b, ...)."""
        r = len(rest.kk)
        if self._point is None:
            change, more = self._statistic(linear), self._statistic(rest) if r else None
        else:
            moved, at = self._statistic(self._point + linear), self._statistic(self._point)
            again = self._statistic(self._point + linear[:r] + rest) if r else None
            with np.errstate(invalid="ignore"):  # a ratio to a length that a resample finds to be 0
                change, more = moved - at, again - moved[:r] if r else None
        for name, values in (("linear", change), ("rest", more)):
            if values is not None:
                n, total, square = self._sums[name]
                with np.errstate(invalid="ignore"):  # a resample may find a length of 0
                    square = square + np.einsum("b...,b...->...", values, values)
                    self._sums[name] = [n + len(values), total + values.sum(axis=0), square]
        return change

    def linear(self):
        """The first-order variance alone."""
        return self._of("linear")

    def value(self, *, heavy: bool = False):
        """The corrected variance, at least half of the first-order one, which counts the second order twice."""
        linear = self.linear()
        return np.maximum(linear - (0 if heavy else SUBTRACTED) * self._of("rest"), linear / 2)

    def _of(self, name: str):
        n, total, square = self._sums[name]
        with np.errstate(invalid="ignore"):
            return np.maximum(square / n - (total / n) ** 2, 0) if n > 1 else 0.0


def _unresolved(
    squared: np.ndarray, variance: np.ndarray, count: np.ndarray, centred: bool
) -> tuple[np.ndarray, np.ndarray]:
    """Reasons (2, C) why kappa_c and z_c have no resolved length, or ""; and whether noise is heavy on either side (2,)."""
    reasons = np.full(squared.shape, "", dtype=object)
    known = count >= FEWEST
    if centred and _hidden_noise(count):
        reasons[:] = (
            f"centring spreads the unknown noise of classes with fewer than {FEWEST} images over all entries"
        )
        return reasons, np.ones(2, bool)
    error = np.sqrt(variance)
    ratio = (
        np.median(error[:, known], axis=1) / squared[:, known].mean(axis=1)
        if known.any()
        else np.full(2, np.inf)
    )
    for side, name in enumerate(("kappa", "z_ft")):
        for c, n in enumerate(count):
            if n < FEWEST:
                reasons[side, c] = (
                    f"{n} image{'' if n == 1 else 's'} in the class: no interval from fewer than {FEWEST}"
                )
            elif not ratio[side] <= TYPICAL_LIMIT:
                reasons[side, c] = (
                    f"noise drowns the length of {name} in most classes: take more images"
                )
            elif not squared[side, c] > 0 or not error[side, c] < OWN_LIMIT * squared[side, c]:
                reasons[side, c] = (
                    f"the length of {name} is not distinguishable from 0 with {n} images"
                )
    return reasons, ratio > HEAVY


def _hidden_noise(count: np.ndarray) -> bool:
    """Do classes with too few images to show their noise add more than a tenth to that of a mean over classes?"""
    few = count < FEWEST
    if few.all():
        return True
    return bool(np.sum(1 / count[few]) / len(count) > 0.1 * np.mean(1 / count[~few]))


def _scalar_table(boot: GramBootstrap, variance: np.ndarray, squares: np.ndarray) -> pd.DataFrame:
    value = {name: float(v) for name, v in geometry.scalars(boot.point, boot.count).items()}
    low, high = t_interval([*value.values()], np.sqrt(variance), (boot.count - 1).sum())
    table = pd.DataFrame(
        {"scalar": [*value], "value": [*value.values()], "low": low, "high": high, "note": ""}
    )
    lengths = geometry.squares(boot.point)
    lost = {
        k
        for (k, v), s in zip(lengths.items(), np.sqrt(squares), strict=True)
        if not s < TYPICAL_LIMIT * v
    }
    hidden = _hidden_noise(boot.count)
    for i, name in enumerate(table["scalar"]):
        missing = [k for k in geometry.NEEDS.get(name, ()) if k in lost]
        if missing or hidden:
            few = f"classes with fewer than {FEWEST} images hide their noise"
            table.loc[i, ["low", "high"]] = np.nan
            table.loc[i, "note"] = (
                few if hidden else f"|{'|, |'.join(missing)}| is not distinguishable from 0"
            )
    return table


class _Family:
    """One family of cosines under resampling."""

    def __init__(self, gram: str, point: Grams):
        self._gram, self._sides = gram, (gram[0] * 2, gram[1] * 2)
        a, b = (diagonal(getattr(point, side)) for side in self._sides)
        with np.errstate(invalid="ignore", divide="ignore"):
            self._a, self._b = np.where(a > 0, a, np.nan), np.where(b > 0, b, np.nan)
            self._length = np.sqrt(self._a[:, None] * self._b)
            self._estimate = getattr(point, gram) / self._length
        self._off = ~np.eye(len(a), dtype=bool)
        self._entries, self._means = (
            _Variance(self._change),
            _Variance(lambda g: self._mean(self._change(g))),
        )
        self._scale, self._largest = None, []

    def _change(self, grams: Grams) -> np.ndarray:
        """First-order change (b, C, C) of the cosines for a change of the inner products."""
        a, b = (diagonal(getattr(grams, side)) for side in self._sides)
        half = self._estimate / 2
        return (
            getattr(grams, self._gram) / self._length
            - half * (a / self._a)[:, :, None]
            - half * (b / self._b)[:, None, :]
        )

    def _mean(self, values: np.ndarray) -> np.ndarray:
        """Mean off-diagonal and diagonal entries (..., 2), those that are not known left out."""
        known = np.isfinite(self._estimate)
        values = np.where(known, values, 0.0)
        on = diagonal(values).sum(axis=-1)
        off = values.sum(axis=(-2, -1)) - on
        counts = [max(known[mask].sum(), 1) for mask in (self._off, ~self._off)]
        return np.stack([off / counts[0], on / counts[1]], axis=-1)

    def add(self, linear: Grams, rest: Grams) -> None:
        change = self._entries.add(linear, rest)
        self._means.add(linear, rest)
        if (
            self._scale is None
        ):  # of the first chunk: where there are several, its noise makes max-T wider, never narrower
            self._scale = np.sqrt(self._entries.linear())
        with np.errstate(invalid="ignore", divide="ignore"):
            ratio = np.abs(change) / self._scale
        ratio[:, ~(self._off & (self._scale > 0))] = 0
        self._largest.append(np.nan_to_num(ratio).max(axis=(1, 2)))

    def result(
        self, boot: GramBootstrap, reasons: np.ndarray, heavy: np.ndarray, *, centred: bool
    ) -> CosineIntervals:
        sides = [("kk", "zz").index(side) for side in self._sides]
        row, column = reasons[sides[0]], reasons[sides[1]]
        unresolved = np.where(row[:, None] != "", row[:, None], column[None, :])
        if sides[0] == sides[1]:
            np.fill_diagonal(unresolved, "1 by definition")
        whole, se = (np.sqrt(self._entries.value(heavy=h)) for h in (True, heavy[sides].any()))
        se = np.where(
            unresolved == "", np.where(near_one(self._estimate, whole), whole, se), np.nan
        )
        enough = [np.isfinite(se[mask]).any() for mask in (self._off, ~self._off)]
        off, on = zip(
            self._mean(self._estimate).tolist(),
            np.where(enough, np.sqrt(self._means.value()), np.nan).tolist(),
            strict=True,
        )
        critical = float(np.quantile(np.concatenate(self._largest), 0.95)) if enough[0] else np.nan
        return CosineIntervals(
            self._estimate, se, self._freedom(boot, centred), unresolved, critical, off, on
        )

    def _freedom(self, boot: GramBootstrap, centred: bool) -> np.ndarray:
        """Satterthwaite's degrees of freedom (C, C): class j adds variance in proportion to its noise, with n_j - 1 degrees."""
        noise = {"kk": boot.noise_kappa, "zz": boot.noise_z}
        left = boot.count - 1.0
        weight = np.square(np.eye(len(left)) - centred / len(left)) * (left > 0)
        with np.errstate(invalid="ignore", divide="ignore"):
            x, y = (
                weight * np.nan_to_num(noise[side]) / length[:, None]
                for side, length in zip(self._sides, (self._a, self._b), strict=True)
            )
            inverse = 1 / np.maximum(left, 1)
            total = x.sum(axis=1)[:, None] + y.sum(axis=1)
            return total**2 / ((x**2 @ inverse)[:, None] + 2 * (x * inverse) @ y.T + y**2 @ inverse)
