"""The end of an encoder, run again and again from activations computed once."""

import math
from collections.abc import Mapping, Sequence
from contextlib import contextmanager

import torch
from torch import nn
from torch.nn import functional as F

from ...datasets.torchvision_repair import ensure_torchvision
from ...errors import ModelError
from ...models.device import parts

CHOICES = ("ln_post", "ln_2", "last_block", "last_2_blocks", "last_3_blocks")
_UNDERSTOOD = "open_clip's VisionTransformer (so tiny-clip and every open_clip ViT), timm's VisionTransformer, and nn.Sequential"
_BEHIND = ("ln_post", "norm", "fc_norm")  # norms after the last block
_INSTEAD = "map_edit's closed form changes the last linear map instead and needs no LayerNorm"


class _Captured(Exception):
    """Stops an encoder's pass once the wanted activation is known."""


class Suffix(nn.Module):
    """z = suffix(prefix(images)): an encoder cut so that the named LayerNorms lie behind the cut, and as little else as possible.

    layernorms: names of LayerNorm modules in the encoder. `prefix(images)` runs what lies before the
    cut, `forward(state, parameters)` the rest; `parameters` maps names of the Classifier's state
    ("encoder.ln_post.weight") to tensors that take the place of the encoder's own, which are never
    changed and get no gradient. A vision transformer that reads the class token alone computes only that
    token in its last block. `cut` says where the cut is. Raises ModelError where the encoder can't be cut.
    """

    def __init__(self, encoder: nn.Module, layernorms: Sequence[str]):
        super().__init__()
        self.layernorms = tuple(layernorms)
        kind, blocks = _kind(encoder)
        positions = [_position(name, blocks) for name in self.layernorms]
        first = min(positions, default=len(blocks))
        self._last, self._kind = len(blocks) - 1, kind
        short = kind == "open_clip" and _reads_class_token_alone(encoder)
        # the class token's way through the last block: 0 all of it, 1 what follows attention, 2 nothing
        self._done = 0
        if short and first >= self._last:
            inside = [
                name for name, p in zip(self.layernorms, positions, strict=True) if p == self._last
            ]
            self._done = 2 if not inside else int(all(name.endswith("ln_2") for name in inside))
        self._first, self._short = min(first, self._last), short
        self._captured = blocks[self._first]
        after = ["", " after attention", " after the block"][self._done]
        self.cut = f"{'class token of' if self._done else 'input of'} {self._captured}{after}"
        self.encoder = encoder
        before = blocks[: self._first]
        self._frozen = [
            (n, p)
            for n, p in self.named_parameters()
            if not any(_within(n, f"encoder.{block}") for block in before)
        ]

    @property
    def names(self) -> tuple[str, ...]:
        """The affine parameters of the LayerNorms, named as in a Classifier's state."""
        return tuple(
            f"encoder.{norm}.{name}"
            for norm in self.layernorms
            for name, _ in self.encoder.get_submodule(norm).named_parameters()
        )

    def prefix(self, images: torch.Tensor) -> torch.Tensor:
        """Activations (N, …) at the cut for preprocessed images (N, 3, H, W); the encoder's mode is as before afterwards."""
        device = next(self.encoder.parameters()).device
        with torch.no_grad(), _evaluating(self.encoder):
            return torch.cat([self._prefix(part.to(device)) for part in parts(images, device)])

    def forward(
        self, state: torch.Tensor, parameters: Mapping[str, torch.Tensor] | None = None
    ) -> torch.Tensor:
        """Representations (N, m) float32 of activations at the cut."""
        used = {name: p.detach() for name, p in self._frozen} | dict(parameters or {})
        with _evaluating(self.encoder):
            z = torch.func.functional_call(
                _Run(self), {f"suffix.{name}": value for name, value in used.items()}, state
            )
        return z.float()

    def require_linear(self) -> None:
        """Raise ModelError unless z is linear in the parameters: ln_post alone, before a class token that alone is read."""
        if self._done != 2 or self.layernorms != ("ln_post",):
            raise ModelError(
                "representations are linear only in ln_post of an open_clip VisionTransformer that reads the class token "
                f"alone (parameters='ln_post'); not in {', '.join(self.layernorms)} of this {type(self.encoder).__name__}"
            )

    def linear(self, state: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor]:
        """(n, P) with z = (n · gain + bias) P for the gain and bias of ln_post: n (N, D) normalised tokens, P (D, m)."""
        self.require_linear()
        norm, projection = self.encoder.ln_post, self.encoder.proj
        tokens = F.layer_norm(state, norm.normalized_shape, eps=norm.eps)
        return tokens, torch.eye(
            tokens.shape[1], device=tokens.device
        ) if projection is None else projection.detach()

    def _prefix(self, images: torch.Tensor) -> torch.Tensor:
        held = []

        def hold(module, args):
            held.append(args[0])
            raise _Captured

        handle = self.encoder.get_submodule(self._captured).register_forward_pre_hook(hold)
        try:
            self.encoder(images)
        except _Captured:
            pass
        finally:
            handle.remove()
        (x,) = held
        if self._kind == "open_clip" and not self.encoder.transformer.batch_first:
            x = x.transpose(0, 1)
        block = self.encoder.get_submodule(self._captured)
        if self._done >= 1:
            x = _attend(block, x)
        if self._done == 2:
            x = _perceive(block, x)
        return x.clone()

    def _rest(self, x: torch.Tensor) -> torch.Tensor:
        encoder = self.encoder
        if self._kind == "sequential":
            for module in list(encoder)[self._first :]:
                x = module(x)
            return x
        if self._kind == "timm":
            for block in encoder.blocks[self._first :]:
                x = block(x)
            return encoder.forward_head(encoder.norm(x))
        blocks, turned = encoder.transformer.resblocks, not encoder.transformer.batch_first
        for block in blocks[self._first : self._last if self._short else None]:
            x = block(x.transpose(0, 1)).transpose(0, 1) if turned else block(x)
        if not self._short:
            pooled = encoder._pool(x)[0]
        else:
            if self._done < 1:
                x = _attend(blocks[-1], x)
            if self._done < 2:
                x = _perceive(blocks[-1], x)
            pooled = encoder.ln_post(x)
        return pooled if encoder.proj is None else pooled @ encoder.proj


