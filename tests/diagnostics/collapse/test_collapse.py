"""Neural collapse: exact on exact geometry, invariant, calibrated, and plain about its limits."""

import warnings

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import nn

from classvec_lab import ClassMoments, CosineHead, Features, neural_collapse
from classvec_lab.diagnostics.collapse import geometry as collapse_geometry
from classvec_lab.diagnostics.collapse.report import METRICS
from classvec_lab.errors import MismatchError

quick = settings(max_examples=25)


def simplex(n_classes, dim, rng, radius=1.0):
    """The vertices of a simplex ETF in dim >= n_classes - 1 dimensions, centred at 0."""
    centred = np.eye(n_classes) - 1 / n_classes
    u, s, _ = np.linalg.svd(centred)
    points = u[:, : n_classes - 1] * s[: n_classes - 1]
    basis, _ = np.linalg.qr(rng.normal(size=(dim, dim)))
    return radius * points @ basis[: n_classes - 1] / np.sqrt(1 - 1 / n_classes)


def around(means, n, spread, rng, offset=0.0):
    """n samples a class around the means with total standard deviation `spread`."""
    k, d = means.shape
    z = np.repeat(means, n, axis=0) + spread / np.sqrt(d) * rng.normal(size=(k * n, d)) + offset
    return Features(z, np.repeat(np.arange(k), n), [f"c{i}" for i in range(k)])


def linear(weight, bias=None):
    """An nn.Linear of the given rows, in float64."""
    head = nn.Linear(weight.shape[1], len(weight), bias=bias is not None, dtype=torch.float64)
    head.weight.data = torch.as_tensor(weight, dtype=torch.float64)
    if bias is not None:
        head.bias.data = torch.as_tensor(bias, dtype=torch.float64)
    return head


def values(report):
    return np.array([getattr(report, m) for m in METRICS])


def rows(report):
    """The table by metric."""
    return report.table().set_index("metric")


def intervals(report):
    """The metrics that have an interval, with their ends."""
    return rows(report)[["low", "high"]].dropna()


def nulls(report):
    """The metrics that have a null, with its mean and 95 % point."""
    return rows(report)[["null", "null_high"]].dropna()


@pytest.mark.parametrize(("k", "d"), [(2, 1), (3, 2), (10, 9), (10, 64), (5, 300)])
def test_an_exact_simplex_etf_is_exactly_collapsed(k, d):
    rng = np.random.default_rng(k)
    means = simplex(k, d, rng, radius=3.0)
    report = neural_collapse(around(means, 4, 0.0, rng), linear(0.2 * means))
    zero = ("cdnv", "nc1", "nc2_equinorm", "nc2_equiangular", "nc2_etf", "uniformity_variance")
    for metric in (*zero, "nc3", "nc3_centred", "nc3_etf", "nc3_variance"):
        assert getattr(report, metric) == pytest.approx(0, abs=1e-12), metric
    assert report.nc4 == 1
    assert report.uniformity == pytest.approx(rows(report).ideal["uniformity"], abs=1e-12)
    assert report.uniformity == pytest.approx(-0.5 * np.log(2 * k / (k - 1)), abs=1e-12)


def test_two_classes_on_constructed_samples_give_the_formulas():
    """Samples at mean ± s e_j for every axis j: variance s², and s²/D along any direction."""
    d, s, distance = 6, 0.7, 4.0
    ends = s * np.concatenate([np.eye(d), -np.eye(d)])
    means = np.zeros((2, d))
    means[1, :2] = distance * np.array([0.6, 0.8])
    z = (means[:, None] + ends).reshape(-1, d)
    report = neural_collapse(Features(z, np.repeat([0, 1], 2 * d), ["a", "b"]))
    assert report.cdnv == pytest.approx(s**2 / distance**2, rel=1e-12)
    # Σ_B = (distance/2)² along the line between the means, Σ_W = s²/D there
    assert report.nc1 == pytest.approx((s**2 / d) / (distance**2 / 4) / 2, rel=1e-12)
    np.testing.assert_allclose(report.per_class()["variance"], s**2, rtol=1e-12)


