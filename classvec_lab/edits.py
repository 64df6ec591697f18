"""`Edit`: a displacement of one class's representations, written as a sum of named directions. Arrays only."""

import json
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field, replace
from html import escape
from importlib import metadata
from numbers import Real
from pathlib import Path
from types import MappingProxyType

import numpy as np

from .errors import EditError, FileFormatError, MismatchError
from .files import hash_json, read_tensors, write_tensors
from .gates import Gate

KIND = "edit card"
PACKAGES = ("torch", "numpy", "open_clip_torch", "timm")


@dataclass(frozen=True, eq=False)
class Edit:
    """z_edit = Σ coefficient · direction, to be added to representations z (N, m) where the gate fires (everywhere without one).

    directions: name such as "κ[cat]" to a vector (m,) float64; coefficients: the same names to numbers.
    target: the class whose samples are meant; classes: the C names that the model tells apart.
    `ft`, `pre`, `data`: fingerprints of the fine-tuned model whose representations are edited, of the
    pre-trained one, and of the data behind the directions, where known. Edits are added, subtracted,
    negated and scaled while they carry no gate; scaling keeps a gate. A sum keeps the target of its
    first edit. Raises MismatchError for shapes, classes or models that differ.
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
        directions = {str(k): np.array(v, dtype=np.float64) for k, v in self.directions.items()}
        coefficients = {str(k): float(v) for k, v in self.coefficients.items()}
        classes = tuple(str(c) for c in self.classes)
        shapes = {v.shape for v in directions.values()}
        if (
            not directions
            or len(shapes) != 1
            or len(next(iter(shapes))) != 1
            or set(directions) != set(coefficients)
        ):
            raise MismatchError(
                f"an edit needs directions of one shape (m,) and a coefficient for each; "
                f"got {sorted(map(str, shapes))}, {list(directions)} and {list(coefficients)}"
            )
        bad = [
            k
            for k in directions
            if not (np.isfinite(directions[k]).all() and np.isfinite(coefficients[k]))
        ]
        if bad:
            raise MismatchError(f"not finite in an edit: {', '.join(bad)}")
        if self.target not in classes:
            raise MismatchError(f"no class {self.target!r}; there are {', '.join(classes[:20])}")
        for vector in directions.values():
            vector.flags.writeable = False
        for name, value in (
            ("directions", MappingProxyType(directions)),
            ("coefficients", MappingProxyType(coefficients)),
            ("classes", classes),
            ("facts", MappingProxyType(dict(self.facts))),
        ):
            object.__setattr__(self, name, value)

    @classmethod
    def along(cls, name: str, direction: np.ndarray, *, target: str, classes, **origin) -> "Edit":
        """An edit of strength 1 along one direction (m,), shown as `name`; `origin` may give ft, pre, data and facts."""
        return cls({name: direction}, {name: 1.0}, target, tuple(classes), **origin)

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
        """This edit behind `gate`, which must tell the same classes and dimension, or without one.

        The gate's target becomes the edit's.
        """
        if gate is None:
            return self.ungated()
        if tuple(gate.classes) != self.classes or gate.dim != self.dim:
            raise MismatchError(
                f"the gate reads {gate.dim} dimensions and classes {', '.join(gate.classes[:10])}; "
                f"the edit has {self.dim} and {', '.join(self.classes[:10])}"
            )
        return replace(self, gate=gate, target=gate.target)

    def ungated(self) -> "Edit":
        """This edit without its gate."""
        return replace(self, gate=None)

    def scaled_to(self, norm: float) -> "Edit":
        """The same direction with the length `norm`; raises EditError for an edit of norm 0."""
        self.require_effect()
        return self * (norm / self.norm)

    def require_effect(self) -> "Edit":
        """Raise EditError where the edit would change nothing: every coefficient 0, or a sum of norm 0. Returns self."""
        if not any(self.coefficients.values()):
            raise EditError(
                f"the edit {self.expression} has strength 0 and would change nothing; choose lambda other than 0"
            )
        if self.norm == 0:
            raise EditError(
                f"the edit {self.expression} has norm 0 and would change nothing: its directions cancel, or fine-tuning moved "
                f"class {self.target!r} nowhere (are both models the same?)"
            )
        return self

    def require(self, classifier) -> "Edit":
        """Raise MismatchError, saying what differs, unless this edit fits the classifier. Returns self.

        The classes and the dimension must be the classifier's, and so must the encoder's fingerprint,
        where both are known.
        """
        problems = []
        if tuple(classifier.classes) != self.classes:
            problems.append(
                f"classes (edit: {', '.join(self.classes[:10])}; model: {', '.join(classifier.classes[:10])})"
            )
        if classifier.dim != self.dim:
            problems.append(f"dimension (edit: {self.dim}; model: {classifier.dim})")
        if not problems and self.ft is not None and classifier.fingerprint not in (None, self.ft):
            problems.append(
                f"weights or preprocessing (edit: {self.ft}; model: {classifier.fingerprint})"
            )
        if problems:
            raise MismatchError(
                f"the edit {self.expression} was made for another model than {classifier.name!r}: they differ in "
                f"{', and in '.join(problems)}"
            )
        return self

    def __add__(self, other: "Edit") -> "Edit":
        if not isinstance(other, Edit):
            return NotImplemented
        if self.gate is not None or other.gate is not None:
            raise EditError(
                "compose edits first and gate the sum, (a + b).gated(gate); to apply several gates, inject a list"
            )
        if self.classes != other.classes or self.dim != other.dim:
            raise MismatchError(
                f"edits of different models can't be added: {self.dim} dimensions and {len(self.classes)} classes, "
                f"{other.dim} and {len(other.classes)}"
            )
        for name in ("ft", "pre", "data"):
            a, b = getattr(self, name), getattr(other, name)
            if None not in (a, b) and a != b and name == "ft":
                raise MismatchError(
                    f"edits of different models can't be added: made for {a} and for {b}"
                )
        for name in self.directions.keys() & other.directions.keys():
            if not np.array_equal(self.directions[name], other.directions[name]):
                raise MismatchError(
                    f"two different directions are both called {name}: make one of them under another name"
                )
        coefficients = dict(self.coefficients)
        for name, c in other.coefficients.items():
            coefficients[name] = coefficients.get(name, 0.0) + c
        origin = {
            k: getattr(self, k) if getattr(self, k) == getattr(other, k) else None
            for k in ("pre", "data")
        }
        return replace(
            self,
            directions={**self.directions, **other.directions},
            coefficients=coefficients,
            ft=self.ft or other.ft,
            facts={**other.facts, **self.facts},
            **origin,
        )

    def __mul__(self, factor: float) -> "Edit":
        if not isinstance(factor, Real):
            return NotImplemented
        return replace(
            self, coefficients={k: float(factor) * c for k, c in self.coefficients.items()}
        )

    __rmul__ = __mul__

    def __neg__(self) -> "Edit":
        return self * -1.0

    def __sub__(self, other: "Edit") -> "Edit":
        return self + (-other) if isinstance(other, Edit) else NotImplemented

    def __deepcopy__(self, memo) -> "Edit":
        return self  # never changed, so copies of an edited classifier may share it

    def __reduce__(self):
        plain = dict(self.directions), dict(self.coefficients)
        return Edit, (
            *plain,
            self.target,
            self.classes,
            self.gate,
            self.ft,
            self.pre,
            self.data,
            dict(self.facts),
        )

    def __repr__(self) -> str:
        gate = "no gate" if self.gate is None else str(self.gate)
        return f"<Edit {self.expression} on {self.target!r}: norm {self.norm:.4g}, {gate}>"

    def _repr_html_(self) -> str:
        rows = {
            "edit": self.expression,
            "target": self.target,
            "norm": f"{self.norm:.4g}",
            "gate": "none: every sample is moved" if self.gate is None else str(self.gate),
            "model": self.ft or "unknown",
            "data": self.data or "unknown",
        }
        return f"<table>{''.join(f'<tr><th>{k}</th><td>{escape(v)}</td></tr>' for k, v in rows.items())}</table>"

    def save(self, path: str | Path, **facts) -> Path:
        """Write an edit card: one safetensors file with all that the edit and its gate are, whole or not at all."""
        arrays = {f"direction.{i}": v for i, v in enumerate(self.directions.values())}
        card = {
            "kind": KIND,
            "expression": self.expression,
            "names": list(self.directions),
            "coefficients": list(self.coefficients.values()),
            "target": self.target,
            "classes": list(self.classes),
            "ft": self.ft,
            "pre": self.pre,
            "data": self.data,
            "facts": {**self.facts, **facts},
            "gate": None,
            "versions": {name: _version(name) for name in ("classvec_lab", *PACKAGES)},
        }
        if self.gate is not None:
            gate_arrays, card["gate"] = self.gate.packed()
            arrays |= {f"gate.{k}": v for k, v in gate_arrays.items()}
        card = json.loads(json.dumps(card))
        write_tensors(
            path, arrays, {**card, "checksum": hash_json(card)}
        )  # the coefficients stand in the card
        return Path(path)

    @classmethod
    def load(cls, path: str | Path, classifier=None) -> "Edit":
        """Read what `save` wrote, gate included; `classifier`, where given, must be the model it was made for, see `require`."""
        arrays, card = read_tensors(path, kind=KIND)
        if card.pop("checksum", None) != hash_json(card):
            raise FileFormatError(f"{path} is damaged: its card doesn't match its checksum")
        gate = None
        if card["gate"] is not None:
            gate_arrays = {
                k.removeprefix("gate."): v for k, v in arrays.items() if k.startswith("gate.")
            }
            gate = Gate.unpacked(gate_arrays, card["gate"])
        edit = cls(
            {name: arrays[f"direction.{i}"] for i, name in enumerate(card["names"])},
            dict(zip(card["names"], card["coefficients"], strict=True)),
            card["target"],
            tuple(card["classes"]),
            gate,
            card["ft"],
            card["pre"],
            card["data"],
            card["facts"],
        )
        return edit if classifier is None else edit.require(classifier)


def require_all(edits: Iterable[Edit], classifier) -> None:
    """`Edit.require` and `Edit.require_effect` of every edit; edits of one origin are compared with the classifier once."""
    known = set()
    for edit in edits:
        origin = edit.classes, edit.dim, edit.ft
        if origin not in known:  # hashing a large encoder takes a while
            edit.require(classifier)
            known.add(origin)
        edit.require_effect()


def _version(package: str) -> str | None:
    try:
        return metadata.version(package)
    except metadata.PackageNotFoundError:
        return None
