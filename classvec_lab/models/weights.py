"""Reading weights without ever running a pickle."""

import pickle
from collections.abc import Mapping
from pathlib import Path

import numpy as np
import torch

from ..checks import listed
from ..errors import FileFormatError, MismatchError

WRAPPERS = ("state_dict", "model_state_dict", "model", "net")


def read_state_dict(path: str | Path) -> dict[str, torch.Tensor]:
    """Read named tensors, floating-point ones as float32, without running a pickle.

    Args:
        path: safetensors, or a PyTorch checkpoint of plain tensors. It may wrap its state dict
            ({"state_dict": …}) and carry the "module." prefix of DataParallel.
    Raises:
        FileNotFoundError: where there is none.
        FileFormatError: for a damaged file, or one whose pickle holds anything but tensors and
            plain containers.
    """
    from safetensors import SafetensorError
    from safetensors.torch import load_file

    path = Path(path).expanduser()
    if not path.is_file():
        raise FileNotFoundError(f"no weights file at {path}")
    try:
        if path.suffix == ".safetensors":
            state = load_file(path)
        else:
            state = torch.load(path, map_location="cpu", weights_only=True)
    except pickle.UnpicklingError as error:
        raise FileFormatError(
            f"{path} holds more than tensors and plain containers, and pickles are never run here; "
            "save its state_dict() with safetensors and give that file"
        ) from error
    except (SafetensorError, RuntimeError, EOFError, ValueError, OSError) as error:
        raise FileFormatError(f"{path} is damaged or no file of weights ({error})") from error
    state = state if isinstance(state, dict) else {}
    state = next((state[key] for key in WRAPPERS if isinstance(state.get(key), dict)), state)
    tensors = {name: value for name, value in state.items() if isinstance(value, torch.Tensor)}
    if not tensors:
        raise FileFormatError(f"{path} holds no named tensors")
    prefix = "module." if all(name.startswith("module.") for name in tensors) else ""
    return {
        name.removeprefix(prefix): value.float() if value.is_floating_point() else value
        for name, value in tensors.items()
    }


def to_numpy(state: Mapping[str, torch.Tensor]) -> dict[str, np.ndarray]:
    """Tensors as numpy arrays; bfloat16, which numpy lacks, widened to float32."""
    state = {name: tensor.detach().cpu() for name, tensor in state.items()}
    return {n: (t.float() if t.dtype == torch.bfloat16 else t).numpy() for n, t in state.items()}


def same_entries(given: Mapping, own: Mapping, owner: str, other: str) -> None:
    """Raise MismatchError, naming some, unless both hold tensors of the same names and shapes."""
    differ = {
        "missing": [name for name in own if name not in given],
        "unexpected": [name for name in given if name not in own],
        "of another shape": [n for n in own if n in given and given[n].shape != own[n].shape],
    }
    problems = [f"{len(names)} {how}: {listed(names, 3)}" for how, names in differ.items() if names]
    if problems:
        raise MismatchError(f"{owner} doesn't fit {other} ({'; '.join(problems)})")


def load_into(module: torch.nn.Module, state: Mapping, origin: object) -> None:
    """Load tensors or arrays strictly; raises MismatchError, naming some, for what doesn't fit."""
    state = {name: torch.as_tensor(value) for name, value in state.items()}
    same_entries(state, module.state_dict(), str(origin), type(module).__name__)
    module.load_state_dict(state)