@quick
@given(
    st.integers(2, 12), st.integers(1, 20), st.integers(1, 5), st.booleans(), st.integers(0, 10**6)
)
def test_nc1_agrees_with_the_pseudo_inverse(k, d, n, far, seed):
    rng = np.random.default_rng(seed)
    f = around(rng.normal(size=(k, d)), n + 1, 1.0, rng, offset=3e3 if far else 0.0)
    f = Features(f.z.astype(np.float32), f.y, f.classes)
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        report = neural_collapse(f)
    z = f.z.astype(np.float64) - f.z[0].astype(np.float64)
    means = np.stack([z[f.y == c].mean(axis=0) for c in range(k)])
    within = z - means[f.y]
    m = means - means.mean(axis=0)
    expected = (
        np.trace(
            within.T @ within / len(z) @ np.linalg.pinv(m.T @ m / k, rcond=1e-9, hermitian=True)
        )
        / k
    )
    values = np.linalg.eigvalsh(m.T @ m)
    if (
        values[values > 1e-9 * values[-1]][0] > 1e-6 * values[-1]
    ):  # else the reference itself has lost its digits
        assert report.nc1 == pytest.approx(expected, rel=1e-8)


@pytest.mark.parametrize(("k", "d"), [(7, 30), (12, 5)])
@pytest.mark.filterwarnings("ignore:.*simplex ETF")
def test_values_do_not_depend_on_rotation_translation_and_scale(k, d):
    rng = np.random.default_rng(0)
    f = around(rng.normal(size=(k, d)), 8, 1.5, rng)
    weight, bias = rng.normal(size=(k, d)), rng.normal(size=k)
    turn, _ = np.linalg.qr(rng.normal(size=(d, d)))
    shift = rng.normal(size=d)
    moved = Features(2.5 * f.z @ turn + shift, f.y, f.classes)
    head = linear(weight @ turn, bias * 2.5 - weight @ turn @ shift)
    np.testing.assert_allclose(
        values(neural_collapse(f, linear(weight, bias))),
        values(neural_collapse(moved, head)),
        rtol=1e-9,
    )


@pytest.mark.parametrize(("k", "d"), [(7, 30), (12, 5), (12, 7), (12, 12)])
@pytest.mark.filterwarnings("ignore:.*simplex ETF")
def test_moments_and_samples_and_chunks_agree(k, d, monkeypatch):
    rng = np.random.default_rng(1)
    f = around(rng.normal(size=(k, d)), 9, 1.0, rng, offset=50.0)
    f = Features(f.z, rng.permutation(f.y), f.classes)
    head = linear(rng.normal(size=(k, d)), rng.normal(size=k))
    whole = neural_collapse(f, head)
    from_moments = neural_collapse(f.moments(pooled_scatter=True), head)
    np.testing.assert_allclose(values(from_moments)[:-1], values(whole)[:-1], rtol=1e-9)
    assert rows(from_moments).note["nc4"] == "moments hold no samples"
    assert rows(neural_collapse(f.moments())).note["nc1"] == "no pooled scatter"
    monkeypatch.setattr(collapse_geometry, "CHUNK", 4 * d)
    chunked = neural_collapse(f, head)
    np.testing.assert_allclose(values(chunked), values(whole), rtol=1e-10)
    left, right = chunked.per_class(), whole.per_class()
    assert left["rival"].tolist() == right["rival"].tolist()
    np.testing.assert_allclose(
        left.drop(columns=["class", "rival"]), right.drop(columns=["class", "rival"]), rtol=1e-9
    )


