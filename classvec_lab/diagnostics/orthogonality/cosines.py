"""Cosines between class vectors and class means with honest intervals, from a bootstrap."""

from dataclasses import dataclass

import numpy as np
import pandas as pd

from ...statistics import t_interval
from ...words import several
from . import geometry
from .grams import FEWEST, KINDS, PAIRS, GramBootstrap, diagonal, double_centre

# Largest standard error of a squared length, in units of the typical and of the own one.
# Beyond it there is no interval.
TYPICAL_LIMIT, OWN_LIMIT = 0.5, 1.0
# How much of the remainder's variance is taken off the linear part's. All of it leaves no bias but,
# with few images, intervals that cover 91 to 93 %, since the variance is itself an estimate; half
# covers 93 to 97 %. Where noise is heavier than HEAVY (of the typical squared length), or a cosine
# near ±1, nothing is taken off.
SUBTRACTED, HEAVY = 0.5, 0.3
SIDES = ("kappa", "z_ft")
ROW, COLUMN = map(list, zip(*PAIRS, strict=True))  # positions in SIDES of the sides of each kind


@dataclass(frozen=True, eq=False)
class CosineIntervals:
    """Intervals of one C × C family of cosines (KINDS, raw or centred).

    estimate: cosine with noise-corrected norms; se, df (C, C): its standard error and the degrees
    of freedom of Student's t; unresolved (C, C): a reason, or "" where there is an interval.
    critical: how many standard errors all off-diagonal entries stay within at once in 95 % of
    resamples (max-T). mean_off: (value, standard error) of the mean off-diagonal entry.
    """

    estimate: np.ndarray
    se: np.ndarray
    df: np.ndarray
    unresolved: np.ndarray
    critical: float
    mean_off: tuple[float, float]

    def interval(self, level: float = 0.95):
        """[low, high], each (C, C), of every entry by itself; NaN where there is none.

        On Fisher's z scale, but plain near ±1, where that scale ends.
        """
        near = _near_one(self.estimate, self.se)
        cosine = np.where(near, 0.0, self.estimate)
        centre = np.where(near, self.estimate, np.arctanh(cosine))
        ends = t_interval(centre, self.se / (1 - cosine**2), self.df, level=level)
        return [np.where(near, np.clip(end, -1, 1), np.tanh(end)) for end in ends]

    def differs_from(self, value: float = 0.0):
        """(C, C) bool: entries that differ from `value` at 5 % over all off-diagonal ones."""
        from scipy.stats import norm, t

        return np.abs(self.estimate - value) > t.isf(norm.sf(self.critical), self.df) * self.se


@np.errstate(invalid="ignore", divide="ignore")  # a resample may find a length of 0
def cosine_intervals(boot: GramBootstrap, *, n_boot: int, seed: int) -> dict:
    """Intervals of all families of cosines and of all else that is made of the same inner products.

    Returns:
        A mapping: `intervals`, `CosineIntervals` by family ("cosine", "cosine_centred", …);
        `scalars`, a frame with one row each of `geometry.MEANING`: `corrected` (free of noise) and
        its 95 % interval `low`, `high`; `norms`, a frame with one row a class: the noise-corrected
        lengths of kappa and z_ft; `assumptions`, see `geometry.departures`.
    """
    raw, centred = (_Cosines(boot, point, c) for c, point in enumerate(_versions(boot.point)))
    scalars, squares, assumptions = _Variance(), _Variance(), None
    at = geometry.scalars(boot.point, boot.power, boot.count)
    for linear, rest, power in boot.resamples(n_boot, seed):
        r = len(rest)
        moved, again = boot.point + linear, boot.point + linear[:r] + rest
        if assumptions is None:
            assumptions = geometry.departures(boot.point, again)
        first, both = (
            geometry.scalars(grams, boot.power + power[: len(grams)], boot.count)
            for grams in (moved, again)
        )
        scalars.add(first - at, both - first[:r])
        squares.add(geometry.squares(linear), geometry.squares(rest))
        for cosines, *parts in zip((raw, centred), *map(_versions, (linear, rest)), strict=True):
            cosines.add(*parts)
    centred_families = {f"{kind}_centred": found for kind, found in centred.results().items()}
    return {
        "intervals": raw.results() | centred_families,
        "scalars": _scalar_table(boot, at, scalars.corrected(), squares.corrected()),
        "norms": raw.norms(),
        "assumptions": assumptions,
    }


