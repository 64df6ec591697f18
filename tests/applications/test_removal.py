"""What is deployed: it finds and removes an attribute from z alone, as an edit, a head and weights."""

from dataclasses import replace

import numpy as np
import pytest
import torch
from attribute_worlds import world
from conftest import CLASSES, coloured, small_classifier
from torch import nn

from classvec_lab import Features, extract_features
from classvec_lab.applications import attribute_vectors, map_projection, map_removal, route
from classvec_lab.datasets.corruptions import corrupted
from classvec_lab.errors import EditError, MismatchError
from classvec_lab.models import Classifier, CosineHead
from classvec_lab.readout import logits, predict


def classifier_of(w, bias=True):
    """A model whose head names the nearest class mean; its encoder is one linear map."""
    weight, dim = torch.tensor(w.means).float(), w.means.shape[1]
    head = nn.Linear(dim, len(weight), bias=bias)
    with torch.no_grad():
        head.weight.copy_(weight)
        if bias:
            head.bias.copy_(-0.5 * weight.square().sum(1))
    encoder = nn.Sequential(nn.Flatten(), nn.Linear(12, dim))
    return Classifier(encoder, head, classes=w.classes, preprocess=small_classifier().preprocess)


def right(w, classifier, moved, condition):
    features, _ = w.tests[condition]
    return (logits(classifier, moved(features.z)).argmax(axis=1) == features.y).mean()


def test_the_router_finds_the_value_and_the_class_and_takes_the_shift_back():
    w = world(own=3.0)
    router = route(w.vectors, w.plain)
    for value, a in (("snow", 0), ("fog", 1), ("clean", -1)):
        features, _ = w.tests[value]
        assert (router.found(features.z) == a).mean() > 0.97
        assert (router.cells(features.z) % 4 == features.y).mean() > 0.97
        moved = router.moved(features.z) - (0 if a < 0 else -w.shift[a, features.y])
        assert np.linalg.norm(moved - features.z, axis=1).mean() < 0.3
    clean = w.tests["clean"][0].z
    kept = router.found(clean) < 0
    assert (router.moved(clean)[kept] == clean[kept]).all()  # bit for bit


def test_labels_are_never_read():
    """Shuffled labels of whatever is deployed on, or set the false alarms with, change nothing."""
    w = world()
    mixed = np.random.default_rng(0).permutation(w.plain.y)
    one, other = (route(w.vectors, p) for p in (w.plain, replace(w.plain, y=mixed)))
    for name in ("weight", "bias", "steps"):
        np.testing.assert_array_equal(getattr(one, name), getattr(other, name))
    model, (features, _) = one.on(classifier_of(w)), w.tests["snow"]
    shuffled = replace(features, y=np.random.default_rng(1).permutation(features.y))
    np.testing.assert_array_equal(predict(model, features), predict(model, shuffled))


def test_the_rate_of_false_alarms_is_kept_on_what_it_was_set_with_and_nearly_on_new_samples():
    w = world(common=0.4, own=0.1, held=2000)  # hard to tell from none
    for rate in (0.01, 0.05, 0.2):
        router = route(w.vectors, w.plain, false_fire=rate)
        assert (router.found(w.plain.z) >= 0).mean() <= rate
        assert (router.found(w.tests["clean"][0].z) >= 0).mean() <= 1.6 * rate
    loose, tight = (route(w.vectors, w.plain, false_fire=r).found(w.plain.z) for r in (0.2, 0.01))
    assert (loose >= 0).sum() > (tight >= 0).sum() > 0


def test_the_routed_model_shares_encoder_and_head_and_reads_the_moved_representation():
    w = world()
    model, router = classifier_of(w), route(w.vectors, w.plain)
    before = {k: v.clone() for k, v in model.state_dict().items()}
    routed = router.on(model)
    assert routed.encoder is model.encoder
    features, _ = w.tests["snow"]
    given = replace(features, z=features.z.astype(np.float32))
    np.testing.assert_allclose(
        logits(routed, given.z), logits(model, router.moved(given.z)), rtol=1e-4, atol=1e-3
    )
    assert all(torch.equal(v, before[k]) for k, v in model.state_dict().items())


def test_controls_have_the_lengths_of_the_steps_and_other_directions():
    w = world()
    router = route(w.vectors, w.plain)
    for directions in (np.random.default_rng(0).normal(size=router.steps.shape), w.means[0]):
        turned = router.turned(directions)
        sizes = [np.linalg.norm(r.steps, axis=1) for r in (router, turned)]
        np.testing.assert_allclose(*sizes, rtol=1e-9)
        assert (turned.weight == router.weight).all()
    assert np.isfinite(router.turned(0 * w.means[0]).steps).all()


