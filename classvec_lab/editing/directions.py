"""Directions to edit along: the rivals and controls of the class vector, and what the head reads of it."""

from dataclasses import replace

import numpy as np

from ..edits import Edit
from ..errors import EditError, MismatchError
from ..readout import head_rows
from ..vectors import ClassVectors


def without_pretraining(vectors: ClassVectors, target: str) -> Edit:
    """z_ft^c - μ, μ the mean of all class means: needs no pre-trained model, the decisive ablation of κ_c."""
    return _edit(
        f"(z_ft[{target}] - μ)",
        vectors.z_ft[vectors.index(target)] - vectors.z_ft.mean(axis=0),
        vectors,
        target,
    )


def head_direction(classifier, vectors: ClassVectors, target: str) -> Edit:
    """w_c - mean of the head's rows: what raises the class's logit over the others'."""
    classifier.require_classes(vectors.classes, "the class vectors")
    weight, _ = head_rows(classifier)
    return _edit(
        f"(w[{target}] - mean w)",
        weight[vectors.index(target)] - weight.mean(axis=0),
        vectors,
        target,
    )


def random_direction(vectors: ClassVectors, target: str, *, seed: int) -> Edit:
    """A Gaussian direction of the length of κ_c: the control of every edit."""
    i = vectors.index(target)
    drawn = np.random.default_rng([seed, i]).standard_normal(vectors.dim)
    norm = np.linalg.norm(vectors.kappa[i])
    return _edit(
        f"random[{target}, seed {seed}]", drawn * norm / np.linalg.norm(drawn), vectors, target
    )


def retirement(vectors: ClassVectors, target: str, *, without: tuple[str, ...] = ()) -> Edit:
    """From class c to the mean of the other classes (less those in `without`): it then looks like none in particular."""
    i = vectors.index(target)
    gone = {i, *(vectors.index(name) for name in without)}
    others = [j for j in range(len(vectors)) if j not in gone]
    if not others:
        raise EditError(f"retiring {target!r} needs another class to retire to")
    return _edit(
        f"(mean of others - z_ft[{target}])",
        vectors.z_ft[others].mean(axis=0) - vectors.z_ft[i],
        vectors,
        target,
    )


def head_aware(
    classifier,
    vectors: ClassVectors,
    target: str,
    features,
    *,
    miss: float = 0.01,
    reserve: float = 0.25,
) -> Edit:
    """The class vector as the head reads it, lengthened along the head's own row until the class loses: smallest such step.

    z_edit = -(1 + reserve) · (P κ_c + t u): P projects on the span of the head's row differences, which keeps
    every prediction and leaves out what the head can't see; u is the unit vector along w_c - mean w, and t >= 0 the
    smallest for which at most `miss` of the held-out samples that the model calls c are still called so. With κ_c
    long enough, t is 0. `features`: held-out, of the fine-tuned encoder; their labels are not used. `reserve`
    lengthens the step for samples not seen. Raises EditError where the model calls no held-out sample c.
    """
    if not 0 <= miss < 1 or reserve < 0:
        raise EditError(
            f"miss lies in [0, 1) and reserve is not negative; got miss={miss}, reserve={reserve}"
        )
    classifier.require_classes(features.classes, "the features")
    vectors.require(classes=features.classes)
    i = vectors.index(target)
    if len(vectors) < 2:
        raise EditError("an edit away from a class needs another class")
    weight, bias = head_rows(classifier)
    centred = weight - weight.mean(axis=0)
    if not centred[i].any():
        raise EditError(
            f"the head's row of {target!r} is the mean of all rows, so there is no direction that it alone reads"
        )
    _, size, basis = np.linalg.svd(centred, full_matrices=False)
    basis = basis[size > size[0] * 1e-10]
    read = basis.T @ (basis @ vectors.kappa[i])
    unit = centred[i] / np.linalg.norm(centred[i])
    logits = np.asarray(features.z, dtype=np.float64) @ weight.T + bias
    called = logits[logits.argmax(axis=1) == i] - read @ weight.T
    if not len(called):
        raise EditError(
            f"the model calls none of the {len(features)} held-out samples {target!r}: no step can be chosen for it"
        )
    # along -t u each margin m_ij = l_i - l_j falls by t (w_i - w_j)·u, for some j at least, as the slopes have a
    # sum above 0: the sample is lost at its earliest crossing
    slope = (weight[i] - weight) @ unit
    with np.errstate(divide="ignore", invalid="ignore"):
        crossing = np.where(slope > 0, (called[:, i : i + 1] - called) / slope, np.inf)
    crossing[:, i] = np.inf
    first = np.sort(np.maximum(crossing.min(axis=1), 0))
    t = first[len(first) - 1 - int(miss * len(first))]
    step = read + t * unit
    edit = _edit(
        f"head-aware κ[{target}]",
        step,
        vectors,
        target,
        share_read=float(np.linalg.norm(read)),
        head_step=float(t),
    )
    return edit * -(1.0 + reserve)


def _edit(name: str, direction: np.ndarray, vectors: ClassVectors, target: str, **facts) -> Edit:
    if not np.isfinite(direction).all():
        raise MismatchError(f"the direction {name} is not finite")
    edit = Edit.along(
        name,
        direction,
        target=target,
        classes=vectors.classes,
        ft=vectors.ft,
        pre=vectors.pre,
        data=vectors.data,
    )
    return replace(edit, facts=facts) if facts else edit
