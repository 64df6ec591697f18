"""Surveys put together what the single functions say, and doubt a guarantee where the images
changed.
"""

from dataclasses import replace

import numpy as np
import pandas as pd
import pytest
from small_experiments import small_experiment, splits, warmed

from classvec_lab.editing.audit.relearn import relearn_time
from classvec_lab.editing.calibration import exchangeability
from classvec_lab.editing.strength import BOUNDS, Bounds
from classvec_lab.experiments.forget import forget_study
from classvec_lab.experiments.gate_choice import guarantees_say
from classvec_lab.experiments.methods import FINE_TUNED, standard_methods

METHODS = [FINE_TUNED, "class vector", "logit mask", "LEACE", "no such method"]


@pytest.fixture(scope="module")
def exp(tmp_path_factory):
    return warmed(tmp_path_factory, lambda: small_experiment(data=splits(noise=90.0)))


def guarantees(exp, targets, bounds=BOUNDS):
    """One row a gate of what its guarantee rests on, as notebook 05 lists them."""
    val, test = exp.features["val"], exp.features["test"]
    gates = [exp.gate(target, "margin", bounds) for target in targets]
    return pd.DataFrame([exchangeability(gate, val, test) for gate in gates])


def test_no_doubt_where_val_and_test_are_alike(exp):
    found = guarantees(exp, ["green", "red"])
    assert found["guarantee"].eq("marginal").all()
    assert not found["doubtful"].any()
    assert found["n"].tolist() == [100, 100]
    assert guarantees_say(found) == (
        "Nothing speaks against the guarantee of the 2 gates on the test split.",
    )
    assert guarantees_say(found[:1]) == (
        "Nothing speaks against the guarantee of the 1 gate on the test split.",
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
    found = guarantees(unbalanced(exp), ["red", "blue"]).set_index("target")
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
    found = guarantees(exp, ["red", "blue"], Bounds(guarantee="youden"))
    assert found["guarantee"].eq("none").all()
    assert guarantees_say(found) == ("No guarantee goes with the 2 gates on the test split.",)


def test_without_a_gate_nothing_is_guaranteed():
    expected = ("Without a gate there is nothing to guarantee.",)
    assert guarantees_say(pd.DataFrame(columns=["guarantee", "doubtful", "says"])) == expected


@pytest.fixture(scope="module")
def study(exp, tmp_path_factory):
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("CLASSVEC_DATA", str(tmp_path_factory.mktemp("study")))
        methods = standard_methods(gates=["margin"], n_random=0)
        return forget_study(exp, ["red", "blue"], methods, progress=False)


def test_relearning_has_a_row_a_method_that_there_is(exp, study):
    found = study.relearning(METHODS, "blue", max_steps=6, seed=1)
    assert list(found) == ["target", "method", "steps", "censored", "threshold", "split"]
    assert found["method"].tolist() == ["class vector", "logit mask", "LEACE"]
    assert found["target"].eq("blue").all()
    assert found["split"].eq("val").all()
    features = exp.features["val"]
    own = features.y == 2
    predicted = study.find(FINE_TUNED, "blue").readouts("val")["val"].predicted
    goal = (predicted == features.y)[own].mean()
    np.testing.assert_allclose(found["threshold"], 0.9 * goal, atol=1e-6)
    for _, row in found.iterrows():
        task = {
            "evaluate": exp.data["val"],
            "target": "blue",
            "original_accuracy": float(goal),
            "max_steps": 6,
            "seed": 1,
        }
        steps = relearn_time(
            study.find(row["method"], "blue").classifier, exp.data["train"], **task
        )
        told = "> 6" if steps is None else str(steps)
        assert (row["steps"], row["censored"]) == (told, steps is None)
    masked = found.set_index("method").loc["logit mask"]
    assert (masked["steps"], masked["censored"]) == ("> 6", True)


def test_the_seed_is_passed_on(study, monkeypatch):
    seeds = []
    monkeypatch.setattr(
        "classvec_lab.experiments.forget.relearn_time",
        lambda *a, seed, **k: seeds.append(seed) or relearn_time(*a, seed=seed, **k),
    )
    study.relearning(["logit mask"], "red", max_steps=1, seed=7)
    assert seeds == [7]


def test_no_steps_no_rows(study):
    found = study.relearning(METHODS, "blue", max_steps=0)
    assert (len(found), list(found)) == (
        0,
        ["target", "method", "steps", "censored", "threshold", "split"],
    )
