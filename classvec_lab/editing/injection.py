"""Latent injection: a classifier whose logits are read from gated, edited representations."""

import copy
from collections.abc import Iterable

import numpy as np
import pandas as pd
import torch
from torch import nn
from torch.nn import functional as F

from ..edits import Edit, require_all
from ..errors import EditError, MismatchError
from ..gates import Gate
from ..models import Classifier

OVERLAPS = ("sum", "first")


class GateModule(nn.Module):
    """A `Gate` in float32 for use inside a network: representations (N, m) to weights (N,) in 0..1, without a label."""

    def __init__(self, gate: Gate):
        super().__init__()
        # the target's row first, and no others where they decide nothing
        rows = [gate.own, *(i for i in range(len(gate.bias)) if gate.rivals and i != gate.own)]
        self.register_buffer("weight", torch.tensor(gate.weight[rows], dtype=torch.float32))
        self.register_buffer("bias", torch.tensor(gate.bias[rows], dtype=torch.float32))
        self.rivals, self.normalise = gate.rivals, gate.normalise
        self.threshold, self.temperature = gate.threshold, gate.temperature

    def forward(self, z: torch.Tensor) -> torch.Tensor:
        """How far the edit acts on each of z (N, m)."""
        read = F.linear(F.normalize(z, dim=-1) if self.normalise else z, self.weight, self.bias)
        score = read[:, 0]
        if self.rivals:
            score = score - read[:, 1:].amax(dim=1)
        above = score - self.threshold
        return (
            torch.sigmoid(above / self.temperature) if self.temperature else (above > 0).to(z.dtype)
        )


class EditedHead(nn.Module):
    """head(z + Σ_i g_i(z) · z_edit_i): every gate reads the raw z, so that no edit hides a sample from another.

    Where several gates fire, `overlap` decides: "sum" adds their edits up, in the order given; "first"
    lets the first one act alone.
    """

    def __init__(self, head: nn.Module, edits: Iterable[Edit], overlap: str = "sum"):
        super().__init__()
        if overlap not in OVERLAPS:
            raise EditError(f"overlap is one of {', '.join(OVERLAPS)}; got {overlap!r}")
        edits = tuple(edits)
        self.head, self.overlap = head, overlap
        self.gates = nn.ModuleList(
            nn.Identity() if e.gate is None else GateModule(e.gate) for e in edits
        )
        dim = head.in_features
        steps = np.stack([e.vector for e in edits]) if edits else np.zeros((0, dim))
        self.register_buffer("steps", torch.tensor(steps, dtype=torch.float32))

    @property
    def in_features(self) -> int:
        """m, the dimension of the representation."""
        return self.head.in_features

    @property
    def out_features(self) -> int:
        """C, the number of classes."""
        return self.head.out_features

    def weights(self, z: torch.Tensor) -> torch.Tensor:
        """How far each edit acts on each of z (N, m): (N, number of edits), overlaps resolved."""
        columns, free = [], torch.ones_like(z[:, 0])
        for gate in self.gates:
            weight = gate(z) if isinstance(gate, GateModule) else torch.ones_like(free)
            if self.overlap == "first":
                weight = weight * free
                free = free - weight
            columns.append(weight)
        return torch.stack(columns, dim=1) if columns else z.new_zeros((len(z), 0))

    def moved(self, z: torch.Tensor) -> torch.Tensor:
        """The representations (N, m) that the original head reads."""
        weights = self.weights(z)
        for i in range(
            len(self.gates)
        ):  # one by one: a sample on which no gate fires keeps every bit
            z = z + weights[:, i : i + 1] * self.steps[i]
        return z

    def forward(self, z: torch.Tensor) -> torch.Tensor:
        """Logits (N, C) of raw representations z (N, m)."""
        return self.head(self.moved(z))


class InjectedClassifier(Classifier):
    """A classifier with latent edits: `encode` gives the raw representation, `logits(z)` gates, edits and reads it.

    `edits` in order of application. As a context manager it takes all edits off on leaving, which
    restores the original's logits bit for bit.
    """

    def __init__(self, encoder: nn.Module, head: EditedHead, edits: tuple[Edit, ...], **of):
        super().__init__(encoder, head, **of)
        self.edits = edits

    def __enter__(self) -> "InjectedClassifier":
        return self

    def __exit__(self, *exception) -> None:
        self.head, self.edits = EditedHead(self.head.head, (), self.head.overlap), ()

    def without(self, *edits: Edit | str) -> Classifier:
        """A copy without these edits, each an `Edit` of `.edits` or the name of a target; with all others as they were."""
        kept = list(self.edits)
        for edit in edits:
            gone = [e for e in kept if e is edit or e.target == edit]
            if not gone:
                have = ", ".join(e.expression for e in kept) or "none"
                raise EditError(
                    f"there is no edit {edit if isinstance(edit, str) else edit.expression!r} to take off; on it: {have}"
                )
            kept = [e for e in kept if e not in gone]
        return _build(self, kept, self.head.overlap)

    def original(self) -> Classifier:
        """A copy of the classifier without any edit."""
        parts = copy.deepcopy(self.encoder), copy.deepcopy(self.head.head)
        return Classifier(
            *parts, classes=self.classes, preprocess=self.preprocess, source=self.source
        )

    def save(self, folder, **facts):
        """Not as one: raises EditError that says to save the model and the edit cards apart."""
        raise EditError(
            "save the model and its edits apart: edited.original().save(folder), and edit.save(path) for each of edited.edits"
        )


