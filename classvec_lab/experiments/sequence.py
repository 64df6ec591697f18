"""Classes forgotten one after the other, all at once, and taken back: what is left at each step."""

from collections.abc import Sequence

import numpy as np
import pandas as pd

from ..checks import one_of
from ..editing.injection import inject
from ..editing.strength import BOUNDS, Bounds
from ..editing.weights import apply_deltas, map_edit
from ..errors import EditError
from ..files import hash_arrays
from ..models.weights import to_numpy
from ..statistics import split_accuracy
from .experiment import Experiment
from .methods import read

WAYS = ("latent", "mapping")


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

    Args:
        way: "latent", lambda_ κ_c behind each class's gate, or "mapping", lambda_ κ_c by the closed
            form, one delta a class.
    Returns:
        One row a step, on test: step, action ("forget" or "restore"), class, forgotten (how many
        are by then), acc_f over these and acc_r over the others with 95 % Wilson intervals and n,
        and `identical`: whether logits and weights are, bit for bit, those of the fine-tuned model
        with the same edits put on at once.
    Raises:
        EditError: for unknown names, before any work.
    """
    latent = one_of(way, WAYS, "way", EditError) == "latent"
    targets = exp.require_targets(targets)
    exp.require_gates([gate])
    edits = {t: lambda_ * exp.vectors[t] for t in targets}
    for t, edit in edits.items():
        mapped = None if latent else map_edit(exp.ft, edit, exp.moments).delta
        edits[t] = mapped or edit.gated(exp.gate(t, gate, bounds))
    order = np.random.default_rng(seed).permutation(len(targets))
    steps = [("forget", t) for t in targets] + [("restore", targets[i]) for i in order]
    model, now, rows = exp.ft, {}, []
    for i, (action, target) in enumerate(steps, 1):
        edit = edits[target]
        if action == "forget":
            model, now[target] = inject(model, edit) if latent else edit.apply_to(model), edit
        else:
            model = model.without(edit) if latent else edit.remove_from(model)
            del now[target]
        put_on = inject if latent and now else apply_deltas
        afresh = put_on(exp.ft, list(now.values()))
        found, other = (read(exp, m, "test") for m in (model, afresh))
        same = np.array_equal(found.logits, other.logits) and _hashes(model) == _hashes(afresh)
        row = {"step": i, "action": action, "class": target, "forgotten": len(now), "way": way}
        gone = np.isin(found.y, [found.index(t) for t in now])
        row |= {"split": "test"} | split_accuracy(found.predicted == found.y, gone)
        rows.append(row | {"identical": same})
    return pd.DataFrame(rows)


def _hashes(model) -> list[str]:
    """Of all weights of the encoder, and of the head within any edits."""
    parts = model.encoder, getattr(model.head, "head", model.head)
    return [hash_arrays(to_numpy(part.state_dict())) for part in parts]
