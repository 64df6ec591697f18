"""Mappings compared: their summary, several classes at once, and how two of one edit differ."""

from collections.abc import Mapping, Sequence

import numpy as np
import pandas as pd

from ..editing import BOUNDS, MAPPINGS, Bounds, relocation
from ..editing.weights import MappedEdit, map_edit
from ..features import Features
from ..statistics import columns, ends, mean_interval, ratio_interval, summarise, with_ends
from ..words import bound, percent, points
from .experiment import Experiment
from .forget_words import counted, verdict
from .methods import left_of, read

REFERENCES = (1, 2, 5, 20)  # images a class that are tried, below the size of the smallest


def summarise_mappings(table: pd.DataFrame) -> pd.DataFrame:
    """One row a mapping of a table of `forget_study` with columns mapping and agreement.

    See `summarise`; the table may be several joined.
    """
    names = ("acc_f", "acc_r", "change_r", "agreement")
    columns = ["n", "unit", "n_parameters", *with_ends(*names), "worst_acc_f", "worst_target"]
    found = summarise(table, ["mapping"], columns)
    found.insert(4, "split", "test")
    return found


def multi_class_mapping(
    exp: Experiment, targets: Sequence[str], *, lambda_: float = -1.5, method: str = "nullspace"
) -> pd.DataFrame:
    """The first 1, 2, half and all but one of the targets mapped at once, in two ways.

    Args:
        method: see `map_edit`.

    Returns:
        One row a way and number of classes: way, keys, classes, n_parameters, split, and ACC_f over
        the classes mapped and ACC_r over the others with 95 % Wilson intervals and n.
    """
    n, rows = len(targets), []
    for size in sorted({min(k, n) for k in (1, 2, (n + 1) // 2, max(n - 1, 1))}):
        gone = tuple(targets[:size])
        ways = {"along the class vectors": [lambda_ * exp.vectors[t] for t in gone]}
        if size < len(exp.ft.classes):
            ways["retired to the mean"] = [relocation(exp.vectors, t, without=gone) for t in gone]
        for way, edits in ways.items():
            found = map_edit(exp.ft, edits, exp.moments, method=method)
            row = {
                "way": way,
                "keys": method,
                "classes": size,
                "n_parameters": found.n_parameters,
                "split": "test",
            }
            rows.append(row | left_of(read(exp, found, "test"), gone))
    return pd.DataFrame(rows)


def compare_references(
    exp: Experiment, targets: Sequence[str], *, lambda_: float = -1.5
) -> pd.DataFrame:
    """Mappings of the class vectors from a few images a class up to those of the smallest.

    Returns:
        One row a target, method and number of references: method ("ridge", and from two images on
        "nullspace" and "discriminant"), references, target, split, and what is `left_of` it.
    """
    train, rng, rows = exp.features["train"], np.random.default_rng(exp.seed), []
    order = [rng.permutation(np.flatnonzero(train.y == c)) for c in range(len(train.classes))]
    least = min(map(len, order))
    for count in (*(c for c in REFERENCES if c < least), least):
        some = np.concatenate([drawn[:count] for drawn in order])
        few = Features(train.z[some], train.y[some], train.classes, train.model)
        for method in ("ridge", *MAPPINGS.values()) if count > 1 else ("ridge",):
            for target in targets:
                edit = lambda_ * exp.vectors[target]
                found = map_edit(
                    exp.ft, edit, few, n_references=count, method=method, seed=exp.seed
                )
                row = {"method": method, "references": count, "target": target, "split": "test"}
                rows.append(row | left_of(read(exp, found, "test"), [target]))
    return pd.DataFrame(rows)


def mapping_difference(
    pair: Sequence[MappedEdit], groups: Mapping[str, np.ndarray]
) -> pd.DataFrame:
    """How far two mappings of one edit are apart on groups of representations (N, m).

    Returns:
        One row a group: n, and the root mean square difference of the amounts over that of the
        first, with its 95 % interval (low, high) from the ratio of the mean squares. 0: the same
        effect; 1: as different as doing nothing.
    """
    rows = []
    for group, z in groups.items():
        first, second = (found.amounts(z)[:, 0] for found in pair)
        found = ratio_interval(np.square(first - second), np.square(first))
        found = np.sqrt(np.maximum(found, 0.0))  # NaN stays
        rows.append({"group": group, "n": len(z)} | columns("difference", found, ""))
    return pd.DataFrame(rows)


def mapping_says(
    table: pd.DataFrame, guarantee: pd.DataFrame, bounds: Bounds = BOUNDS
) -> tuple[str, ...]:
    """What each mapping does, and whether single samples of the other classes keep to the quantile.

    Args:
        table: as `summarise_mappings` takes it.
        guarantee: `MappedEdit.report`s joined, each with the share `beyond` the quantile.
        bounds: what ACC_f and ACC_r are held to.
    """
    found = []
    for name, own in table.groupby("mapping", sort=False):
        row = summarise_mappings(own).iloc[0]
        found.append(
            f"{name[0].upper()}{name[1:]} {verdict(own, bounds)}: ACC_f {percent(row['acc_f'])} "
            f"(worst {row['worst_target']} {percent(row['worst_acc_f'])}), ACC_r "
            f"{points(row['change_r'])}; {row['n_parameters']:.0f} numbers, agrees with latent "
            f"injection on {percent(row['agreement'])} (n = {counted(row)})."
        )
    mean, low, high = mean_interval(guarantee["beyond"].to_numpy())
    side = {"below": "less than", "above": "more than", "not told from": "not told from"}
    return (
        *found,
        "Single samples of the other classes pass the 5 % quantile set on val in "
        f"{percent(mean, low, high)} of cases on test, {side[bound(mean, low, high, 0.05)]} what "
        f"is stated (worst target {percent(guarantee['beyond'].max())}).",
    )


def difference_says(differ: pd.DataFrame) -> tuple[str, ...]:
    """One sentence on Theorem 3.2: where two mappings of the same edit differ least and most."""
    sizes = differ["difference"]
    least, most = (
        f"{percent(*ends(row, 'difference', ''), 0)} of the movement on {row['group']} "
        f"(n = {row['n']})"
        for row in (differ.loc[sizes.idxmin()], differ.loc[sizes.idxmax()])
    )
    return (f"Two mappings that move the class mean alike differ by {least} and by {most}.",)
