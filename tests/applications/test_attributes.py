"""Attribute vectors are differences of means, paired or not, and shrink by what they leave out."""

from dataclasses import replace

import numpy as np
import pytest
from attribute_worlds import VALUES, world
from hypothesis import given, settings
from hypothesis import strategies as st

from classvec_lab import Features
from classvec_lab.applications import attribute_vectors
from classvec_lab.errors import MismatchError


def test_they_are_the_differences_of_the_class_means():
    w = world()
    for a, value in enumerate(VALUES):
        for c in range(4):
            own = w.few.y == c
            plain = w.having[value].z[own].mean(axis=0) - w.few.z[own].mean(axis=0)
            np.testing.assert_allclose(w.vectors.shift[a, c], plain, rtol=0, atol=1e-12)
    np.testing.assert_allclose(w.vectors.means, w.plain.moments().mean, atol=1e-12)
    assert w.vectors.count.tolist() == [[6] * 4] * 2
    np.testing.assert_allclose(w.vectors.shift, w.shift, atol=0.2)


def test_pairs_in_another_order_give_the_same_vectors_but_not_the_same_error():
    w = world(spread=2.0)
    order = np.random.default_rng(0).permutation(len(w.few))
    turned = {v: replace(f, z=f.z[order], y=f.y[order], data=None) for v, f in w.having.items()}
    unpaired = attribute_vectors(w.few, turned, plain=w.plain)
    np.testing.assert_allclose(unpaired.shift, w.vectors.shift, atol=1e-9)
    # without pairs what the images differ in counts as error, so more is shrunk
    assert unpaired.amount > w.vectors.amount + 0.1


@given(st.integers(0, 20), st.floats(0, 4), st.floats(0.05, 3), st.integers(2, 7))
@settings(max_examples=25)
def test_the_amount_is_what_leaving_one_out_by_hand_finds(seed, own, spread, n):
    w = world(seed=seed, own=own, spread=spread, n=n, held=10)
    amounts, errors = np.linspace(0, 1, 201), 0
    for value in VALUES:
        steps, y = w.having[value].z - w.few.z, w.few.y
        for i in range(len(y)):
            kept = np.arange(len(y)) != i
            means = np.stack([steps[kept & (y == c)].mean(axis=0) for c in range(4)])
            pull = means.mean(axis=0) - means[y[i]]
            left = steps[i] - means[y[i]]
            errors = errors + np.square(left - amounts[:, None] * pull).sum(axis=1)
    assert abs(w.vectors.amount - amounts[errors.argmin()]) <= 0.0051


def test_one_sample_a_class_shrinks_to_the_common_shift_and_none_takes_it():
    w = world(n=1)
    assert w.vectors.amount == 1.0
    only = {v: replace(f, z=f.z[f.y > 0], y=f.y[f.y > 0]) for v, f in w.having.items()}
    vectors = attribute_vectors(w.few, only, plain=w.plain)
    assert vectors.count[:, 0].tolist() == [0, 0]
    np.testing.assert_allclose(vectors.shift[:, 0], vectors.shift[:, 1:].mean(axis=1))
    pooled = vectors.pooled()
    np.testing.assert_allclose(pooled.shift, np.repeat(pooled.common[:, None], 4, axis=1))
    np.testing.assert_allclose(pooled.common, vectors.common)


def test_what_the_pretrained_encoder_shows_too_is_taken_off():
    w, other = world(), world(seed=5)
    pre = other.few, other.having
    both = attribute_vectors(w.few, w.having, plain=w.plain, pre=pre)
    np.testing.assert_allclose(both.shift, w.vectors.shift - other.vectors.shift, atol=1e-12)
    same = attribute_vectors(w.few, w.having, plain=w.plain, pre=(w.few, w.having))
    assert np.abs(same.shift).max() < 1e-12


def test_edits_carry_the_shift_and_the_model():
    w = world(model="m")
    edit = w.vectors.edit("fog", "c2")
    np.testing.assert_array_equal(edit.vector, w.vectors.shift[1, 2])
    assert (edit.target, edit.ft, edit.expression) == ("c2", "m", "(κ[fog+c2] - κ[c2])")


def test_moving_by_the_class_known_is_exact_and_leaves_what_has_none():
    w = world()
    z, y, values = w.few.z, w.few.y, np.arange(len(w.few)) % 3 - 1
    moved = w.vectors.moved(z, y, values, strength=-2.0)
    assert (moved[values < 0] == z[values < 0]).all()
    own = values == 1
    np.testing.assert_allclose(moved[own], z[own] - 2 * w.vectors.shift[1, y[own]])


def test_the_basis_is_orthonormal_and_holds_the_common_shifts():
    w = world()
    basis = w.vectors.basis
    np.testing.assert_allclose(basis @ basis.T, np.eye(2), atol=1e-12)
    np.testing.assert_allclose(w.vectors.common @ basis.T @ basis, w.vectors.common, atol=1e-9)


def test_what_does_not_fit_is_named():
    w = world()
    wide = Features(np.zeros((8, 3)), np.arange(8) % 4, w.classes)
    less = replace(w.few, z=w.few.z[w.few.y > 0], y=w.few.y[w.few.y > 0])
    others = replace(w.few, classes=("a", "b", "c", "d"))
    for given_, said in (
        (lambda: attribute_vectors(w.few, {}), "at least one value"),
        (lambda: attribute_vectors(w.few, {"snow": wide}), "'snow'.*shape"),
        (lambda: attribute_vectors(less, w.having), "without has no sample of class 'c0'"),
        (lambda: attribute_vectors(w.few, w.having, plain=less), "plain has no sample of class"),
        (lambda: attribute_vectors(w.few, {"snow": others}), "'snow'.*lacks"),
        (lambda: w.vectors.edit("hail", "c0"), "no value 'hail'; there are snow, fog"),
        (lambda: w.vectors.edit("fog", "c9"), "no class 'c9'"),
        (lambda: w.vectors.pooled(1.5), r"amount must lie in \[0, 1\]"),
    ):
        with pytest.raises(MismatchError, match=said):
            given_()
