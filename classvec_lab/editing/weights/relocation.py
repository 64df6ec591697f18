"""Relocating a class in closed form: its samples scatter among those that they resembled before."""

import time
from collections.abc import Iterable

import numpy as np

from ...checks import index_of, one_of
from ...edits import Edit
from ...errors import EditError
from ...features import Features
from ...moments import ClassMoments
from ...vectors import require_pairs
from .keys import spread_metric
from .mapping import KEYS, MappedEdit, reference_moments, written
from .sites import find_site

RANK = 2  # terms that scatter a class, at most
LIKENESS_SHRINKAGE = 0.1  # of the pre-trained covariance: no direction of it is trusted blindly
SCATTER_SHRINKAGE = 0.01  # of the others' covariance: directions without noise are not sought out


def relocate(
    classifier, target: str, pre: Features, ft: Features, *, method: str = "nullspace"
) -> MappedEdit:
    """Write into the weights that a class moves among the others, each sample to its likes.

    z becomes z + (k·z + o) v + Σ_q (b_q·z + o_q) s_q with at most 2 terms b_q. The first term
    moves the class's mean to t̄, the mean over its samples of t_i = Σ_{j≠c} p_ij z_ft^j, with p the
    `likeness` before fine-tuning; k is that of `map_edit`'s method. A tight cluster in a place of
    its own is easy to find, so the other terms scatter it. Their steps s_q are the principal axes
    of the t_i. Their keys b_q are the directions in which the class varies most beside
    the others, 0 on every class mean, of variance 1 within the class, and turned so that the scores
    b_q·z_i fit the t_i (Procrustes). There are at most C - 2 of them, and no more than m allows.
    Guarantee: the training mean of c goes to t̄. With "nullspace" those of the other classes don't
    move, and k·z + o is 0 for every input afterwards. No other direction is erased, and single
    classes may be easier or harder to find than after retraining.

    Args:
        classifier: a `Classifier`, never changed.
        target: name of the class.
        pre, ft: training `Features` of the same images under the pre-trained and this encoder.
        method: "nullspace" or "discriminant", see `map_edit`.
    Returns:
        A `MappedEdit` with one `Edit` a term.
    Raises:
        MismatchError: for features of other images, classes or models.
        EditError: as `map_edit` does, and for fewer than 2 classes.
    """
    return relocations(classifier, target, pre, ft, methods=[method])[method]


def relocations(
    classifier, target: str, pre: Features, ft: Features, *, methods: Iterable[str]
) -> dict[str, MappedEdit]:
    """`relocate` by several methods, by name: they differ in their first key alone."""
    finds = {method: KEYS[one_of(method, KEYS, "mapping", EditError)] for method in methods}
    own = index_of(target, ft.classes)
    if len(ft.classes) < 2:
        raise EditError(f"relocating {target!r} needs another class to go to")
    require_pairs(pre, ft)
    start = time.perf_counter()
    moments, site = reference_moments(classifier, ft), find_site(classifier)
    others = np.delete(moments.mean, own, axis=0)
    wanted = likeness(pre, own) @ others
    place = wanted.mean(axis=0)
    centre = others.mean(axis=0) * site.bias
    b, s = _scatter(ft, own, wanted - place, moments.mean, centre)
    terms = {f"(likely others - z_ft[{target}])": place - moments.mean[own]}
    terms |= {f"scatter {q}[{target}]": axis for q, axis in enumerate(s, 1)}
    origin = {"classes": ft.classes, "ft": ft.model, "pre": pre.model, "data": ft.data}
    edits = [Edit.along(name, v, target=target, **origin) for name, v in terms.items()]
    edits[0].require_effect()
    found = {}
    for method, find in finds.items():
        keys, offsets = find(moments, [own], bias=site.bias)
        keys, offsets = np.vstack([keys, b]), np.concatenate([offsets, -b @ centre])
        found[method] = written(classifier, site, edits, keys, offsets, moments, start)
    return found


def likeness(pre: Features, own: int) -> np.ndarray:
    """How much each sample of a class is like every other class, by linear discriminant analysis.

    The other classes have equal priors and one covariance, that of `ClassMoments.covariance` shrunk
    by a tenth.

    Args:
        pre: pre-trained `Features`.
        own: index of the class.
    Returns:
        p (n, C - 1), rows of sum 1.
    """
    from scipy.special import softmax

    mine = pre.y == own
    moments = ClassMoments.of(pre.z[~mine], pre.y[~mine], len(pre.classes), pooled_scatter=True)
    means = np.delete(moments.mean, own, axis=0)
    centre = means.mean(axis=0)  # differences alone count, and are small beside what encoders share
    weights = np.linalg.solve(spread_metric(moments, LIKENESS_SHRINKAGE), (means - centre).T)
    constants = 0.5 * np.einsum("jm,mj->j", means - centre, weights)
    return softmax((pre.z[mine] - centre) @ weights - constants, axis=1)


def _scatter(ft, own, wanted, means, centre):
    """Keys (r, m), 0 on means (C, m) - centre, and steps (r, m), r <= RANK, to spread as `wanted`.

    The keys are those that move samples of the class much and samples of the others little.
    """
    from scipy.linalg import eigh, null_space

    fixed, mine = means - centre, ft.y == own
    scores, size, axes = np.linalg.svd(wanted, full_matrices=False)
    basis = null_space(fixed)
    rank = min(RANK, int((size > 1e-9 * np.linalg.norm(fixed)).sum()), basis.shape[1])
    z = (ft.z - means[own]) @ basis
    inside = z[mine]
    if rank == 0 or not inside.any():
        return np.empty((2, 0, ft.z.shape[1]))
    others = ClassMoments.of(z[~mine], ft.y[~mine], len(ft.classes), pooled_scatter=True)
    variance, directions = eigh(
        inside.T @ inside / len(inside),
        spread_metric(others, SCATTER_SHRINKAGE),
        subset_by_index=[others.dim - rank, others.dim - 1],
    )
    directions = directions[:, variance > 1e-9 * variance[-1]]
    left, length, right = np.linalg.svd(inside @ directions, full_matrices=False)
    rank = len(length)
    # scores of variance 1, uncorrelated, within the class
    white = directions @ right.T * (np.sqrt(len(inside)) / length)
    a, _, c = np.linalg.svd(left.T @ scores[:, :rank])
    return (basis @ white @ a @ c).T, axes[:rank] * size[:rank, None] / np.sqrt(len(inside))
