"""Metrics of unlearning, against values worked out by hand, identities and bounds."""

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy.spatial.distance import jensenshannon
from scipy.stats import ortho_group

from classvec_lab.editing.audit.metrics import (
    js_divergence,
    linear_cka,
    routing,
    routing_distance,
    total_variation,
    worst_sibling,
    zrf,
)
from classvec_lab.errors import MismatchError
from classvec_lab.readout import Readout
from classvec_lab.statistics import rates

CLASSES = ("a", "b", "c")


def test_js_by_hand():
    # m = (3/4, 1/4): 1/2 log2(4/3) + 1/2 (1/2 log2(2/3) + 1/2 log2 2)
    expected = 0.5 * np.log2(4 / 3) + 0.25 * np.log2(2 / 3) + 0.25
    assert js_divergence([1, 0], [0.5, 0.5]) == pytest.approx(expected, abs=1e-12)
    rows = js_divergence([[1, 0, 0], [0.2, 0.3, 0.5]], [[0, 0.5, 0.5], [0.2, 0.3, 0.5]])
    np.testing.assert_allclose(rows, [1, 0], atol=1e-12)
    assert total_variation([1, 0], [0.5, 0.5]) == 0.5
    assert total_variation([2, 0], [1, 1]) == 0.5  # counts are normalised


@given(st.integers(2, 6), st.integers(0, 2**31))
@settings(max_examples=50)
def test_js_is_a_bounded_symmetric_divergence(classes, seed):
    rng = np.random.default_rng(seed)
    p, q = rng.dirichlet(np.full(classes, 0.3), size=(2, 4))
    js = js_divergence(p, q)
    np.testing.assert_allclose(js, js_divergence(q, p), atol=1e-12)
    np.testing.assert_allclose(js, jensenshannon(p, q, base=2, axis=1) ** 2, atol=1e-7)
    assert ((js >= 0) & (js <= 1)).all()
    assert (js <= total_variation(p, q) + 1e-12).all()


def test_masked_logits_have_probability_zero():
    logits = np.array([[-np.inf, 0.0, 0.0]])
    p = Readout(np.zeros((1, 2)), logits, np.array([1]), CLASSES).probabilities
    assert js_divergence(p, [[1, 0, 0]]) == pytest.approx(1)


def test_zrf_by_hand_and_unlike_the_reversed_average():
    u, i = (
        np.array([[1, 0], [0.5, 0.5], [0.1, 0.9]]),
        np.array([[0.5, 0.5], [0.5, 0.5], [0.6, 0.4]]),
    )
    m = (u + i) / 2

    def kl(a, b):
        return sum(x * np.log2(x / y) if x else 0 for x, y in zip(a, b, strict=True))

    js = [0.5 * kl(a, c) + 0.5 * kl(b, c) for a, b, c in zip(u, i, m, strict=True)]
    found = zrf(u, i)
    assert found.value == pytest.approx(1 - np.mean(js))
    half = (
        4.302652729911275 * np.std(js, ddof=1) / np.sqrt(3)
    )  # t quantile for 2 degrees of freedom
    assert (found.low, found.high, found.n) == (pytest.approx(found.value - half), 1.0, 3)
    # KL from the mean to each output in nats, averaged over classes as well, is another number
    smooth_u, smooth_i, smooth_m = np.maximum(u, 1e-10), np.maximum(i, 1e-10), np.maximum(m, 1e-10)
    reversed_kl = [(smooth_m * np.log(smooth_m / a)).mean() for a in (smooth_u, smooth_i)]
    assert abs(found.value - (1 - np.mean(reversed_kl))) > 0.05


def test_zrf_of_equal_and_of_opposite_answers():
    eye = np.eye(3)
    assert zrf(eye, eye).value == pytest.approx(1)
    assert zrf(eye, np.roll(eye, 1, axis=1)).value == pytest.approx(0)