def test_the_linear_map_is_the_least_squares_optimum_that_it_says():
    """No change of matrix or constant makes its loss smaller; a gradient by hand is zero."""
    w = world()
    found, v = map_removal(classifier_of(w), w.vectors), w.vectors
    steps = np.concatenate([0 * v.means, *-v.shift])
    weight = np.array([0.5 / 4] * 4 + [0.5 / 8] * 8)[:, None]
    left = v.cells @ found.matrix + found.constant - steps
    gradient = (weight * v.cells).T @ left + v.covariance @ found.matrix
    assert np.abs(gradient).max() < 1e-9
    assert np.abs((weight * left).sum(axis=0)).max() < 1e-9


@pytest.mark.parametrize("kind", ["head", "encoder"])
def test_maps_are_written_into_the_weights_and_come_off_again(kind):
    """The changed network's own answers are those of the moved representations."""
    data, dark = coloured(60), partial_dark()
    model = small_classifier()
    if kind != "head":
        rows = torch.randn(3, 6, generator=torch.Generator().manual_seed(0))
        model = Classifier(
            model.encoder, CosineHead(rows, 10.0), classes=CLASSES, preprocess=model.preprocess
        )
    z, seen = (extract_features(model, d, progress=False) for d in (data, dark(data)))
    vectors = attribute_vectors(z, {"dark": seen})
    before = {k: v.clone() for k, v in model.state_dict().items()}
    for found in (map_removal(model, vectors), map_projection(model, vectors)):
        edited = found.apply_to(model)
        own = logits(edited, extract_features(edited, dark(data), progress=False).z)
        np.testing.assert_allclose(own, logits(model, found.moved(seen.z)), rtol=1e-3, atol=1e-3)
        assert found.n_parameters == sum(p.size for c in found.delta.changes.values() for p in c)
        back = found.remove_from(edited).state_dict()
        assert all(torch.equal(back[k], v) for k, v in before.items())
    assert all(torch.equal(v, before[k]) for k, v in model.state_dict().items())


def partial_dark():
    return lambda data: corrupted(data, "contrast", 1.0)


def test_a_projection_leaves_nothing_along_the_common_shifts_and_all_else():
    w = world()
    found = map_projection(classifier_of(w), w.vectors)
    z, basis = w.tests["snow"][0].z, w.vectors.basis
    centre = w.vectors.means.mean(axis=0)
    np.testing.assert_allclose((found.moved(z) - centre) @ basis.T, 0, atol=1e-9)
    rest = np.eye(24) - basis.T @ basis
    np.testing.assert_allclose(found.moved(z) @ rest, z @ rest, atol=1e-9)
    through_zero = map_projection(classifier_of(w, bias=False), w.vectors)
    np.testing.assert_allclose(through_zero.moved(z) @ basis.T, 0, atol=1e-9)


def test_deployed_edits_repair_what_a_wrong_direction_does_not():
    w = world(common=80.0, own=1.0, spread=0.5, n_classes=8)
    model, router = classifier_of(w), route(w.vectors.pooled(), w.plain)
    control = router.turned(np.random.default_rng(0).normal(size=router.steps.shape))
    linear = map_removal(model, w.vectors)
    for value in ("snow", "fog"):
        unedited = right(w, model, lambda z: z, value)
        assert unedited < 0.9
        assert right(w, model, router.moved, value) > 0.95
        assert right(w, model, linear.moved, value) > 0.95
        assert right(w, model, control.moved, value) < 0.9
    assert right(w, model, router.moved, "clean") > 0.99
    assert right(w, model, linear.moved, "clean") > 0.99


def test_strength_0_changes_nothing():
    w = world()
    z = w.tests["snow"][0].z
    assert (route(w.vectors, w.plain, strength=0.0).moved(z) == z).all()
    np.testing.assert_allclose(map_removal(classifier_of(w), w.vectors, strength=0.0).moved(z), z)


def test_another_model_and_impossible_rates_are_refused():
    w, other = world(model="elsewhere"), world(dim=12)
    router = route(w.vectors, w.plain)
    for make in (router.on, lambda m: map_removal(m, w.vectors)):
        with pytest.raises(MismatchError, match="another model"):
            make(classifier_of(w))
    with pytest.raises(MismatchError, match="dimension"):
        route(other.vectors, other.plain).on(classifier_of(world()))
    for rate in (0, 1, -0.1, np.nan):
        with pytest.raises((MismatchError, EditError), match="false_fire"):
            route(w.vectors, w.plain, false_fire=rate)
    with pytest.raises(MismatchError, match="no value 'hail'"):
        w.vectors.edit("hail", "c0")
    assert isinstance(w.few, Features)
