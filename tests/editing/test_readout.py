"""A readout is what the classifier says of stored representations."""

import numpy as np
import pytest
import torch
from conftest import coloured, small_classifier
from hypothesis import given
from hypothesis import strategies as st
from hypothesis.extra.numpy import arrays
from torch import nn
from worlds import bits, class_vectors_of, logits, reader, same_bits, samples

from classvec_lab import Classifier, Features, extract_features
from classvec_lab.editing.audit.blank import incompetent
from classvec_lab.errors import MismatchError
from classvec_lab.readout import Readout, predict

V = class_vectors_of()


@pytest.mark.parametrize("head", ["linear", "cosine"])
def test_from_a_classifier(head):
    classifier, f = reader(V, head), samples(V, 50)
    before = f.z.copy()
    readout = Readout.of(classifier, f)
    np.testing.assert_array_equal(readout.logits, logits(classifier, f.z).double().numpy())
    np.testing.assert_array_equal(readout.z, f.z.astype(np.float32))
    np.testing.assert_array_equal(readout.predicted, predict(classifier, f))
    np.testing.assert_array_equal(f.z, before)
    assert readout.logits.dtype == np.float64
    assert (len(readout), readout.classes, readout.index("c2")) == (50, V.classes, 2)
    np.testing.assert_array_equal(readout.y, f.y)


@given(arrays(np.float64, (4, 3), elements=st.floats(-700, 700)))
def test_probabilities_are_a_softmax(values):
    p = Readout(np.zeros((4, 2)), values, np.zeros(4, int), "abc").probabilities
    np.testing.assert_allclose(p.sum(axis=1), 1)
    expected = np.exp(values - values.max(axis=1, keepdims=True))
    np.testing.assert_allclose(
        p, expected / expected.sum(axis=1, keepdims=True), rtol=1e-10, atol=1e-300
    )


def test_a_masked_class_has_probability_zero():
    readout = Readout(np.zeros((1, 2)), [[-np.inf, 0.0, 0.0]], [1], "abc")
    np.testing.assert_allclose(readout.probabilities, [[0, 0.5, 0.5]])
    assert readout.predicted[0] == 1


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"z": np.zeros(4)}, r"got \(4,\)"),
        ({"logits": np.zeros((4, 2))}, r"logits \(N, 3\).*\(4, 2\)"),
        ({"y": np.zeros(3)}, r"and \(3,\)"),
        ({"z": np.full((4, 2), np.nan)}, "finite"),
        ({"logits": np.full((4, 3), np.nan)}, "finite"),
        ({"logits": np.full((4, 3), np.inf)}, "finite or -inf"),
    ],
)
def test_malformed_readouts(changes, message):
    of = {
        "z": np.zeros((4, 2)),
        "logits": np.zeros((4, 3)),
        "y": np.zeros(4, int),
        "classes": "abc",
    }
    Readout(**of)
    with pytest.raises(MismatchError, match=message):
        Readout(**{**of, **changes})


def test_unknown_classes_are_named():
    with pytest.raises(MismatchError, match="no class 'z'; there are a, b, c"):
        Readout(np.zeros((1, 2)), np.zeros((1, 3)), [0], "abc").index("z")


@pytest.fixture
def images():
    return coloured(60, split="test")


def test_an_incompetent_network_is_drawn_anew(images):
    classifier = small_classifier(seed=3, batchnorm=True)
    before, state = bits(classifier), torch.random.get_rng_state()
    features = extract_features(classifier, images, progress=False)
    blank = [incompetent(classifier, features, images, seed=s) for s in (0, 0, 1)]
    np.testing.assert_array_equal(blank[0].logits, blank[1].logits)
    assert not np.allclose(blank[0].logits, blank[2].logits)
    assert not np.allclose(blank[0].z, features.z)
    np.testing.assert_array_equal(blank[0].y, images.targets)
    np.testing.assert_array_equal(blank[0].logits, logits(classifier, blank[0].z).double())
    assert same_bits(bits(classifier), before)
    assert torch.equal(torch.random.get_rng_state(), state)


def test_what_was_learnt_does_not_reach_an_incompetent_network(images):
    first, second = small_classifier(seed=0), small_classifier(seed=1)
    drawn = [
        incompetent(c, extract_features(c, images, progress=False), images) for c in (first, second)
    ]
    np.testing.assert_array_equal(drawn[0].z, drawn[1].z)


def test_attention_is_drawn_anew_too(images):
    encoder = nn.Sequential(
        nn.Flatten(), nn.Linear(192, 8), nn.TransformerEncoderLayer(8, 2, 16, dropout=0.0)
    )
    classifier = Classifier(
        encoder, nn.Linear(8, 3), classes=images.classes, preprocess=small_classifier().preprocess
    )
    features = extract_features(classifier, images, progress=False)
    before = incompetent(classifier, features, images).z
    with torch.no_grad():
        encoder[2].self_attn.in_proj_weight.add_(1.0)
    np.testing.assert_array_equal(incompetent(classifier, features, images).z, before)


def test_other_data_than_the_features_are_refused(images):
    classifier = small_classifier()
    features = extract_features(classifier, images, progress=False)
    with pytest.raises(
        MismatchError, match="the data set has other labels than the features from sample 0 on"
    ):
        incompetent(classifier, features, images.relabelled([0], "blue"))


def test_predictions_are_the_head_s():
    classifier = small_classifier()
    z = np.random.default_rng(0).normal(size=(20, 6))
    with torch.inference_mode():
        expected = classifier.head(torch.tensor(z, dtype=torch.float32)).argmax(1).numpy()
    np.testing.assert_array_equal(
        predict(classifier, Features(z, np.zeros(20, int), classifier.classes)), expected
    )
