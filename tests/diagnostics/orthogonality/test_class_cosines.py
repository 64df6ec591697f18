"""Cosines of classes: raw and centred at the ends, blocks that are means, zero vectors left out."""

import numpy as np
import pytest

from classvec_lab import ClassVectors, orthogonality
from classvec_lab.diagnostics.orthogonality import ClassCosines, class_cosines, cosine_blocks
from classvec_lab.errors import MismatchError

RNG = np.random.default_rng(0)


def vectors(n=23, dim=9, zero=()):
    z_pre, z_ft = RNG.normal(size=(2, n, dim)) + 1.5
    z_ft[list(zero)] = z_pre[list(zero)]
    return ClassVectors(z_pre, z_ft, np.full(n, 4), [f"c{i}" for i in range(n)])


@pytest.mark.parametrize("kind", ["cosine", "kappa_cosine", "mean_cosine"])
def test_the_ends_are_raw_and_centred(kind):
    v = vectors()
    report, cosines = orthogonality(v), ClassCosines(v)
    for share, suffix in ((0.0, ""), (1.0, "_centred")):
        frame, expected = cosines.frame(kind, share=share), getattr(report, kind + suffix)
        assert np.abs(frame - expected).max().max() < 1e-12
        assert list(frame.index) == list(expected.index)


def test_between_the_ends_it_is_what_it_says():
    v = vectors()
    a, b = (x - 0.3 * x.mean(axis=0) for x in (v.kappa, v.z_ft))
    found = ClassCosines(v).entries("cosine", np.array([2, 5]), np.array([1, 2, 7]), share=0.3)
    for i, r in enumerate((2, 5)):
        for j, c in enumerate((1, 2, 7)):
            assert found[i, j] == pytest.approx(
                a[r] @ b[c] / np.linalg.norm(a[r]) / np.linalg.norm(b[c])
            )


@pytest.mark.parametrize("share", [0.0, 0.5, 1.0])
@pytest.mark.parametrize("kind", ["cosine", "kappa_cosine", "mean_cosine"])
@pytest.mark.parametrize("zero", [(), (3, 4)])
def test_block_means_are_means_of_entries(kind, share, zero):
    v = vectors(zero=zero)
    cosines, order = ClassCosines(v), np.random.default_rng(1).permutation(23)
    starts = np.array([0, 5, 6, 15])
    means = cosines.block_means(kind, order, starts, share=share)
    frame = cosines.frame(kind, share=share).to_numpy()[np.ix_(order, order)].copy()
    np.fill_diagonal(frame, np.nan)
    ends = [*starts[1:], 23]
    for i, rows in enumerate(zip(starts, ends, strict=True)):
        for j, columns in enumerate(zip(starts, ends, strict=True)):
            part = frame[slice(*rows), slice(*columns)]
            expected = np.nanmean(part) if np.isfinite(part).any() else np.nan
            assert means[i, j] == pytest.approx(expected, nan_ok=True)


def test_cosine_blocks_are_these(monkeypatch):
    v = vectors()
    monkeypatch.setattr(class_cosines, "N_BLOCKS", 4)
    frame = cosine_blocks(v).blocks
    starts = [list(v.classes).index(c) for c in frame.index]
    means = ClassCosines(v).block_means("cosine", np.arange(23), np.array(starts))
    assert np.allclose(frame, means)


def test_an_unknown_kind_is_said():
    with pytest.raises(
        MismatchError, match="no cosines 'angles'; there are cosine, kappa_cosine, mean_cosine"
    ):
        ClassCosines(vectors()).frame("angles")


def test_a_mean_far_away_leaves_the_digits_of_what_is_left():
    """Lengths are of the differences themselves: nothing cancels however far the common mean is."""
    near = vectors()
    far = ClassVectors(near.z_pre + 1e6, near.z_ft + 3e6, near.count, near.classes)
    centred = ClassCosines(near).frame("mean_cosine", share=1.0)
    assert np.abs(ClassCosines(far).frame("mean_cosine", share=1.0) - centred).max().max() < 1e-8


def test_a_class_that_is_the_mean_has_no_direction():
    v = vectors(5)
    z_ft = v.z_ft.copy()
    z_ft[4] = z_ft[:4].mean(axis=0)
    frame = ClassCosines(ClassVectors(v.z_pre, z_ft, v.count, v.classes)).frame(share=1.0)
    assert frame["c4"].isna().all()
    assert frame.drop(columns="c4").notna().all(axis=None)


def test_extremes_hold_no_diagonal_and_no_unknown_pair():
    blocks = cosine_blocks(vectors(4, zero=(1,)))
    assert len(blocks.extremes) == 9  # the three rows of the other classes
    assert (blocks.extremes["kappa"] != blocks.extremes["z_ft"]).all()
    assert "c1" not in set(blocks.extremes["kappa"])


def test_blocks_need_two_classes():
    with pytest.raises(MismatchError, match=r"number of classes must lie in \[2, inf\]; got 1"):
        cosine_blocks(vectors(1))
