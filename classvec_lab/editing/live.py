"""Edits read in milliseconds: class-vector arithmetic on the head's product with cached features.

No image passes through an encoder.
"""

from collections import OrderedDict
from collections.abc import Sequence
from dataclasses import dataclass, field

import numpy as np
import pandas as pd

from .. import words
from ..checks import representations
from ..edits import Edit
from ..errors import EditError
from ..gates import Gate
from ..readout import head_rows
from ..statistics import class_counts, paired_change, share, shares, split_accuracy
from .calibration import firing

N_RANDOM = 5
OTHERS = "all others"
_KEPT_GATES = 256


@dataclass(frozen=True, eq=False)
class LiveReadout:
    """What edits do to N labelled samples.

    Args:
        before, after: predictions (N,).
        weights: (E, N), how far each edit acts.
        control: (D, N), predictions under D random directions of the same norms, behind the same gates.
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

    def _hits(self, chosen=slice(None)) -> list[np.ndarray]:
        """Where the chosen samples are right: before, after, and under each random direction."""
        predictions = (self.before, self.after, *self.control)
        return [p[chosen] == self.y[chosen] for p in predictions]

    def per_class(self) -> pd.DataFrame:
        """One row a class: n, accuracy before and after, and under random directions; NaN without samples."""
        counts = [class_counts(hit, self.y, len(self.classes)) for hit in self._hits()]
        before, after, *drawn = (shares(*found)[0] for found in counts)
        random = np.mean(drawn, axis=0) if drawn else np.nan
        frame = {"class": self.classes, "n": counts[0][1], "before": before, "after": after}
        return pd.DataFrame({**frame, "random": random})

    def table(self) -> pd.DataFrame:
        """ACC_f of each edited class and, last, ACC_r of all others ("all others").

        Returns:
            A frame with class, n, before, after and its 95 % Wilson interval (low, high), change in
            share with its paired interval (change_low, change_high), random (the same as after under
            random directions, mean of the draws), called (the class that most samples of an edited
            class are now taken for), called_share and split.
        """
        own = {name: self.y == self.classes.index(name) for name in self.targets}
        rest = ~np.any([np.zeros(len(self.y), bool), *own.values()], axis=0)
        rows = []
        for name, chosen in (*own.items(), (OTHERS, rest)):
            before, after, *drawn = self._hits(chosen)
            now, moved = share(after), paired_change(before, after)
            called = np.bincount(self.after[chosen], minlength=len(self.classes))
            told = name != OTHERS and now.n
            rows.append(
                {
                    "class": name,
                    "n": now.n,
                    "before": share(before).value,
                    "after": now.value,
                    "low": now.low,
                    "high": now.high,
                    "change": moved.value,
                    "change_low": moved.low,
                    "change_high": moved.high,
                    "random": np.mean(drawn) if drawn and now.n else np.nan,
                    "called": self.classes[called.argmax()] if told else "",
                    "called_share": called.max() / now.n if told else np.nan,
                }
            )
        return pd.DataFrame(rows).assign(split=self.split)

    def says(self) -> tuple[str, ...]:
        """What happens to each edited class and to all others, beside random directions of the same norms."""
        if not self.targets:
            return (f"No edit is on ({self.split} split, n = {len(self.y)}).",)
        said = []
        for _, row in self.table().iterrows():
            edited = f"Class {row['class']!r}"
            name = edited if row["class"] != OTHERS else "All classes that no edit targets"
            if not row["n"]:
                said.append(f"{name}: no sample on {self.split}.")
                continue
            moved = words.change(row["change_low"], row["change_high"])
            random = f"; random directions of the same norm leave {words.percent(row['random'])}"
            said.append(
                f"{name}: accuracy {words.percent(row['after'], row['low'], row['high'])} "
                f"on {self.split}, from {words.percent(row['before'])} (n = {row['n']}): {moved}"
                f"{random if len(self.control) else ''}."
            )
        return tuple(said)

    def fires(self) -> pd.DataFrame:
        """Where each edit acts by more than a half, see `firing`.

        Returns:
            One row an edit: target, fires and false_fires (shares of the target's samples and of all
            others), worst_class (the other class on which it acts most) and worst_fires.
        """
        rows = []
        for target, weight in zip(self.targets, self.weights, strict=True):
            table = firing(weight > 0.5, self.y, self.classes, target)
            worst = table.loc[table["worst"], ["class", "rate"]].to_numpy().tolist() or [
                ("", np.nan)
            ]
            rows.append((target, *table["rate"].iloc[:2], *worst[0]))
        columns = ["target", "fires", "false_fires", "worst_class", "worst_fires"]
        return pd.DataFrame(rows, columns=columns)


@dataclass(eq=False)
class LiveEdits:
    """Reads edits on cached features through a linear or cosine head.

    The head's product with the features is made once. An edit then adds (its gate's weight) ·
    (head · z_edit) to the rows on which its gate fires, and nothing else is touched. A cosine head
    divides each sample's logits by one positive length, which decides no prediction. Memory: (N, C)
    float64.

    Args:
        classifier: the fine-tuned one.
        features: its representations of labelled images; split: names them.
        n_random: random directions to compare with; seed: draws them.
    Raises:
        EditError: for a head that is neither linear nor a cosine head.
        MismatchError: where classes or dimensions differ.
    """

    classifier: object
    features: object
    n_random: int = N_RANDOM
    seed: int = 0
    split: str = "val"
    _scores: OrderedDict = field(default_factory=OrderedDict, init=False, repr=False)
    _random: dict = field(default_factory=dict, init=False, repr=False)

    def __post_init__(self):
        self.classifier.require_classes(self.features.classes, "the features")
        z = representations(self.features.z, self.classifier.dim, "the head")
        self._head, bias = head_rows(self.classifier)
        self._start = np.asarray(z, np.float64) @ self._head.T + bias
        self.before = self._start.argmax(axis=1)

    def scores(self, gate: Gate) -> np.ndarray:
        """The gate's scores (N,) of these features; kept, so that another threshold costs nothing."""
        key = gate.own, gate.rivals, gate.normalise, gate.weight.tobytes(), gate.bias.tobytes()
        if key not in self._scores:
            self._scores[key] = gate.scores(self.features.z)
            if len(self._scores) > _KEPT_GATES:
                self._scores.popitem(last=False)
        return self._scores[key]

    def read(self, edits: Edit | Sequence[Edit]) -> LiveReadout:
        """What `inject(classifier, edits)` would predict, overlaps summed, beside random directions.

        Labels only count. Raises MismatchError for an edit of other classes or another dimension.
        """
        edits = (edits,) if isinstance(edits, Edit) else tuple(edits)
        weights = self._weights(edits)
        touched = _touched(weights)
        start, acting = self._start[touched], weights[:, touched]
        drawn = [e.norm * self._drawn(e.target) for e in edits]  # each (draws, C)
        moves = [[self._head @ e.vector for e in edits], *zip(*drawn, strict=True)]
        predicted = np.repeat(self.before[None], len(moves), axis=0)
        scratch = np.empty_like(start)  # one for all: fresh memory costs more than the arithmetic
        for answers, steps in zip(predicted, moves if edits else (), strict=False):
            answers[touched] = _moved(start, acting, steps, scratch).argmax(axis=1)
        after, control = predicted[0], predicted[1:]
        of = self.features.y, tuple(self.features.classes), tuple(e.target for e in edits)
        return LiveReadout(self.before, after, weights, control, *of, self.split)

    def strengths(
        self, edits: Sequence[Edit], which: int, factors: Sequence[float]
    ) -> pd.DataFrame:
        """ACC_f and ACC_r as one of several edits is scaled by each factor, the others as they are.

        ACC_f is over the target of edit `which`, ACC_r over the classes that no edit targets. Returns
        one row a factor: factor, n_f, acc_f, its 95 % Wilson interval (acc_f_low, acc_f_high), and
        the same for r. Raises EditError where there is no edit `which`.
        """
        if not 0 <= which < len(edits):
            raise EditError(f"there are {len(edits)} edits; no number {which}")
        weights = self._weights(edits)
        touched = _touched(weights)
        steps = np.stack([self._head @ e.vector for e in edits])
        others = np.delete(np.arange(len(edits)), which)
        start = self._start[touched]
        start = _moved(start, weights[others][:, touched], steps[others], np.empty_like(start))
        along = weights[which, touched][:, None] * steps[which]
        y, numbers = self.features.y, [self.classifier.classes.index(e.target) for e in edits]
        own = y == numbers[which]
        counted = own | ~np.isin(y, numbers)
        hit, scratch, rows = self.before == y, np.empty_like(start), []
        for factor in factors:
            np.multiply(along, factor, out=scratch)
            hit[touched] = np.add(scratch, start, out=scratch).argmax(axis=1) == y[touched]
            rows.append({"factor": float(factor)} | split_accuracy(hit[counted], own[counted]))
        return pd.DataFrame(rows)

    def _weights(self, edits: Sequence[Edit]) -> np.ndarray:
        """How far each edit acts on each sample, (E, N)."""
        weights = np.ones((len(edits), len(self.features)))
        for edit, row in zip(edits, weights, strict=True):
            edit.require(self.classifier, weights=False)
            if edit.gate is not None:
                row[:] = edit.gate.weights_of(self.scores(edit.gate))
        return weights

    def _drawn(self, target: str) -> np.ndarray:
        """What the head makes of random unit directions: (draws, C)."""
        if target not in self._random:
            rng = np.random.default_rng([self.seed, self.classifier.classes.index(target)])
            drawn = rng.standard_normal((self.n_random, self.classifier.dim))
            unit = drawn / np.linalg.norm(drawn, axis=1, keepdims=True)
            self._random[target] = unit @ self._head.T
        return self._random[target]


def _moved(
    start: np.ndarray, acting: np.ndarray, steps: Sequence[np.ndarray], out: np.ndarray
) -> np.ndarray:
    """start (N, C) + acting.T (N, E) @ steps (E, C), written into `out`.

    Each edit visits its own rows, once an ungated one has moved all of them alike. A product of such
    thin matrices would be split among BLAS threads, which wait for one another where a browser
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


def _touched(weights: np.ndarray) -> np.ndarray | slice:
    """Rows on which any edit acts; a slice, which copies nothing, where it is all of them."""
    acting = weights.any(axis=0)
    return slice(None) if acting.all() else np.flatnonzero(acting)
