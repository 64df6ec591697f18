"""Prefix and suffix together are the encoder, wherever it is cut."""

import pytest
import torch
from torch import nn

from classvec_lab.datasets.torchvision_repair import ensure_torchvision
from classvec_lab.editing.weights.suffix import CHOICES, Suffix, layernorm_names
from classvec_lab.errors import ModelError

ensure_torchvision()
import timm  # noqa: E402
from open_clip.transformer import VisionTransformer  # noqa: E402

BLOCK = "transformer.resblocks."


def vit(*, batch_first=True, layers=3, **options):
    """open_clip's vision transformer on 16 × 16 images, five tokens, with LayerNorms unlike the identity."""
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


def together(encoder, names, x, parameters=None):
    suffix = Suffix(encoder, names)
    with torch.no_grad():
        return suffix(suffix.prefix(x), parameters)


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


@pytest.mark.parametrize("choice", [*CHOICES, (f"{BLOCK}0.ln_2", "ln_post")])
@pytest.mark.parametrize("variant", VARIANTS)
def test_open_clip_prefix_and_suffix_are_the_encoder(variant, choice):
    encoder, x = vit(**VARIANTS[variant]), images()
    with torch.no_grad():
        whole = encoder(x)
    torch.testing.assert_close(
        together(encoder, layernorm_names(encoder, choice), x), whole, atol=1e-6, rtol=1e-5
    )


def test_the_built_in_model_in_float64_is_reproduced_closely():
    from classvec_lab import load_classifier

    encoder = load_classifier("tiny-clip").encoder.double()
    x = images(3, 32).double()
    with torch.no_grad():
        whole = encoder(x)
    for choice in CHOICES:
        suffix = Suffix(encoder, layernorm_names(encoder, choice))
        with torch.no_grad():
            assert (suffix._rest(suffix.prefix(x)) - whole).abs().max() < 1e-12 * whole.abs().max()


@pytest.mark.parametrize("choice", CHOICES)
def test_timm_prefix_and_suffix_are_the_encoder(choice):
    encoder = varied(timm.create_model("test_vit", num_classes=0, img_size=32).eval())
    x = images(2, 32)
    with torch.no_grad():
        whole = encoder(x)
    torch.testing.assert_close(
        together(encoder, layernorm_names(encoder, choice), x), whole, atol=1e-5, rtol=1e-5
    )


def test_a_sequential_encoder_is_cut_at_its_layernorm():
    torch.manual_seed(0)
    encoder = nn.Sequential(
        nn.Flatten(),
        nn.Linear(192, 8),
        nn.LayerNorm(8),
        nn.ReLU(),
        nn.Linear(8, 8),
        nn.LayerNorm(8),
    )
    varied(encoder)
    x = images(size=8)
    assert layernorm_names(encoder, "last_block") == layernorm_names(encoder, "ln_post") == ("5",)
    assert layernorm_names(encoder, "last_2_blocks") == ("2", "5")
    suffix = Suffix(encoder, ("2", "5"))
    assert suffix.prefix(x).shape == (4, 8)
    with torch.no_grad():
        torch.testing.assert_close(together(encoder, ("2", "5"), x), encoder(x))


def test_choices_name_the_layernorms():
    encoder = vit()
    assert layernorm_names(encoder, "ln_post") == ("ln_post",)
    assert layernorm_names(encoder, "ln_2") == (f"{BLOCK}2.ln_2",)
    assert layernorm_names(encoder, "last_block") == (f"{BLOCK}2.ln_1", f"{BLOCK}2.ln_2")
    assert layernorm_names(encoder, "last_2_blocks") == tuple(
        f"{BLOCK}{i}.ln_{j}" for i in (1, 2) for j in (1, 2)
    )
    assert layernorm_names(encoder, ("ln_post", f"{BLOCK}0.ln_1")) == (f"{BLOCK}0.ln_1", "ln_post")
    assert Suffix(encoder, ("ln_post",)).names == ("encoder.ln_post.weight", "encoder.ln_post.bias")


