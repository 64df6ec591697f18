"""A small world for panels: class means that fine-tuning moved apart, samples around them, images, and their classifier."""

import numpy as np
import torch
from PIL import Image
from torch import nn

from classvec_lab import Classifier, ClassVectors, CosineHead, Features
from classvec_lab.datasets import ImageDataset
from classvec_lab.models import Preprocess

PREPROCESS = Preprocess("open_clip", {"size": 8, "mean": [0.5] * 3, "std": [0.5] * 3})


def widgets(box):
    """A widget and all widgets inside it."""
    yield box
    for child in getattr(box, "children", ()):
        yield from widgets(child)


def control(panel, name):
    """The control of a panel with this description, or else of this kind."""
    found = [x for x in widgets(panel) if getattr(x, "description", None) == name]
    return (found or [x for x in widgets(panel) if type(x).__name__ == name])[0]


class NeverAsked(nn.Module):
    """An encoder that no panel may call."""

    def forward(self, images):
        raise AssertionError("a panel passed images through the encoder")


class World:
    """vectors (train), features pre and ft of val and test, a classifier whose encoder refuses to work, images."""

    def __init__(self, n_classes=5, dim=12, n=300, *, head="linear", seed=0, spread=1.0):
        rng = np.random.default_rng(seed)
        self.classes = tuple(f"c{i}" for i in range(n_classes))
        z_ft = 3 * rng.normal(size=(n_classes, dim)) + rng.normal(size=dim)
        kappa = 0.8 * (z_ft - z_ft.mean(axis=0)) + rng.normal(size=(n_classes, dim))
        self.vectors = ClassVectors(z_ft - kappa, z_ft, np.full(n_classes, 50), self.classes)
        self.pre, self.ft = {}, {}
        for k, split in enumerate(("val", "test")):
            drawn = np.random.default_rng([seed, k])
            y = np.arange(n) % n_classes
            noise = spread * drawn.normal(size=(2, n, dim))
            self.pre[split] = Features((z_ft - kappa)[y] + noise[0], y, self.classes)
            self.ft[split] = Features(z_ft[y] + noise[1], y, self.classes)
        torch.manual_seed(seed)
        means = torch.tensor(z_ft, dtype=torch.float32)
        layer = CosineHead(means, 10.0) if head == "cosine" else nn.Linear(dim, n_classes)
        if head == "linear":
            with torch.no_grad():
                layer.weight.copy_(means)
                layer.bias.copy_(-0.5 * means.square().sum(dim=1))
        self.classifier = Classifier(
            NeverAsked(), layer, classes=self.classes, preprocess=PREPROCESS
        )

    def images(self, split="val"):
        """Grey images in the order of the features, whose brightness is their position."""
        y = self.ft[split].y
        return ImageDataset(
            lambda i: Image.new("RGB", (10, 8), (i % 256, 40, 90)),
            y,
            self.classes,
            name="grey",
            split=split,
            identity=lambda i: [int(k) for k in i],
        )
