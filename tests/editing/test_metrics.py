"""Metrics of unlearning, against values worked out by hand, identities and bounds."""

from dataclasses import replace

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy.spatial.distance import jensenshannon
from scipy.stats import ortho_group

from classvec_lab.editing.audit.metrics import (
    collateral,
    confidence_scores,
    js_divergence,
    linear_cka,
    membership_inference,
    probe_recovery,
    routing,
    routing_distance,
    total_variation,
    worst_sibling,
    zrf,
)
from classvec_lab.errors import MismatchError
from classvec_lab.readout import Readout
from classvec_lab.statistics import Estimate, paired_change, share, wilson

CLASSES = ("a", "b", "c")


def blobs(
    n: int, *, seed: int = 0, dim: int = 5, noise: float = 0.3, collapse: str = ""
) -> Readout:
    """Clouds around three corners; with `collapse` "a", class a lies where class b does."""
    rng = np.random.default_rng(seed)
    y = np.arange(n) % 3
    where = np.where(y == 0, 1, y) if collapse else y
    z = 3 * np.eye(3, dim)[where] + noise * rng.normal(size=(n, dim))
    return Readout(z, z[:, :3], y, CLASSES)


def test_js_by_hand():
    # m = (3/4, 1/4): 1/2 log2(4/3) + 1/2 (1/2 log2(2/3) + 1/2 log2 2)
    expected = 0.5 * np.log2(4 / 3) + 0.25 * np.log2(2 / 3) + 0.25
    assert js_divergence([1, 0], [0.5, 0.5]) == pytest.approx(expected, abs=1e-12)
    rows = js_divergence([[1, 0, 0], [0.2, 0.3, 0.5]], [[0, 0.5, 0.5], [0.2, 0.3, 0.5]])
    np.testing.assert_allclose(rows, [1, 0], atol=1e-12)
    assert total_variation([1, 0], [0.5, 0.5]) == 0.5
    assert total_variation([2, 0], [1, 1]) == 0.5  # counts are normalised


@given(st.integers(2, 6), st.integers(0, 2**31))
@settings(max_examples=50, deadline=None)
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
    np.testing.assert_allclose(
        confidence_scores(p), [[0, 1]], atol=1e-12
    )  # two even choices: odds 1, one bit


@pytest.mark.parametrize(
    ("p", "q"), [([1, 0], [1, 0, 0]), ([-1, 2], [1, 0]), ([0, 0], [1, 0]), ([np.nan, 1], [1, 0])]
)
def test_distributions_that_are_none(p, q):
    with pytest.raises(MismatchError, match="non-negative, of one shape"):
        js_divergence(p, q)


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


def test_a_membership_attack_with_power():
    rng = np.random.default_rng(0)
    retain, test = rng.normal(6, 1, (200, 2)), rng.normal(0, 1, (150, 2))
    seen = membership_inference(retain, test, rng.normal(6, 1, (40, 2)), seed=1)
    unseen = membership_inference(retain, test, rng.normal(0, 1, (40, 2)), seed=1)
    assert seen.has_power
    assert seen.auc.value > 0.99
    assert seen.balanced_accuracy.value > 0.99
    assert seen.balanced_accuracy.low < seen.balanced_accuracy.value <= seen.balanced_accuracy.high
    assert (seen.members.value, unseen.members.value, seen.members.n) == (1, 0, 40)
    assert seen.false_alarms.value < 0.02
    assert "no power" not in seen.says()
    assert seen == membership_inference(retain, test, np.full((40, 2), 6.0), seed=1)


def test_a_membership_attack_without_power_says_so():
    rng = np.random.default_rng(0)
    found = membership_inference(rng.normal(size=300), rng.normal(size=300), rng.normal(size=50))
    assert not found.has_power
    assert found.auc.low < 0.5
    assert abs(found.balanced_accuracy.value - 0.5) < 0.1
    assert "no power" in found.says()
    perhaps = replace(found, auc=Estimate(0.55, 0.49, 0.61, 600))
    assert not perhaps.has_power
    assert replace(found, auc=Estimate(0.55, 0.51, 0.59, 600)).has_power


def test_the_balance_of_members_does_not_decide():
    rng = np.random.default_rng(3)
    many, few = rng.normal(0.5, 1, 4000), rng.normal(0, 1, 40)
    called = membership_inference(many, few, rng.normal(0.25, 1, 2000)).members
    assert 0.3 < called.value < 0.7


def test_delong_s_interval_covers_the_true_area():
    rng, hits = np.random.default_rng(0), 0
    from classvec_lab.editing.audit.metrics import _auc

    for _ in range(200):
        found = _auc(rng.normal(1, 1, 60), rng.normal(0, 1, 80))
        hits += found.low <= 0.7602499 <= found.high  # Phi(1 / sqrt 2)
    assert 0.9 <= hits / 200 <= 0.99
    assert _auc(np.array([2.0, 1, 1]), np.array([1.0, 0])).value == pytest.approx(
        (1 + 1 + 0.5 + 1 + 0.5 + 1) / 6
    )


