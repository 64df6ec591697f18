"""open_clip and transformers: from names, folders, files and a hub cache with the hub offline; and the paper's architectures."""

import json
import shutil
import sys

import pytest
import torch
from one_image import ABC, IMAGE, close, read
from torch import nn

from classvec_lab import CosineHead, load_classifier
from classvec_lab.errors import MismatchError, ModelError
from classvec_lab.models import state_dict_as_loaded

TINY = {
    "vision_cfg": {"image_size": 32, "patch_size": 16, "width": 32, "layers": 1, "head_width": 16},
    "text_cfg": {"context_length": 77, "vocab_size": 49408, "width": 16, "heads": 2, "layers": 1},
    "embed_dim": 24,
}
CLIP = "open_clip:ViT-B-32/random"


@pytest.fixture(scope="module")
def clip():
    """A small CLIP of open_clip."""
    from open_clip.model import CLIP

    torch.manual_seed(5)
    return CLIP(**TINY).eval()


@pytest.fixture(scope="module")
def expected(clip):
    """Its image embedding and zero-shot logits."""
    import open_clip
    from open_clip.transform import PreprocessCfg, image_transform_v2

    x = image_transform_v2(PreprocessCfg(size=32), is_train=False)(IMAGE)[None]
    text = open_clip.get_tokenizer("ViT-B-32")([f"a {c}" for c in ABC])
    with torch.inference_mode():
        z, logits, _ = clip.encode_image(x), *clip.get_logits(x, text)
    return z, logits


def load(path, source=CLIP, **options):
    how = {"templates": ["a {}"], "model_args": TINY, "classes": ABC, "preprocess": None} | options
    return load_classifier(source, weights=path, **how)


CLIP_DEFAULT = {
    "size": 32,
    "mean": [0.48145466, 0.4578275, 0.40821073],
    "std": [0.26862954, 0.26130258, 0.27577711],
}


@pytest.mark.parametrize("prefix", ["", "module.", "model.", "module._orig_mod."])
def test_a_state_dict_of_open_clip_gives_its_features_and_its_zero_shot_head(
    clip, expected, tmp_path, prefix
):
    torch.save(
        {"state_dict": {prefix + k: v for k, v in clip.state_dict().items()}}, tmp_path / "c.pt"
    )
    classifier = load(tmp_path / "c.pt", preprocess=CLIP_DEFAULT)
    assert isinstance(classifier.head, CosineHead)
    for ours, theirs in zip(read(classifier), expected, strict=True):
        close(ours, theirs)
    visual = state_dict_as_loaded(classifier)
    assert visual.keys() == {k for k in clip.state_dict() if k.startswith("visual.")}
    assert all(torch.equal(v, clip.state_dict()[k]) for k, v in visual.items())


def image_towers(clip):
    """The image tower as people keep it: by itself, inside, and as task arithmetic's ImageEncoder."""
    state = clip.state_dict()
    visual = {k: v for k, v in state.items() if k.startswith("visual.")}
    yield visual
    yield {k.removeprefix("visual."): v for k, v in visual.items()}
    yield {f"model.{k}": v for k, v in state.items() if not k.startswith("transformer.")}
    yield {f"image_encoder.model.{k}": v for k, v in visual.items()}


def test_an_image_tower_alone_is_taken_with_a_word(clip, expected, tmp_path):
    for tower in image_towers(clip):
        torch.save(tower, tmp_path / "v.pt")
        with pytest.warns(UserWarning, match="text tower|holds no head") as told:
            classifier = load(tmp_path / "v.pt", preprocess=CLIP_DEFAULT)
        told = " ".join(str(w.message) for w in told)
        assert "has no whole text tower; heads from prompts are not to be had" in told
        assert "holds no head: a new one is drawn" in told
        close(read(classifier)[0], expected[0])
        assert isinstance(classifier.head, nn.Linear)