def test_routing_counts_where_a_class_goes():
    table = routing([1, 1, 2, 0, 1], [0, 0, 0, 1, 1], "a", CLASSES).set_index("class")
    assert table["hits"].tolist() == [0, 2, 1]
    assert table["share"].tolist() == pytest.approx([0, 2 / 3, 1 / 3])
    assert table["n"].tolist() == [3, 3, 3]
    assert table.loc["b", ["low", "high"]].tolist() == pytest.approx(
        [float(v) for v in rates(2, 3)[1:]]
    )
    with pytest.raises(MismatchError, match="no class 'dog'; there are a, b, c"):
        routing([0], [0], "dog", CLASSES)


def test_routing_distance():
    for distance, chance in routing_distance([10, 30, 0], [20, 60, 0]).values():
        assert (distance.value, distance.low) == (pytest.approx(0, abs=1e-12), 0)
        assert distance.high > 0
        assert chance > 0
    apart = routing_distance([40, 0, 0], [0, 0, 80])
    assert [distance.value for distance, _ in apart.values()] == [1, 1]
    assert apart["JS"][0].n == 40
    some = routing_distance([30, 10, 0], [10, 30, 0], seed=3)
    assert some["TV"][0].value == 0.5
    for distance, chance in some.values():
        assert distance.low < distance.value < distance.high
        assert distance.value > chance
    assert some == routing_distance([30, 10, 0], [10, 30, 0], seed=3)
    assert some != routing_distance([30, 10, 0], [10, 30, 0], seed=4)


def test_resampling_s_bias_is_taken_off_the_interval():
    counts = np.full(10, 4)
    rng = np.random.default_rng(1)
    raw = js_divergence(*rng.multinomial(40, counts / 40, size=(2, 2000)))
    found, _ = routing_distance(counts, counts, n_boot=2000)["JS"]
    assert raw.min() > 0  # as if the two histograms could not be the same
    assert (found.value, found.low) == (0, 0)
    assert found.high == pytest.approx(np.quantile(raw, 0.975) - raw.mean(), abs=0.01)


def test_chance_is_what_equal_routing_reaches_in_95_of_100_cases():
    rng, p, within = np.random.default_rng(0), np.array([0.5, 0.3, 0.2]), 0
    for seed in range(200):
        counts = rng.multinomial(40, p, size=2)
        found, chance = routing_distance(*counts, n_boot=300, seed=seed)["JS"]
        within += found.value <= chance
    assert 0.9 <= within / 200 <= 1


def test_cka_of_rotations_scales_and_shifts_is_one():
    x = np.random.default_rng(0).normal(size=(40, 6))
    assert linear_cka(x, x).value == pytest.approx(1)
    turned = linear_cka(x, 3 * x @ ortho_group.rvs(6, random_state=1) - 5)
    assert (turned.value, turned.n) == (pytest.approx(1), 40)
    assert np.isnan(linear_cka(x, np.ones((40, 2))).value)


def test_cka_by_hand_and_as_the_kernel_form():
    x, y = np.array([[1.0, 0], [-1, 0], [0, 1], [0, -1]]), np.array([[1.0], [-1], [0], [0]])
    assert linear_cka(x, y).value == pytest.approx(
        1 / np.sqrt(2)
    )  # |YᵀX|² = 4, |XᵀX| = 2√2, |YᵀY| = 2
    rng = np.random.default_rng(0)
    x, y = rng.normal(size=(30, 7)), rng.normal(size=(30, 4))
    centre = np.eye(30) - 1 / 30
    k, gram = centre @ x @ x.T @ centre, centre @ y @ y.T @ centre
    assert linear_cka(x, y).value == pytest.approx(
        (k * gram).sum() / np.linalg.norm(k) / np.linalg.norm(gram)
    )


def test_the_worst_sibling():
    y = np.array([0, 0, 1, 1, 1, 1, 2, 2])
    fired = np.array([1, 1, 1, 0, 0, 0, 1, 0], bool)
    worst = worst_sibling(fired, y, "a", CLASSES)
    assert (worst.name, worst.value, worst.n) == ("c", 0.5, 2)
    assert [worst.low, worst.high] == pytest.approx([float(v) for v in rates(1, 2)[1:]])
    assert (
        worst_sibling(np.zeros(8, bool), y, "a", CLASSES).name == "b"
    )  # nothing fires: the class known best
