"""Each source gives a working classifier, and each wrong request says what to do."""

import pickle

import pytest
import torch
from PIL import Image
from safetensors.torch import save_file
from torch import nn

from classvec_lab import CosineHead, load_classifier
from classvec_lab.errors import FileFormatError, MismatchError, ModelError
from classvec_lab.files import builtin_dir
from classvec_lab.models import tiny_clip
from classvec_lab.models.weights import read_state_dict

IMAGE = Image.new("RGB", (40, 30), (200, 30, 30))
# model_args of open_clip: its networks of two kinds, too small to take a second each
TEXT = {"context_length": 77, "vocab_size": 49408, "width": 32, "heads": 2, "layers": 1}
RESNET = {
    "vision_cfg": {"image_size": 64, "layers": [1, 1, 1, 1], "width": 8, "patch_size": None},
    "text_cfg": TEXT,
}
VIT = {
    "vision_cfg": {"image_size": 64, "layers": 2, "width": 64, "patch_size": 32},
    "text_cfg": TEXT,
}


def run(classifier):
    with torch.inference_mode():
        return classifier(classifier.preprocess(IMAGE)[None])


@pytest.mark.parametrize(
    ("source", "model_args", "head", "dim"),
    [
        ("tiny-clip", {}, CosineHead, 128),
        ("open_clip:RN50/random", RESNET, CosineHead, 1024),
        ("timm:resnet10t/random", {}, nn.Linear, 512),
        ("mlp", {}, nn.Linear, 128),
    ],
)
def test_every_source_classifies(source, model_args, head, dim):
    classes = ["cat", "dog", "traffic_light"]
    classifier = load_classifier(source, classes=classes, model_args=model_args)
    assert isinstance(classifier.head, head)
    assert classifier.dim == dim
    assert run(classifier).shape == (1, 3)
    assert classifier.fingerprint is not None
    assert not any(m.training for m in classifier.modules())


@pytest.mark.parametrize(
    ("source", "model_args"),
    [("mlp", {}), ("timm:resnet10t/random", {}), ("open_clip:RN50/random", RESNET)],
    ids=["mlp", "timm", "open_clip"],
)
def test_seed_decides_random_weights_and_the_global_generator_is_left_alone(source, model_args):
    state, how = torch.get_rng_state(), {"classes": ["x", "y"], "model_args": model_args}
    a, b, c = (load_classifier(source, seed=s, **how) for s in (1, 1, 2))
    assert torch.equal(state, torch.get_rng_state())
    assert torch.equal(run(a), run(b))
    assert not torch.equal(run(a), run(c))


def test_openai_weights_get_the_activation_they_were_trained_with(monkeypatch):
    """open_clip's factory only warns of this, and the features would be wrong."""
    import open_clip

    asked = {}
    real = open_clip.create_model

    def record(arch, tag, **options):
        asked.update(options, tag=tag)
        return real(arch, None, **options)

    monkeypatch.setattr(open_clip, "create_model", record)
    how = {"classes": ["a", "b"], "model_args": VIT}
    classifier = load_classifier("open_clip:ViT-B-32/openai", **how)
    assert asked["tag"] == "openai"
    assert "QuickGELU" in repr(classifier.encoder)
    assert tuple(classifier.preprocess.config["mean"]) == pytest.approx(
        (0.48145466, 0.4578275, 0.40821073)
    )
    assert "QuickGELU" not in repr(load_classifier("open_clip:ViT-B-32/random", **how).encoder)


def test_without_a_network_the_message_says_what_to_do(monkeypatch):
    import open_clip
    import timm

    def unreachable(*args, **kwargs):
        raise OSError("Name or service not known")

    monkeypatch.setattr(open_clip, "create_model", unreachable)
    monkeypatch.setattr(timm, "create_model", unreachable)
    for source in ("open_clip:ViT-B-16/openai", "timm:resnet18.a1_in1k"):
        with pytest.raises(
            ModelError, match=r"couldn't load .*Name or service not known.*weights=FILE"
        ):
            load_classifier(source, classes=["a", "b"])


def test_timm_s_own_head_and_local_weights(tmp_path):
    import timm

    torch.manual_seed(5)
    model = timm.create_model("resnet10t", num_classes=4).eval()
    save_file(
        {k: v.half() if v.is_floating_point() else v for k, v in model.state_dict().items()},
        tmp_path / "w.safetensors",
    )
    preprocess = {"size": 64, "mean": [0.5] * 3, "std": [0.5] * 3}
    arguments = {"weights": tmp_path / "w.safetensors", "preprocess": preprocess}
    own = load_classifier("timm:resnet10t", **arguments)
    assert own.classes == ("0", "1", "2", "3")
    with torch.inference_mode():
        expected = model(own.preprocess(IMAGE)[None])
    torch.testing.assert_close(run(own), expected, rtol=2e-2, atol=2e-2)
    with pytest.warns(UserWarning, match="a head of 4 outputs, not of 2: a new one is drawn"):
        new = load_classifier("timm:resnet10t", classes=["a", "b"], **arguments)
    assert new.head.out_features == 2
    assert new.fingerprint == own.fingerprint
    for head in ("own", "auto"):
        named = load_classifier("timm:resnet10t", classes=list("abcd"), head=head, **arguments)
        assert torch.equal(run(named), run(own))
    with pytest.raises(
        MismatchError, match=r"doesn't fit the network .*missing: .*; .*of another shape: "
    ):
        load_classifier("timm:resnet18", **arguments)