def test_pairs_and_classes_repeat_the_plain_definition():
    rng = np.random.default_rng(2)
    k, d = 6, 10
    f = around(rng.normal(size=(k, d)), 7, 1.0, rng)
    weight = rng.normal(size=(k, d)) + 1
    report = neural_collapse(f, linear(weight))
    mean = np.stack([f.z[f.y == c].mean(axis=0) for c in range(k)])
    variance = np.array([np.square(f.z[f.y == c] - mean[c]).sum(axis=1).mean() for c in range(k)])
    m = mean - mean.mean(axis=0)
    norm = np.linalg.norm(m, axis=1)
    ratio = (variance[:, None] + variance) / (
        2 * np.square(mean[:, None] - mean).sum(axis=-1) + 1e300 * np.eye(k)
    )
    log = -0.5 * np.log(
        np.square((m / norm[:, None])[:, None] - m / norm[:, None]).sum(-1)[np.triu_indices(k, 1)]
    )
    frame = report.per_class()
    assert report.cdnv == pytest.approx(ratio.sum() / k / (k - 1), rel=1e-10)
    np.testing.assert_allclose(frame["cdnv"], ratio.sum(axis=1) / (k - 1), rtol=1e-10)
    np.testing.assert_allclose(frame["rival_cdnv"], ratio.max(axis=1), rtol=1e-10)
    assert frame["rival"].tolist() == [f"c{i}" for i in ratio.argmax(axis=1)]
    assert (report.uniformity, report.uniformity_variance) == pytest.approx(
        (log.mean(), log.var()), rel=1e-10
    )
    np.testing.assert_allclose(frame["norm_ratio"], norm / norm.mean(), rtol=1e-12)
    etf = (np.eye(k) - 1 / k) / np.sqrt(k - 1)
    gram, product = m @ m.T, weight @ m.T
    assert report.nc2_etf == pytest.approx(
        np.linalg.norm(gram / np.linalg.norm(gram) - etf), rel=1e-10
    )
    assert report.nc3_etf == pytest.approx(
        np.linalg.norm(product / np.linalg.norm(product) - etf), rel=1e-10
    )
    assert report.nc3 == pytest.approx(
        np.linalg.norm(weight / np.linalg.norm(weight) - m / np.linalg.norm(m)), rel=1e-12
    )
    cosine = (weight * m).sum(axis=1) / np.linalg.norm(weight, axis=1) / norm
    np.testing.assert_allclose(frame["self_duality"], cosine, rtol=1e-10)
    assert report.nc3_variance == pytest.approx(cosine.var(), rel=1e-10)


def test_more_classes_than_dimensions_allow():
    rng = np.random.default_rng(3)
    k, d = 9, 4
    f = around(rng.normal(size=(k, d)), 12, 0.2, rng)
    with pytest.warns(
        UserWarning, match="9 class means can't form a simplex ETF in 4 dimensions"
    ) as caught:
        report = neural_collapse(f, n_boot=50)
    assert len(caught) == 1
    assert any("read CDNV, and uniformity" in s for s in report.says())
    assert rows(report).ideal["nc2_etf"] == pytest.approx(np.sqrt(2 - 2 * np.sqrt(d / (k - 1))))
    assert report.nc2_etf >= rows(report).ideal["nc2_etf"]
    assert nulls(report).empty
    assert np.isnan(rows(report).ideal["nc2_equiangular"])
    with pytest.warns(UserWarning, match="simplex ETF"):
        aligned = neural_collapse(
            f, linear(np.stack([f.z[f.y == c].mean(0) for c in range(k)]) - f.z.mean(0))
        )
    assert aligned.nc3 == pytest.approx(0, abs=1e-12)
    assert aligned.nc3_etf == pytest.approx(aligned.nc2_etf, rel=1e-10)


@pytest.mark.parametrize(("k", "d"), [(40, 6), (12, 7), (5, 20)])
def test_the_factors_are_those_of_the_centred_means(k, d):
    mean = np.random.default_rng(k).normal(size=(k, d)) + 5
    means = collapse_geometry.Means.of(mean)
    r = min(k - 1, d)
    np.testing.assert_allclose((means.u * means.s) @ means.vt, mean - mean.mean(axis=0), atol=1e-12)
    for factor in (means.u.T, means.vt):
        np.testing.assert_allclose(factor @ factor.T, np.eye(r), atol=1e-12)


def test_the_heads_bias_counts():
    rng = np.random.default_rng(4)
    f = around(simplex(4, 8, rng), 20, 0.1, rng)
    means = np.stack([f.z[f.y == c].mean(axis=0) for c in range(4)])
    assert neural_collapse(f, linear(means, -0.5 * np.square(means).sum(axis=1))).nc4 == 1
    biased = neural_collapse(f, linear(means, np.array([100.0, 0, 0, 0])))
    assert biased.nc4 == 0.25
    assert biased.per_class()["nc4"].tolist() == [1, 0, 0, 0]
    assert intervals(biased).low["nc4"] < 0.25 < intervals(biased).high["nc4"]


@pytest.mark.parametrize("dtype", [np.float32, np.float64])
@pytest.mark.parametrize("apart", [1.0, 1e-3, 1e-7, 1e-11])
def test_float32_decides_as_float64_does(apart, dtype):
    rng = np.random.default_rng(6)
    z = (rng.normal(size=(400, 64)) * np.logspace(-12, 12, 400)[:, None]).astype(dtype)
    rival = rng.normal(size=(1, 64))  # all rows of w are this close to one another
    w, b = rival + apart * rng.normal(size=(9, 64)), apart * rng.normal(size=9)
    origin = rng.normal(size=64) * 10
    for o in (0.0, origin):
        expected = ((z - o).astype(np.float64) @ w.T + b).argmax(1)
        np.testing.assert_array_equal(collapse_geometry.decided(z, w, b, o), expected)


