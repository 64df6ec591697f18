"""What finite samples do to neural collapse: intervals, and the null of an exact simplex ETF.

Noise in class means makes them look longer and further apart, so that a percentile bootstrap of the
plain values misses the population's. Here every statistic is written through the Gram matrix of the
means, from which the noise's expectation is taken off; resampling gives its standard error and
bias.
"""

import numpy as np

from ...statistics import t_interval
from ...words import several
from .geometry import Means

NUMBERS = 1 << 24  # float64 numbers held for resamples at a time
# Outside these limits simulated coverage of 95 % intervals left 92 to 98 %: few samples, means lost
# in noise, and NC1, an inverse, earlier than the others, above all where the noise lies in few
# directions.
LEAST_SAMPLES, MOST_NOISE, MOST_NOISE_NC1, MOST_CONCENTRATED_NC1 = 10, 0.1, 0.05, 0.002
NC2 = ("nc2_equinorm", "nc2_equiangular", "nc2_etf")
NEVER = dict.fromkeys(NC2, "boundary value: read it against the null") | dict.fromkeys(
    ("uniformity", "uniformity_variance", "nc3_variance"),
    "at its least under full collapse, so that noise only adds to it and no interval covers",
)


def resample(
    features, means: Means, weight, classes, n_boot: int, seed: int
) -> tuple[dict, dict, dict]:
    """Intervals, NC2 nulls, and reasons for each missing interval, by metric.

    Args:
        features: the samples, or None where only moments are known.
        means: factors of their class means.
        weight: the head's rows (K, D), or None.
        classes: the names.
        n_boot: resamples, and draws of the null, at least 2.
    """
    measured = ("cdnv", "nc1") + ("nc3", "nc3_centred", "nc3_etf") * (weight is not None)
    count = np.zeros(1) if features is None else np.bincount(features.y, minlength=len(means.m))
    least = int(count.argmin())
    why = f"class {classes[least]} has {several(int(count[least]), 'sample')}"
    if count[least] < 2:
        why = "moments hold no samples to draw from" if features is None else why
        return {}, {}, dict.fromkeys((*measured, *NEVER), why)
    resampler, notes, nulls = Resampler(features, means, weight), dict(NEVER), {}
    if resampler.simplex:
        nulls = resampler.null(n_boot, seed)
    else:
        notes |= dict.fromkeys(NC2, "the nearest simplex ETF isn't defined: means are dependent")
    noise = resampler.noise_share
    lost = [
        (not resampler.squared.any(), "no variance within classes"),
        (count[least] < LEAST_SAMPLES, f"{why}, and intervals need {LEAST_SAMPLES}"),
        (noise > MOST_NOISE, f"noise makes up {noise:.0%} of the means' size"),
    ]
    for true, why in lost:
        if true:
            return {}, nulls, notes | dict.fromkeys(measured, why)
    intervals = resampler.intervals(n_boot, seed)
    for name, ends in intervals.items():
        if not np.isfinite(ends).all():
            notes[name] = (
                "some resamples leave no distance between two class means once their noise is "
                "taken off"
            )
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

    def __init__(self, features, means: Means, weight=None):
        order = np.argsort(features.y, kind="stable")
        y, k = features.y[order], len(means.m)
        self.means, self.weight, self.count = means, weight, np.bincount(y, minlength=k)
        self.starts, self.simplex = np.cumsum(self.count) - self.count, len(means.s) == k - 1
        # widened, so that mean squares are unbiased variances
        self.lift = np.sqrt(self.count / (self.count - 1))[y]
        residual = features.z[order].astype(np.float64)
        residual -= means.centre
        residual -= means.m[y]
        residual *= self.lift[:, None]
        self.residual, self.squared = residual, np.einsum("nd,nd->n", residual, residual)
        trace, df = self.squared.sum(), max(len(y) - k, 2)
        wide = len(y) < residual.shape[1]
        gram = residual @ (residual.T if wide else residual.T @ residual)
        across = (gram * (gram if wide else residual)).sum(1)
        # tr(Σ_W Σ_c) / (tr Σ_W tr Σ_c): of the sample's own covariances, and the population's
        # (exact for normal samples)
        with np.errstate(invalid="ignore"):
            self.own = np.nan_to_num(self._summed(across) / (trace * self._summed(self.squared)))
            shared = (across.sum() / trace**2 - 1 / df) * df**2 / ((df - 1) * (df + 2))
        self.shared = np.nan_to_num(shared)
        seen = 0.0 if weight is None else np.square(residual @ weight.T).sum()
        self.head_share = seen / trace if trace else 0.0
        noise = (self._summed(self.squared) / self.count**2).sum()
        self.noise_share = float((1 - 1 / k) * noise / np.square(means.s).sum())

    def _summed(self, values):
        """Sums (..., K) over the samples of each class."""
        return np.add.reduceat(values, self.starts, axis=-1)

    def _draws(self, n_draws: int, *key: int):
        """Yield multipliers (b, N), normal and centred in each class, until n_draws are through."""
        rng, n = np.random.default_rng(key), len(self.squared)
        size = max(1, NUMBERS // (len(self.count) * max(n, self.residual.shape[1])))
        for start in range(0, n_draws, size):
            g = rng.standard_normal((min(size, n_draws - start), n))
            yield g - np.repeat(self._summed(g) / self.count, self.count, axis=1)

    def _drawn_means(self, world, g):
        """Centred means (b, K, D) around `world` (K, D), moved by noise under multipliers g (b, N)."""
        m = np.empty((len(g), *world.shape))
        for c, (start, n) in enumerate(zip(self.starts, self.count, strict=True)):
            m[:, c] = world[c] + g[:, start : start + n] @ self.residual[start : start + n] / n
        m -= m.mean(axis=1, keepdims=True)
        return m

    def intervals(self, n_boot: int, seed: int) -> dict[str, tuple[float, float]]:
        """95 % intervals of the population's NC1, CDNV and NC3s: a multiplier bootstrap in classes.

        Draws surround means whose size is corrected for noise; their mean error is taken off as
        bias. Log scale for NC1 and CDNV, the inner product's scale for NC3; Student's t with N - K
        degrees.
        """
        k, n = len(self.count), len(self.squared)
        flat = np.zeros((1, n))
        observed = self._statistics(self.means.m, flat, inverse=self.simplex)
        values, vectors = np.linalg.eigh(observed["gram"][0])
        root = (vectors * np.sqrt(np.maximum(values, 0))) @ vectors.T
        # means with the corrected Gram matrix, turned as little as possible
        world = root @ self.means.u @ self.means.vt
        # values[0] is that of the row of ones
        inverse = self.simplex and values[1] > 1e-9 * values[-1]
        true = self._statistics(world, flat, inverse=inverse, corrected=False)
        draws = self._draws(n_boot, seed, k)
        parts = [self._statistics(world, g, inverse=inverse) for g in draws]
        found = {}
        for name in true.keys() - {"gram"}:
            drawn = np.concatenate([part[name] for part in parts])
            centre = observed[name][0] + true[name][0] - drawn.mean()
            ends = t_interval(centre, np.std(drawn, ddof=1), n - k)
            if name.startswith("nc3"):  # the cosine rho of two matrices, at sqrt(2 - 2 rho)
                ends = np.sqrt(2 - 2 * np.clip(ends[::-1], -1, 1))
            else:
                ends = np.exp(ends)
            found[name] = tuple(map(float, ends))
        return found

    @np.errstate(invalid="ignore", divide="ignore")
    def _statistics(self, world, g, *, inverse: bool, corrected: bool = True):
        """Statistics (b,) of draws around means `world` (K, D), moved by multipliers g (b, N).

        Args:
            inverse: whether NC1, which needs the Gram matrix's, is wanted.
            corrected: for the noise of the means.
        """
        k, n = len(self.count), len(self.squared)
        m = self._drawn_means(world, g)
        weights = 1 + g * self.lift
        variance = self._summed(weights * self.squared) / self.count
        noise = variance / self.count * corrected
        gram = m @ m.transpose(0, 2, 1)
        both = (noise[:, None] + noise[:, :, None]) / k
        gram -= np.eye(k) * noise[:, None] - both + noise.sum(1)[:, None, None] / k**2
        size = np.einsum("bkk->bk", gram)
        i, j = np.triu_indices(k, 1)
        distance = size[:, i] + size[:, j] - 2 * gram[:, i, j]
        ratio = (variance[:, i] + variance[:, j]) / (2 * distance)
        found = {"gram": gram, "cdnv": np.log(ratio.mean(1))}
        if inverse:  # tr(Σ_W Σ_B⁺) / K = tr(G⁺ M Σ_W Mᵀ G⁺), the noise of both factors taken off
            scale = size.sum(1)[:, None, None] / k
            # of the centred part; the row of ones is set apart
            inverted = np.linalg.inv(gram + scale / k) - 1 / (scale * k)
            along = np.square(self.residual @ (inverted @ m).reshape(-1, m.shape[2]).T)
            along = along.reshape(n, len(g), k).sum(2)
            pooled = (variance * self.count).sum(axis=1, keepdims=True) / n
            share = self.own if g.any() else self.shared
            excess = np.square(inverted).sum(1) * share * pooled * noise
            nc1 = np.einsum("bn,nb->b", weights, along) / n - excess.sum(1)
            found["nc1"] = np.log(nc1)
        if self.weight is not None:
            free = self.weight - self.weight.mean(0)
            inner = np.einsum("bkd,kd->b", m, self.weight)
            total = np.sqrt(size.sum(1))
            product = np.square(m @ self.weight.T).sum(axis=(1, 2))
            product -= (1 - 1 / k) * self.head_share * noise.sum(1)
            found["nc3"] = inner / (np.linalg.norm(self.weight) * total)
            found["nc3_centred"] = inner / (np.linalg.norm(free) * total)
            found["nc3_etf"] = inner / np.sqrt((k - 1) * product)
        return found

    def null(self, n_draws: int, seed: int) -> dict[str, tuple[float, float]]:
        """(mean, 95 % point) of the NC2 errors, if the population's means were an exact simplex ETF.

        The ETF is the nearest to the measured means, of their noise-corrected size; the noise of
        each drawn mean has the class's own covariance. Needs K - 1 independent means.
        """
        k = len(self.count)
        scale = np.sqrt(np.square(self.means.s).sum() * max(1 - self.noise_share, 0) / (k - 1))
        etf, ideal = scale * self.means.u @ self.means.vt, (np.eye(k) - 1 / k) / np.sqrt(k - 1)
        i, j = np.triu_indices(k, 1)
        parts = []
        for g in self._draws(n_draws, seed, k, 1):
            m = self._drawn_means(etf, g)
            gram = m @ m.transpose(0, 2, 1)
            norm = np.sqrt(np.einsum("bkk->bk", gram))
            cosine = gram[:, i, j] / (norm[:, i] * norm[:, j])
            gram /= np.linalg.norm(gram, axis=(1, 2), keepdims=True)
            parts.append(
                [
                    norm.std(1) / norm.mean(1),
                    np.abs(cosine + 1 / (k - 1)).mean(1),
                    np.linalg.norm(gram - ideal, axis=(1, 2)),
                ]
            )
        draws = zip(NC2, np.concatenate(parts, axis=1), strict=True)
        return {name: (float(x.mean()), float(np.quantile(x, 0.95))) for name, x in draws}
