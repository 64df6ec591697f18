"""`Delta`: a sparse change of a classifier's weights that can be put on, taken off again bit-exactly, and saved."""

import copy
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from functools import cached_property
from pathlib import Path
from types import MappingProxyType

import numpy as np

from ...errors import EditError, MismatchError
from ...files import hash_arrays, hash_json, read_tensors, write_tensors

KIND = "weight delta"
_STACK = "_delta_stack"  # where a classifier carries its deltas


@dataclass(frozen=True, eq=False)
class Delta:
    """W += difference, or W += A Bᵀ, for a few named weights of one classifier.

    name: what the change is for, as in "forget cat". dense: names of the classifier's state
    ("encoder.ln_post.weight", "head.bias") to differences of the weight's shape. factored: names to
    (A (rows, k), B (columns, k)) of a matrix with that many rows and columns; vectors (rows,) and
    (columns,) stand for k = 1. A name may stand in both.
    `model` is the fingerprint of the classifier without any delta, where known, `touched` the hash of its
    weights under these names, `classes` its classes: `Delta.on` fills them in. Numbers keep the
    floating-point format that they are given in, and are added in float64. Raises MismatchError for shapes
    that can't be, EditError for a change that is empty or not finite.
    """

    name: str
    dense: Mapping[str, np.ndarray]
    factored: Mapping[str, tuple[np.ndarray, np.ndarray]]
    classes: tuple[str, ...]
    touched: str
    model: str | None = None
    facts: Mapping[str, object] = field(default_factory=dict)

    def __post_init__(self):
        dense = {str(k): _frozen(v) for k, v in self.dense.items()}
        factored = {
            str(k): tuple(_frozen(_columns(part)) for part in v) for k, v in self.factored.items()
        }
        for name, pair in factored.items():
            shapes = [part.shape for part in pair]
            if len(pair) != 2 or any(len(s) != 2 for s in shapes) or shapes[0][1] != shapes[1][1]:
                raise MismatchError(
                    f"the factors of {name} need shapes (rows, k) and (columns, k); got {', '.join(map(str, shapes))}"
                )
        arrays = [*dense.items(), *((k, part) for k, v in factored.items() for part in v)]
        if not arrays:
            raise EditError(f"the delta {self.name!r} changes no weight: give dense= or factored=")
        if bad := [k for k, v in arrays if not np.isfinite(v).all()]:
            raise EditError(
                f"the delta {self.name!r} is not finite in {', '.join(dict.fromkeys(bad))}"
            )
        for attribute, value in (
            ("dense", MappingProxyType(dense)),
            ("factored", MappingProxyType(factored)),
            ("classes", tuple(str(c) for c in self.classes)),
            ("facts", MappingProxyType(dict(self.facts))),
        ):
            object.__setattr__(self, attribute, value)

    @classmethod
    def on(
        cls,
        classifier,
        name: str,
        *,
        dense: Mapping[str, np.ndarray] | None = None,
        factored: Mapping[str, tuple[np.ndarray, np.ndarray]] | None = None,
        facts: Mapping[str, object] | None = None,
    ) -> "Delta":
        """A delta for this classifier, checked against its weights; what it already carries doesn't count as its own weights.

        facts: JSON-able remarks, saved along. Raises MismatchError for names that the classifier's state lacks
        (naming the nearest), integer weights and shapes that don't fit.
        """
        stack = _stack(classifier)
        names = _names(dense or {}, factored or {})
        _require_names(classifier, names)
        base = _base(classifier, stack, names)
        delta = cls(
            name,
            dense or {},
            factored or {},
            classifier.classes,
            _hash(base, names),
            stack.model,
            facts or {},
        )
        _require_shapes(delta, base)
        return delta

    @property
    def names(self) -> tuple[str, ...]:
        """The weights that it changes."""
        return _names(self.dense, self.factored)

    @property
    def n_parameters(self) -> int:
        """How many numbers it stores."""
        return sum(v.size for v in self.dense.values()) + sum(
            a.size + b.size for a, b in self.factored.values()
        )

    @cached_property
    def fingerprint(self) -> str:
        """Hash of all that it does and for which model, without its name and facts; also its place in the order of adding."""
        return hash_json(
            [self.model, self.touched, list(self.classes), hash_arrays(self._arrays())]
        )

    def apply_to(self, classifier):
        """A copy of the classifier with this change added to those that it carries; see `apply_deltas`."""
        return apply_deltas(classifier, [self])

    def remove_from(self, classifier):
        """A copy without this change: bit for bit what it would be had this delta never been applied.

        Raises MismatchError where it isn't on the classifier, or where weights under a delta have been changed since.
        """
        stack = _stack(classifier)
        keep = tuple(d for d in stack.deltas if d.fingerprint != self.fingerprint)
        if len(keep) == len(stack.deltas):
            on = (
                ", ".join(repr(d.name) for d in stack.deltas)
                or "none (a saved and loaded classifier keeps the weights but no list)"
            )
            raise MismatchError(f"the delta {self.name!r} is not on this classifier; on it: {on}")
        return _with(classifier, stack, keep)

    def require(self, classifier) -> "Delta":
        """Raise MismatchError, saying what differs, unless this delta was made for the classifier. Returns self.

        What the classifier carries of other deltas doesn't count as a difference.
        """
        return self._require(classifier, _stack(classifier))

    def _require(self, classifier, stack: "_Stack") -> "Delta":
        problems = []
        if tuple(classifier.classes) != self.classes:
            problems.append(
                f"classes (delta: {', '.join(self.classes[:10])}; model: {', '.join(classifier.classes[:10])})"
            )
        if None not in (self.model, stack.model) and self.model != stack.model:
            problems.append(
                f"encoder weights or preprocessing (delta: {self.model}; model: {stack.model})"
            )
        if not problems:
            _require_names(classifier, self.names)
            base = _base(classifier, stack, self.names)
            _require_shapes(self, base)
            if _hash(base, self.names) != self.touched:
                problems.append(f"the values of {', '.join(self.names)}")
        if problems:
            raise MismatchError(
                f"the delta {self.name!r} was made for another model than {classifier.name!r}: "
                f"they differ in {', and in '.join(problems)}"
            )
        return self

    def save(self, path: str | Path) -> Path:
        """Write numbers and card as one safetensors file, whole or not at all."""
        card = {
            "kind": KIND,
            "name": self.name,
            "classes": list(self.classes),
            "model": self.model,
            "touched": self.touched,
        }
        write_tensors(
            path,
            self._arrays(),
            {**card, "n_parameters": self.n_parameters, "facts": dict(self.facts)},
        )
        return Path(path)

    @classmethod
    def load(cls, path: str | Path, *, classifier=None) -> "Delta":
        """Read what `save` wrote; a `classifier`, where given, must be the one it was made for, see `require`."""
        arrays, card = read_tensors(path, kind=KIND)
        dense = {k.removeprefix("dense|"): v for k, v in arrays.items() if k.startswith("dense|")}
        rows = {k.removeprefix("rows|"): v for k, v in arrays.items() if k.startswith("rows|")}
        factored = {k: (v, arrays[f"columns|{k}"]) for k, v in rows.items()}
        delta = cls(
            card["name"],
            dense,
            factored,
            card["classes"],
            card["touched"],
            card["model"],
            card["facts"],
        )
        return delta if classifier is None else delta.require(classifier)

    def _arrays(self) -> dict[str, np.ndarray]:
        arrays = {f"dense|{k}": v for k, v in self.dense.items()}
        for name, (a, b) in self.factored.items():
            arrays |= {f"rows|{name}": a, f"columns|{name}": b}
        return arrays

    def __repr__(self) -> str:
        return f"<Delta {self.name!r}: {self.n_parameters:,} numbers for {', '.join(self.names)}>"