def test_float64_settles_ties_and_what_float32_can_not_hold():
    w, b = np.full((3, 2), 2.0**100), np.array([0.0, 1.0, 0.5])
    z = np.array([[2.0**100, -(2.0**100)], [2.0**100, 2.0**100], [0.0, 0.0]])
    np.testing.assert_array_equal(collapse_geometry.decided(z, w, b), [1, 0, 1])
    assert collapse_geometry.decided(z[:0], w, b).shape == (0,)


def test_a_cosine_head_sees_normalised_features():
    """Two directions at very different lengths: Euclidean distance misleads, angles don't."""
    rng = np.random.default_rng(5)
    directions = np.array([[1.0, 0.0], [0.0, 1.0]])
    length = np.tile([0.1, 10.0], 20)
    z = np.repeat(directions, 20, axis=0) * length[:, None] + 0.001 * rng.normal(size=(40, 2))
    z[:20] *= 10  # class means at 50 and 5: short samples of the first lie nearer to the second
    f = Features(z, np.repeat([0, 1], 20), ["a", "b"])
    head = CosineHead(torch.as_tensor(directions, dtype=torch.float32), 10.0)
    assert neural_collapse(f, head).nc4 == 1
    assert neural_collapse(f, linear(directions)).nc4 < 1


def test_another_kind_of_head_leaves_its_measures_out():
    rng = np.random.default_rng(7)
    f = around(simplex(3, 5, rng), 10, 0.2, rng, offset=2.0)
    report = neural_collapse(f, nn.Sequential(nn.Linear(5, 3), nn.Tanh()))
    assert np.isnan([report.nc3, report.nc4]).all()
    note = rows(report).note
    assert note["nc3"] == note["nc4"] == "a Sequential has no row for each class"
    np.testing.assert_array_equal(values(report)[:7], values(neural_collapse(f))[:7])


def test_what_can_not_be_measured_is_named():
    rng = np.random.default_rng(8)
    f = around(simplex(3, 5, rng), 10, 0.5, rng)
    with pytest.raises(MismatchError, match=r"number of classes must lie in \[2, inf\]; got 1"):
        neural_collapse(Features(f.z, np.zeros(30, int), ["only"]))
    with pytest.raises(MismatchError, match="1 of 4 classes have no samples: ghost"):
        neural_collapse(Features(f.z, f.y, ["a", "b", "c", "ghost"]))
    with pytest.raises(
        MismatchError,
        match="maps 4 dimensions to 3 classes; the features have 5 dimensions and 3 classes",
    ):
        neural_collapse(f, nn.Linear(4, 3))
    report = neural_collapse(f)
    assert rows(report).note["nc3"] == rows(report).note["nc4"] == "no head was given"
    zero = neural_collapse(f, linear(np.zeros((3, 5))))
    assert np.isnan(zero.nc3)
    assert rows(zero).note["nc3"] == "the head or one of its rows is zero"


def test_equal_means_have_no_geometry():
    z = np.concatenate([np.eye(3), -np.eye(3)])
    f = Features(np.concatenate([z, z]) + 7, np.repeat([0, 1], 6), ["a", "b"])
    with pytest.warns(UserWarning, match="the means of all 2 classes are equal"):
        report = neural_collapse(f, nn.Linear(3, 2), n_boot=20)
    assert np.isnan(values(report)).all()
    assert len(report.says()) >= 2


def test_two_coinciding_means_and_one_at_the_centre():
    means = np.array([[1.0, 0], [1, 0], [-2, 0], [0, 3], [0, -3]])
    ends = np.array([[0.1, 0], [-0.1, 0], [0, 0.1], [0, -0.1]])
    f = Features((means[:, None] + ends).reshape(-1, 2), np.repeat(np.arange(5), 4), list("abcde"))
    with pytest.warns(UserWarning, match="simplex ETF"):
        report = neural_collapse(f)
    assert np.isinf(report.cdnv)
    assert rows(report).note["cdnv"] == "the means of a and b coincide"
    assert "coincide" in report.says()[0]
    three = Features(np.array([[-1.0, 0], [0, 0], [1, 0]]), np.arange(3), list("abc"))
    report = neural_collapse(three)
    assert np.isnan(report.nc2_equiangular)
    assert "mean of b lies at the centre" in rows(report).note["uniformity"]
    assert report.nc2_equinorm > 0


