"""Attribute vectors: what snow, a written word or a scanner does to the mean of each class."""

from collections.abc import Mapping, Sequence
from dataclasses import replace

import numpy as np

from ..checks import in_range, index_of, named, one_of, record, representations, same_classes
from ..edits import Edit
from ..errors import MismatchError
from ..features import Features
from ..moments import ClassMoments

SHRINKAGE = 0.5  # of the covariance, from a few samples a class


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

    def require(self, classifier) -> None:
        """Raise MismatchError unless these are of this classifier's classes and encoder."""
        self.edit(self.values[0], self.classes[0]).require(classifier)

    def only(self, values: Sequence[str]) -> "AttributeVectors":
        """Those of some values, in this order; the covariance stays."""
        kept = [self.values.index(one_of(value, self.values, "value")) for value in values]
        return replace(self, shift=self.shift[kept], count=self.count[kept], values=tuple(values))

    def edit(self, value: str, target: str, *, common: bool = False) -> Edit:
        """κ_{a+c} - κ_c as an `Edit` of strength 1; with `common` the mean over classes."""
        a = self.values.index(one_of(value, self.values, "value"))
        c = index_of(target, self.classes)
        name = f"(κ[{value}] - κ)" if common else f"(κ[{value}+{target}] - κ[{target}])"
        direction = self.common[a] if common else self.shift[a, c]
        return Edit.along(name, direction, target=target, classes=self.classes, ft=self.ft)

    def basis(self, rank: int | None = None) -> np.ndarray:
        """Orthonormal directions (k, m) that hold most of the common shifts, at most `rank`."""
        _, size, rows = np.linalg.svd(self.common, full_matrices=False)
        return rows[size > 1e-10 * size[0]][:rank]


def attribute_vectors(
    without: Features,
    having: Mapping[str, Features],
    *,
    plain: Features | None = None,
    pre: tuple[Features, Mapping[str, Features]] | None = None,
) -> AttributeVectors:
    """Attribute vectors from a few samples of each class with and without each value.

    Where `having` shows the same images as `without`, in one order, the pairs cancel what the
    images differ in; the estimate is the difference of means in either case.

    Args:
        without: labelled, every class at least once.
        having: a value's name to labelled samples that have it.
        plain: more samples without the attribute, as of val: class means and covariance are theirs
            and those of `having`. By default `without`.
        pre: both under the pre-trained encoder: the shift is then what fine-tuning added to it. By
            default it is the shift within one encoder.
    Raises:
        MismatchError: for other classes or widths, a class without samples in `without` or `plain`,
            and for no value.
    """
    plain = without if plain is None else plain
    values, classes, n = named(having), without.classes, len(without.classes)
    if not values:
        raise MismatchError("give samples of at least one value of the attribute")
    for what, part in {"plain": plain, **having}.items():
        same_classes(part.classes, classes, f"the samples {what!r}", "those without the attribute")
        representations(part.z, without.z.shape[1], f"the encoder of those without, not {what!r},")
    for what, part in {"without": without, "plain": plain}.items():
        if not (counts := np.bincount(part.y, minlength=n)).all():
            raise MismatchError(f"{what} has no sample of class {classes[counts.argmin()]!r}")
    parts = [plain, *having.values()]
    cell = np.concatenate([part.y + n * k for k, part in enumerate(parts)])
    z = np.concatenate([part.z for part in parts])
    moments = ClassMoments.of(z, cell, n * len(parts), pooled_scatter=True)
    steps = [_deviations(without, part) for part in having.values()]
    if pre is not None:
        steps = [s - _deviations(pre[0], pre[1][a]) for a, s in zip(values, steps, strict=True)]
    found = [ClassMoments.of(step, part.y, n) for step, part in zip(steps, parts[1:], strict=True)]
    count, shift = np.stack([m.count for m in found]), np.stack([m.mean for m in found])
    common = np.broadcast_to(np.nanmean(shift, axis=1, keepdims=True), shift.shape)
    amount = _amount(zip(steps, parts[1:], found, common, strict=True), n)
    shift = np.where(count[..., None] > 0, shift, common)
    means, covariance = moments.mean[:n], moments.covariance(SHRINKAGE)
    return AttributeVectors(shift, count, means, covariance, values, classes, amount, without.model)


def _deviations(without: Features, having: Features) -> np.ndarray:
    """Samples that have it less the same ones without, or else less their class's mean without."""
    if np.array_equal(without.y, having.y):
        return having.z.astype(np.float64) - without.z
    return having.z - without.moments().mean[having.y]


def _amount(parts, n: int) -> float:
    """The share s with the least Σ |d_i - (1 - s) V_c - s P|², V and P both without sample i."""
    above = below = 0.0
    for steps, part, moments, common in parts:
        several = moments.count[part.y] > 1
        y = part.y[several]
        count, mean = moments.count[y][:, None], moments.mean[y]
        moved = (steps[several] - mean) / (count - 1)  # by which V_c changes without it
        pull = common[y] - mean + (1 - 1 / n) * moved
        above, below = above + (count * moved * pull).sum(), below + np.square(pull).sum()
    return float(np.clip(above / below, 0, 1)) if below else 1.0
