"""Point values of neural collapse from thin factors and in blocks.

Float64, with no D × D array where D > K, and no K × K array at all.
"""

import copy
from dataclasses import dataclass
from types import SimpleNamespace

import numpy as np

from ...moments import ClassMoments
from ...readout import Latent, find_rows

CHUNK = 1 << 22  # float64 numbers held at a time
CLOSE = 1e-5  # squared distance of unit vectors below which 2 - 2 cos has lost digits
EPS = np.finfo(float).eps
DIRECTIONS = ("nc2_equiangular", "uniformity", "uniformity_variance")  # what those of means decide


@dataclass(frozen=True, eq=False)
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
    def of(cls, mean) -> "Means":
        """Factors of class means (K, D).

        Singular values below max(K, D) · eps · the largest entry count as zero.
        """
        centre = mean.mean(0)
        m = mean - centre
        m -= m.mean(0)  # what rounding left of a centre far from 0
        # a tall M goes through R of M = Q R, whose S and V are those of M: 15 times as fast
        tall = len(m) > 2 * m.shape[1]
        u, s, vt = np.linalg.svd(np.linalg.qr(m, mode="r") if tall else m, full_matrices=False)
        cut = max(m.shape) * EPS * max(s[0], np.abs(mean).max())
        r = min(int((s > cut).sum()), len(m) - 1)  # a centred M has rank K - 1 at most
        u, s, vt = u[:, :r], s[:r], vt[:r]
        return cls(m, centre, (m @ vt.T) / s if tall else u, s, vt)


