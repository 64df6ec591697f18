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
    """Yield (z float64, y) of all samples, at most CHUNK numbers a time.

    Args:
        width: of arrays that are made of z later.
        normalise: whether each z is divided by its length, as torch's normalize does.
    """
    rows = max(1, CHUNK // max(features.z.shape[1], width))
    for start in range(0, len(features), rows):
        z = features.z[start : start + rows].astype(np.float64)
        if normalise:
            z /= np.maximum(np.linalg.norm(z, axis=1, keepdims=True), 1e-12)
        yield z, features.y[start : start + rows]


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
    sums, total, band = np.zeros((2, k)), np.zeros(3), max(1, CHUNK // k)
    worst, rival = np.full(k, -np.inf), np.zeros(k, dtype=np.int64)
    for start in range(0, k, band):
        i, j = slice(start, start + band), slice(start, None)
        cos = unit[i] @ unit[j].T
        squared = 2 - 2 * cos
        close = squared < CLOSE  # taken from the vectors themselves
        for row in np.flatnonzero(close.any(1)):
            apart = unit[start + row] - unit[j][close[row]]
            squared[row, close[row]] = np.square(apart).sum(1)
        distance = squared * norm[i, None] * norm[j] + np.square(norm[i, None] - norm[j])
        ratio = np.where(distance > 0, (variance[i, None] + variance[j]) / (2 * distance), np.inf)
        # less the ideal, so that the variance of nearly equal values doesn't cancel
        log = -0.5 * np.log(squared) - log_ideal
        values = np.stack([cos, ratio, np.abs(cos - ideal), log])
        seen = np.tri(*cos.shape, dtype=bool)  # a class with itself, and pairs seen from both sides
        values[:, seen] = 0
        sums[:, i] += values[:2].sum(2)
        sums[:, j] += values[:2].sum(1)
        total += *values[2:].sum((1, 2)), np.square(values[3]).sum()
        ratio[seen] = -np.inf
        for axis, mine in ((1, i), (0, j)):
            value, other = ratio.max(axis), start + ratio.argmax(axis)
            rival[mine] = np.where(value > worst[mine], other, rival[mine])
            worst[mine] = np.maximum(value, worst[mine])
    angle, log, square = 2 * total / (k * (k - 1)) if directed.all() else np.full(3, np.nan)
    cosine, cdnv = sums / (k - 1)
    means = {"cdnv": cdnv.mean(), "nc2_equiangular": angle, "uniformity": log + log_ideal}
    means["uniformity_variance"] = np.maximum(square - log**2, 0)
    classwise = {"cosine": np.where(directed, cosine, np.nan), "cdnv": cdnv}
    return means, classwise | {"rival": rival, "rival_cdnv": worst}


@np.errstate(divide="ignore", invalid="ignore")
def duality(weight, means: Means):
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
        head = copy.deepcopy(head).eval()
        module = SimpleNamespace(head=head, logits=head, dim=m.shape[1])
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
    """The value of a metric of K classes in D dimensions under full collapse.

    NaN where K > D + 1 leaves it unknown. The ETF errors are then at least √(2 - 2 √(D/(K - 1))),
    and the uniformity of an ETF is a bound that isn't reached.
    """
    k = n_classes
    if metric == "uniformity":
        return float(-0.5 * np.log(2 * k / (k - 1)))
    if metric in ("nc2_etf", "nc3_etf"):
        return float(np.sqrt(2 - 2 * np.sqrt(min(1.0, dim / (k - 1)))))
    return np.nan if metric in DIRECTIONS and k > dim + 1 else float(metric == "nc4")
