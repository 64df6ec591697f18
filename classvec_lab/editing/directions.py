"""Directions to edit along: rivals and controls of the class vector, and its part that is read."""

import numpy as np

from ..edits import Edit
from ..errors import EditError
from ..readout import check_labelled, head_rows, random_like
from ..vectors import ClassVectors

# of the head-aware step: samples that may still be called the class, and what is added for new ones
MISS, RESERVE = 0.01, 0.25


def contrast_direction(vectors: ClassVectors, target: str) -> Edit:
    """z_ft^c - μ, where μ is the mean of all class means.

    It needs no pre-trained model, which makes it the decisive ablation of κ_c.
    """
    means = vectors.z_ft
    direction = means[vectors.index(target)] - means.mean(axis=0)
    return vectors.edit(f"(z_ft[{target}] - μ)", direction, target)


def head_direction(classifier, vectors: ClassVectors, target: str) -> Edit:
    """w_c - mean of the head's rows: what raises the class's logit over the others'."""
    classifier.require_classes(vectors.classes, "the class vectors")
    direction = head_rows(classifier).centred[vectors.index(target)]
    return vectors.edit(f"(w[{target}] - mean w)", direction, target)


def random_direction(vectors: ClassVectors, target: str, *, seed: int) -> Edit:
    """A Gaussian direction of the length of κ_c: the control of every edit."""
    i = vectors.index(target)
    drawn = random_like(vectors.kappa[i], np.random.default_rng([seed, i]))
    return vectors.edit(f"random[{target}, seed {seed}]", drawn, target)


def relocation(vectors: ClassVectors, target: str, *, without: tuple[str, ...] = ()) -> Edit:
    """From class c to the mean of the other classes: it then looks like none in particular.

    Args:
        without: classes that are left out of the mean, say as they are relocated themselves.
    Raises:
        EditError: where no other class is left.
    """
    i = vectors.index(target)
    others = np.delete(vectors.z_ft, [i, *map(vectors.index, without)], axis=0)
    if not len(others):
        raise EditError(f"relocating {target!r} needs another class to go to")
    name = f"(mean of others - z_ft[{target}])"
    return vectors.edit(name, others.mean(axis=0) - vectors.z_ft[i], target)


def head_aware(classifier, vectors: ClassVectors, target: str, features) -> Edit:
    """The class vector as the head reads it, lengthened along the head's row until the class loses.

    z_edit = -1.25 · (P κ_c + t u): P projects on the span of the head's row differences, which
    keeps every prediction and leaves out what the head can't see; u is the unit vector along
    w_c - mean w, and t >= 0 the smallest for which at most 1 % of the held-out samples that the
    model calls c are still called so. With κ_c long enough, t is 0. A quarter more is a reserve for
    samples not seen.

    Args:
        features: held-out, of the fine-tuned encoder; their labels are not used.
    Raises:
        EditError: where the model calls no held-out sample c, or no direction is read for c alone.
    """
    i = vectors.index(target)
    check_labelled(classifier, features, vectors)
    head = head_rows(classifier)
    weight, centred, basis = head.weight, head.centred, head.basis
    if not centred[i].any():
        raise EditError(
            f"the head's row of {target!r} is the mean of all rows: nothing is read by it alone"
        )
    read = basis.T @ (basis @ vectors.kappa[i])
    unit = centred[i] / np.linalg.norm(centred[i])
    logits = np.asarray(features.z, float) @ weight.T + head.bias
    called = logits[logits.argmax(axis=1) == i] - read @ weight.T
    if not len(called):
        raise EditError(
            f"the model calls none of the {len(features)} held-out samples {target!r}: "
            "no step can be chosen for it"
        )
    # along -t u each margin m_ij = l_i - l_j falls by t (w_i - w_j)·u, for some j at least, as the
    # slopes have a sum above 0: the sample is lost at its earliest crossing
    slope = (weight[i] - weight) @ unit
    falls = slope > 0
    crossing = (called[:, [i]] - called)[:, falls] / slope[falls]
    first = np.sort(np.maximum(crossing.min(axis=1), 0))
    t = float(first[len(first) - 1 - int(MISS * len(first))])
    edit = vectors.edit(f"head-aware κ[{target}]", read + t * unit, target)
    return edit * -(1.0 + RESERVE)