def chunks(features, *, width: int = 0, normalise: bool = False):
    """Yield (z float64, y) of all samples, sorted by class, at most CHUNK numbers a time.

    Args:
        width: of arrays that are made of z later.
        normalise: whether each z is divided by its length, as torch's normalize does.
    """
    order = np.argsort(features.y, kind="stable")
    rows = max(1, CHUNK // max(features.z.shape[1], width))
    for start in range(0, len(order), rows):
        chosen = order[start : start + rows]
        z = features.z[chosen].astype(np.float64)
        if normalise:
            z /= np.maximum(np.linalg.norm(z, axis=1, keepdims=True), 1e-12)
        yield z, features.y[chosen]


def streamed_moments(features, *, normalise: bool = False, **kind) -> ClassMoments:
    """Moments of the samples, without a float64 copy of them all; `kind` is for `ClassMoments`."""
    moments = ClassMoments(len(features.classes), features.z.shape[1], **kind)
    for z, y in chunks(features, normalise=normalise):
        moments.update(z, y)
    return moments


def spread_along(features, means: Means):
    """Within-class variance along each right singular vector of M, (r,): mean <h - mu_y, v_i>²."""
    total = np.zeros(len(means.s))
    for z, y in chunks(features):
        total += np.square((z - means.centre - means.m[y]) @ means.vt.T).sum(0)
    return total / len(features)


def etf_error(s, n_classes: int) -> float:
    """|MMᵀ/|MMᵀ| - (I - 11ᵀ/K)/√(K-1)| in Frobenius norm, from the singular values of M."""
    eigenvalues = np.zeros(n_classes - 1)  # those that both matrices share
    eigenvalues[: len(s)] = (s / s[0]) ** 2
    ideal = 1 / np.sqrt(n_classes - 1)
    return float(np.linalg.norm(eigenvalues / np.linalg.norm(eigenvalues) - ideal))


@np.errstate(divide="ignore", invalid="ignore")
def pairs(m, variance):
    """All statistics over pairs of classes, in one pass over bands of the Gram matrix.

    Args:
        m: centred class means, (K, D).
        variance: of each class, (K,).
    Returns:
        The means over pairs by metric, and (K,) arrays: `cosine` and `cdnv`, the means over the
        other classes, `rival_cdnv`, the largest, and `rival`, the position of the class whose it
        is. Means at the centre have no direction (NaN), coinciding ones no distance (inf).
    """
    k, norm = len(m), np.linalg.norm(m, axis=1)
    directed = norm > max(m.shape) * EPS * norm.max()
    unit = np.where(directed[:, None], m / norm[:, None], 0)
    ideal, log_ideal = -1 / (k - 1), -0.5 * np.log(2 * k / (k - 1))
    cosine, cdnv, worst = np.zeros(k), np.zeros(k), np.full(k, -np.inf)
    rival, total, band = np.zeros(k, dtype=np.int64), np.zeros(3), max(1, CHUNK // k)
    for start in range(0, k, band):
        i, j = slice(start, start + band), slice(start, None)
        cos = unit[i] @ unit[j].T
        squared = 2 - 2 * cos
        close = np.nonzero(squared < CLOSE)  # taken from the vectors themselves
        parts = len(close[0]) * unit.shape[1] // CHUNK + 1
        for row, column in zip(*(np.array_split(side, parts) for side in close), strict=True):
            squared[row, column] = np.square(unit[i][row] - unit[j][column]).sum(1)
        distance = squared * norm[i, None] * norm[j] + np.square(norm[i, None] - norm[j])
        ratio = (variance[i, None] + variance[j]) / (2 * distance)
        ratio[~(distance > 0)] = np.inf
        # less the ideal, so that the variance of nearly equal values doesn't cancel
        log, deviation = -0.5 * np.log(squared) - log_ideal, np.abs(cos - ideal)
        seen = np.tril_indices(len(cos))  # a class with itself, and pairs from the other side
        for values in (cos, ratio, deviation, log):
            values[seen] = 0
        total += deviation.sum(), log.sum(), np.square(log).sum()
        for sums, values in ((cosine, cos), (cdnv, ratio)):
            sums[i] += values.sum(1)
            sums[j] += values.sum(0)
        ratio[seen] = -np.inf
        for axis, mine in ((1, i), (0, j)):
            value, other = ratio.max(axis=axis), start + ratio.argmax(axis=axis)
            rival[mine] = np.where(value > worst[mine], other, rival[mine])
            worst[mine] = np.maximum(value, worst[mine])
    n = k * (k - 1) / 2
    angle, log, square = total / n if directed.all() else np.full(3, np.nan)
    means = {"cdnv": cdnv.sum() / (2 * n), "nc2_equiangular": angle, "uniformity": log + log_ideal}
    means["uniformity_variance"] = np.maximum(square - log**2, 0)
    cosine[~directed] = np.nan
    classwise = {"cosine": cosine / (k - 1), "cdnv": cdnv / (k - 1)}
    return means, classwise | {"rival": rival, "rival_cdnv": worst}


@np.errstate(divide="ignore", invalid="ignore")
def duality(weight, means: Means):
    """The forms of NC3 for a head's rows W (K, D), and the cosines of each row and mean, (K,)."""
    k, m, centred = len(weight), means.m, weight - weight.mean(0)
    # W Mᵀ = g Uᵀ, and I - 11ᵀ/K = U Uᵀ + the rest of the centred space
    g = (weight @ means.vt.T) * means.s
    etf = np.linalg.norm(g / np.linalg.norm(g) - means.u / np.sqrt(k - 1))
    plain, free = (
        np.linalg.norm(w / np.linalg.norm(w) - m / np.linalg.norm(m)) for w in (weight, centred)
    )
    length = np.linalg.norm(m, axis=1)
    cosine, cosine_centred = (
        np.einsum("kd,kd->k", w, m) / (np.linalg.norm(w, axis=1) * length)
        for w in (weight, centred)
    )
    errors = {"nc3": plain, "nc3_centred": free, "nc3_variance": np.var(cosine)}
    errors["nc3_etf"] = np.hypot(etf, np.sqrt((k - 1 - len(means.s)) / (k - 1)))
    return errors, {"self_duality": cosine, "self_duality_centred": cosine_centred}


def agreement(features, means: Means, head):
    """Samples of each class, (K,), on which the head's decision is the nearest class mean."""
    rows, m, centre = find_rows(head), means.m, means.centre
    normalise = rows is not None and rows.scale is not None
    if normalise:
        m = streamed_moments(features, normalise=True).mean
        centre = m.mean(0)
        m = m - centre
    square = np.einsum("kd,kd->k", m, m)  # nearest is the largest <x, m_c> - |m_c|²/2
    if rows is None:
        module = SimpleNamespace(head=copy.deepcopy(head).eval(), dim=m.shape[1])
    else:  # the mean row moves all logits alike: without it float32 sees more
        weight = rows.weight - rows.weight.mean(0)
        bias = rows.bias - rows.bias.mean() + weight @ centre
    hits = np.zeros(len(m))
    for z, y in chunks(features, width=len(m), normalise=normalise):
        x = z - centre
        if rows is None:
            decision = Latent(module, z).predict(np.zeros(z.shape[1]), [0.0])[0]
        else:
            decision = affine_argmax(x, weight, bias)
        hits += np.bincount(y[affine_argmax(x, m, -square / 2) == decision], minlength=len(m))
    return hits


def affine_argmax(x, weight, bias):
    """argmax over classes of x Wᵀ + b, (N,), as in float64; float32 does the bulk."""
    values = x.astype(np.float32) @ weight.T.astype(np.float32) + bias.astype(np.float32)
    best = values.argmax(1)
    reach = np.linalg.norm(x, axis=1) * np.linalg.norm(weight, axis=1).max() + np.abs(bias).max()
    # twice the bound on a float32 dot product's error
    slack = (x.shape[1] + 4) * np.finfo(np.float32).eps * reach
    least = values.max(1) - slack.astype(np.float32)
    # float64 decides what float32 can't tell apart; overflow, being NaN, is unsure too
    unsure = np.flatnonzero((values >= least[:, None]).sum(1) != 1)
    best[unsure] = (x[unsure] @ weight.T + bias).argmax(1)
    return best


def ideal(metric: str, n_classes: int, dim: int) -> float:
    """The value of a metric under full collapse; NaN where K > D + 1 leaves it unknown.

    For K > D + 1 the ETF errors are at least √(2 - 2 √(D/(K - 1))), and the uniformity of an ETF is
    a bound that isn't reached.
    """
    k = n_classes
    if metric == "uniformity":
        return float(-0.5 * np.log(2 * k / (k - 1)))
    if metric in ("nc2_etf", "nc3_etf"):
        return float(np.sqrt(2 - 2 * np.sqrt(min(1.0, dim / (k - 1)))))
    if metric in DIRECTIONS and k > dim + 1:
        return np.nan
    return float(metric == "nc4")
