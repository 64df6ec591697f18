"""Sub-populations inside a class, such as red stars: vectors, a gate, what an edit did.

A *cell* is a class and a value, and has a name such as "star·red".
"""

from dataclasses import replace

import numpy as np
import pandas as pd

from ..editing.calibration import least_rate, threshold
from ..features import Features
from ..gates import Gate
from ..statistics import columns, paired_change, share

MARK, GROUPS = "·", ("sub-population", "siblings", "other classes")
SHRINKAGE = 0.5  # of the covariance, from a few samples a cell


def cell_names(classes, y, values) -> np.ndarray:
    """The names of the cells of samples (N,), from their classes y and their values."""
    return np.array([f"{classes[c]}{MARK}{value}" for c, value in zip(y, values, strict=True)])


def owner(cell: str) -> str:
    """The class of a cell."""
    return cell.rpartition(MARK)[0]


def groups(names, cell: str) -> np.ndarray:
    """Which of `GROUPS` each sample is in, (N,), from the names of their cells."""
    inside = np.char.startswith(names, owner(cell) + MARK)
    return np.where(inside, names != cell, 2)


def cells(features: Features, names) -> Features:
    """The same samples with their cells (N,) for classes: their class vectors are κ_{c,a}."""
    classes, y = np.unique(names, return_inverse=True)
    return replace(features, y=y, classes=classes)


def without_siblings(features: Features, names, cell: str) -> Features:
    """The samples but those of the cell's siblings, so that it stands for its class.

    Class vectors of them have κ of the cell as that of the class, and strengths chosen on them are
    those that the cell needs.
    """
    kept = groups(names, cell) != 1
    return replace(features, z=features.z[kept], y=features.y[kept], data=None)


def cell_gate(train: Features, held_out: Features, names, cell: str, *, false_fire: float) -> Gate:
    """A gate for one cell: a linear discriminant in which all other cells are rivals.

    It fires where the cell is the likeliest, by a margin that keeps the expected rate on the
    siblings, and on the other classes, to `false_fire`, or to the least that so few samples allow.
    The rate that the gate states is that of the siblings.

    Args:
        train: `cells` of the training samples under the fine-tuned encoder, which the means and the
            covariance within cells, half shrunk, are of.
        held_out: samples with the model's classes; names: of their cells, (N,). They only
            calibrate.
        false_fire: in (0, 1).
    """
    moments = train.moments(pooled_scatter=True)
    weight = np.linalg.solve(moments.covariance(SHRINKAGE), moments.mean.T).T
    bias, own = -0.5 * (weight * moments.mean).sum(axis=1), train.classes.index(cell)
    gate = Gate(owner(cell), held_out.classes, "discriminant", weight, bias, 0.0, own, rivals=True)
    scores, group = gate.scores(held_out.z), groups(names, cell)
    for part in (scores[group == 2], scores[group == 1]):
        rate = max(false_fire, least_rate(len(part), "marginal"))
        level = max(gate.threshold, threshold(part, rate, among=scores[group == 0]))
        gate = gate.at(level, guarantee="marginal", false_fire=rate, n_negatives=len(part))
    return gate


def outcome(names, cell: str, before: np.ndarray, after: np.ndarray) -> pd.DataFrame:
    """What an edit did to each group of samples, and to each sibling.

    Args:
        names: of the samples' cells, (N,); cell: the one that was edited.
        before, after: hits (N,) of the unedited and of the edited model.
    Returns:
        A row a group, then a row a sibling: condition, its name, n, accuracy (Wilson) and change
        (paired), with 95 % intervals.
    """
    group = groups(names, cell)
    masks = {name: group == k for k, name in enumerate(GROUPS)}
    masks |= {sibling: names == sibling for sibling in np.unique(names[group == 1])}
    return pd.DataFrame(
        {"condition": name, "n": own.sum()}
        | columns("accuracy", share(after[own]))
        | columns("change", paired_change(before[own], after[own]))
        for name, own in masks.items()
    )
