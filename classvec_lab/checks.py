"""The house's messages, which restate what was given and say what there is, and its records."""

import difflib
from collections.abc import Collection, Iterable, Sequence
from dataclasses import dataclass
from typing import dataclass_transform

import numpy as np

from .errors import ClassvecError, MismatchError


@dataclass_transform(frozen_default=True, eq_default=False)
def record(cls):
    """Make a class a dataclass that can't be changed and equals only itself.

    Results hold arrays and frames, whose comparison has no one truth value.
    """
    return dataclass(frozen=True, eq=False)(cls)


def listed(names: Iterable, most: int = 20) -> str:
    """Names separated by commas, cut off with "…" after `most`."""
    names = [str(name) for name in names]
    return ", ".join(names[:most]) + (" …" if len(names) > most else "")


def nearest(name: str, known: Iterable[str]) -> str:
    """ "; did you mean …?" with the known name that is most like `name`, or "." if none is."""
    names = {k.lower(): k for k in known}
    close = difflib.get_close_matches(name.lower(), names, 1, 0.5)
    return f"; did you mean {names[close[0]]!r}?" if close else "."


def one_of(value, known: Collection, what: str, error: type[ClassvecError] = MismatchError):
    """`value`, if it is one of `known`; else raises `error`: "no {what} 'value'; there are …"."""
    if value not in known:
        raise error(f"no {what} {value!r}; there are {listed(known)}")
    return value


def named(classes, error: type[ClassvecError] = MismatchError) -> tuple[str, ...]:
    """Class names as text; raises `error` for how many there are, and for a repeated name."""
    if isinstance(classes, int):
        raise error(f"classes are names, as dataset.classes has them; got {classes}")
    names = tuple(map(str, classes))
    if len({*names}) < len(names):
        repeated = sorted({name for name in names if names.count(name) > 1})
        raise error(f"class names must be distinct; repeated: {listed(repeated)}")
    return names


def index_of(name: str, classes: Sequence[str], error: type[ClassvecError] = MismatchError) -> int:
    """Position of a class by name; raises `error` listing what there is."""
    return list(classes).index(one_of(name, classes, "class", error))


def array(
    values,
    what: str,
    *,
    kinds: str = "biuf",
    error: type[ClassvecError] = MismatchError,
) -> np.ndarray:
    """Numbers, text or a tensor, wherever it is, as an array; bfloat16 becomes float32.

    Raises `error` for several shapes, masked entries, and a dtype whose kind isn't one of `kinds`.
    """
    if hasattr(values, "detach"):
        values = values.detach().cpu()
        values = values.float() if str(values.dtype) == "torch.bfloat16" else values
    if np.ma.is_masked(values):
        raise error(f"{what} has masked entries: leave them out, or fill them")
    try:
        found = np.asarray(values)
        if found.dtype == object and "O" in kinds:  # what its members are
            found = np.array(found.tolist())
    except (ValueError, TypeError, RuntimeError) as cause:
        raise error(f"{what} should be one array of numbers ({cause})") from cause
    if found.dtype.kind not in kinds:
        raise error(
            f"{what} should be real numbers, as .astype(float) or .real gives them; got "
            f"{found.dtype}, such as {found.ravel()[:1].tolist()}"
        )
    return found


def representations(z, dim: int, reader: str) -> np.ndarray:
    """`z` as an array of the shape (N, dim) that `reader` reads; else raises MismatchError."""
    z = array(z, "z")
    if z.ndim != 2 or z.shape[1] != dim:
        raise MismatchError(f"{reader} reads representations of shape (N, {dim}); got {z.shape}")
    return z


def labelled(z, y, n_classes: int, owner: str) -> tuple[np.ndarray, np.ndarray]:
    """`z` and `y` as arrays (N, m) and (N,), the second integers in 0..n_classes - 1.

    Raises MismatchError for anything else; `owner` is who needs them.
    """
    z, needed = array(z, f"z of {owner}"), f"labels must be integers in 0..{n_classes - 1}"
    needed += f" for {n_classes} classes, as classes.index(name) gives them"
    y = array(y, f"y of {owner}: {needed}; y")
    if z.ndim != 2 or y.shape != z.shape[:1]:
        raise MismatchError(
            f"{owner} needs z of shape (N, m) and y of shape (N,); got {z.shape} and {y.shape}"
        )
    if len(y) and (y.dtype.kind not in "iu" or not 0 <= y.min() <= y.max() < n_classes):
        raise MismatchError(f"{needed}; got {y.dtype} in {y.min()}..{y.max()}")
    return z, y


def same_classes(given: Sequence[str], own: Sequence[str], owner: str, other: str) -> None:
    """Raise MismatchError, naming what differs, unless both list the same classes in one order."""
    given, own = tuple(given), tuple(own)
    if given == own:
        return
    lacks = {owner: [c for c in own if c not in given], other: [c for c in given if c not in own]}
    detail = "; ".join(f"{who} lacks {listed(names, 5)}" for who, names in lacks.items() if names)
    raise MismatchError(
        f"{owner} has {len(given)} classes and {other} {len(own)} that differ: "
        f"{detail or 'same names in another order, in which dataset.only(names) puts images'}"
    )


def in_range(
    name: str,
    value,
    low: float,
    high: float,
    *,
    open_low: bool = False,
    open_high: bool = False,
    error: type[ClassvecError] = MismatchError,
):
    """`value`, if it lies between the ends, which count unless open; else raises `error`.

    NaN lies nowhere.
    """
    above = value > low if open_low else value >= low
    if not (above and (value < high if open_high else value <= high)):
        raise error(
            f"{name} must lie in {'(' if open_low else '['}{low:g}, {high:g}"
            f"{')' if open_high else ']'}; got {value}"
        )
    return value


def same_images(given, own, owner: str, other: str) -> None:
    """Raise MismatchError, naming what differs, unless both are of the same images in one order.

    given, own: anything with `classes` and labels `y`, such as Features or a Readout.
    """
    same_classes(given.classes, own.classes, owner, other)
    if len(given.y) != len(own.y):
        raise MismatchError(
            f"{owner} has {len(given.y)} samples and {other} {len(own.y)}: give the same images"
        )
    if len(differ := np.flatnonzero(np.asarray(given.y) != np.asarray(own.y))):
        raise MismatchError(
            f"{owner} has other labels than {other} from sample {differ[0]} on: "
            "give the same images in the same order"
        )
