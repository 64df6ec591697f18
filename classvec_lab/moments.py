"""`ClassMoments`: per-class count, mean and scatter in one pass, float64, mergeable over shards."""

import itertools

import numpy as np

from .checks import in_range, labelled, representations
from .errors import MismatchError

# float64 numbers taken in at a time: as many as a processor's cache holds, and as make one product
# with themselves worth its sum
CACHED, BLOCK = 1 << 18, 1 << 22


class ClassMoments:
    """A fitter of per-class moments with memory O(C · m): `update` with batches, `merge` shards.

    The order of samples and shards doesn't matter. `count` (C,), `mean` (C, m) with NaN rows for
    empty classes, and `scatter_trace` (C,), the sum over a class's samples of |z - mean|², are its
    results, with a pooled scatter also `scatter` (m, m), the sum over all samples of
    (z - mean_c)(z - mean_c)ᵀ.

    Args:
        n_classes: C.
        dim: m, the dimension of the representation.
        pooled_scatter: whether to gather `scatter`.
    Source: Chan, Golub and LeVeque, 1983, whose merging stays accurate far from the origin.
    """

    def __init__(self, n_classes: int, dim: int, *, pooled_scatter: bool = False):
        if n_classes < 1 or dim < 1:
            raise ValueError(
                f"ClassMoments needs n_classes >= 1 and dim >= 1; got {n_classes} and {dim}"
            )
        self.n_classes, self.dim = n_classes, dim
        self.count = np.zeros(n_classes, dtype=np.int64)
        self.scatter_trace = np.zeros(n_classes)
        self.scatter = np.zeros((dim, dim)) if pooled_scatter else None
        self._mean = np.zeros((n_classes, dim))

    @classmethod
    def of(
        cls, z: np.ndarray, y: np.ndarray, n_classes: int, *, pooled_scatter: bool = False
    ) -> "ClassMoments":
        """The moments of one array of representations z (N, m) with labels y (N,)."""
        return cls(n_classes, np.shape(z)[1], pooled_scatter=pooled_scatter).update(z, y)

    @property
    def mean(self) -> np.ndarray:
        """Class means (C, m); NaN for a class without samples."""
        return np.where(self.count[:, None] > 0, self._mean, np.nan)

    @property
    def variance(self) -> np.ndarray:
        """Unbiased within-class variance, summed over dimensions, (C,); NaN below two samples."""
        return self.scatter_trace / np.where(self.count > 1, self.count - 1, np.nan)

    def covariance(self, shrinkage: float = 0.0) -> np.ndarray:
        """The within-class covariance (m, m), pulled towards a multiple of the identity.

        (1 - shrinkage) S / (N - C) + shrinkage · t I, where S is the pooled scatter, C the number
        of classes with samples, and t the mean of the first's diagonal, so that the trace stays.

        Args:
            shrinkage: in [0, 1].
        Raises:
            MismatchError: without a pooled scatter.
        """
        if self.scatter is None:
            raise MismatchError(
                "a covariance needs moments with a pooled scatter: pooled_scatter=True"
            )
        in_range("shrinkage", shrinkage, 0, 1)
        free = self.count.sum() - np.count_nonzero(self.count)
        found = self.scatter / max(free, 1)
        return (1 - shrinkage) * found + shrinkage * (found.trace() / self.dim) * np.eye(self.dim)

    def update(self, z: np.ndarray, y: np.ndarray) -> "ClassMoments":
        """Take in a batch.

        Args:
            z: representations (N, m), of any float type.
            y: labels (N,), integers in 0..C-1.
        Returns:
            This fitter.
        Raises:
            MismatchError: for other shapes or labels.
        """
        owner = "ClassMoments"
        z, y = labelled(representations(z, self.dim, owner), y, self.n_classes, owner)
        order = np.argsort(y, kind="stable")
        for block in _split(order, BLOCK // self.dim):
            rows = [self._take(z[part], y[part]) for part in _split(block, CACHED // self.dim)]
            if self.scatter is not None:
                rows = np.concatenate([*itertools.chain(*rows)])
                self.scatter += rows.T @ rows
        return self

    def _take(self, z, y) -> tuple[np.ndarray, np.ndarray]:
        """Take in samples sorted by class; returns rows (…, m) whose outer products they scatter.

        The first rows are the samples less their class means, the others are of `_combine`.
        """
        z, mean = z.astype(float), 0
        present, start, count = np.unique(y, return_index=True, return_counts=True)
        for _ in range(2):  # the second round takes away the rounding error of the first mean
            step = np.add.reduceat(z, start, axis=0) / count[:, None]
            z -= np.repeat(step, count, axis=0)
            mean = mean + step
        trace = np.add.reduceat(np.einsum("nm,nm->n", z, z), start)
        return z, self._combine(present, count, mean, trace)

    def merge(self, other: "ClassMoments") -> "ClassMoments":
        """Take in another fitter's samples, which stays as it is; returns this fitter."""
        theirs, own = ((m.n_classes, m.dim, m.scatter is not None) for m in (other, self))
        if theirs != own:
            raise MismatchError(
                "can't merge moments that differ in classes, dimensions or in having a pooled "
                f"scatter: {theirs} into {own}"
            )
        present = np.flatnonzero(other.count)
        parts = (part[present] for part in (other.count, other._mean, other.scatter_trace))
        rows = self._combine(present, *parts)
        if self.scatter is not None:
            self.scatter += other.scatter + rows.T @ rows
        return self

    def _combine(self, classes, count, mean, trace) -> np.ndarray:
        """Join counts, means and traces; returns the rows (…, m) that scatter between the means."""
        old = self.count[classes]
        total = old + count
        delta = mean - self._mean[classes]
        weight = old * count / total
        self.count[classes] = total
        self._mean[classes] += delta * (count / total)[:, None]
        self.scatter_trace[classes] += trace + weight * np.einsum("cm,cm->c", delta, delta)
        return delta * np.sqrt(weight)[:, None]


def _split(items: np.ndarray, size: int) -> list[np.ndarray]:
    """The items in parts of `size`, at least 1; the last may be shorter."""
    size = max(1, size)
    return [items[i : i + size] for i in range(0, len(items), size)]
