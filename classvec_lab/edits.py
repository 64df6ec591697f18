"""`Edit`: a displacement of one class's representations, a sum of named directions. Arrays only."""

import json
from collections.abc import Mapping, Sequence
from dataclasses import field, replace
from functools import partial
from numbers import Real
from pathlib import Path
from types import MappingProxyType

import numpy as np

from .checks import listed, named, one_of, record, same_classes
from .errors import EditError, FileFormatError, MismatchError
from .files import hash_json, read_tensors, reading, write_tensors
from .gates import Gate

KIND = "edit card"
_PLAIN = ("target", "classes", "ft", "pre", "data")


@record
class Edit:
    """z_edit = Σ coefficient · direction, added to z where the gate fires, or everywhere.

    Edits are added, subtracted, negated and scaled while they carry no gate; scaling keeps a gate.
    A sum keeps the target of its first edit.

    Args:
        directions: names such as "κ[cat]" to vectors (m,), finite.
        coefficients: the same names to numbers.
        target: the class whose samples are meant; classes: the C names that the model tells apart.
        gate: decides on which samples the edit acts; None for all of them.
        ft: fingerprint of the fine-tuned model whose representations are edited, where known.
        pre: that of the pre-trained model; data: that of the data behind the directions.
        facts: JSON-able remarks, saved along.
    Raises:
        MismatchError: for shapes, classes or models that differ.
    """

    directions: Mapping[str, np.ndarray]
    coefficients: Mapping[str, float]
    target: str
    classes: tuple[str, ...]
    gate: Gate | None = None
    ft: str | None = None
    pre: str | None = None
    data: str | None = None
    facts: Mapping[str, object] = field(default_factory=dict)

    __array_ufunc__ = None  # np.float64(2) * edit and array * edit are left to `__rmul__`

    def __post_init__(self):
        directions = {str(k): np.array(v, dtype=float) for k, v in self.directions.items()}
        coefficients = {str(k): float(v) for k, v in self.coefficients.items()}
        classes = named(self.classes)
        shapes = {v.shape for v in directions.values()}
        if [len(shape) for shape in shapes] != [1] or directions.keys() != coefficients.keys():
            raise MismatchError(
                "an edit needs directions of one shape (m,) and a coefficient for each; "
                f"got {sorted(map(str, shapes))}, {list(directions)} and {list(coefficients)}"
            )
        bad = [k for k, v in directions.items() if not np.isfinite([*v, coefficients[k]]).all()]
        if bad:
            raise MismatchError(f"not finite in an edit: {listed(bad)}")
        one_of(self.target, classes, "class")
        for vector in directions.values():
            vector.flags.writeable = False
        vars(self).update(
            directions=MappingProxyType(directions),
            coefficients=MappingProxyType(coefficients),
            facts=MappingProxyType(dict(self.facts)),
            classes=classes,
        )

    @classmethod
    def along(cls, name: str, direction: np.ndarray, *, target: str, classes, **origin) -> "Edit":
        """An edit of strength 1 along one direction (m,); origin: ft, pre, data, facts."""
        return cls({name: direction}, {name: 1.0}, target, classes, **origin)

    @property
    def vector(self) -> np.ndarray:
        """z_edit (m,) float64."""
        return np.sum([self.coefficients[k] * v for k, v in self.directions.items()], axis=0)

    @property
    def norm(self) -> float:
        """Length of z_edit."""
        return float(np.linalg.norm(self.vector))

    @property
    def dim(self) -> int:
        """m, the dimension of the representation."""
        return len(next(iter(self.directions.values())))

    @property
    def expression(self) -> str:
        """The sum as text, as in "-1.5·κ[3] + 1.5·κ[5]"."""
        text = ""
        for name, c in self.coefficients.items():
            size = "" if abs(c) == 1 else f"{abs(c):.6g}·"
            sign = ("-" if c < 0 else "") if not text else (" - " if c < 0 else " + ")
            text += f"{sign}{size}{name}"
        return text

    def gated(self, gate: Gate | None) -> "Edit":
        """This edit behind `gate`, whose target becomes the edit's, or for None without any.

        Raises MismatchError for a gate of other classes or another dimension.
        """
        if gate is None:
            return replace(self, gate=None)
        if (gate.classes, gate.dim) != (self.classes, self.dim):
            raise MismatchError(
                f"the gate reads {gate.dim} dimensions and classes {listed(gate.classes, 10)}; "
                f"the edit has {self.dim} and {listed(self.classes, 10)}"
            )
        return replace(self, gate=gate, target=gate.target)

    def scaled_to(self, norm: float) -> "Edit":
        """The same direction with the length `norm`; raises EditError for an edit of norm 0."""
        return self.require_effect() * (norm / self.norm)

    def require_effect(self) -> "Edit":
        """Raise EditError where all coefficients are 0 or the sum has norm 0. Returns self."""
        if not any(self.coefficients.values()):
            why = "strength 0 and would change nothing; choose lambda other than 0"
        elif self.norm == 0:
            why = (
                "norm 0 and would change nothing: its directions cancel, or fine-tuning moved "
                f"class {self.target!r} nowhere (are both models the same?)"
            )
        else:
            return self
        raise EditError(f"the edit {self.expression} has {why}")

    def require(self, classifier, *, weights: bool = True) -> "Edit":
        """Raise MismatchError, saying what differs, unless the edit fits. Returns self.

        Args:
            classifier: its classes and dimension must be the edit's.
            weights: whether the encoder's fingerprint must be, too, where both are known. To
                compute it takes a while for a large encoder.
        """
        known = classifier.fingerprint if weights and self.ft else None
        pairs = {
            "classes": (self.classes, tuple(classifier.classes)),
            "dimension": ([self.dim], [classifier.dim]),
            "weights or preprocessing": ([self.ft], [known or self.ft]),
        }
        differ = " and in ".join(
            f"{what} (edit: {listed(own, 10)}; model: {listed(other, 10)})"
            for what, (own, other) in pairs.items()
            if own != other
        )
        if differ:
            raise MismatchError(
                f"the edit {self.expression} was made for another model than {classifier.name!r}: "
                f"they differ in {differ}"
            )
        return self

    def __add__(self, other: "Edit") -> "Edit":
        if not isinstance(other, Edit):
            return NotImplemented
        if self.gate is not None or other.gate is not None:
            raise EditError(
                "compose edits first and gate the sum, (a + b).gated(gate); "
                "to apply several gates, inject a list"
            )
        same_classes(other.classes, self.classes, "the edit to add", "the first edit")
        if self.dim != other.dim or len({self.ft, other.ft} - {None}) > 1:
            told = (f"{e.dim} dimensions, model {e.ft or 'unknown'}" for e in (self, other))
            raise MismatchError(f"edits of different models can't be added: {' and '.join(told)}")
        for name in self.directions.keys() & other.directions.keys():
            if not np.array_equal(self.directions[name], other.directions[name]):
                raise MismatchError(
                    f"two different directions are both called {name}: "
                    "make one of them under another name"
                )
        directions = {**self.directions, **other.directions}
        both = self.coefficients, other.coefficients
        return replace(
            self,
            directions=directions,
            coefficients={name: sum(c.get(name, 0.0) for c in both) for name in directions},
            ft=self.ft or other.ft,
            pre=self.pre if self.pre == other.pre else None,
            data=self.data if self.data == other.data else None,
            facts={**other.facts, **self.facts},
        )

    def __mul__(self, factor: float) -> "Edit":
        if not isinstance(factor, Real):
            return NotImplemented
        scaled = {name: float(factor) * c for name, c in self.coefficients.items()}
        return replace(self, coefficients=scaled)

    __rmul__ = __mul__

    def __neg__(self) -> "Edit":
        return self * -1.0

    def __sub__(self, other: "Edit") -> "Edit":
        return self + (-other) if isinstance(other, Edit) else NotImplemented

    def __deepcopy__(self, memo) -> "Edit":
        return self  # never changed, so copies of an edited classifier may share it

    def __reduce__(self):
        plain = {k: dict(v) if isinstance(v, Mapping) else v for k, v in vars(self).items()}
        return partial(Edit, **plain), ()

    def __repr__(self) -> str:
        gate = "no gate" if self.gate is None else str(self.gate)
        return f"<Edit {self.expression} on {self.target!r}: norm {self.norm:.4g}, {gate}>"

    def save(self, path: str | Path, **facts) -> Path:
        """Write an edit card: a safetensors file with edit, gate and facts, all or nothing."""
        card = {
            "kind": KIND,
            "expression": self.expression,
            **vars(self),
            "names": list(self.directions),
            "coefficients": list(self.coefficients.values()),
            "facts": {**self.facts, **facts},
        }
        arrays = {"directions": np.stack([*card.pop("directions").values()])}
        if self.gate is not None:
            of_gate, card["gate"] = self.gate.packed()
            arrays |= of_gate
        return write_card(path, arrays, card)

    @classmethod
    def load(cls, path: str | Path, classifier=None) -> "Edit":
        """Read what `save` wrote, gate included.

        Args:
            classifier: where given, it must be the model that the edit was made for, see `require`.
        Raises:
            FileFormatError: for a damaged card, or a file that is none.
        """
        arrays, card = read_card(path, KIND)
        with reading(path):
            names, directions = card["names"], arrays.pop("directions")
            edit = cls(
                dict(zip(names, directions, strict=True)),
                dict(zip(names, card["coefficients"], strict=True)),
                gate=card["gate"] and Gate(**arrays, **card["gate"]),
                facts=card["facts"],
                **{name: card[name] for name in _PLAIN},
            )
        return edit if classifier is None else edit.require(classifier)


def write_card(path: str | Path, arrays: Mapping, card: dict) -> Path:
    """Write arrays and a card of numbers that count as much: it has a checksum of its own.

    Arrays in the card become lists, records and mappings plain mappings.
    """

    def plain(value):
        return (
            value.tolist() if hasattr(value, "tolist") else dict(getattr(value, "__dict__", value))
        )

    card = json.loads(json.dumps(card, default=plain))
    write_tensors(path, arrays, {**card, "checksum": hash_json(card)})
    return Path(path)


def read_card(path: str | Path, kind: str) -> tuple[dict, dict]:
    """Read what `write_card` wrote; raises FileFormatError for damage and for another kind."""
    arrays, card = read_tensors(path, kind=kind)
    if card.pop("checksum", None) != hash_json(card):
        raise FileFormatError(f"{path} is damaged: its card doesn't match its checksum")
    return arrays, card


def require_all(edits: Sequence[Edit], classifier) -> None:
    """`Edit.require` and `require_effect` of every edit; those of one origin are compared once."""
    origins = {(edit.classes, edit.dim, edit.ft): edit for edit in edits}
    for edit in origins.values():  # hashing a large encoder takes a while
        edit.require(classifier)
    for edit in edits:
        edit.require_effect()
