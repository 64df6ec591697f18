"""Classes forgotten one after the other, all at once, and taken back: what is left at each step."""

from collections.abc import Mapping

import numpy as np
import pandas as pd

from ..editing import inject
from ..editing.weights import Delta, apply_deltas
from ..edits import Edit
from ..files import hash_arrays
from ..models.weights import to_numpy
from .experiment import Experiment
from .methods import left_of, read


def forget_in_turn(
    exp: Experiment, edits: Mapping[str, Edit] | Mapping[str, Delta], *, seed: int = 0
) -> pd.DataFrame:
    """Put the edits on one after the other, then take them off in an order drawn by `seed`.

    Args:
        edits: target to its edit, or to the delta of its mapping.
    Returns:
        One row a step, on test: step, action ("forget" or "restore"), class, forgotten (how many
        are by then), way ("latent" or "mapping"), acc_f over these and acc_r over the others with
        95 % Wilson intervals and n, and `identical`: whether logits and weights are, bit for bit,
        those of the fine-tuned model with the same edits put on at once.
    Raises:
        EditError: for unknown classes.
    """
    targets = exp.require_targets(edits)
    latent = isinstance(edits[targets[0]], Edit)
    way, put_on = ("latent", inject) if latent else ("mapping", apply_deltas)
    order = np.random.default_rng(seed).permutation(len(targets))
    steps = [("forget", t) for t in targets] + [("restore", targets[i]) for i in order]
    model, now, rows = exp.ft, {}, []
    for i, (action, target) in enumerate(steps, 1):
        edit = edits[target]
        if action == "forget":
            model, now[target] = put_on(model, [edit]), edit
        else:
            model = model.without(edit) if latent else edit.remove_from(model)
            del now[target]
        afresh = put_on(exp.ft, now.values()) if now else exp.ft
        found, other = (read(exp, m, "test") for m in (model, afresh))
        same = np.array_equal(found.logits, other.logits) and _hashes(model) == _hashes(afresh)
        rows.append(
            {
                "step": i,
                "action": action,
                "class": target,
                "forgotten": len(now),
                "way": way,
                "split": "test",
                **left_of(found, now),
                "identical": same,
            }
        )
    return pd.DataFrame(rows)


def _hashes(model) -> list[str]:
    """Of all weights of the encoder, and of the head within any edits."""
    parts = model.encoder, getattr(model.head, "head", model.head)
    return [hash_arrays(to_numpy(part.state_dict())) for part in parts]
