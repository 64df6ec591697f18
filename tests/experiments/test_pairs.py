"""Pairs of checkpoints that a user has: extract, class vectors, edit, and weights back in their own format."""

import pickle
import sys
import types
import warnings

import numpy as np
import pytest
import torch
from conftest import coloured
from PIL import Image
from torch import nn

from classvec_lab import (
    Classifier,
    ClassVectors,
    CosineHead,
    extract_features,
    inject,
    load_classifier,
    map_edit,
    prepare,
)
from classvec_lab.datasets.torchvision_repair import ensure_torchvision
from classvec_lab.errors import FileFormatError, MismatchError, ModelError
from classvec_lab.models import state_dict_as_loaded

ensure_torchvision()
COLOURS = ("blue", "green", "red")
SMALL = {"size": 8, "mean": [0.5] * 3, "std": [0.5] * 3}


def shifted(state, seed=1, amount=0.05):
    """A state dict that fine-tuning might have made of another."""
    generator = torch.Generator().manual_seed(seed)
    return {
        k: v + amount * torch.randn(v.shape, generator=generator)
        if v.is_floating_point() and "var" not in k
        else v
        for k, v in state.items()
    }


class Net(nn.Module):
    def __init__(self):
        super().__init__()
        torch.manual_seed(0)
        self.conv, self.bn = nn.Conv2d(3, 6, 3), nn.BatchNorm2d(6)
        self.fc = nn.Linear(6, 3)

    def forward(self, x):
        return self.fc(torch.relu(self.bn(self.conv(x))).mean((2, 3)))


def timm_network():
    import timm

    return timm.create_model("test_resnet", num_classes=3)


def torchvision_network():
    from torchvision import models

    return models.shufflenet_v2_x0_5(num_classes=3)


def vit(folder):
    import transformers

    config = transformers.ViTConfig(
        hidden_size=8,
        num_hidden_layers=1,
        num_attention_heads=2,
        intermediate_size=8,
        image_size=8,
        patch_size=4,
        num_labels=3,
    )
    network = transformers.ViTForImageClassification(config)
    network.save_pretrained(folder / "vit")
    transformers.ViTImageProcessor(size={"height": 8, "width": 8}).save_pretrained(folder / "vit")
    return network


CLIP = {
    "vision_cfg": {"image_size": 8, "patch_size": 4, "width": 16, "layers": 1, "head_width": 8},
    "text_cfg": {"context_length": 77, "vocab_size": 49408, "width": 16, "heads": 2, "layers": 1},
    "embed_dim": 12,
}


def clip_network():
    from open_clip.model import CLIP as Model

    return Model(**CLIP)


def kinds(folder):
    """The network, its architecture by name, more arguments, and how its files are written."""
    yield timm_network(), {"arch": "timm:test_resnet", "preprocess": SMALL}, lambda s: {"model": s}
    yield (
        torchvision_network(),
        {"arch": "torchvision:shufflenet_v2_x0_5", "preprocess": SMALL},
        lambda s: {f"module.{k}": v for k, v in s.items()},
    )
    yield (
        vit(folder),
        {"arch": f"hf:{folder / 'vit'}", "preprocess": SMALL},
        lambda s: {"state_dict": {f"_orig_mod.{k}": v for k, v in s.items()}},
    )
    yield (
        clip_network(),
        {"arch": "open_clip:ViT-B-32/random", "model_args": CLIP, "preprocess": SMALL},
        lambda s: {f"module.{k}": v for k, v in s.items()},
    )
    base = Classifier.from_module(Net(), classes=COLOURS, preprocess=SMALL)
    yield Net(), {"arch": base}, lambda s: s


@pytest.mark.parametrize("kind", range(5), ids=["timm", "torchvision", "hf", "open_clip", "own"])
def test_from_a_pair_of_files_to_an_edited_one(kind, tmp_path):
    torch.manual_seed(0)
    network, how, write = list(kinds(tmp_path))[kind]
    network.eval()
    files = []
    for name, state in {"pre": network.state_dict(), "ft": shifted(network.state_dict())}.items():
        torch.save(write(state), tmp_path / f"{name}.pt")
        files.append(tmp_path / f"{name}.pt")
    pre, ft = (load_classifier(file, classes=COLOURS, **how) for file in files)
    data = coloured(30, classes=COLOURS)
    features = [extract_features(model, data, progress=False) for model in (pre, ft)]
    vectors = ClassVectors.from_features(*features)
    assert np.abs(vectors.kappa).max() > 0
    edited = map_edit(ft, -1.5 * vectors["red"], features[1], method="discriminant").apply_to(ft)
    state = state_dict_as_loaded(edited)
    own = network.state_dict()
    assert state.keys() == {k for k in own if kind != 3 or k.startswith("visual.")}
    network.load_state_dict({**shifted(own), **state})
    x = torch.stack([edited.preprocess(image) for image, _ in data])
    with torch.inference_mode():
        if kind == 3:
            ours, theirs = edited.encode(x), network.encode_image(x)
        else:
            ours, theirs = edited(x), network(x)
        torch.testing.assert_close(ours, getattr(theirs, "logits", theirs), rtol=1e-5, atol=1e-5)
    with pytest.raises(ModelError, match="acts behind the encoder"):
        state_dict_as_loaded(inject(ft, -vectors["red"]))


