"""Replayed from its first changed norm on, an encoder gives what it gives."""

import gc
import weakref

import pytest
import torch
from torch import nn

from classvec_lab import load_classifier
from classvec_lab.datasets.torchvision_repair import ensure_torchvision
from classvec_lab.editing.weights.suffix import CHOICES, Suffix, layernorm_names
from classvec_lab.errors import ModelError
from classvec_lab.models import device

ensure_torchvision()
import timm  # noqa: E402
from open_clip.transformer import LayerNorm, VisionTransformer  # noqa: E402
from timm.models.swin_transformer import SwinTransformer  # noqa: E402

BLOCK = "transformer.resblocks."


def vit(*, batch_first=True, layers=3, **options):
    """open_clip's vision transformer on 16 × 16 images, 5 tokens, LayerNorms not the identity."""
    torch.manual_seed(0)
    encoder = VisionTransformer(
        16, 8, width=8, layers=layers, heads=2, mlp_ratio=2.0, output_dim=6, **options
    ).eval()
    if not batch_first:
        encoder.transformer.batch_first = False
        for block in encoder.transformer.resblocks:
            block.attn.batch_first = False
    return varied(encoder)


def varied(encoder):
    with torch.no_grad():
        for parameter in encoder.parameters():
            parameter += 0.3 * torch.randn_like(parameter)
    return encoder


def images(n=4, size=16):
    return torch.randn(n, 3, size, size, generator=torch.Generator().manual_seed(1))


def rebuilt(encoder, choice, x, q=None):
    """z of the suffix from the norms of `choice` on, with q added to their parameters."""
    names = layernorm_names(encoder, choice) if isinstance(choice, str) else choice
    suffix = Suffix(encoder, names, x)
    with torch.no_grad():
        return suffix(suffix.origin if q is None else q)


def whole(encoder, x):
    with torch.no_grad():
        return encoder(x)


def ran(encoder, choice, monkeypatch):
    """How many tokens each Linear, and each norm, of the encoder reads in one run of the suffix."""
    seen = {}

    def counting(kind):
        forward = kind.forward

        def run(module, x):
            seen.setdefault(kind.__name__, []).append(x.shape[1])
            return forward(module, x)

        return run

    for kind in (nn.Linear, LayerNorm, nn.Conv2d):
        monkeypatch.setattr(kind, "forward", counting(kind))
    suffix = Suffix(encoder, layernorm_names(encoder, choice), images())
    assert "Conv2d" in seen
    seen.clear()
    suffix(suffix.origin)
    return seen


VARIANTS = {
    "class token": {},
    "sequence first": {"batch_first": False},
    "layer scale": {"ls_init_value": 0.5},
    "mean of tokens": {"pool_type": "avg"},
    "norm after pooling": {"final_ln_after_pool": True, "pool_type": "avg"},
    "attentional pool": {
        "attentional_pool": True,
        "attn_pooler_heads": 2,
        "attn_pooler_queries": 3,
    },
    "own block": {"qk_norm": True},
    "one block": {"layers": 1},
}


@pytest.mark.parametrize("choice", [*CHOICES, (f"{BLOCK}0.ln_2", "ln_post"), ("ln_pre",)])
@pytest.mark.parametrize("variant", VARIANTS)
def test_open_clip_is_replayed_exactly(variant, choice):
    encoder, x = vit(**VARIANTS[variant]), images()
    z = rebuilt(encoder, choice, x)
    torch.testing.assert_close(z, whole(encoder, x), atol=1e-6, rtol=1e-5)


def test_the_built_in_model_in_float64_is_reproduced_closely():
    encoder = load_classifier("tiny-clip").encoder.double()
    x = images(3, 32).double()
    for choice in CHOICES:
        suffix = Suffix(encoder, layernorm_names(encoder, choice), x)
        z = suffix._run(*suffix._kept[0], suffix.origin)
        assert (z - whole(encoder, x)).abs().max() < 1e-12 * z.abs().max()


class Skipping(nn.Module):
    """Blocks of its own kind: an activation used again and again, work in place, a way round."""

    def __init__(self):
        super().__init__()
        self.start, self.act = nn.Linear(192, 8), nn.GELU()
        self.blocks = nn.ModuleList(nn.Sequential(nn.LayerNorm(8), nn.Linear(8, 8)) for _ in "123")

    def forward(self, x):
        x = start = self.act(self.start(x.flatten(1)))
        x *= 2
        for block in self.blocks:
            x = x + self.act(block(x))
        return x + start


