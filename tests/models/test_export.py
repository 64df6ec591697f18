"""What `export` writes gives the same logits without this package."""

import copy
import json

import numpy as np
import pytest
import torch
from conftest import CLASSES, coloured, small_classifier
from safetensors import safe_open
from safetensors.torch import load_file
from torch import nn

from classvec_lab import (
    Classifier,
    Edit,
    Gate,
    calibrate_gate,
    class_vectors,
    extract_features,
    inject,
    load_classifier,
    map_edit,
)
from classvec_lab.errors import ModelError
from classvec_lab.models import Preprocess, export

RNG = np.random.default_rng(0)
IMAGES = torch.tensor(RNG.normal(size=(9, 3, 8, 8)), dtype=torch.float32)


def edited(model, *temperatures):
    """The model behind a gate for each temperature, which fires on about half of the images."""
    z = model.encode(IMAGES).detach().double().numpy()
    edits = []
    for temperature in temperatures:
        rows, step = RNG.normal(size=(3, model.dim)), 4 * RNG.normal(size=model.dim)
        edit = Edit.along("v", step, target="red", classes=CLASSES)
        if temperature is not None:
            of = {"rivals": True, "normalise": True}
            gate = Gate("red", CLASSES, "margin", rows, np.zeros(3), 0.0, **of)
            gate = gate.at(float(np.median(gate.scores(z))) + 1e-3)
            edit = edit.gated(gate.soft(temperature) if temperature else gate)
        edits.append(edit)
    return inject(model, edits)


def run(path, images):
    """Logits of an exported file, and the card inside, by a library that knows nothing of ours."""
    if path.suffix == ".onnx":
        runtime = pytest.importorskip("onnxruntime")
        session = runtime.InferenceSession(path)
        card = session.get_modelmeta().custom_metadata_map["classvec_lab"]
        return session.run(["logits"], {"images": images.numpy()})[0], json.loads(card)
    extra = {"classvec_lab": ""}
    program = torch.export.load(path, extra_files=extra).module()
    return program(images).detach().numpy(), json.loads(extra["classvec_lab"])


@pytest.mark.parametrize("suffix", [".onnx", ".pt2"])
@pytest.mark.parametrize(
    "temperatures",
    [(), (0.0,), (0.0, None, 0.1)],
    ids=lambda t: str(len(t)) + str(t),
)
def test_gates_and_edits_are_inside(tmp_path, suffix, temperatures):
    model = small_classifier(batchnorm=True)
    model = edited(model, *temperatures) if temperatures else model
    with torch.no_grad():
        expected, plain = model(IMAGES).numpy(), small_classifier(batchnorm=True)(IMAGES).numpy()
    logits, card = run(export(model, tmp_path / f"deployed{suffix}"), IMAGES)
    np.testing.assert_allclose(logits, expected, rtol=1e-5, atol=1e-5)
    moved = np.abs(logits - plain).max(axis=1) > 1e-3
    gated = temperatures == (0.0,)
    assert 0 < moved.sum() < len(moved) if gated else moved.all() == bool(temperatures)
    assert card["classes"] == list(CLASSES)
    assert Preprocess(**card["preprocess"]) == model.preprocess
    single, _ = run(tmp_path / f"deployed{suffix}", IMAGES[:1])
    np.testing.assert_allclose(single, expected[:1], rtol=1e-5, atol=1e-5)


