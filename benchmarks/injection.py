"""What an edit costs: a forward pass with and without three gated edits, and folding ten edits into weights.

Run: python benchmarks/injection.py
"""

import copy
import time

import numpy as np
import torch

from classvec_lab import Classifier, ClassVectors, CosineHead, Features, load_classifier
from classvec_lab.editing.calibration import calibrate_gate
from classvec_lab.editing.injection import inject
from classvec_lab.editing.weights.mapping import map_edit
from classvec_lab.models import Preprocess

CLASSES = ("airplane", "bird", "cat", "dog", "frog", "horse", "ship", "truck", "deer", "car")


def world(dim: int, n: int) -> tuple[ClassVectors, Features]:
    """Class vectors of ten classes and n samples around their fine-tuned means."""
    rng = np.random.default_rng(0)
    z_pre, z_ft = rng.normal(size=(2, len(CLASSES), dim))
    y = np.arange(n) % len(CLASSES)
    z = (z_ft[y] + rng.normal(size=(n, dim))).astype(np.float32)
    return ClassVectors(z_pre, z_ft, np.full(len(CLASSES), n), CLASSES), Features(z, y, CLASSES)


def seconds(function, argument) -> float:
    """Seconds that one call takes."""
    start = time.perf_counter()
    function(argument)
    return time.perf_counter() - start


def compare(name: str, classifier, size: int, batch: int, budget: float) -> None:
    """Time a classifier, a bare copy of it (the control) and an edited copy in turn, in changing order, for `budget` seconds."""
    vectors, held = world(classifier.dim, 2000)
    edits = [(-1.5 * vectors[c]).gated(calibrate_gate(held, vectors, c)) for c in CLASSES[:3]]
    start = time.perf_counter()
    edited = inject(classifier, edits)
    setup = time.perf_counter() - start
    models = classifier, copy.deepcopy(classifier), edited
    images = torch.randn(batch, 3, size, size, generator=torch.Generator().manual_seed(0))
    passes, heads = [], []
    with torch.inference_mode():
        for model in models:
            model(images)
        end = time.perf_counter() + budget
        while time.perf_counter() < end or len(passes) < 4:
            order = np.roll([0, 1, 2], len(passes))
            passes.append([t for _, t in sorted((i, seconds(models[i], images)) for i in order)])
        z = classifier.encode(images)
        for _ in range(300):
            heads.append([seconds(model.logits, z) for model in models])
    passes, heads = np.array(passes), np.median(heads, axis=0)
    plain, bare, with_edits = np.median(passes, axis=0)
    more = heads[2] - heads[0]
    print(
        f"{name}, batch {batch} ({len(passes)} rounds): {plain * 1e3:.2f} ms plain, {bare * 1e3:.2f} ms a bare copy, "
        f"{with_edits * 1e3:.2f} ms with three gated edits; median ratio to plain: copy "
        f"{np.median(passes[:, 1] / passes[:, 0]):.4f}, edited {np.median(passes[:, 2] / passes[:, 0]):.4f}; "
        f"the edited head alone takes {more * 1e6:.0f} µs more, {more / plain:.2%} of a pass; inject took {setup:.2f} s",
        flush=True,
    )


def mapping(dim: int) -> None:
    """Time folding ten edits into an encoder's last linear map, from features at hand."""
    vectors, features = world(dim, 5000)
    encoder = torch.nn.Sequential(torch.nn.Flatten(), torch.nn.Linear(192, dim))
    preprocess = Preprocess("open_clip", {"size": 8, "mean": [0.5] * 3, "std": [0.5] * 3})
    classifier = Classifier(
        encoder,
        CosineHead(torch.randn(len(CLASSES), dim), 10.0),
        classes=CLASSES,
        preprocess=preprocess,
    )
    edits = [-1.5 * vectors[c] for c in CLASSES]
    moments = features.moments(pooled_scatter=True)
    from_features = [map_edit(classifier, edits, features).seconds for _ in range(3)]
    from_moments = [map_edit(classifier, edits, moments).seconds for _ in range(3)]
    print(
        f"mapping m={dim} C={len(CLASSES)}, ten edits: {np.median(from_features):.3f} s from {len(features):,} features, "
        f"{np.median(from_moments):.3f} s from moments"
    )


if __name__ == "__main__":
    torch.set_num_threads(2)
    torch.manual_seed(0)
    tiny = load_classifier("tiny-clip", classes=CLASSES)
    for batch in (1, 64):
        compare("tiny-clip", tiny, 32, batch, 5)
    base = load_classifier("open_clip:ViT-B-32/random", classes=CLASSES)
    for batch in (1, 8):
        compare("ViT-B-32", base, 224, batch, 6)
    for dim in (128, 1280):
        mapping(dim)
