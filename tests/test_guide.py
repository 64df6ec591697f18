"""The guide to one's own model runs as it stands, on files as its readers have them."""

import re

import numpy as np
import pytest
import torch
from conftest import REPOSITORY
from PIL import Image

from classvec_lab.datasets.torchvision_repair import ensure_torchvision

GUIDE = (REPOSITORY / "docs/your-own-model.md").read_text()
BLOCKS = re.findall(r"```python\n(.*?)```", GUIDE, re.DOTALL)


@pytest.fixture
def files(tmp_path, monkeypatch):
    """Photos in class folders, and a pair of checkpoints that a training loop left."""
    monkeypatch.chdir(tmp_path)
    rng = np.random.default_rng(0)
    for split, n in (("train", 6), ("test", 2)):
        for c, name in enumerate(("bird", "cat", "dog")):
            folder = tmp_path / "photos" / split / name
            folder.mkdir(parents=True)
            for i in range(n):
                pixels = rng.integers(0, 120, (32, 40, 3))
                pixels[..., c] += 120
                Image.fromarray(pixels.astype(np.uint8)).save(folder / f"{i}.png")
    ensure_torchvision()
    import torchvision

    torch.manual_seed(0)
    network = torchvision.models.resnet18(num_classes=3)
    for name in ("before", "after"):
        state = {f"module.{k}": v for k, v in network.state_dict().items()}
        torch.save({"epoch": 3, "model": state, "optimizer": {"lr": 0.1}}, tmp_path / f"{name}.pt")
        with torch.no_grad():
            for parameter in network.parameters():
                parameter += 0.02 * torch.randn_like(parameter)
    transformers = pytest.importorskip("transformers")
    config = transformers.ViTConfig(
        hidden_size=16, num_hidden_layers=1, num_attention_heads=2, intermediate_size=16,
        image_size=32, patch_size=8, num_labels=3,
    )  # fmt: skip
    for name in ("vit-before", "vit-after"):
        transformers.ViTForImageClassification(config).save_pretrained(tmp_path / name)
        transformers.ViTImageProcessor(size={"height": 32, "width": 32}).save_pretrained(
            tmp_path / name
        )


@pytest.mark.filterwarnings("ignore")
def test_the_guide_runs(files):
    space = {}

    def run(block):
        exec(compile(block, "docs/your-own-model.md", "exec"), space)  # the project's own text

    run(BLOCKS[0])
    run(BLOCKS[1])
    images, edited = torch.randn(4, 3, 32, 32), space["mapped"].apply_to(space["ft"])
    torch.testing.assert_close(space["network"].eval()(images), edited(images))
    assert not torch.allclose(edited(images), space["ft"](images))
    assert len(BLOCKS[0].strip().splitlines()) <= 15
    for block in BLOCKS[2:]:
        run(block)
    assert len(BLOCKS) == 5


def test_every_link_and_name_of_the_guide_is_there():
    import classvec_lab.datasets
    import classvec_lab.models

    for name in ("from_module", "save", "load"):
        assert hasattr(classvec_lab.models.Classifier, name)
    for link in re.findall(r"\]\(([^)#]+)\)", GUIDE):
        assert (REPOSITORY / "docs" / link).exists(), link
