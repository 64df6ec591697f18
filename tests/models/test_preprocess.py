"""Transforms stay with the model: torchvision's as plain data, and nothing else is made from a card."""

import json
import pickle

import numpy as np
import pytest
import torch
from conftest import small_classifier
from PIL import Image

from classvec_lab import Classifier
from classvec_lab.datasets.torchvision_repair import ensure_torchvision
from classvec_lab.errors import ModelError
from classvec_lab.models import Preprocess

ensure_torchvision()
from torchvision import models  # noqa: E402
from torchvision import transforms as v1  # noqa: E402
from torchvision.transforms import v2  # noqa: E402

IMAGE = Image.fromarray(np.random.default_rng(1).integers(0, 256, (30, 50, 3), np.uint8))
HALF = [0.5] * 3
TRANSFORMS = {
    "v1": v1.Compose([v1.Resize(10), v1.CenterCrop(8), v1.ToTensor(), v1.Normalize(HALF, HALF)]),
    "v1 exact": v1.Compose([v1.Resize((8, 8), v1.InterpolationMode.BICUBIC), v1.Grayscale(3), v1.Pad(2, fill=3), v1.PILToTensor(), v1.ConvertImageDtype(torch.float32)]),
    "v2": v2.Compose([v2.ToImage(), v2.RGB(), v2.Resize(8), v2.CenterCrop(8), v2.ToDtype(torch.float32, scale=True), v2.Normalize(HALF, HALF)]),
    "nested": v1.Compose([v1.Compose([v1.Resize([8, 9])]), v1.ToTensor()]),
    "alone": v1.ToTensor(),
    "preset": models.ResNet18_Weights.DEFAULT.transforms(),
    "another preset": models.ViT_B_16_Weights.IMAGENET1K_SWAG_E2E_V1.transforms(),
}  # fmt: skip


@pytest.mark.parametrize("name", TRANSFORMS)
def test_torchvision_s_transforms_are_kept_with_the_model(name, tmp_path):
    transform = TRANSFORMS[name]
    classifier = small_classifier(preprocess=transform)
    assert isinstance(classifier.preprocess, Preprocess)
    folder = classifier.save(tmp_path / "mine")
    loaded = Classifier.load(folder, encoder=small_classifier(seed=5).encoder)
    assert torch.equal(loaded.preprocess(IMAGE), transform(IMAGE))
    assert loaded.fingerprint == classifier.fingerprint
    assert loaded.preprocess == classifier.preprocess
    assert torch.equal(pickle.loads(pickle.dumps(loaded.preprocess))(IMAGE), transform(IMAGE))
    json.dumps(loaded.preprocess.config)


def test_what_is_no_plain_data_stays_the_user_s_own(tmp_path):
    class Mine(v1.Resize):
        def forward(self, image):
            return super().forward(image.rotate(90))

    for step in (v1.Lambda(lambda im: im.convert("RGB")), Mine(8)):
        state = torch.get_rng_state()
        transform = v1.Compose([step, v1.ToTensor()])
        assert Preprocess.of(transform) is transform
        assert torch.equal(state, torch.get_rng_state())
        classifier = small_classifier(preprocess=transform)
        with pytest.raises(ModelError, match="pass preprocess="):
            Classifier.load(classifier.save(tmp_path / "m"), encoder=small_classifier().encoder)


@pytest.mark.parametrize(
    "step",
    [v1.RandomCrop(8), v1.RandomHorizontalFlip(), v1.RandomApply([v1.Grayscale(3)]), v1.ColorJitter(0.5)],
    ids=lambda step: type(step).__name__,
)  # fmt: skip
def test_random_transforms_are_told(step):
    state, transform = torch.get_rng_state(), v1.Compose([step, v1.ToTensor()])
    with pytest.warns(UserWarning, match="other pixels at each call.* give that of evaluation"):
        assert Preprocess.of(transform) is transform
    assert torch.equal(state, torch.get_rng_state())


def test_size_mean_and_std_are_enough():
    own = Preprocess.of({"size": 8, "mean": HALF, "std": HALF})
    assert own == Preprocess("open_clip", {"size": 8, "mean": HALF, "std": HALF})
    assert own(IMAGE.convert("L")).shape == (3, 8, 8)


@pytest.mark.parametrize(
    "config",
    [
        {"of": "os", "name": "system", "command": "x"},
        {"of": "torchvision.transforms", "name": "functional"},
        {"of": "torchvision.transforms", "name": "absent"},
        {"of": "torchvision.transforms", "name": "Resize", "sise": 3},
        {"of": ["torchvision.transforms"], "name": 3},
        {},
    ],
)
def test_a_card_makes_transforms_and_nothing_else(config):
    with pytest.raises(ModelError, match="no preprocessing of 'torchvision' can be made of"):
        Preprocess("torchvision", config)(IMAGE)


def test_a_card_names_no_other_class_of_transformers():
    pytest.importorskip("transformers")
    with pytest.raises(ModelError, match="ViTConfig is no image processor"):
        Preprocess("transformers", {"image_processor_type": "ViTConfig"})(IMAGE)


@pytest.mark.parametrize("library", ["open_clip", "timm", "transformers", "nonsense"])
def test_configurations_that_can_t_be_are_refused_by_name(library):
    with pytest.raises(ModelError, match=f"no preprocessing of '{library}' can be made of"):
        Preprocess(library, {"nonsense": 1, "image_processor_type": "nonsense"})(IMAGE)
