"""What the notebooks of `benchmarks/panels.py` run in their kernel: panels over synthetic classes, and the plain way."""

import json
import time
from pathlib import Path

import numpy as np
import torch
from torch import nn

from classvec_lab import Classifier, ClassVectors, Features
from classvec_lab.models import Preprocess
from classvec_lab.panels import EditPanel, EditTerm, OrthogonalityPanel


def world(
    n_classes: int, dim: int, n: int, spread: float = 1.0
) -> tuple[Classifier, ClassVectors, Features]:
    """A linear head, class vectors, and n samples around the fine-tuned means."""
    rng = np.random.default_rng(0)
    z_ft = rng.normal(size=(n_classes, dim))
    kappa = z_ft - z_ft.mean(axis=0) + 0.3 * rng.normal(size=(n_classes, dim))
    names, y = [f"class {i}" for i in range(n_classes)], np.arange(n) % n_classes
    features = Features((z_ft[y] + spread * rng.normal(size=(n, dim))).astype(np.float32), y, names)
    head = nn.Linear(dim, n_classes)
    with torch.no_grad():
        head.weight.copy_(torch.tensor(z_ft))
        head.bias.copy_(torch.tensor(-0.5 * (z_ft**2).sum(1)))
    preprocess = Preprocess("open_clip", {"size": 8, "mean": [0.5] * 3, "std": [0.5] * 3})
    classifier = Classifier(nn.Identity(), head, classes=names, preprocess=preprocess)
    return (
        classifier,
        ClassVectors(z_ft - kappa, z_ft, np.full(n_classes, n // n_classes), names),
        features,
    )


def panel(n_classes: int) -> OrthogonalityPanel:
    """The orthogonality panel."""
    classifier, vectors, _ = world(n_classes, 512, 10 * n_classes)
    return OrthogonalityPanel(vectors, classifier=classifier)


def plain_way(n_classes: int):
    """A slider, and seaborn's heat map drawn anew into an Output widget."""
    import ipywidgets as w
    import matplotlib.pyplot as plt
    import seaborn as sns

    from classvec_lab.diagnostics.orthogonality import ClassCosines

    cosines, out = ClassCosines(world(n_classes, 512, 10 * n_classes)[1]), w.Output()
    slider = w.FloatSlider(min=0, max=1, step=0.02, description="centring")
    look = {
        "center": 0,
        "vmin": -0.5,
        "vmax": 0.5,
        "cmap": "RdBu_r",
        "square": True,
        "rasterized": True,
    }

    def draw(_=None):
        with out:
            out.clear_output(wait=True)
            _, ax = plt.subplots(figsize=(6.5, 6))
            sns.heatmap(cosines.frame(share=slider.value), ax=ax, **look)
            plt.show()

    slider.observe(draw, "value")
    draw()
    box = w.VBox([slider, out])
    box.add_class("plain-way")
    return box


def timed(actions) -> list[float]:
    """Milliseconds of each action."""
    taken = []
    for action in actions:
        start = time.perf_counter()
        action()
        taken.append(1e3 * (time.perf_counter() - start))
    return taken


def kernel_times(path: str) -> EditPanel:
    """Time changes of a live edit panel and the blocks of 21,843 classes; the figures go to `path`."""
    from IPython.display import display

    classifier, vectors, features = world(43, 512, 10_000, spread=3.0)
    p = EditPanel(classifier, vectors, features)
    p.edits = (EditTerm("forget", "class 0"), EditTerm("switch", "class 1", to="class 2"))
    display(p)
    low, high = p.span(p.calibrated(p.term))
    strengths = [lambda s=float(s): p.change(strength=s) for s in np.linspace(0.1, 3, 40)]
    timed(strengths[:3])
    found = {"strength": timed(strengths)}
    found["gamma"] = timed(
        [lambda g=float(g): p.change(gamma=g) for g in np.linspace(low, high, 42)[1:-1]]
    )
    p.edits += (EditTerm("forget", "class 3", gate="none"),)
    p.active = 2
    found["strength, one edit without a gate"] = timed(strengths)
    z = np.random.default_rng(0).normal(size=(2, 21_843, 1_024))
    many = ClassVectors(*z, np.full(21_843, 50), [f"class {i}" for i in range(21_843)])
    opened = []
    found["21,843 classes: opened"] = timed([lambda: opened.append(OrthogonalityPanel(many))])
    for name, action in (
        ("found by name", lambda: opened[0].go_to("class 12345")),
        ("back to all blocks", lambda: setattr(opened[0], "window", ())),
        ("a block clicked", lambda: setattr(opened[0].map, "selected", [3, 7])),
        ("a block opened", lambda: setattr(opened[0].map, "opened", [3, 7])),
        ("searched", lambda: setattr(opened[0], "search", "class 21")),
    ):
        found[f"21,843 classes: {name}"] = timed([action])
    Path(path).write_text(json.dumps(found))
    return p
