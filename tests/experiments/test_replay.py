"""Replaying an edit is what injection does, and the survey puts val beside test behind one gate."""

from dataclasses import replace

import numpy as np
import pandas as pd
import pytest
import torch
from conftest import CLASSES
from small_experiments import small_experiment, splits, warmed
from torch import nn

from classvec_lab import Classifier, ClassVectors, CosineHead, Features
from classvec_lab.editing import Bounds
from classvec_lab.editing.calibration import calibrate_gate
from classvec_lab.editing.injection import inject
from classvec_lab.errors import ClassvecError, EditError, MismatchError
from classvec_lab.experiments.replay import (
    CollateralSurvey,
    Replayed,
    replay_edits,
    survey_collateral,
)
from classvec_lab.readout import Readout, predict
from classvec_lab.statistics import mean_interval, split_accuracy

TARGETS = ("blue", "red")
BOUNDS = Bounds(lambdas=(-0.5, -3.0))


def head_of(rows, scale=None):
    if scale is not None:
        return CosineHead(torch.as_tensor(rows).float(), scale)
    head = nn.Linear(rows.shape[1], len(rows))
    head.weight.data = torch.as_tensor(rows).float()
    return head


def small_world(head, n=400, seed=0):
    """A classifier with this head on `head.in_features` dimensions, features and class vectors."""
    rng = np.random.default_rng(seed)
    z = rng.normal(size=(3, 5)) * 2
    y = np.arange(n) % 3
    classifier = Classifier(
        nn.Identity(), head(z - z.mean(axis=0)), classes=CLASSES, preprocess=None
    )
    features = Features(z[y] + rng.normal(size=(n, 5)), y, CLASSES)
    return classifier, features, ClassVectors(0.2 * z, z, np.full(3, n), CLASSES)


def odd_head(rows):
    odd = nn.Sequential(head_of(rows), nn.Tanh())
    odd.in_features, odd.out_features = rows.shape[1], len(rows)
    return odd


@pytest.mark.parametrize("score", ["none", "margin", "soft"])
@pytest.mark.parametrize(
    "head", [head_of, lambda rows: head_of(rows, 8.0), odd_head], ids=["linear", "cosine", "odd"]
)
def test_replaying_is_what_injection_does(head, score):
    classifier, features, vectors = small_world(head)
    edits = {}
    for target in CLASSES:
        gate = None
        if score != "none":
            gate = calibrate_gate(features, vectors, target, false_fire=0.1)
            gate = gate.soft(0.2) if score == "soft" else gate
        edits[target] = vectors[target].gated(gate)
    found = replay_edits(classifier, edits, features, [-0.4, -1.5])
    assert (found.targets, found.classes, found.lambdas) == (CLASSES, CLASSES, (0.0, -0.4, -1.5))
    assert found.hits.dtype.kind == "i"
    changed = set()
    for t, (target, edit) in enumerate(edits.items()):
        for i, lambda_ in enumerate(found.lambdas):
            edited = inject(classifier, lambda_ * edit) if lambda_ else classifier
            hit = predict(edited, features) == features.y
            expected = np.bincount(features.y[hit], minlength=3)
            np.testing.assert_array_equal(found.hits[t, i], expected)
            changed.add(tuple(expected))
            row = found.curves().set_index(["class", "lambda_"]).loc[(target, lambda_)]
            split = split_accuracy(hit, features.y == CLASSES.index(target))
            assert row[list(split)].to_dict() == pytest.approx(split)
    assert len(changed) > 3
    np.testing.assert_array_equal(found.count, np.bincount(features.y))
    np.testing.assert_allclose(
        found.change[:, 1], found.hits[:, 2] / found.count - found.hits[:, 0] / found.count
    )


def test_amounts_stand_in_for_the_gate():
    classifier, features, vectors = small_world(head_of)
    amounts = np.random.default_rng(1).uniform(size=(2, len(features)))
    amounts[amounts < 0.3] = 0
    edits = {"red": vectors["red"], "blue": vectors["blue"]}
    found = replay_edits(classifier, edits, features, [-2.0], amounts)
    for t, edit in enumerate(edits.values()):
        z = features.z - 2.0 * amounts[t, :, None] * edit.vector
        hit = predict(classifier, replace(features, z=z)) == features.y
        np.testing.assert_array_equal(found.hits[t, 1], np.bincount(features.y[hit], minlength=3))


