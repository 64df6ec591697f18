"""`TaskVector`: the difference of two encoders' weights, with the operators of task arithmetic."""

import copy
import math
from collections.abc import Mapping
from numbers import Real

import pandas as pd
import torch

from ..errors import MismatchError

LEVELS = ("model", "block", "parameter")


class TaskVector:
    """tau = theta_ft - theta_pre over the encoder's floating-point entries (Ilharco et al., ICLR
    2023).

    `deltas` maps each entry's name in `encoder.state_dict()` to its difference, float32, on the
    CPU. Heads are not part of it: a cosine head is frozen, and a new linear head has no pre-trained
    counterpart. Supports +, unary and binary -, * and / by a number, and sum().
    """

    def __init__(self, deltas: Mapping[str, torch.Tensor]):
        if not deltas:
            raise MismatchError("a task vector needs at least one floating-point entry")
        self.deltas = dict(deltas)

    @classmethod
    def between(cls, pre, ft) -> "TaskVector":
        """From two classifiers of one architecture. Raises MismatchError naming entries that
        differ in name or shape.
        """
        a, b = _weights(pre), _weights(ft)
        _require_same(
            _shapes(a),
            _shapes(b),
            "the pre-trained encoder",
            "the fine-tuned one",
        )
        return cls({name: b[name] - a[name] for name in a})

    def apply(self, classifier, scale: float = 1.0):
        """A copy of `classifier` with encoder weights theta + scale · tau; the head and the
        argument stay as they are.

        Networks with batch normalisation move their running statistics along; recalibrate them on
        data where the path between two networks matters.
        """
        own = _weights(classifier)
        _require_same(_shapes(self.deltas), _shapes(own), "the task vector", "the encoder")
        edited = copy.deepcopy(classifier)
        state = edited.encoder.state_dict()
        with torch.no_grad():
            for name, delta in self.deltas.items():
                state[name].add_(delta.to(state[name].device), alpha=float(scale))
        return edited

    def norm(self) -> float:
        """Euclidean length, summed in float64."""
        return math.sqrt(sum(d.double().square().sum().item() for d in self.deltas.values()))

    def cosine(self, other: "TaskVector", by: str = "model") -> float | pd.Series:
        """Cosine to another task vector: one number, or a series by block or by parameter; NaN
        where a part is zero.
        """
        if by not in LEVELS:
            raise ValueError(f"by must be one of {', '.join(LEVELS)}; got {by!r}")
        _require_same(
            _shapes(self.deltas),
            _shapes(other.deltas),
            "one task vector",
            "the other",
        )
        parts: dict[str, list[float]] = {}
        for name, a in self.deltas.items():
            group = {"model": "model", "block": block_of(name), "parameter": name}[by]
            a, b = a.double().flatten(), other.deltas[name].double().flatten()
            sums = parts.setdefault(group, [0.0, 0.0, 0.0])
            for i, value in enumerate((a @ b, a @ a, b @ b)):
                sums[i] += value.item()
        cosines = {
            g: ab / math.sqrt(aa * bb) if aa * bb > 0 else math.nan
            for g, (ab, aa, bb) in parts.items()
        }
        return (
            cosines["model"] if by == "model" else pd.Series(cosines, name="cosine").rename_axis(by)
        )

    def _map(self, function) -> "TaskVector":
        return TaskVector({name: function(name, delta) for name, delta in self.deltas.items()})

    def __add__(self, other):
        if not isinstance(other, TaskVector):
            return NotImplemented
        _require_same(
            _shapes(self.deltas),
            _shapes(other.deltas),
            "one task vector",
            "the other",
        )
        return self._map(lambda name, delta: delta + other.deltas[name])

    def __radd__(self, other):
        return (
            self if isinstance(other, Real) and other == 0 else NotImplemented
        )  # sum() starts from 0

    def __neg__(self):
        return self._map(lambda _, delta: -delta)

    def __sub__(self, other):
        return self + -other if isinstance(other, TaskVector) else NotImplemented

    def __mul__(self, scale):
        return (
            self._map(lambda _, delta: delta * float(scale))
            if isinstance(scale, Real)
            else NotImplemented
        )

    __rmul__ = __mul__

    def __truediv__(self, scale):
        return self * (1 / scale) if isinstance(scale, Real) else NotImplemented

    def __repr__(self) -> str:
        size = sum(d.numel() for d in self.deltas.values())
        return f"<TaskVector: {len(self.deltas)} entries, {size:,} weights, norm {self.norm():.4g}>"


def block_of(name: str) -> str:
    """The block a parameter belongs to: its name up to the first number
    ("transformer.resblocks.0"), else its first part.
    """
    parts = name.split(".")
    for i, part in enumerate(parts):
        if part.isdigit():
            return ".".join(parts[: i + 1])
    return parts[0]


def _weights(classifier) -> dict[str, torch.Tensor]:
    state = classifier.encoder.state_dict()
    return {k: v.detach().cpu().float() for k, v in state.items() if v.is_floating_point()}


def _shapes(tensors: Mapping[str, torch.Tensor]) -> dict[str, torch.Size]:
    return {name: tensor.shape for name, tensor in tensors.items()}


def _require_same(a: Mapping, b: Mapping, name_a: str, name_b: str) -> None:
    problems = [f"only in {name_a}: {k}" for k in a if k not in b] + [
        f"only in {name_b}: {k}" for k in b if k not in a
    ]
    problems += [
        f"{k} has shape {tuple(a[k])} in {name_a} and {tuple(b[k])} in {name_b}"
        for k in a
        if k in b and a[k] != b[k]
    ]
    if problems:
        more = f" and {len(problems) - 3} more" if len(problems) > 3 else ""
        raise MismatchError(f"{name_a} and {name_b} don't fit: {'; '.join(problems[:3])}{more}")