def test_one_sample_a_class_has_no_interval():
    rng = np.random.default_rng(9)
    f = around(simplex(3, 6, rng), 12, 0.3, rng)
    alone = Features(f.z[11:], f.y[11:], f.classes)
    report = neural_collapse(alone, linear(rng.normal(size=(3, 6))), n_boot=50)
    assert list(intervals(report).index) == ["nc4"]
    assert rows(report).note["cdnv"] == rows(report).note["nc2_etf"] == "class c0 has 1 sample"
    few = neural_collapse(Features(f.z[5:], f.y[5:], f.classes), n_boot=50)
    assert rows(few).note["cdnv"] == "class c0 has 7 samples, and intervals need 10"
    assert list(nulls(few).index) == ["nc2_equinorm", "nc2_equiangular", "nc2_etf"]


def test_collapsed_and_uncollapsed_geometries_get_opposite_words():
    rng = np.random.default_rng(10)
    means = simplex(5, 16, rng)
    tight = neural_collapse(around(means, 40, 0.1, rng), linear(means), n_boot=100).says()
    loose_means = rng.normal(size=(5, 16)) * np.array([[0.2, 0.5, 1, 2, 3]]).T
    loose = neural_collapse(
        around(loose_means, 40, 14.0, rng), linear(rng.normal(size=(5, 16))), n_boot=100
    ).says()
    for said, words in (
        (
            tight,
            (
                "are tight and well separated",
                "as close to a simplex ETF",
                "are aligned",
                "The head decides as",
            ),
        ),
        (
            loose,
            (
                "not well separated",
                "are not a simplex ETF",
                "not aligned",
                "often decides otherwise",
            ),
        ),
    ):
        assert 4 <= len(said) <= 7
        for word in words:
            assert sum(word in sentence for sentence in said) == 1, (word, said)


def test_intervals_and_nulls_repeat_and_do_not_depend_on_chunks(monkeypatch):
    from classvec_lab.diagnostics.collapse import resampling as collapse_null

    rng = np.random.default_rng(11)
    f = around(simplex(4, 12, rng), 20, 0.5, rng)
    head = linear(rng.normal(size=(4, 12)))
    one = neural_collapse(f, head, n_boot=60, seed=3)
    assert set(intervals(one).index) == {"nc1", "cdnv", "nc3", "nc3_centred", "nc3_etf", "nc4"}
    monkeypatch.setattr(collapse_null, "NUMBERS", 2000)
    two = neural_collapse(f, head, n_boot=60, seed=3)
    np.testing.assert_allclose(intervals(one), intervals(two), rtol=1e-9)
    np.testing.assert_allclose(nulls(one), nulls(two), rtol=1e-9)
    other = intervals(neural_collapse(f, head, n_boot=60, seed=4))
    assert (other.loc["cdnv"] != intervals(one).loc["cdnv"]).all()


def test_a_value_lies_within_its_interval_also_where_that_of_the_means_as_they_are_does_not():
    """Noise of 12 samples a class makes 20 means look further apart than they are."""
    rng = np.random.default_rng(0)
    f = around(simplex(20, 30, rng), 12, 0.18, rng)
    report = neural_collapse(f, linear(rng.normal(size=(20, 30))), n_boot=60)
    table = rows(report)
    known = table.loc[intervals(report).index]
    assert {"cdnv", "nc3", "nc4"} <= set(known.index)
    assert (known["low"] <= known["value"]).all()
    assert (known["value"] <= known["high"]).all()
    assert known.loc["cdnv"].plain != pytest.approx(known.loc["cdnv"].value, rel=0.01)
    assert not (known["plain"].between(known["low"], known["high"])).all()
    assert table["plain"].to_dict() == {m: getattr(report, m) for m in table.index}
    without = table.drop(index=known.index)
    np.testing.assert_array_equal(without["value"], without["plain"])


