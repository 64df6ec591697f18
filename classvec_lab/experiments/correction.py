"""Correcting one systematic error by an edit: samples of class a that the model takes for b."""

from dataclasses import replace

import pandas as pd

from ..checks import record
from ..editing import BOUNDS, Bounds, calibrate_gate, inject, quietly
from ..edits import Edit
from ..errors import EditError
from ..readout import predict
from ..statistics import columns, share
from ..words import percent
from .experiment import Experiment

LEAST = 3  # confused samples from which their mean is taken
LAMBDAS = (0.25, 0.5, 0.75, 1.0, 1.5, 2.0)


@record
class Correction:
    """The edit lambda (κ_a - κ_b), behind a gate for samples of a that look like b.

    Args:
        edit: moves them back to a.
        truth: a; seen_as: b.
        table: on test, one row a `what` and `when` (before, after): the share of each error, the
            accuracy of a, of b, of the other classes and of all, 95 % Wilson intervals and n.
    """

    edit: Edit
    truth: str
    seen_as: str
    table: pd.DataFrame

    def says(self) -> tuple[str, ...]:
        """One sentence: what happened to the error, and what it cost."""
        cell = self.table.set_index(["what", "when"])
        before, after = cell.loc[f"{self.truth} seen as {self.seen_as}"].itertuples()
        less, sure = after.share < before.share, after.high < before.low
        verdict = "does not correct" if not less else "corrects" if sure else "seems to correct"
        shares = [percent(row.share, row.low, row.high) for row in (before, after)]
        total = cell.loc["all classes", "share"].map(percent)
        return (
            f"The edit {self.edit.expression} {verdict} the error: {shares[0]} of class "
            f"{self.truth} were seen as {self.seen_as}, now {shares[1]} (n = {before.n:.0f}); "
            f"accuracy over all classes: {total['before']} before, {total['after']} after.",
        )


def correct_error(
    exp: Experiment, truth: str, seen_as: str, *, bounds: Bounds = BOUNDS
) -> Correction:
    """Find the edit on val, report it on test; no label is used when it runs.

    The gate compares the cosine to the mean of the confused samples of val (of a, called b) with
    the largest cosine to another class's mean. The plain means of a and b won't do, for the
    confused samples lie on b's side. lambda is the smallest of those in `LAMBDAS` with the highest
    accuracy over all of val.

    Args:
        truth: the class a; seen_as: the class b that it is taken for.
        bounds: `false_fire` and `guarantee` of the gate on the other classes.
    Raises:
        EditError: for one class given twice, unknown classes, or fewer than `LEAST` confused
            samples on val.
    """
    exp.require_targets([truth, seen_as])
    vectors, val, test = exp.vectors, exp.features["val"], exp.features["test"]
    a, b = vectors.index(truth), vectors.index(seen_as)
    own = val.y == a
    confused = own & (predict(exp.ft, val) == b)
    if confused.sum() < LEAST:
        raise EditError(
            f"{confused.sum()} of {own.sum()} validation samples of {truth!r} are seen as "
            f"{seen_as!r}: too few to learn how they look (at least {LEAST})"
        )
    looks = vectors.z_ft.copy()
    looks[a] = val.z[confused].mean(axis=0, dtype=float)
    with quietly():  # see `Experiment.gate`
        gate = calibrate_gate(val, replace(vectors, z_ft=looks), truth, **bounds.gating)
    unit = (vectors[truth] - vectors[seen_as]).gated(gate)
    right = {x: (predict(inject(exp.ft, x * unit), val) == val.y).mean() for x in LAMBDAS}
    edit, table = max(right, key=right.get) * unit, []
    for when, model in (("before", exp.ft), ("after", inject(exp.ft, edit))):
        called = predict(model, test)
        hit, first, second = called == test.y, test.y == a, test.y == b
        shares = {
            f"{truth} seen as {seen_as}": (called == b)[first],
            f"{seen_as} seen as {truth}": (called == a)[second],
            f"class {truth}": hit[first],
            f"class {seen_as}": hit[second],
            "other classes": hit[~(first | second)],
            "all classes": hit,
        }
        for what, hits in shares.items():
            row = {"what": what, "when": when, "split": "test", "n": len(hits)}
            table.append(row | columns("share", share(hits), ""))
    return Correction(edit, truth, seen_as, pd.DataFrame(table))
