"""Correcting one systematic error, the samples of class a that the model takes for b, by a class-vector edit."""

from dataclasses import dataclass

import numpy as np
import pandas as pd

from ..editing.calibration import threshold
from ..editing.injection import read_logits
from ..editing.strength import BOUNDS, Bounds
from ..edits import Edit
from ..errors import EditError
from ..gates import Gate
from ..readout import Readout
from ..statistics import wilson
from .experiment import Experiment

LEAST = 3  # confused samples from which their mean is taken
LAMBDAS = (0.25, 0.5, 0.75, 1.0, 1.5, 2.0)


def confusions(readout: Readout, *, largest: int = 10) -> pd.DataFrame:
    """The most frequent errors: true, predicted, errors, n (samples of the true class), share with its Wilson interval."""
    size = len(readout.classes)
    counts = np.bincount(readout.y * size + readout.predicted, minlength=size**2).reshape(
        size, size
    )
    n = counts.sum(axis=1)
    np.fill_diagonal(counts, 0)
    rows = []
    for flat in np.argsort(-counts.ravel(), kind="stable")[:largest]:
        i, j = divmod(int(flat), size)
        if counts[i, j]:
            low, high = wilson(counts[i, j], n[i])
            row = {
                "true": readout.classes[i],
                "predicted": readout.classes[j],
                "errors": int(counts[i, j]),
                "n": int(n[i]),
            }
            rows.append(
                row | {"share": counts[i, j] / n[i], "low": float(low), "high": float(high)}
            )
    return pd.DataFrame(rows, columns=["true", "predicted", "errors", "n", "share", "low", "high"])


@dataclass(frozen=True, eq=False)
class Correction:
    """The edit lambda (κ_a - κ_b) that moves samples of a which look like b back to a, behind a gate between the two.

    curve: on val, lambda_ to accuracy over all classes. table: on test, before and after: the error's share, the accuracy
    of a, of b, of the other classes and of all, with 95 % Wilson intervals and n.
    """

    edit: Edit
    truth: str
    seen_as: str
    curve: pd.DataFrame
    table: pd.DataFrame

    def says(self) -> tuple[str, ...]:
        """One sentence: what happened to the error, and what it cost."""
        cell = self.table.set_index(["what", "when"])
        error = f"{self.truth} seen as {self.seen_as}"
        before, after = (cell.loc[(error, when)] for when in ("before", "after"))
        everything = [cell.loc[("all classes", when), "share"] for when in ("before", "after")]
        less = after["share"] < before["share"]
        sure = after["high"] < before["low"]
        verdict = (
            "corrects" if less and sure else "seems to correct" if less else "does not correct"
        )
        shares = [
            f"{row['share']:.1%} [{row['low']:.1%}, {row['high']:.1%}]" for row in (before, after)
        ]
        return (
            f"The edit {self.edit.expression} {verdict} the error: {shares[0]} of class {self.truth} were seen as "
            f"{self.seen_as}, now {shares[1]} (n = {before['n']:.0f}); accuracy over all classes: {everything[0]:.1%} before, "
            f"{everything[1]:.1%} after.",
        )


