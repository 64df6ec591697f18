"""Directions are what their formulas say, and the head-aware step keeps its promise."""

import numpy as np
import pytest
import torch
from hypothesis import assume, given
from hypothesis import strategies as st
from torch import nn
from worlds import PREPROCESS, class_vectors_of, names, reader, samples

from classvec_lab import Classifier, ClassVectors, Features
from classvec_lab.editing import directions
from classvec_lab.editing.directions import (
    contrast_direction,
    head_aware,
    head_direction,
    random_direction,
    relocation,
)
from classvec_lab.editing.injection import inject
from classvec_lab.errors import EditError, MismatchError
from classvec_lab.readout import head_rows, predict

V = class_vectors_of()


def unreserved(edit):
    """The vector before the reserve was added."""
    return edit.vector / 1.25


def called(classifier, features, name):
    """Features of the samples that the model calls `name`."""
    chosen = predict(classifier, features) == features.classes.index(name)
    return Features(features.z[chosen], features.y[chosen], features.classes)


def still_called(classifier, features, name, step):
    weight, bias = head_rows(classifier)
    return (
        ((features.z + step) @ weight.T + bias).argmax(axis=1) == features.classes.index(name)
    ).mean()


def test_formulas():
    classifier, weight = reader(V), V.z_ft.astype(np.float32).astype(float)
    np.testing.assert_allclose(
        contrast_direction(V, "c1").vector, V.z_ft[1] - V.z_ft.mean(axis=0), rtol=1e-12
    )
    np.testing.assert_allclose(
        head_direction(classifier, V, "c1").vector, weight[1] - weight.mean(axis=0), rtol=1e-6
    )
    np.testing.assert_allclose(
        relocation(V, "c1").vector, V.z_ft[[0, 2, 3]].mean(axis=0) - V.z_ft[1], rtol=1e-12
    )
    np.testing.assert_allclose(
        relocation(V, "c1", without=("c0", "c1")).vector,
        V.z_ft[2:].mean(axis=0) - V.z_ft[1],
        rtol=1e-12,
    )
    drawn = random_direction(V, "c1", seed=0)
    assert drawn.norm == pytest.approx(V["c1"].norm)
    np.testing.assert_array_equal(drawn.vector, random_direction(V, "c1", seed=0).vector)
    for other in (random_direction(V, "c1", seed=1), random_direction(V, "c2", seed=0)):
        assert abs(np.corrcoef(other.vector, drawn.vector)[0, 1]) < 0.99


def test_every_direction_knows_its_target_and_origin():
    vectors = ClassVectors(V.z_pre, V.z_ft, V.count, V.classes, "before", None, "data")
    classifier, features = reader(V), samples(V)
    made = [
        contrast_direction(vectors, "c1"),
        head_direction(classifier, vectors, "c1"),
        random_direction(vectors, "c1", seed=3),
        relocation(vectors, "c1"),
        head_aware(classifier, vectors, "c1", features),
    ]
    for edit in made:
        assert (edit.target, edit.classes, edit.pre, edit.data) == (
            "c1",
            V.classes,
            "before",
            "data",
        )
        assert "c1" in edit.expression
        assert inject(classifier, edit).edits == (edit,)
    total = made[0] + made[1] + made[2] + made[3] + made[4] + vectors["c1"]
    assert len(total.directions) == 6  # all under names of their own


def test_random_directions_point_everywhere():
    units = np.array([random_direction(V, "c0", seed=s).vector for s in range(2000)]) / V["c0"].norm
    assert np.linalg.norm(units.mean(axis=0)) < 4 / np.sqrt(2000)
    np.testing.assert_allclose(units.T @ units / 2000, np.eye(V.dim) / V.dim, atol=0.015)


def test_rows_of_a_head():
    linear, cosine = reader(V), reader(V, "cosine")
    np.testing.assert_array_equal(
        head_rows(linear).bias, linear.head.bias.detach().double().numpy()
    )
    np.testing.assert_allclose(np.linalg.norm(head_rows(cosine).weight, axis=1), 1, rtol=1e-6)
    assert not head_rows(cosine).bias.any()
    with pytest.raises(EditError, match=r"W z \+ b and .*EditedHead is neither"):
        head_rows(inject(linear, V["c0"]))


@given(
    st.integers(0, 300),
    st.sampled_from([0.0, 0.01, 0.05, 0.3]),
    st.sampled_from(["linear", "cosine"]),
    st.floats(0.05, 3),
)
def test_the_head_aware_step_keeps_its_promise(seed, miss, head, size):
    vectors = class_vectors_of(seed=seed)
    vectors = ClassVectors(
        vectors.z_ft - size * vectors.kappa, vectors.z_ft, vectors.count, vectors.classes
    )
    classifier, held = reader(vectors, head), samples(vectors, 300, seed=seed, spread=2.0)
    own = called(classifier, held, "c1")
    assume(len(own) > 0)
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(directions, "MISS", miss)
        edit = head_aware(classifier, vectors, "c1", held)
    nudge = 1 + 1e-6  # at the step itself one sample lies on the boundary
    step = unreserved(edit)
    assert still_called(classifier, own, "c1", step * nudge) <= miss
    assert still_called(classifier, own, "c1", edit.vector) <= miss
    centred = head_rows(classifier).centred
    unit = centred[1] / np.linalg.norm(centred[1])
    along = -(step + vectors.kappa[1]) @ unit  # of the head's row, beside what is read of κ
    assert along > -1e-9 * edit.norm
    if along > 1e-6:  # and no smaller step does
        shorter = step + 1e-3 * along * unit
        assert still_called(classifier, own, "c1", shorter) > miss - 1 / len(own)
        assert (len(own) * still_called(classifier, own, "c1", shorter)) >= int(miss * len(own)) + 1


