"""Calibrated gates keep the rates that they state, and say when that can't be."""

import math

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from scipy.stats import binom
from sklearn.discriminant_analysis import LinearDiscriminantAnalysis
from worlds import class_vectors_of, logits, reader, samples

from classvec_lab import ClassMoments, ClassVectors, Features
from classvec_lab.editing.calibration import (
    RelaxedRate,
    calibrate_gate,
    exchangeability,
    least_rate,
    threshold,
)
from classvec_lab.errors import EditError, MismatchError

RUNS = 1000
SETTINGS = [(n, rate) for n in (99, 150, 299, 500, 1000) for rate in (0.01, 0.05)]
V = class_vectors_of()
OTHER = samples(class_vectors_of(dim=3), 40)


def with_labels(features, y):
    return Features(features.z, y, features.classes)


def needed(rate, guarantee="marginal"):
    """Fewest samples: one of n + 1 may lie above, or none of n does in at most 5 % of cases."""
    if guarantee == "pac":
        return math.ceil(math.log(0.05) / math.log1p(-rate) - 1e-9)
    return math.ceil(1 / rate - 1 - 1e-9)


def test_samples_needed():
    assert [needed(r) for r in (0.01, 0.05, 0.5, 0.001)] == [99, 19, 1, 999]
    assert [needed(r, "pac") for r in (0.01, 0.05, 0.5)] == [299, 59, 5]


@given(st.floats(1e-4, 0.9), st.sampled_from(["marginal", "pac"]))
def test_the_number_needed_is_the_smallest_that_suffices(rate, guarantee):
    n = needed(rate, guarantee)
    scores = np.arange(float(n))
    at = threshold_rank(n, rate, guarantee)
    assert at < threshold(scores, rate, guarantee) < at + 1e-8 * n
    if n > 1:
        with pytest.raises(
            EditError,
            match=f"needs at least {n} held-out samples of other classes; there are {n - 1}",
        ):
            threshold(scores[1:], rate, guarantee)


def threshold_rank(n, rate, guarantee):
    """Position in the sorted scores with as many above as the guarantee allows."""
    allowed = 0
    if guarantee == "marginal":
        while (allowed + 2) / (n + 1) <= rate * (1 + 1e-12) and allowed + 1 < n:
            allowed += 1
    else:
        while allowed + 1 < n and binom.cdf(allowed + 1, n, rate) <= 0.05:
            allowed += 1
    return n - 1 - allowed


@given(
    st.integers(299, 1200),
    st.floats(0.01, 0.5),
    st.integers(0, 1000),
    st.sampled_from(["marginal", "pac"]),
)
def test_the_threshold_is_just_above_a_score_and_falls_with_the_rate(n, rate, seed, guarantee):
    scores = np.random.default_rng(seed).normal(size=n)
    level, rank = threshold(scores, rate, guarantee), threshold_rank(n, rate, guarantee)
    assert (scores < level).sum() == rank + 1
    assert (scores > level).sum() == n - 1 - rank
    assert (scores > level).mean() <= rate
    assert level - np.sort(scores)[rank] <= 1.001e-9 * np.abs(scores).max()
    assert threshold(scores, min(2 * rate, 0.99), guarantee) <= level
    assert level <= threshold(scores, rate, "pac")


@pytest.mark.parametrize(("n", "rate"), SETTINGS)
def test_marginal_guarantee_over_calibrations(n, rate):
    # of uniform scores exactly 1 - threshold lie above the threshold
    scores = np.random.default_rng([n, int(1000 * rate)]).random((RUNS, n))
    rates = 1 - np.array([threshold(s, rate) for s in scores])
    error = rates.std(ddof=1) / np.sqrt(RUNS)
    assert rates.mean() <= rate + 3 * error
    assert rates.mean() >= rate - 1 / (n + 1) - 3 * error  # and no stricter than n samples make it


@pytest.mark.parametrize(("n", "rate"), SETTINGS)
def test_pac_guarantee_over_calibrations(n, rate):
    scores = np.random.default_rng([n, int(1000 * rate), 1]).random((RUNS, n))
    if n < needed(rate, "pac"):
        with pytest.raises(EditError, match="needs at least 299"):
            threshold(scores[0], rate, "pac")
        return
    exceeded = np.mean([1 - threshold(s, rate, "pac") > rate for s in scores])
    error = np.sqrt(0.05 * 0.95 / RUNS)
    assert exceeded <= 0.05 + 3 * error
    allowed = n - 1 - threshold_rank(n, rate, "pac")
    assert (
        abs(exceeded - binom.cdf(allowed, n, rate)) <= 4 * error
    )  # the probability that theory gives


