"""A study holds no encoder beside the experiment's two, however many classes and methods."""

import gc
import weakref
from dataclasses import replace
from types import FunctionType, ModuleType

import numpy as np
import pytest
import torch
from conftest import coloured
from small_experiments import SPLITS
from torch import nn

from classvec_lab import Classifier, Experiment, forget_study
from classvec_lab.experiments.methods import RETRAINED, standard_methods
from classvec_lab.models import CosineHead, Preprocess

CLASSES = tuple("abcdef")
FAT = 10e6  # bytes of an encoder's weights


ALIVE, MOST = weakref.WeakSet(), []


class FatEncoder(nn.Module):
    """A linear map of 8 × 8 images beside 10 MB that do nothing; those alive are counted.

    `count` is called by its name in quotes: a fingerprint sees what a network's code reads, and the
    counts change.
    """

    def __init__(self, seed=0):
        super().__init__()
        torch.manual_seed(seed)
        self.read = nn.Linear(192, 8)
        self.fat = nn.Parameter(torch.full((int(FAT / 4),), float(seed)))
        globals()["count"](self)

    def __deepcopy__(self, memo):
        made = FatEncoder()
        made.load_state_dict(self.state_dict())
        return made

    def forward(self, x):
        return self.read(x.flatten(1))


def count(encoder):
    ALIVE.add(encoder)
    MOST.append(len(ALIVE))


def fat_classifier(seed, head="linear"):
    preprocess = Preprocess("open_clip", {"size": 8, "mean": [0.5] * 3, "std": [0.5] * 3})
    torch.manual_seed(seed)
    rows = nn.Linear(8, len(CLASSES))
    head = CosineHead(rows.weight.detach(), 10.0) if head == "cosine" else rows
    return Classifier(FatEncoder(seed), head, classes=CLASSES, preprocess=preprocess)


def retrained(exp, target):
    return fat_classifier(2 + CLASSES.index(target)), {"family": "reference"}


def stored(study):
    """Bytes of all tensors that can be reached from the study, each storage once."""
    seen, sizes, todo = set(), {}, [study]
    while todo:
        item = todo.pop()
        if id(item) in seen or type(item) in (type, ModuleType):
            continue
        seen.add(id(item))
        if isinstance(item, torch.Tensor):
            storage = item.untyped_storage()
            sizes[storage.data_ptr()] = storage.nbytes()
        if isinstance(item, FunctionType):  # what it closes over, not the globals of its module
            todo += [item.__closure__, item.__defaults__, item.__kwdefaults__]
        else:
            todo += gc.get_referents(item)
    return sum(sizes.values())


@pytest.fixture(scope="module", params=["linear", "cosine"])
def exp(request):
    sizes = zip(SPLITS, (90, 240, 60), strict=True)
    splits = [coloured(n, split=split, classes=CLASSES) for split, n in sizes]
    return Experiment(*(fat_classifier(seed, request.param) for seed in (0, 1)), None, *splits)


@pytest.mark.parametrize("count", [3, 6])
def test_memory_does_not_grow_with_the_number_of_classes(exp, count):
    methods = standard_methods(n_random=2) | {RETRAINED: retrained}
    MOST.clear()
    study = forget_study(exp, CLASSES[:count], methods, progress=False)
    assert len(study.table) == count * 20
    gc.collect()
    assert len(ALIVE) == 2
    assert 2 * FAT <= stored(study) < 2.2 * FAT
    assert 3 <= max(MOST) <= 4  # one result at a time
    (audit,) = study.audits([RETRAINED], CLASSES[0]).values()
    assert np.isfinite(audit.get("ACC_f")["value"])
    gc.collect()
    assert len(ALIVE) == 2
    assert 2 * FAT <= stored(study) < 2.2 * FAT


def test_the_walk_finds_a_study_that_keeps_its_models(exp):
    """What the test above would see if outcomes held on to their classifiers."""
    study = forget_study(exp, ["a"], {RETRAINED: retrained}, progress=False)
    (outcome,) = study.outcomes["a"]
    greedy = replace(study, outcomes={"a": [replace(outcome, kept=outcome.classifier)]})
    assert stored(greedy) > 2.9 * FAT