def correct_error(
    exp: Experiment,
    truth: str,
    seen_as: str,
    *,
    lambdas=LAMBDAS,
    bounds: Bounds = BOUNDS,
) -> Correction:
    """Find the edit on val, report it on test; neither the gate nor the edit sees a label when it runs.

    truth a, seen_as b. The gate compares the cosine to the mean of the confused samples of val (of a, called b) with the
    largest cosine to another class's mean, calibrated on the other classes of val for `bounds.false_fire`;
    the two plain class means won't do, for the confused samples lie on b's side. lambda is the smallest of those with
    the highest accuracy over all of val. Raises EditError for one class given twice, unknown classes, and fewer
    than `LEAST` confused samples on val.
    """
    _require_two(exp, truth, seen_as)
    if not len(lambdas) or not min(lambdas) > 0:
        raise EditError(
            f"a correction moves samples towards {truth!r}: give lambdas above 0; got {list(lambdas)}"
        )
    vectors, val = exp.vectors, exp.features["val"]
    pair = [vectors.index(truth), vectors.index(seen_as)]
    called = read_logits(exp.ft, [], val.z).argmax(axis=1)
    confused = (val.y == pair[0]) & (called == pair[1])
    if confused.sum() < LEAST:
        raise EditError(
            f"{confused.sum()} of {(val.y == pair[0]).sum()} validation samples of {truth!r} are seen as {seen_as!r}: too few to "
            f"learn how they look (at least {LEAST})"
        )
    rows = np.stack(
        [
            np.asarray(val.z[confused], dtype=np.float64).mean(axis=0),
            *np.delete(vectors.z_ft, pair[0], axis=0),
        ]
    )
    rows /= np.linalg.norm(rows, axis=1, keepdims=True)
    gate = Gate(
        truth,
        vectors.classes,
        "margin",
        rows,
        np.zeros(len(rows)),
        0.0,
        own=0,
        rivals=True,
        normalise=True,
    )
    negative = gate.scores(val.z)[val.y != pair[0]]
    gate = gate.at(
        threshold(negative, bounds.false_fire, bounds.guarantee),
        guarantee=bounds.guarantee,
        false_fire=bounds.false_fire,
        n_negatives=len(negative),
    )
    edit = (vectors[truth] - vectors[seen_as]).gated(gate)
    rows = []
    for lambda_ in sorted({0.0, *lambdas}):
        logits = read_logits(exp.ft, [lambda_ * edit] if lambda_ else [], val.z)
        hit = logits.argmax(axis=1) == val.y
        low, high = wilson(hit.sum(), len(hit))
        row = {
            "lambda_": lambda_,
            "split": "val",
            "n": len(hit),
            "accuracy": hit.mean(),
            "low": float(low),
            "high": float(high),
        }
        rows.append(row)
    curve = pd.DataFrame(rows)
    tried = curve[curve["lambda_"] != 0]
    best = float(tried.loc[tried["accuracy"].idxmax(), "lambda_"])
    test = exp.features["test"]
    table = [
        row
        for when, edits in (("before", []), ("after", [best * edit]))
        for row in _rows(
            read_logits(exp.ft, edits, test.z).argmax(axis=1),
            test.y,
            pair,
            truth,
            seen_as,
            when,
        )
    ]
    return Correction(best * edit, truth, seen_as, curve, pd.DataFrame(table))


def _require_two(exp: Experiment, truth: str, seen_as: str) -> None:
    if truth == seen_as:
        raise EditError(f"an error is between two classes; got {truth!r} twice")
    for name in (truth, seen_as):
        exp.require_target(name)


def _rows(predicted, y, pair, truth: str, seen_as: str, when: str) -> list[dict]:
    a, b = (y == i for i in pair)
    parts = [
        (f"{truth} seen as {seen_as}", a, predicted == pair[1]),
        (f"{seen_as} seen as {truth}", b, predicted == pair[0]),
        (f"class {truth}", a, predicted == y),
        (f"class {seen_as}", b, predicted == y),
        ("other classes", ~(a | b), predicted == y),
        ("all classes", np.ones(len(y), bool), predicted == y),
    ]
    rows = []
    for what, chosen, hit in parts:
        n, hits = int(chosen.sum()), int(hit[chosen].sum())
        low, high = wilson(hits, n)
        share = hits / n if n else np.nan
        rows.append(
            {
                "what": what,
                "when": when,
                "split": "test",
                "n": n,
                "share": share,
                "low": float(low),
                "high": float(high),
            }
        )
    return rows


def planted_error(
    exp: Experiment,
    truth: str,
    seen_as: str,
    *,
    share: float = 0.7,
    seed: int = 0,
    bounds: Bounds = BOUNDS,
) -> Correction:
    """A systematic error made on purpose, then corrected: the proof that `correct_error` works where there is one.

    The pre-trained model is fine-tuned by the experiment's recipe with `share` of class `truth` mislabelled as `seen_as`. The
    experiment's own labels, which are right, then serve to find the edit; nothing is trained a second time.
    Raises EditError for one class given twice, unknown classes and a share outside (0, 1), before anything is trained.
    """
    from dataclasses import replace

    from ..models import finetune

    if not 0 < share < 1:
        raise EditError(f"the share of mislabelled images lies between 0 and 1; got {share}")
    _require_two(exp, truth, seen_as)
    train = exp.data["train"]
    own = np.flatnonzero(train.targets == train.classes.index(truth))
    wrong = np.random.default_rng(seed).permutation(own)[: max(int(share * len(own)), 1)]
    options = {"val": exp.data["val"], "progress": False, **exp.recipe}
    spoilt = finetune(exp.pre, train.relabelled(wrong, seen_as), **options).classifier
    return correct_error(replace(exp, ft=spoilt), truth, seen_as, bounds=bounds)
