"""One image, and what a classifier makes of it: what networks of all libraries are compared by."""

import numpy as np
import torch
from PIL import Image

from classvec_lab.datasets.torchvision_repair import ensure_torchvision

ensure_torchvision()  # before any test imports a library that needs it
IMAGE = Image.fromarray(np.random.default_rng(0).integers(0, 256, (40, 56, 3), np.uint8))
ABC = ["a", "b", "c"]


def read(classifier):
    """Representation and logits of the image."""
    with torch.inference_mode():
        z = classifier.encode(classifier.preprocess(IMAGE)[None])
        return z, classifier.logits(z)


def close(a, b):
    torch.testing.assert_close(a, b, rtol=1e-5, atol=1e-5)
