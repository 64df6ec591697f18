"""What finite samples do to neural collapse: intervals, and the null of an exact simplex ETF.

Noise in class means makes them look longer and further apart, so that a percentile bootstrap of the
plain values misses the population's. Here every statistic is written through the Gram matrix of the
means, from which the noise's expectation is taken off; resampling gives its standard error and
bias.
"""

import numpy as np

from ...features import Features
from ...statistics import t_interval, zero_divisions
from ...words import several
from ..orthogonality.grams import diagonal, double_centre, off_diagonal
from .geometry import Means

NUMBERS = 1 << 24  # float64 numbers held for resamples at a time
# Outside these limits simulated coverage of 95 % intervals left 92 to 98 %: few samples, means lost
# in noise, and NC1, an inverse, earlier than the others, above all where the noise lies in few
# directions.
LEAST_SAMPLES, MOST_NOISE, MOST_NOISE_NC1, MOST_CONCENTRATED_NC1 = 10, 0.1, 0.05, 0.002
MEASURED = ("nc1", "cdnv", "nc3", "nc3_centred", "nc3_etf")
NC2 = ("nc2_equinorm", "nc2_equiangular", "nc2_etf")
NEVER = dict.fromkeys(NC2, "boundary value: read it against the null") | dict.fromkeys(
    ("uniformity", "uniformity_variance", "nc3_variance"),
    "at its least under full collapse, so that noise only adds to it and no interval covers",
)


def resample(
    features: Features | None, means: Means, weight, classes, n_boot: int, seed: int
) -> tuple[dict, dict, dict]:
    """Estimates with intervals, NC2 nulls, and reasons for each missing interval, by metric.

    Args:
        features: the samples, or None where only moments are known.
        means: factors of their class means.
        weight: the head's rows (K, D), or None.
        classes: the names.
        n_boot: resamples, and draws of the null, at least 2.
    """
    every = (*MEASURED, *NEVER)
    if features is None:
        return {}, {}, dict.fromkeys(every, "moments hold no samples to draw from")
    count = np.bincount(features.y)
    few = f"class {classes[count.argmin()]} has {several(int(count.min()), 'sample')}"
    if count.min() < 2:
        return {}, {}, dict.fromkeys(every, few)
    resampler, notes, nulls = Resampler(features, means, weight), dict(NEVER), {}
    if resampler.simplex:
        nulls = resampler.null(n_boot, seed)
    else:
        notes |= dict.fromkeys(NC2, "the nearest simplex ETF isn't defined: means are dependent")
    noise = resampler.noise_share
    for lost, why in (
        (not resampler.squared.any(), "no variance within classes"),
        (count.min() < LEAST_SAMPLES, f"{few}, and intervals need {LEAST_SAMPLES}"),
        (noise > MOST_NOISE, f"noise makes up {noise:.0%} of the means' size"),
    ):
        if lost:
            return {}, nulls, notes | dict.fromkeys(MEASURED, why)
    intervals = resampler.intervals(n_boot, seed)
    near = "some resamples leave no distance between two class means once their noise is taken off"
    notes |= {name: near for name, ends in intervals.items() if not np.isfinite(ends).all()}
    concentrated = noise * resampler.shared > MOST_CONCENTRATED_NC1
    if noise > MOST_NOISE_NC1 or concentrated or "nc1" in notes or "nc1" not in intervals:
        why = "too noisy for an inverse" if resampler.simplex else "linearly dependent"
        notes["nc1"] = f"the class means are {why}"
    return {name: ends for name, ends in intervals.items() if name not in notes}, nulls, notes


