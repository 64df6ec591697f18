"""`Delta`: a sparse change of a classifier's weights that goes on, comes off and can be saved."""

import copy
from collections.abc import Iterable, Mapping
from dataclasses import field
from functools import cached_property
from pathlib import Path

import numpy as np

from ...checks import listed, one_of, record, same_classes
from ...errors import EditError, MismatchError
from ...files import hash_arrays, hash_json, read_tensors, reading, write_tensors

KIND = "weight delta"
CARD = ("name", "classes", "origin")
_ATTRIBUTE = "_carried_deltas"  # where a classifier carries its deltas


@record
class Delta:
    """W += difference, or W += A Bᵀ, for a few named weights of one classifier.

    Numbers keep the floating-point format that they are given in. `Delta.on` makes one.

    Args:
        name: what the change is for, as in "forget cat".
        changes: names of weights ("encoder.ln_post.weight", "head.bias") to a difference of the
            weight's shape, or to a pair (A (rows, k), B (columns, k)). They are kept as tuples.
        classes: the classifier's classes.
        origin: hash of what it is made for: the classifier's fingerprint and the named weights,
            both without any delta.
    Raises:
        MismatchError: for factors that can't be multiplied.
        EditError: for a change that is empty or not finite.
    """

    name: str
    changes: Mapping[str, tuple[np.ndarray, ...]]
    classes: tuple[str, ...]
    origin: str

    def __post_init__(self):
        changes = {
            name: tuple(map(_frozen, change if isinstance(change, tuple | list) else [change]))
            for name, change in self.changes.items()
        }
        for name, (first, *second) in changes.items():
            if any(first.ndim != 2 or b.shape[1:] != first.shape[1:] for b in second):
                raise MismatchError(
                    f"the factors of {name} need shapes (rows, k) and (columns, k); "
                    f"got {first.shape}, {second[0].shape}"
                )
            if not all(np.isfinite(part).all() for part in (first, *second)):
                raise EditError(f"the delta {self.name!r} is not finite in {name}")
        if not changes:
            raise EditError(f"the delta {self.name!r} changes no weight")
        vars(self).update(changes=changes, classes=tuple(self.classes))

    @classmethod
    def on(cls, classifier, name: str, changes: Mapping) -> "Delta":
        """A delta for this classifier, checked against its weights.

        What the classifier already carries doesn't count as its own weights.

        Args:
            classifier: the `Classifier` to change, edited or not.
            name, changes: as for `Delta`.
        Raises:
            MismatchError: for names that the classifier lacks or that hold integers, and for shapes
                that don't fit.
        """
        carried = _carried(classifier)
        origin = _origin(classifier, carried, changes)
        return _fitting(cls(name, changes, classifier.classes, origin), classifier, carried)

    @property
    def n_parameters(self) -> int:
        """How many numbers it stores."""
        return sum(part.size for part in self._arrays().values())

    @cached_property
    def fingerprint(self) -> str:
        """Hash of all that it does and for which model, and its place in the order of adding."""
        return hash_json([self.origin, list(self.classes), hash_arrays(self._arrays())])

    def require(self, classifier) -> "Delta":
        """This delta, if it was made for the classifier; MismatchError says what differs."""
        return _fitting(self, classifier, _carried(classifier))

    def apply_to(self, classifier):
        """A copy of the classifier with this change too; see `apply_deltas`."""
        return apply_deltas(classifier, [self])

    def remove_from(self, classifier):
        """A copy without this change: bit for bit as if the delta had never been applied.

        Raises:
            MismatchError: if it isn't on the classifier, or weights under a delta changed since.
        """
        carried = _carried(classifier)
        kept = [d for d in carried.deltas if d.fingerprint != self.fingerprint]
        if len(kept) == len(carried.deltas):
            on = listed(d.name for d in kept) or (
                "none (a saved and loaded classifier keeps the weights but no list)"
            )
            raise MismatchError(f"the delta {self.name!r} is not on this classifier; on it: {on}")
        return _carrying(classifier, carried, kept)

    def save(self, path: str | Path) -> Path:
        """Write numbers and card as one safetensors file, whole or not at all."""
        card = {"kind": KIND, **{key: getattr(self, key) for key in CARD}}
        write_tensors(path, self._arrays(), card)
        return Path(path)

    @classmethod
    def load(cls, path: str | Path) -> "Delta":
        """Read what `save` wrote. Applied to another model than its own, it is refused."""
        arrays, card = read_tensors(path, kind=KIND)
        changes = {}
        for key in sorted(arrays):
            changes.setdefault(key.rpartition("|")[0], []).append(arrays[key])
        with reading(path):
            return cls(changes=changes, **{key: card[key] for key in CARD})

    def _arrays(self) -> dict[str, np.ndarray]:
        return {
            f"{name}|{i}": part
            for name, parts in self.changes.items()
            for i, part in enumerate(parts)
        }

    def __repr__(self) -> str:
        return f"<Delta {self.name!r}: {self.n_parameters:,} numbers for {listed(self.changes)}>"


class WrittenEdit:
    """An edit whose `delta` is its change of the weights."""

    delta: Delta

    @property
    def n_parameters(self) -> int:
        """How many numbers are stored."""
        return self.delta.n_parameters

    def apply_to(self, classifier):
        """A copy of the classifier with this change too; see `apply_deltas`."""
        return self.delta.apply_to(classifier)

    def remove_from(self, classifier):
        """A copy without this change, bit for bit as if it had never been applied."""
        return self.delta.remove_from(classifier)


