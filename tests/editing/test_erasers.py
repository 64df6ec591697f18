"""Projection removes one direction, LEACE all linear information, and the mask one answer."""

from dataclasses import replace

import numpy as np
import pytest
import torch
from conftest import coloured, small_classifier
from hypothesis import given
from hypothesis import strategies as st
from sklearn.linear_model import LogisticRegression

from classvec_lab import Classifier, CosineHead, Features, extract_features
from classvec_lab.editing.erasers import erase, leace, mask_class, project_out
from classvec_lab.errors import EditError, MismatchError
from classvec_lab.readout import Readout


def drawn(n=400, dim=8, seed=0):
    """Features of three classes, correlated dimensions, means far apart."""
    rng = np.random.default_rng(seed)
    y = np.arange(n) % 3
    z = rng.normal(size=(n, dim)) @ rng.normal(size=(dim, dim)) + 4 * rng.normal(size=(3, dim))[y]
    return Features(z, y, ("red", "green", "blue"))


def erased(eraser, z):
    """What an eraser makes of z (N, m), in float64."""
    return eraser(torch.tensor(z, dtype=torch.float64)).numpy()


def cosine_classifier():
    linear = small_classifier()
    head = CosineHead(torch.randn(3, 6, generator=torch.Generator().manual_seed(1)), 10.0)
    return Classifier(linear.encoder, head, classes=linear.classes, preprocess=linear.preprocess)


@given(dim=st.integers(2, 12), seed=st.integers(0, 1000))
def test_projection_kills_its_direction_and_nothing_else(dim, seed):
    rng = np.random.default_rng(seed)
    w, z = rng.normal(size=dim), rng.normal(size=(5, dim))
    eraser = project_out(7.5 * w)
    once = erased(eraser, z)
    np.testing.assert_allclose(once @ w, 0, atol=1e-12)
    np.testing.assert_allclose(erased(eraser, once), once, atol=1e-12)
    across = z - np.outer(z @ w / (w @ w), w)
    np.testing.assert_allclose(once - np.outer(once @ w / (w @ w), w), across, atol=1e-12)
    np.testing.assert_allclose(erased(eraser, across), across, atol=1e-12)


def test_a_projection_by_hand():
    np.testing.assert_allclose(
        erased(project_out(np.array([0.0, 2.0])), [[3.0, 5.0]]), [[3.0, 0.0]]
    )


def test_leace_leaves_no_covariance_and_no_linear_probe():
    features = drawn()
    y = features.y == 1
    before = LogisticRegression().fit(features.z, y)
    assert before.score(features.z, y) > y.mean() + 0.1 or before.score(features.z, y) > 0.9
    moved = erased(leace(features, "green"), features.z)
    covariance = (moved - moved.mean(0)).T @ (y - y.mean()) / len(y)
    assert np.abs(covariance).max() < 1e-6
    after = LogisticRegression(C=1e6).fit(moved, y)
    assert after.score(moved, y) == max(y.mean(), 1 - y.mean())
    np.testing.assert_allclose(after.predict_proba(moved)[:, 1], y.mean(), atol=1e-3)
    np.testing.assert_allclose(moved.mean(0), features.z.mean(0), atol=1e-9)


def test_leace_moves_less_than_a_projection_that_also_equalises_the_means():
    features = drawn()
    y = features.y == 1
    gap = features.z[y].mean(0) - features.z[~y].mean(0)
    erasers = (
        leace(features, "green"),
        replace(project_out(gap), bias=torch.tensor(features.z.mean(0))),
    )
    centred = features.z - features.z.mean(0)
    white = np.linalg.inv(
        np.cov(centred.T)
    )  # LEACE is least in every norm; the two differ most in Mahalanobis'
    sizes = [
        np.einsum("nm,mk,nk->", d, white, d)
        for d in (erased(e, features.z) - features.z for e in erasers)
    ]
    assert sizes[0] < sizes[1]


@pytest.mark.parametrize("make", [small_classifier, cosine_classifier])
def test_an_erased_classifier_reads_what_the_eraser_gives(make):
    classifier, data = make(), coloured(30)
    features = extract_features(classifier, data, progress=False)
    before = {k: v.clone() for k, v in classifier.state_dict().items()}
    for eraser in (project_out(np.arange(1.0, 7.0)), leace(features, "green")):
        edited = erase(classifier, eraser)
        readout = Readout.of(edited, features)
        moved = erased(eraser, features.z)
        np.testing.assert_allclose(readout.z, moved, atol=1e-5)
        with torch.inference_mode():
            wanted = classifier.logits(torch.as_tensor(moved).float())
        np.testing.assert_allclose(readout.logits, wanted.numpy(), atol=1e-4)
        assert not np.allclose(readout.logits, Readout.of(classifier, features).logits, atol=1e-3)
        assert edited.encoder is classifier.encoder
        assert edited.head.head is classifier.head
        assert edited.head.left.dtype == torch.float32
        assert edited.dim == classifier.dim
    assert all(torch.equal(v, before[k]) for k, v in classifier.state_dict().items())


def test_erasers_and_masks_stack():
    classifier = small_classifier()
    features = extract_features(classifier, coloured(12), progress=False)
    a, b = project_out(np.eye(6)[0]), project_out(np.eye(6)[1])
    both = Readout.of(mask_class(erase(erase(classifier, a), b), "red"), features)
    np.testing.assert_allclose(both.z, erased(a, erased(b, features.z)), atol=1e-6)
    np.testing.assert_allclose(both.z[:, :2], 0, atol=1e-6)
    assert np.isneginf(both.logits[:, 0]).all()


@pytest.mark.parametrize("make", [small_classifier, cosine_classifier])
@pytest.mark.parametrize("target", ["red", "green", "blue"])
def test_a_masked_class_is_never_the_answer_and_the_other_logits_are_the_same_bits(make, target):
    classifier = make()
    z = torch.randn(200, 6, generator=torch.Generator().manual_seed(0))
    i = classifier.classes.index(target)
    with torch.inference_mode():
        plain, masked = classifier.logits(z), mask_class(classifier, target).logits(z)
    assert (plain.argmax(1) == i).any()
    assert not (masked.argmax(1) == i).any()
    assert torch.isneginf(masked[:, i]).all()
    others = [k for k in range(3) if k != i]
    assert torch.equal(plain[:, others], masked[:, others])


def test_impossible_erasures_are_refused():
    classifier, features = small_classifier(), drawn()
    with pytest.raises(EditError, match="norm 0"):
        project_out(np.zeros(3))
    for act in (lambda: leace(features, "gren"), lambda: mask_class(classifier, "gren")):
        with pytest.raises(MismatchError, match="'gren'; there are red, green, blue"):
            act()
    alone = Features(features.z, np.ones(len(features), int), features.classes)
    for target in ("green", "red"):
        with pytest.raises(EditError, match="samples of class"):
            leace(alone, target)
    with pytest.raises(EditError, match="the only one"):
        mask_class(small_classifier(("red",)), "red")