class Resampler:
    """Residuals of all samples, sorted by class, and what every resample of them needs.

    Args:
        features: samples whose classes have two members or more.
        means: factors of their class means.
        weight: the head's rows (K, D), or None.
    """

    def __init__(self, features: Features, means: Means, weight: np.ndarray | None = None):
        order, k = np.argsort(features.y, kind="stable"), len(means.m)
        self.y, self.means, self.weight = features.y[order], means, weight
        self.count, self.simplex = np.bincount(self.y), len(means.s) == k - 1
        self.starts = np.cumsum(self.count) - self.count
        # widened, so that mean squares are unbiased variances
        self.lift = np.sqrt(self.count / (self.count - 1))[self.y]
        residual = features.z[order] - means.centre - means.m[self.y]
        residual *= self.lift[:, None]
        self.residual, self.squared = residual, np.einsum("nd,nd->n", residual, residual)
        trace, df = self.squared.sum(), max(len(order) - k, 2)
        across = (residual @ (residual.T @ residual) * residual).sum(1)
        # tr(Σ_W Σ_c) / (tr Σ_W tr Σ_c): of the sample's own covariances, and the population's
        # (exact for normal samples)
        with np.errstate(invalid="ignore"):
            own = self._summed(across) / (trace * self._summed(self.squared))
            shared = (across.sum() / trace**2 - 1 / df) * df**2 / ((df - 1) * (df + 2))
        self.own, self.shared = np.nan_to_num(own), np.nan_to_num(shared)
        seen = 0.0 if weight is None else np.square(residual @ weight.T).sum()
        self.head_share = seen / max(trace, np.finfo(float).tiny)
        noise = (self._summed(self.squared) / self.count**2).sum()
        self.noise_share = (1 - 1 / k) * noise / np.square(means.s).sum()

    def _summed(self, values):
        """Sums (..., K) over the samples of each class."""
        return np.add.reduceat(values, self.starts, axis=-1)

    def _drawn(self, world, n_draws: int, *key: int):
        """Yield chunks of multipliers g (b, N), centred in each class, and means m (b, K, D).

        The means are centred; they are those of `world` (K, D), moved by the noise under g.
        """
        rng, (k, dim), n = np.random.default_rng(key), world.shape, len(self.y)
        size = max(1, NUMBERS // (k * max(n, dim)))
        for start in range(0, n_draws, size):
            g = rng.standard_normal((min(size, n_draws - start), n))
            g -= (self._summed(g) / self.count)[:, self.y]
            m = np.tile(world, (len(g), 1, 1))
            for c, own in enumerate(np.split(np.arange(n), self.starts[1:])):
                m[:, c] += g[:, own] @ self.residual[own] / len(own)
            yield g, m - m.mean(1, keepdims=True)

    def intervals(self, n_boot: int, seed: int) -> dict[str, tuple[float, float, float]]:
        """(estimate, low, high) of the population's NC1, CDNV and NC3s, at 95 %.

        A multiplier bootstrap within classes.

        Draws surround means whose size is corrected for noise; their mean error is taken off as
        bias. Log scale for NC1 and CDNV, the inner product's scale for NC3; Student's t with N - K
        degrees.
        """
        k, flat = len(self.count), np.zeros((1, len(self.y)))
        observed = self._statistics(flat, self.means.m[None], inverse=self.simplex)
        values, vectors = np.linalg.eigh(observed["gram"][0])
        root = (vectors * np.sqrt(np.maximum(values, 0))) @ vectors.T
        # means with the corrected Gram matrix, turned as little as possible
        world = root @ self.means.u @ self.means.vt
        # values[0] is that of the row of ones
        inverse = self.simplex and values[1] > 1e-9 * values[-1]
        true = self._statistics(flat, world[None], inverse=inverse, corrected=False)
        drawn = self._drawn(world, n_boot, seed, k)
        parts = [self._statistics(*draw, inverse=inverse) for draw in drawn]
        found = {}
        for name in true.keys() - {"gram"}:
            draws = np.concatenate([part[name] for part in parts])
            centre = observed[name][0] + true[name][0] - draws.mean()
            low, high = t_interval(centre, np.std(draws, ddof=1), flat.size - k)
            if name.startswith("nc3"):  # the cosine rho of two matrices, at sqrt(2 - 2 rho)
                found[name] = np.sqrt(2 - 2 * np.clip((centre, high, low), -1, 1))
            else:
                found[name] = np.exp((centre, low, high))
        return found

    @zero_divisions()
    def _statistics(self, g, m, *, inverse: bool, corrected: bool = True) -> dict:
        """Statistics (b,) of draws: multipliers g (b, N) and centred means m (b, K, D).

        Args:
            inverse: whether NC1, which needs the Gram matrix's, is wanted.
            corrected: for the noise of the means.
        """
        k, weights = len(self.count), 1 + g * self.lift
        variance = self._summed(weights * self.squared) / self.count
        noise, gram = variance / self.count * corrected, m @ np.swapaxes(m, 1, 2)
        diagonal(gram)[:] -= noise
        gram = double_centre(gram)
        size = diagonal(gram)
        distance = size[:, :, None] + size[:, None] - 2 * gram
        ratio = (variance[:, :, None] + variance[:, None]) / (2 * distance)
        found = {"gram": gram, "cdnv": np.log(off_diagonal(ratio).mean(1))}
        if inverse:  # tr(Σ_W Σ_B⁺) / K = tr(G⁺ M Σ_W Mᵀ G⁺), the noise of both factors taken off
            scale = size.sum(1)[:, None, None] / k
            # of the centred part; the row of ones is set apart
            inverted = np.linalg.inv(gram + scale / k) - 1 / (scale * k)
            along = np.square(self.residual @ np.swapaxes(inverted @ m, 1, 2)).sum(2)
            pooled = (weights * self.squared).mean(1, keepdims=True)
            share = self.own if g.any() else self.shared
            excess = np.square(inverted).sum(1) * share * pooled * noise
            found["nc1"] = np.log((weights * along).mean(1) - excess.sum(1))
        if self.weight is not None:
            inner = np.einsum("bkd,kd->b", m, self.weight)
            product = np.square(m @ self.weight.T).sum((1, 2))
            product -= (1 - 1 / k) * self.head_share * noise.sum(1)
            found["nc3_etf"] = inner / np.sqrt((k - 1) * product)
            centred = self.weight - self.weight.mean(0)
            for name, w in (("nc3", self.weight), ("nc3_centred", centred)):
                found[name] = inner / (np.linalg.norm(w) * np.sqrt(size.sum(1)))
        return found

    def null(self, n_draws: int, seed: int) -> dict[str, tuple[float, float]]:
        """(mean, 95 % point) of the NC2 errors, if the population's means were an exact ETF.

        It is the nearest simplex ETF to the measured means, of their noise-corrected size; the
        noise of each drawn mean has the class's own covariance. Needs K - 1 independent means.
        """
        k, shown = len(self.count), max(1 - self.noise_share, 0)
        scale = np.sqrt(np.square(self.means.s).sum() * shown / (k - 1))
        etf, ideal = scale * self.means.u @ self.means.vt, (np.eye(k) - 1 / k) / np.sqrt(k - 1)
        draws = []
        for _, m in self._drawn(etf, n_draws, seed, k, 1):
            gram = m @ np.swapaxes(m, 1, 2)
            norm = np.sqrt(diagonal(gram))
            cosine = off_diagonal(gram / (norm[:, :, None] * norm[:, None]))
            gram /= np.linalg.norm(gram, axis=(1, 2), keepdims=True)
            equinorm, equiangular = norm.std(1) / norm.mean(1), np.abs(cosine + 1 / (k - 1)).mean(1)
            draws.append([equinorm, equiangular, np.linalg.norm(gram - ideal, axis=(1, 2))])
        errors = np.concatenate(draws, axis=1)
        points = zip(errors.mean(1), np.quantile(errors, 0.95, axis=1), strict=True)
        return dict(zip(NC2, points, strict=True))