def transformer():
    layer = nn.TransformerEncoderLayer(8, 2, 16, batch_first=True)
    inner = nn.TransformerEncoder(layer, 3, enable_nested_tensor=False)
    first = nn.Sequential(nn.Conv2d(3, 8, 8, 8), nn.Flatten(2), Turned())
    return nn.Sequential(first, inner, nn.LayerNorm(8), nn.Flatten())


class Turned(nn.Module):
    def forward(self, x):
        return x.transpose(1, 2)


OTHERS = {
    "timm": lambda: timm.create_model("test_vit", num_classes=0, img_size=32),
    "convnext": lambda: timm.create_model("test_convnext", num_classes=0),
    "swin": lambda: SwinTransformer(
        32, embed_dim=8, depths=(2, 2), num_heads=(2, 2), window_size=4, num_classes=0
    ),
    "torch": transformer,
    "own": Skipping,
}


@pytest.mark.parametrize("choice", CHOICES)
@pytest.mark.parametrize("kind", OTHERS)
def test_any_encoder_with_blocks_is_replayed(kind, choice):
    torch.manual_seed(0)
    encoder = varied(OTHERS[kind]().eval())
    x = images(2, 8 if kind == "own" else 32)
    names = layernorm_names(encoder, choice)
    before, q = whole(encoder, x), torch.linspace(-0.5, 0.5, len(Suffix(encoder, names, x).origin))
    torch.testing.assert_close(rebuilt(encoder, choice, x), before, atol=1e-5, rtol=1e-5)
    z = rebuilt(encoder, choice, x, q)
    nn.utils.vector_to_parameters(
        q + nn.utils.parameters_to_vector(own(encoder, names)), own(encoder, names)
    )
    assert (z - before).abs().max() > 1e-2
    torch.testing.assert_close(z, whole(encoder, x), atol=1e-5, rtol=1e-4)


def own(encoder, names):
    return [p for name in names for p in encoder.get_submodule(name).parameters()]


def test_a_sequential_encoder_is_cut_at_its_layernorm():
    torch.manual_seed(0)
    encoder = nn.Sequential(
        nn.Flatten(),
        nn.Linear(192, 8),
        nn.LayerNorm(8),
        nn.ReLU(inplace=True),
        nn.Linear(8, 8),
        nn.LayerNorm(8),
    )
    varied(encoder)
    x = images(size=8)
    assert layernorm_names(encoder, "last_block") == layernorm_names(encoder, "ln_post") == ("5",)
    assert layernorm_names(encoder, "last_2_blocks") == ("2", "5")
    for choice in ("last_2_blocks", "ln_post"):
        torch.testing.assert_close(rebuilt(encoder, choice, x), whole(encoder, x))


def test_choices_name_the_layernorms():
    encoder = vit()
    assert layernorm_names(encoder, "ln_post") == ("ln_post",)
    assert layernorm_names(encoder, "ln_2") == (f"{BLOCK}2.ln_2",)
    assert layernorm_names(encoder, "last_block") == (f"{BLOCK}2.ln_1", f"{BLOCK}2.ln_2")
    assert layernorm_names(encoder, "last_2_blocks") == tuple(
        f"{BLOCK}{i}.ln_{j}" for i in (1, 2) for j in (1, 2)
    )
    suffix = Suffix(encoder, ("ln_post",), images())
    changes = suffix.split(torch.arange(16.0))
    assert list(changes) == ["ln_post.weight", "ln_post.bias"]
    assert changes["ln_post.bias"].tolist() == list(range(8, 16))


@pytest.mark.parametrize(
    ("variant", "choice", "linear", "norm"),
    [
        ("class token", "ln_post", [], [1]),
        ("class token", "ln_2", [1, 1], [1, 1]),
        ("class token", "last_block", [5, 5], [5, 5, 5]),
        ("class token", "last_2_blocks", [5] * 4, [5] * 5),
        ("layer scale", "ln_2", [1, 1], [1, 1]),
        ("mean of tokens", "ln_2", [5, 5], [5, 5]),
        ("attentional pool", "ln_2", [5, 5], [5, 5, 3, 6]),
    ],
)
def test_as_little_as_possible_runs_again(variant, choice, linear, norm, monkeypatch):
    seen = ran(vit(**VARIANTS[variant]), choice, monkeypatch)
    assert seen.get("Linear", []) == linear
    assert sorted(seen["LayerNorm"]) == sorted(norm)
    assert "Conv2d" not in seen


