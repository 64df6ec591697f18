"""Many classes forgotten one after the other, all at once, and taken back: what is left at each step."""

from collections.abc import Callable, Sequence
from dataclasses import dataclass

import numpy as np
import pandas as pd

from ..editing.injection import inject
from ..editing.strength import BOUNDS, Bounds
from ..editing.weights.delta import apply_deltas
from ..editing.weights.mapping import map_edit
from ..errors import EditError
from ..features import Features, extract_features
from ..readout import Readout
from ..statistics import split_accuracy
from .experiment import Experiment

WAYS = ("latent", "mapping")


@dataclass(frozen=True)
class _Way:
    """How one kind of edit is put on, put on all at once, and taken off."""

    add: Callable
    at_once: Callable
    remove: Callable


def forget_in_turn(
    exp: Experiment,
    targets: Sequence[str] | None = None,
    *,
    way: str = "latent",
    lambda_: float = -1.5,
    gate: str = "margin",
    seed: int = 0,
    bounds: Bounds = BOUNDS,
) -> pd.DataFrame:
    """Forget the targets one after the other, then take the edits off in an order drawn by `seed`.

    way "latent": lambda_ κ_c behind each class's gate; "mapping": lambda_ κ_c by the closed form, one delta a class.
    One row a step: step, action ("forget" or "restore"), class, forgotten (how many are by then), acc_f over the
    forgotten classes and acc_r over the others, on test, with 95 % Wilson intervals and n, and `identical`: whether
    logits and weights are, bit for bit, those of the fine-tuned model with the same edits put on at once.
    """
    if way not in WAYS:
        raise EditError(f"way is one of {', '.join(WAYS)}; got {way!r}")
    targets = exp.require_targets(targets)
    exp.require_gates([gate])
    if way == "latent":
        edits = {t: lambda_ * exp.vectors[t] for t in targets}
        edits = (
            edits
            if gate == "none"
            else {t: e.gated(exp.gate(t, gate, bounds)) for t, e in edits.items()}
        )
        do = _Way(
            inject,
            lambda model, found: inject(model, found) if found else model,
            lambda model, e: model.without(e),
        )
    else:
        edits = {t: map_edit(exp.ft, lambda_ * exp.vectors[t], exp.moments).delta for t in targets}
        do = _Way(
            lambda model, d: d.apply_to(model), apply_deltas, lambda model, d: d.remove_from(model)
        )
    order = np.random.default_rng(seed).permutation(len(targets))
    steps = [("forget", t) for t in targets] + [("restore", targets[i]) for i in order]
    model, now, rows = exp.ft, [], []
    for i, (action, target) in enumerate(steps, 1):
        if action == "forget":
            model, now = do.add(model, edits[target]), [*now, target]
        else:
            model, now = do.remove(model, edits[target]), [t for t in now if t != target]
        afresh = do.at_once(exp.ft, [edits[t] for t in now])
        features = _features(exp, model)
        found = Readout.of(model, features)
        # equal encoders give equal representations, so that the second head may read the first one's
        same = _same_weights(model, afresh) and np.array_equal(
            found.logits, Readout.of(afresh, features).logits
        )
        row = {
            "step": i,
            "action": action,
            "class": target,
            "forgotten": len(now),
            "way": way,
            "split": "test",
        }
        rows.append(row | _accuracies(found, now) | {"identical": same})
    return pd.DataFrame(rows)


def _features(exp: Experiment, model) -> Features:
    if _same(model.encoder, exp.ft.encoder):
        return exp.features["test"]
    return extract_features(model, exp.data["test"], progress=False, cache=False)


def _accuracies(readout: Readout, forgotten: Sequence[str]) -> dict:
    gone = np.isin(readout.y, [readout.index(t) for t in forgotten])
    return split_accuracy(readout.predicted == readout.y, gone)


def _same_weights(a, b) -> bool:
    """Encoder and the head within any edits."""
    heads = (getattr(model.head, "head", model.head) for model in (a, b))
    return _same(a.encoder, b.encoder) and _same(*heads)


def _same(a, b) -> bool:
    import torch

    first, second = a.state_dict(), b.state_dict()
    return first.keys() == second.keys() and all(torch.equal(first[k], second[k]) for k in first)
