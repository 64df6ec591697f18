"""Cosines between class vectors and class means with honest intervals, from a bootstrap."""

import numpy as np
import pandas as pd

from ...checks import record
from ...statistics import t_interval, with_ends, zero_divisions
from ...words import several
from . import geometry
from .grams import COLUMN, FEWEST, KINDS, ROW, SIDES, GramBootstrap, diagonal, double_centre, pieces

# Largest standard error of a squared length, in units of the typical and of the own one.
# Beyond it there is no interval.
TYPICAL_LIMIT, OWN_LIMIT = 0.5, 1.0
# How much of the remainder's variance is taken off the linear part's. All of it leaves no bias but,
# with few images, intervals that cover 91 to 93 %, since the variance is itself an estimate; half
# covers 93 to 97 %. Where noise is heavier than HEAVY (of the typical squared length), or a cosine
# near ±1, nothing is taken off.
SUBTRACTED, HEAVY = 0.5, 0.3


@record
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

    @property
    def cosine(self) -> np.ndarray:
        """`estimate`, cut off at ±1 as its intervals are, (C, C)."""
        return np.clip(self.estimate, -1, 1)

    def interval(self, level: float = 0.95) -> list[np.ndarray]:
        """[low, high], each (C, C), of every entry by itself; NaN where there is none.

        On Fisher's z scale, but plain near ±1, where that scale ends.
        """
        near = _near_one(self.estimate, self.se)
        cosine = np.where(near, 0.0, self.estimate)
        centre = np.where(near, self.estimate, np.arctanh(cosine))
        ends = t_interval(centre, self.se / (1 - cosine**2), self.df, level=level)
        return [np.where(near, np.clip(end, -1, 1), np.tanh(end)) for end in ends]

    def differs_from(self, value: float = 0.0) -> np.ndarray:
        """(C, C) bool: entries that differ from `value` at 5 % over all off-diagonal ones."""
        from scipy.stats import norm, t

        return np.abs(self.estimate - value) > t.isf(norm.sf(self.critical), self.df) * self.se


@zero_divisions()  # a resample may find a length of 0
def cosine_intervals(boot: GramBootstrap, *, n_boot: int, seed: int) -> dict:
    """Intervals of all families of cosines and of all else that is made of the same inner products.

    Returns:
        A mapping: `intervals`, `CosineIntervals` by family ("cosine", "cosine_centred", …);
        `corrected`, arrays of the quantities of `geometry.MEANING`: `corrected` (free of noise) and
        its 95 % interval `low`, `high`; `norms`, a frame with one row a class: the noise-corrected
        lengths of kappa and z_ft; `assumptions`, see `geometry.departures`.
    """
    raw, centred = _Cosines(boot, boot.point), _Cosines(boot, double_centre(boot.point), "_centred")
    scalars, squares, assumptions = _Moments(), _Moments(), None
    at = geometry.scalars(boot.point, boot.power, boot.count)
    for linear, rest, power in boot.resamples(n_boot, seed):
        if assumptions is None:
            again = boot.point + linear[: len(rest)] + rest
            assumptions = geometry.departures(boot.point, again)
            del again
        turns = pieces(len(linear), len(boot.count))
        for turn in turns:
            one, more = linear[turn], rest[turn]
            moved, again = boot.point + one, boot.point + one[: len(more)] + more
            first, both = (
                geometry.scalars(grams, power[turn][: len(grams)], boot.count)
                for grams in (moved, again)
            )
            scalars.add(first - at, both - first[: len(more)])
            squares.add(geometry.squares(one), geometry.squares(more))
            raw.add(one, more)
            centred.add(double_centre(one), double_centre(more))
        for turn in turns:
            raw.compare(linear[turn])
            centred.compare(double_centre(linear[turn]))
    clear = np.sqrt(squares.corrected()) < TYPICAL_LIMIT * geometry.squares(boot.point)
    resolved = np.isfinite(geometry.scalars(boot.point, boot.power, boot.count, clear))
    error = np.where(resolved & ~boot.hidden, np.sqrt(scalars.corrected()), np.nan)
    low, high = t_interval(at, error, (boot.count - 1).sum())
    return {
        "intervals": raw.results() | centred.results(),
        "corrected": {"corrected": at, "low": low, "high": high},
        "norms": raw.norms(),
        "assumptions": assumptions,
    }


class _Moments:
    """Count, sum and sum of squares over resamples: to first order, and of the rest."""

    def __init__(self):
        self._n, self._total, self._square = [0, 0], [0.0, 0.0], [0.0, 0.0]

    def add(self, *parts) -> None:
        """Take in resamples (b, ...) of both."""
        for k, x in enumerate(parts):
            self._n[k] += len(x)
            self._total[k] += x.sum(0)
            self._square[k] += np.einsum("b...,b...->...", x, x)

    def variances(self):
        """The two variances (2, ...)."""
        sums = zip(self._n, self._total, self._square, strict=True)
        found = [square / max(n, 1) - (total / max(n, 1)) ** 2 for n, total, square in sums]
        return np.maximum(found, 0)

    def corrected(self, heavy=False):
        """The variance: at least half of the first-order one, which has the second order twice."""
        linear, rest = self.variances()
        return np.maximum(linear - np.where(heavy, 0, SUBTRACTED) * rest, linear / 2)


