"""Blocks are found in any network, and what is recorded has the batch first and leaves nothing behind."""

import pytest
import torch
from torch import nn

from classvec_lab.datasets.torchvision_repair import ensure_torchvision
from classvec_lab.errors import ModelError
from classvec_lab.models.blocks import block_names, recorded

ensure_torchvision()
import open_clip.model  # noqa: E402
import timm  # noqa: E402
from open_clip.transformer import VisionTransformer  # noqa: E402


def vit(*, batch_first=True, layers=3):
    """open_clip's vision transformer on 16 × 16 images: five tokens."""
    torch.manual_seed(0)
    encoder = VisionTransformer(
        image_size=16, patch_size=8, width=8, layers=layers, heads=2, mlp_ratio=2.0, output_dim=6
    ).eval()
    if not batch_first:
        encoder.transformer.batch_first = False
        for block in encoder.transformer.resblocks:
            block.attn.batch_first = False
    return encoder


class Users(nn.Module):
    """Stem, two stages of residual blocks with other names than any library's, defined out of order."""

    class Block(nn.Module):
        def __init__(self):
            super().__init__()
            self.inner = nn.Linear(4, 4)

        def forward(self, x):
            return x + self.inner(x)

    def __init__(self):
        super().__init__()
        self.second = nn.ModuleList([self.Block()])
        self.first = nn.ModuleList([self.Block(), self.Block()])
        self.stem = nn.Linear(12, 4)

    def forward(self, x):
        x = self.stem(x.flatten(1))
        for block in (*self.first, *self.second):
            x = block(x)
        return x


FOUND = {
    "open_clip vit": (
        vit,
        ["transformer.resblocks.0", "transformer.resblocks.1", "transformer.resblocks.2"],
    ),
    "open_clip resnet": (
        lambda: open_clip.model.ModifiedResNet(
            [1, 2, 1, 1], output_dim=8, heads=2, image_size=32, width=8
        ),
        ["layer1.0", "layer2.0", "layer2.1", "layer3.0", "layer4.0"],
    ),
    "open_clip's timm tower": (
        lambda: open_clip.timm_model.TimmModel("test_vit", 8, image_size=160, pretrained=False),
        [f"trunk.blocks.{i}" for i in range(6)],
    ),
    "timm vit": (
        lambda: timm.create_model("test_vit", num_classes=0),
        [f"blocks.{i}" for i in range(6)],
    ),
    "timm resnet": (
        lambda: timm.create_model("resnet10t", num_classes=0),
        ["layer1.0", "layer2.0", "layer3.0", "layer4.0"],
    ),
    "mlp": (
        lambda: nn.Sequential(nn.Flatten(), nn.Linear(12, 4), nn.ReLU(), nn.Linear(4, 3)),
        ["1", "3"],
    ),
    "wrapped mlp": (
        lambda: nn.Sequential(nn.Sequential(nn.Linear(12, 4), nn.ReLU(), nn.Linear(4, 3))),
        ["0.0", "0.2"],
    ),
    "one layer": (lambda: nn.Linear(3, 2), [""]),
    "a user's": (Users, ["second.0", "first.0", "first.1"]),
}


@pytest.mark.parametrize("name", FOUND)
def test_blocks_are_found(name):
    build, expected = FOUND[name]
    assert list(block_names(build())) == expected


@pytest.mark.parametrize(
    "name", ["mobilenetv2_050", "mobilenetv3_small_050", "convnext_atto", "test_efficientnet"]
)
def test_blocks_of_nested_stages_are_the_innermost(name):
    encoder = timm.create_model(name, num_classes=0)
    names = block_names(encoder)
    inner = "stages.0.blocks.0" if name == "convnext_atto" else "blocks.0.0"
    assert inner in names
    assert len(names) == len(set(names)) > 3
    assert all(not other.startswith(f"{a}.") for a in names for other in names)


