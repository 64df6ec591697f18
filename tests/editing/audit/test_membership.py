"""A membership attack has power where members differ, says so, and refuses what it can't use."""

from dataclasses import replace

import numpy as np
import pytest

from classvec_lab.editing.audit.membership import confidence_scores, membership_inference
from classvec_lab.errors import MismatchError
from classvec_lab.statistics import Estimate


def test_scores_of_a_masked_class():
    scores = confidence_scores([[0, 0.5, 0.5]])  # two even choices: odds 1, one bit
    np.testing.assert_allclose(scores, [[0, 1]], atol=1e-12)


def test_a_membership_attack_with_power():
    rng = np.random.default_rng(0)
    retain, test = rng.normal(6, 1, (200, 2)), rng.normal(0, 1, (150, 2))
    seen = membership_inference(retain, test, rng.normal(6, 1, (40, 2)), seed=1)
    unseen = membership_inference(retain, test, rng.normal(0, 1, (40, 2)), seed=1)
    assert seen.has_power
    assert seen.auc.value > 0.99
    assert (seen.members.value, unseen.members.value, seen.members.n) == (1, 0, 40)
    assert seen.false_alarms.value < 0.02
    assert "no power" not in seen.says()
    assert seen == membership_inference(retain, test, np.full((40, 2), 6.0), seed=1)


def test_a_membership_attack_without_power_says_so():
    rng = np.random.default_rng(0)
    found = membership_inference(*(rng.normal(size=(n, 1)) for n in (300, 300, 50)))
    assert not found.has_power
    assert found.auc.low < 0.5
    assert abs(found.auc.value - 0.5) < 0.1
    assert "no power" in found.says()
    perhaps = replace(found, auc=Estimate(0.55, 0.49, 0.61, 600))
    assert not perhaps.has_power
    assert replace(found, auc=Estimate(0.55, 0.51, 0.59, 600)).has_power


def test_the_balance_of_members_does_not_decide():
    rng = np.random.default_rng(3)
    many, few = rng.normal(0.5, 1, (4000, 1)), rng.normal(0, 1, (40, 1))
    called = membership_inference(many, few, rng.normal(0.25, 1, (2000, 1))).members
    assert 0.3 < called.value < 0.7


def test_an_attack_needs_images_on_both_sides():
    for sizes in ((20, 9), (9, 20)):
        with pytest.raises(MismatchError, match=f"at least 10 .* got {sizes[0]} and {sizes[1]}"):
            membership_inference(*(np.zeros((n, 2)) for n in (*sizes, 5)))
