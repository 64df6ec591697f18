"""Relearn time: a copy is trained, a known class takes no step, a mask none that helps, and it repeats."""

import copy

import pytest
import torch
from conftest import CLASSES, coloured, small_classifier
from torch import nn

from classvec_lab import Classifier, CosineHead, extract_features, finetune
from classvec_lab.editing.audit.relearn import relearn_time
from classvec_lab.errors import DatasetError, MismatchError, ModelError
from classvec_lab.models import training

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
    steps = relearn_time(classifier, TRAIN, **KNOWN)
    assert not classifier.training
    assert all(torch.equal(before[k], v) for k, v in classifier.state_dict().items())
    assert steps > 1
    assert relearn_time(classifier, TRAIN, **KNOWN, max_steps=steps) == steps
    assert relearn_time(classifier, TRAIN, **KNOWN, max_steps=steps - 1) is None


def listening(monkeypatch):
    """A list that (loss, accuracy) on the images to evaluate on go to, step by step."""
    tried, measure = [], training.evaluate

    def listen(*given, **options):
        tried.append(measure(*given, **options))
        return tried[-1]

    monkeypatch.setattr(training, "evaluate", listen)
    return tried


def test_accuracy_is_tried_before_and_after_each_step(trained, monkeypatch):
    tried = listening(monkeypatch)
    steps = relearn_time(trained["retrained"], TRAIN, **KNOWN)
    accuracies = [accuracy for _, accuracy in tried]
    assert len(accuracies) == steps + 1
    assert accuracies[0] == 0
    assert max(accuracies[:-1]) < 0.9 <= accuracies[-1]


def test_a_class_that_is_known_takes_no_step(trained):
    task = KNOWN | {"original_accuracy": 0.9}
    assert relearn_time(trained["original"], TRAIN, **task) == 0


def test_a_lower_goal_and_a_higher_rate_take_fewer_steps(trained):
    steps = [
        relearn_time(trained["retrained"], TRAIN, **KNOWN | more)
        for more in ({}, {"original_accuracy": 0.3}, {"lr": 3e-2})
    ]
    assert steps[0] > steps[1]
    assert steps[0] > steps[2]


def test_masked_logits_are_never_relearnt(trained):
    for masked in (-torch.inf, -1e6):
        model = wrapped(trained["original"], masked=masked)
        assert relearn_time(model, TRAIN, max_steps=5, **KNOWN) is None


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
    assert relearn_time(edited, TRAIN, **KNOWN, max_steps=300) > 1
    assert all(torch.equal(before[k], v) for k, v in edited.state_dict().items())


def test_it_repeats_and_the_global_generator_is_left_alone(trained, monkeypatch):
    state = torch.get_rng_state()
    tried, runs = listening(monkeypatch), []
    for seed in (0, 0, 1):
        tried.clear()
        relearn_time(trained["retrained"], TRAIN, **KNOWN, seed=seed)
        runs.append(tuple(tried))
    assert runs[0] == runs[1] != runs[2]
    assert torch.equal(state, torch.get_rng_state())


def test_the_rate_does_not_depend_on_what_the_model_knows(trained, monkeypatch):
    rates, fit = set(), training.fit

    def listen(model, batches, loss, settings, **options):
        rates.add(settings["lr"])
        return fit(model, batches, loss, settings, **options)

    monkeypatch.setattr(training, "fit", listen)
    for model in trained.values():
        relearn_time(model, TRAIN, **{**KNOWN, "lr": None, "max_steps": 1})
    assert len(rates) == 1


@pytest.mark.parametrize(
    ("change", "error", "message"),
    [
        ({"target": "mauve"}, MismatchError, "no class 'mauve'; there are red, green, blue"),
        (
            {"forget": TRAIN.subset(range(45))},
            DatasetError,
            "relearn from.* hold 15 of class 'red'; 16 are needed",
        ),
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
        ({"lr": -1}, ModelError, "lr=-1"),
        ({"max_steps": 0}, ModelError, "max_steps=0"),
    ],
)
def test_what_can_not_work_is_refused(trained, change, error, message):
    with pytest.raises(error, match=message):
        relearn_time(trained["original"], **{"forget": TRAIN} | KNOWN | change)


def test_a_classifier_without_trainable_parameters_is_refused(trained):
    frozen = copy.deepcopy(trained["original"]).requires_grad_(False)
    with pytest.raises(ModelError, match="no trainable parameter"):
        relearn_time(frozen, TRAIN, **KNOWN)
