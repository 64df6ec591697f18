"""Latent injection: a classifier whose logits are read from gated, edited representations."""

from collections.abc import Iterable
from itertools import combinations

import numpy as np
import pandas as pd
import torch
from torch import nn

from ..checks import one_of
from ..edits import Edit, require_all
from ..errors import EditError
from ..gates import Gate
from ..models import Classifier
from .heads import SteppedHead, with_head

OVERLAPS = ("sum", "first")


class GateModule(nn.Module):
    """A `Gate` inside a network: representations (N, m) to weights (N,) in 0..1, without a label.

    It decides as `Gate.scores` does: in float64, from z in float32. So it keeps its numbers in
    float64 whatever the network is cast to, and on the CPU where a device has no float64.
    """

    def __init__(self, gate: Gate):
        super().__init__()
        self.gate = gate
        self.register_buffer("rows", torch.tensor(gate.rows))

    def _apply(self, fn, recurse=True):
        exact = self.rows
        try:
            super()._apply(fn, recurse)
        except TypeError:  # a device such as mps, which has no float64
            return self
        self.rows = exact.to(self.rows.device)
        return self

    def forward(self, z: torch.Tensor) -> torch.Tensor:
        """How far the edit acts on each of z (N, m)."""
        exact = z.float().to(self.rows.device).double()
        score = self.gate.score_of(exact, self.rows, torch)
        return self.gate.weights_of(score, torch).to(z)


class EditedHead(SteppedHead):
    """head(z + Σ_i g_i(z) · z_edit_i).

    Every gate reads the raw z, so that no edit hides a sample from another.

    Where several gates fire, `overlap` decides: "sum" adds their edits up, in the order given;
    "first" lets the first one act alone.
    """

    def __init__(self, head: nn.Module, edits: Iterable[Edit], overlap: str = "sum"):
        super().__init__(head)
        self.overlap = one_of(overlap, OVERLAPS, "overlap", EditError)
        self.edits = tuple(edits)
        self.gates = nn.ModuleList(
            nn.Identity() if e.gate is None else GateModule(e.gate) for e in self.edits
        )
        steps = np.reshape([e.vector for e in self.edits], (-1, head.in_features))
        self.register_buffer("steps", torch.tensor(steps, dtype=torch.float32))

    def weights(self, z: torch.Tensor) -> torch.Tensor:
        """How far each edit acts on each of z (N, m): (N, number of edits), overlaps resolved."""
        columns, free = [], torch.ones_like(z[:, 0])
        for gate in self.gates:
            weight = gate(z) if isinstance(gate, GateModule) else torch.ones_like(free)
            if self.overlap == "first":
                weight = weight * free
                free = free - weight
            columns.append(weight[:, None])
        return torch.cat([z[:, :0], *columns], dim=1)

    def step(self, z: torch.Tensor) -> torch.Tensor:
        """The edited representations (N, m)."""
        # one by one: a sample on which no gate fires keeps every bit
        for weight, step in zip(self.weights(z).T, self.steps, strict=True):
            z = z + weight[:, None] * step
        return z


class InjectedClassifier(Classifier):
    """A classifier with latent edits: `logits(z)` gates, edits and reads what `encode` gives.

    It shares encoder and head with the classifier that was edited, see `inject`. As a context
    manager it takes all edits off on leaving, which restores the original's logits bit for bit.
    """

    @property
    def edits(self) -> tuple[Edit, ...]:
        """The edits in order of application."""
        return self.head.edits

    def __enter__(self) -> "InjectedClassifier":
        return self

    def __exit__(self, *exception) -> None:
        self.head = EditedHead(self.head.head, (), self.head.overlap)

    def without(self, *edits: Edit | str) -> "InjectedClassifier":
        """The classifier without these edits, each an `Edit` of `.edits` or the name of a target.

        All others stay as they were; encoder and head are shared. Raises EditError for an edit that
        isn't there.
        """
        kept = list(self.edits)
        for edit in edits:
            left = [e for e in kept if e is not edit and e.target != edit]
            if len(left) == len(kept):
                what = edit if isinstance(edit, str) else edit.expression
                have = ", ".join(e.expression for e in kept) or "none"
                raise EditError(f"there is no edit {what!r} to take off; on it: {have}")
            kept = left
        return _edited(self, kept, self.head.overlap)

    def original(self) -> Classifier:
        """The classifier without any edit; encoder and head are shared."""
        return with_head(self, self.head.head)

    def save(self, folder):
        """Not as one: raises EditError that says to save the model and the edit cards apart."""
        raise EditError(
            "save the model and its edits apart: edited.original().save(folder), "
            "and edit.save(path) for each of edited.edits"
        )


def inject(
    classifier: Classifier, edits: Edit | Iterable[Edit], *, overlap: str | None = None
) -> InjectedClassifier:
    """The classifier that reads edited representations; the argument is never changed.

    The encoder and the head are shared, not copied: training or writing to them in place shows in
    both. `copy.deepcopy(edited)` makes an independent model; what trains here (`finetune`,
    `unlearn`, `relearn_time`) begins with one. No label is used. What the encoder knows of a class,
    a probe still finds.

    Args:
        edits: one `Edit` or several, each with its gate or none; on a classifier that has edits
            they are added to those.
        overlap: "sum" or "first", what happens where several gates fire (see `conflicts`); by
            default as on the classifier, and "sum" on one without edits.
    Raises:
        MismatchError: where an edit was made for another model.
        EditError: for an edit that would change nothing.
    Source: Kim and Do, NeurIPS 2025, latent-space injection.
    """
    edits = [edits] if isinstance(edits, Edit) else list(edits)
    if not edits:
        raise EditError("inject needs at least one edit")
    for edit in edits:
        if not isinstance(edit, Edit):
            name = type(edit).__name__
            raise EditError(f"inject takes edits such as -1.5 * vectors['cat'], not {name}")
    require_all(edits, classifier)
    overlap = overlap or getattr(classifier.head, "overlap", "sum")
    return _edited(classifier, [*getattr(classifier, "edits", ()), *edits], overlap)


def conflicts(edits: Iterable[Edit], features) -> pd.DataFrame:
    """Samples on which two gates fire at once.

    Returns:
        One row a pair of edits: first, second, n, both, share of all n, and the cosine of the
        edits, which says whether the two pull the same way. Edits without a gate fire everywhere.
    """
    rows, n = [], len(features)
    fired = [(e, np.ones(n, bool) if e.gate is None else e.gate.fires(features.z)) for e in edits]
    for (a, first), (b, second) in combinations(fired, 2):
        both = int((first & second).sum())
        cosine = a.vector @ b.vector / max(a.norm * b.norm, 1e-300)
        rows.append((a.expression, b.expression, n, both, both / n, cosine))
    return pd.DataFrame(rows, columns=["first", "second", "n", "both", "share", "cosine"])


def _edited(classifier: Classifier, edits: list[Edit], overlap: str) -> InjectedClassifier:
    head = classifier.head.head if isinstance(classifier.head, EditedHead) else classifier.head
    return with_head(classifier, EditedHead(head, edits, overlap), InjectedClassifier)
