"""Taking an attribute away by one linear map of the representation, written into the weights."""

import numpy as np

from ..checks import record
from ..editing.weights.delta import Delta, WrittenEdit
from ..editing.weights.sites import find_site
from .attributes import AttributeVectors


@record
class LinearRemoval(WrittenEdit):
    """z becomes z + z B + b for every input, without gate or label.

    Args:
        matrix: B (m, m); constant: b (m,), 0 where the weights have no bias.
        delta: the change of the weights.
    """

    matrix: np.ndarray
    constant: np.ndarray
    delta: Delta

    def moved(self, z: np.ndarray) -> np.ndarray:
        """The representations (N, m) that z (N, m) become."""
        return z + np.asarray(z, float) @ self.matrix + self.constant


def map_removal(classifier, vectors: AttributeVectors, *, strength: float = -1.0) -> LinearRemoval:
    """The linear map that moves each value's samples back and leaves those without it.

    Of all B and b the ones that minimise, over cells k of class and value with means m_k and steps
    v_k (0 without the attribute, strength · shift with it), half of the weight on either,
    mean |m_k B + b - v_k|² + trace(Bᵀ S B): the step at the means, and as little noise as can be
    from the covariance S around them.

    Args:
        classifier: never changed.
        vectors: see `attribute_vectors`.
        strength: -1 takes the shift back.
    Raises:
        MismatchError: for vectors of another model.
        ModelError: if the classifier has no linear head and no linear last map.
    """
    means, steps, (n_values, n) = vectors.cells, strength * vectors.steps, vectors.count.shape
    weight = np.repeat([0.5 / n, 0.5 / (n * n_values)], [n, n * n_values])[:, None]
    site = find_site(classifier)
    centre, common = ((weight * x).sum(axis=0) * site.bias for x in (means, steps))
    x = means - centre
    matrix = np.linalg.solve(
        (weight * x).T @ x + vectors.covariance, (weight * x).T @ (steps - common)
    )
    return _written(classifier, vectors, site, "removal", matrix, common - centre @ matrix)


def map_projection(classifier, vectors: AttributeVectors) -> LinearRemoval:
    """The orthogonal projection that takes out the common shifts' directions, see `basis`.

    It goes through the mean of the classes where the weights have a bias, else through 0.
    """
    basis, site = vectors.basis, find_site(classifier)
    matrix = -basis.T @ basis
    constant = -vectors.means.mean(axis=0) @ matrix * site.bias
    return _written(classifier, vectors, site, "projection", matrix, constant)


def _written(classifier, vectors, site, name, matrix, constant) -> LinearRemoval:
    vectors.require(classifier)
    keys, size, steps = np.linalg.svd(matrix)
    kept = size > 1e-9 * size[0]
    keys, steps, offsets = (keys * size).T[kept], steps[kept], np.zeros(kept.sum())
    if constant.any():
        keys, steps = np.vstack([keys, 0 * constant]), np.vstack([steps, constant])
        offsets = np.append(offsets, 1.0)
    name = f"{name} of {', '.join(vectors.values)}"
    delta = Delta.on(classifier, name, site.changes(classifier, keys, offsets, steps))
    return LinearRemoval(matrix, constant, delta)