def gates_on_a_half_circle(n, rate, guarantee):
    """Gates of `RUNS` calibrations on n samples of the other class, and their true rates.

    The other class lies on a half circle, angles uniform: cos > t on arccos(t) / π of it.
    """
    vectors = ClassVectors(
        np.zeros((2, 2)), np.array([[2.0, 0.0], [0.0, 1.0]]), [5, 5], ("target", "other")
    )
    rng = np.random.default_rng(3)
    gates = []
    for angles in rng.uniform(0, np.pi, (RUNS, n)):
        z = np.stack([np.cos(angles), np.sin(angles)], axis=1) * rng.uniform(0.5, 2, (n, 1))
        features = Features(
            np.concatenate([z, [[1, 0]]]), np.r_[np.ones(n, int), 0], vectors.classes
        )
        gates.append(
            calibrate_gate(
                features, vectors, "target", false_fire=rate, score="cosine", guarantee=guarantee
            )
        )
    return gates, np.arccos([gate.threshold for gate in gates]) / np.pi


@pytest.mark.parametrize("guarantee", ["marginal", "pac"])
def test_guarantees_of_whole_gates(guarantee):
    n, rate = 120, 0.05
    gates, rates = gates_on_a_half_circle(n, rate, guarantee)
    if guarantee == "marginal":
        assert abs(rates.mean() - 6 / 121) <= 3 * rates.std(ddof=1) / np.sqrt(RUNS)
        assert rates.mean() <= rate + 3 * rates.std(ddof=1) / np.sqrt(RUNS)
    else:
        assert (rates > rate).mean() <= 0.05 + 3 * np.sqrt(0.05 * 0.95 / RUNS)
        assert (rates > rate).any()
    assert {(gate.false_fire, gate.n_negatives) for gate in gates} == {(rate, n)}


@pytest.mark.filterwarnings("ignore::classvec_lab.editing.calibration.RelaxedRate")
@pytest.mark.parametrize("n", [1, 4, 20, 81])
@pytest.mark.parametrize("guarantee", ["marginal", "pac"])
def test_a_relaxed_rate_is_the_one_that_holds(guarantee, n):
    gates, rates = gates_on_a_half_circle(n, 0.01, guarantee)
    (stated,) = {gate.false_fire for gate in gates}
    assert {(gate.guarantee, gate.n_negatives) for gate in gates} == {(guarantee, n)}
    if guarantee == "marginal":
        assert stated == 1 / (n + 1)
        assert abs(rates.mean() - stated) <= 4 * rates.std(ddof=1) / np.sqrt(RUNS)
    else:
        assert stated == 1 - 0.05 ** (1 / n)
        exceeded = (rates > stated).mean()
        assert abs(exceeded - 0.05) <= 4 * np.sqrt(0.05 * 0.95 / RUNS)


@given(st.integers(1, 3000), st.sampled_from(["marginal", "pac"]))
def test_the_relaxed_rate_is_the_least_that_the_samples_allow(n, guarantee):
    scores, least = np.arange(float(n)), least_rate(n, guarantee)
    assert n - 1 < threshold(scores, least, guarantee) < n  # above every score
    with pytest.raises(EditError, match=f"at least {n + 1} held-out .* there are {n}"):
        threshold(scores, least * (1 - 1e-6), guarantee)


def cosines(a, b):
    return (a @ b.T) / np.linalg.norm(a, axis=1)[:, None] / np.linalg.norm(b, axis=1)


def test_scores_are_those_defined():
    f, z = samples(V, 800), samples(V, 50, seed=9).z.astype(np.float32).astype(float)
    cosine = cosines(z, V.z_ft)
    np.testing.assert_allclose(
        calibrate_gate(f, V, "c1", score="cosine").scores(z), cosine[:, 1], rtol=1e-10
    )
    margin = cosine[:, 1] - np.max(cosine[:, [0, 2, 3]], axis=1)
    np.testing.assert_allclose(calibrate_gate(f, V, "c1").scores(z), margin, rtol=1e-10, atol=1e-12)

    moments = ClassMoments.of(f.z, f.y, 4, pooled_scatter=True)
    means = ClassVectors(V.z_pre, moments.mean, V.count, V.classes)
    gate = calibrate_gate(f, means, "c1", score="discriminant", moments=moments)
    covariance = sum(
        (f.z[f.y == c] - moments.mean[c]).T @ (f.z[f.y == c] - moments.mean[c]) for c in range(4)
    ) / (800 - 4)
    covariance = 0.9 * covariance + 0.1 * np.trace(covariance) / 10 * np.eye(10)
    away = np.einsum(
        "ncm,mk,nck->nc",
        z[:, None] - moments.mean,
        np.linalg.inv(covariance),
        z[:, None] - moments.mean,
    )
    np.testing.assert_allclose(
        gate.scores(z),
        -0.5 * (away[:, 1] - np.min(away[:, [0, 2, 3]], axis=1)),
        rtol=1e-8,
        atol=1e-8,
    )
    fitted = LinearDiscriminantAnalysis("lsqr", shrinkage=0.1, priors=np.full(4, 0.25))
    np.testing.assert_array_equal(gate.at(0.0).fires(z), fitted.fit(f.z, f.y).predict(z) == 1)