@pytest.mark.parametrize(
    ("parts", "message"),
    [
        ((np.zeros((20, 2)), np.zeros((20, 1)), np.zeros((5, 2))), "one width"),
        ((np.zeros(20), np.zeros(9), np.zeros(5)), "at least 10"),
        ((np.zeros(20), np.zeros(20), np.zeros(0)), "a forget sample"),
        ((np.full(20, np.nan), np.zeros(20), np.zeros(5)), "finite"),
    ],
)
def test_scores_that_no_attack_can_use(parts, message):
    with pytest.raises(MismatchError, match=message):
        membership_inference(*parts)


def test_routing_counts_where_a_class_goes():
    table = routing([1, 1, 2, 0, 1], [0, 0, 0, 1, 1], "a", CLASSES).set_index("class")
    assert table["count"].tolist() == [0, 2, 1]
    assert table["share"].tolist() == pytest.approx([0, 2 / 3, 1 / 3])
    assert table["n"].tolist() == [3, 3, 3]
    assert table.loc["b", ["low", "high"]].tolist() == pytest.approx(
        [float(v) for v in wilson(2, 3)]
    )
    with pytest.raises(MismatchError, match="no class 'dog'; there are a, b, c"):
        routing([0], [0], "dog", CLASSES)


def test_routing_distance():
    same = routing_distance([10, 30, 0], [20, 60, 0])
    assert same["value"].tolist() == pytest.approx([0, 0], abs=1e-12)
    assert (same["low"] == 0).all()
    assert (same["high"] > 0).all()
    apart = routing_distance([40, 0, 0], [0, 0, 80])
    assert apart["value"].tolist() == [1, 1]
    assert apart.loc["js", ["n", "n_reference"]].tolist() == [40, 80]
    some = routing_distance([30, 10, 0], [10, 30, 0], seed=3)
    assert some.loc["tv", "value"] == 0.5
    assert (
        (some["low"] < some["value"])
        & (some["value"] < some["high"])
        & (some["value"] > some["chance"])
    ).all()
    assert some.equals(routing_distance([30, 10, 0], [10, 30, 0], seed=3))
    assert not some.equals(routing_distance([30, 10, 0], [10, 30, 0], seed=4))
    with pytest.raises(MismatchError, match="histograms of counts"):
        routing_distance([0, 0], [1, 2])


def test_resampling_s_bias_is_taken_off_the_interval():
    counts = np.full(10, 4)
    rng = np.random.default_rng(1)
    raw = js_divergence(*rng.multinomial(40, counts / 40, size=(2, 2000)))
    found = routing_distance(counts, counts, n_boot=2000).loc["js"]
    assert raw.min() > 0  # as if the two histograms could not be the same
    assert (found["value"], found["low"]) == (0, 0)
    assert found["high"] == pytest.approx(np.quantile(raw, 0.975) - raw.mean(), abs=0.01)


def test_chance_is_what_equal_routing_reaches_in_95_of_100_cases():
    rng, p, within = np.random.default_rng(0), np.array([0.5, 0.3, 0.2]), 0
    for seed in range(200):
        row = routing_distance(*rng.multinomial(40, p, size=2), n_boot=300, seed=seed).loc["js"]
        within += row["value"] <= row["chance"]
    assert 0.9 <= within / 200 <= 1


def test_a_probe_finds_what_is_there_and_not_what_is_not():
    found = probe_recovery(blobs(300), blobs(90, seed=1), "a")
    assert found.recall.value == 1
    assert found.recall.low == pytest.approx(float(wilson(30, 30)[0]))
    assert (found.recall.n, found.others.n, found.converged) == (30, 60, True)
    assert found.hits.tolist() == [True] * 30
    gone = probe_recovery(blobs(300, collapse="a"), blobs(90, seed=1, collapse="a"), "a")
    assert 0.2 < gone.recall.value < 0.8  # a and b can't be told apart
    assert gone.hits.sum() == round(gone.recall.value * 30)


@pytest.mark.parametrize("step", [-1.5, -40, 40])
def test_a_shift_of_one_class_hides_nothing_from_a_probe(step):
    moved = [
        Readout(part.z + step * (part.y == 0)[:, None] * np.eye(5)[0], part.logits, part.y, CLASSES)
        for part in (blobs(300), blobs(300, seed=1))
    ]
    found = probe_recovery(*moved, "a")
    assert (found.recall.value, found.others.value) == (1, 1)


def test_a_probe_is_blind_to_rotation_shift_and_scale():
    rng = np.random.default_rng(0)
    turn = ortho_group.rvs(40, random_state=0)
    plain, turned = [], []
    for part in (blobs(90, noise=1.5), blobs(600, seed=1, noise=1.5)):
        z = np.hstack(
            [part.z, rng.normal(size=(len(part), 35)) * np.geomspace(0.01, 10, 35)]
        )  # a scale for each would matter
        plain.append(Readout(z, part.logits, part.y, CLASSES))
        turned.append(Readout(1e3 * z @ turn + 7, part.logits, part.y, CLASSES))
    a, b = probe_recovery(*plain, "b"), probe_recovery(*turned, "b")
    assert np.mean(a.hits == b.hits) > 0.99
    assert b.others.value == pytest.approx(a.others.value, abs=0.01)
    assert 0.3 < a.recall.value < 0.95  # neither all nor nothing, where agreement would be no proof


