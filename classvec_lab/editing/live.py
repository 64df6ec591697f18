"""Edits read in milliseconds: class-vector arithmetic on the head's product with cached features.

No image passes through an encoder.
"""

from collections.abc import Sequence
from functools import cache

import numpy as np
import pandas as pd

from ..checks import record, representations
from ..edits import Edit
from ..gates import Gate
from ..readout import head_rows
from ..statistics import columns, paired_change, rates, share, split_accuracy
from ..words import change, percent

N_RANDOM = 5
OTHERS = "all others"
_KEPT_GATES = 256


@record
class LiveReadout:
    """What edits do to N labelled samples.

    Args:
        before, after: predictions (N,).
        weights: (E, N), how far each edit acts.
        control: (D, N), predictions under D random directions of the same norms, behind the same
            gates.
        y: labels (N,), which only the counts below read; classes: the C names.
        targets: the class of each edit.
        split: names the images.
    """

    before: np.ndarray
    after: np.ndarray
    weights: np.ndarray
    control: np.ndarray
    y: np.ndarray
    classes: tuple[str, ...]
    targets: tuple[str, ...]
    split: str = "val"

    @property
    def changed(self) -> np.ndarray:
        """Positions of the samples whose prediction changed."""
        return np.flatnonzero(self.before != self.after)

    def _hits(self, chosen=slice(None)):
        """Where the chosen samples are right: before, after, and under each random direction."""
        predictions = (self.before, self.after, *self.control)
        return [p[chosen] == self.y[chosen] for p in predictions]

    def per_class(self) -> pd.DataFrame:
        """One row a class: n, accuracy before, after, and under random directions, or NaN."""
        n, *hits = (
            np.bincount(self.y[chosen], minlength=len(self.classes))
            for chosen in (slice(None), *self._hits())
        )
        before, after, *drawn = rates(hits, n)[0]
        random = np.mean(drawn, axis=0) if drawn else np.nan
        frame = {"class": self.classes, "n": n, "before": before, "after": after}
        return pd.DataFrame({**frame, "random": random})

    def table(self) -> pd.DataFrame:
        """ACC_f of each edited class and, last, ACC_r of all others ("all others").

        Returns:
            A frame with class, n, before, after and its 95 % Wilson interval (low, high), change in
            share with its paired interval (change_low, change_high), random (the same as after
            under random directions, mean of the draws), called (the class that most samples of an
            edited class are now taken for), called_share and split.
        """
        own = {name: self.y == self.classes.index(name) for name in self.targets}
        rest = ~np.any([np.zeros(len(self.y), bool), *own.values()], axis=0)
        rows = []
        for name, chosen in (*own.items(), (OTHERS, rest)):
            before, after, *drawn = self._hits(chosen)
            now, called, called_share = share(after), "", np.nan
            if name != OTHERS and now.n:
                counts = np.bincount(self.after[chosen])
                called, called_share = self.classes[counts.argmax()], counts.max() / now.n
            rows.append(
                {
                    "class": name,
                    "n": now.n,
                    "before": share(before).value,
                    **columns("after", now, ""),
                    **columns("change", paired_change(before, after)),
                    "random": np.mean(drawn) if drawn and now.n else np.nan,
                    "called": called,
                    "called_share": called_share,
                    "split": self.split,
                }
            )
        return pd.DataFrame(rows)

    def says(self) -> tuple[str, ...]:
        """What happens to each edited class and to all others, beside random directions."""
        if not self.targets:
            return (f"No edit is on ({self.split} split, n = {len(self.y)}).",)
        said = []
        for row in self.table().rename(columns={"class": "name"}).itertuples():
            told = f"no sample on {row.split}"
            if row.n:
                told = (
                    f"accuracy {percent(row.after, row.low, row.high)} on {row.split}, "
                    f"from {percent(row.before)} (n = {row.n}): "
                    f"{change(row.change_low, row.change_high)}; random directions of the "
                    f"same norm leave {percent(row.random)}"
                )
            edited = row.name != OTHERS
            who = f"Class {row.name!r}" if edited else "All classes that no edit targets"
            said.append(f"{who}: {told}.")
        return tuple(said)

    def fires(self) -> pd.DataFrame:
        """Where each edit acts by more than a half.

        Returns:
            One row an edit: target, fires and false_fires (shares of the target's samples and of
            all others), worst_class (the other class on which it acts most) and worst_fires.
        """
        rows = []
        for target, weight in zip(self.targets, self.weights, strict=True):
            fired, own = weight > 0.5, self.y == self.classes.index(target)
            others = pd.Series(fired[~own]).groupby(self.y[~own]).mean()
            worst = (self.classes[others.idxmax()], others.max()) if len(others) else ("", np.nan)
            rows.append((target, share(fired[own]).value, share(fired[~own]).value, *worst))
        names = ["target", "fires", "false_fires", "worst_class", "worst_fires"]
        return pd.DataFrame(rows, columns=names)