@pytest.mark.filterwarnings("ignore")
@pytest.mark.parametrize(
    "source",
    ["tiny-clip", "timm:test_vit/random", "torchvision:resnet18/random", "hf:vit"],
)
def test_networks_of_all_libraries_leave_with_their_gates(tmp_path, monkeypatch, source):
    monkeypatch.chdir(tmp_path)
    if source == "hf:vit":
        transformers = pytest.importorskip("transformers")
        small = {"hidden_size": 16, "num_hidden_layers": 1, "num_attention_heads": 2}
        config = transformers.ViTConfig(**small, intermediate_size=16, image_size=32, patch_size=8)
        transformers.ViTForImageClassification(config).save_pretrained("vit")
        transformers.ViTImageProcessor(size={"height": 32, "width": 32}).save_pretrained("vit")
    own = {"preprocess": {"size": 32, "mean": [0.5] * 3, "std": [0.5] * 3}}
    how = {"model_args": own} if source.startswith("torchvision") else {}
    pre = load_classifier(source, classes=CLASSES, **how, head="linear")
    ft = copy.deepcopy(pre)
    with torch.no_grad():
        for parameter in ft.encoder.parameters():
            parameter.add_(0.1 * torch.randn_like(parameter) * parameter.std(correction=0))
    data = coloured(12)
    vectors = class_vectors(pre, ft, data, progress=False)
    features = extract_features(ft, data, progress=False)
    gate = calibrate_gate(features, vectors, "red", score="predicted", classifier=ft)
    deployed = inject(ft, (-1.5 * vectors["red"]).gated(gate))
    images = torch.stack([ft.preprocess(data[i][0]) for i in range(5)])
    with torch.no_grad():
        expected = deployed(images).numpy()
    logits, card = run(export(deployed, tmp_path / "deployed.pt2"), images)
    np.testing.assert_allclose(logits, expected, rtol=1e-4, atol=1e-4)
    assert Preprocess(**card["preprocess"]) == ft.preprocess


@pytest.mark.parametrize("suffix", [".pt", ".safetensors"])
def test_mapped_weights_load_in_code_that_knows_only_its_network(tmp_path, suffix):
    torch.manual_seed(0)
    network = nn.Sequential(nn.Flatten(), nn.Linear(192, 6), nn.ReLU(), nn.Linear(6, 3))
    preprocess = small_classifier().preprocess
    pre = Classifier.from_module(network, classes=CLASSES, preprocess=preprocess)
    with torch.no_grad():
        network[1].weight.mul_(-1)
    ft = Classifier.from_module(network, classes=CLASSES, preprocess=preprocess)
    edit = -class_vectors(pre, ft, coloured(), progress=False)["red"]
    mapped = map_edit(ft, edit, extract_features(ft, coloured(), progress=False))
    mapped = mapped.delta.apply_to(ft)
    path = export(mapped, tmp_path / f"edited{suffix}")
    state = load_file(path) if suffix == ".safetensors" else torch.load(path, weights_only=True)
    network.load_state_dict(state)
    torch.testing.assert_close(network(IMAGES), mapped(IMAGES))
    if suffix == ".safetensors":
        with safe_open(path, "pt") as file:
            assert json.loads(file.metadata()["classvec_lab"])["classes"] == list(CLASSES)


@pytest.mark.parametrize("suffix", [".pt", ".safetensors"])
def test_an_edit_behind_the_encoder_is_in_no_weights(tmp_path, suffix):
    path = tmp_path / f"edited{suffix}"
    with pytest.raises(ModelError, match="map_edit"):
        export(edited(small_classifier(), 0.0), path)
    assert not path.exists()


def test_another_ending_is_refused_and_says_which_there_are(tmp_path):
    with pytest.raises(ModelError, match=r"'\.trt'; there are \.onnx, \.pt2, \.pt, \.safetensors"):
        export(small_classifier(), tmp_path / "edited.trt")


@pytest.mark.parametrize("suffix", [".onnx", ".pt2"])
def test_what_cannot_be_traced_is_named_and_an_older_file_stays(tmp_path, suffix):
    class Choosy(nn.Module):
        def forward(self, x):
            return x.flatten(1)[:, :6] if float(x.sum()) > 0 else -x.flatten(1)[:, :6]

    of = {"classes": CLASSES, "preprocess": small_classifier().preprocess}
    path = tmp_path / f"edited{suffix}"
    path.write_text("older")
    with pytest.raises(ModelError, match="can't trace Choosy"):
        export(Classifier(Choosy(), nn.Linear(6, 3), **of), path)
    assert [file.name for file in tmp_path.iterdir()] == [path.name]
    assert path.read_text() == "older"
