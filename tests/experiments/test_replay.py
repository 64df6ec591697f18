"""A survey of collateral damage puts a forecast beside what the edits did, behind the same gate."""

from dataclasses import replace

import numpy as np
import pandas as pd
import pytest
from conftest import CLASSES
from small_experiments import small_experiment, splits, warmed

from classvec_lab.editing import Bounds
from classvec_lab.editing.injection import inject
from classvec_lab.errors import ClassvecError
from classvec_lab.experiments.forecast import MomentModel, forecast_edits
from classvec_lab.experiments.forecast_scores import replay_edits, score_forecast, survey_collateral
from classvec_lab.readout import Readout

TARGETS = ("blue", "red")
BOUNDS = Bounds(lambdas=(-0.5, -3.0))


@pytest.fixture(scope="module")
def exp(tmp_path_factory):
    return warmed(tmp_path_factory, lambda: small_experiment(data=splits(noise=90.0)))


@pytest.fixture(scope="module", params=["none", "margin"])
def survey(request, exp):
    return survey_collateral(exp, TARGETS, request.param, bounds=BOUNDS)


def edit_of(exp, target, gate):
    return (
        exp.vectors[target] if gate == "none" else exp.vectors[target].gated(exp.gate(target, gate))
    )


def accuracies(classifier, features):
    r = Readout.of(classifier, features)
    return np.array([(r.predicted[r.y == i] == i).mean() for i in range(3)])


def test_measured_is_the_change_of_every_class_on_test(exp, survey):
    assert (survey.lambda_, survey.measured.index.name, survey.measured.columns.name) == (
        -1.5,
        "edited",
        "class",
    )
    test = exp.features["test"]
    for frame in (survey.measured, survey.forecast):
        assert (tuple(frame.index), tuple(frame.columns)) == (TARGETS, CLASSES)
    for target in TARGETS:
        edited = inject(exp.ft, -1.5 * edit_of(exp, target, survey.gate))
        change = accuracies(edited, test) - accuracies(exp.ft, test)
        np.testing.assert_allclose(survey.measured.loc[target], change, atol=1e-12)
        assert survey.measured.loc[target, target] < -0.3


def frames(exp, gate):
    lambdas, edits = (-0.5, -1.0, -1.5, -3.0), {t: edit_of(exp, t, gate) for t in TARGETS}
    model = MomentModel.from_features(
        exp.ft, exp.features["train"], exp.features["val"], seed=exp.seed
    )
    told = forecast_edits(model, edits, lambdas)
    return told, *(
        replay_edits(exp.ft, edits, exp.features[split], lambdas) for split in ("test", "val")
    )


def test_the_forecast_reads_no_test_image(exp, survey):
    told, *_ = frames(exp, survey.gate)
    by = told.set_index(["edited", "lambda_", "class"])["accuracy"]
    for target in TARGETS:
        expected = [by[target, -1.5, name] - by[target, 0.0, name] for name in CLASSES]
        np.testing.assert_allclose(survey.forecast.loc[target], expected)
    test = exp.features["test"]
    noise = replace(test, z=np.random.default_rng(0).normal(size=test.z.shape).astype(np.float32))
    blind = replace(exp)
    blind.__dict__.update(vectors=exp.vectors, features=exp.features | {"test": noise})
    again = survey_collateral(blind, TARGETS, survey.gate, bounds=BOUNDS)
    pd.testing.assert_frame_equal(again.forecast, survey.forecast)
    assert not again.measured.equals(survey.measured)


def test_scores_are_those_of_the_frames(exp, survey):
    expected = score_forecast(*frames(exp, survey.gate))
    assert survey.score["gate"].eq(survey.gate).all()
    pd.testing.assert_frame_equal(survey.score.drop(columns="gate"), expected)
    assert survey.score["lambda_"].tolist()[:-1] == [-0.5, -1.0, -1.5, -3.0]
    assert survey.score["n"].eq(2).all()


def test_curves_are_means_over_the_targets(exp, survey):
    curves = survey.curves.set_index(["kind", "lambda_"])
    assert not curves.index.has_duplicates
    assert set(curves.index) == {
        (k, x) for k in ("forecast", "measured", "replayed on val") for x in (0, -0.5, -1, -1.5, -3)
    }
    assert survey.curves["gate"].eq(survey.gate).all()
    assert survey.curves["n"].eq(2).all()
    for kind, split in (("measured", "test"), ("replayed on val", "val")):
        for lambda_ in (0.0, -3.0):
            found = {}
            for t in TARGETS:
                edits = [lambda_ * edit_of(exp, t, survey.gate)] if lambda_ else []
                found[t] = accuracies(
                    inject(exp.ft, *edits) if edits else exp.ft, exp.features[split]
                )
            acc_f = np.mean([found[t][CLASSES.index(t)] for t in TARGETS])
            acc_r = np.mean([np.delete(found[t], CLASSES.index(t)) for t in TARGETS])
            np.testing.assert_allclose(
                curves.loc[(kind, lambda_), ["acc_f", "acc_r"]].astype(float), [acc_f, acc_r]
            )


def test_the_gate_spares_the_others(exp):
    free, gated = (
        survey_collateral(exp, TARGETS, gate, bounds=BOUNDS) for gate in ("none", "margin")
    )
    others = [(t, name) for t in TARGETS for name in CLASSES if name != t]
    worst = [min(s.measured.loc[t, name] for t, name in others) for s in (free, gated)]
    assert worst[1] > -0.1
    assert worst[0] <= worst[1]


def test_another_strength(exp):
    found = survey_collateral(exp, ["green"], "margin", lambda_=-2, bounds=BOUNDS)
    edited = inject(exp.ft, -2 * edit_of(exp, "green", "margin"))
    test = exp.features["test"]
    np.testing.assert_allclose(
        found.measured.loc["green"],
        accuracies(edited, test) - accuracies(exp.ft, test),
        atol=1e-12,
    )
    assert found.score["lambda_"].dropna().tolist() == [-0.5, -1.0, -2.0, -3.0]
    assert found.score["forecast_low"].isna().all()  # one edited class has no interval


def test_unknown_names(exp):
    with pytest.raises(ClassvecError, match="pink"):
        survey_collateral(exp, ["red", "pink"], "none")
    with pytest.raises(ClassvecError, match="margins"):
        survey_collateral(exp, ["red"], "margins")