class LiveEdits:
    """Reads edits on cached features through a linear or cosine head.

    The head's product with the features is made once. An edit then adds (its gate's weight) ·
    (head · z_edit) to the rows on which its gate fires, and nothing else is touched. A cosine head
    divides each sample's logits by one positive length, which decides no prediction. Memory: (N, C)
    float64.

    Args:
        classifier: the fine-tuned one.
        features: its representations of labelled images; split: names them.
    Raises:
        EditError: for a head that is neither linear nor a cosine head.
        MismatchError: where classes or dimensions differ.
    """

    def __init__(self, classifier, features, *, split: str = "val"):
        classifier.require_classes(features.classes, "the features")
        z = representations(features.z, classifier.dim, "the head")
        self.classifier, self.features, self.split = classifier, features, split
        self._head, bias = head_rows(classifier)
        self._start = np.asarray(z, float) @ self._head.T + bias
        self.before = self._start.argmax(axis=1)
        self._drawn, self._scores = cache(self._draw), {}

    def scores(self, gate: Gate) -> np.ndarray:
        """The gate's scores (N,); kept, so that another threshold costs nothing."""
        key = gate.rivals, gate.normalise, gate.rows.tobytes()
        if key not in self._scores:
            if len(self._scores) >= _KEPT_GATES:
                self._scores.pop(next(iter(self._scores)))
            self._scores[key] = gate.scores(self.features.z)
        return self._scores[key]

    def read(self, edits: Edit | Sequence[Edit]) -> LiveReadout:
        """What `inject(classifier, edits)` would predict, beside random directions.

        Overlaps are summed, and labels only count. Raises MismatchError for an edit of other
        classes or another dimension.
        """
        edits = (edits,) if isinstance(edits, Edit) else tuple(edits)
        weights, touched, start, acting, steps = self._acting(edits)
        drawn = [e.norm * self._drawn(e.target) for e in edits]  # each (draws, C)
        moves = [steps, *zip(*drawn, strict=True)]
        predicted = np.repeat(self.before[None], len(moves), axis=0)
        scratch = np.empty_like(start)  # one for all: fresh memory costs more than the arithmetic
        for answers, move in zip(predicted, moves, strict=True):
            answers[touched] = _moved(start, acting, move, scratch).argmax(axis=1)
        of = self.features.y, self.features.classes, tuple(e.target for e in edits)
        return LiveReadout(self.before, predicted[0], weights, predicted[1:], *of, self.split)

    def strengths(self, edits: Sequence[Edit], factors: Sequence[float]) -> pd.DataFrame:
        """ACC_f and ACC_r as the first of several edits is scaled, the others as they are.

        ACC_f is over the target of that edit, ACC_r over the classes that no edit targets.

        Returns:
            One row a factor: factor, n_f, acc_f, its 95 % Wilson interval (acc_f_low, acc_f_high),
            and the same for r.
        """
        _, touched, start, acting, steps = self._acting(edits)
        along = acting[0][:, None] * steps[0]
        start = _moved(start, acting[1:], steps[1:], np.empty_like(start))
        y, numbers = self.features.y, [self.classifier.classes.index(e.target) for e in edits]
        own = y == numbers[0]
        counted = own | ~np.isin(y, numbers)
        hit, scratch, rows = self.before == y, np.empty_like(start), []
        for factor in factors:
            np.multiply(along, factor, out=scratch)
            hit[touched] = np.add(scratch, start, out=scratch).argmax(axis=1) == y[touched]
            rows.append({"factor": float(factor)} | split_accuracy(hit[counted], own[counted]))
        return pd.DataFrame(rows)

    def _acting(self, edits):
        """Weights (E, N), rows touched, logits and weights there, and the head of each edit."""
        weights = np.ones((len(edits), len(self.features)))
        for edit, row in zip(edits, weights, strict=True):
            edit.require(self.classifier, weights=False)
            if edit.gate is not None:
                row[:] = edit.gate.weights_of(self.scores(edit.gate))
        anywhere = weights.any(axis=0)  # a slice of all copies nothing
        touched = slice(None) if anywhere.all() else np.flatnonzero(anywhere)
        steps = [self._head @ edit.vector for edit in edits]
        return weights, touched, self._start[touched], weights[:, touched], steps

    def _draw(self, target):
        """What the head makes of random unit directions: (draws, C)."""
        rng = np.random.default_rng([0, self.classifier.classes.index(target)])
        drawn = rng.standard_normal((N_RANDOM, self.classifier.dim))
        return drawn / np.linalg.norm(drawn, axis=1, keepdims=True) @ self._head.T


def _moved(start, acting, steps, out):
    """start (N, C) + acting.T (N, E) @ steps (E, C), written into `out`.

    Each edit visits its own rows, once an ungated one has moved all of them alike. A product of
    such thin matrices would be split among BLAS threads, which wait for one another where a browser
    repaints on the same cores.
    """
    everywhere = (acting == 1).all(axis=1)
    always = sum((step for step, all_ in zip(steps, everywhere, strict=True) if all_), 0.0)
    np.add(start, always, out=out)
    for weight, step, all_ in zip(acting, steps, everywhere, strict=True):
        if not all_:
            rows = np.flatnonzero(weight)
            out[rows] += weight[rows, None] * step
    return out
