"""Point values of neural collapse from thin factors and in blocks: float64, no D × D array where D > K, no K × K array at all."""

from dataclasses import dataclass

import numpy as np

from ...errors import MismatchError
from ...moments import ClassMoments
from ...readout import HeadRows, find_rows

BLOCK = 1024  # classes on a side of one tile of pairs
CHUNK = 1 << 22  # float64 numbers held at a time


@dataclass(frozen=True, eq=False)
class Means:
    """Centred class means M = U S Vᵀ of numerical rank r: m (K, D), centre (D,), u (K, r), s (r,), vt (r, D)."""

    m: np.ndarray
    centre: np.ndarray
    u: np.ndarray
    s: np.ndarray
    vt: np.ndarray

    @classmethod
    def of(cls, mean: np.ndarray) -> "Means":
        """Factors of class means (K, D); singular values below max(K, D) · eps · the largest entry count as zero."""
        centre = mean.mean(axis=0)
        m = mean - centre
        m -= m.mean(axis=0)  # what rounding left of a centre far from 0
        tall = (
            len(m) > 2 * m.shape[1]
        )  # then through R of M = Q R, whose factors S and V are those of M: 15 times as fast
        u, s, vt = np.linalg.svd(np.linalg.qr(m, mode="r") if tall else m, full_matrices=False)
        cut = max(m.shape) * np.finfo(float).eps * max(s[0], np.abs(mean).max())
        r = min(int((s > cut).sum()), len(m) - 1)  # a centred M has rank K - 1 at most
        u, s, vt = u[:, :r], s[:r], vt[:r]
        return cls(m, centre, (m @ vt.T) / s if tall else u, s, vt)