def test_recorded_follows_the_order_of_computing():
    encoder = Users()
    with recorded(encoder, block_names(encoder)) as found, torch.no_grad():
        encoder(torch.randn(5, 3, 2, 2))
    assert list(found) == ["first.0", "first.1", "second.0"]


@pytest.mark.parametrize("n", [1, 3, 5, 7])
def test_sequence_first_gives_the_same_as_batch_first(n):
    """Five tokens: at n = 5 the shape alone can't tell the batch from the sequence."""
    x = torch.randn(n, 3, 16, 16)
    both = []
    for batch_first in (True, False):
        encoder = vit(batch_first=batch_first)
        names = (
            *block_names(encoder),
            "transformer.resblocks.1.mlp",
            "transformer",
            "transformer.resblocks.0.attn",
        )
        with recorded(encoder, names) as found, torch.no_grad():
            encoder(x)
        both.append(found)
    for name, a in both[0].items():
        assert a.shape == both[1][name].shape == (n, 5, 8)
        torch.testing.assert_close(a, both[1][name])


def test_torchs_own_sequence_first_encoder():
    class Encoder(nn.Module):
        def __init__(self):
            super().__init__()
            layer = nn.TransformerEncoderLayer(8, 2, 16, batch_first=False)
            self.stack = nn.TransformerEncoder(layer, 2, enable_nested_tensor=False)

        def forward(self, x):
            return self.stack(x.transpose(0, 1))[0]

    encoder = Encoder().eval()
    x = torch.randn(4, 4, 8)
    with recorded(encoder, block_names(encoder)) as found, torch.no_grad():
        encoder(x)
        whole = dict(found)
        encoder(x[:2])
    for name in block_names(encoder):
        torch.testing.assert_close(whole[name][:2], found[name])


def test_in_place_operations_do_not_reach_what_was_recorded():
    encoder = nn.Sequential(nn.Linear(3, 4), nn.ReLU(inplace=True))
    x = torch.randn(6, 3)
    with recorded(encoder, ["0"]) as found, torch.no_grad():
        encoder(x)
        torch.testing.assert_close(found["0"], encoder[0](x))


def test_tuples_and_mappings_give_their_first_tensor():
    class Pair(nn.Module):
        def forward(self, x):
            return {"a": (None, x + 1), "b": x}

    class Outer(nn.Module):
        def __init__(self):
            super().__init__()
            self.pair = Pair()

        def forward(self, x):
            return self.pair(x)["b"]

    encoder, x = Outer(), torch.zeros(2, 3)
    with recorded(encoder, ["pair"]) as found:
        encoder(x)
    torch.testing.assert_close(found["pair"], x + 1)


def hooks(module):
    return sum(len(m._forward_hooks) + len(m._forward_pre_hooks) for m in module.modules())


def test_hooks_are_gone_afterwards():
    encoder = vit()
    with recorded(encoder, block_names(encoder)):
        assert hooks(encoder) == 4
    assert hooks(encoder) == 0
    with pytest.raises(RuntimeError), recorded(encoder, block_names(encoder)):
        encoder(torch.zeros(1, 3, 7, 7))
    assert hooks(encoder) == 0
    with pytest.raises(ModelError), recorded(encoder, ["transformer.resblocks.0", "nonsense"]):
        pass
    assert hooks(encoder) == 0


def test_an_unknown_layer_names_the_nearest():
    with pytest.raises(
        ModelError,
        match=r"VisionTransformer has no layer 'transformer.resblock.1'; nearest: 'transformer.resblocks.1'",
    ):
        recorded(vit(), ["transformer.resblock.1"]).__enter__()


def test_an_output_without_a_batch_axis_is_refused():
    class Pooled(nn.Module):
        def forward(self, x):
            return x.mean(0)

    encoder = nn.Sequential(nn.Linear(3, 7), Pooled())
    with (
        pytest.raises(ModelError, match=r"layer '1' gives shape \(7,\) for a batch of 5"),
        recorded(encoder, ["1"]),
    ):
        encoder(torch.zeros(5, 3))
