"""Latent injection: a classifier whose logits are read from gated, edited representations."""

from collections.abc import Iterable

import numpy as np
import torch
from torch import nn

from ..checks import listed
from ..edits import Edit, require_all
from ..errors import EditError
from ..gates import Gate
from ..models import Classifier
from .heads import SteppedHead, with_head


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
    """head(z + Σ_i g_i(z) · z_edit_i), added up in the order given.

    Every gate reads the raw z, so that no edit hides a sample from another.
    """

    def __init__(self, head: nn.Module, edits: Iterable[Edit]):
        super().__init__(head)
        self.edits = tuple(edits)
        self.gates = nn.ModuleList(e.gate and GateModule(e.gate) for e in self.edits)
        steps = np.reshape([e.vector for e in self.edits], (-1, head.in_features))
        self.register_buffer("steps", torch.tensor(steps, dtype=torch.float32))

    def step(self, z: torch.Tensor) -> torch.Tensor:
        """The edited representations (N, m)."""
        moved = z
        # one by one: a sample on which no gate fires keeps every bit
        for gate, step in zip(self.gates, self.steps, strict=True):
            moved = moved + (step if gate is None else gate(z)[:, None] * step)
        return moved


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
        self.head = EditedHead(self.head.head, ())

    def without(self, edit: Edit) -> "InjectedClassifier":
        """The classifier without this one of `.edits`; all others stay as they were.

        Encoder and head are shared. Raises EditError for an edit that isn't there.
        """
        kept = [e for e in self.edits if e is not edit]
        if len(kept) == len(self.edits):
            have = listed(e.expression for e in kept) or "none"
            raise EditError(f"there is no edit {edit.expression} to take off; on it: {have}")
        return with_head(self, EditedHead(self.head.head, kept), InjectedClassifier)

    def original(self) -> Classifier:
        """The classifier without any edit; encoder and head are shared."""
        return with_head(self, self.head.head)

    def save(self, folder):
        """Not as one: raises EditError that says to save the model and the edit cards apart."""
        raise EditError(
            "save the model and its edits apart: edited.original().save(folder), "
            "and edit.save(path) for each of edited.edits"
        )


def inject(classifier: Classifier, edits: Edit | Iterable[Edit]) -> InjectedClassifier:
    """The classifier that reads edited representations; the argument is never changed.

    The encoder and the head are shared, not copied: training or writing to them in place shows in
    both. `copy.deepcopy(edited)` makes an independent model; what trains here (`finetune`,
    `unlearn`, `relearn_time`) begins with one. No label is used. What the encoder knows of a class,
    a probe still finds.

    Args:
        edits: one `Edit` or several, each with its gate or none; on a classifier that has edits
            they are added to those. Where several gates fire, their edits add up.
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
    head = classifier.head
    if isinstance(head, EditedHead):
        head, edits = head.head, [*head.edits, *edits]
    return with_head(classifier, EditedHead(head, edits), InjectedClassifier)
