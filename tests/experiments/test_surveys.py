"""Surveys put together what the single functions say, and doubt a guarantee where the images changed."""

from dataclasses import replace

import numpy as np
import pandas as pd
import pytest
from small_experiments import changed, small_experiment, splits, warmed

from classvec_lab.editing.audit.relearn import relearn_time
from classvec_lab.editing.calibration import exchangeability
from classvec_lab.editing.strength import Bounds, strength_curve
from classvec_lab.experiments.forget import FINE_TUNED, forget_study
from classvec_lab.experiments.surveys import (
    guarantees_say,
    survey_guarantees,
    survey_relearning,
    survey_strengths,
)

METHODS = [FINE_TUNED, "class vector", "logit mask", "LEACE", "no such method"]


@pytest.fixture(scope="module")
def exp(tmp_path_factory):
    return warmed(tmp_path_factory, lambda: small_experiment(data=splits(noise=90.0)))


def test_strengths_are_the_curves_of_each(exp):
    other, bounds = changed(exp, seed=5), Bounds(lambdas=(-4.0, -1.0), false_fire=0.1)
    found = survey_strengths([exp, other], ["red", "blue"], ["none", "margin", "none"], bounds)
    assert found["split"].eq("test").all()
    assert found["direction"].eq("class vector").all()
    keys = {(t, g, s) for t in ("red", "blue") for g in ("none", "margin") for s in (0, 5)}
    assert set(found.groupby(["target", "gate", "seed"]).groups) == keys
    for (target, gate, seed), part in found.groupby(["target", "gate", "seed"]):
        of = {0: exp, 5: other}[seed]
        edit = (
            of.vectors[target]
            if gate == "none"
            else of.vectors[target].gated(of.gate(target, gate, bounds))
        )
        curve = strength_curve(of.ft, edit, of.features["test"], lambdas=bounds.lambdas)
        pd.testing.assert_frame_equal(part[list(curve)].reset_index(drop=True), curve)
    assert len(found) == 8 * 3


def test_guarantees_are_exchangeability_of_val_and_test(exp):
    found = survey_guarantees(exp, ["green", "red"], "margin").set_index("target")
    assert list(found.index) == ["green", "red"]
    for target, row in found.iterrows():
        by_hand = exchangeability(exp.gate(target), exp.features["val"], exp.features["test"])
        assert tuple(row) == (
            "marginal",
            by_hand.balance_p,
            by_hand.scores_p,
            100,
            by_hand.doubtful,
            by_hand.says()[0],
        )
    assert not found["doubtful"].any()
    assert guarantees_say(found) == (
        "Nothing speaks against the guarantee of any of the 2 gates on the test split.",
    )


def unbalanced(exp):
    """The exp with all red and green test images, but six of the blue."""
    test = exp.data["test"]
    kept = np.sort(
        np.concatenate([np.flatnonzero(test.targets != 2), np.flatnonzero(test.targets == 2)[:6]])
    )
    made = replace(exp, test=test.subset(kept))
    made.__dict__["vectors"] = exp.vectors
    return made


def test_another_balance_of_classes_takes_the_guarantee_away(exp):
    found = survey_guarantees(unbalanced(exp), ["red", "blue"], "margin").set_index("target")
    assert (found.loc["red", "n"], found.loc["blue", "n"]) == (56, 100)
    assert found["doubtful"].to_dict() == {
        "red": True,
        "blue": False,
    }  # the others of blue are as balanced as before
    assert found.loc["red", "balance_p"] < 1e-4
    (text,) = guarantees_say(found.reset_index())
    assert text == found.loc["red", "says"]
    assert text.startswith(
        "No guarantee holds for the gate for red on these images: they show another balance"
    )


def test_gates_without_a_guarantee_claim_none(exp):
    found = survey_guarantees(exp, ["red", "blue"], "margin", Bounds(guarantee="youden"))
    assert found["guarantee"].eq("none").all()
    assert guarantees_say(found) == ("The 2 gates carry no guarantee.",)


@pytest.fixture(scope="module")
def study(exp, tmp_path_factory):
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("CLASSVEC_DATA", str(tmp_path_factory.mktemp("study")))
        return forget_study(exp, ["red", "blue"], gates=["margin"], n_random=0, progress=False)


def test_relearning_has_a_row_a_target_and_method_that_there_is(exp, study):
    found = survey_relearning(study, ["blue"], METHODS, max_steps=6, seed=1)
    assert list(found) == ["target", "method", "steps", "censored", "threshold", "split"]
    assert found["method"].tolist() == ["class vector", "logit mask", "LEACE"]
    assert found["target"].eq("blue").all()
    assert found["split"].eq("val").all()
    features = exp.features["val"]
    own = features.y == 2
    goal = (study.find(FINE_TUNED, "blue").readouts["val"].predicted == features.y)[own].mean()
    np.testing.assert_allclose(found["threshold"], 0.9 * goal, atol=1e-6)
    for _, row in found.iterrows():
        task = {
            "evaluate": exp.data["val"],
            "target": "blue",
            "original_accuracy": float(goal),
            "max_steps": 6,
            "seed": 1,
        }
        by_hand = relearn_time(
            study.find(row["method"], "blue").classifier, exp.data["train"], **task
        )
        assert (row["steps"], row["censored"]) == (str(by_hand), by_hand.censored)
    masked = found.set_index("method").loc["logit mask"]
    assert (masked["steps"], masked["censored"]) == ("> 6", True)


def test_the_seed_is_passed_on(study, monkeypatch):
    seeds = []
    monkeypatch.setattr(
        "classvec_lab.experiments.surveys.relearn_time",
        lambda *a, seed, **k: seeds.append(seed) or relearn_time(*a, seed=seed, **k),
    )
    survey_relearning(study, ["red"], ["logit mask"], max_steps=1, seed=7)
    assert seeds == [7]


def test_no_steps_no_rows(study):
    found = survey_relearning(study, ["blue"], METHODS, max_steps=0)
    assert (len(found), list(found)) == (
        0,
        ["target", "method", "steps", "censored", "threshold", "split"],
    )