def inject(
    classifier: Classifier, edits: Edit | Iterable[Edit], *, overlap: str | None = None
) -> InjectedClassifier:
    """A copy of `classifier` that reads edited representations; the argument is never changed.

    edits: one `Edit` or several, each with its gate or none; on a classifier that has edits they are
    added to those. overlap: "sum" or "first", what happens where several gates fire (see `conflicts`);
    by default as on the classifier, and "sum" on one without edits.
    No label is used. The encoder is untouched: what it knows of a class, a probe still finds.
    Raises MismatchError where an edit was made for another model, EditError for an edit that would
    change nothing. Source: Kim and Do, NeurIPS 2025, latent-space injection.
    """
    edits = [edits] if isinstance(edits, Edit) else list(edits)
    if not edits:
        raise EditError("inject needs at least one edit")
    for edit in edits:
        if not isinstance(edit, Edit):
            raise EditError(
                f"inject takes edits such as -1.5 * vectors['cat'], not {type(edit).__name__}"
            )
    require_all(edits, classifier)
    if overlap is None:
        overlap = getattr(classifier.head, "overlap", "sum")
    return _build(classifier, [*getattr(classifier, "edits", ()), *edits], overlap)


def conflicts(edits: Iterable[Edit], features) -> pd.DataFrame:
    """Samples on which two gates fire at once: one row a pair of edits with n, both, share of all n, and cosine of the edits.

    The cosine says whether the two pull the same way. Edits without a gate fire everywhere.
    """
    edits = tuple(edits)
    z = np.asarray(features.z)
    fired = [np.ones(len(z), bool) if e.gate is None else e.gate.fires(z) for e in edits]
    rows = []
    for i in range(len(edits)):
        for j in range(i + 1, len(edits)):
            both = int((fired[i] & fired[j]).sum())
            a, b = edits[i].vector, edits[j].vector
            cosine = a @ b / max(np.linalg.norm(a) * np.linalg.norm(b), 1e-300)
            names = {"first": edits[i].expression, "second": edits[j].expression}
            rows.append(
                names | {"n": len(z), "both": both, "share": both / len(z), "cosine": float(cosine)}
            )
    return pd.DataFrame(rows, columns=["first", "second", "n", "both", "share", "cosine"])


def read_logits(
    classifier: Classifier,
    edits: Edit | Iterable[Edit],
    z: np.ndarray,
    *,
    overlap: str | None = None,
) -> np.ndarray:
    """Logits (N, C) float64 that `inject(classifier, edits)` gives for stored representations, without a copy of the encoder."""
    edits = (edits,) if isinstance(edits, Edit) else tuple(edits)
    for edit in edits:
        if edit.dim != classifier.dim or edit.classes != classifier.classes:
            raise MismatchError(
                f"the edit {edit.expression} was made for another model: {edit.dim} dimensions, {edit.classes}"
            )
    head, on = classifier.head, getattr(classifier, "edits", ())
    if isinstance(head, EditedHead):
        head, overlap = head.head, overlap or head.overlap
    device = next((t.device for t in (*head.parameters(), *head.buffers())), None)
    with torch.inference_mode():
        z = torch.as_tensor(np.asarray(z), dtype=torch.float32, device=device)
        return (
            EditedHead(head, [*on, *edits], overlap or "sum").to(device)(z).double().cpu().numpy()
        )


def _build(classifier: Classifier, edits: list[Edit], overlap: str) -> InjectedClassifier:
    head = classifier.head.head if isinstance(classifier.head, EditedHead) else classifier.head
    device = next((t.device for t in (*head.parameters(), *head.buffers())), None)
    of = {
        "classes": classifier.classes,
        "preprocess": classifier.preprocess,
        "source": classifier.source,
    }
    edited = EditedHead(copy.deepcopy(head), edits, overlap).to(device)
    return InjectedClassifier(classifier.encoder, edited, tuple(edits), **of)
