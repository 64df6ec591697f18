"""Noise-corrected inner products of class vectors and class means, and their bootstrap."""

from collections.abc import Iterator
from dataclasses import dataclass

import numpy as np

from ...statistics import resampling_counts

FEWEST = 3  # samples of a class below which nothing can be said of the noise of its mean
N_REMAINDER = 200  # resamples that carry the second-order part: it only corrects a variance
CHUNK_CELLS = 16_000_000  # cells of a (resamples, C, C) array held at once


@dataclass(frozen=True, eq=False)
class Grams:
    """Inner products between classes: kz[c, d] = <kappa_c, z_d>, kk = <kappa_c, kappa_d>, zz = <z_c, z_d>, each (..., C, C).

    `power` (..., C) is the mean of |f_ft(x) - f_pre(x)|² within each class.
    """

    kz: np.ndarray
    kk: np.ndarray
    zz: np.ndarray
    power: np.ndarray

    def __add__(self, other: "Grams") -> "Grams":
        return Grams(
            self.kz + other.kz, self.kk + other.kk, self.zz + other.zz, self.power + other.power
        )

    def __getitem__(self, chosen) -> "Grams":
        return Grams(self.kz[chosen], self.kk[chosen], self.zz[chosen], self.power[chosen])

    def centred(self) -> "Grams":
        """The same after both sides lose their mean over classes."""
        return Grams(*(double_centre(g) for g in (self.kz, self.kk, self.zz)), self.power)


def diagonal(gram: np.ndarray) -> np.ndarray:
    """The diagonals (..., C) of matrices (..., C, C), a view."""
    return np.einsum("...cc->...c", gram)


def double_centre(gram: np.ndarray) -> np.ndarray:
    """H G H with H = I - 11ᵀ/C, over the last two axes."""
    gram = gram - gram.mean(axis=-1, keepdims=True)
    return gram - gram.mean(axis=-2, keepdims=True)


