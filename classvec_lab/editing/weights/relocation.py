"""Retiring a class in closed form: its samples scatter among the others, as the pre-trained representation would have it."""

import time

import numpy as np
import pandas as pd

from ...edits import Edit
from ...errors import EditError, MismatchError
from ...features import Features
from ...moments import ClassMoments
from ...vectors import require_pairs
from .delta import Delta
from .mapping import MappedEdit, _at_hand, _nullspace, _require_samples
from .sites import find_site

LIKENESS_SHRINKAGE = 0.1  # of the pre-trained covariance towards the identity, so that no direction of it is trusted blindly
SCATTER_SHRINKAGE = 0.01  # of the other classes' covariance, so that directions without any noise are not sought out


def retire(
    classifier,
    target: str,
    pre: Features,
    ft: Features,
    *,
    rank: int = 2,
    spread: float = 1.0,
    shrinkage: float = 0.5,
    moments: ClassMoments | None = None,
) -> MappedEdit:
    """Write into the weights that class c moves among the others, each sample towards those it looked like before fine-tuning.

    z becomes z + (k·z + o) v + Σ_q (b_q·z + o_q) s_q with at most `rank` terms b_q. The first term moves the class's
    mean to t̄, the mean of t_i = Σ_{j≠c} p_ij z_ft^j over its samples: p_ij is what linear discriminant analysis of the
    other classes' pre-trained representations says of sample i. A tight cluster in a place of its own is easy to find, so
    the other terms scatter it: s_q are the principal axes of the t_i, times `spread` (0 and above; 1: as far as the
    t_i scatter); b_q are the directions in which the class varies most beside the others, 0 on every class mean, of
    variance 1 within the class, and turned so that the scores b_q·z_i fit the t_i (Procrustes). k is that of `map_edit`.
    Guarantee: the training means of the other classes don't move, that of c goes to t̄, and k·z + o is 0 for every input
    afterwards. No other direction is erased, and single classes may be easier or harder to find than after retraining.

    pre, ft: training features of the same images, N each, under the two encoders; moments: those of ft, with a pooled
    scatter, where at hand. `seconds` of the result counts from these to the delta; `edits` holds one `Edit` a term,
    and `moved_means` a column for each. There are at most C - 2 scatter terms, and no more than m allows.
    Raises MismatchError for features of other images, classes or models, EditError as `map_edit` does, for a
    negative rank or spread, and for fewer than 2 classes.
    """
    if rank < 0 or not 0 <= spread < np.inf or not 0 <= shrinkage <= 1:
        raise EditError(
            f"rank and spread are 0 or more and shrinkage lies in [0, 1]; got {rank}, {spread} and {shrinkage}"
        )
    if target not in ft.classes:
        raise MismatchError(f"no class {target!r}; there are {', '.join(ft.classes[:20])}")
    if len(ft.classes) < 2:
        raise EditError(f"retiring {target!r} needs another class to retire to")
    if pre.classes != ft.classes or not np.array_equal(pre.y, ft.y):
        raise MismatchError(
            f"pre and ft must be features of the same images: got {len(pre)} of {len(pre.classes)} classes and "
            f"{len(ft)} of {len(ft.classes)}, or labels that differ"
        )
    require_pairs(pre, ft)
    ft = _at_hand(classifier, ft, "nullspace")
    site = find_site(classifier)
    start = time.perf_counter()
    moments = _at_hand(
        classifier, ft.moments(pooled_scatter=True) if moments is None else moments, "nullspace"
    )
    _require_samples(moments.count, ft.classes)
    own, n_classes = ft.classes.index(target), len(ft.classes)
    (key,), (offset,) = _nullspace(moments, [own], shrinkage, site.bias)
    mine = ft.y == own
    wanted = likeness(pre, own) @ np.delete(moments.mean, own, axis=0)
    place = wanted.mean(axis=0)
    residuals = np.asarray(ft.z[mine], dtype=np.float64) - moments.mean[own]
    others = (moments.scatter - residuals.T @ residuals) / max(
        int(moments.count.sum() - mine.sum()) - n_classes + 1, 1
    )
    centre = (
        np.delete(moments.mean, own, axis=0).mean(axis=0) if site.bias else np.zeros(ft.z.shape[1])
    )
    fixed = moments.mean - centre
    b, s = _scatter(residuals, wanted - place, others, fixed, rank if spread else 0)
    keys, offsets = np.vstack([key, b]), np.concatenate([[offset], -b @ centre])
    origin = {
        "target": target,
        "classes": ft.classes,
        "ft": ft.model,
        "pre": pre.model,
        "data": ft.data,
    }
    edits = (
        Edit.along(f"(likely others - z_ft[{target}])", place - moments.mean[own], **origin),
        *(
            Edit.along(f"scatter {q}[{target}]", spread * axis, **origin)
            for q, axis in enumerate(s, 1)
        ),
    )
    edits[0].require_effect()
    dense, factored = site.fold(classifier, keys, offsets, np.stack([e.vector for e in edits]))
    facts = {
        "method": "retire",
        "edits": [e.expression for e in edits],
        "targets": [target],
        "site": site.name,
    }
    facts |= {"rank": len(b), "spread": spread}
    delta = Delta.on(classifier, f"retire {target}", dense=dense, factored=factored, facts=facts)
    seconds = time.perf_counter() - start
    moved = pd.DataFrame(
        moments.mean @ keys.T + offsets, index=ft.classes, columns=[e.expression for e in edits]
    )
    return MappedEdit(
        edits, keys, offsets, site, delta, "retire", seconds, moved.rename_axis("class")
    )


