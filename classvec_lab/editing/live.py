"""Edits read in milliseconds: gated class-vector arithmetic on the head's product with cached features, without any encoder."""

from collections import OrderedDict
from collections.abc import Sequence
from dataclasses import dataclass, field

import numpy as np
import pandas as pd

from ..edits import Edit
from ..errors import EditError, MismatchError
from ..gates import Gate
from ..readout import head_rows
from ..statistics import paired_change, share

N_RANDOM = 5
_KEPT_GATES = 256


@dataclass(frozen=True, eq=False)
class LiveReadout:
    """What edits do to N labelled samples. before, after (N,): predictions; weights (E, N): how far each edit acts.

    control (D, N): predictions under D random directions of the same norms, behind the same gates; targets: the
    class of each edit; y, classes: the labels, which only the counts below read. split names the images.
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

    def per_class(self) -> pd.DataFrame:
        """One row a class: n, accuracy before and after, and under random directions; NaN without samples."""
        size = len(self.classes)
        n = np.bincount(self.y, minlength=size)
        with np.errstate(invalid="ignore"):
            before, after = (
                np.bincount(self.y[p == self.y], minlength=size) / n
                for p in (self.before, self.after)
            )
            drawn = [np.bincount(self.y[p == self.y], minlength=size) / n for p in self.control]
        random = np.mean(drawn, axis=0) if len(drawn) else np.full(size, np.nan)
        return pd.DataFrame(
            {"class": self.classes, "n": n, "before": before, "after": after, "random": random}
        )

    def table(self) -> pd.DataFrame:
        """ACC_f of each edited class and, last, ACC_r of all others ("all others").

        Columns class, n, before, after with its 95 % Wilson interval (low, high), change in share with its paired interval
        (change_low, change_high), random: the same under random directions (mean of the draws), and where an edited class goes:
        called, the class that most of its samples are now taken for, and called_share.
        """
        groups = [
            (name, self.y == self.classes.index(name)) for name in dict.fromkeys(self.targets)
        ]
        groups.append(
            (
                "all others",
                ~np.any([own for _, own in groups], axis=0)
                if groups
                else np.ones(len(self.y), bool),
            )
        )
        rows = []
        for name, own in groups:
            before, after = (p[own] == self.y[own] for p in (self.before, self.after))
            now, moved = share(after), paired_change(before, after)
            row = {
                "class": name,
                "n": now.n,
                "before": share(before).value,
                "after": now.value,
                "low": now.low,
                "high": now.high,
            }
            row |= {
                "change": moved.value,
                "change_low": moved.low,
                "change_high": moved.high,
                "random": np.nan,
            }
            if own.any() and len(self.control):
                row["random"] = np.mean([(p[own] == self.y[own]).mean() for p in self.control])
            rows.append(
                row
                | (
                    self._called(own)
                    if name != "all others"
                    else {"called": "", "called_share": np.nan}
                )
            )
        return pd.DataFrame(rows).assign(split=self.split)

    def _called(self, own: np.ndarray) -> dict:
        count = np.bincount(self.after[own], minlength=len(self.classes))
        if not own.any():
            return {"called": "", "called_share": np.nan}
        return {"called": self.classes[count.argmax()], "called_share": count.max() / own.sum()}

    def says(self) -> tuple[str, ...]:
        """What happens to each edited class and to all others, beside random directions of the same norms."""
        if not self.targets:
            return (f"No edit is on ({self.split} split, n = {len(self.y)}).",)
        said = []
        for row in self.table().itertuples():
            known = f"{row.after:.1%} [{row.low:.1%}, {row.high:.1%}] on {self.split}, from {row.before:.1%} (n = {row.n})"
            random = f"random directions of the same norm leave {row.random:.1%}"
            name = (
                "All classes that no edit targets"
                if row[1] == "all others"
                else f"Class {row[1]!r}"
            )
            moved = (
                "no change shown"
                if row.change_low <= 0 <= row.change_high
                else "less"
                if row.change < 0
                else "more"
            )
            said.append(f"{name}: accuracy {known}: {moved}; {random}.")
        return tuple(said)

    def fires(self) -> pd.DataFrame:
        """One row an edit: its target, shares of the target's samples and of the others on which it acts, the worst class."""
        rows, n = [], np.bincount(self.y, minlength=len(self.classes))
        for target, weight in zip(self.targets, self.weights, strict=True):
            acts, number = weight > 0.5, self.classes.index(target)
            own = self.y == number
            with np.errstate(invalid="ignore"):
                by_class = np.bincount(self.y[acts], minlength=len(n)) / n
            by_class[number] = np.nan
            k = None if np.isnan(by_class).all() else int(np.nanargmax(by_class))
            worst = ("", np.nan) if k is None else (self.classes[k], by_class[k])
            rows.append((target, share(acts[own]).value, share(acts[~own]).value, *worst))
        return pd.DataFrame(
            rows, columns=["target", "fires", "false_fires", "worst_class", "worst_fires"]
        )


