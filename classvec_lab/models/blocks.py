"""The blocks of any encoder, found by themselves, and their activations."""

import difflib
from collections.abc import Iterator, Sequence
from contextlib import ExitStack, contextmanager

import torch
from torch import nn

from ..checks import listed
from ..errors import ModelError


def block_names(encoder: nn.Module) -> tuple[str, ...]:
    """Names of an encoder's blocks in the order of their definition, as in "layer1.0".

    A block is a numbered element of an nn.Sequential or nn.ModuleList that holds composite
    elements, at the deepest such level: residual blocks, transformer blocks, inverted residuals.
    Without any, the direct children with parameters, so each layer of an nn.Sequential; at last
    ("",), the encoder itself.
    """
    inner, prefix = encoder, ""
    while len(children := _weighted(inner)) == 1:  # a wrapper has nothing to choose from
        ((name, inner),) = children.items()
        prefix += f"{name}."
    found = _in_stacks(inner, prefix) or [prefix + name for name in children]
    return tuple(found) or (prefix.rstrip("."),)


def batchnorms(model: nn.Module) -> list[nn.Module]:
    """The batch-norm layers of a network."""
    return [m for m in model.modules() if isinstance(m, nn.modules.batchnorm._BatchNorm)]


@contextmanager
def recorded(encoder: nn.Module, layers: Sequence[str]) -> Iterator[dict[str, torch.Tensor]]:
    """Record what layers give: a dict that each pass of the encoder fills anew.

    It holds one tensor a layer, (N, …), in the order of computing. Of a tuple or mapping the first
    tensor is taken, of several calls the last. What a sequence-first transformer gives, (L, N, D),
    is turned around. The tensors are detached copies, safe from later in-place operations. All
    hooks are gone on leaving, also after an error.

    Args:
        encoder: any network.
        layers: names of submodules; "" is the encoder itself.
    Raises:
        ModelError: for an unknown layer, naming the nearest, and where no axis of an output can be
            the batch.
    """
    modules = dict(encoder.named_modules())
    for name in layers:
        if name not in modules:
            near = difflib.get_close_matches(name, filter(None, modules), n=3, cutoff=0.4)
            near = listed(map(repr, near or block_names(encoder)[:3]))
            raise ModelError(f"{type(encoder).__name__} has no layer {name!r}; nearest: {near}")
    outputs: dict[str, torch.Tensor] = {}
    size = 0

    def start(module, args, kwargs):
        nonlocal size
        outputs.clear()
        size = len(_first_tensor((args, kwargs)))

    def keep(name):
        turned = _sequence_first(encoder, name)

        def hook(module, args, output):
            outputs.pop(name, None)
            tensor = _batch_first(_first_tensor(output), size, turned, name)
            outputs[name] = tensor.detach().clone()

        return hook

    with ExitStack() as hooks:
        hooks.enter_context(encoder.register_forward_pre_hook(start, with_kwargs=True))
        for name in dict.fromkeys(layers):
            hooks.enter_context(modules[name].register_forward_hook(keep(name)))
        yield outputs


def _weighted(module: nn.Module) -> dict[str, nn.Module]:
    children = module.named_children()
    return {name: child for name, child in children if next(child.parameters(), None) is not None}


def _in_stacks(module: nn.Module, prefix: str) -> list[str]:
    """Elements of the deepest numbered stacks of composites below `module`, in order."""
    children = _weighted(module)
    stack = isinstance(module, nn.Sequential | nn.ModuleList) and any(
        name.isdigit() and _weighted(child) for name, child in children.items()
    )
    found = []
    for name, child in children.items():
        inside = _in_stacks(child, f"{prefix}{name}.")
        found += inside or [f"{prefix}{name}"] * stack
    return found


def _first_tensor(value) -> torch.Tensor | None:
    if isinstance(value, torch.Tensor):
        return value
    inside = value.values() if isinstance(value, dict) else value
    for part in inside if isinstance(value, dict | list | tuple) else ():
        if (tensor := _first_tensor(part)) is not None:
            return tensor
    return None


def _sequence_first(encoder: nn.Module, name: str) -> bool:
    """Whether the transformer with this layer runs as (L, N, D), by the nearest `batch_first`."""
    parts = name.split(".") if name else []
    for depth in range(len(parts), -1, -1):
        module = encoder.get_submodule(".".join(parts[:depth]))
        if isinstance(module, nn.TransformerEncoder):
            module = module.layers[0]
        if isinstance(module, nn.TransformerEncoderLayer):
            module = module.self_attn
        # open_clip's Transformer turns its own output back; what lies inside is turned around
        if depth < len(parts) or isinstance(module, nn.MultiheadAttention):
            batch_first = getattr(module, "batch_first", None)
            if isinstance(batch_first, bool):
                return not batch_first
    return False


def _batch_first(output: torch.Tensor | None, size: int, turned: bool, name: str) -> torch.Tensor:
    shape = () if output is None else tuple(output.shape)
    axes = [axis for axis, length in enumerate(shape) if length == size]
    if turned and 1 in axes and len(shape) > 2:
        return output.transpose(0, 1)
    if 0 in axes or len(axes) == 1:
        return output.movedim(0 if 0 in axes else axes[0], 0)
    raise ModelError(
        f"layer {name!r} gives shape {shape} for a batch of {size}: no axis can be the batch"
    )
