"""Noise-corrected inner products of class vectors and class means, and their bootstrap.

Inner products stand in arrays (..., 3, C, C), in the order of `KINDS`: <kappa_c, z_d>,
<kappa_c, kappa_d> and <z_c, z_d>, with z the fine-tuned means.
"""

import numpy as np

from ...statistics import resampling_counts

KINDS = {  # what stands on the rows and columns of each family of cosines
    "cosine": ("kappa", "z_ft"),
    "kappa_cosine": ("kappa", "kappa"),
    "mean_cosine": ("z_ft", "z_ft"),
}
SIDES, ROW, COLUMN = ("kappa", "z_ft"), [0, 0, 1], [1, 0, 1]  # the same as positions in SIDES
FEWEST = 3  # samples of a class below which nothing can be said of the noise of its mean
HIDDEN = 0.1  # share of a mean's noise that classes with fewer may hide
# Resamples x C² that are made in all and held at once. FEWEST_RESAMPLES are made of any number of
# classes: the quantile of max-T needs them.
CELLS, FEWEST_RESAMPLES = 100_000_000, 100
REMAINDERS = 20, 200  # resamples that carry the second-order part, which only corrects a variance
PIECE_CELLS, SMALL_PIECE = 16_000_000, 1_000_000  # worked on at once: all, or little by little


def inner_products(sides):
    """Inner products (..., 3, C, C) between the rows of kappa and z; sides (2, ..., C, m)."""
    return np.moveaxis(sides[ROW] @ np.swapaxes(sides[COLUMN], -1, -2), 0, -3)


def diagonal(gram):
    """The diagonals (..., C) of matrices (..., C, C), a view."""
    return np.einsum("...cc->...c", gram)


def off_diagonal(values):
    """The entries (..., C (C - 1)) off the diagonal of matrices (..., C, C)."""
    values = np.asarray(values)
    return values[..., ~np.eye(values.shape[-1], dtype=bool)]


def double_centre(gram):
    """H G H with H = I - 11ᵀ/C, over the last two axes: both sides lose their mean over classes."""
    gram = gram - gram.mean(axis=-1, keepdims=True)
    gram -= gram.mean(axis=-2, keepdims=True)
    return gram


def affordable(n_boot: int, n_classes: int) -> int:
    """How many of n_boot resamples are made: 1,000 of up to 316 classes, 100 of 1,000 and more."""
    return min(n_boot, max(CELLS // n_classes**2, FEWEST_RESAMPLES))


def pieces(n: int, n_classes: int) -> list[slice]:
    """n resamples, one part after the other: what is made of one of many classes fits a cache."""
    size = n if n * n_classes**2 <= PIECE_CELLS else max(SMALL_PIECE // n_classes**2, 1)
    return [slice(at, at + size) for at in range(0, n, size)]


class GramBootstrap:
    """Unbiased inner products of class means, and how resampling the samples moves them.

    An inner product of a class with itself leaves out each sample's product with itself (a
    U-statistic), so that noise of the means inflates no norm, in no resample.

    Attributes: `point` (3, C, C), the estimates; `noise` (3, C), what was taken off their diagonals
    (0 for a class of one sample); `power` (C,), the mean of |kappa|² within each class; `count`
    (C,); `resolved` (C,), whether a class has samples enough to be resampled; `hidden`, whether the
    others add more than HIDDEN to the noise of a mean over classes.

    Args:
        kappa, z: (N, m), displacement f_ft(x) - f_pre(x) and fine-tuned representation of a sample.
        y: labels (N,); all classes are present.
    """

    def __init__(self, kappa: np.ndarray, z: np.ndarray, y: np.ndarray):
        n = np.bincount(y)
        classes = (y == c for c in range(len(n)))
        self._samples = [np.array([kappa[own], z[own]], dtype=float) for own in classes]
        self._own = [_own_products(sides) for sides in self._samples]
        self._means = np.stack([sides.mean(1) for sides in self._samples], 1)
        self.power = np.array([own[1].mean() for own in self._own])
        self.point = inner_products(self._means)
        plain, total = diagonal(self.point).copy(), np.stack([own.sum(1) for own in self._own], 1)
        exact = np.where(n > 1, (n**2 * plain - total) / np.maximum(n * (n - 1), 1), plain)
        self.noise, diagonal(self.point)[:] = plain - exact, exact
        self.count, self.resolved = n, n >= FEWEST
        shown = (self.resolved / n).sum() / max(self.resolved.sum(), 1)
        self.hidden = (~self.resolved / n).mean() > HIDDEN * shown

    def resamples(self, n_boot: int, seed: int):
        """Yield perturbations of `point` under multinomial resampling within class, in chunks.

        For statistics such as `point` the linear part counts the second-order variance twice and
        the whole resample thrice, so Var(linear) - Var(remainder) is an unbiased variance to second
        order.

        Yields:
            (linear, remainder, power): `linear` (b, 3, C, C) is the part to first order in the
            weights with the jackknife's small-sample factors; `remainder` (r, 3, C, C) the rest, of
            the first resamples only; `power` (b, C) that of the resample.
        """
        rng = np.random.default_rng(seed)
        _, n_classes, dim = self._means.shape
        held = CELLS // n_classes**2
        size = int(np.clip(held, 10, n_boot))
        remainder = int(np.clip(held // 5, *REMAINDERS))
        for start in range(0, n_boot, size):
            b = min(size, n_boot - start)
            r = int(np.clip(remainder - start, 0, b))
            linear, power = np.zeros((b, 3, n_classes, n_classes)), np.tile(self.power, (b, 1))
            moved, own_rest = np.zeros((2, r, n_classes, dim)), np.zeros((r, 3, n_classes))
            for c in np.flatnonzero(self.resolved):
                n, at = int(self.count[c]), self.point[:, c, c, None]
                samples, own = self._samples[c], self._own[c]
                # deviations of the weights from 1, widened so that a mean's variance is unbiased
                e = (resampling_counts(n, b, rng) - 1) * np.sqrt(n / (n - 1))
                # each sample with every mean, (2, 2, n, C); with that of its class, itself included
                products = samples[:, None] @ np.swapaxes(self._means, 1, 2)
                change = np.moveaxis(e @ products / n, 2, 0)
                linear[:, :, c] += change[:, ROW, COLUMN]
                linear[..., c] += change[:, COLUMN, ROW]
                mean = (products[ROW, COLUMN, :, c] + products[COLUMN, ROW, :, c]) / 2
                influence = (n * mean - own) / (n - 1) - at
                linear[:, :, c, c] = 2 * (n - 1) / (n - 2) * (e @ influence.T / n)
                power[:, c] += e @ own[1] / n
                moved[:, :, c] = e[:r] @ samples / n
                squared = np.square(1 + e[:r])
                whole = n**2 * _own_products(self._means[:, c, None] + moved[:, :, c])
                pairs = n**2 - squared.sum(1)
                own_rest[:, :, c] = ((whole - own @ squared.T) / pairs - at).T - linear[:r, :, c, c]
            rest = inner_products(moved)
            diagonal(rest)[:] = own_rest
            yield linear, rest, power


def _own_products(sides):
    """Each sample's products with itself, (3, n); sides (2, n, m)."""
    return np.einsum("pnm,pnm->pn", sides[ROW], sides[COLUMN])
