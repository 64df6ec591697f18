"""Point values of neural collapse from thin factors and in blocks.

Float64, with no D × D array, and no whole K × K one either.
"""

from dataclasses import replace

import numpy as np

from ...checks import record
from ...features import Features
from ...readout import HeadRows
from ...statistics import zero_divisions

CHUNK = 1 << 20  # float64 numbers held at a time
CLOSE = 1e-5  # squared distance of unit vectors below which 2 - 2 cos has lost digits
EPS = np.finfo(float).eps
DIRECTIONS = ("nc2_equiangular", "uniformity", "uniformity_variance")  # what those of means decide


@record
class Means:
    """Centred class means M = U S Vᵀ of numerical rank r.

    m (K, D), centre (D,), u (K, r), s (r,), vt (r, D).
    """

    m: np.ndarray
    centre: np.ndarray
    u: np.ndarray
    s: np.ndarray
    vt: np.ndarray

    @classmethod
    def of(cls, mean: np.ndarray) -> "Means":
        """Factors of class means (K, D).

        Singular values below max(K, D) · eps · the largest entry count as zero.
        """
        centre = mean.mean(0)
        m = mean - centre
        m -= m.mean(0)  # what rounding left of a centre far from 0
        u, s, vt = np.linalg.svd(m, full_matrices=False)
        cut = max(m.shape) * EPS * max(s[0], np.abs(mean).max())
        r = min(int((s > cut).sum()), len(m) - 1)  # a centred M has rank K - 1 at most
        return cls(m, centre, u[:, :r], s[:r], vt[:r])


def spread_along(features: Features, means: Means) -> np.ndarray:
    """Within-class variance along each right singular vector of M, (r,): mean <h - mu_y, v_i>²."""
    within = features.z - means.centre - means.m[features.y]
    return np.square(within @ means.vt.T).mean(0)


def etf_error(s: np.ndarray, k: int) -> float:
    """|MMᵀ/|MMᵀ| - (I - 11ᵀ/K)/√(K-1)| in Frobenius norm, from the singular values of M."""
    eigenvalues = np.pad((s / s[0]) ** 2, (0, k - 1 - len(s)))  # those that both matrices share
    return np.linalg.norm(eigenvalues / np.linalg.norm(eigenvalues) - 1 / np.sqrt(k - 1))