def test_tokens_that_matter_only_after_a_change_are_kept():
    encoder = vit()
    with torch.no_grad():  # the last block's attention gives 0 until its ln_1 has a bias
        block = encoder.transformer.resblocks[2]
        block.ln_1.weight.zero_()
        block.ln_1.bias.zero_()
        block.attn.in_proj_bias.zero_()
    x, q = images(), torch.linspace(-1, 1, 32)
    z = rebuilt(encoder, "last_block", x, q)
    names = layernorm_names(encoder, "last_block")
    nn.utils.vector_to_parameters(
        q + nn.utils.parameters_to_vector(own(encoder, names)), own(encoder, names)
    )
    torch.testing.assert_close(z, whole(encoder, x), atol=1e-5, rtol=1e-5)


@pytest.mark.parametrize("choice", CHOICES)
def test_changed_parameters_act_as_if_they_were_the_encoders(choice):
    encoder, x = vit(), images()
    names = layernorm_names(encoder, choice)
    before = {k: v.clone() for k, v in encoder.state_dict().items()}
    q = torch.randn_like(Suffix(encoder, names, x).origin)
    given = rebuilt(encoder, choice, x, q)
    assert all(torch.equal(v, before[k]) for k, v in encoder.state_dict().items())
    nn.utils.vector_to_parameters(
        q + nn.utils.parameters_to_vector(own(encoder, names)), own(encoder, names)
    )
    torch.testing.assert_close(given, whole(encoder, x), atol=1e-5, rtol=1e-5)


@pytest.mark.parametrize("choice", CHOICES)
def test_gradients_reach_the_change_alone_and_match_the_encoders(choice):
    encoder, x = vit(), images()
    names = layernorm_names(encoder, choice)
    suffix = Suffix(encoder, names, x)
    q = suffix.origin.clone().requires_grad_()
    suffix(q).square().sum().backward()
    assert all(p.grad is None and p.requires_grad for p in encoder.parameters())
    encoder(x).square().sum().backward()
    expected = torch.cat([p.grad.flatten() for p in own(encoder, names)])
    torch.testing.assert_close(q.grad, expected, atol=1e-4, rtol=1e-4)


def test_large_batches_are_taken_in_parts(monkeypatch):
    encoder, x = vit(), images(7)
    monkeypatch.setattr(device, "AT_ONCE", 3 * x[0].numel())
    suffix = Suffix(encoder, ("ln_post",), x)
    assert len(suffix._kept) == 3
    torch.testing.assert_close(suffix(suffix.origin), whole(encoder, x), atol=1e-6, rtol=1e-5)


def test_mode_and_hooks_are_as_before():
    encoder = vit().train()
    encoder.ln_pre.eval()
    suffix = Suffix(encoder, ("ln_post",), images())
    suffix(suffix.origin)
    assert encoder.training
    assert not encoder.ln_pre.training
    assert not any(m._forward_pre_hooks or m._forward_hooks for m in encoder.modules())
    assert not any("forward" in vars(m) for m in encoder.modules())


@pytest.mark.parametrize(
    ("encoder", "choice", "words"),
    [
        (
            nn.Sequential(nn.Flatten(), nn.Linear(192, 4)),
            "ln_2",
            r"Sequential has no LayerNorm for 'ln_2', of none; map_edit's closed form",
        ),
        (timm.create_model("resnet10t", num_classes=0), "ln_2", r"ResNet has no LayerNorm"),
        (vit(), "ln_3", r"no choice of LayerNorms 'ln_3'; there are ln_post, ln_2, "),
        (
            nn.ModuleDict(
                {
                    "blocks": nn.ModuleList(nn.Sequential(nn.Linear(4, 4)) for _ in "12"),
                    "norm": nn.LayerNorm(4),
                }
            ),
            "ln_2",
            "ModuleDict has no LayerNorm for 'ln_2', of norm;",
        ),
    ],
)
def test_what_cannot_be_done_is_said(encoder, choice, words):
    with pytest.raises(ModelError, match=words):
        layernorm_names(encoder, choice)


def test_a_norm_that_never_runs_is_named():
    encoder = vit()
    encoder.spare = nn.LayerNorm(8)
    with pytest.raises(ModelError, match=r"VisionTransformer runs without spare\.weight"):
        Suffix(encoder, ("spare",), images())


def test_activations_go_with_the_suffix():
    suffix = Suffix(vit(), ("ln_post",), images())
    suffix(suffix.origin)
    gone = weakref.ref(suffix)
    gc.disable()
    try:
        del suffix
        assert gone() is None
    finally:
        gc.enable()