@dataclass(eq=False)
class LiveEdits:
    """Reads edits on cached features through a linear or cosine head.

    classifier: the fine-tuned one; features: its representations of labelled images. The head's product with the features is
    made once; an edit then adds (its gate's weight) · (head · z_edit) to the rows on which its gate fires, and nothing else is
    touched. A cosine head divides each sample's logits by one positive length, which decides no prediction. Memory:
    (N, C) float64.
    Raises EditError for a head that is neither, MismatchError where classes or dimensions differ.
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
        if self.features.z.shape[1] != self.classifier.dim:
            raise MismatchError(
                f"the head reads {self.classifier.dim} dimensions; the features have {self.features.z.shape[1]}"
            )
        self._head, bias = head_rows(self.classifier)
        self._start = np.asarray(self.features.z, np.float64) @ self._head.T + bias
        self.before = self._start.argmax(axis=1)

    def scores(self, gate: Gate) -> np.ndarray:
        """The gate's scores (N,) of these features; kept, so that another threshold costs nothing."""
        key = gate.own, gate.rivals, gate.normalise, gate.weight.tobytes(), gate.bias.tobytes()
        if key not in self._scores:
            self._scores[key] = gate.scores(self.features.z)
            if len(self._scores) > _KEPT_GATES:
                self._scores.popitem(last=False)
        return self._scores[key]

    def read(self, edits: Sequence[Edit]) -> LiveReadout:
        """What `inject(classifier, edits)` would predict, overlaps summed, beside random directions. Labels only count."""
        edits = (edits,) if isinstance(edits, Edit) else tuple(edits)
        for edit in edits:
            if edit.dim != self.classifier.dim or edit.classes != tuple(self.classifier.classes):
                raise MismatchError(f"the edit {edit.expression} was made for another model")
        weights = (
            np.stack([self._weights(e.gate) for e in edits])
            if edits
            else np.zeros((0, len(self.features)))
        )
        touched = _touched(weights)
        start, acting = self._start[touched], weights[:, touched]
        after, control = (
            self.before.copy(),
            np.repeat(self.before[None], self.n_random if edits else 0, axis=0),
        )
        if edits:
            scratch = np.empty_like(
                start
            )  # one for all: fresh memory costs more than the arithmetic
            drawn = [e.norm * self._drawn(e.target) for e in edits]  # each (draws, C)
            moves = [
                [self._head @ e.vector for e in edits],
                *([step[d] for step in drawn] for d in range(len(control))),
            ]
            for predicted, steps in zip((after, *control), moves, strict=True):
                predicted[touched] = _moved(start, acting, steps, scratch).argmax(axis=1)
        targets = tuple(e.target for e in edits)
        return LiveReadout(
            self.before,
            after,
            weights,
            control,
            self.features.y,
            tuple(self.features.classes),
            targets,
            self.split,
        )

    def strengths(
        self, edits: Sequence[Edit], which: int, factors: Sequence[float]
    ) -> pd.DataFrame:
        """ACC_f (the target of edit `which`) and ACC_r (classes that no edit targets) as that edit is scaled by each factor.

        Columns factor, acc_f, acc_r and their 95 % Wilson intervals (acc_f_low, …), n_f, n_r.
        """
        if not 0 <= which < len(edits):
            raise EditError(f"there are {len(edits)} edits; no number {which}")
        own = self.features.y == self.classifier.classes.index(edits[which].target)
        targeted = np.isin(
            self.features.y, [self.classifier.classes.index(e.target) for e in edits]
        )
        weights = np.stack([self._weights(e.gate) for e in edits])
        touched = _touched(weights)
        steps = np.stack([self._head @ e.vector for e in edits])
        others = np.delete(np.arange(len(edits)), which)
        start = self._start[touched]
        start = _moved(start, weights[others][:, touched], steps[others], np.empty_like(start))
        along = weights[which, touched][:, None] * steps[which]
        hit, y, scratch, rows = (
            self.before == self.features.y,
            self.features.y[touched],
            np.empty_like(start),
            [],
        )
        for factor in factors:
            np.multiply(along, factor, out=scratch)
            hit[touched] = np.add(scratch, start, out=scratch).argmax(axis=1) == y
            row = {"factor": float(factor)}
            for name, chosen in (("f", own), ("r", ~targeted)):
                found = share(hit[chosen])
                row |= {
                    f"n_{name}": found.n,
                    f"acc_{name}": found.value,
                    f"acc_{name}_low": found.low,
                    f"acc_{name}_high": found.high,
                }
            rows.append(row)
        return pd.DataFrame(rows)

    def _weights(self, gate: Gate | None) -> np.ndarray:
        return np.ones(len(self.features)) if gate is None else gate.weights_of(self.scores(gate))

    def _drawn(self, target: str) -> np.ndarray:
        """What the head makes of random unit directions: (draws, C)."""
        if target not in self._random:
            rng = np.random.default_rng([self.seed, self.classifier.classes.index(target)])
            drawn = rng.standard_normal((self.n_random, self.classifier.dim))
            self._random[target] = (
                drawn / np.linalg.norm(drawn, axis=1, keepdims=True) @ self._head.T
            )
        return self._random[target]


def _moved(
    start: np.ndarray, acting: np.ndarray, steps: Sequence[np.ndarray], out: np.ndarray
) -> np.ndarray:
    """start (N, C) + acting.T (N, E) @ steps (E, C), written into `out`.

    Each edit visits its own rows, once an ungated one has moved all of them alike. A product of such thin matrices would be
    split among BLAS threads, which wait for one another where a browser repaints on the same cores.
    """
    everywhere = (acting == 1).all(axis=1)
    np.add(
        start,
        sum((step for step, always in zip(steps, everywhere, strict=True) if always), 0.0),
        out=out,
    )
    for weight, step, always in zip(acting, steps, everywhere, strict=True):
        if not always:
            rows = np.flatnonzero(weight)
            out[rows] += weight[rows, None] * step
    return out


def _touched(weights: np.ndarray) -> np.ndarray | slice:
    """Rows on which any edit acts; a slice, which copies nothing, where it is all of them."""
    acting = weights.any(axis=0)
    return slice(None) if acting.all() else np.flatnonzero(acting)
