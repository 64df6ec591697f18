"""The end of an encoder, run again and again, with what comes before it replayed."""

import copy
import weakref
from collections.abc import Sequence

import torch
from torch import nn

from ...checks import listed, one_of
from ...errors import ModelError
from ...models.blocks import block_names
from ...models.device import parts

BLOCKS = {"ln_2": 1, "last_block": 1, "last_2_blocks": 2, "last_3_blocks": 3}
CHOICES = ("ln_post", *BLOCKS, "all")
CLOSE = 1e-5  # relative error up to which two ways of running an encoder are the same


class _Reached(Exception):
    """Stops an encoder's pass at the first changed norm."""


class Suffix:
    """z as a function of the LayerNorm parameters, for images that stay the same.

    One pass keeps the outputs of all modules that end before the first of the norms begins. Later
    passes are the encoder's own forward with these outputs in place of the modules, so any encoder
    will do. Where the first token alone reaches z, as from the last norms of most vision
    transformers, the others are dropped. The encoder itself is never touched: a copy of its modules
    shares its weights and gives them no gradient.

    Args:
        encoder: maps images (N, 3, H, W) to z (N, m).
        layernorms: names of LayerNorms in it, see `layernorm_names`.
        images: preprocessed images (N, 3, H, W).
    Raises:
        ModelError: if the encoder runs without calling the norms.
    """

    def __init__(self, encoder: nn.Module, layernorms: Sequence[str], images: torch.Tensor):
        shared = {id(p): nn.Parameter(p.detach(), False) for p in encoder.parameters()}
        shared |= {id(buffer): buffer for buffer in encoder.buffers()}
        self._encoder = copy.deepcopy(encoder, shared).eval()
        self._norms = [self._encoder.get_submodule(name) for name in layernorms]
        own = self._encoder.named_parameters()
        self._own = {name: p for name, p in own if name.rpartition(".")[0] in layernorms}
        self.origin = torch.zeros_like(nn.utils.parameters_to_vector(self._own.values()))
        for module in self._encoder.modules():
            module.forward = self._replaying(module)
            # torch's transformer layers would go round their own parts, were there no hook
            module.register_forward_hook(lambda *given: None)
        images = images.to(self.origin.device)
        self._kept = [(part, self._record(part)) for part in parts(images, images.device)]
        self._drop_tokens()

    def split(self, q: torch.Tensor) -> dict[str, torch.Tensor]:
        """q (P,), a number for each affine parameter of the norms, by name and in their shapes."""
        parts = q.split([p.numel() for p in self._own.values()])
        return {n: part.view_as(p) for (n, p), part in zip(self._own.items(), parts, strict=True)}

    def __call__(self, q: torch.Tensor) -> torch.Tensor:
        """z (N, m) float32 with q (P,) added to the parameters of the norms."""
        return torch.cat([self._run(*kept, q) for kept in self._kept]).float()

    def _run(self, images, outputs, q) -> torch.Tensor:
        self._ended = None
        self._left = {module: list(found) for module, found in outputs.items()}
        changed = {name: self._own[name] + change for name, change in self.split(q).items()}
        return torch.func.functional_call(self._encoder, changed, (images,))

    def _record(self, images):
        """Outputs, in order, of the outermost modules that end before the norms begin."""
        self._ended, self._left, outputs = [], {}, {}
        try:
            with torch.no_grad():
                self._encoder(images)
        except _Reached:
            for module, output in self._ended:
                outputs.setdefault(module, []).append(output)
            return outputs
        raise ModelError(f"{type(self._encoder).__name__} runs without {listed(self._own)}")

    def _replaying(self, module: nn.Module):
        # a proxy, so that activations are freed with the suffix
        forward, own = module.forward, weakref.proxy(self)

        def run(*args, **kwargs):
            if left := own._left.get(module):
                return copy.deepcopy(left.pop(0))  # the encoder may work on it in place
            if own._ended is None:
                return forward(*args, **kwargs)
            if module in own._norms:
                raise _Reached
            begun = len(own._ended)
            output = forward(*args, **kwargs)
            own._ended[begun:] = [(module, copy.deepcopy(output))]
            return output

        return run

    def _drop_tokens(self) -> None:
        """Keep the first token alone, if z is the same without the others after a change, too."""
        short = [
            (x, {module: list(map(_first, found)) for module, found in outputs.items()})
            for x, outputs in self._kept
        ]
        with torch.no_grad():
            try:
                z, whole = (self._run(*kept[0], self.origin + 1) for kept in (short, self._kept))
            except (RuntimeError, ValueError, IndexError, AssertionError):
                return  # the encoder minds that tokens are missing
        if z.shape == whole.shape and (z - whole).abs().max() <= CLOSE * whole.abs().max():
            self._kept = short


def _first(output):
    """The first token of activations (N, L, D); anything else as it is."""
    if isinstance(output, tuple):
        return tuple(map(_first, output))
    if isinstance(output, torch.Tensor) and output.ndim == 3:
        return output[:, :1].clone()
    return output


def layernorm_names(encoder: nn.Module, choice: str) -> tuple[str, ...]:
    """Names of LayerNorms in an encoder's own order.

    Args:
        encoder: any encoder with LayerNorms; its blocks are those of `block_names`.
        choice: "ln_post" (the last norm of all), "ln_2" (the last norm in the last block),
            "last_block", "last_2_blocks", "last_3_blocks" (all norms in the last blocks that have
            any), "all".
    Raises:
        ModelError: for an encoder without LayerNorm, or in whose blocks there is none, and for an
            unknown choice.
    """
    norms = [
        name
        for name, module in encoder.named_modules()
        if isinstance(module, nn.LayerNorm) and module.elementwise_affine
    ]
    if one_of(choice, CHOICES, "choice of LayerNorms", ModelError) in ("ln_post", "all"):
        chosen = norms if choice == "all" else norms[-1:]
    else:
        blocks = [[n for n in norms if f"{n}.".startswith(f"{b}.")] for b in block_names(encoder)]
        chosen = [name for block in list(filter(None, blocks))[-BLOCKS[choice] :] for name in block]
        chosen = chosen[-1:] if choice == "ln_2" else chosen
    if not chosen:
        raise ModelError(
            f"{type(encoder).__name__} has no LayerNorm for {choice!r}, of "
            f"{listed(norms) or 'none'}; map_edit's closed form needs none"
        )
    return tuple(chosen)
