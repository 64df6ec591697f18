"""Gates score as defined, fire above their threshold, soften to a sigmoid, and can be packed."""

import json

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from classvec_lab.errors import MismatchError
from classvec_lab.gates import Gate

CLASSES = ("a", "b", "c")


def make(**changes):
    of = {
        "target": "b",
        "classes": CLASSES,
        "score": "margin",
        "weight": np.eye(3)[:, :2] + 0.5,
        "bias": np.array([0.1, 0, -1]),
    }
    return Gate(**{**of, "threshold": 0.2, "own": 1, "rivals": True, **changes})


def test_scores_by_hand():
    weight = np.array([[1.0, 0.0], [0.0, 1.0], [3.0, 4.0]])
    z = np.array([[3.0, 4.0], [0.0, 2.0], [-1.0, 0.0]])
    plain = {"weight": weight, "bias": np.zeros(3)}
    np.testing.assert_allclose(make(**plain, rivals=False).scores(z), [4, 2, 0])
    np.testing.assert_allclose(make(**plain, rivals=False, normalise=True).scores(z), [0.8, 1, 0])
    np.testing.assert_allclose(make(**plain).scores(z), [4 - 25, 2 - 8, 0 - -1])
    np.testing.assert_allclose(make(**plain, normalise=True).scores(z), [0.8 - 5, 1 - 4, 0 - -1])
    biased = make(weight=weight, bias=np.array([0, 1, -30.0]))
    np.testing.assert_allclose(biased.scores(z), [5 - 3, 3 - 0, 1 - -1])
    np.testing.assert_array_equal(biased.at(2.5).fires(z), [False, True, False])
    np.testing.assert_array_equal(biased.at(2.0).fires(z), [False, True, False])  # strictly above
    np.testing.assert_array_equal(biased.at(1.9).weights(z), [1, 1, 1])


def test_a_representation_of_length_zero_has_cosine_zero():
    assert make(normalise=True, bias=np.zeros(3), threshold=0.0).scores(np.zeros((1, 2)))[0] == 0


@given(st.integers(0, 1000), st.floats(1e-3, 10))
def test_a_soft_gate_is_a_sigmoid_and_tends_to_the_hard_one(seed, temperature):
    z = np.random.default_rng(seed).normal(size=(40, 2))
    gate = make()
    soft = gate.soft(temperature)
    weights, above = soft.weights(z), gate.scores(z) - gate.threshold
    assert (weights >= 0).all()
    assert (weights <= 1).all()
    with np.errstate(over="ignore"):
        np.testing.assert_allclose(
            weights, 1 / (1 + np.exp(-above / temperature)), rtol=1e-9, atol=1e-12
        )
    np.testing.assert_array_equal(weights > 0.5, gate.fires(z))
    away = np.abs(above) > 1e-3
    np.testing.assert_allclose(gate.soft(1e-6).weights(z)[away], gate.weights(z)[away], atol=1e-12)
    assert set(gate.weights(z)) <= {0.0, 1.0}


def test_what_changes_the_threshold_ends_the_guarantee():
    gate = make(guarantee="marginal", false_fire=0.01, n_negatives=500)
    assert "at most 0.01 of the others, from 500 samples" in str(gate)
    for changed in (gate.at(0.0), gate.soft(0.1)):
        assert (changed.guarantee, changed.false_fire) == ("none", None)
        assert "no guarantee" in str(changed)
    assert gate.at(0.0, guarantee="pac", false_fire=0.05).guarantee == "pac"
    assert "95 % confidence" in str(gate.at(0.0, guarantee="pac", false_fire=0.05))


def test_packed_and_made_again():
    for gate in (
        make(),
        make().soft(0.3),
        make(own=np.int64(1), threshold=np.float32(0.5), temperature=np.float64(0)),
        make(threshold=np.inf),
    ):
        arrays, card = gate.packed()
        again = Gate(**arrays, **json.loads(json.dumps(card)))
        z = np.random.default_rng(0).normal(size=(30, 2))
        np.testing.assert_array_equal(again.weights(z), gate.weights(z))
        assert again.packed()[1] == card
        assert (again.classes, again.target, str(again)) == (gate.classes, gate.target, str(gate))


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"weight": np.ones(2)}, "weight \\(K, m\\)"),
        ({"bias": np.zeros(2)}, "bias \\(K,\\)"),
        ({"own": 3}, "own in 0..K-1"),
        ({"own": -1}, "own in 0..K-1"),
        ({"weight": np.ones((1, 2)), "bias": np.zeros(1), "own": 0}, "at least two classes"),
        ({"weight": np.full((3, 2), np.nan)}, "finite"),
        ({"threshold": np.nan}, "finite"),
        ({"target": "z"}, "no class 'z'; there are a, b, c"),
        ({"temperature": -0.1}, r"temperature must lie in \[0, inf\]; got -0.1"),
    ],
)
def test_malformed_gates(changes, message):
    with pytest.raises(MismatchError, match=message):
        make(**changes)


def test_wrong_representations_and_temperatures():
    for z in (np.zeros((4, 3)), np.zeros(2)):
        with pytest.raises(MismatchError, match=r"shape \(N, 2\); got"):
            make().scores(z)
    for temperature in (0, -1, float("nan")):
        with pytest.raises(MismatchError, match=r"temperature must lie in \(0, inf\]"):
            make().soft(temperature)
