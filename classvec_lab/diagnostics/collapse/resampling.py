"""What finite samples do to neural collapse: intervals for the population's values, and the null of an exact simplex ETF.

Noise in class means makes them look longer and further apart, so that a percentile bootstrap of the
plain values misses the population's. Here every statistic is written through the Gram matrix of the
means, from which the noise's expectation is taken off; resampling gives its standard error and bias.
"""

import numpy as np

from ...statistics import t_interval
from .geometry import Means

NUMBERS = 1 << 24  # float64 numbers held for resamples at a time
# Outside these limits simulated coverage of 95 % intervals left 92 to 98 %: few samples, means lost in noise, and NC1,
# an inverse, earlier than the others, above all where the noise lies in few directions.
LEAST_SAMPLES, MOST_NOISE, MOST_NOISE_NC1, MOST_CONCENTRATED_NC1 = 10, 0.1, 0.05, 0.002
_BOUNDARY = "at its least under full collapse, so that noise only adds to it and no interval covers"
NEVER = {
    "nc2_equinorm": "boundary value: read it against the null",
    "nc2_equiangular": "boundary value: read it against the null",
    "nc2_etf": "boundary value: read it against the null",
    "uniformity": _BOUNDARY,
    "uniformity_variance": _BOUNDARY,
    "nc3_variance": _BOUNDARY,
}


def resample(
    features, means: Means, weight: np.ndarray | None, classes, n_boot: int, seed: int
) -> tuple[dict, dict, dict]:
    """(intervals, NC2 nulls, reasons for each missing interval) by metric; features may be None where only moments are known."""
    notes = dict(NEVER)
    measured = ["cdnv", "nc1", *(("nc3", "nc3_centred", "nc3_etf") if weight is not None else ())]
    if features is None:
        return {}, {}, dict.fromkeys((*measured, *NEVER), "moments hold no samples to draw from")
    count = np.bincount(features.y, minlength=len(means.m))
    least = int(count.argmin())
    few = f"class {classes[least]} has {count[least]} sample{'s' if count[least] > 1 else ''}"
    if count[least] < 2:
        return {}, {}, dict.fromkeys((*measured, *NEVER), few)
    if n_boot < 2:
        return {}, {}, dict.fromkeys(measured, "takes at least two resamples")
    resampler = Resampler(features, means, weight)
    simplex = len(means.s) == len(means.m) - 1
    nulls = resampler.null(n_boot, seed) if simplex else {}
    if not simplex:
        notes |= dict.fromkeys(
            ("nc2_equinorm", "nc2_equiangular", "nc2_etf"),
            "the nearest simplex ETF isn't defined: means are dependent",
        )
    share = resampler.noise_share
    if not resampler.squared.any():
        return {}, nulls, notes | dict.fromkeys(measured, "no variance within classes")
    if count[least] < LEAST_SAMPLES or share > MOST_NOISE:
        why = (
            f"{few}, and intervals need {LEAST_SAMPLES}"
            if count[least] < LEAST_SAMPLES
            else f"noise makes up {share:.0%} of the means' size"
        )
        return {}, nulls, notes | dict.fromkeys(measured, why)
    intervals = resampler.intervals(n_boot, seed)
    lost = {name for name, ends in intervals.items() if not np.isfinite(ends).all()} - {"nc1"}
    notes |= dict.fromkeys(
        lost,
        "some resamples leave no distance between two class means once their noise is taken off",
    )
    concentrated = share * resampler.shared > MOST_CONCENTRATED_NC1
    if (
        share > MOST_NOISE_NC1
        or concentrated
        or not np.isfinite(intervals.get("nc1", np.nan)).all()
    ):
        notes["nc1"] = (
            "the class means are too noisy for an inverse"
            if simplex
            else "the class means are linearly dependent"
        )
        lost.add("nc1")
    intervals = {name: ends for name, ends in intervals.items() if name not in lost}
    return intervals, nulls, notes


