"""What a newcomer is likely to get wrong is answered with what came, what is needed, what to write."""

import numpy as np
import pytest
import torch
from conftest import CLASSES, coloured, small_classifier
from PIL import Image
from torch import nn

from classvec_lab import (
    Classifier,
    ClassVectors,
    Edit,
    Features,
    class_vectors,
    extract_features,
    finetune,
    inject,
    load_classifier,
    load_dataset,
    neural_collapse,
    prepare,
    readout,
    statistics,
)
from classvec_lab.batch import Outputs, begin
from classvec_lab.cli import main
from classvec_lab.errors import ClassvecError

DATA = coloured(12)
PLAIN = small_classifier().preprocess
SMALL = {"model": "mlp", "model_args": {"size": 8, "hidden": [8], "dim": 4}, "epochs": 1}


@pytest.fixture
def offline(monkeypatch, tmp_path):
    """Neither a network nor what was downloaded before."""

    def refuse(*args, **more):
        raise OSError(101, "Network is unreachable")

    monkeypatch.setattr("socket.socket.connect", refuse)
    monkeypatch.setattr("socket.getaddrinfo", refuse)
    monkeypatch.setattr("huggingface_hub.constants.HF_HUB_OFFLINE", True)
    for name in ("HF_HOME", "TORCH_HOME", "XDG_CACHE_HOME"):
        monkeypatch.setenv(name, str(tmp_path / "nothing"))


@pytest.fixture
def folders(tmp_path):
    """Greyscale images in folders, whose names differ from a model's by their capitals."""
    rng = np.random.default_rng(0)
    for name in ("Red", "Green", "Blue"):
        (tmp_path / "grey" / name).mkdir(parents=True)
        for i in range(10):
            pixels = rng.integers(0, 255, (8, 8), dtype=np.uint8)
            Image.fromarray(pixels, "L").save(tmp_path / "grey" / name / f"{i}.png")
    return str(tmp_path / "grey")


def refused(call, *told, kind=ClassvecError):
    """The message of the error that a call raises, which holds all these words."""
    with pytest.raises(kind) as caught:
        call()
    message = str(caught.value)
    assert [words for words in told if words not in message] == [], message
    return message


@pytest.mark.parametrize(
    "source", ["open_clip:ViT-B-32/laion2b_s34b_b79k", "timm:resnet18.a1_in1k"]
)
@pytest.mark.usefixtures("offline")
@pytest.mark.filterwarnings("ignore")
def test_no_network(source):
    refused(lambda: load_classifier(source, classes=CLASSES), source, "no network", "weights=")


@pytest.mark.usefixtures("offline")
@pytest.mark.filterwarnings("ignore")
def test_no_network_for_data():
    refused(lambda: load_dataset("torchvision:CIFAR10", split="train"), "CIFAR10", "network")


def test_a_wrong_path(tmp_path):
    missing = str(tmp_path / "nowhere")
    refused(lambda: load_dataset(missing, split="train"), missing, "no such folder")
    refused(lambda: load_classifier(missing, classes=CLASSES), missing)
    refused(
        lambda: load_classifier("mlp", classes=CLASSES, weights=f"{missing}.safetensors"),
        f"no weights file at {missing}.safetensors",
        kind=(ClassvecError, FileNotFoundError),
    )
    refused(lambda: prepare(dataset="digits", finetuned=missing, limit=50, **SMALL), missing)
    for load in (Edit.load, ClassVectors.load):
        refused(lambda load=load: load(missing), missing, kind=(ClassvecError, FileNotFoundError))
    (tmp_path / "file").write_text("")
    refused(lambda: Outputs("02_x", {}, out=tmp_path / "file"), "can't write to", "out=")
    refused(lambda: begin("02_x", {"out": str(tmp_path / "file" / "x")}), "can't write to")


def test_a_misspelt_name_is_followed_by_the_nearest(capsys):
    refused(lambda: load_dataset("digit", split="train"), "did you mean 'digits'?")
    refused(lambda: load_dataset("digits", split="tset"), "'tset'", "train, val, test")
    refused(lambda: load_classifier("tiny-clop", classes=CLASSES), "tiny-clop", "tiny-clip")
    assert main(["run", "02", "-p", "splitt=val"]) == 2
    assert "did you mean 'split'?" in capsys.readouterr().err


def test_class_names_that_do_not_match(folders):
    model = small_classifier()
    train = load_dataset(folders, split="train")
    lacks = "lacks red, green, blue"
    for call in (
        lambda: finetune(model, train),
        lambda: class_vectors(model, model, train),
        lambda: readout.predict(model, train),
        lambda: readout.accuracy(model, train),
    ):
        refused(call, lacks, "Blue, Green, Red")
    refused(lambda: extract_features(model, coloured(6, classes=CLASSES[::-1])), "dataset.only(")
    refused(
        lambda: ClassVectors.from_features(*features(model))["cat"], "'cat'", "red, green, blue"
    )