def test_a_class_without_samples_has_no_accuracy():
    classifier, features, vectors = small_world(head_of)
    kept = features.y != 1
    part = Features(features.z[kept], features.y[kept], CLASSES)
    found = replay_edits(classifier, {"red": vectors["red"]}, part, [-1.0])
    assert np.isnan(found.change[:, :, 1]).all()
    assert np.isfinite(found.change[:, :, [0, 2]]).all()


@pytest.mark.parametrize(
    "lambdas", [[], [0.0], [-1.0, 0.5], [np.nan, -1.0], [-1.0, np.nan], [-np.inf]]
)
def test_forgetting_goes_back(lambdas):
    classifier, features, vectors = small_world(head_of)
    with pytest.raises(EditError, match="lambdas must be finite and below 0"):
        replay_edits(classifier, {"red": vectors["red"]}, features, lambdas)


def test_other_features_are_named():
    classifier, features, vectors = small_world(head_of)
    with pytest.raises(MismatchError, match="the features"):
        replay_edits(
            classifier, {"red": vectors["red"]}, replace(features, classes=("a", "b", "c")), [-1.0]
        )
    with pytest.raises(MismatchError, match=r"the head reads representations of shape \(N, 5\)"):
        replay_edits(
            classifier, {"red": vectors["red"]}, replace(features, z=features.z[:, :4]), [-1]
        )


def by_hand(hits):
    """Two classes of ten samples, each edited: hits (edited, lambda, class) at 0, -1 (and -2)."""
    lambdas = (0.0, -1.0, -2.0)[: np.shape(hits)[1]]
    return Replayed(("a", "b"), ("a", "b"), lambdas, np.array(hits), np.array([10, 10]))


def test_scores_by_hand():
    test = by_hand([[[9, 8], [1, 7]], [[9, 8], [9, 3]]])
    val = by_hand([[[10, 10], [1, 8]], [[10, 10], [10, 4]]])
    score = CollateralSurvey("none", -1.0, val, test).score
    assert score["lambda_"].tolist()[0] == -1.0
    assert np.isnan(score["lambda_"].iloc[-1])
    row = score.iloc[0]
    # changes measured a: -.8, -.1; b: 0, -.5; on val a: -.9, -.2; b: 0, -.6
    assert row["replay"] == pytest.approx((0.1 + 0.1 + 0.0 + 0.1) / 4)
    assert row["no_change"] == pytest.approx((0.8 + 0.1 + 0.0 + 0.5) / 4)
    assert row["gain"] == pytest.approx(row["no_change"] - row["replay"])
    expected = mean_interval(np.array([0.9 - 0.2, 0.5 - 0.1]) / 2)
    assert row[["gain", "gain_low", "gain_high"]].tolist() == pytest.approx(expected)
    assert row["acc_f_measured"] == pytest.approx((0.1 + 0.3) / 2)
    assert row["acc_f_replay"] == pytest.approx((0.1 + 0.4) / 2)
    assert row["acc_f_replay_error"] == pytest.approx(0.05)
    assert (row["gate"], row["n"]) == ("none", 2)


def test_the_last_row_is_over_all_and_tells_the_worst_error():
    test = by_hand([[[10, 10], [5, 10], [1, 10]], [[10, 10], [10, 5], [10, 1]]])
    val = by_hand([[[10, 10], [7, 10], [0, 10]], [[10, 10], [10, 7], [10, 0]]])
    score = CollateralSurvey("none", -1.0, val, test).score
    assert score["acc_f_replay_error"].tolist() == pytest.approx([0.2, -0.1, 0.2])
    last = score.iloc[-1]
    assert last["replay"] == pytest.approx((0.2 + 0.1) / 4)
    assert last["no_change"] == pytest.approx((0.5 + 0.9) / 4)
    assert last["acc_f_measured"] == pytest.approx((0.5 + 0.1) / 2)
    low = by_hand([[[10, 10], [6, 10], [4, 10]], [[10, 10], [10, 6], [10, 4]]])
    low = replace(low, hits=low.hits * [[[1], [1], [-0.5]]])
    assert CollateralSurvey("none", -1.0, low, test).score["acc_f_replay_error"].iloc[
        -1
    ] == pytest.approx(-0.3)


