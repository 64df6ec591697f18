"""Where a network's head is: any network as an encoder, and the head that reads what it gives."""

from collections.abc import Callable

import numpy as np
import torch
from PIL import Image
from torch import nn
from torch.nn.modules.module import register_module_forward_hook

from ..checks import one_of
from ..errors import ModelError
from .blocks import first_tensor
from .heads import CosineHead


class HeadPlace(nn.Identity):
    """Where a network's head was: what it read is the network's output."""


class Trunk(nn.Module):
    """A network whose output is an object, read for the tensor in it that counts."""

    def __init__(self, network: nn.Module):
        super().__init__()
        self.network = network

    def forward(self, images: torch.Tensor) -> torch.Tensor:
        """Representations (N, m) of preprocessed images."""
        return first_tensor(self.network(images))


def plain(encoder: nn.Module) -> nn.Module:
    """The network as its own library knows it."""
    return encoder.network if isinstance(encoder, Trunk) else encoder


def head_place(encoder: nn.Module) -> str:
    """The name that the head had in the network which an encoder was; "head" where it had none."""
    modules = plain(encoder).named_modules()
    return next((name for name, m in modules if isinstance(m, HeadPlace)), "head")


@torch.no_grad()
def cut(
    network: nn.Module, preprocess: Callable, layer: str | None = None
) -> tuple[nn.Module, nn.Module | None, int]:
    """Cut a network in eval mode into an encoder and its head, in place, checked on two images.

    The head is the innermost module with weights that reads one vector an image and gives what the
    network gives.

    Args:
        network: gives logits, or an object that holds them; without a head, representations.
        preprocess: of its images.
        layer: the head, or the layer whose output it reads, where that can't be seen.
    Returns:
        The encoder, the head, None where none was found, and m, the width of the representation.
    Raises:
        ModelError: for an unknown layer, or where head(encode(x)) isn't what the network gives.
    """
    name, modules = type(network).__name__, dict(network.named_modules())
    calls, read = [], []
    chosen = modules[one_of(layer, modules, f"layer of {name}", ModelError)] if layer else None

    def keep(module, given, output):
        if module is chosen:
            read.append(first_tensor(output).flatten(1))
        if given and getattr(given[0], "ndim", 0) == 2:
            calls.append((module, given[0], output))

    try:
        noise = np.random.default_rng(0).integers(0, 256, (2, 48, 64, 3), np.uint8)
        x = torch.stack([preprocess(Image.fromarray(image)) for image in noise])
        x = x.to(next(network.parameters(), x))
        with register_module_forward_hook(keep):
            logits = first_tensor(output := network(x))
        if logits.ndim != 2:
            raise ValueError(f"it gives shape {tuple(logits.shape)}")
    except Exception as error:
        what = f"{name} fails on two images of 64 × 48 pixels"
        raise ModelError(f"{what} ({type(error).__name__}: {error})") from error
    heads = [
        (module, z)
        for module, z, out in calls
        if _same(out, logits) and module.state_dict()
        if not layer or module is chosen or any(_same(z, given) for given in read)
    ]
    encoder = network if output is logits else Trunk(network)
    if not heads:
        if layer:
            raise ModelError(f"nothing reads {layer!r} alone and gives what {name} gives")
        return encoder, None, logits.shape[-1]
    head, z = heads[0]
    place = next(path for path, module in modules.items() if module is head)
    parent, _, last = place.rpartition(".")
    setattr(network.get_submodule(parent), last, HeadPlace())
    if not (_same(encoder(x), z) and torch.allclose(head(z), logits, rtol=1e-5, atol=1e-5)):
        raise ModelError(f"{place!r} is not all that {name} computes of what it reads")
    for size, value in (("in_features", z.shape[1]), ("out_features", logits.shape[1])):
        if not hasattr(head, size):
            setattr(head, size, value)
    return encoder, head, z.shape[1]


def _same(a, b: torch.Tensor) -> bool:
    return isinstance(a, torch.Tensor) and a.dtype == b.dtype and torch.equal(a, b)


def state_dict_as_loaded(classifier) -> dict[str, torch.Tensor]:
    """Weights, edited or not, under the names that they came with: a copy of them.

    The network that a classifier was cut from loads them strictly. A CLIP's are those of its image
    tower. A head that was no part of a network has its entries under "head.".

    Raises:
        ModelError: for an edit that acts behind the encoder, which is in no weights.
    """
    encoder, head = classifier.encoder, classifier.head
    if hasattr(head, "moved"):
        raise ModelError("this edit acts behind the encoder; write it into weights by map_edit")
    clip = "visual." if classifier.name.startswith(("open_clip:", "tiny-clip")) else ""
    state = {clip + name: tensor for name, tensor in plain(encoder).state_dict().items()}
    if not (clip and isinstance(head, CosineHead)):
        place = head_place(encoder)
        state |= {f"{place}.{name}": tensor for name, tensor in head.state_dict().items()}
    return {name: tensor.clone() for name, tensor in state.items()}
