"""The blocks of any encoder, found by themselves, and their activations."""

import difflib
from collections.abc import Iterator, Sequence
from contextlib import contextmanager

import torch
from torch import nn

from ..errors import ModelError


def block_names(encoder: nn.Module) -> tuple[str, ...]:
    """Names of an encoder's blocks in the order of their definition, as in
    "transformer.resblocks.0" or "layer1.0".

    A block is a numbered element of an nn.Sequential or nn.ModuleList that holds composite
    elements, at the deepest such level: residual blocks, transformer blocks, inverted residuals.
    Without any, the direct children with parameters, so each layer of an nn.Sequential; at last
    ("",), the encoder itself.
    """
    inner, prefix = encoder, ""
    while (
        len(children := _weighted(inner)) == 1
    ):  # a wrapper has nothing to choose from: look inside
        ((name, inner),) = children
        prefix += f"{name}."
    found = _in_stacks(inner, prefix) or [prefix + name for name, _ in children]
    return tuple(found) or (prefix.rstrip("."),)


def batchnorms(model: nn.Module) -> list[nn.Module]:
    """The batch-norm layers of a network."""
    return [m for m in model.modules() if isinstance(m, nn.modules.batchnorm._BatchNorm)]


@contextmanager
def recorded(encoder: nn.Module, layers: Sequence[str]) -> Iterator[dict[str, torch.Tensor]]:
    """A dict that each pass of `encoder` fills with one tensor a layer, (N, …) with the batch
    first, in the order of computing.

    layers: names of submodules; "" is the encoder itself. Of a tuple or mapping the first tensor is
    taken, of several calls the last. What a sequence-first transformer gives, (L, N, D), is turned
    around. The tensors are detached copies, safe from later in-place operations. All hooks are gone
    on leaving, also after an error. Raises ModelError for an unknown layer, naming the nearest, and
    where no axis of an output can be the batch.
    """
    modules = dict(encoder.named_modules())
    if unknown := [name for name in layers if name not in modules]:
        near = difflib.get_close_matches(unknown[0], [m for m in modules if m], n=3, cutoff=0.4)
        nearest = ", ".join(map(repr, near)) or ", ".join(map(repr, block_names(encoder)[:3]))
        raise ModelError(
            f"{type(encoder).__name__} has no layer {unknown[0]!r}; nearest: {nearest}"
        )
    outputs: dict[str, torch.Tensor] = {}
    size = 0

    def start(module, args, kwargs):
        nonlocal size
        outputs.clear()
        size = len(_first_tensor((args, kwargs)))

    def keep(name):
        sequence_first = _sequence_first(encoder, name)

        def hook(module, args, output):
            outputs.pop(name, None)
            outputs[name] = (
                _batch_first(_first_tensor(output), size, sequence_first, name).detach().clone()
            )

        return hook

    handles = []
    try:
        handles.append(encoder.register_forward_pre_hook(start, with_kwargs=True))
        for name in dict.fromkeys(layers):
            handles.append(modules[name].register_forward_hook(keep(name)))
        yield outputs
    finally:
        for handle in handles:
            handle.remove()


def _weighted(module: nn.Module) -> list[tuple[str, nn.Module]]:
    return [
        (name, child)
        for name, child in module.named_children()
        if any(True for _ in child.parameters())
    ]


def _in_stacks(module: nn.Module, prefix: str) -> list[str]:
    """Elements of the deepest numbered stacks of composites below `module`, in order."""
    children = _weighted(module)
    stack = isinstance(module, nn.Sequential | nn.ModuleList) and any(
        n.isdigit() and _weighted(c) for n, c in children
    )
    found = []
    for name, child in children:
        inside = _in_stacks(child, f"{prefix}{name}.")
        found += inside or ([f"{prefix}{name}"] if stack else [])
    return found


def _first_tensor(value) -> torch.Tensor:
    if isinstance(value, torch.Tensor):
        return value
    for part in (
        value.values()
        if isinstance(value, dict)
        else value
        if isinstance(value, list | tuple)
        else ()
    ):
        if (tensor := _first_tensor(part)) is not None:
            return tensor
    return None


def _sequence_first(encoder: nn.Module, name: str) -> bool:
    """Whether the transformer that holds this layer runs as (L, N, D): the nearest `batch_first`
    attribute decides.
    """
    parts = name.split(".") if name else []
    for depth in range(len(parts), -1, -1):
        module = encoder.get_submodule(".".join(parts[:depth]))
        if isinstance(module, nn.TransformerEncoder):
            module = module.layers[0]
        if isinstance(module, nn.TransformerEncoderLayer):
            module = module.self_attn
        # open_clip's Transformer turns its own output back; what lies inside it is still turned
        # around
        if depth < len(parts) or isinstance(module, nn.MultiheadAttention):
            batch_first = getattr(module, "batch_first", None)
            if isinstance(batch_first, bool):
                return not batch_first
    return False


def _batch_first(
    output: torch.Tensor | None, size: int, sequence_first: bool, name: str
) -> torch.Tensor:
    if output is not None and output.ndim:
        axes = [axis for axis, length in enumerate(output.shape) if length == size]
        if sequence_first and 1 in axes and output.ndim > 2:
            return output.transpose(0, 1)
        if 0 in axes:
            return output
        if len(axes) == 1:
            return output.movedim(axes[0], 0)
    shape = "no tensor" if output is None else f"shape {tuple(output.shape)}"
    raise ModelError(
        f"layer {name!r} gives {shape} for a batch of {size}: no axis can be the batch"
    )
