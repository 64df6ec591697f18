"""Hashes that say whether two networks, or two preprocessings, are the same."""

import types

import numpy as np
import torch

from ..files import hash_arrays, hash_bytes, hash_json


def to_numpy(tensor: torch.Tensor) -> np.ndarray:
    """The tensor as a numpy array; bfloat16, which numpy lacks, widened to float32."""
    tensor = tensor.detach().cpu()
    return (tensor.float() if tensor.dtype == torch.bfloat16 else tensor).numpy()


def hash_module(module: torch.nn.Module) -> str:
    """Hash of architecture (the module's repr) and of every parameter and persistent buffer."""
    state = {name: to_numpy(value) for name, value in module.state_dict().items()}
    return hash_json([repr(module), hash_arrays(state)])


def hash_callable(function: object) -> str | None:
    """Hash of a preprocessing, or None where nothing stable identifies it (a lambda, a closure, an address in its repr)."""
    if hasattr(function, "fingerprint"):
        return function.fingerprint
    if isinstance(function, types.FunctionType):
        if function.__closure__ or "<" in function.__qualname__:
            return None
        code = function.__code__
        return hash_bytes(
            f"{function.__module__}.{function.__qualname__}".encode(),
            code.co_code,
            repr(code.co_consts).encode(),
        )
    if isinstance(getattr(function, "transforms", None), (list, tuple)):  # torchvision's Compose
        parts = [hash_callable(part) for part in function.transforms]
        return None if None in parts else hash_json([type(function).__qualname__, parts])
    text = repr(function)
    return (
        None
        if " at 0x" in text
        else hash_json([type(function).__module__, type(function).__qualname__, text])
    )