def test_a_probe_that_can_not_be_trained():
    data = blobs(30)
    without = Readout(data.z[data.y > 0], data.logits[data.y > 0], data.y[data.y > 0], CLASSES)
    with pytest.raises(MismatchError, match="no sample in the test split"):
        probe_recovery(data, without, "a")
    with pytest.raises(MismatchError, match="no class 'dog'"):
        probe_recovery(data, data, "dog")
    with pytest.raises(MismatchError, match="dimensions"):
        probe_recovery(data, blobs(30, dim=4), "a")
    alone = Readout(data.z[data.y == 0], data.logits[data.y == 0], data.y[data.y == 0], CLASSES)
    with pytest.raises(MismatchError, match="alone"):
        probe_recovery(alone, data, "a")


def test_cka_of_rotations_scales_and_shifts_is_one():
    x = np.random.default_rng(0).normal(size=(40, 6))
    assert linear_cka(x, x) == pytest.approx(1)
    assert linear_cka(x, 3 * x @ ortho_group.rvs(6, random_state=1) - 5) == pytest.approx(1)
    assert np.isnan(linear_cka(x, np.ones((40, 2))))


def test_cka_by_hand_and_as_the_kernel_form():
    x, y = np.array([[1.0, 0], [-1, 0], [0, 1], [0, -1]]), np.array([[1.0], [-1], [0], [0]])
    assert linear_cka(x, y) == pytest.approx(1 / np.sqrt(2))  # |YᵀX|² = 4, |XᵀX| = 2√2, |YᵀY| = 2
    rng = np.random.default_rng(0)
    x, y = rng.normal(size=(30, 7)), rng.normal(size=(30, 4))
    centre = np.eye(30) - 1 / 30
    k, gram = centre @ x @ x.T @ centre, centre @ y @ y.T @ centre
    assert linear_cka(x, y) == pytest.approx(
        (k * gram).sum() / np.linalg.norm(k) / np.linalg.norm(gram)
    )
    with pytest.raises(MismatchError, match="same samples"):
        linear_cka(x, y[:-1])


def test_the_worst_sibling():
    y = np.array([0, 0, 1, 1, 1, 1, 2, 2])
    fired = np.array([1, 1, 1, 0, 0, 0, 1, 0], bool)
    worst = worst_sibling(fired, y, "a", CLASSES)
    assert (worst.name, worst.value, worst.n) == ("c", 0.5, 2)
    assert [worst.low, worst.high] == pytest.approx([float(v) for v in wilson(1, 2)])
    assert (
        worst_sibling(np.zeros(8, bool), y, "a", CLASSES).name == "b"
    )  # nothing fires: the class known best
    with pytest.raises(MismatchError, match="no sample of a class other"):
        worst_sibling([True], [0], "a", CLASSES)
    with pytest.raises(MismatchError, match="for each label"):
        worst_sibling([True], y, "a", CLASSES)


def test_collateral_by_hand():
    y = np.array([0, 0, 1, 1])

    def answers(*predicted):
        return Readout(np.zeros((4, 2)), np.eye(3)[list(predicted)], y, CLASSES)

    table = collateral(answers(0, 0, 1, 2), {"a": answers(1, 1, 1, 1), "b": answers(0, 2, 0, 0)})
    assert table.loc["a", ["a", "b"]].tolist() == [-1, 0.5]
    assert table.loc["b", ["a", "b"]].tolist() == [-0.5, -0.5]
    assert table["c"].isna().all()
    with pytest.raises(MismatchError, match="no class 'dog'"):
        collateral(answers(0, 0, 1, 1), {"dog": answers(0, 0, 1, 1)})
    with pytest.raises(MismatchError, match="other images"):
        collateral(
            answers(0, 0, 1, 1),
            {"a": Readout(np.zeros((4, 2)), np.zeros((4, 3)), y[::-1], CLASSES)},
        )


def test_a_paired_change_has_a_width_where_nothing_changed():
    hits = np.array([True] * 20)
    still = paired_change(hits, hits)
    high = float(wilson(0, 20)[1])
    assert (still.value, still.low, still.high) == (0, pytest.approx(-high), pytest.approx(high))
    all_lost = paired_change(hits, ~hits)
    assert (all_lost.value, all_lost.low) == (-1, -1)
    assert all_lost.high < -0.7
    assert paired_change([1, 1, 0, 0], [1, 0, 1, 1]).value == 0.25
    with pytest.raises(MismatchError, match="same samples"):
        paired_change(hits, hits[:3])


def test_a_share_of_nothing_is_unknown():
    assert np.isnan([share([]).value, share([]).low]).all()