@pytest.mark.parametrize("head", ["linear", "cosine"])
def test_the_predicted_gate_is_the_heads_decision(head):
    classifier, z = reader(V, head), samples(V, 300, seed=2, spread=4.0).z
    gate = calibrate_gate(samples(V), V, "c2", score="predicted", classifier=classifier)
    np.testing.assert_array_equal(gate.fires(z), logits(classifier, z).argmax(1).numpy() == 2)
    assert (gate.threshold, gate.guarantee) == (0.0, "none")
    assert 0 < gate.fires(z).mean() < 1


@given(st.integers(0, 200), st.sampled_from(["margin", "cosine"]))
def test_labels_of_the_other_classes_are_not_used(seed, score):
    f = samples(V, 500, spread=3.0)
    others = np.flatnonzero(f.y != 1)
    y = f.y.copy()
    y[others] = np.random.default_rng(seed).permutation(y[others])
    a, b = (calibrate_gate(with_labels(f, labels), V, "c1", score=score) for labels in (f.y, y))
    assert a.packed()[1] == b.packed()[1]
    np.testing.assert_array_equal(a.weight, b.weight)
    assert (a.guarantee, a.false_fire, a.n_negatives) == ("marginal", 0.01, len(others))


@given(st.integers(0, 1000), st.booleans())
def test_youden_is_the_best_of_all_thresholds(seed, ties):
    f = samples(V, 60, seed=seed, spread=4.0)
    if ties:
        f = Features(
            np.repeat(f.z[:20], 3, axis=0), np.random.default_rng(seed).permutation(f.y), f.classes
        )
    gate = calibrate_gate(f, V, "c0", guarantee="youden")
    scores, own = gate.scores(f.z), f.y == 0

    def gain(level):
        return (scores[own] > level).mean() - (scores[~own] > level).mean()

    assert gain(gate.threshold) == pytest.approx(
        max(gain(level) for level in [-np.inf, *scores]), abs=1e-12
    )
    assert (gate.guarantee, gate.false_fire, gate.n_negatives) == ("none", None, 45)


def test_exchangeability_sees_shift_and_balance():
    gate = calibrate_gate(samples(V, 1200, spread=2.5), V, "c1")
    held = samples(V, 1200, spread=2.5)
    same = exchangeability(gate, held, samples(V, 1300, seed=1, spread=2.5))
    assert not same["doubtful"]
    assert (same["target"], same["guarantee"], same["n"]) == ("c1", "marginal", 975)
    assert same["says"].startswith(
        "Nothing speaks against the marginal guarantee of the gate for c1 (class balance p = "
    )

    new = samples(V, 1300, seed=1, spread=2.5)
    shifted = exchangeability(
        gate, held, Features(new.z + V.z_ft[1] - V.z_ft[0], new.y, new.classes)
    )
    assert shifted["scores_p"] < 0.01 <= shifted["balance_p"]
    assert shifted["doubtful"]
    assert shifted["says"].startswith("No guarantee holds for the gate for c1")
    assert "other scores (a shift) than its calibration set" in shifted["says"]

    tilted = exchangeability(
        gate, held, samples(V, 1300, seed=1, spread=2.5, share=[0.6, 0.2, 0.1, 0.1])
    )
    assert tilted["balance_p"] < 0.01
    assert tilted["doubtful"]
    assert "another balance of the other classes" in tilted["says"]
    soft = exchangeability(gate.soft(0.1), held, new)
    assert soft["says"] == "The gate for c1 carries no guarantee."
    only = with_labels(new, np.ones(len(new), int))
    with pytest.raises(MismatchError, match="classes other than 'c1'"):
        exchangeability(gate, held, only)