def apply_deltas(classifier, deltas: Iterable[Delta]):
    """A copy of the classifier with these deltas on top of those that it carries.

    Each weight is its value without any delta plus all deltas, in float64, in an order of the
    deltas' own, rounded once. The same set therefore gives the same bits however it came together.
    The copy owns the changed weights and the modules around them. All else it shares with the
    classifier, so deep-copy it before you train it or move it to another device.

    Args:
        classifier: a `Classifier`, never changed.
        deltas: `Delta`s made for it, with or without others on it.
    Raises:
        MismatchError: for a delta made for another model, one that is already on, or weights
            changed since a delta was put on.
    """
    carried = _carried(classifier)
    on = {d.fingerprint: d for d in carried.deltas}
    for delta in deltas:
        _fitting(delta, classifier, carried)
        if delta.fingerprint in on:
            raise MismatchError(f"the delta {delta.name!r} is already on this classifier")
        on[delta.fingerprint] = delta
    return _carrying(classifier, carried, on.values())


def base_weights(classifier, names: Iterable[str]) -> list[np.ndarray]:
    """The named weights of a classifier without the deltas that it carries, float64."""
    base = _values(classifier, names, _carried(classifier).base)
    return [values.astype(float) for values in base.values()]


@record
class _Carried:
    """Deltas on a classifier, and what it is without any.

    base: values of the weights that they touch, without any delta. model: fingerprint without any.
    written: hash of those weights as the deltas left them.
    """

    deltas: tuple[Delta, ...] = ()
    base: Mapping[str, np.ndarray] = field(default_factory=dict)
    model: str | None = None
    written: str = ""


def _carried(classifier) -> _Carried:
    """What a classifier carries; raises MismatchError where it isn't as the deltas left it."""
    carried = getattr(classifier, _ATTRIBUTE, _Carried())
    if not carried.deltas:
        return _Carried(model=classifier.fingerprint)
    if hash_arrays(_values(classifier, carried.base, {})) != carried.written:
        raise MismatchError(
            f"{' or '.join(carried.base)} changed since {listed(d.name for d in carried.deltas)} "
            "went on (by training or by hand), so deltas can't be taken off or added to; begin "
            "again from the unedited classifier"
        )
    return carried


def _carrying(classifier, carried: _Carried, deltas: Iterable[Delta]):
    """A copy that carries `deltas` in place of `carried`, and shares what needn't differ."""
    import torch

    deltas = tuple(deltas)
    names = sorted({*carried.base, *(name for d in deltas for name in d.changes)})
    base, own = _values(classifier, names, carried.base), _tensors(classifier)
    changed = {id(own[name]) for name in names}
    shared = {id(tensor): tensor for tensor in own.values() if id(tensor) not in changed}
    touched = [name.split(".") for name, tensor in own.items() if id(tensor) in changed]
    around = {".".join(path[:i]) for path in touched for i in range(len(path))}
    shared |= {id(m): m for name, m in classifier.named_modules() if name not in around}
    edited = copy.deepcopy(classifier, shared)
    own = _tensors(edited)
    with torch.no_grad():
        for name in names:
            own[name].copy_(torch.from_numpy(_summed(name, base[name], deltas)))
    written = hash_arrays(_values(edited, names, {}))
    setattr(edited, _ATTRIBUTE, _Carried(deltas, base, carried.model, written))
    return edited


def _tensors(classifier) -> dict:
    """Floating-point parameters and buffers by name."""
    tensors = dict(classifier.named_parameters(remove_duplicate=False))
    tensors |= dict(classifier.named_buffers(remove_duplicate=False))
    return {name: tensor for name, tensor in tensors.items() if tensor.is_floating_point()}


def _values(classifier, names: Iterable[str], known: Mapping) -> dict[str, np.ndarray]:
    """Values of the named weights, those of `known` where it has them."""
    from ...models.weights import to_numpy

    own = _tensors(classifier)
    tensors = {name: own[one_of(name, own, "weight")] for name in names}
    values = to_numpy({k: v for k, v in tensors.items() if k not in known})
    return {k: known[k] if k in known else values[k].copy() for k in tensors}


def _summed(name: str, base: np.ndarray, deltas: Iterable[Delta]) -> np.ndarray:
    """The weight `name` with all deltas, float64."""
    total = base.astype(float)
    for delta in sorted(deltas, key=lambda d: d.fingerprint):
        parts = [part.astype(float) for part in delta.changes.get(name, ())]
        if len(parts) == 1:
            total += parts[0]
        else:  # one rank after the other, because a product's order of adding is the library's
            for columns in zip(*(part.T for part in parts), strict=True):
                total += np.outer(*columns)
    return total


def _origin(classifier, carried: _Carried, names: Iterable[str]) -> str:
    return hash_json([carried.model, hash_arrays(_values(classifier, names, carried.base))])


def _fitting(delta: Delta, classifier, carried: _Carried) -> Delta:
    """The delta, if it was made for the classifier; raises MismatchError that says what differs."""
    name, own = f"the delta {delta.name!r}", repr(classifier.name)
    same_classes(delta.classes, classifier.classes, name, own)
    if _origin(classifier, carried, delta.changes) != delta.origin:
        raise MismatchError(
            f"{name} was made for another model than {own}: the encoder, its preprocessing or the "
            f"values of {listed(delta.changes)} differ"
        )
    for weight, tensor in _tensors(classifier).items():
        first, *second = delta.changes.get(weight, [tensor])
        shape = (len(first), len(second[0])) if second else first.shape
        if tensor.shape != shape:
            raise MismatchError(f"{weight} has shape {tuple(tensor.shape)} and {name} {shape}")
    return delta


def _frozen(values: np.ndarray) -> np.ndarray:
    values = np.array(np.add(values, 0.0))  # integers become float64
    values.flags.writeable = False
    return values