@zero_divisions()
def pairs(m: np.ndarray, variance: np.ndarray) -> tuple[dict, dict]:
    """All statistics over pairs of classes, in bands of the Gram matrix.

    Args:
        m: centred class means, (K, D).
        variance: of each class, (K,).
    Returns:
        The measures of the means by metric, and (K,) arrays: `norm`, also over the mean norm,
        `cosine` and `cdnv`, the means over the other classes, `rival_cdnv`, the largest, and
        `rival`, the position of the class whose it is. Means at the centre have no direction
        (NaN), coinciding ones no distance (inf).
    """
    k, norm = len(m), np.linalg.norm(m, axis=1)
    directed = norm > max(m.shape) * EPS * norm.max()
    unit = np.where(directed[:, None], m / norm[:, None], 0)
    log_ideal, sums, rivals = ideal("uniformity", *m.shape), [], []
    for rows in np.array_split(np.arange(k), -(-k * k // CHUNK)):
        cos, own = unit[rows] @ unit.T, (np.arange(len(rows)), rows)
        squared = 2 - 2 * cos
        for found, row in zip(squared, rows, strict=True):
            close = found < CLOSE  # taken from the vectors themselves
            found[close] = np.square(unit[row] - unit[close]).sum(1)
        distance = squared * norm[rows, None] * norm + np.square(norm[rows, None] - norm)
        ratio = np.where(distance > 0, (variance[rows, None] + variance) / (2 * distance), np.inf)
        # less the ideal, so that the variance of nearly equal values doesn't cancel
        log = -0.5 * np.log(squared) - log_ideal
        values = np.stack([cos, ratio, np.abs(cos + 1 / (k - 1)), log, log**2])
        values[:, *own], ratio[own] = 0, -np.inf
        sums.append(values.sum(2))
        rivals.append([ratio.argmax(1), ratio.max(1)])
    cosine, cdnv, *others = np.concatenate(sums, axis=1) / (k - 1)
    rival, worst = np.concatenate(rivals, axis=1)
    angle, log, square = np.mean(others, axis=1) if directed.all() else np.full(3, np.nan)
    means = {
        "cdnv": cdnv.mean(),
        "nc2_equinorm": norm.std() / norm.mean(),
        "nc2_equiangular": angle,
        "uniformity": log + log_ideal,
        "uniformity_variance": np.maximum(square - log**2, 0),
    }
    classwise = {
        "norm": norm,
        "norm_ratio": norm / norm.mean(),
        "cdnv": cdnv,
        "cosine": np.where(directed, cosine, np.nan),
        "rival_cdnv": worst,
        "rival": rival.astype(int),
    }
    return means, classwise


@zero_divisions()
def duality(weight: np.ndarray, means: Means) -> tuple[dict, dict]:
    """The forms of NC3 for a head's rows W (K, D), and the cosines of each row and mean, (K,)."""
    k, m, errors, cosines = len(weight), means.m, {}, {}
    for name, w in (("", weight), ("_centred", weight - weight.mean(0))):
        errors[f"nc3{name}"] = np.linalg.norm(w / np.linalg.norm(w) - m / np.linalg.norm(m))
        lengths = np.linalg.norm([w, m], axis=2).prod(0)
        cosines[f"self_duality{name}"] = np.einsum("kd,kd->k", w, m) / lengths
    # W Mᵀ = g Uᵀ, and I - 11ᵀ/K = U Uᵀ + the rest of the centred space
    g = (weight @ means.vt.T) * means.s
    etf = np.linalg.norm(g / np.linalg.norm(g) - means.u / np.sqrt(k - 1))
    errors["nc3_etf"] = np.hypot(etf, np.sqrt((k - 1 - len(means.s)) / (k - 1)))
    errors["nc3_variance"] = np.var(cosines["self_duality"])
    return errors, cosines


def agreement(features: Features, rows: HeadRows, mean: np.ndarray) -> np.ndarray:
    """Samples of each class, (K,), on which the head decides as the nearest mean (K, D) does."""
    if rows.scale is not None:  # a CosineHead normalises
        z = features.z.astype(float)
        z /= np.maximum(np.linalg.norm(z, axis=1, keepdims=True), 1e-12)
        features = replace(features, z=z)
        mean = features.moments().mean
    centre, hits = mean.mean(0), np.zeros(len(mean))
    m, step = mean - centre, max(1, CHUNK // len(mean))
    for start in range(0, len(features), step):
        z, y = features.z[start : start + step], features.y[start : start + step]
        nearest = decided(z, m, -np.square(m).sum(1) / 2, centre)
        same = nearest == decided(z, rows.weight, rows.bias)
        hits += np.bincount(y[same], minlength=len(m))
    return hits


@np.errstate(over="ignore", invalid="ignore")
def decided(z: np.ndarray, weight, bias, origin=0.0) -> np.ndarray:
    """Position of the largest (z - o) · w + b for each row of z (N, D), (N,), as float64 has it.

    Float32 decides where its rounding errors can't: those of z and w, of D products and of their
    sums take a value at most (D + 4) eps |z| |w| away, and the rest of the bound is rounding of b
    and of the result.

    Args:
        weight, bias, origin: w (K, D), b (K,) and o (D,), float64.
    """
    single, every, shift = np.finfo(np.float32), np.arange(len(z)), bias - (weight * origin).sum(1)
    values = z.astype(np.float32) @ weight.astype(np.float32).T
    values += shift.astype(np.float32)
    found = values.argmax(1)
    first = values[every, found]
    values[every, found] = -np.inf
    second = values.max(1)
    size, longest = np.linalg.norm(z, axis=1), np.linalg.norm(weight, axis=1).max()
    products = (z.shape[1] + 4) * (size + single.tiny) * (longest + single.tiny)
    last = np.abs(first) + np.abs(second) + 2 * np.abs(shift).max()
    error = single.eps * (products + last) + single.tiny
    # 2, and what the bound itself is rounded by
    left = np.flatnonzero(~(first - second > 2.1 * error))
    found[left] = ((z[left] - origin) @ weight.T + bias).argmax(1)
    return found


def ideal(metric: str, k: int, dim: int) -> float:
    """The value of a metric of K classes in D dimensions under full collapse.

    NaN where K > D + 1 leaves it unknown. The ETF errors are then at least √(2 - 2 √(D/(K - 1))),
    and the uniformity of an ETF is a bound that isn't reached.
    """
    if metric == "uniformity":
        return float(-0.5 * np.log(2 * k / (k - 1)))
    if metric in ("nc2_etf", "nc3_etf"):
        return float(np.sqrt(2 - 2 * np.sqrt(min(1.0, dim / (k - 1)))))
    return np.nan if metric in DIRECTIONS and k > dim + 1 else float(metric == "nc4")