def flagged(distort, n, repeats):
    """How often each NC2 error of noisy samples around a distorted simplex ETF exceeds its null."""
    count = np.zeros(3)
    for i in range(repeats):
        rng = np.random.default_rng([i, n])
        means = distort(simplex(6, 24, rng), rng)
        report = neural_collapse(around(means, n, 1.0, rng), n_boot=200, seed=i)
        table = rows(report).loc[["nc2_equinorm", "nc2_equiangular", "nc2_etf"]]
        count += (table["value"] > table["null_high"]).to_numpy()
    return count / repeats


def test_the_null_flags_a_distorted_etf_and_rarely_an_exact_one():
    assert (flagged(lambda m, rng: m, 20, 400) <= 0.09).all()  # 0.05 and about four standard errors
    stretched = flagged(lambda m, rng: m * np.linspace(0.6, 1.4, 6)[:, None], 20, 20)
    assert stretched[0] >= 0.9
    assert stretched[2] >= 0.9


def population(means, spectrum, weight):
    """The population's values: from means (K, D), variances along the axes, and head rows."""
    parts = collapse_geometry.Means.of(means)
    pairs, _ = collapse_geometry.pairs(parts.m, np.full(len(means), spectrum.sum()))
    nc1 = (np.square(parts.vt) @ spectrum / parts.s**2).sum()
    return {"nc1": nc1, **pairs, **collapse_geometry.duality(weight, parts)[0]}


@pytest.mark.slow
@pytest.mark.parametrize("geometry", ["gaussian", "etf"])
@pytest.mark.parametrize("shape", ["isotropic", "decaying", "one direction"])
@pytest.mark.parametrize("n", [5, 20, 130])
def test_coverage_of_the_intervals(geometry, shape, n, coverage):
    """95 % intervals, where given, hold the population's value in 92 to 98 % of simulations."""
    k, d, repeats = 8, 64, 300
    spectrum = {
        "isotropic": np.ones(d),
        "decaying": 1 / np.arange(1, d + 1),
        "one direction": np.r_[100, np.ones(d - 1)],
    }[shape]
    for spread in (0.5, 1.0, 3.0):
        hits, given_ = {}, 0
        for i in range(repeats):
            rng = np.random.default_rng([i, n])
            means = simplex(k, d, rng) if geometry == "etf" else rng.normal(size=(k, d))
            means -= means.mean(axis=0)
            means /= np.sqrt(np.square(means).sum(axis=1).mean())
            variances = spectrum / spectrum.sum() * spread**2
            weight = means + 0.06 * rng.normal(size=(k, d))
            z = np.repeat(means, n, axis=0) + np.sqrt(variances) * rng.normal(size=(k * n, d))
            f = Features(z, np.repeat(np.arange(k), n), [f"c{c}" for c in range(k)])
            report = neural_collapse(f, linear(weight), n_boot=200, seed=i)
            truth = population(means, variances, weight)
            given = intervals(report).drop(index="nc4")
            for metric, low, high in given.itertuples():
                hits.setdefault(metric, []).append(low <= truth[metric] <= high)
            given_ += "cdnv" in given.index
        for metric in ("nc1", "cdnv", "nc3", "nc3_centred", "nc3_etf"):
            hit = hits.get(metric, [])
            rate = np.mean(hit) if hit else np.nan
            world = {"n": n, "spread": spread, "geometry": geometry, "noise": shape}
            found = {"metric": metric, "covered": rate, "with_interval": len(hit) / repeats}
            coverage("collapse", **world, **found)
        assert hits.keys() <= {"nc1", "cdnv", "nc3", "nc3_centred", "nc3_etf"}
        assert n > 5 or given_ == 0
        for metric, hit in hits.items():
            if len(hit) == repeats:
                assert np.mean(hit) >= 0.92 - 0.025, (
                    metric,
                    spread,
                    np.mean(hit),
                )  # two standard errors of 300 simulations
                if not metric.startswith(
                    "nc3"
                ):  # at a perfectly aligned head an inner product has nowhere to go
                    assert np.mean(hit) <= 0.995, (metric, spread, np.mean(hit))


def test_moments_without_samples_give_no_intervals():
    rng = np.random.default_rng(12)
    f = around(simplex(3, 6, rng), 20, 0.3, rng)
    moments = ClassMoments.of(f.z, f.y, 3, pooled_scatter=True)
    report = neural_collapse(moments, n_boot=50)
    assert intervals(report).empty
    assert nulls(report).empty
    assert report.per_class()["class"].tolist() == ["0", "1", "2"]
    assert "hold no samples" in report.table().set_index("metric").loc["cdnv", "note"]