def test_the_head_that_stands_beside_an_image_tower_is_kept(clip, tmp_path):
    *_, tower = image_towers(clip)
    tower["classification_head.weight"], tower["classification_head.bias"] = (
        torch.randn(3, 24),
        torch.randn(3),
    )
    torch.save(tower, tmp_path / "v.pt")
    with pytest.warns(UserWarning, match=r"classification_head\.weight is taken for a head"):
        classifier = load(tmp_path / "v.pt", preprocess=CLIP_DEFAULT)
    assert torch.equal(classifier.head.weight, tower["classification_head.weight"])


def test_without_a_network_an_image_tower_can_still_be_read(clip, tmp_path, monkeypatch):
    """The tag's text tower is asked for where the file has none."""
    import open_clip

    torch.save(next(image_towers(clip)), tmp_path / "v.pt")
    asked, real = [], open_clip.create_model

    def create(arch, tag, **options):
        asked.append(tag)
        if tag and len(asked) == 2:
            raise RuntimeError("Failed to download weights")
        made = real(arch, None, **{k: v for k, v in options.items() if k != "force_quick_gelu"})
        if tag:
            made.load_state_dict(clip.state_dict())
        return made

    monkeypatch.setattr(open_clip, "create_model", create)
    with pytest.warns(UserWarning, match="not to be had|holds no head"):
        load(tmp_path / "v.pt", "open_clip:ViT-B-32/openai", preprocess=CLIP_DEFAULT)
    with pytest.warns(UserWarning, match="read by the tower of its source"):
        classifier = load(tmp_path / "v.pt", "open_clip:ViT-B-32/openai", preprocess=CLIP_DEFAULT)
    assert isinstance(classifier.head, CosineHead)
    assert asked == [None, "openai"] * 2


def cached(root, repository, files):
    """A repository as the hub's client keeps it."""
    folder, commit = root / f"models--{repository.replace('/', '--')}", "a" * 40
    (folder / "refs").mkdir(parents=True)
    (folder / "refs" / "main").write_text(commit)
    snapshot = folder / "snapshots" / commit
    snapshot.mkdir(parents=True)
    for name, write in files.items():
        write(snapshot / name)
    return snapshot


@pytest.fixture
def hub(tmp_path, monkeypatch):
    """An empty cache of the hub, which is offline."""
    from huggingface_hub import constants

    for name in ("HF_HUB_CACHE", "HUGGINGFACE_HUB_CACHE"):
        monkeypatch.setattr(constants, name, str(tmp_path / "hub"), raising=False)
    monkeypatch.setattr(constants, "HF_HUB_OFFLINE", True)
    return tmp_path / "hub"


def test_open_clip_from_a_hub_cache_with_the_hub_offline(hub, clip, expected, tmp_path):
    config = {"model_cfg": TINY, "preprocess_cfg": {"size": 32}}
    snapshot = cached(hub, "org/tiny", {
        "open_clip_config.json": lambda p: p.write_text(json.dumps(config)),
        "open_clip_pytorch_model.bin": lambda p: torch.save(clip.state_dict(), p),
    })  # fmt: skip
    for name in ("open_clip:hf-hub:org/tiny", f"open_clip:local-dir:{snapshot}"):
        classifier = load_classifier(name, classes=ABC, templates=["a {}"])
        for ours, theirs in zip(read(classifier), expected, strict=True):
            close(ours, theirs)
    again = load_classifier(classifier.save(tmp_path / "saved"))
    assert again.fingerprint == classifier.fingerprint
    with pytest.raises(
        ModelError, match=r"couldn't load open_clip:hf-hub:org/absent.*pass weights=FILE"
    ):
        load_classifier("open_clip:hf-hub:org/absent", classes=ABC)


def test_timm_from_a_hub_cache_with_the_hub_offline(hub):
    import timm
    from safetensors.torch import save_file

    torch.manual_seed(0)
    network = timm.create_model("test_resnet").eval()
    cached(
        hub,
        "timm/test_resnet.r160_in1k",
        {"model.safetensors": lambda p: save_file(network.state_dict(), p)},
    )
    classifier = load_classifier("timm:test_resnet.r160_in1k")
    with torch.inference_mode():
        close(read(classifier)[1], network(classifier.preprocess(IMAGE)[None]))
    with pytest.raises(ModelError, match=r"couldn't load timm:test_vit\.r160_in1k"):
        load_classifier("timm:test_vit.r160_in1k")