def _versions(grams):
    return grams, double_centre(grams)


def _near_one(cosine, se):
    """Is ±1 within two standard errors? There all noise counts."""
    return ~(np.abs(cosine) < 1 - 2 * se)


class _Variance:
    """Variance over resamples of statistics that come in chunks (b, ...): first order and rest."""

    def __init__(self):
        self._n, self._sums = np.zeros(2), 0.0

    def add(self, *parts) -> None:
        """Take in the first-order changes and the rest of them, of some resamples."""
        self._n += [len(x) for x in parts]
        sums = [[x.sum(0), np.einsum("b...,b...->...", x, x)] for x in parts]
        self._sums = self._sums + np.array(sums)

    @property
    def parts(self):
        """The variances of the two parts, (2, ...)."""
        means = (self._sums.T / np.maximum(self._n, 1)).T
        return np.maximum(means[:, 1] - means[:, 0] ** 2, 0)

    def corrected(self, heavy=False):
        """At least half of the first-order one, which counts the second order twice."""
        linear, rest = self.parts
        return np.maximum(linear - np.where(heavy, 0, SUBTRACTED) * rest, linear / 2)


class _Cosines:
    """Cosines, raw or centred, under resampling: arrays (3, C, C) of all `KINDS`."""

    def __init__(self, boot: GramBootstrap, point, centred: int):
        self._boot, self._centred, self._squared = boot, centred, _squared(point)
        length = np.where(self._squared > 0, self._squared, np.nan)
        self._row, self._column = length[ROW][..., None], length[COLUMN][:, None]
        self._length = np.sqrt(self._row * self._column)
        self._estimate = point / self._length
        self._off = ~np.eye(point.shape[-1], dtype=bool) & np.isfinite(self._estimate)
        self._entries, self._means, self._squares = _Variance(), _Variance(), _Variance()
        self._scale, self._largest = None, []

    def _change(self, grams):
        """First-order change (b, 3, C, C) of the cosines for a change of the inner products."""
        squared = _squared(grams)
        relative = squared[:, ROW, :, None] / self._row + squared[:, COLUMN, None] / self._column
        return grams / self._length - self._estimate / 2 * relative

    def _mean(self, values):
        """Means (..., 3) of the off-diagonal entries, those that are not known left out."""
        total = np.where(self._off, values, 0).sum(axis=(-2, -1))
        return total / np.maximum(self._off.sum(axis=(-2, -1)), 1)

    def add(self, linear, rest) -> None:
        """Take in a chunk of perturbations of the inner products."""
        change, more = self._change(linear), self._change(rest)
        self._entries.add(change, more)
        self._means.add(self._mean(change), self._mean(more))
        self._squares.add(_squared(linear), _squared(rest))
        if self._scale is None:  # of the first chunk: its noise makes max-T wider, never narrower
            scale = np.sqrt(self._entries.parts[0])
            self._scale = np.where(scale > 0, scale, np.inf)
        ratio = np.abs(np.where(self._off, change, 0)) / self._scale
        self._largest.append(ratio.max(axis=(-2, -1)))

    def results(self) -> dict[str, CosineIntervals]:
        """The intervals of each kind."""
        reasons, heavy = self._unresolved()
        row, column = reasons[ROW][..., None], reasons[COLUMN][:, None]
        unresolved = np.where(row != "", row, column)
        for same in unresolved[1:]:
            np.fill_diagonal(same, "1 by definition")
        whole = np.sqrt(self._entries.parts[0])
        se = np.sqrt(self._entries.corrected((heavy[ROW] | heavy[COLUMN])[:, None, None]))
        se = np.where(_near_one(self._estimate, whole), whole, se)
        se = np.where(unresolved == "", se, np.nan)
        enough = (self._off & np.isfinite(se)).any(axis=(-2, -1))
        critical = np.quantile(np.concatenate(self._largest), 0.95, axis=0)
        critical, error = (
            np.where(enough, x, np.nan) for x in (critical, np.sqrt(self._means.corrected()))
        )
        means = zip(self._mean(self._estimate), error, strict=True)
        parts = (self._estimate, se, self._freedom(), unresolved, critical, means)
        return {kind: CosineIntervals(*own) for kind, *own in zip(KINDS, *parts, strict=True)}

    def _unresolved(self):
        """Reasons (2, C) why |kappa_c| and |z_c| aren't resolved, or ""; heavy noise (2,)."""
        count, known = self._boot.count, self._boot.resolved
        error, typical = np.sqrt(self._squares.corrected()), np.full(2, np.inf)
        if known.any():
            mean = self._squared[:, known].mean(1)
            typical = np.median(error[:, known], axis=1) / mean
        hidden = bool(self._centred) and self._boot.hidden
        spread = (
            f"centring spreads the unknown noise of classes with fewer than {FEWEST} images "
            "over all entries"
        )
        few = [
            f"{several(n, 'image')} in the class: no interval from fewer than {FEWEST}"
            for n in count
        ]
        drowned = [
            [f"noise drowns the length of {side} in most classes: take more images"]
            for side in SIDES
        ]
        lost = [
            [f"the length of {side} is not distinguishable from 0 with {n} images" for n in count]
            for side in SIDES
        ]
        clear = (self._squared > 0) & (error < OWN_LIMIT * self._squared)
        tests = [hidden, ~known, ~(typical <= TYPICAL_LIMIT)[:, None], ~clear]
        reasons = np.select(tests, [spread, few, drowned, lost], "")
        return reasons.astype(object), (typical > HEAVY) | hidden

    def _freedom(self):
        """Satterthwaite's degrees of freedom (3, C, C).

        Class j adds variance in proportion to its noise, with n_j - 1 degrees.
        """
        left, noise = self._boot.count - 1.0, np.nan_to_num(self._boot.noise[1:])
        weight = np.square(np.eye(len(left)) - self._centred / len(left)) * (left > 0)
        inverse = 1 / np.maximum(left, 1)
        x = weight * noise[ROW][:, None] / self._row
        y = weight * noise[COLUMN][:, None] / np.swapaxes(self._column, 1, 2)
        total = x.sum(-1)[..., None] + y.sum(-1)[:, None]
        both = 2 * (x * inverse) @ np.swapaxes(y, 1, 2)
        return total**2 / ((x**2 @ inverse)[..., None] + both + (y**2 @ inverse)[:, None])

    def norms(self) -> pd.DataFrame:
        """The lengths of kappa and z_ft of each class, with their intervals."""
        error = np.where(self._boot.resolved, np.sqrt(self._squares.corrected()), np.nan)
        ends = t_interval(self._squared, error, self._boot.count - 1)
        squared = np.stack([self._squared, *ends], axis=1).reshape(6, -1)
        names = [side + end for side in SIDES for end in ("", "_low", "_high")]
        return pd.DataFrame(np.sqrt(np.maximum(squared, 0)).T, columns=names)


def _squared(grams):
    """The squared lengths (..., 2, C) of kappa and z."""
    return diagonal(grams)[..., 1:, :]


def _scalar_table(boot: GramBootstrap, value, variance, squares) -> pd.DataFrame:
    clear = np.sqrt(squares) < TYPICAL_LIMIT * geometry.squares(boot.point)
    needed = geometry.scalars(boot.point, boot.power, boot.count, clear)
    error = np.where(np.isfinite(needed) & ~boot.hidden, np.sqrt(variance), np.nan)
    low, high = t_interval(value, error, (boot.count - 1).sum())
    return pd.DataFrame(
        {"scalar": [*geometry.MEANING], "corrected": value, "low": low, "high": high}
    )