def apply_deltas(classifier, deltas: Iterable[Delta]):
    """A copy of the classifier with these deltas on top of those that it carries; the argument is never changed.

    Weights are computed from the values without any delta plus all deltas in float64, in an order of
    the deltas' own, and rounded once: the same set gives the same bits however it came together.
    Raises MismatchError for a delta made for another model, one that is already on, or weights
    changed since a delta was put on.
    """
    deltas = list(deltas)
    stack = _stack(classifier)
    on = {d.fingerprint: d for d in stack.deltas}
    for delta in deltas:
        delta._require(classifier, stack)
        if delta.fingerprint in on:
            raise MismatchError(
                f"the delta {delta.name!r} is already on this classifier (as {on[delta.fingerprint].name!r})"
            )
        on[delta.fingerprint] = delta
    return _with(classifier, stack, tuple(on.values()))


def deltas_on(classifier) -> tuple[Delta, ...]:
    """The deltas that a classifier carries, in the order of their application."""
    return getattr(classifier, _STACK, _Stack({}, (), None)).deltas


def base_weights(classifier, names: Iterable[str]) -> list[np.ndarray]:
    """The named weights of a classifier without the deltas that it carries, float64."""
    names = list(names)
    _require_names(classifier, names)
    base = _base(classifier, _stack(classifier), names)
    return [base[name].double().numpy() for name in names]