def likeness(pre: Features, own: int) -> np.ndarray:
    """p (n, C - 1), rows of sum 1: how much each sample of class `own` is like every other class, by discriminant analysis.

    Of the other classes' representations in `pre`, with one covariance, shrunk by a tenth, and equal priors.
    """
    from scipy.special import softmax

    mine = pre.y == own
    moments = ClassMoments.of(pre.z[~mine], pre.y[~mine], len(pre.classes), pooled_scatter=True)
    means = np.delete(moments.mean, own, axis=0)
    covariance = moments.scatter / moments.count.sum()
    size = np.trace(covariance) / len(covariance) or 1.0
    metric = (1 - LIKENESS_SHRINKAGE) * covariance + LIKENESS_SHRINKAGE * size * np.eye(
        len(covariance)
    )
    centre = means.mean(axis=0)  # differences alone count, and are small beside what encoders share
    weights = np.linalg.solve(metric, (means - centre).T)
    constants = 0.5 * np.einsum("jm,mj->j", means - centre, weights)
    return softmax(
        (np.asarray(pre.z[mine], dtype=np.float64) - centre) @ weights - constants, axis=1
    )


def _scatter(residuals, wanted, others, fixed, rank: int) -> tuple[np.ndarray, np.ndarray]:
    """Keys (r, m), 0 on `fixed` (C, m), and steps (r, m), r <= rank: what spreads residuals (n, m) as `wanted` (n, m).

    others (m, m): the covariance within the other classes, which is to be moved little.
    """
    from scipy.linalg import eigh, null_space

    n, dim = residuals.shape
    scores, size, axes = np.linalg.svd(wanted, full_matrices=False)
    basis = null_space(fixed)
    rank = min(rank, int((size > 1e-9 * np.linalg.norm(fixed)).sum()), basis.shape[1])
    inside = residuals @ basis
    if rank == 0 or not inside.any():
        return np.empty((0, dim)), np.empty((0, dim))
    metric = basis.T @ others @ basis
    mean = np.trace(metric) / len(metric) or 1.0
    metric = (1 - SCATTER_SHRINKAGE) * metric + SCATTER_SHRINKAGE * mean * np.eye(len(metric))
    variance, directions = eigh(
        inside.T @ inside / n, metric, subset_by_index=[len(metric) - rank, len(metric) - 1]
    )
    directions = directions[:, variance > 1e-9 * variance[-1]]
    rank = directions.shape[1]
    left, length, right = np.linalg.svd(inside @ directions, full_matrices=False)
    white = (
        directions @ right.T * (np.sqrt(n) / length)
    )  # scores of variance 1, uncorrelated, within the class
    a, _, c = np.linalg.svd(left.T @ scores[:, :rank])
    return (basis @ white @ a @ c).T, axes[:rank] * size[:rank, None] / np.sqrt(n)