def test_who_pays_is_the_largest_loss_of_another_class():
    rng = np.random.default_rng(0)
    for targets in (CLASSES, CLASSES[:2]):
        for _ in range(20):
            hits = rng.integers(0, 40, (len(targets), 2, 3))
            test = Replayed(targets, CLASSES, (0.0, -1.5), hits, np.array([40, 50, 60]))
            survey = CollateralSurvey("none", -1.5, test, test)
            losses = {(t, c): survey.measured.loc[t, c] for t in targets for c in CLASSES if t != c}
            edited, other, change, n = survey.pays()
            assert change == losses[edited, other] == min(losses.values())
            assert n == test.count[CLASSES.index(other)]


@pytest.fixture(scope="module")
def exp(tmp_path_factory):
    return warmed(tmp_path_factory, lambda: small_experiment(data=splits(noise=90.0)))


@pytest.fixture(scope="module", params=["none", "margin"])
def survey(request, exp):
    return survey_collateral(exp, TARGETS, request.param, bounds=BOUNDS)


def edit_of(exp, target, gate):
    return exp.vectors[target].gated(exp.gate(target, gate))


def accuracies(classifier, features):
    r = Readout.of(classifier, features)
    return np.array([(r.predicted[r.y == i] == i).mean() for i in range(3)])


@pytest.mark.parametrize(("name", "split"), [("measured", "test"), ("forecast", "val")])
def test_matrices_are_the_change_of_every_class(exp, survey, name, split):
    table, features = getattr(survey, name), exp.features[split]
    assert (survey.lambda_, table.index.name, table.columns.name) == (-1.5, "edited", "class")
    assert (tuple(table.index), tuple(table.columns)) == (TARGETS, CLASSES)
    for target in TARGETS:
        edited = inject(exp.ft, -1.5 * edit_of(exp, target, survey.gate))
        change = accuracies(edited, features) - accuracies(exp.ft, features)
        np.testing.assert_allclose(table.loc[target], change, atol=1e-12)
        assert table.loc[target, target] < -0.3


def test_what_is_said_beforehand_reads_no_test_image(exp, survey):
    test = exp.features["test"]
    noise = replace(test, z=np.random.default_rng(0).normal(size=test.z.shape).astype(np.float32))
    blind = replace(exp)
    blind.__dict__.update(vectors=exp.vectors, features=exp.features | {"test": noise})
    again = survey_collateral(blind, TARGETS, survey.gate, bounds=BOUNDS)
    pd.testing.assert_frame_equal(again.forecast, survey.forecast)
    assert not again.measured.equals(survey.measured)


def test_the_strengths_of_a_survey(exp, survey):
    assert survey.score["lambda_"].tolist()[:-1] == [-0.5, -1.0, -1.5, -3.0]
    assert survey.score["gate"].eq(survey.gate).all()
    assert survey.score["n"].eq(2).all()
    found = survey_collateral(exp, ["green"], "margin", lambda_=-2, bounds=BOUNDS)
    edited = inject(exp.ft, -2 * edit_of(exp, "green", "margin"))
    test = exp.features["test"]
    np.testing.assert_allclose(
        found.measured.loc["green"], accuracies(edited, test) - accuracies(exp.ft, test), atol=1e-12
    )
    assert found.score["lambda_"].dropna().tolist() == [-0.5, -1.0, -2.0, -3.0]
    assert found.score["replay_low"].isna().all()  # one edited class has no interval


def test_the_gate_spares_the_others(exp):
    free, gated = (
        survey_collateral(exp, TARGETS, gate, bounds=BOUNDS) for gate in ("none", "margin")
    )
    others = [(t, name) for t in TARGETS for name in CLASSES if name != t]
    worst = [min(s.measured.loc[t, name] for t, name in others) for s in (free, gated)]
    assert worst[1] > -0.1
    assert worst[0] <= worst[1]


def test_unknown_names(exp):
    with pytest.raises(ClassvecError, match="pink"):
        survey_collateral(exp, ["red", "pink"], "none")
    with pytest.raises(ClassvecError, match="margins"):
        survey_collateral(exp, ["red"], "margins")