class _Run(nn.Module):
    """Lets torch.func call `_rest`, not `forward`."""

    def __init__(self, suffix: Suffix):
        super().__init__()
        self.suffix = suffix

    def forward(self, state):
        return self.suffix._rest(state)


def layernorm_names(encoder: nn.Module, choice: str | Sequence[str]) -> tuple[str, ...]:
    """Names of LayerNorms in an encoder's own order.

    choice: "ln_post" (the last norm of all), "ln_2" (the last norm of the last block), "last_block",
    "last_2_blocks", "last_3_blocks" (those of the last blocks, without ln_post), or names of modules.
    Raises ModelError for an encoder without LayerNorm or of a kind that can't be cut, and for an unknown choice.
    """
    norms = [
        name
        for name, module in encoder.named_modules()
        if isinstance(module, nn.LayerNorm) and module.elementwise_affine
    ]
    if not norms:
        own = sorted({type(m).__name__ for m in encoder.modules() if "Norm" in type(m).__name__})
        raise ModelError(
            f"{type(encoder).__name__} has no LayerNorm to change (its norms: {', '.join(own) or 'none'}): this mapping is made "
            f"for vision transformers; {_INSTEAD}"
        )
    _, blocks = _kind(encoder)
    if not isinstance(choice, str):
        unknown = [name for name in choice if name not in norms]
        if unknown or not choice:
            raise ModelError(
                f"no LayerNorm {', '.join(unknown) or 'named'}; there are {', '.join(norms)}"
            )
        return tuple(name for name in norms if name in set(choice))
    if choice not in CHOICES:
        raise ModelError(
            f"parameters must be one of {', '.join(CHOICES)}, or names of LayerNorms ({', '.join(norms)}); got {choice!r}"
        )
    inside = [found for block in blocks if (found := [n for n in norms if _within(n, block)])]
    behind = [n for n in norms if n in _BEHIND]
    if choice == "ln_post":
        return tuple(behind[-1:] or norms[-1:])
    if not inside:
        raise ModelError(
            f"the blocks of this {type(encoder).__name__} hold no LayerNorm, so {choice!r} is empty; there are {', '.join(norms)}"
        )
    if choice == "ln_2":
        return tuple(inside[-1][-1:])
    count = {"last_block": 1, "last_2_blocks": 2, "last_3_blocks": 3}[choice]
    return tuple(name for block in inside[-count:] for name in block)


