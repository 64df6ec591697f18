"""The blocks of any encoder, found by themselves, and their activations."""

import difflib
from collections.abc import Iterator, Mapping, Sequence
from contextlib import ExitStack, contextmanager
from functools import partial

import torch
from torch import nn
from torch.utils._pytree import tree_leaves

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
    """The batch-norm layers of a network that keep running statistics."""
    kind = nn.modules.batchnorm._BatchNorm
    return [m for m in model.modules() if isinstance(m, kind) and m.running_mean is not None]


@contextmanager
def evaluating(model: nn.Module) -> Iterator[None]:
    """Eval mode inside; on leaving each part of the network has its own mode again."""
    modes = {module: module.training for module in model.modules()}
    try:
        model.eval()
        yield
    finally:
        for module, mode in modes.items():
            module.training = mode


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
            near = difflib.get_close_matches(name, modules, cutoff=0.4)
            near = listed(map(repr, near or block_names(encoder)[:3]))
            raise ModelError(f"{type(encoder).__name__} has no layer {name!r}; nearest: {near}")
    outputs: dict[str, torch.Tensor] = {}
    size = 0

    def start(module, args, kwargs):
        nonlocal size
        outputs.clear()
        size = len(first_tensor((args, kwargs)))

    def keep(name, module, args, output):
        tensor = first_tensor(output)
        shape = () if tensor is None else tuple(tensor.shape)
        axes = [axis for axis, length in enumerate(shape) if length == size]
        if 1 in axes and len(shape) > 2 and _sequence_first(modules, name):
            axes = [1]
        elif 0 in axes:
            axes = [0]
        if len(axes) != 1:
            what = f"layer {name!r} gives shape {shape} for a batch of {size}"
            raise ModelError(f"{what}: no axis can be the batch")
        outputs[name] = tensor.movedim(axes[0], 0).detach().clone()

    with ExitStack() as hooks:
        hooks.enter_context(encoder.register_forward_pre_hook(start, with_kwargs=True))
        for name in dict.fromkeys(layers):
            hooks.enter_context(modules[name].register_forward_hook(partial(keep, name)))
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


def first_tensor(value) -> torch.Tensor | None:
    """The first tensor of a tuple, a mapping or an output object; None where there is none."""
    return next((leaf for leaf in tree_leaves(value) if isinstance(leaf, torch.Tensor)), None)


def _sequence_first(modules: Mapping[str, nn.Module], name: str) -> bool:
    """Whether the transformer with this layer runs as (L, N, D), by the nearest `batch_first`."""
    around = [path for path in modules if f"{name}.".startswith(path and f"{path}.")]
    for path in reversed(around):  # the layer itself, what holds it, …, the encoder
        module = modules[path]
        if isinstance(module, nn.TransformerEncoder):
            module = module.layers[0]
        if isinstance(module, nn.TransformerEncoderLayer):
            module = module.self_attn
        # open_clip's Transformer turns its own output back; what lies inside is turned around
        inside = path != name or isinstance(module, nn.MultiheadAttention)
        if inside and hasattr(module, "batch_first"):
            return not module.batch_first
    return False
