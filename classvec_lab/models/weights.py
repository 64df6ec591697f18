"""Named tensors: read without ever running a pickle, compared, and loaded."""

import re
import warnings
from collections.abc import Iterator, Mapping
from itertools import islice
from pathlib import Path

import numpy as np
import torch
from torch import nn

from ..checks import array, listed
from ..errors import ClassvecError, FileFormatError, MismatchError
from .checkpoints.formats import SAVE, kind_of
from .checkpoints.pickles import Holder, Refused, read_pickled

# what torch.compile, FSDP and Lightning put into names, wherever the wrapped part is
INSERTED = re.compile(
    r"(?<![^.])(_orig_mod|_fsdp_wrapped_module|_checkpoint_wrapped_module|_forward_module)\."
)


def read_state_dict(path: str | Path) -> dict[str, torch.Tensor]:
    """Read named tensors, floating-point ones as float32, without running a pickle.

    Of several state dicts in a file the largest is read, of equal ones that which is no moving
    average, with the weight and bias of a head beside it; a warning names the others. What
    torch.compile, FSDP and DataParallel add to names comes off.

    Args:
        path: safetensors, or what torch.save wrote: tensors in dicts, or a whole network, of which
            only the tensors are read.
    Raises:
        FileNotFoundError: where there is none.
        FileFormatError: for a damaged file, another kind of file, by name, or a pickle that calls
            anything but what makes tensors and plain containers.
    """
    from safetensors.torch import load_file

    path = Path(path).expanduser()
    if not path.is_file():
        raise FileNotFoundError(f"no weights file at {path}")
    foreign = set()
    try:
        if (kind := kind_of(path)) == "safetensors":
            found = load_file(path)
        else:
            found, foreign = read_pickled(path, kind == "zip")
        held = dict(_mappings(found, "", set()))
    except ClassvecError:
        raise
    except Refused as error:
        raise FileFormatError(
            f"{path} calls {error}, and pickles are never run here; {SAVE}"
        ) from error
    except Exception as error:  # a damaged file comes as many kinds of error
        raise FileFormatError(f"{path} is damaged or no file of weights ({error})") from error
    if not held:
        raise FileFormatError(f"{path} holds no named tensors")
    best = max(held, key=lambda name: (len(held[name]), "ema" not in name))
    found = held.pop(best)
    for name in [name for name, of in held.items() if of.keys() <= {"weight", "bias"}]:
        found |= {f"{name}.{part}": tensor for part, tensor in held.pop(name).items()}
    left = [
        name or "single tensors" for name, of in held.items() if any(t.ndim for t in of.values())
    ]
    if left := left + sorted(foreign):
        warnings.warn(f"{path}: only tensors are read; left out: {listed(left, 5)}", stacklevel=2)
    state = {INSERTED.sub("", name): tensor for name, tensor in found.items()}
    while all(name.startswith("module.") for name in state):
        state = {name.removeprefix("module."): tensor for name, tensor in state.items()}
    state = {name: t.float() if t.is_floating_point() else t for name, t in state.items()}
    if lost := [name for name, t in state.items() if t.isnan().any()]:
        warnings.warn(f"{path}: numbers that are none (NaN) in {listed(lost, 5)}", stacklevel=2)
    return state


def to_numpy(state: Mapping[str, torch.Tensor]) -> dict[str, np.ndarray]:
    """Tensors as numpy arrays; bfloat16, which numpy lacks, widened to float32."""
    if odd := [name for name, tensor in state.items() if not isinstance(tensor, torch.Tensor)]:
        raise MismatchError(f"no tensors, as of a quantised network: {listed(odd, 5)}")
    return {name: array(tensor, name, kinds="biufc") for name, tensor in state.items()}


def own_entries(module: torch.nn.Module) -> dict[str, torch.Tensor]:
    """The state of a network; of names that share one tensor (tied weights) the first alone."""
    own = dict([*module.named_parameters(), *module.named_buffers()])
    return {name: value for name, value in module.state_dict().items() if name in own}


def same_entries(given: Mapping, own: Mapping, owner: str, other: str) -> None:
    """Raise MismatchError, naming some, unless both hold tensors of the same names and shapes."""
    shapes = {n: (tuple(given[n].shape), tuple(own[n].shape)) for n in own if n in given}
    differ = {
        "missing": [name for name in own if name not in given],
        "unexpected": [name for name in given if name not in own],
        "of another shape": [f"{n} {a} for {b}" for n, (a, b) in shapes.items() if a != b],
        "in whole numbers, as quantised ones are": [
            n for n in shapes if own[n].is_floating_point() > given[n].is_floating_point()
        ],
    }
    problems = [f"{len(names)} {how}: {listed(names, 5)}" for how, names in differ.items() if names]
    if problems:
        raise MismatchError(f"{owner} doesn't fit {other} ({'; '.join(problems)})")


def load_into(module: nn.Module, state: Mapping, origin: object) -> None:
    """Load tensors or arrays strictly; raises MismatchError, naming some, for what doesn't fit."""
    state = {name: torch.as_tensor(value) for name, value in state.items()}
    same_entries(state, module.state_dict(), str(origin), type(module).__name__)
    module.load_state_dict(state)


def _mappings(thing, name: str, seen: set) -> Iterator:
    """Name and tensors of each mapping and each network in what a file holds, once."""
    state = getattr(thing, "state", {})
    if "_modules" in state:
        yield name, dict(islice(_entries(thing, ""), 1_000_000))
    elif isinstance(thing, dict) and id(thing) not in seen:
        seen.add(id(thing))
        items = {k: v for k, v in {**thing, **state}.items() if isinstance(k, str)}
        tensors = {k: v for k, v in items.items() if isinstance(v, torch.Tensor)}
        if tensors:
            yield name, tensors
        for key, value in items.items():
            yield from _mappings(value, f"{name}.{key}".lstrip("."), seen)


def _entries(module: Holder, prefix: str) -> Iterator:
    """The state dict of a network that was saved whole."""
    state = module.state
    for name, value in {**state["_parameters"], **state["_buffers"]}.items():
        hidden = name in state.get("_non_persistent_buffers_set", ())
        if isinstance(value, torch.Tensor) and not hidden:
            yield prefix + name, value
    for name, child in state["_modules"].items():
        if isinstance(child, Holder):
            yield from _entries(child, f"{prefix}{name}.")