def _kind(encoder: nn.Module) -> tuple[str, tuple[str, ...]]:
    """How an encoder can be cut, and the names of the blocks at whose input that is possible."""
    ensure_torchvision()
    from open_clip.transformer import VisionTransformer
    from timm.models.vision_transformer import VisionTransformer as TimmVisionTransformer

    if type(encoder) is VisionTransformer:
        return "open_clip", tuple(
            f"transformer.resblocks.{i}" for i in range(len(encoder.transformer.resblocks))
        )
    if type(encoder) is TimmVisionTransformer:
        return "timm", tuple(f"blocks.{i}" for i in range(len(encoder.blocks)))
    if isinstance(encoder, nn.Sequential) and len(encoder):
        return "sequential", tuple(name for name, _ in encoder.named_children())
    raise ModelError(
        f"{type(encoder).__name__} can't be cut into a prefix and a suffix; understood: {_UNDERSTOOD}. Else {_INSTEAD}"
    )


def _within(name: str, block: str) -> bool:
    return name == block or name.startswith(f"{block}.")


def _position(name: str, blocks: Sequence[str]) -> int:
    """Index of the block that holds the LayerNorm `name`; the number of blocks for one behind them all."""
    for i, block in enumerate(blocks):
        if _within(name, block):
            return i
    if name in _BEHIND:
        return len(blocks)
    raise ModelError(
        f"LayerNorm {name!r} lies in no block, nor behind the last; choose one that does"
    )


def _reads_class_token_alone(encoder: nn.Module) -> bool:
    from open_clip.transformer import ResidualAttentionBlock

    block = encoder.transformer.resblocks[-1]
    return (
        encoder.attn_pool is None
        and encoder.pool_type == "tok"
        and type(block) is ResidualAttentionBlock
        and isinstance(block.ln_1, nn.LayerNorm)
        and block.attn.in_proj_weight is not None
        and block.attn.in_proj_bias is not None
        and block.attn.bias_k is None
        and not block.attn.add_zero_attn
    )


def _attend(block: nn.Module, x: torch.Tensor) -> torch.Tensor:
    """The class token (N, D) after a block's attention, of tokens x (N, L, D).

    With one query a head, keys and values need not be formed: the query is taken through the keys' weights
    to the tokens, and the mean of tokens, not of values, through the values' weights. The tokens are
    normalised once, and the affine part of ln_1 is applied to the query and to the mean.
    """
    norm, attention = block.ln_1, block.attn
    (n, _, d), heads = x.shape, attention.num_heads
    tokens = F.layer_norm(x, norm.normalized_shape, eps=norm.eps)
    q_weight, k_weight, v_weight = attention.in_proj_weight.chunk(3)
    q_bias, _, v_bias = attention.in_proj_bias.chunk(
        3
    )  # the keys' bias shifts all scores of a query alike
    query = F.linear(tokens[:, 0] * norm.weight + norm.bias, q_weight, q_bias).view(
        n, heads, -1
    ) / math.sqrt(d // heads)
    query = torch.einsum("nhd,hde->nhe", query, k_weight.view(heads, -1, d)) * norm.weight
    mean = torch.softmax(query @ tokens.transpose(1, 2), dim=-1) @ tokens * norm.weight + norm.bias
    value = torch.einsum("nhe,hde->nhd", mean, v_weight.view(heads, -1, d)).reshape(n, d) + v_bias
    return x[:, 0] + block.ls_1(attention.out_proj(value))


def _perceive(block: nn.Module, x: torch.Tensor) -> torch.Tensor:
    """What a block's second half makes of its tokens."""
    return x + block.ls_2(block.mlp(block.ln_2(x)))


@contextmanager
def _evaluating(encoder: nn.Module):
    training = [module for module in encoder.modules() if module.training]
    encoder.eval()
    try:
        yield
    finally:
        for module in training:
            module.training = True
