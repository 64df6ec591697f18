"""A small real `Experiment`: coloured images, a small network before and after fine-tuning."""

from dataclasses import replace

import numpy as np
import pytest
import torch
from conftest import CLASSES, coloured, small_classifier

from classvec_lab import Experiment, finetune
from classvec_lab.datasets import ImageDataset
from classvec_lab.models import CosineHead

RECIPE = {"epochs": 4, "lr": 3e-3, "batch_size": 32, "seed": 0}
SPLITS = ("train", "val", "test")


def splits(noise=60.0, n=(180, 450, 150)):
    """Train, val and test of coloured images; val holds enough of other classes for gates at 1 %."""
    return {s: coloured(k, split=s, noise=noise) for s, k in zip(SPLITS, n, strict=True)}


def untrained(head="linear"):
    """The small network before fine-tuning, with a linear or a cosine head of random rows."""
    pre = small_classifier()
    if head == "cosine":
        rows = np.random.default_rng(0).normal(size=(len(CLASSES), pre.dim))
        pre = type(pre)(
            pre.encoder,
            CosineHead(torch.tensor(rows).float(), 10.0),
            classes=CLASSES,
            preprocess=pre.preprocess,
        )
    return pre


def trained(pre, data, recipe=RECIPE, **changes):
    """The experiment of `pre` fine-tuned on `data`; nothing is extracted yet and nothing cached."""
    tuned = finetune(pre, data["train"], val=data["val"], progress=False, cache=False, **recipe)
    made = Experiment(pre, tuned.classifier, tuned.history, **data, recipe=recipe)
    return replace(made, **changes)


def small_experiment(head="linear", data=None, **changes):
    """`trained` on the small network."""
    return trained(untrained(head), data or splits(), **changes)


def with_labels(dataset, y):
    """The same images under labels y (N,)."""
    y = np.asarray(y)
    for i, name in enumerate(dataset.classes):
        dataset = dataset.relabelled(y == i, name)
    return dataset


def changed(exp, **changes):
    """The experiment with other fields, and all that was read kept: where features don't change."""
    made = replace(exp, **changes)
    made.__dict__.update({k: v for k, v in exp.__dict__.items() if k not in made.__dict__})
    return made


def untouchable(targets, classes=CLASSES, split="train"):
    """A data set with labels whose images must not be asked for."""

    def load(i):
        raise AssertionError(f"image {i} of {split} was read")

    return ImageDataset(
        load, targets, classes, name="untouchable", split=split, identity=lambda chosen: [split]
    )


def idle_experiment(**targets):
    """One that raises AssertionError where anything is extracted or trained.

    Args:
        targets: labels by split, by default all classes in each.
    """
    data = {s: untouchable(targets.get(s, np.arange(9) % 3), split=s) for s in SPLITS}
    return Experiment(small_classifier(), small_classifier(seed=1), None, **data, recipe=RECIPE)


def warmed(tmp_path_factory, make=small_experiment):
    """What `make` gives, features read, its caches in a folder of their own: for fixtures that outlive a test."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("CLASSVEC_DATA", str(tmp_path_factory.mktemp("data")))
        exp = make()
        for read in (exp.features, exp.pre_features):
            assert set(read) == set(exp.data)
    return exp
