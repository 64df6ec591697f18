"""Edits run on labelled representations: right answers by class, and how val foretells test."""

from collections.abc import Iterable, Mapping, Sequence

import numpy as np
import pandas as pd

from ..checks import record
from ..editing import BOUNDS, MAPPINGS, Bounds
from ..editing.weights.mapping import map_edit
from ..edits import Edit
from ..errors import EditError
from ..readout import Latent
from ..statistics import columns, mean_interval, rates, with_ends
from .experiment import Experiment


@record
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
    def change(self) -> np.ndarray:
        """Change of every class's accuracy (T, L - 1, C), unedited aside; NaN without samples."""
        accuracy, _, _ = rates(self.hits, self.count)
        return accuracy[:, 1:] - accuracy[:, :1]

    def curves(self, more: "Replayed | None" = None) -> pd.DataFrame:
        """ACC_f and ACC_r over lambda.

        Args:
            more: the same edits on further samples, which count for ACC_f.
        Returns:
            A frame with one row a target and strength: `class`, `lambda_`, `n_f` and `acc_f` with
            its 95 % Wilson interval (`acc_f_low`, `acc_f_high`), and the same for `r`, all others.
        """
        own = [self.classes.index(t) for t in self.targets]
        table = {"class": np.repeat(self.targets, len(self.lambdas))}
        table["lambda_"] = np.tile(self.lambdas, len(own))
        f, n_f = self.hits[np.arange(len(own)), :, own], self.count[own, None]
        r, n_r = self.hits.sum(axis=2) - f, self.count.sum() - n_f
        if more:
            f, n_f = f + more.hits[np.arange(len(own)), :, own], n_f + more.count[own, None]
        for name, hits, n in (("f", f, n_f), ("r", r, n_r)):
            table[f"n_{name}"] = np.repeat(n, len(self.lambdas))
            table |= columns(f"acc_{name}", map(np.ravel, rates(hits, n)))
        return pd.DataFrame(table)


def replay_edits(
    classifier,
    edits: Mapping[str, Edit],
    features,
    lambdas: Iterable[float],
    amounts: Sequence[np.ndarray] | None = None,
) -> Replayed:
    """Run lambda times each edit, lambda 0 included, and count right answers.

    Args:
        classifier: its head reads the moved representations.
        edits: target to edit of strength 1.
        features: labelled `Features` of the classifier's encoder, of N samples.
        lambdas: negative strengths.
        amounts: how far each edit acts on each sample, T arrays (N,), by default as its gate says.
    Raises:
        EditError: for other lambdas.
        MismatchError: for features of other classes or dimensions.
    """
    classifier.require_classes(features.classes, "the features")
    latent, y, lambdas = Latent(classifier, features.z), features.y, strengths(lambdas)
    still = latent.predict(np.zeros(classifier.dim), np.zeros(len(lambdas)))
    hits, size = [], len(features.classes)
    if amounts is None:
        gates = [edit.gate for edit in edits.values()]
        amounts = [gate.weights(latent.z) if gate else np.ones(len(y)) for gate in gates]
    for edit, amount in zip(edits.values(), amounts, strict=True):
        moved, predicted = amount != 0, still.copy()
        line = latent.only(moved)  # the others stay where they are
        predicted[:, moved] = line.predict(amount[moved, None] * edit.vector, lambdas)
        hits.append([np.bincount(y[p == y], minlength=size) for p in predicted])
    count = np.bincount(y, minlength=size)
    return Replayed(tuple(edits), tuple(features.classes), lambdas, np.array(hits), count)


def strengths(lambdas: Iterable[float]) -> tuple[float, ...]:
    """0 and the given strengths, mildest first; raises EditError unless finite and below 0."""
    given = sorted(set(map(float, lambdas)), reverse=True)
    if not given or not all(-np.inf < x < 0 for x in given):
        raise EditError(
            f"forgetting moves a class back: lambdas must be finite and below 0; got {given}"
        )
    return 0.0, *given


