"""`TaskVector`: the difference of two encoders' weights, with the operators of task arithmetic."""

import copy
from collections.abc import Mapping
from numbers import Real

import pandas as pd
import torch

from ..checks import one_of
from ..errors import MismatchError
from ..models.weights import own_entries, same_entries


class TaskVector:
    """tau = theta_ft - theta_pre over the encoder's floating-point entries.

    Tied weights are one entry. Heads are not part of it: a cosine head is frozen, and a new linear
    head has no pre-trained counterpart. Supports +, unary and binary -, * and / by a number, and
    sum().

    Args:
        deltas: each entry's name in `encoder.state_dict()` to its difference, float32, on the CPU.
    Raises:
        MismatchError: where there is no entry.
    Source: Ilharco et al., ICLR 2023.
    """

    def __init__(self, deltas: Mapping[str, torch.Tensor]):
        if not deltas:
            raise MismatchError("a task vector needs at least one floating-point entry")
        self.deltas = dict(deltas)

    @classmethod
    def between(cls, pre, ft) -> "TaskVector":
        """The difference of two classifiers' encoders.

        Args:
            pre, ft: classifiers of one architecture.
        Raises:
            MismatchError: naming entries that differ in name or shape.
        """
        a, b = _weights(pre), _weights(ft)
        same_entries(b, a, "the fine-tuned encoder", "the pre-trained one")
        return cls({name: b[name] - a[name] for name in a})

    def apply(self, classifier, scale: float = 1.0):
        """Copy a classifier with encoder weights theta + scale · tau and the same head.

        Networks with batch normalisation move their running statistics along; recalibrate them on
        data where the path between two networks matters.

        Args:
            classifier: of the same architecture.
            scale: any number.
        """
        same_entries(self.deltas, _weights(classifier), "the task vector", "the encoder")
        edited = copy.deepcopy(classifier)
        state, moved = edited.encoder.state_dict(), {}
        for name, delta in self.deltas.items():  # all before any is written: some may overlap
            moved[name] = state[name] + float(scale) * delta.to(state[name].device)
        edited.encoder.load_state_dict(moved, strict=False)
        return edited

    def norm(self) -> float:
        """Euclidean length, summed in float64."""
        return sum(d.double().square().sum().item() for d in self.deltas.values()) ** 0.5

    def cosine(self, other: "TaskVector", by: str = "model") -> float | pd.Series:
        """Cosine to another task vector; NaN where a part is zero.

        Args:
            other: of the same architecture.
            by: "model", "block" or "parameter".
        Returns:
            One number, or a series by block or by parameter.
        """
        levels = {"model": lambda _: by, "block": block_of, "parameter": str}
        part_of = levels[one_of(by, levels, "level")]
        self._require(other)
        products = {}
        for name, delta in self.deltas.items():
            a, b = (d.double().flatten() for d in (delta, other.deltas[name]))
            products[name] = [(u @ v).item() for u, v in ((a, b), (a, a), (b, b))]
        sums = pd.DataFrame(products, ["ab", "aa", "bb"]).T.groupby(part_of, sort=False).sum()
        cosine = (sums["ab"] / (sums["aa"] * sums["bb"]) ** 0.5).rename("cosine").rename_axis(by)
        return cosine.item() if by == "model" else cosine

    def _require(self, other) -> None:
        same_entries(other.deltas, self.deltas, "the other task vector", "this one")

    def __add__(self, other):
        if not isinstance(other, TaskVector):
            return NotImplemented
        self._require(other)
        return TaskVector({name: d + other.deltas[name] for name, d in self.deltas.items()})

    def __radd__(self, other):  # sum() starts from 0
        return self if isinstance(other, Real) and other == 0 else NotImplemented

    def __neg__(self):
        return -1 * self

    def __sub__(self, other):
        return self + -other if isinstance(other, TaskVector) else NotImplemented

    def __mul__(self, scale):
        if not isinstance(scale, Real):
            return NotImplemented
        return TaskVector({name: d * float(scale) for name, d in self.deltas.items()})

    __rmul__ = __mul__

    def __truediv__(self, scale):
        return self * (1 / scale) if isinstance(scale, Real) else NotImplemented


def block_of(name: str) -> str:
    """The block of a parameter: its name up to the first number, else its first part.

    "transformer.resblocks.0.attn.in_proj_weight" is in "transformer.resblocks.0".
    """
    parts = name.split(".")
    first = next((i for i, part in enumerate(parts) if part.isdigit()), 0)
    return ".".join(parts[: first + 1])


def _weights(classifier) -> dict[str, torch.Tensor]:
    state = own_entries(classifier.encoder)
    return {k: v.detach().cpu().float() for k, v in state.items() if v.is_floating_point()}
