"""Reading weights without ever running a pickle."""

import pickle
import warnings
from pathlib import Path

import torch

from ..errors import FileFormatError, MismatchError

_WRAPPERS = ("state_dict", "model_state_dict", "model", "net")


def read_state_dict(path: str | Path) -> dict[str, torch.Tensor]:
    """Names to float32 tensors (integers stay) from safetensors or a PyTorch checkpoint of plain tensors.

    A checkpoint may wrap its state dict ({"state_dict": …}) and carry the "module." prefix of
    DataParallel. Raises FileNotFoundError, or FileFormatError for a damaged file or one whose pickle
    holds anything but tensors and plain containers.
    """
    path = Path(path).expanduser()
    if not path.is_file():
        raise FileNotFoundError(f"no weights file at {path}")
    if path.suffix == ".safetensors":
        from safetensors import SafetensorError
        from safetensors.torch import load_file

        try:
            state = load_file(path)
        except SafetensorError as error:
            raise FileFormatError(
                f"{path} is damaged or not a safetensors file ({error})"
            ) from error
    else:
        try:
            with warnings.catch_warnings():
                warnings.simplefilter(
                    "ignore", UserWarning
                )  # of pickle protocols; what can't be read raises
                state = torch.load(path, map_location="cpu", weights_only=True)
        except pickle.UnpicklingError as error:
            raise FileFormatError(
                f"{path} holds more than tensors and plain containers, and pickles are never run here; "
                "save its state_dict() with safetensors and give that file"
            ) from error
        except (RuntimeError, EOFError, ValueError, OSError) as error:
            raise FileFormatError(
                f"{path} is damaged or not a PyTorch checkpoint ({error})"
            ) from error
    for key in _WRAPPERS:
        if isinstance(state, dict) and isinstance(state.get(key), dict):
            state = state[key]
            break
    tensors = (
        {k: v for k, v in state.items() if isinstance(v, torch.Tensor)}
        if isinstance(state, dict)
        else {}
    )
    if not tensors:
        raise FileFormatError(f"{path} holds no named tensors")
    if all(k.startswith("module.") for k in tensors):
        tensors = {k.removeprefix("module."): v for k, v in tensors.items()}
    return {k: v.float() if v.is_floating_point() else v for k, v in tensors.items()}


def load_into(module: torch.nn.Module, state: dict[str, torch.Tensor], origin: object) -> None:
    """Load `state` strictly; a missing, unexpected or misshapen entry raises MismatchError naming some of each."""
    own = module.state_dict()
    problems = []
    for label, names in (
        ("missing", [n for n in own if n not in state]),
        ("unexpected", [n for n in state if n not in own]),
        ("of another shape", [n for n in own if n in state and own[n].shape != state[n].shape]),
    ):
        if names:
            shown = ", ".join(names[:3]) + (f" and {len(names) - 3} more" if len(names) > 3 else "")
            problems.append(f"{len(names)} {label}: {shown}")
    if problems:
        raise MismatchError(f"{origin} doesn't fit {type(module).__name__} ({'; '.join(problems)})")
    module.load_state_dict(state)