def chunks(features, *, width: int = 0, normalise: bool = False):
    """Yield (z float64, y) of all samples, sorted by class, at most CHUNK numbers a time; `width` is that of later arrays."""
    order = np.argsort(features.y, kind="stable")
    rows = max(1, CHUNK // max(features.z.shape[1], width))
    for start in range(0, len(order), rows):
        chosen = order[start : start + rows]
        z = features.z[chosen].astype(np.float64)
        if normalise:
            z /= np.maximum(np.linalg.norm(z, axis=1, keepdims=True), 1e-12)  # as torch's normalize
        yield z, features.y[chosen]


def streamed_moments(
    features, *, pooled_scatter: bool = False, normalise: bool = False
) -> ClassMoments:
    """Moments of the samples a chunk at a time, so that no float64 copy of them all is made."""
    moments = ClassMoments(
        len(features.classes), features.z.shape[1], pooled_scatter=pooled_scatter
    )
    for z, y in chunks(features, normalise=normalise):
        moments.update(z, y)
    return moments


def spread_along(features, means: Means) -> np.ndarray:
    """Within-class variance along each right singular vector of M, (r,): the mean over samples of <h - mu_y, v_i>²."""
    total = np.zeros(len(means.s))
    for z, y in chunks(features):
        z -= means.centre
        z -= means.m[y]
        total += np.square(z @ means.vt.T).sum(axis=0)
    return total / len(features)


def etf_error(s: np.ndarray, n_classes: int) -> float:
    """|MMᵀ/|MMᵀ| - (I - 11ᵀ/K)/√(K-1)| in Frobenius norm through eigenvalues, which both matrices share."""
    eigenvalues = np.zeros(n_classes - 1)
    eigenvalues[: len(s)] = (s / s[0]) ** 2
    return float(
        np.linalg.norm(eigenvalues / np.linalg.norm(eigenvalues) - 1 / np.sqrt(n_classes - 1))
    )


def pairs(m: np.ndarray, variance: np.ndarray) -> dict[str, np.ndarray]:
    """All statistics over pairs of classes in one pass over upper tiles of the Gram matrix.

    m (K, D) centred means, variance (K,). Returns means over pairs (equiangular, cdnv, uniformity,
    uniformity_variance) and (K,) arrays: class_cosine and class_cdnv, the means over the other
    classes, rival_cdnv, the largest, and rival, whose it is. Means at the centre have no direction
    (NaN), coinciding ones no distance (inf).
    """
    k = len(m)
    norm = np.linalg.norm(m, axis=1)
    directed = norm > max(m.shape) * np.finfo(float).eps * norm.max()
    unit = np.divide(m, norm[:, None], out=np.zeros_like(m), where=directed[:, None])
    ideal, log_ideal = -1 / (k - 1), -0.5 * np.log(2 * k / (k - 1))
    cosine, cdnv, worst, rival = (
        np.zeros(k),
        np.zeros(k),
        np.full(k, -np.inf),
        np.zeros(k, dtype=np.int64),
    )
    angle = logs = squares = 0.0
    for a in range(0, k, BLOCK):
        i = slice(a, a + BLOCK)
        for b in range(a, k, BLOCK):
            j = slice(b, b + BLOCK)
            cos = unit[i] @ unit[j].T
            ratio, log = _tile(cos, unit, norm, variance, i, j)
            deviation = np.abs(cos - ideal)
            log -= log_ideal  # so that the variance of nearly equal values doesn't cancel
            lower = np.tril(np.ones(cos.shape, dtype=bool)) if a == b else None
            if lower is not None:
                for values in (cos, ratio, deviation, log):
                    values[lower] = 0
            angle, logs, squares = (
                angle + deviation.sum(),
                logs + log.sum(),
                squares + np.square(log, out=deviation).sum(),
            )
            cosine[i] += cos.sum(axis=1)
            cosine[j] += cos.sum(axis=0)
            cdnv[i] += ratio.sum(axis=1)
            cdnv[j] += ratio.sum(axis=0)
            if lower is not None:
                ratio[lower] = -np.inf
            for axis, mine, other in ((1, i, b), (0, j, a)):
                best = ratio.argmax(axis=axis)
                value = ratio.max(axis=axis)
                better = value > worst[mine]
                worst[mine] = np.where(better, value, worst[mine])
                rival[mine] = np.where(better, best + other, rival[mine])
    n = k * (k - 1) / 2
    cosine[~directed] = np.nan
    if not directed.all():
        angle = logs = np.nan
    return {
        "equiangular": angle / n,
        "cdnv": cdnv.sum() / (2 * n),
        "uniformity": logs / n + log_ideal,
        "uniformity_variance": max(squares / n - (logs / n) ** 2, 0.0)
        if np.isfinite(logs)
        else np.nan,
        "class_cosine": cosine / (k - 1),
        "class_cdnv": cdnv / (k - 1),
        "rival_cdnv": worst,
        "rival": rival,
    }


def _tile(cos, unit, norm, variance, i, j) -> tuple[np.ndarray, np.ndarray]:
    """CDNV and log(1/distance of unit vectors) of one tile of pairs; the diagonal's values mean nothing."""
    squared = 2 - 2 * cos
    row, column = np.nonzero(
        squared < 1e-5
    )  # where the difference has lost digits: taken from the vectors themselves
    for part in np.array_split(np.arange(len(row)), len(row) * unit.shape[1] // CHUNK + 1):
        squared[row[part], column[part]] = np.square(
            unit[i][row[part]] - unit[j][column[part]]
        ).sum(axis=1)
    distance = squared * norm[i, None]
    distance *= norm[None, j]
    distance += np.square(norm[i, None] - norm[None, j])
    with np.errstate(divide="ignore", invalid="ignore"):
        ratio = np.where(
            distance > 0, (variance[i, None] + variance[None, j]) / (2 * distance), np.inf
        )
        log = np.log(squared, out=squared)
    log *= -0.5
    return ratio, log


def duality(weight: np.ndarray, means: Means) -> dict[str, float | np.ndarray]:
    """The forms of NC3 for a head's rows W (K, D): three errors, the variance of cosines, and the cosines of each class."""
    k, r = len(weight), len(means.s)
    centred = weight - weight.mean(axis=0)
    g = (
        weight @ means.vt.T
    ) * means.s  # W Mᵀ = g Uᵀ, and I - 11ᵀ/K = U Uᵀ + the rest of the centred space
    with np.errstate(divide="ignore", invalid="ignore"):
        direction = means.m / np.linalg.norm(means.m)
        etf = np.linalg.norm(g / np.linalg.norm(g) - means.u / np.sqrt(k - 1))
        cosines = {
            name: _row_cosines(w, means.m)
            for name, w in (("cosine", weight), ("cosine_centred", centred))
        }
        return {
            "nc3": float(np.linalg.norm(weight / np.linalg.norm(weight) - direction)),
            "nc3_centred": float(np.linalg.norm(centred / np.linalg.norm(centred) - direction)),
            "nc3_etf": float(np.hypot(etf, np.sqrt((k - 1 - r) / (k - 1)))),
            "nc3_variance": float(np.var(cosines["cosine"])),
            **cosines,
        }


def _row_cosines(a: np.ndarray, b: np.ndarray) -> np.ndarray:
    return np.einsum("kd,kd->k", a, b) / (np.linalg.norm(a, axis=1) * np.linalg.norm(b, axis=1))


def head_rows(head, n_classes: int, dim: int) -> HeadRows | None:
    """`find_rows` of a head; None for no head.

    Raises MismatchError where the head doesn't map `dim` dimensions to `n_classes` classes.
    """
    if head is None:
        return None
    shape = (getattr(head, "in_features", None), getattr(head, "out_features", None))
    if shape != (dim, n_classes):
        raise MismatchError(
            f"the head maps {shape[0]} dimensions to {shape[1]} classes; "
            f"the features have {dim} dimensions and {n_classes} classes"
        )
    return find_rows(head)


def agreement(features, means: Means, head) -> np.ndarray:
    """Samples of each class, (K,), on which the head's decision is the nearest class mean; head: `HeadRows` or a module."""
    normalise = isinstance(head, HeadRows) and head.scale is not None
    if normalise:
        mean = streamed_moments(features, normalise=True).mean
        m, centre = mean - mean.mean(axis=0), mean.mean(axis=0)
    else:
        m, centre = means.m, means.centre
    nearest = (
        m,
        -0.5 * np.einsum("kd,kd->k", m, m),
    )  # the nearest mean is that of the largest <x, m_c> - |m_c|²/2
    rows = isinstance(head, HeadRows)
    scores = (nearest, _around(head, centre)) if rows else (nearest,)
    decide = None if rows else _module_decision(head, centre)
    hits = np.zeros(len(m))
    for x, y in chunks(features, width=len(m), normalise=normalise):
        x -= centre
        found = affine_argmax(x, *scores)
        hits += np.bincount(y[found[0] == (found[1] if rows else decide(x))], minlength=len(m))
    return hits


def _around(head: HeadRows, centre: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Weight and bias for features from which `centre` is taken, with the same argmax."""
    weight = head.weight - head.weight.mean(
        axis=0
    )  # the mean row moves all logits alike: without it float32 sees more
    return weight, head.bias - head.bias.mean() + weight @ centre


def _module_decision(head, centre: np.ndarray):
    import copy

    import torch

    head = copy.deepcopy(head).eval()
    like = next(
        (t for t in (*head.parameters(), *head.buffers()) if t.is_floating_point()), torch.empty(0)
    )

    def decide(x):
        with torch.inference_mode():
            return (
                head(torch.as_tensor(x + centre, dtype=like.dtype, device=like.device))
                .argmax(1)
                .cpu()
                .numpy()
            )

    return decide


def affine_argmax(x: np.ndarray, *scores: tuple[np.ndarray, np.ndarray]) -> list[np.ndarray]:
    """For each (W, b): argmax over classes of x Wᵀ + b, (N,), as in float64; float32 does the bulk."""
    single, length = x.astype(np.float32), np.sqrt(np.einsum("nd,nd->n", x, x))
    found = []
    for weight, bias in scores:
        values = single @ weight.astype(np.float32).T
        values += bias.astype(np.float32)
        best = values.argmax(axis=1)
        scale = length * np.linalg.norm(weight, axis=1).max() + np.abs(bias).max()
        slack = (
            (x.shape[1] + 4) * np.finfo(np.float32).eps * scale
        )  # twice the bound on a float32 dot product's error
        least = np.take_along_axis(values, best[:, None], axis=1) - slack[:, None].astype(
            np.float32
        )
        unsure = np.flatnonzero(
            (values >= least).sum(axis=1) != 1
        )  # overflow, being NaN, is unsure too
        best[unsure] = (x[unsure] @ weight.T + bias).argmax(
            axis=1
        )  # float64 decides what float32 can't tell apart
        found.append(best)
    return found
