"""Edits run on labelled representations: counts of right answers, and how well val foretells test."""

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass

import numpy as np
import pandas as pd

from ..edits import Edit
from ..errors import EditError, MismatchError
from ..readout import Latent
from ..statistics import mean_interval, wilson


@dataclass(frozen=True, eq=False)
class Replayed:
    """How many samples of each class are named rightly under the edit of each target.

    hits (T, L, C): right answers, for T targets, L strengths and C classes.
    count (C,): samples of each class. lambdas: the strengths, the first of them 0, unedited.
    """

    targets: tuple[str, ...]
    classes: tuple[str, ...]
    lambdas: tuple[float, ...]
    hits: np.ndarray
    count: np.ndarray

    @property
    def own(self) -> np.ndarray:
        """Positions of the targets among the classes, (T,)."""
        return np.array([self.classes.index(t) for t in self.targets])

    @property
    def accuracy(self) -> np.ndarray:
        """Accuracy (T, L, C) in [0, 1]; NaN for classes without samples."""
        return np.divide(
            self.hits, self.count, out=np.full(self.hits.shape, np.nan), where=self.count > 0
        )

    def change(self, lambda_: float) -> pd.DataFrame:
        """Change of every class's accuracy (columns) under every target's edit (rows), in [-1, 1]."""
        accuracy = self.accuracy
        change = accuracy[:, self.lambdas.index(lambda_)] - accuracy[:, 0]
        table = pd.DataFrame(change, list(self.targets), list(self.classes))
        return table.rename_axis(index="edited", columns="class")

    def curves(self) -> pd.DataFrame:
        """ACC_f and ACC_r over lambda.

        Returns:
            A frame with one row a target and strength: `target`, `lambda_`, `n_f` and `acc_f` with
            its 95 % Wilson interval (`acc_f_low`, `acc_f_high`), and the same for `r`, all others.
        """
        index = pd.MultiIndex.from_product(
            [self.targets, self.lambdas], names=["target", "lambda_"]
        )
        table, own = index.to_frame(index=False), self.own
        hits_f, n_f = self.hits[np.arange(len(own)), :, own], self.count[own]
        hits_r, n_r = self.hits.sum(axis=2) - hits_f, self.count.sum() - n_f
        for name, hits, n in (("f", hits_f, n_f), ("r", hits_r, n_r)):
            n = np.broadcast_to(n[:, None], hits.shape)
            low, high = wilson(hits, n)
            table[f"n_{name}"], table[f"acc_{name}"] = n.ravel(), (hits / n).ravel()
            table[f"acc_{name}_low"], table[f"acc_{name}_high"] = low.ravel(), high.ravel()
        return table


def replay_edits(
    classifier,
    edits: Mapping[str, Edit],
    features,
    lambdas: Iterable[float],
    amounts: Sequence[np.ndarray] | None = None,
) -> Replayed:
    """Run lambda times each edit, lambda 0 included, on labelled representations and count right answers.

    Args:
        classifier: its head reads the moved representations.
        edits: target to edit of strength 1.
        features: labelled `Features` of the classifier's encoder, of N samples.
        lambdas: negative strengths.
        amounts: how far each edit acts on each sample, T arrays (N,); by default what its gate says.
    Raises:
        EditError: for other lambdas.
        MismatchError: for features of other classes or dimensions.
    """
    classifier.require_classes(features.classes, "the features")
    latent, y, lambdas = Latent(classifier, features.z), features.y, strengths(lambdas)
    right = latent.predict(np.zeros(classifier.dim), [0.0])[0] == y
    hits, size = [], len(features.classes)
    for i, edit in enumerate(edits.values()):
        if amounts is not None:
            amount = amounts[i]
        else:
            amount = np.ones(len(y)) if edit.gate is None else edit.gate.weights(latent.z)
        moved = amount != 0
        kept, own = np.bincount(y[right & ~moved], minlength=size), y[moved]
        predicted = latent[moved].predict(amount[moved, None] * edit.vector, lambdas)
        hits.append([kept + np.bincount(own[p == own], minlength=size) for p in predicted])
    count = np.bincount(y, minlength=size)
    return Replayed(tuple(edits), tuple(features.classes), lambdas, np.array(hits), count)


def strengths(lambdas: Iterable[float]) -> tuple[float, ...]:
    """0 and the given strengths of forgetting, the mildest first; raises EditError unless they are finite and below 0."""
    given = sorted({float(x) for x in lambdas}, reverse=True)
    if not given or not all(-np.inf < x < 0 for x in given):
        raise EditError(
            f"forgetting moves a class back: lambdas must be finite and below 0; got {given}"
        )
    return 0.0, *given


