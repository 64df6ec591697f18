"""Matching brings each image to its own goal, trains what it may and nothing else, and is cached."""

import copy

import numpy as np
import pytest
import torch
from conftest import coloured, small_classifier
from torch import nn

from classvec_lab import extract_features
from classvec_lab.editing.matching import match
from classvec_lab.errors import MismatchError, ModelError
from classvec_lab.files import cache_dir

DATA = coloured(24)
HOW = {"batch_size": 8, "lr": 0.01, "progress": False}


def encoded(classifier):
    return extract_features(classifier, DATA, cache=False, progress=False).z


@pytest.fixture
def small():
    """The small network with a LayerNorm at its end."""
    classifier = small_classifier()
    torch.manual_seed(0)
    norm = nn.LayerNorm(classifier.dim)
    classifier.encoder = nn.Sequential(classifier.encoder, norm)
    return classifier


def test_each_image_comes_nearer_to_its_own_goal_and_the_head_stays(small):
    before = encoded(small)
    # what the small network could reach: itself, with other weights
    other = copy.deepcopy(small)
    with torch.no_grad():
        for parameter in other.encoder.parameters():
            parameter += 0.1 * torch.randn_like(parameter)
    goals = encoded(other)
    state = {k: v.clone() for k, v in small.state_dict().items()}
    left = [np.square(before - goals).sum()]
    for epochs in (1, 4, 16):
        found = match(small, DATA, goals, epochs=epochs, **HOW)
        left.append(np.square(encoded(found.classifier) - goals).sum())
    assert left == sorted(left, reverse=True)
    assert left[-1] < 0.1 * left[0]
    assert found.history["step"].tolist() == [3 * i for i in range(17)]
    own = found.classifier.state_dict()
    for name, value in small.state_dict().items():
        assert torch.equal(value, state[name])
        assert torch.equal(value, own[name]) == name.startswith("head.")


def test_goals_where_images_are_change_nothing(small):
    found = match(small, DATA, encoded(small), **HOW)
    np.testing.assert_allclose(encoded(found.classifier), encoded(small), atol=1e-4)


def test_layernorms_alone_are_trained_and_every_parameter_is_trainable_again(small):
    small.head.requires_grad_(False)
    found = match(small, DATA, encoded(small) + 1, parameters="all", **HOW).classifier
    own = found.state_dict()
    moved = {name for name, x in small.state_dict().items() if not torch.equal(x, own[name])}
    assert moved == {"encoder.1.weight", "encoder.1.bias"}
    asked = [p.requires_grad for p in small.parameters()]
    assert [p.requires_grad for p in found.parameters()] == asked
    assert not all(asked)


def test_a_match_is_read_again_and_made_anew_for_other_goals(small):
    goals = encoded(small) + 1
    first, again, other = (match(small, DATA, g, **HOW) for g in (goals, goals, goals + 1))
    assert np.array_equal(encoded(first.classifier), encoded(again.classifier))
    assert first.seconds == again.seconds
    assert not np.array_equal(encoded(first.classifier), encoded(other.classifier))
    assert len(list(cache_dir("models").glob("*.safetensors"))) == 2
    match(small, DATA, goals, seed=1, **HOW)
    assert len(list(cache_dir("models").glob("*.safetensors"))) == 3


def test_goals_that_are_not_of_the_images_and_settings_that_cannot_be(small, monkeypatch):
    monkeypatch.setattr(nn.Linear, "forward", lambda *_: pytest.fail("the encoder ran"))
    goals = np.zeros((len(DATA), small.dim))
    for given, changes, error, said in (
        (goals[:5], {}, MismatchError, "24 images need as many finite goals; got 5"),
        (goals[:, :3], {}, MismatchError, "shape"),
        (goals + np.nan, {}, MismatchError, "finite"),
        (goals, {"epochs": 0}, ModelError, "epochs=0"),
        (goals, {"lr": -1.0}, ModelError, "lr=-1"),
        (goals, {"parameters": "last"}, ModelError, "choice of LayerNorms"),
    ):
        with pytest.raises(error, match=said):
            match(small, DATA, given, **HOW | changes)
    with pytest.raises(ModelError, match="no LayerNorm for 'all'"):
        match(small_classifier(), DATA, goals, parameters="all")