@pytest.mark.parametrize(
    ("request_", "message"),
    [
        ({"source": "tinyclip"}, "no folder or model source 'tinyclip'; there are tiny-clip, "),
        ({"source": "/no/such/folder"}, "no folder or model source '/no/such/folder'"),
        (
            {"source": "open_clip:ViT-B/x", "classes": "ab"},
            "open_clip has no model 'ViT-B'; nearest: ViT-B-32",
        ),
        (
            {"source": "open_clip:ViT-B-16", "classes": "ab"},
            "no pre-trained weights of ViT-B-16 ''; there are openai",
        ),
        ({"source": "timm:resnet1x", "classes": "ab"}, "no model 'resnet1x'; nearest: resnet18"),
        (
            {"source": "timm:resnet10t/rand", "classes": "ab"},
            "write timm:NAME or timm:NAME/random; got timm:resnet10t/rand",
        ),
        (
            {"source": "timm:resnet10t/random", "classes": "ab", "model_args": {"nonsense": 1}},
            "can't build timm:resnet10t/random with {'nonsense': 1}.*unexpected",
        ),
        ({"source": "mlp"}, "pass classes=dataset.classes"),
        (
            {"source": "mlp", "classes": "ab", "model_args": {"depth": 3}},
            "can't build mlp with {'depth': 3}.*unexpected keyword argument 'depth'",
        ),
        (
            {"source": "mlp", "classes": "ab", "head": "cosine"},
            "mlp 'cosine'; there are auto, linear",
        ),
        ({"source": "mlp", "classes": "ab", "head": "own"}, "mlp 'own'; there are auto, linear"),
        (
            {"source": "timm:resnet10t/random", "head": "big"},
            "no head of timm:resnet10t/random 'big'; there are auto, own, linear",
        ),
        ({"source": "tiny-clip", "model_args": {"x": 1}}, "can't build tiny-clip with {'x': 1}"),
        ({"source": "tiny-clip", "templates": "a photo"}, "exactly one {}"),
        ({"source": "tiny-clip", "templates": ["a photo"]}, "exactly one {}"),
        ({"source": "tiny-clip", "classes": ["a_cat", "a cat"]}, "same text embedding"),
    ],
)
def test_wrong_requests_say_what_to_do(request_, message):
    with pytest.raises(ModelError, match=message):
        load_classifier(**request_)


@pytest.mark.parametrize("given", [{"head": "linear"}, {"weights": "x"}, {"templates": ["{}"]}])
def test_a_saved_classifier_takes_nothing_that_it_would_not_heed(tmp_path, given):
    folder = load_classifier("mlp", classes="ab").save(tmp_path / "mine")
    with pytest.raises(ModelError, match=f"already has what {next(iter(given))} would set"):
        load_classifier(folder, **given)


def test_tiny_clip_with_weights_of_one_s_own(tmp_path):
    clip = tiny_clip.load(builtin_dir("tiny-clip"))
    with torch.no_grad():
        clip.visual.proj.mul_(2)
    save_file(clip.state_dict(), tmp_path / "w.safetensors")
    own, built_in = (
        load_classifier("tiny-clip", weights=w) for w in (tmp_path / "w.safetensors", None)
    )
    x = own.preprocess(IMAGE)[None]
    torch.testing.assert_close(own.encode(x), 2 * built_in.encode(x))
    with pytest.raises(FileNotFoundError, match="no weights file"):
        load_classifier("tiny-clip", weights=tmp_path / "absent")


def test_what_a_source_is_built_of_decides_its_width():
    width = RESNET | {"embed_dim": 64}
    narrow = load_classifier("open_clip:RN50/random", classes="ab", head="linear", model_args=width)
    assert narrow.dim == 64
    assert run(narrow).shape == (1, 2)


class _Evil:
    def __reduce__(self):
        return (pytest.fail, ("a pickle was run",))


def test_weights_are_read_and_pickles_never_run(tmp_path):
    module = nn.Linear(3, 2)
    wrapped = {
        "state_dict": {f"module.{k}": v for k, v in module.state_dict().items()},
        "epoch": 3,
        "best": 0.9,
    }
    torch.save(wrapped, tmp_path / "a.pt")
    assert read_state_dict(tmp_path / "a.pt").keys() == module.state_dict().keys()
    (tmp_path / "evil.pt").write_bytes(pickle.dumps({"w": _Evil()}, protocol=2))
    with pytest.raises(
        FileFormatError, match=r"calls _pytest.*_Fail, and pickles are never run here"
    ):
        read_state_dict(tmp_path / "evil.pt")
    torch.save({"epoch": 3}, tmp_path / "none.pt")
    with pytest.raises(FileFormatError, match="no named tensors"):
        read_state_dict(tmp_path / "none.pt")


@pytest.mark.parametrize("name", ["w.safetensors", "w.pt"])
def test_truncated_weights_are_named(tmp_path, name):
    state = nn.Linear(30, 20).state_dict()
    save_file(state, tmp_path / name) if name.endswith("safetensors") else torch.save(
        state, tmp_path / name
    )
    content = (tmp_path / name).read_bytes()
    for keep in (0, 9, len(content) // 2, len(content) - 1):
        (tmp_path / name).write_bytes(content[:keep])
        with pytest.raises(FileFormatError, match=name):
            read_state_dict(tmp_path / name)
    with pytest.raises(FileNotFoundError):
        read_state_dict(tmp_path / "absent.pt")