@dataclass(frozen=True, eq=False)
class CollateralSurvey:
    """What the class vector of each target does to every class, on val beforehand and on test.

    score: see `score_replay`, with a column `gate`. forecast, measured: change of every class's
    accuracy (columns) under every target's edit (rows) at `lambda_`, in [-1, 1]: on val, and on test.
    curves: `Replayed.curves` of both splits, with columns `split` and `gate`.
    count: test samples of each class.
    """

    gate: str
    lambda_: float
    score: pd.DataFrame
    measured: pd.DataFrame
    forecast: pd.DataFrame
    curves: pd.DataFrame
    count: pd.Series

    def pays(self) -> tuple[str, str, float, int]:
        """The largest loss on test: (class edited, other class, change of its accuracy, n)."""
        losses = self.measured.stack()
        losses = losses[losses.index.get_level_values(0) != losses.index.get_level_values(1)]
        edited, other = losses.idxmin()
        return edited, other, float(losses.min()), int(self.count[other])


def survey_collateral(
    context, targets: Sequence[str], gate: str, lambda_: float = -1.5
) -> CollateralSurvey:
    """Run the class vector of every target behind one gate on val and on test.

    Args:
        context: an `EditingContext`.
        targets: classes to edit, one at a time.
        gate: the score of the gate, or "none".
        lambda_: the strength of the two matrices.
    """
    lambdas = (*context.lambdas, -1.0, lambda_)
    edits = {}
    for target in targets:
        unit, found = context.vectors[target], context.gate(target, gate)
        edits[target] = unit if found is None else unit.gated(found)
    val, test = (
        replay_edits(context.ft, edits, context.features[s], lambdas) for s in ("val", "test")
    )
    score = score_replay(val, test)
    score.insert(0, "gate", gate)
    curves = pd.concat(
        [found.curves().assign(split=s, gate=gate) for s, found in (("val", val), ("test", test))],
        ignore_index=True,
    )
    count = pd.Series(test.count, test.classes)
    return CollateralSurvey(
        gate, lambda_, score, test.change(lambda_), val.change(lambda_), curves, count
    )


def score_replay(replayed: Replayed, measured: Replayed) -> pd.DataFrame:
    """How far changes of accuracy on val are from those on test, beside "nothing changes".

    Args:
        replayed: the edits run on val.
        measured: the same edits on test.
    Returns:
        A frame with one row a strength, and a last row (`lambda_` NaN) over all of them. `n`: the
        edited classes. `no_change` and `replay`: mean absolute error per cell (class edited × class
        affected). `gain`: the first less the second. Each has a 95 % t-interval (`_low`, `_high`)
        over the edited classes, which share the model. `acc_f_measured` and `acc_f_replay`: accuracy
        of the edited class itself, mean over classes. `acc_f_replay_error`: the second less the
        first, in the last row the largest in size.
    Raises:
        MismatchError: if the two differ in targets, strengths or classes.
    """
    for name in ("targets", "lambdas", "classes"):
        if getattr(replayed, name) != getattr(measured, name):
            raise MismatchError(f"the edits replayed and measured have other {name}")
    own = measured.own
    accuracy = {"measured": measured.accuracy, "replay": replayed.accuracy}
    change = {side: a[:, 1:] - a[:, :1] for side, a in accuracy.items()}
    acc_f = {side: a[np.arange(len(own)), 1:, own] for side, a in accuracy.items()}
    errors = {
        "no_change": np.abs(change["measured"]),
        "replay": np.abs(change["replay"] - change["measured"]),
    }
    errors["gain"] = errors["no_change"] - errors["replay"]
    known, rows = np.isfinite(errors["gain"]), []
    for at, lambda_ in (*enumerate(measured.lambdas[1:]), (slice(None), np.nan)):
        row = {"lambda_": lambda_, "n": len(own)}
        for name, values in errors.items():
            cells = [v[at][k[at]].mean() for v, k in zip(values, known, strict=True)]
            row[name], row[f"{name}_low"], row[f"{name}_high"] = mean_interval(cells)
        for side, values in acc_f.items():
            row[f"acc_f_{side}"] = values[:, at].mean()
        rows.append(row)
    table = pd.DataFrame(rows)
    error = table["acc_f_replay"] - table["acc_f_measured"]
    error.iloc[-1] = max(error.iloc[:-1], key=abs)
    return table.assign(acc_f_replay_error=error)
