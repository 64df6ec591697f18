"""A small world to edit: class means before and after fine-tuning, samples around them, and classifiers that tell them apart."""

import numpy as np
import torch
from torch import nn

from classvec_lab import Classifier, ClassVectors, CosineHead, Features
from classvec_lab.models import Preprocess

PREPROCESS = Preprocess("open_clip", {"size": 8, "mean": [0.5] * 3, "std": [0.5] * 3})


def names(n_classes):
    """Class names c0, c1, …"""
    return tuple(f"c{i}" for i in range(n_classes))


def class_vectors_of(n_classes=4, dim=10, seed=0):
    """Class vectors that point away from a common centre, more or less: fine-tuning moved the means apart."""
    rng = np.random.default_rng(seed)
    z_ft = 3 * rng.normal(size=(n_classes, dim)) + rng.normal(size=dim)
    kappa = 0.8 * (z_ft - z_ft.mean(axis=0)) + rng.normal(size=(n_classes, dim))
    return ClassVectors(z_ft - kappa, z_ft, np.full(n_classes, 50), names(n_classes))


def samples(vectors, n=400, seed=0, spread=1.0, share=None):
    """n samples around the fine-tuned means, classes in equal numbers or drawn with the probabilities `share`."""
    rng = np.random.default_rng([seed, n])
    y = np.arange(n) % len(vectors) if share is None else rng.choice(len(vectors), n, p=share)
    mixing = np.random.default_rng(7).normal(size=(vectors.dim, vectors.dim)) / np.sqrt(vectors.dim)
    return Features(
        vectors.z_ft[y] + spread * rng.normal(size=(n, vectors.dim)) @ mixing, y, vectors.classes
    )


def reader(vectors, head="linear", seed=0, encoder=None):
    """A classifier with a small encoder and a head for class means: the nearest ("linear") or the most alike ("cosine")."""
    torch.manual_seed(seed)
    means = torch.tensor(vectors.z_ft, dtype=torch.float32)
    if head == "cosine":
        layer = CosineHead(means, 10.0)
    else:
        layer = nn.Linear(vectors.dim, len(vectors))
        with torch.no_grad():
            layer.weight.copy_(means)
            layer.bias.copy_(-0.5 * means.square().sum(dim=1))
    encoder = encoder or nn.Sequential(
        nn.Flatten(), nn.Linear(192, 16), nn.ReLU(), nn.Linear(16, vectors.dim)
    )
    return Classifier(encoder, layer, classes=vectors.classes, preprocess=PREPROCESS)


def images(n=6, seed=0):
    """Preprocessed images for `reader`, (n, 3, 8, 8)."""
    return torch.randn(n, 3, 8, 8, generator=torch.Generator().manual_seed(seed))


def logits(classifier, z):
    """Logits of stored representations (N, m)."""
    with torch.no_grad():
        return classifier.logits(torch.as_tensor(np.asarray(z), dtype=torch.float32))


def bits(classifier):
    """A copy of everything in the classifier's state."""
    return {name: value.clone() for name, value in classifier.state_dict().items()}


def same_bits(a, b):
    """Whether two states hold the same names and the same bits."""
    return a.keys() == b.keys() and all(torch.equal(a[k], b[k]) for k in a)