@pytest.mark.parametrize(
    ("choice", "shape", "cut"),
    [
        ("ln_post", (4, 8), f"class token of {BLOCK}2 after the block"),
        ("ln_2", (4, 8), f"class token of {BLOCK}2 after attention"),
        ("last_block", (4, 5, 8), f"input of {BLOCK}2"),
        ("last_2_blocks", (4, 5, 8), f"input of {BLOCK}1"),
    ],
)
def test_as_little_as_possible_lies_behind_the_cut(choice, shape, cut):
    encoder = vit()
    suffix = Suffix(encoder, layernorm_names(encoder, choice))
    assert suffix.prefix(images()).shape == shape
    assert suffix.cut == cut


@pytest.mark.parametrize("choice", CHOICES)
def test_other_parameters_act_as_if_they_were_the_encoders(choice):
    encoder, x = vit(), images()
    suffix = Suffix(encoder, layernorm_names(encoder, choice))
    own = dict(suffix.named_parameters())
    other = {name: own[name].detach() + torch.randn_like(own[name]) for name in suffix.names}
    before = {k: v.clone() for k, v in encoder.state_dict().items()}
    with torch.no_grad():
        given = suffix(suffix.prefix(x), other)
    assert all(torch.equal(v, before[k]) for k, v in encoder.state_dict().items())
    encoder.load_state_dict(
        {name.removeprefix("encoder."): value for name, value in other.items()}, strict=False
    )
    with torch.no_grad():
        torch.testing.assert_close(given, encoder(x), atol=1e-5, rtol=1e-5)


def test_gradients_reach_the_given_parameters_alone_and_match_the_encoders():
    encoder, x = vit(), images()
    suffix = Suffix(encoder, layernorm_names(encoder, "last_block"))
    own = dict(suffix.named_parameters())
    given = {name: own[name].detach().clone().requires_grad_() for name in suffix.names}
    suffix(suffix.prefix(x), given).square().sum().backward()
    assert all(p.grad is None for p in encoder.parameters())
    encoder(x).square().sum().backward()
    for name, value in given.items():
        torch.testing.assert_close(value.grad, own[name].grad, atol=1e-4, rtol=1e-4)


def test_mode_and_hooks_are_as_before():
    encoder = vit().train()
    encoder.ln_pre.eval()
    suffix = Suffix(encoder, ("ln_post",))
    suffix(suffix.prefix(images()))
    assert encoder.training
    assert not encoder.ln_pre.training
    assert not any(m._forward_pre_hooks or m._forward_hooks for m in encoder.modules())


def test_the_last_norm_is_linear_in_its_parameters():
    encoder, x = vit(), images()
    suffix = Suffix(encoder, ("ln_post",))
    state = suffix.prefix(x)
    tokens, projection = suffix.linear(state)
    with torch.no_grad():
        torch.testing.assert_close(
            (tokens * encoder.ln_post.weight + encoder.ln_post.bias) @ projection, encoder(x)
        )
    with pytest.raises(ModelError, match="linear only in ln_post"):
        Suffix(encoder, (f"{BLOCK}2.ln_2",)).require_linear()
    with pytest.raises(ModelError, match="linear only in ln_post"):
        Suffix(vit(pool_type="avg"), ("ln_post",)).require_linear()


@pytest.mark.parametrize(
    ("encoder", "choice", "words"),
    [
        (
            nn.Sequential(nn.Flatten(), nn.Linear(192, 4)),
            "ln_2",
            r"no LayerNorm .*norms: none.*closed form",
        ),
        (timm.create_model("resnet10t", num_classes=0), "ln_2", r"norms: BatchNorm2d.*closed form"),
        (
            timm.create_model("convnext_atto", num_classes=0),
            "ln_post",
            r"ConvNeXt can't be cut.*timm's VisionTransformer",
        ),
        (vit(), "ln_3", r"must be one of ln_post, ln_2, .*got 'ln_3'"),
        (vit(), ("ln_postt",), r"no LayerNorm ln_postt; there are ln_pre"),
        (vit(), (), "no LayerNorm named"),
        (nn.Sequential(nn.Flatten(), nn.LayerNorm(192)), "first", "must be one of"),
    ],
)
def test_what_cannot_be_done_is_said(encoder, choice, words):
    with pytest.raises(ModelError, match=words):
        layernorm_names(encoder, choice)


def test_a_norm_before_the_blocks_cannot_be_behind_a_cut():
    with pytest.raises(ModelError, match="'ln_pre' lies in no block"):
        Suffix(vit(), ("ln_pre",))