def test_exchangeable_data_are_rarely_called_doubtful():
    pool = samples(V, 2000, spread=2.5, share=[0.25] * 4)
    gate = calibrate_gate(samples(V, 500, seed=5, spread=2.5), V, "c1")
    doubtful = []
    for seed in range(200):
        turn = np.random.default_rng(seed).permutation(2000)
        halves = (Features(pool.z[part], pool.y[part], pool.classes) for part in np.split(turn, 2))
        doubtful.append(exchangeability(gate, *halves)["doubtful"])
    assert np.mean(doubtful) <= 0.02 + 3 * np.sqrt(0.02 * 0.98 / 200)


def test_too_few_samples():
    f = samples(V, 100)
    marginal = r"false fire 0.01 .* marginal guarantee needs at least 99 .* are 75.*least 0.0132"
    pac = r"pac guarantee needs at least 299 .* there are 75.*at least 0.0392"
    for guarantee, least, message in (("marginal", 0.0132, marginal), ("pac", 0.0392, pac)):
        with pytest.warns(RelaxedRate, match=rf"{message}; the gate has that rate$") as told:
            gate = calibrate_gate(f, V, "c1", guarantee=guarantee)
        assert [warning.filename for warning in told] == [__file__]
        assert gate.false_fire == least_rate(75, guarantee)
        assert gate.threshold > gate.scores(f.z)[f.y != 1].max()
        assert f"at most {least:.3g} of the others" in str(gate)
        assert "from 75 samples" in str(gate)
        with pytest.raises(EditError, match=message):
            threshold(gate.scores(f.z)[f.y != 1], 0.01, guarantee)
    assert calibrate_gate(f, V, "c1", false_fire=1 / 76).n_negatives == 75
    for guarantee in ("marginal", "pac"):
        with pytest.raises(EditError, match=r"there are 0\. Calibrate on more"):
            calibrate_gate(with_labels(f, np.ones(100, int)), V, "c1", guarantee=guarantee)
    with pytest.raises(EditError, match="samples of 'c1' and of other classes"):
        calibrate_gate(with_labels(f, np.zeros(100, int)), V, "c1", guarantee="youden")


@pytest.mark.parametrize(
    ("changes", "error", "message"),
    [
        ({"target": "cat"}, MismatchError, "no class 'cat'; there are c0, c1"),
        ({"false_fire": 0}, EditError, r"false_fire must lie in \(0, 1\); got 0"),
        ({"false_fire": 1.5}, EditError, r"false_fire must lie in \(0, 1\); got 1.5"),
        (
            {"guarantee": "sure"},
            EditError,
            "no guarantee 'sure'; there are marginal, pac, youden",
        ),
        ({"score": "euclid"}, MismatchError, "no gate score 'euclid'; there are margin, cosine"),
        ({"score": "predicted"}, EditError, "pass classifier="),
        ({"score": "discriminant"}, EditError, "needs moments= with a pooled scatter"),
        (
            {"score": "discriminant", "moments": ClassMoments(4, 10)},
            EditError,
            "needs moments= with a pooled scatter",
        ),
        (
            {"score": "discriminant", "moments": OTHER.moments(pooled_scatter=True)},
            MismatchError,
            "moments have 4 classes and 3",
        ),
        (
            {"score": "discriminant", "moments": samples(V, 4).moments(pooled_scatter=True)},
            EditError,
            "more than one sample a class",
        ),
        ({"vectors": class_vectors_of(dim=9)}, MismatchError, r"shape \(N, 9\); got \(400, 10\)"),
        ({"vectors": class_vectors_of(3)}, MismatchError, "lacks c3"),
    ],
)
def test_bad_input(changes, error, message):
    with pytest.raises(error, match=message):
        calibrate_gate(**{"features": samples(V), "vectors": V, "target": "c1", **changes})


def test_features_of_another_model_are_refused():
    vectors = ClassVectors(V.z_pre, V.z_ft, V.count, V.classes, pre="before", ft="after")
    f = samples(V)
    for model in (None, "after"):
        calibrate_gate(Features(f.z, f.y, f.classes, model), vectors, "c1")
    with pytest.raises(
        MismatchError, match=r"another fine-tuned model \(these vectors: after, given: before\)"
    ):
        calibrate_gate(Features(f.z, f.y, f.classes, "before"), vectors, "c1")


def test_only_guarantees_have_thresholds():
    with pytest.raises(EditError, match="no guarantee 'youden'; there are marginal, pac"):
        threshold(np.arange(500.0), 0.01, "youden")
    with pytest.raises(EditError, match=r"there are 0\. Calibrate on more, or state .* at least 1"):
        threshold([], 0.01, "pac")
