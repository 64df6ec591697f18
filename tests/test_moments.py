"""Streamed = batch = merged in any order, to 1e-12; empty classes and single samples included."""

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from classvec_lab import ClassMoments
from classvec_lab.errors import MismatchError


def reference(z, y, n_classes):
    """Two passes, class by class."""
    count = np.array([(y == c).sum() for c in range(n_classes)])
    mean = np.array(
        [z[y == c].mean(0) if n else np.full(z.shape[1], np.nan) for c, n in enumerate(count)]
    )
    residual = z - mean[y]
    trace = np.array([(residual[y == c] ** 2).sum() for c in range(n_classes)])
    return count, mean, trace, residual.T @ residual


def close(moments, z, y, *, far=0.0):
    count, mean, trace, scatter = reference(np.asarray(z, np.float64), y, moments.n_classes)
    np.testing.assert_array_equal(moments.count, count)
    scale = 1 + far
    np.testing.assert_allclose(moments.mean, mean, rtol=1e-12, atol=1e-12 * scale)
    np.testing.assert_allclose(moments.scatter_trace, trace, rtol=1e-12 * scale, atol=1e-12 * scale)
    if moments.scatter is not None:
        np.testing.assert_allclose(moments.scatter, scatter, rtol=1e-11 * scale, atol=1e-10 * scale)


@settings(max_examples=60)
@given(
    st.integers(1, 60), st.integers(1, 6), st.integers(1, 5), st.integers(0, 10**6), st.booleans()
)
def test_streamed_merged_and_batch_agree(n, n_classes, dim, seed, pooled):
    rng = np.random.default_rng(seed)
    z, y = rng.normal(size=(n, dim)) * rng.uniform(0.1, 10), rng.integers(0, n_classes, n)
    close(ClassMoments.of(z, y, n_classes, pooled_scatter=pooled), z, y)

    cuts = np.sort(rng.integers(0, n + 1, 4))
    shards = [(a, b) for a, b in zip([0, *cuts], [*cuts, n], strict=True)]
    streamed = ClassMoments(n_classes, dim, pooled_scatter=pooled)
    for a, b in shards:
        streamed.update(z[a:b], y[a:b])
    close(streamed, z, y)

    merged = ClassMoments(n_classes, dim, pooled_scatter=pooled)
    for i in rng.permutation(len(shards)):
        a, b = shards[i]
        merged.merge(ClassMoments(n_classes, dim, pooled_scatter=pooled).update(z[a:b], y[a:b]))
    close(merged, z, y)


@pytest.mark.parametrize(("cached", "block"), [(1, 1), (9, 30), (10**6, 10**6)])
def test_parts_of_any_size_agree(cached, block, monkeypatch):
    monkeypatch.setattr("classvec_lab.moments.CACHED", cached)
    monkeypatch.setattr("classvec_lab.moments.BLOCK", block)
    rng = np.random.default_rng(3)
    z, y = rng.normal(size=(50, 3)) + 7, rng.integers(0, 5, 50)
    close(ClassMoments.of(z, y, 6, pooled_scatter=True), z, y)


def test_one_sample_at_a_time():
    rng = np.random.default_rng(0)
    z, y = rng.normal(size=(40, 3)), rng.integers(0, 3, 40)
    moments = ClassMoments(4, 3)
    for row, label in zip(z, y, strict=True):
        moments.update(row[None], np.array([label]))
    close(moments, z, y)
    assert np.isnan(moments.mean[3]).all()
    assert np.isnan(moments.variance[3])


def test_precision_holds_far_from_the_origin():
    rng = np.random.default_rng(1)
    z, y = 1e6 + rng.normal(size=(3000, 4)), rng.integers(0, 3, 3000)
    moments = ClassMoments(3, 4)
    for part in np.array_split(np.arange(3000), 17):
        moments.update(z[part], y[part])
    shifted = ClassMoments.of(z - 1e6, y, 3)
    np.testing.assert_allclose(moments.variance, shifted.variance, rtol=1e-9)
    close(moments, z, y, far=1e6)


def test_float32_is_summed_in_float64():
    z = np.full((100_000, 1), 0.1, dtype=np.float32)
    z[0] = 1e4
    moments = ClassMoments.of(z, np.zeros(100_000, int), 1)
    assert moments.mean[0, 0] == pytest.approx(z.astype(np.float64).mean(), rel=1e-14)


def test_variance_is_the_unbiased_one():
    rng = np.random.default_rng(2)
    z, y = rng.normal(size=(50, 3)), np.arange(50) % 2
    expected = [z[y == c].var(axis=0, ddof=1).sum() for c in range(2)]
    np.testing.assert_allclose(ClassMoments.of(z, y, 2).variance, expected)


def test_bad_input_is_refused_and_changes_nothing():
    moments = ClassMoments(2, 3).update(np.ones((2, 3)), np.array([0, 1]))
    before = moments.mean.copy()
    for z, y in (
        (np.ones((2, 4)), [0, 1]),
        (np.ones((2, 3)), [0]),
        (np.ones((1, 3)), [2]),
        (np.ones((1, 3)), [-1]),
        (np.ones((1, 3)), [0.5]),
    ):
        with pytest.raises(MismatchError):
            moments.update(z, np.array(y))
    with pytest.raises(MismatchError, match="can't merge"):
        moments.merge(ClassMoments(3, 3))
    with pytest.raises(MismatchError, match="scatter"):
        moments.merge(ClassMoments(2, 3, pooled_scatter=True))
    np.testing.assert_array_equal(moments.mean, before)
    with pytest.raises(ValueError, match="n_classes"):
        ClassMoments(0, 3)