# `prepare` with a model that was fine-tuned elsewhere


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    """An image folder with three classes."""
    root = tmp_path_factory.mktemp("images")
    for split, n in (("train", 18), ("val", 6), ("test", 6)):
        images = coloured(n, split=split, classes=COLOURS)
        for i, (image, label) in enumerate(images):
            (root / split / COLOURS[label]).mkdir(parents=True, exist_ok=True)
            image.resize((16, 16), Image.Resampling.NEAREST).save(
                root / split / COLOURS[label] / f"{i}.png"
            )
    return str(root)


MLP = {"size": 8, "hidden": [6], "dim": 5}


def test_a_file_of_the_same_architecture_is_the_fine_tuned_model(folder, tmp_path):
    ft = load_classifier("mlp", classes=COLOURS, model_args=MLP, seed=7)
    torch.save({"model": ft.state_dict()}, tmp_path / "ft.pt")
    for head in ("auto", "own"):
        exp = prepare(
            dataset=folder,
            model="mlp",
            model_args=MLP,
            finetuned=str(tmp_path / "ft.pt"),
            head=head,
        )
        assert exp.history is None
        assert exp.ft.fingerprint == ft.fingerprint != exp.pre.fingerprint
        assert torch.equal(exp.ft.head.weight, ft.head.weight)
        assert torch.equal(exp.pre.head.weight, ft.head.weight)
        assert exp.pre.head is not exp.ft.head
    encoder = {k: v for k, v in ft.state_dict().items() if k.startswith("encoder")}
    torch.save(encoder, tmp_path / "e.pt")
    with pytest.warns(UserWarning, match="holds an encoder alone, and takes the head of mlp"):
        exp = prepare(dataset=folder, model="mlp", model_args=MLP, finetuned=str(tmp_path / "e.pt"))
    assert torch.equal(exp.pre.head.weight, exp.ft.head.weight)
    with (
        pytest.warns(UserWarning, match="holds an encoder alone"),
        pytest.raises(ModelError, match=r"no head of .*'own'; there are"),
    ):
        prepare(
            dataset=folder,
            model="mlp",
            model_args=MLP,
            finetuned=str(tmp_path / "e.pt"),
            head="own",
        )
    torch.save(
        load_classifier("mlp", classes=COLOURS, model_args=MLP | {"dim": 4}).state_dict(),
        tmp_path / "d.pt",
    )
    with pytest.raises(
        MismatchError, match=r"d\.pt doesn't fit the network .*of another shape: 3\.weight"
    ):
        prepare(dataset=folder, model="mlp", model_args=MLP, finetuned=str(tmp_path / "d.pt"))


def test_mlp_files_pre_trained_and_fine_tuned(folder, tmp_path):
    models = [load_classifier("mlp", classes=COLOURS, model_args=MLP, seed=s) for s in (1, 2)]
    for name, model in zip(("pre", "ft"), models, strict=True):
        torch.save(model.state_dict(), tmp_path / f"{name}.pt")
    how = {"weights": str(tmp_path / "pre.pt"), "finetuned": str(tmp_path / "ft.pt")}
    with pytest.warns(UserWarning, match="came without preprocessing|is taken for a head"):
        exp = prepare(dataset=folder, model="mlp", model_args=MLP, **how)
    for ours, theirs in zip((exp.pre, exp.ft), models, strict=True):
        assert ours.fingerprint == theirs.fingerprint
        assert torch.equal(ours.head.weight, theirs.head.weight)


def test_another_source_may_be_the_fine_tuned_model(folder, tmp_path, monkeypatch):
    (tmp_path / "their_models_y.py").write_text(
        "from classvec_lab import load_classifier\n"
        "def build(seed=0):\n"
        f"    return load_classifier('mlp', classes={COLOURS}, model_args={MLP}, seed=seed)\n"
        "def wide():\n"
        f"    return load_classifier('mlp', classes={COLOURS}, model_args={MLP | {'dim': 9}})\n"
        "def large():\n"
        f"    return load_classifier('mlp', classes={COLOURS}, model_args={MLP | {'size': 16}})\n"
    )
    monkeypatch.chdir(tmp_path)
    how = {"dataset": folder, "model": "mlp", "model_args": MLP}
    exp = prepare(finetuned="their_models_y:build", seed=4, **how)
    assert exp.ft.name == "mlp"
    assert exp.ft.fingerprint != exp.pre.fingerprint
    with pytest.raises(
        MismatchError,
        match="finetuned='their_models_y:wide' gives 9 dimensions and the pre-trained one 5",
    ):
        prepare(finetuned="their_models_y:wide", **how)
    with pytest.warns(UserWarning, match="has other preprocessing than the pre-trained model"):
        prepare(finetuned="their_models_y:large", **how)
    monkeypatch.delitem(sys.modules, "their_models_y")


