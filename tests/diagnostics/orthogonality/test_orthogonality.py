"""On synthetic geometry the answers are exact; degenerate input is named."""

import numpy as np
import pandas as pd
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from synthetic import simplex

from classvec_lab import ClassVectors, orthogonality
from classvec_lab.diagnostics.orthogonality import cosine_matrix
from classvec_lab.errors import MismatchError


def vectors(z_pre, z_ft):
    n_classes = len(z_ft)
    return ClassVectors(
        np.broadcast_to(z_pre, z_ft.shape),
        z_ft,
        np.full(n_classes, 5),
        [f"c{i}" for i in range(n_classes)],
    )


def off_diagonal(frame):
    return frame.to_numpy()[~np.eye(len(frame), dtype=bool)]


@settings(max_examples=50)
@given(
    st.integers(2, 12),
    st.floats(0.1, 10),
    st.floats(0.05, 8),
    st.floats(0.05, 8),
    st.floats(-1.5, 1.5),
    st.integers(0, 100),
)
def test_the_three_scalar_form_is_exact(n_classes, radius, s, q, angle, seed):
    """Collapsed z_pre, a simplex ETF, and shift and centre orthogonal to it at any angle."""
    u, free = simplex(n_classes, n_classes + 4, seed, radius)
    mu = q * radius * free[0]
    shift = s * radius * (np.cos(angle) * free[0] + np.sin(angle) * free[1])
    report = orthogonality(vectors(mu - shift, mu + u))
    np.testing.assert_allclose(off_diagonal(report.cosine), report.expected, atol=1e-10)
    np.testing.assert_allclose(
        off_diagonal(report.cosine_centred), -1 / (n_classes - 1), atol=1e-10
    )
    assert report.expected_centred == -1 / (n_classes - 1)
    assert (report.shift_ratio, report.offset_ratio, report.shift_cosine) == pytest.approx(
        (s, q, np.cos(angle)), abs=1e-9
    )


@settings(max_examples=30)
@given(st.integers(2, 9), st.floats(0, 2), st.integers(0, 100))
def test_the_mean_is_forced_and_its_remainder_is_of_the_pre_trained_means(n_classes, p, seed):
    """Of any geometry: what shift, offset and C force is the mean where the lengths are alike."""
    rng = np.random.default_rng(seed)
    z_ft = rng.normal(size=(n_classes, 5)) + 2 * rng.normal(size=5)
    z_pre = p * rng.normal(size=(n_classes, 5)) + rng.normal(size=5)
    report = orthogonality(vectors(z_pre, z_ft))
    kappa = z_ft - z_pre
    mean = off_diagonal(pd.DataFrame(kappa @ z_ft.T)).mean()
    lengths = np.sqrt(np.square(kappa).sum(1).mean() * np.square(z_ft).sum(1).mean())
    assert report.equal_lengths == pytest.approx(mean / lengths, abs=1e-9)
    if p == 0:
        assert report.expected == pytest.approx(report.equal_lengths, abs=1e-9)


@pytest.mark.parametrize("n_classes", [2, 3, 10])
def test_without_shift_and_centre_it_is_the_textbook_value(n_classes):
    u, _ = simplex(n_classes, 16)
    report = orthogonality(vectors(np.zeros(16), u))
    assert report.expected == pytest.approx(-1 / (n_classes - 1), abs=1e-12)
    np.testing.assert_allclose(np.diag(report.cosine), 1, atol=1e-12)
    assert report.shift_ratio == pytest.approx(0, abs=1e-12)


def test_rows_are_kappa_and_columns_are_fine_tuned_means():
    rng = np.random.default_rng(0)
    v = vectors(rng.normal(size=(3, 5)), rng.normal(size=(3, 5)))
    report = orthogonality(v)
    expected = v.kappa[0] @ v.z_ft[2] / np.linalg.norm(v.kappa[0]) / np.linalg.norm(v.z_ft[2])
    assert report.cosine.loc["c0", "c2"] == pytest.approx(expected, rel=1e-12)
    table = report.table().set_index(["kappa", "z_ft"])
    assert table.loc[("c0", "c2"), "cosine"] == pytest.approx(expected, rel=1e-12)
    assert table.loc[("c0", "c2"), ["n_kappa", "n_z_ft"]].tolist() == [5, 5]
    assert pd.isna(table.loc[("c1", "c1"), "expected"])
    assert len(table) == 9


def test_the_summary_repeats_the_matrix():
    rng = np.random.default_rng(1)
    report = orthogonality(vectors(rng.normal(size=(6, 4)), rng.normal(size=(6, 4))))
    raw, centred = report.summary().query("between == 'kappa and z_ft'").to_dict("records")
    assert raw["off_diagonal"] == pytest.approx(off_diagonal(report.cosine).mean())
    assert centred["diagonal"] == pytest.approx(np.diag(report.cosine_centred).mean())
    assert raw["off_diagonal"] == raw["plain"]  # without samples nothing is taken off
    assert raw["entries_sd"] == pytest.approx(off_diagonal(report.cosine).std())
    assert raw["entries_low"] < raw["off_diagonal"] < raw["entries_high"]
    assert (raw["n_entries"], raw["n_samples"], raw["no_interval"]) == (30, 30, 1.0)
    scalars = report.geometry().set_index("scalar")["value"]
    assert scalars["shift_ratio"] == report.shift_ratio
    assert scalars["expected"] == report.expected


def test_identical_models_are_named_and_not_zero():
    rng = np.random.default_rng(2)
    z = rng.normal(size=(3, 4))
    with pytest.warns(UserWarning, match=r"3 of 3 classes have a kappa of zero \(c0, c1, c2\)"):
        report = orthogonality(vectors(z, z))
    assert report.cosine.isna().to_numpy().all()
    assert report.summary().query("between != 'z_ft and z_ft'")["off_diagonal"].isna().all()
    assert report.says() == (
        "Fine-tuning moved no class mean, so there is no class vector and nothing to measure.",
    )
    moved = z.copy()
    moved[1] += 1
    with pytest.warns(UserWarning, match=r"2 of 3 classes have a kappa of zero \(c0, c2\)"):
        report = orthogonality(vectors(z, moved))
    assert report.cosine.loc["c1"].notna().all()
    assert report.cosine.loc["c0"].isna().all()


def test_one_class_cannot_be_compared():
    with pytest.raises(
        MismatchError, match=r"number of classes \(for more, cosine_blocks\) must .* 5000\]; got 1$"
    ):
        orthogonality(vectors(np.zeros(3), np.ones((1, 3))))


def test_cosines_do_not_depend_on_scale():
    rng = np.random.default_rng(3)
    a, b = rng.normal(size=(4, 5)), rng.normal(size=(6, 5))
    np.testing.assert_allclose(cosine_matrix(1e-8 * a, 1e9 * b), cosine_matrix(a, b), rtol=1e-12)
    assert np.abs(cosine_matrix(a, b)).max() <= 1
    assert np.isnan(cosine_matrix(np.zeros((1, 5)), b)).all()