# transformers


@pytest.fixture(scope="module")
def vit(tmp_path_factory):
    """A small ViT of transformers with named classes, its folder, and what it gives for the image."""
    import transformers

    folder = tmp_path_factory.mktemp("vit")
    torch.manual_seed(0)
    config = transformers.ViTConfig(
        hidden_size=16, num_hidden_layers=1, num_attention_heads=2, intermediate_size=16, image_size=32, patch_size=16,
        id2label=dict(enumerate(ABC)), label2id={c: i for i, c in enumerate(ABC)},
    )  # fmt: skip
    model = transformers.ViTForImageClassification(config).eval()
    model.save_pretrained(folder)
    processor = transformers.ViTImageProcessor(
        size={"height": 32, "width": 32}, image_mean=[0.4] * 3
    )
    processor.save_pretrained(folder)
    x = processor(IMAGE, return_tensors="pt")["pixel_values"]
    with torch.inference_mode():
        z, logits = model.vit(x).last_hidden_state[:, 0], model(x).logits
    return model, folder, (z, logits)


def test_an_image_classifier_of_transformers_from_its_folder(vit, tmp_path):
    model, folder, expected = vit
    classifier = load_classifier(f"hf:{folder}")
    assert classifier.classes == tuple(ABC)
    for ours, theirs in zip(read(classifier), expected, strict=True):
        close(ours, theirs)
    model.load_state_dict(state_dict_as_loaded(classifier))
    saved = classifier.save(tmp_path / "saved")
    config = json.loads((saved / "card.json").read_text())["source"]["model_args"]["config"]
    assert config["model_type"] == "vit"
    again = load_classifier(saved)  # without the folder that it came from
    assert again.fingerprint == classifier.fingerprint
    assert torch.equal(read(again)[1], read(classifier)[1])
    grey = classifier.preprocess(IMAGE.convert("L"))
    assert grey.shape == (3, 32, 32)
    with pytest.raises(MismatchError, match="same names in another order"):
        load_classifier(f"hf:{folder}", classes=ABC[::-1])
    assert load_classifier(f"hf:{folder}", classes=["x", "y"]).head.out_features == 2


def test_names_that_a_card_gives_twice_bear_their_numbers(vit, tmp_path):
    """As ImageNet's two cranes do; the classes that one asks for are one's own all the same."""
    shutil.copytree(vit[1], folder := tmp_path / "cranes")
    config = json.loads((folder / "config.json").read_text())
    config["id2label"] = {"0": "crane", "1": "gull", "2": "crane"}
    (folder / "config.json").write_text(json.dumps(config))
    assert load_classifier(f"hf:{folder}").classes == ("crane (0)", "gull", "crane (2)")
    assert load_classifier(f"hf:{folder}", classes=["x", "y"]).classes == ("x", "y")


def test_transformers_from_a_hub_cache_with_the_hub_offline(hub, vit):
    _, folder, expected = vit
    copy = {p.name: (lambda to, p=p: to.write_bytes(p.read_bytes())) for p in folder.iterdir()}
    cached(hub, "org/vit", copy)
    close(read(load_classifier("hf:org/vit"))[1], expected[1])
    with pytest.raises(ModelError, match=r"couldn't load hf:org/absent: .*pass weights=FILE"):
        load_classifier("hf:org/absent")


def test_a_state_dict_for_an_architecture_of_transformers(vit, tmp_path):
    model, folder, expected = vit
    state = {f"module.{k}": v for k, v in model.state_dict().items()}
    torch.save(state, tmp_path / "v.pt")
    with pytest.warns(UserWarning, match="came without preprocessing"):
        classifier = load_classifier(tmp_path / "v.pt", arch=f"hf:{folder}")
    close(read(classifier)[1], expected[1])


