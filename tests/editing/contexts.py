"""A small real world to edit: coloured images, a small network before and after fine-tuning, and their `EditingContext`."""

from dataclasses import replace

import numpy as np
import pytest
import torch
from conftest import CLASSES, coloured, small_classifier

from classvec_lab import finetune
from classvec_lab.datasets import ImageDataset
from classvec_lab.experiments.context import EditingContext
from classvec_lab.models import CosineHead

RECIPE = {"epochs": 4, "lr": 3e-3, "batch_size": 32, "seed": 0}


def splits(noise=60.0, n=(180, 450, 150)):
    """Train, val and test of coloured images; val holds enough of the other classes for gates at 1 %."""
    return {
        s: coloured(k, split=s, noise=noise)
        for s, k in zip(("train", "val", "test"), n, strict=True)
    }


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


def small_context(head="linear", data=None, **settings):
    """The context of the network fine-tuned on `data`; nothing is extracted yet and nothing cached."""
    data, pre = data or splits(), untrained(head)
    tuned = finetune(pre, data["train"], val=data["val"], progress=False, cache=False, **RECIPE)
    return EditingContext(pre, tuned.classifier, data, RECIPE, **settings)


def with_labels(dataset, y):
    """The same images under labels y (N,)."""
    y = np.asarray(y)
    for i, name in enumerate(dataset.classes):
        dataset = dataset.relabelled(y == i, name)
    return dataset


def changed(context, **changes):
    """The context with other settings, and all that was read kept: for changes that don't bear on features."""
    made = replace(context, **changes)
    made.__dict__.update({k: v for k, v in context.__dict__.items() if k not in made.__dict__})
    return made


def untouchable(targets, classes=CLASSES, split="train"):
    """A data set with labels whose images must not be asked for."""

    def load(i):
        raise AssertionError(f"image {i} of {split} was read")

    return ImageDataset(
        load, targets, classes, name="untouchable", split=split, identity=lambda chosen: None
    )


def idle_context(**targets):
    """A context that raises AssertionError where anything is extracted or trained; targets: labels by split, by default all."""
    made = {
        split: untouchable(targets.get(split, np.arange(9) % 3), split=split)
        for split in ("train", "val", "test")
    }
    return EditingContext(small_classifier(), small_classifier(seed=1), made, RECIPE)


def warmed(tmp_path_factory, make=small_context):
    """What `make` gives, features read, its caches in a folder of their own: for fixtures that outlive a test."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("CLASSVEC_DATA", str(tmp_path_factory.mktemp("data")))
        context = make()
        for read in (context.features, context.pre_features):
            assert set(read) == set(context.data)
    return context