def test_the_class_vector_alone_is_used_where_it_suffices():
    classifier, held = reader(V), samples(V, 400, spread=0.5)
    long = ClassVectors(V.z_ft - 6 * V.kappa, V.z_ft, V.count, V.classes)
    edit = head_aware(classifier, long, "c1", held)
    weight, _ = head_rows(classifier)
    centred = weight - weight.mean(axis=0)
    projection = np.linalg.pinv(centred) @ centred
    read = projection @ long.kappa[1]
    np.testing.assert_allclose(unreserved(edit), -read, rtol=1e-7, atol=1e-9)
    assert np.linalg.norm(read) < long["c1"].norm


@given(st.integers(0, 300), st.floats(-3, 3), st.sampled_from(["linear", "cosine"]))
def test_what_the_head_reads_of_a_class_vector_decides_alone(seed, strength, head):
    vectors = class_vectors_of(seed=seed)
    classifier, z = reader(vectors, head), samples(vectors, 100, seed=seed, spread=2.0).z
    weight, bias = head_rows(classifier)
    centred = weight - weight.mean(axis=0)
    read = np.linalg.pinv(centred) @ centred @ vectors.kappa[2]
    margins = []
    for step in (vectors.kappa[2], read):
        logits = (z + strength * step) @ weight.T + bias
        margins.append(logits - logits.mean(axis=1, keepdims=True))
    np.testing.assert_allclose(*margins, rtol=1e-6, atol=1e-6 * np.abs(margins[0]).max())


def test_the_promise_holds_on_samples_not_seen():
    classifier = reader(V)
    edit = head_aware(classifier, V, "c1", samples(V, 400, seed=1, spread=2.0))
    fresh = called(classifier, samples(V, 4000, seed=2, spread=2.0), "c1")
    assert still_called(classifier, fresh, "c1", edit.vector) <= 0.01 + 3 * np.sqrt(
        0.01 * 0.99 / len(fresh)
    )


def test_labels_are_not_used():
    classifier, held = reader(V), samples(V, 400, spread=2.0)
    other = Features(held.z, np.roll(held.y, 1), held.classes)
    a, b = (head_aware(classifier, V, "c1", f) for f in (held, other))
    np.testing.assert_array_equal(a.vector, b.vector)


def with_head(weight, bias=None):
    head = nn.Linear(weight.shape[1], len(weight))
    with torch.no_grad():
        head.weight.copy_(torch.tensor(weight))
        head.bias.copy_(torch.zeros(len(weight)) if bias is None else torch.tensor(bias))
    encoder = nn.Sequential(nn.Flatten(), nn.Linear(192, weight.shape[1]))
    return Classifier(encoder, head, classes=names(len(weight)), preprocess=PREPROCESS)


def test_bad_input():
    classifier, held = reader(V), samples(V)
    never = Features(np.repeat(V.z_ft[:1], 5, axis=0), np.zeros(5, int), V.classes)
    with pytest.raises(EditError, match="calls none of the 5 held-out samples 'c1'"):
        head_aware(classifier, V, "c1", never)
    for function in (contrast_direction, relocation, lambda v, c: random_direction(v, c, seed=0)):
        with pytest.raises(MismatchError, match="no class 'cat'; there are c0, c1, c2, c3"):
            function(V, "cat")
    for function in (head_direction, lambda c, v, t: head_aware(c, v, t, held)):
        with pytest.raises(MismatchError, match="no class 'cat'"):
            function(classifier, V, "cat")
    with pytest.raises(MismatchError, match="no class 'dog'"):
        relocation(V, "c1", without=("dog",))
    with pytest.raises(EditError, match="another class to go to"):
        relocation(V, "c1", without=("c0", "c2", "c3"))
    with pytest.raises(MismatchError, match="the class vectors has 3 classes"):
        head_direction(classifier, class_vectors_of(3), "c1")
    with pytest.raises(MismatchError, match="differ"):
        head_aware(classifier, V, "c1", samples(class_vectors_of(3)))


def test_heads_with_odd_rows():
    z = np.random.default_rng(0).normal(size=(50, 10))
    features = Features(z, np.zeros(50, int), V.classes)
    with pytest.raises(EditError, match="row of 'c1' is the mean of all rows"):
        head_aware(with_head(np.ones((4, 10)), np.array([0, 1.0, 0, 0])), V, "c1", features)
    # the row lies between others on one line, below their mean: the way out is towards the largest
    rows = np.zeros((4, 10))
    rows[:, 0] = [-1, 1, 3, 9]
    still = ClassVectors(
        V.z_ft, V.z_ft, V.count, V.classes
    )  # so that the head's row is all there is
    shown = Features(np.zeros((1, 10)), np.zeros(1, int), V.classes)
    edit = head_aware(with_head(rows, np.array([0, 50.0, 0, 0])), still, "c1", shown)
    np.testing.assert_allclose(unreserved(edit), [50 / 8, *np.zeros(9)], atol=1e-9)