def test_a_folder_without_a_head_gets_one_with_a_word(vit, tmp_path):
    model, folder, expected = vit
    model.vit.save_pretrained(tmp_path / "base")
    (tmp_path / "base" / "preprocessor_config.json").write_bytes(
        (folder / "preprocessor_config.json").read_bytes()
    )
    with pytest.warns(UserWarning, match="holds an encoder alone, without classifier"):
        classifier = load_classifier(f"hf:{tmp_path / 'base'}", classes=["x", "y"])
    close(read(classifier)[0], expected[0])


def test_the_image_tower_of_a_clip_of_transformers(tmp_path):
    import transformers

    torch.manual_seed(0)
    side = {
        "hidden_size": 16,
        "intermediate_size": 16,
        "num_hidden_layers": 1,
        "num_attention_heads": 2,
        "projection_dim": 12,
    }
    config = transformers.CLIPConfig(
        text_config=side | {"vocab_size": 99, "bos_token_id": 1, "eos_token_id": 2},
        vision_config=side | {"image_size": 32, "patch_size": 16},
        projection_dim=12,
    )
    model = transformers.CLIPModel(config).eval()
    model.save_pretrained(tmp_path / "clip")
    processor = transformers.CLIPImageProcessor(
        size={"shortest_edge": 32}, crop_size={"height": 32, "width": 32}
    )
    processor.save_pretrained(tmp_path / "clip")
    classifier = load_classifier(f"hf:{tmp_path / 'clip'}", classes=ABC)
    x = processor(IMAGE, return_tensors="pt")["pixel_values"]
    with torch.inference_mode():
        pooled = model.vision_model(x).pooler_output
        close(read(classifier)[0], model.visual_projection(pooled))
    assert {"visual_projection.weight", "head.weight"} < state_dict_as_loaded(classifier).keys()
    again = load_classifier(classifier.save(tmp_path / "saved"))
    assert again.fingerprint == classifier.fingerprint


def test_without_transformers_the_install_line_is_said(monkeypatch):
    monkeypatch.setitem(sys.modules, "transformers", None)
    with pytest.raises(
        ModelError, match=r"hf: needs transformers: pip install 'classvec_lab\[hf\]'"
    ):
        load_classifier("hf:org/name")


# The architectures of the paper, with random weights


@pytest.mark.parametrize(
    ("source", "dim", "model_args"),
    [
        ("mlp", 128, {}),
        ("torchvision:resnet18/random", 512, {}),
        ("timm:resnet18/random", 512, {}),
        # the large ones with two layers of their full width
        ("open_clip:ViT-B-16/random", 512, {"layers": 2, "width": 768, "patch_size": 16}),
        ("open_clip:ViT-B-32/random", 512, {"layers": 2, "width": 768, "patch_size": 32}),
        ("open_clip:ViT-L-14/random", 768, {"layers": 2, "width": 1024, "patch_size": 14}),
    ],
)
def test_the_paper_s_architectures_give_features(source, dim, model_args):
    if model_args:
        text = {"context_length": 77, "vocab_size": 99, "width": 64, "heads": 2, "layers": 1}
        model_args = {"vision_cfg": {"image_size": 224, **model_args}, "text_cfg": text}
    classifier = load_classifier(source, classes=ABC, head="linear", model_args=model_args)
    z, logits = read(classifier)
    assert z.shape == (1, dim)
    assert logits.shape == (1, 3)
    assert torch.isfinite(z).all()


@pytest.mark.slow
@pytest.mark.parametrize("name", ["ViT-B-16", "ViT-B-32", "ViT-L-14"])
def test_the_paper_s_architectures_at_full_size(name):
    classifier = load_classifier(f"open_clip:{name}/random", classes=ABC)
    z, logits = read(classifier)
    assert z.shape == (1, 768 if "L" in name else 512)
    assert logits.shape == (1, 3)
