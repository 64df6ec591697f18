"""Shared fixtures: a cache of its own for each test, a small network, and small data."""

from pathlib import Path

import forked_kernels
import numpy as np
import pandas as pd
import pytest
import torch
from hypothesis import HealthCheck, settings
from PIL import Image
from torch import nn

from classvec_lab import Classifier
from classvec_lab.datasets import ImageDataset
from classvec_lab.models import Preprocess


def pytest_configure(config):
    """Make ready for notebooks, where they are tested."""
    if config.option.nbval or config.option.nbval_lax:
        forked_kernels.configure(config)


def pytest_collection_modifyitems(items):
    """Notebooks under nbval have fewer images: `make figures` runs them at their defaults."""
    for item in items:
        if cell := getattr(item, "cell", None):
            with_fewer(cell, item.path.stem)


def with_fewer(cell, stem: str) -> None:
    """Where a cell holds a notebook's parameters, set them as `FEWER` says."""
    if "parameters" in cell.metadata.get("tags", ()):
        cell.source += "".join(f"\n{k} = {v!r}" for k, v in FEWER.get(stem, {}).items())


REPOSITORY = Path(__file__).resolve().parents[1]
SHARED = REPOSITORY.parent / "shared"
CLASSES = ("red", "green", "blue")
# model_args of timm for the ImageNet network in ../shared/weights, at 64 pixels
MOBILENET = {
    "pad_type": "same",
    "num_classes": 1000,
    "pretrained_cfg_overlay": {
        "input_size": [3, 64, 64],
        "mean": [0.5, 0.5, 0.5],
        "std": [0.5, 0.5, 0.5],
        "crop_pct": 1.0,
    },
}

# Parameters of notebooks under nbval; `make figures` runs them as they are
DIGITS = {"limit": 300, "epochs": 2}
FOUR = DIGITS | {"targets": ["0", "1", "2", "3"]}
FEWER = {
    "00_verdict": FOUR | {"beside_limit": 150, "beside_epochs": 2},
    "01_models_and_data": DIGITS,
    "02_orthogonality": DIGITS | {"n_boot": 200},
    "03_linearity": DIGITS | {"n_images": 100, "other_limit": 100, "other_epochs": 1, "n_order": 12},
    "04_neural_collapse": DIGITS | {"epochs": 1, "n_boot": 50},
    "05_unlearning": FOUR | {"in_turn": 2},
    "06_weight_mapping": FOUR,
    "07_environment": {"limit": 150, "copies": 2, "retrained": 2},
    "08_typographic": {"limit": 200},
    "09_trigger": DIGITS | {"steps": 10},
    "12_explore": {"limit": 400, "n_boot": 200, "collapse_epochs": 2, "collapse_boot": 50},
    "13_subclasses": {"limit": 400, "epochs": 1},
    "14_in_the_field": {"limit": 200, "epochs": 2},
    "15_how_many_classes": {"limit": 60, "counts": [2, 10], "epochs": [1, 2], "n_boot": 50},
}  # fmt: skip

# how long an example takes says how busy the machine is
settings.register_profile("untimed", deadline=None, suppress_health_check=[HealthCheck.too_slow])
settings.load_profile("untimed")


@pytest.fixture(autouse=True)
def own_folders(tmp_path, monkeypatch):
    """Caches and figures of a test stay in its temporary folder."""
    monkeypatch.setenv("CLASSVEC_DATA", str(tmp_path / "data"))
    monkeypatch.setenv("CLASSVEC_FIGURES", str(tmp_path / "figures"))


@pytest.fixture(scope="session")
def shared():
    """The folder of real images and weights beside the repository; the test is skipped where it is absent."""
    if not SHARED.is_dir():
        pytest.skip("no real images and weights beside the repository")
    return SHARED


@pytest.fixture(scope="session")
def photographs(shared, tmp_path_factory):
    """A folder of links to CIFAR-10, three classes of 100 images to train on and 30 to test.

    All 5,000 are read, hashed and compared by each of the loads that a page makes.
    """
    folder = tmp_path_factory.mktemp("photographs")
    for split, n in (("train", 100), ("test", 30)):
        for name in ("cat", "ship", "truck"):
            (folder / split / name).mkdir(parents=True)
            for path in sorted((shared / "data/cifar10" / split / name).iterdir())[:n]:
                (folder / split / name / path.name).symlink_to(path)
    return folder


@pytest.fixture(scope="session")
def coverage():
    """Rows of simulations by table; those that a run made are filed under figures/coverage/."""
    tables = {}
    yield lambda name, **row: tables.setdefault(name, []).append(row)
    folder = REPOSITORY / "figures/coverage"
    for name, rows in tables.items():
        folder.mkdir(parents=True, exist_ok=True)
        pd.DataFrame(rows).to_csv(folder / f"{name}.csv", index=False, float_format="%.4f")


def coloured(
    n: int = 30, *, split: str = "train", classes=CLASSES, noise: float = 60.0
) -> ImageDataset:
    """Images of 8 × 8 noisy pixels, class c brightest in channel c; index decides everything."""

    def load(i: int) -> Image.Image:
        pixels = np.random.default_rng([i, len(split)]).normal(90, noise, (8, 8, 3))
        pixels[..., i % len(classes) % 3] += 90
        return Image.fromarray(np.clip(pixels, 0, 255).astype(np.uint8))

    return ImageDataset(
        load,
        np.arange(n) % len(classes),
        classes,
        name="coloured",
        split=split,
        identity=lambda chosen: ["coloured", split, noise, chosen.tolist()],
    )


def small_classifier(
    classes=CLASSES, *, seed: int = 0, dim: int = 6, batchnorm: bool = False, preprocess=None
) -> Classifier:
    """A three-layer network on 8 × 8 images with a linear head."""
    torch.manual_seed(seed)
    norm = [nn.BatchNorm1d(16)] if batchnorm else []
    encoder = nn.Sequential(nn.Flatten(), nn.Linear(192, 16), *norm, nn.ReLU(), nn.Linear(16, dim))
    preprocess = preprocess or Preprocess(
        "open_clip", {"size": 8, "mean": [0.5] * 3, "std": [0.5] * 3}
    )
    head = nn.Linear(dim, len(classes))
    return Classifier(encoder, head, classes=classes, preprocess=preprocess).eval()


@pytest.fixture
def data():
    return coloured()


@pytest.fixture
def classifier():
    return small_classifier()


@pytest.fixture
def look():
    """Off-screen drawing in the package's look; all figures are closed afterwards."""
    import matplotlib as mpl

    mpl.use("Agg")
    import matplotlib.pyplot as plt

    from classvec_lab.plots import style

    with style.context():
        yield
    plt.close("all")