class Resampler:
    """Residuals of all samples, sorted by class, and what every resample of them needs.

    features: samples whose classes have two members or more; means: their factors; weight: the head's
    rows (K, D) or None.
    """

    def __init__(self, features, means: Means, weight: np.ndarray | None = None):
        order = np.argsort(features.y, kind="stable")
        self.y = features.y[order]
        self.count = np.bincount(self.y, minlength=len(means.m))
        self.starts = np.concatenate([[0], np.cumsum(self.count)[:-1]])
        residual = features.z[order].astype(np.float64)
        residual -= means.centre
        residual -= means.m[self.y]
        self.lift = np.sqrt(self.count / (self.count - 1))[self.y]
        residual *= self.lift[:, None]  # so that mean squares are unbiased variances
        self.means, self.weight, self.residual = means, weight, residual
        self.squared = np.einsum("nd,nd->n", residual, residual)
        n, k = len(self.y), len(self.count)
        trace, df = self.squared.sum(), max(n - k, 2)
        # tr(Σ_W Σ_c) / (tr Σ_W tr Σ_c): of the sample's own covariances, and the population's (exact for normal samples)
        across = (
            np.square(residual @ residual.T).sum(1)
            if n < len(residual.T)
            else ((residual @ (residual.T @ residual)) * residual).sum(1)
        )
        with np.errstate(invalid="ignore"):
            self.own = np.nan_to_num(
                np.add.reduceat(across, self.starts)
                / (trace * np.add.reduceat(self.squared, self.starts))
            )
            self.shared = np.nan_to_num(
                (across.sum() / trace**2 - 1 / df) * df**2 / ((df - 1) * (df + 2))
            )
        self.head_share = (
            np.square(residual @ weight.T).sum() / trace if weight is not None and trace else 0.0
        )

    @property
    def variance(self) -> np.ndarray:
        """Unbiased within-class variance, summed over dimensions, (K,)."""
        return np.add.reduceat(self.squared, self.starts) / self.count

    @property
    def noise_share(self) -> float:
        """Share of the squared size of the centred means that the noise of finite samples is expected to make up."""
        k = len(self.count)
        return float(
            (1 - 1 / k) * (self.variance / self.count).sum() / np.square(self.means.s).sum()
        )

    def intervals(self, n_boot: int, seed: int) -> dict[str, tuple[float, float]]:
        """95 % intervals of the population's NC1, CDNV and NC3s, by a multiplier bootstrap within classes.

        Draws surround means whose size is corrected for noise; their mean error is taken off as bias.
        Log scale for NC1 and CDNV, the inner product's scale for NC3; Student's t with N - K degrees.
        """
        k, n = len(self.count), len(self.y)
        flat = np.zeros((1, n))
        observed = self._statistics(self.means.m, flat, inverse=len(self.means.s) == k - 1)
        values, vectors = np.linalg.eigh(observed.pop("gram")[0])
        root = (vectors * np.sqrt(np.maximum(values, 0))) @ vectors.T
        world = (
            root @ self.means.u @ self.means.vt
        )  # means with the corrected Gram matrix, turned as little as possible
        inverse = (
            "nc1" in observed and values[1] > 1e-9 * values[-1]
        )  # values[0] is that of the row of ones
        if not inverse:
            observed.pop("nc1", None)
        true = self._statistics(world, flat, inverse=inverse, corrected=False)
        rng = np.random.default_rng([seed, k])
        at_once = max(1, NUMBERS // (k * max(n, world.shape[1])))
        sizes = [min(at_once, n_boot - start) for start in range(0, n_boot, at_once)]
        parts = [
            self._statistics(world, self._multipliers(rng, size), inverse=inverse) for size in sizes
        ]
        found = {}
        for name, value in observed.items():
            draws = np.concatenate([part[name] for part in parts])
            low, high = t_interval(
                value[0] + true[name][0] - draws.mean(), np.std(draws, ddof=1), n - k
            )
            if name.startswith(
                "nc3"
            ):  # value: the cosine rho of two matrices, at distance sqrt(2 - 2 rho)
                low, high = (np.sqrt(2 - 2 * np.clip(x, -1, 1)) for x in (high, low))
            else:
                low, high = np.exp(low), np.exp(high)
            found[name] = (float(low), float(high))
        return found

    def _multipliers(self, rng: np.random.Generator, size: int) -> np.ndarray:
        """Standard normal weights (size, N), centred within each class."""
        g = rng.standard_normal((size, len(self.y)))
        return g - np.repeat(
            np.add.reduceat(g, self.starts, axis=1) / self.count, self.count, axis=1
        )

    def _drawn_means(self, world: np.ndarray, g: np.ndarray) -> np.ndarray:
        """Centred means (b, K, D) around `world` (K, D), moved by the noise of class means under multipliers g (b, N)."""
        m = np.empty((len(g), *world.shape))
        for c, (start, n) in enumerate(zip(self.starts, self.count, strict=True)):
            m[:, c] = world[c] + g[:, start : start + n] @ self.residual[start : start + n] / n
        m -= m.mean(axis=1, keepdims=True)
        return m

    def _statistics(
        self, world: np.ndarray, g: np.ndarray, *, inverse: bool, corrected: bool = True
    ) -> dict[str, np.ndarray]:
        """Statistics, (b,) each, of draws around means `world` (K, D): multipliers g (b, N) move means and variances.

        inverse: whether NC1, which needs the Gram matrix's, is wanted; corrected: for the noise of the means.
        """
        k = len(self.count)
        m = self._drawn_means(world, g)
        variance = (
            np.add.reduceat((1 + g * self.lift) * self.squared, self.starts, axis=1) / self.count
        )
        noise = variance / self.count * corrected
        gram = m @ m.transpose(0, 2, 1)
        gram -= (
            np.eye(k) * noise[:, None]
            - (noise[:, None] + noise[:, :, None]) / k
            + noise.sum(1)[:, None, None] / k**2
        )
        size = np.einsum("bkk->bk", gram)
        found = {"gram": gram}
        i, j = np.triu_indices(k, 1)
        with np.errstate(invalid="ignore", divide="ignore"):
            distance = size[:, i] + size[:, j] - 2 * gram[:, i, j]
            found["cdnv"] = np.log(
                ((variance[:, i] + variance[:, j]) / (2 * distance)).mean(axis=1)
            )
            if inverse:
                found["nc1"] = np.log(self._nc1(gram, m, variance, noise, g))
            if self.weight is not None:
                total = np.sqrt(size.sum(axis=1))
                for name, w in (
                    ("nc3", self.weight),
                    ("nc3_centred", self.weight - self.weight.mean(axis=0)),
                ):
                    found[name] = np.einsum("bkd,kd->b", m, w) / (np.linalg.norm(w) * total)
                product = np.square(m @ self.weight.T).sum(axis=(1, 2)) - (
                    1 - 1 / k
                ) * self.head_share * noise.sum(axis=1)
                found["nc3_etf"] = np.einsum("bkd,kd->b", m, self.weight) / np.sqrt(
                    (k - 1) * product
                )
        return found

    def _nc1(self, gram, m, variance, noise, g) -> np.ndarray:
        """tr(Σ_W Σ_B⁺) / K = tr(G⁺ M Σ_W Mᵀ G⁺) with the expected noise of G and of M Σ_W Mᵀ taken off."""
        k, b, n = len(self.count), len(g), len(self.y)
        scale = np.einsum("bkk->b", gram)[:, None, None] / k
        inverse = np.linalg.inv(gram + scale / k) - 1 / (
            scale * k
        )  # of the centred part; the row of ones is set apart
        along = (
            np.square(self.residual @ (inverse @ m).reshape(b * k, -1).T)
            .reshape(n, b, k)
            .sum(axis=2)
        )
        pooled = (variance * self.count).sum(axis=1, keepdims=True) / n
        excess = (
            np.square(inverse).sum(axis=1) * (self.own if g.any() else self.shared) * pooled * noise
        ).sum(axis=1)
        return np.einsum("bn,nb->b", 1 + g * self.lift, along) / n - excess

    def null(self, n_draws: int, seed: int) -> dict[str, tuple[float, float]]:
        """(mean, 95 % point) of the three NC2 errors, if the population's means were an exact simplex ETF.

        The ETF is the nearest to the measured means, of their noise-corrected size; the noise of each
        drawn mean has the class's own covariance. Needs K - 1 independent means.
        """
        k = len(self.count)
        scale = np.sqrt(np.square(self.means.s).sum() * max(1 - self.noise_share, 0) / (k - 1))
        etf = scale * self.means.u @ self.means.vt
        rng = np.random.default_rng([seed, k, 1])
        at_once = max(1, NUMBERS // max(len(self.y), etf.size))
        parts = []
        for start in range(0, n_draws, at_once):
            g = rng.standard_normal((min(at_once, n_draws - start), len(self.y)))
            parts.append(_nc2(self._drawn_means(etf, g)))
        draws = np.concatenate(parts, axis=1)
        names = ("nc2_equinorm", "nc2_equiangular", "nc2_etf")
        return {
            name: (float(x.mean()), float(np.quantile(x, 0.95)))
            for name, x in zip(names, draws, strict=True)
        }


def _nc2(m: np.ndarray) -> np.ndarray:
    """The three NC2 errors, (3, b), of stacks of centred means (b, K, D)."""
    k = m.shape[1]
    gram = m @ m.transpose(0, 2, 1)
    norm = np.sqrt(np.einsum("bkk->bk", gram))
    i, j = np.triu_indices(k, 1)
    cosine = gram[:, i, j] / (norm[:, i] * norm[:, j])
    ideal = (np.eye(k) - 1 / k) / np.sqrt(k - 1)
    etf = np.linalg.norm(
        gram / np.linalg.norm(gram, axis=(1, 2), keepdims=True) - ideal, axis=(1, 2)
    )
    return np.stack(
        [norm.std(axis=1) / norm.mean(axis=1), np.abs(cosine + 1 / (k - 1)).mean(axis=1), etf]
    )