def features(model):
    found = extract_features(model, DATA, progress=False)
    return found, found


def test_a_head_of_another_size(tmp_path):
    model = small_classifier()
    wide = Classifier(model.encoder, nn.Linear(9, 3), classes=CLASSES, preprocess=PLAIN)
    refused(lambda: Classifier(model.encoder, nn.Linear(6, 5), classes=CLASSES, preprocess=PLAIN),
            "5 outputs but 3 classes")  # fmt: skip
    refused(lambda: extract_features(wide, DATA, progress=False), "(N, 9)", "(1, 6)")
    known, _ = features(model)
    refused(lambda: readout.predict(wide, known), "(N, 9)", "(12, 6)")
    refused(lambda: neural_collapse(known, wide.head), "6", "9")
    refused(
        lambda: load_classifier(model.save(tmp_path / "m"), classes=["a", "b"]),
        kind=ClassvecError,
    )
    refused(lambda: class_vectors(model, small_classifier(dim=5), DATA), "6 dimensions", "5")
    edit = ClassVectors.from_features(known, known)["red"]
    refused(lambda: inject(small_classifier(dim=5), -1.0 * edit), "dimension")


def test_greyscale_images(folders):
    """A folder's become RGB by themselves; a preprocessing of one's own is told what came."""
    grey = load_dataset(folders, split="train")
    assert grey[0][0].mode == "RGB"

    def one_channel(image):
        return torch.from_numpy(np.array(image.convert("L"), np.float32))[None] / 255

    convolution = nn.Sequential(nn.Conv2d(3, 6, 8), nn.Flatten())
    for encoder, told in ((convolution, "3 channels"), (small_classifier().encoder, "shapes")):
        model = Classifier(encoder, nn.Linear(6, 3), classes=CLASSES, preprocess=one_channel)
        for call in (
            lambda m=model: extract_features(m, DATA, cache=False, progress=False),
            lambda m=model: finetune(m, DATA, cache=False, progress=False),
        ):
            refused(call, "(1, 1, 8, 8)", told, "image.convert('RGB') has 3")


class OnGpu(nn.Module):
    """An encoder that asks for a GPU whatever its input is on."""

    def forward(self, images):
        return images.cuda().flatten(1)[:, :6]


@pytest.mark.skipif(torch.cuda.is_available(), reason="about machines without a GPU")
def test_no_gpu(tmp_path):
    model = Classifier(OnGpu(), nn.Linear(6, 3), classes=CLASSES, preprocess=PLAIN)
    refused(
        lambda: extract_features(model, DATA, cache=False, progress=False),
        "OnGpu", "on cpu", "CUDA", "device that it takes",
    )  # fmt: skip
    assert len(extract_features(small_classifier(), DATA, progress=False)) == len(DATA)


@pytest.mark.parametrize("broken", ["a file", "no room"])
def test_results_outlive_a_cache_that_takes_none(tmp_path, monkeypatch, broken):
    model = small_classifier()
    expected = extract_features(model, DATA, cache=False, progress=False)
    if broken == "a file":
        (tmp_path / "data").write_text("")
    else:

        def full(*args, **more):
            raise OSError(28, "No space left on device")

        monkeypatch.setattr("safetensors.numpy.save_file", full)
    with pytest.warns(UserWarning, match="can't be kept in the cache .*set CLASSVEC_DATA"):
        found = extract_features(model, DATA, progress=False)
    np.testing.assert_array_equal(found.z, expected.z)
    with pytest.warns(UserWarning, match="can't be kept in the cache"):
        tuned = finetune(model, DATA, val=coloured(6, split="val"), epochs=2, progress=False)
    assert len(tuned.history) == 3
    with pytest.warns(UserWarning, match="can't be kept in the cache"):
        assert np.isfinite(class_vectors(model, tuned.classifier, DATA, progress=False).kappa).all()


def test_a_network_in_place_of_a_classifier():
    network = nn.Sequential(nn.Flatten(), nn.Linear(192, 3))
    for call in (
        lambda: extract_features(network, DATA),
        lambda: finetune(network, DATA),
        lambda: class_vectors(network, network, DATA),
        lambda: readout.predict(network, DATA),
        lambda: readout.accuracy(network, DATA),
    ):
        refused(call, "a Classifier is needed, no Sequential", "Classifier.from_module(network")
    refused(lambda: load_classifier(network), "no Sequential", "Classifier.from_module(network")


def test_things_in_the_wrong_place():
    model, vectors = small_classifier(), ClassVectors.from_features(*features(small_classifier()))
    refused(lambda: statistics.accuracy(model, DATA), "readout.accuracy(model, dataset)")
    refused(lambda: inject(model, vectors.kappa), "such as -1.5 * vectors['cat']")
    refused(
        lambda: Features(np.zeros((2, 3)), ["cat", "dog"], ["cat", "dog"]), "classes.index(name)"
    )
    refused(
        lambda: Classifier(model.encoder, model.head, classes="aab", preprocess=PLAIN), "distinct"
    )