def _near_one(cosine, se):
    """Is ±1 within two standard errors? There all noise counts."""
    return ~(np.abs(cosine) < 1 - 2 * se)


def _squared(grams):
    """The squared lengths (..., 2, C) of kappa and z."""
    return diagonal(grams)[..., 1:, :]


class _Cosines:
    """Cosines, raw or centred, under resampling: arrays (3, C, C) of all `KINDS`."""

    def __init__(self, boot: GramBootstrap, point, suffix: str = ""):
        self._boot, self._suffix, self._squared = boot, suffix, _squared(point)
        length = np.where(self._squared > 0, self._squared, np.nan)
        self._row, self._column = length[ROW][..., None], length[COLUMN][:, None]
        self._length = np.sqrt(self._row * self._column)
        self._estimate = point / self._length
        self._off = ~np.eye(point.shape[-1], dtype=bool) & np.isfinite(self._estimate)
        self._entries, self._means, self._squares = _Moments(), _Moments(), _Moments()
        self._half, self._scale, self._largest = self._estimate / 2, None, []

    def _change(self, grams):
        """First-order change (b, 3, C, C) of the cosines for a change of the inner products."""
        squared = _squared(grams)
        relative = squared[:, ROW, :, None] / self._row + squared[:, COLUMN, None] / self._column
        relative *= self._half
        change = grams / self._length
        change -= relative
        return change

    def _mean(self, values):
        """Means (..., 3) of the off-diagonal entries, those that are not known left out."""
        total = np.where(self._off, values, 0).sum((-2, -1))
        return total / np.maximum(self._off.sum((-2, -1)), 1)

    def add(self, linear, rest) -> None:
        """Take in perturbations of the inner products."""
        change, more = self._change(linear), self._change(rest)
        self._entries.add(change, more)
        self._means.add(self._mean(change), self._mean(more))
        self._squares.add(_squared(linear), _squared(rest))

    def compare(self, linear) -> None:
        """Take in again, for max-T, what `add` has seen."""
        if self._scale is None:  # of the first chunk: its noise makes max-T wider, never narrower
            scale = np.sqrt(self._entries.variances()[0])
            self._scale = np.where(scale > 0, scale, np.inf)
        ratio = np.where(self._off, self._change(linear), 0)
        np.divide(np.abs(ratio, out=ratio), self._scale, out=ratio)
        self._largest.append(ratio.max((-2, -1)))

    def results(self) -> dict[str, CosineIntervals]:
        """The intervals of each family."""
        reasons, heavy = self._unresolved()
        row, column = reasons[ROW][..., None], reasons[COLUMN][:, None]
        unresolved = np.where(row != "", row, column)
        for same in unresolved[1:]:
            np.fill_diagonal(same, "1 by definition")
        heavy = (heavy[ROW] | heavy[COLUMN])[:, None, None]
        whole, se = np.sqrt([self._entries.corrected(every) for every in (True, heavy)])
        se = np.where(_near_one(self._estimate, whole), whole, se)
        se = np.where(unresolved == "", se, np.nan)
        critical = np.quantile(np.concatenate(self._largest), 0.95, axis=0)
        error = np.sqrt(self._means.corrected())
        known = np.where((self._off & np.isfinite(se)).any((-2, -1)), 1, np.nan)
        means = zip(self._mean(self._estimate), error * known, strict=True)
        parts = (self._estimate, se, self._freedom(), unresolved, critical * known, means)
        families = zip(KINDS, *parts, strict=True)
        return {kind + self._suffix: CosineIntervals(*own) for kind, *own in families}

    def _unresolved(self):
        """Reasons (2, C) why |kappa_c| and |z_c| aren't resolved, or ""; heavy noise (2,)."""
        count, known = self._boot.count, self._boot.resolved
        error, typical = np.sqrt(self._squares.corrected()), np.full(2, np.inf)
        if known.any():
            mean = self._squared[:, known].mean(1)
            typical = np.median(error[:, known], axis=1) / mean
        hidden = bool(self._suffix) and self._boot.hidden
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
        noise, n = self._boot.noise[1:], len(self._boot.count)
        weight = np.square(np.eye(n) - bool(self._suffix) / n)
        inverse = 1 / np.maximum(self._boot.count - 1.0, 1)
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
        return pd.DataFrame(np.sqrt(np.maximum(squared, 0)).T, columns=with_ends(*SIDES))