@record
class CollateralSurvey:
    """What the class vector of each target does to every class, on val beforehand and on test.

    gate: the score of the gate before each edit, "none", or a way of mapping. lambda_: the strength
    of `forecast` and `measured`. val, test: the edits run on both splits.
    """

    gate: str
    lambda_: float
    val: Replayed
    test: Replayed

    @property
    def forecast(self) -> pd.DataFrame:
        """`measured` on val: said before the test split is read."""
        return self._change(self.val)

    @property
    def measured(self) -> pd.DataFrame:
        """Change of every class's accuracy (columns) under every target's edit (rows) on test."""
        return self._change(self.test)

    def _change(self, side: Replayed) -> pd.DataFrame:
        change = side.change[:, side.lambdas.index(self.lambda_) - 1]
        table = pd.DataFrame(change, list(side.targets), list(side.classes))
        return table.rename_axis(index="edited", columns="class")

    @property
    def score(self) -> pd.DataFrame:
        """How far changes of accuracy on val are from those on test, beside "nothing changes".

        Returns:
            A frame with one row a strength, and a last row (`lambda_` NaN) over all of them.
            `n`: the edited classes. `no_change` and `replay`: mean absolute error per cell (class
            edited × class affected). `gain`: the first less the second. Each has a 95 % t-interval
            (`_low`, `_high`) over the edited classes, which share the model. `acc_f_measured` and
            `acc_f_replay`: accuracy of the edited class itself, mean over classes.
            `acc_f_replay_error`: the second less the first, in the last row the largest in size.
        """
        no_change = np.abs(self.test.change)
        replay = np.abs(self.val.change - self.test.change)
        errors = {"no_change": no_change, "replay": replay, "gain": no_change - replay}
        table = pd.DataFrame({"gate": self.gate, "lambda_": [*self.test.lambdas[1:], np.nan]})
        table["n"] = len(self.test.targets)
        for name, cells in errors.items():
            by_target = np.nanmean(cells, axis=2)  # of every strength, and then of all of them
            levels = np.column_stack([by_target, by_target.mean(axis=1)]).T
            table[with_ends(name)] = [mean_interval(c) for c in levels]
        for name, side in (("acc_f_measured", self.test), ("acc_f_replay", self.val)):
            acc_f = side.curves().groupby("lambda_", sort=False)["acc_f"].mean().iloc[1:]
            table[name] = [*acc_f, acc_f.mean()]
        error = table["acc_f_replay"] - table["acc_f_measured"]
        error.iloc[-1] = max(error.iloc[:-1], key=abs)
        return table.assign(acc_f_replay_error=error)

    def pays(self) -> tuple[str, str, float, int]:
        """The largest loss on test: (class edited, other class, change of its accuracy, n)."""
        losses = self.measured.stack()
        edited, other = losses[[a != b for a, b in losses.index]].idxmin()
        n = self.test.count[self.test.classes.index(other)]
        return edited, other, losses[edited, other], n


def survey_collateral(
    exp: Experiment,
    targets: Sequence[str],
    gate: str,
    lambda_: float = -1.5,
    bounds: Bounds = BOUNDS,
) -> CollateralSurvey:
    """Run the class vector of every target in one way on val and on test.

    Args:
        exp: the fine-tuned model and its data.
        targets: classes to edit, one at a time.
        gate: the score of the gate, "none", or a way of mapping into weights, see `MAPPINGS`.
        lambda_: the strength of the two matrices.
        bounds: its `lambdas` are run, too, and gates are calibrated as it says.
    """
    edits = {t: exp.vectors[t] for t in targets}
    if gate in MAPPINGS:
        mapped = map_edit(exp.ft, edits.values(), exp.moments, method=MAPPINGS[gate])
    else:
        edits = {t: edit.gated(exp.gate(t, gate, bounds)) for t, edit in edits.items()}
    lambdas, found = (*bounds.lambdas, -1.0, lambda_), []
    for features in (exp.features[split] for split in ("val", "test")):
        amounts = mapped.amounts(features.z).T if gate in MAPPINGS else None
        found.append(replay_edits(exp.ft, edits, features, lambdas, amounts))
    return CollateralSurvey(gate, lambda_, *found)
