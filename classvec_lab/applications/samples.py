"""Attribute vectors from a few samples with and without the attribute."""

from collections.abc import Mapping

import numpy as np

from ..checks import named, representations, same_classes
from ..errors import MismatchError
from ..features import Features
from ..moments import ClassMoments
from .attributes import AttributeVectors

SHRINKAGE = 0.5  # of the covariance, from a few samples a class


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
    plain = plain or without
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
        return having.z.astype(float) - without.z
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
