"""Linear gates in closed form: keys and offsets that single a class out of class moments."""

from collections.abc import Sequence

import numpy as np

from ...errors import EditError
from ...moments import ClassMoments


def nullspace_keys(
    moments: ClassMoments, own: Sequence[int], *, shrinkage: float = 0.5, bias: bool = True
) -> tuple[np.ndarray, np.ndarray]:
    """k and o of linear gates that are 1 at the mean of one class and 0 at the means of all others.

    Of all such k the one that minimises k' S k, S the within-class covariance shrunk towards a
    multiple of the identity: k · m_r + o = 0 for the other classes' means m_r and k · m_c + o = 1,
    with o = 0 where there is no bias.

    Args:
        moments: `ClassMoments` of C classes and m dimensions, with a pooled scatter.
        own: indices of T classes c.
        shrinkage: in [0, 1].
        bias: whether an offset can be used.
    Returns:
        Keys (T, m) and offsets (T,).
    Raises:
        EditError: for more classes than dimensions, and for linearly dependent means.
    """
    n_classes, dim = moments.mean.shape
    if n_classes - bias > dim:
        raise EditError(
            f"{n_classes} class means can't be told apart linearly in {dim} dimensions; "
            "use inject with gates"
        )
    centre = moments.mean.mean(axis=0) * bias
    means, wanted = moments.mean - centre, np.eye(n_classes)[:, own]
    solved = np.linalg.solve(spread_metric(moments, shrinkage), means.T)
    # k = S⁻¹ meansᵀ λ, with means k + o = wanted and, where o is free, Σ λ = 0
    border = np.ones((int(bias), n_classes))
    system = np.block([[means @ solved, border.T], [border, np.zeros((len(border), len(border)))]])
    answer = np.linalg.lstsq(system, np.vstack([wanted, border[:, own] * 0]), rcond=None)[0]
    keys, offsets = (solved @ answer[:n_classes]).T, answer[n_classes:].sum(axis=0)
    if not np.abs(means @ keys.T + offsets - wanted).max() < 1e-6:
        raise EditError(
            "the class means are linearly dependent, so no linear gate can single one class out; "
            "use inject"
        )
    return keys, offsets - keys @ centre


def discriminant_keys(
    moments: ClassMoments, own: Sequence[int], *, shrinkage: float = 0.1, bias: bool = True
) -> tuple[np.ndarray, np.ndarray]:
    """k and o of linear gates that are 1 at the mean of one class and small on the others' samples.

    Of all k with k · m_c + o = 1 the one that minimises k' S k plus the mean of (k · m_r + o)² over
    the other classes r: the mean square of the amounts by which samples of the others move, for
    classes of one size. Their average mean m doesn't move, as o = -k · m; without a bias o is 0.

    Args:
        moments, own, shrinkage, bias: see `nullspace_keys`.
    Returns:
        Keys (T, m) and offsets (T,).
    Raises:
        EditError: for a class whose mean is the average of all others.
    """
    metric, keys, centres = spread_metric(moments, shrinkage), [], []
    for c in own:
        others = np.delete(moments.mean, c, axis=0)
        centre = others.mean(axis=0) * bias if len(others) else np.zeros(moments.dim)
        others, step = others - centre, moments.mean[c] - centre
        key = np.linalg.solve(metric + others.T @ others / max(len(others), 1), step)
        if not key @ step > 0:
            raise EditError("a class mean is the average of all others, so that nothing selects it")
        keys.append(key / (key @ step))
        centres.append(centre)
    return np.stack(keys), -np.einsum("tm,tm->t", keys, centres)


def spread_metric(moments: ClassMoments, shrinkage: float) -> np.ndarray:
    """The shrunk within-class covariance (m, m), of full rank; the identity if nothing varies."""
    covariance = moments.covariance(max(shrinkage, 1e-9))
    return covariance if covariance.any() else np.eye(moments.dim)
