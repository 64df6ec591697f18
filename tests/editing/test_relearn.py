"""Relearn time: a copy is trained, a known class takes no step, a mask none that helps, and it repeats."""

import copy

import numpy as np
import pytest
import torch
from conftest import CLASSES, coloured, small_classifier
from torch import nn

from classvec_lab import Classifier, CosineHead, extract_features, finetune
from classvec_lab.editing.audit.relearn import relearn_time
from classvec_lab.errors import DatasetError, MismatchError, ModelError

TRAIN, TEST = coloured(120), coloured(60, split="test")
KNOWN = {"evaluate": TEST, "target": "red", "original_accuracy": 1.0, "lr": 3e-3}


class Reading(nn.Module):
    """A head that wraps another, moves what it reads, and may mask a class."""

    def __init__(self, head, step=None, masked=None):
        super().__init__()
        self.head, self.masked = head, masked
        self.register_buffer("step", torch.zeros(head.in_features) if step is None else step)
        self.in_features, self.out_features = head.in_features, head.out_features

    def forward(self, z):
        logits = self.head(z + self.step)
        if self.masked is not None:
            logits = logits.masked_fill(torch.arange(self.out_features) == 0, self.masked)
        return logits


@pytest.fixture(scope="module")
def trained():
    without_red = TRAIN.subset(TRAIN.targets != 0)
    options = {"epochs": 6, "lr": 1e-2, "batch_size": 16, "cache": False, "progress": False}
    data = {"original": TRAIN, "retrained": without_red}
    return {
        name: finetune(small_classifier(), part, **options).classifier
        for name, part in data.items()
    }


def wrapped(classifier, **reading) -> Classifier:
    head = Reading(copy.deepcopy(classifier.head), **reading)
    return Classifier(
        copy.deepcopy(classifier.encoder), head, classes=CLASSES, preprocess=classifier.preprocess
    )


def test_a_class_comes_back_and_the_argument_is_untouched(trained):
    classifier = trained["retrained"]
    before = copy.deepcopy(classifier.state_dict())
    found = relearn_time(classifier, TRAIN, **KNOWN)
    assert not classifier.training
    assert all(torch.equal(before[k], v) for k, v in classifier.state_dict().items())
    assert found.steps > 1
    assert not found.censored
    assert str(found) == str(found.steps)
    curve = found.curve
    assert curve["step"].tolist() == list(range(found.steps + 1))
    assert (curve["accuracy"].iloc[:-1] < found.threshold).all()
    assert curve["accuracy"].iloc[-1] >= found.threshold == pytest.approx(0.9)
    assert curve["accuracy"][0] == 0
    assert (curve["n"] == 20).all()
    assert np.isnan(curve["loss"][0])
    assert curve["loss"].iloc[-1] < curve["loss"][1]


def test_a_class_that_is_known_takes_no_step(trained):
    found = relearn_time(trained["original"], TRAIN, **KNOWN | {"original_accuracy": 0.9})
    assert (found.steps, len(found.curve), found.stopped) == (0, 1, "back")


def test_a_higher_tolerance_and_a_higher_rate_take_fewer_steps(trained):
    steps = [
        relearn_time(trained["retrained"], TRAIN, **KNOWN | more).steps
        for more in ({}, {"tolerance": 0.8}, {"lr": 3e-2})
    ]
    assert steps[0] > steps[1]
    assert steps[0] > steps[2]


def test_masked_logits_are_never_relearnt(trained):
    found = relearn_time(wrapped(trained["original"], masked=-torch.inf), TRAIN, **KNOWN)
    assert found.censored
    assert str(found) == "> 100"
    assert "no gradient" in found.stopped
    finite = relearn_time(wrapped(trained["original"], masked=-1e6), TRAIN, max_steps=5, **KNOWN)
    assert (finite.steps, str(finite), len(finite.curve)) == (None, "> 5", 6)
    assert finite.stopped == "not back after 5 steps"


@pytest.mark.parametrize("cosine", [False, True], ids=["linear", "frozen cosine"])
def test_a_head_that_wraps_another_can_relearn(trained, cosine):
    original = trained["original"]
    red, green = (
        extract_features(original, TRAIN.only([name]), progress=False).z.mean(axis=0)
        for name in ("red", "green")
    )
    inner = CosineHead(original.head.weight, 10.0) if cosine else copy.deepcopy(original.head)
    head = Reading(inner, step=1.2 * torch.tensor(green - red))
    edited = Classifier(
        copy.deepcopy(original.encoder), head, classes=CLASSES, preprocess=original.preprocess
    )
    before = copy.deepcopy(edited.state_dict())
    found = relearn_time(edited, TRAIN, **KNOWN, max_steps=300)
    assert found.curve["accuracy"][0] < 0.5
    assert found.steps > 1
    assert all(torch.equal(before[k], v) for k, v in edited.state_dict().items())


def test_it_repeats_and_the_global_generator_is_left_alone(trained):
    state = torch.get_rng_state()
    a, b, c = (relearn_time(trained["retrained"], TRAIN, **KNOWN, seed=s) for s in (0, 0, 1))
    assert a.curve.equals(b.curve)
    assert not a.curve.equals(c.curve)
    assert torch.equal(state, torch.get_rng_state())


def test_the_rate_does_not_depend_on_what_the_model_knows(trained):
    options = {**KNOWN, "lr": None, "max_steps": 1}
    rates = {relearn_time(model, TRAIN, **options).settings["lr"] for model in trained.values()}
    assert len(rates) == 1


@pytest.mark.parametrize(
    ("change", "error", "message"),
    [
        ({"target": "mauve"}, MismatchError, "no class 'mauve'; there are red, green, blue"),
        ({"n_samples": 41}, DatasetError, "hold 40 of class 'red'; 41 are needed"),
        (
            {"evaluate": TEST.subset(TEST.targets != 0)},
            DatasetError,
            "evaluate on.* hold 0 of class 'red'",
        ),
        (
            {"evaluate": coloured(9, classes=("a", "b", "c"))},
            MismatchError,
            "the images to evaluate on",
        ),
        ({"original_accuracy": 0}, ModelError, "original_accuracy=0"),
        ({"tolerance": 1.0}, ModelError, "tolerance=1.0"),
        ({"n_samples": 0}, ModelError, "n_samples=0"),
        ({"lr": -1}, ModelError, "lr=-1"),
        ({"max_steps": 0}, ModelError, "max_steps=0"),
    ],
)
def test_what_can_not_work_is_refused(trained, change, error, message):
    with pytest.raises(error, match=message):
        relearn_time(trained["original"], TRAIN, **KNOWN | change)


def test_a_classifier_without_trainable_parameters_is_refused(trained):
    frozen = copy.deepcopy(trained["original"]).requires_grad_(False)
    with pytest.raises(ModelError, match="no trainable parameter"):
        relearn_time(frozen, TRAIN, **KNOWN)
