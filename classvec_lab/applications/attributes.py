"""Attribute vectors: what snow, a written word or a scanner does to the mean of each class."""

from dataclasses import replace

import numpy as np

from ..checks import in_range, index_of, one_of, record
from ..edits import Edit


@record
class AttributeVectors:
    """κ_{a+c} - κ_c for each value a of an attribute (a word, "snow") and each class c.

    Args:
        shift: (A, C, m), what the value adds to the class's mean representation.
        count: (A, C), samples with the value behind each; where there is none, the shift is the
            mean over the classes that have some.
        means: (C, m), class means without the attribute.
        covariance: (m, m), of samples around the mean of their class and value, half shrunk.
        values: the A names; classes: the C names.
        amount: the share of shrinkage towards the mean over classes with the smallest error, found
            by leaving out one sample after the other; 1 where no class has two.
        ft: fingerprint of the encoder, where known.
    Source: Kim and Do, NeurIPS 2025 (environment and typographic edits, one class at a time).
    """

    shift: np.ndarray
    count: np.ndarray
    means: np.ndarray
    covariance: np.ndarray
    values: tuple[str, ...]
    classes: tuple[str, ...]
    amount: float
    ft: str | None = None

    def pooled(self, amount: float | None = None) -> "AttributeVectors":
        """The same with shifts pulled towards their mean over classes: by 1 they are equal.

        Args:
            amount: in [0, 1], by default `self.amount`.
        """
        amount = in_range("amount", self.amount if amount is None else amount, 0, 1)
        common = self.common[:, None]
        return replace(self, shift=self.shift + amount * (common - self.shift))

    @property
    def common(self) -> np.ndarray:
        """The mean shift over classes, (A, m)."""
        return self.shift.mean(axis=1)

    def moved(self, z: np.ndarray, y: np.ndarray, w: np.ndarray, strength=-1.0) -> np.ndarray:
        """z (N, m) + strength · shift of each sample's class and value, index -1 for none."""
        return z + strength * np.where(w[:, None] < 0, 0, self.shift[w, y])

    @property
    def cells(self) -> np.ndarray:
        """Means (C + A · C, m) of the classes without the attribute, then with each value."""
        return np.concatenate([self.means, *(self.means + self.shift)])

    @property
    def steps(self) -> np.ndarray:
        """How far each of `cells` is from its class without the attribute, (C + A · C, m)."""
        return np.concatenate([0 * self.means, *self.shift])

    def require(self, classifier) -> None:
        """Raise MismatchError unless these are of this classifier's classes and encoder."""
        self.edit(self.values[0], self.classes[0]).require(classifier)

    def edit(self, value: str, target: str) -> Edit:
        """κ_{a+c} - κ_c as an `Edit` of strength 1."""
        step = self.shift[self.values.index(one_of(value, self.values, "value"))]
        step = step[index_of(target, self.classes)]
        name = f"(κ[{value}+{target}] - κ[{target}])"
        return Edit.along(name, step, target=target, classes=self.classes, ft=self.ft)

    @property
    def basis(self) -> np.ndarray:
        """Orthonormal directions (k, m) that span the common shifts."""
        _, size, rows = np.linalg.svd(self.common, full_matrices=False)
        return rows[size > 1e-10 * size[0]]