@dataclass(frozen=True, eq=False)
class _Stack:
    """What a classifier's weights are made of: `base`, the values without deltas of each weight touched, and the deltas."""

    base: Mapping[str, object]
    deltas: tuple[Delta, ...]
    model: str | None

    def __deepcopy__(self, memo):
        return self  # never changed, so copies of a classifier may share it


def _stack(classifier) -> _Stack:
    """The classifier's stack, empty for a plain one; raises MismatchError where the weights are no longer the stack's."""
    stack = getattr(classifier, _STACK, None)
    if stack is None:
        return _Stack({}, (), classifier.fingerprint)
    import torch

    state = classifier.state_dict()
    changed = [
        n
        for n, base in stack.base.items()
        if not torch.equal(state[n].cpu(), _summed(n, base, stack.deltas))
    ]
    if changed:
        on = ", ".join(repr(d.name) for d in stack.deltas)
        raise MismatchError(
            f"{', '.join(changed)} changed since the deltas {on} were applied (by training or by hand), "
            "so they can't be taken off or added to; begin again from the unedited classifier"
        )
    return stack


def _with(classifier, stack: _Stack, deltas: tuple[Delta, ...]):
    """A copy of the classifier that carries `deltas` instead of those of its stack."""
    import torch

    names = dict.fromkeys(n for d in deltas for n in d.names)
    base = {n: v.clone() for n, v in _base(classifier, stack, names).items()}
    edited = copy.deepcopy(classifier)
    state = edited.state_dict()
    with torch.no_grad():
        for name in {**stack.base, **base}:
            state[name].copy_(_summed(name, base.get(name, stack.base.get(name)), deltas))
    if deltas:
        setattr(edited, _STACK, _Stack(MappingProxyType(base), deltas, stack.model))
    elif hasattr(edited, _STACK):
        delattr(edited, _STACK)
    return edited


def _base(classifier, stack: _Stack, names: Iterable[str]) -> dict:
    """Values (CPU tensors) of the named weights without any delta."""
    state = classifier.state_dict()
    return {n: stack.base[n] if n in stack.base else state[n].detach().cpu() for n in names}


def _summed(name: str, base, deltas: Iterable[Delta]):
    """The weight `name` with all deltas, in the format of `base`; without any that touches it, `base` itself."""
    import torch

    total = None
    for delta in sorted(deltas, key=lambda d: d.fingerprint):
        if name in delta.names and total is None:
            total = base.double().numpy().copy()
        if name in delta.dense:
            total += delta.dense[name].astype(np.float64)
        if name in delta.factored:
            a, b = (part.astype(np.float64) for part in delta.factored[name])
            for k in range(
                a.shape[1]
            ):  # one rank after the other: a product's order of adding is the library's
                total += np.outer(a[:, k], b[:, k])
    return base if total is None else torch.from_numpy(total).to(base.dtype)


def _require_names(classifier, names: Iterable[str]) -> None:
    import difflib

    state = classifier.state_dict()
    for name in names:
        if name not in state:
            near = difflib.get_close_matches(name, state, n=3) or list(state)[:3]
            raise MismatchError(
                f"{classifier.name!r} has no weight {name!r}; nearest: {', '.join(near)}"
            )
        if not state[name].is_floating_point():
            raise MismatchError(f"{name} holds integers, to which nothing can be added")


def _require_shapes(delta: Delta, base: Mapping) -> None:
    given = [(k, v.shape) for k, v in delta.dense.items()]
    given += [(k, (len(a), len(b))) for k, (a, b) in delta.factored.items()]
    for name, shape in given:
        if tuple(base[name].shape) != tuple(shape):
            raise MismatchError(
                f"{name} has shape {tuple(base[name].shape)} and the change in {delta.name!r} {tuple(shape)}"
            )


def _hash(base: Mapping, names: Iterable[str]) -> str:
    from ...models.weights import to_numpy

    return hash_arrays(to_numpy({n: base[n] for n in names}))


def _names(dense: Mapping, factored: Mapping) -> tuple[str, ...]:
    return tuple(sorted({*map(str, dense), *map(str, factored)}))


def _columns(factor: np.ndarray) -> np.ndarray:
    factor = np.asarray(factor)
    return factor[:, None] if factor.ndim == 1 else factor


def _frozen(values: np.ndarray) -> np.ndarray:
    values = np.array(values)
    if values.dtype.kind != "f":
        values = values.astype(np.float64)
    values.flags.writeable = False
    return values