class GramBootstrap:
    """Unbiased inner products of class means, and how resampling the samples moves them.

    kappa, z: (N, m) displacement f_ft(x) - f_pre(x) and fine-tuned representation of each sample, y
    (N,), all C classes present. An inner product of a class with itself leaves out each sample's
    product with itself (a U-statistic), so that noise of the means inflates no norm, in no resample.

    `point` holds the estimates. `resamples()` yields (linear, remainder) chunks of perturbations
    under multinomial resampling within class, pre and ft together: `linear` is the part to first
    order in the weights with the jackknife's small-sample factors, `remainder` the rest (of the first
    N_REMAINDER resamples only). For such statistics the linear part counts the second-order variance
    twice and the resample thrice, so Var(linear) - Var(remainder) is an unbiased variance to second order.
    """

    def __init__(self, kappa: np.ndarray, z: np.ndarray, y: np.ndarray, n_classes: int):
        order = np.argsort(y, kind="stable")
        starts = np.searchsorted(y[order], np.arange(n_classes + 1))
        self._rows = np.split(order, starts[1:-1])
        self._kappa, self._z = kappa, z
        self.count = np.diff(starts)
        self.resolved = self.count >= FEWEST
        means = [(k.mean(axis=0), s.mean(axis=0)) for k, s in map(self._samples, range(n_classes))]
        self._mean_kappa, self._mean_z = (np.array(side) for side in zip(*means, strict=True))
        kz, kk, zz = (
            self._mean_kappa @ self._mean_z.T,
            self._mean_kappa @ self._mean_kappa.T,
            self._mean_z @ self._mean_z.T,
        )
        power = np.empty(n_classes)
        self.noise_kappa, self.noise_z = (
            np.full(n_classes, np.nan),
            np.full(n_classes, np.nan),
        )  # tr Sigma / n
        for c, n in enumerate(self.count):
            k, s = self._samples(c)
            own = self._own(k, s)
            power[c] = own[1].mean()
            if n > 1:
                plain = np.array([kz[c, c], kk[c, c], zz[c, c]])
                kz[c, c], kk[c, c], zz[c, c] = exact = (n**2 * plain - own.sum(axis=1)) / (
                    n * (n - 1)
                )
                self.noise_kappa[c], self.noise_z[c] = (plain - exact)[1:]
        self.point = Grams(kz, kk, zz, power)

    def _samples(self, c: int) -> tuple[np.ndarray, np.ndarray]:
        rows = self._rows[c]
        return np.asarray(self._kappa[rows], np.float64), np.asarray(self._z[rows], np.float64)

    @staticmethod
    def _own(k: np.ndarray, s: np.ndarray) -> np.ndarray:
        """Each sample's products with itself, (3, n): kz, kk, zz."""
        return np.stack([np.einsum("nm,nm->n", a, b) for a, b in ((k, s), (k, k), (s, s))])

    def resamples(self, n_boot: int, seed: int) -> Iterator[tuple[Grams, Grams]]:
        """Yield (linear, remainder) perturbations of `point`, (b, C, C) each, until n_boot resamples are through."""
        rng = np.random.default_rng(seed)
        n_classes = len(self.count)
        size = int(np.clip(CHUNK_CELLS // n_classes**2, 10, n_boot))
        for start in range(0, n_boot, size):
            b = min(size, n_boot - start)
            yield self._chunk(b, int(np.clip(N_REMAINDER - start, 0, b)), rng)

    def _chunk(self, b: int, r: int, rng) -> tuple[Grams, Grams]:
        n_classes, dim = self._mean_kappa.shape
        linear = [np.zeros((b, n_classes, n_classes)) for _ in range(3)]
        diagonal = np.zeros((3, r, n_classes))
        power = np.zeros((b, n_classes))
        moved_kappa, moved_z = np.zeros((r, n_classes, dim)), np.zeros((r, n_classes, dim))
        for c in np.flatnonzero(self.resolved):
            n = int(self.count[c])
            k, s = self._samples(c)
            own = self._own(k, s)
            # deviations of the weights from 1, widened so that a mean's variance is unbiased
            e = (resampling_counts(n, b, rng) - 1) * np.sqrt(n / (n - 1))
            products = [
                k @ self._mean_z.T,
                s @ self._mean_kappa.T,
                k @ self._mean_kappa.T,
                s @ self._mean_z.T,
            ]
            columns = np.concatenate(
                [*products, self._kernel(c, own, products).T, own[1][:, None]], axis=1
            )
            moved = e @ columns / n
            kz, zk, kk, zz = np.split(moved[:, : 4 * n_classes], 4, axis=1)
            power[:, c] = moved[:, -1]
            for gram, row, column in zip(linear, (kz, kk, zz), (zk, kk, zz), strict=True):
                gram[:, c, :] += row
                gram[:, :, c] += column
            for gram, first in zip(linear, moved[:, 4 * n_classes : -1].T, strict=True):
                gram[:, c, c] = 2 * (n - 1) / (n - 2) * first
            if r:
                moved_kappa[:, c], moved_z[:, c] = e[:r] @ k / n, e[:r] @ s / n
                w = 1 + e[:r]
                at = self._mean_kappa[c] + moved_kappa[:, c], self._mean_z[c] + moved_z[:, c]
                pairs = n**2 - np.square(w).sum(axis=1)
                whole = (n**2 * self._own(*at) - own @ np.square(w).T) / pairs
                now = np.array([g[c, c] for g in (self.point.kz, self.point.kk, self.point.zz)])
                diagonal[:, :, c] = whole - now[:, None] - np.stack([g[:r, c, c] for g in linear])
        rest = [
            a @ np.swapaxes(m, 1, 2)
            for a, m in ((moved_kappa, moved_z), (moved_kappa, moved_kappa), (moved_z, moved_z))
        ]
        i = np.arange(n_classes)
        for gram, own in zip(rest, diagonal, strict=True):
            gram[:, i, i] = own
        return Grams(*linear, power), Grams(*rest, np.zeros((r, n_classes)))

    def _kernel(self, c: int, own: np.ndarray, products: list[np.ndarray]) -> np.ndarray:
        """First-order influence of each sample of class c on its own three inner products, (3, n)."""
        n = self.count[c]
        kz, zk, kk, zz = (p[:, c] for p in products)
        sides = np.stack(
            [(kz + zk) / 2, kk, zz]
        )  # mean product with all samples of the class, itself included
        now = np.array([g[c, c] for g in (self.point.kz, self.point.kk, self.point.zz)])
        return (n * sides - own) / (n - 1) - now[:, None]