def test_a_saved_network_of_one_s_own_stands_beside_the_one_it_came_from(
    folder, tmp_path, monkeypatch
):
    """The way of a newcomer: a module with his network, and a folder or a file of what it became."""
    (tmp_path / "my_net_z.py").write_text(
        "import torch\nfrom torch import nn\nfrom classvec_lab import Classifier\n"
        "def build():\n    torch.manual_seed(0)\n"
        "    net = nn.Sequential(nn.Conv2d(3, 5, 3), nn.AdaptiveAvgPool2d(1), nn.Flatten(), nn.Linear(5, 3))\n"
        f"    return Classifier.from_module(net, classes={COLOURS}, preprocess={SMALL})\n"
    )
    monkeypatch.chdir(tmp_path)
    base = load_classifier("my_net_z:build")
    torch.save(shifted(state_dict_as_loaded(base)), tmp_path / "ft.pt")
    ft = load_classifier(tmp_path / "ft.pt", arch=base)
    saved = ft.save(tmp_path / "ft")
    for finetuned in (saved, tmp_path / "ft.pt"):
        exp = prepare(dataset=folder, model="my_net_z:build", finetuned=str(finetuned))
        assert exp.ft.fingerprint == ft.fingerprint
        assert torch.equal(exp.ft.head.weight, ft.head.weight)
    files = {"weights": str(tmp_path / "ft.pt")}
    assert (
        prepare(dataset=folder, model="my_net_z:build", fine_tune=False, **files).pre.fingerprint
        == ft.fingerprint
    )
    path = {"model": str(tmp_path / "ft.pt"), "model_args": {"arch": "my_net_z:build"}}
    assert prepare(dataset=folder, fine_tune=False, **path).pre.fingerprint == ft.fingerprint
    monkeypatch.delitem(sys.modules, "my_net_z")


def test_task_arithmetic_s_pickled_encoders_are_a_pair(folder, tmp_path, monkeypatch):
    """ImageEncoder pickled whole, its text tower's blocks removed; the head is from the tag's prompts."""
    import open_clip

    room = types.ModuleType("src.modeling")

    class ImageEncoder(nn.Module):
        def __init__(self, clip):
            super().__init__()
            self.model, self.cache_dir = clip, None
            del self.model.transformer

        def forward(self, images):
            return self.model.encode_image(images)

    ImageEncoder.__module__, ImageEncoder.__qualname__ = "src.modeling", "ImageEncoder"
    room.ImageEncoder = ImageEncoder
    monkeypatch.setitem(sys.modules, "src", types.ModuleType("src"))
    monkeypatch.setitem(sys.modules, "src.modeling", room)
    torch.manual_seed(0)
    clip = clip_network()
    text = {k: v.clone() for k, v in clip.state_dict().items()}
    encoder = ImageEncoder(clip)
    torch.save(encoder, tmp_path / "zeroshot.pt")
    encoder.load_state_dict(shifted(encoder.state_dict()))
    (tmp_path / "finetuned.pt").write_bytes(pickle.dumps(encoder))
    monkeypatch.delitem(sys.modules, "src.modeling")
    real = open_clip.create_model

    def create(arch, tag, **options):
        made = real(arch, None, **options)
        if tag:
            made.load_state_dict(text)
        return made

    monkeypatch.setattr(open_clip, "create_model", create)
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        exp = prepare(
            dataset=folder, model="open_clip:ViT-B-32/laion2b_e16", weights=str(tmp_path / "zeroshot.pt"),
            model_args=CLIP | {"preprocess": SMALL}, finetuned=str(tmp_path / "finetuned.pt"),
        )  # fmt: skip
    assert isinstance(exp.pre.head, CosineHead)
    assert torch.equal(exp.pre.head.weight, exp.ft.head.weight)
    x = torch.stack([exp.ft.preprocess(image) for image, _ in exp.test])
    with torch.inference_mode():
        torch.testing.assert_close(exp.ft.encode(x), encoder(x), rtol=1e-5, atol=1e-5)
        torch.testing.assert_close(exp.ft(x), exp.ft.head(encoder(x)), rtol=1e-5, atol=1e-5)
    (tmp_path / "bad.pt").write_text("version https://git-lfs.github.com/spec/v1\n")
    with pytest.raises(FileFormatError, match="Git-LFS pointer"):
        prepare(dataset=folder, model="mlp", model_args=MLP, finetuned=str(tmp_path / "bad.pt"))
