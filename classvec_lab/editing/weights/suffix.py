"""The end of an encoder, run again and again: what runs before the first changed norm is replayed."""

import copy
from collections.abc import Mapping, Sequence

import torch
from torch import nn

from ...checks import listed, one_of
from ...errors import ModelError
from ...models.blocks import block_names
from ...models.device import parts

BLOCKS = {"ln_2": 1, "last_block": 1, "last_2_blocks": 2, "last_3_blocks": 3}
CHOICES = ("ln_post", *BLOCKS)
CLOSE = 1e-5  # relative error up to which two ways of running an encoder are the same


class _Reached(Exception):
    """Stops an encoder's pass at the first changed norm."""


class Suffix:
    """z as a function of the LayerNorm parameters, for images that stay the same.

    One pass keeps the outputs of all modules that end before the first of the norms begins. Later passes
    are the encoder's own forward with these outputs in place of the modules, so that any encoder will do.
    Where the first token alone reaches z, as in a vision transformer's last norms, the others are dropped.
    The encoder itself is never touched: its copy shares the weights and gives them no gradient.

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
        norms = [self._encoder.get_submodule(name) for name in layernorms]
        self._own = {
            f"{name}.{part}": value
            for name, norm in zip(layernorms, norms, strict=True)
            for part, value in norm.named_parameters()
        }
        self.origin = torch.zeros_like(nn.utils.parameters_to_vector(self._own.values()))
        device = self.origin.device
        images = [part.to(device) for part in parts(images, device)]
        self._kept = [(part, self._record(part, norms)) for part in images]
        for module in self._kept[0][1]:
            module.forward = self._replaying(module)
        self._drop_tokens()

    def split(self, q: torch.Tensor) -> dict[str, torch.Tensor]:
        """q (P,), one number for each parameter of the norms, by names and in shapes of parameters."""
        parts = q.split([own.numel() for own in self._own.values()])
        return {n: part.view_as(p) for (n, p), part in zip(self._own.items(), parts, strict=True)}

    def __call__(self, q: torch.Tensor) -> torch.Tensor:
        """z (N, m) float32 with q (P,) added to the parameters of the norms."""
        return torch.cat([self._run(*kept, q) for kept in self._kept]).float()

    def _run(self, images, outputs, q) -> torch.Tensor:
        self._left = {module: list(found) for module, found in outputs.items()}
        changed = {name: self._own[name] + change for name, change in self.split(q).items()}
        return torch.func.functional_call(self._encoder, changed, (images,))

    def _replaying(self, module):
        forward = module.forward

        def replay(*args, **kwargs):
            left = self._left[module]
            # a copy, because the encoder may work on it in place
            return copy.deepcopy(left.pop(0)) if left else forward(*args, **kwargs)

        return replay

    def _record(self, images: torch.Tensor, norms: list[nn.Module]) -> dict:
        """Outputs, in order, of each module that ends before the norms begin, unless a module around it does."""
        ended, begun = [], []  # (module, output); how many had ended when each open call began

        def begin(module, args):
            if module in norms:
                raise _Reached
            begun.append(len(ended))

        def end(module, args, output):
            del ended[begun.pop() :]
            ended.append((module, copy.deepcopy(output)))

        handles = []
        for module in self._encoder.modules():
            handles.append(module.register_forward_pre_hook(begin))
            handles.append(module.register_forward_hook(end))
        try:
            with torch.no_grad():
                self._encoder(images)
        except _Reached:
            outputs = {}
            for module, output in ended:
                outputs.setdefault(module, []).append(output)
            return outputs
        finally:
            for handle in handles:
                handle.remove()
        raise ModelError(f"{type(self._encoder).__name__} runs without {listed(self._own)}")

    def _drop_tokens(self) -> None:
        """Keep the first token alone, if z is the same without the others, whatever the parameters."""
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


def layernorm_names(encoder: nn.Module, choice: str | Sequence[str]) -> tuple[str, ...]:
    """Names of LayerNorms in an encoder's own order.

    Args:
        encoder: any encoder with LayerNorms; its blocks are those of `block_names`.
        choice: "ln_post" (the last norm of all), "ln_2" (the last norm in the last block), "last_block",
            "last_2_blocks", "last_3_blocks" (all norms in the last blocks), or names of modules.
    Raises:
        ModelError: for an encoder without LayerNorm, or in whose blocks there is none, and for an
            unknown choice.
    """
    norms = [
        name
        for name, module in encoder.named_modules()
        if isinstance(module, nn.LayerNorm) and module.elementwise_affine
    ]
    kind = type(encoder).__name__
    if not norms:
        raise ModelError(
            f"{kind} has no LayerNorm to change; map_edit's closed form changes the last linear map "
            "instead and needs none"
        )
    if not isinstance(choice, str):
        for name in choice or [""]:
            one_of(name, norms, "LayerNorm", ModelError)
        return tuple(name for name in norms if name in choice)
    if one_of(choice, CHOICES, "choice of LayerNorms", ModelError) == "ln_post":
        return (norms[-1],)
    blocks = [[n for n in norms if f"{n}.".startswith(f"{b}.")] for b in block_names(encoder)]
    chosen = [name for block in list(filter(None, blocks))[-BLOCKS[choice] :] for name in block]
    if not chosen:
        raise ModelError(
            f"the blocks of this {kind} hold no LayerNorm, so {choice!r} is empty; "
            f"there are {listed(norms)}"
        )
    return tuple(chosen[-1:] if choice == "ln_2" else chosen)
