"""Forecasts from moments: exact without scatter, right for Gaussians, honest about what they are compared with."""

from dataclasses import replace

import numpy as np
import pandas as pd
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import nn

from classvec_lab import Classifier, ClassMoments, ClassVectors, CosineHead, Features
from classvec_lab.diagnostics.performance import confusion
from classvec_lab.editing.calibration import calibrate_gate
from classvec_lab.editing.injection import inject
from classvec_lab.editing.weights.mapping import map_edit
from classvec_lab.errors import EditError, MismatchError
from classvec_lab.experiments.forecast import (
    LinearMove,
    MomentModel,
    collateral_forecast,
    forecast,
    forecast_along,
    forecast_edits,
    student_df,
)
from classvec_lab.experiments.forecast_scores import replay_edits, score_forecast
from classvec_lab.gates import Gate
from classvec_lab.readout import predict

CLASSES = ("a", "b", "c", "d")
LAMBDAS = (0.0, -0.5, -1.0, -1.5, -2.5)


def head_of(weight, bias=None, scale=None):
    weight = torch.as_tensor(np.asarray(weight), dtype=torch.float32)
    if scale is not None:
        head = CosineHead(weight, scale)
    else:
        head = nn.Linear(weight.shape[1], len(weight))
        head.weight.data, head.bias.data = (
            weight,
            torch.as_tensor(np.zeros(len(weight)) if bias is None else bias).float(),
        )
    classes = CLASSES if len(weight) == 4 else tuple(map(str, range(len(weight))))
    return Classifier(nn.Identity(), head, classes=classes, preprocess=None)


def odd_head():
    head = nn.Sequential(nn.Linear(10, 4), nn.ReLU())
    head.in_features, head.out_features = 10, 4
    return Classifier(nn.Identity(), head, classes=CLASSES, preprocess=None)


class World:
    """Four Gaussian classes in ten dimensions, one covariance, with a linear or a cosine head that errs now and then."""

    def __init__(self, *, n=8000, noise=0.8, scale=None, seed=0, dim=10, df=None):
        rng = np.random.default_rng(seed)
        self.means = rng.normal(size=(4, dim)) * 1.5 + 1.0
        self.mix = noise * rng.normal(size=(dim, dim)) / np.sqrt(dim)
        weight = self.means - self.means.mean(axis=0) + 0.3 * rng.normal(size=(4, dim))
        self.classifier = head_of(
            weight,
            -0.5 * np.square(self.means).sum(axis=1) + np.square(self.means).sum(axis=1).mean() / 2,
            scale,
        )
        self.rng, self.dim, self.df = rng, dim, df
        self.train, self.val, self.test = (self.draw(n) for _ in range(3))
        z_pre = (
            self.means
            - 0.7 * (self.means - self.means.mean(axis=0))
            + 0.2 * rng.normal(size=(4, dim))
        )
        self.vectors = ClassVectors(z_pre, self.train.moments().mean, np.full(4, n // 4), CLASSES)

    def draw(self, n):
        y, noise = np.arange(n) % 4, self.rng.normal(size=(n, self.dim)) @ self.mix
        if self.df is not None:
            noise *= np.sqrt((self.df - 2) / self.rng.chisquare(self.df, (n, 1)))
        return Features(self.means[y] + noise, y, CLASSES)

    def model(self, **options):
        return MomentModel.from_features(self.classifier, self.train, self.val, **options)

    def gate(self, target, score):
        moments = self.train.moments(pooled_scatter=True)
        return calibrate_gate(
            self.val,
            self.vectors,
            target,
            score=score,
            false_fire=0.05,
            classifier=self.classifier,
            moments=moments,
        )

    def edits(self, score):
        edits = {c: self.vectors[c] for c in CLASSES}
        if score == "none":
            return edits
        if score == "mapping":
            return {c: map_edit(self.classifier, e, self.train) for c, e in edits.items()}
        if score == "soft":
            return {c: e.gated(self.gate(c, "margin").soft(0.2)) for c, e in edits.items()}
        return {c: e.gated(self.gate(c, score)) for c, e in edits.items()}


@pytest.fixture(scope="module", params=[None, 30.0], ids=["linear", "cosine"])
def world(request):
    return World(scale=request.param)


@pytest.mark.parametrize(
    "score", ["none", "predicted", "margin", "cosine", "discriminant", "soft", "mapping"]
)
def test_gaussian_classes_are_forecast_within_two_points(world, score):
    if score == "mapping" and isinstance(world.classifier.head, CosineHead):
        edits = {  # no weights to write into here, but the same kind of move
            c: LinearMove(m.keys, m.offsets, m.steps) for c, m in World().edits("mapping").items()
        }
    else:
        edits = world.edits(score)
    told = forecast_edits(world.model(), edits, LAMBDAS)
    seen = replay_edits(world.classifier, edits, world.test, LAMBDAS)
    pd.testing.assert_frame_equal(told.drop(columns="accuracy"), seen.drop(columns="accuracy"))
    changed = seen.set_index(["edited", "lambda_", "class"])["accuracy"].unstack("lambda_")
    assert (changed[0.0] - changed[-2.5]).max() > 0.5  # there was something to forecast
    assert (told["accuracy"] - seen["accuracy"]).abs().mean() < 0.01
    assert (told["accuracy"] - seen["accuracy"]).abs().max() < 0.04
    own = told["edited"] == told["class"]
    by_lambda = [f[own].groupby("lambda_")["accuracy"].mean() for f in (told, seen)]
    assert (by_lambda[0] - by_lambda[1]).abs().max() < 0.02


@pytest.mark.parametrize("df", [6.0, 9.0])
def test_degrees_of_freedom_are_found_and_gaussians_have_none(world, df):
    rng = np.random.default_rng(1)
    normals = rng.normal(size=(40000, 4)) @ rng.normal(size=(4, 6))  # four of six dimensions vary
    assert student_df(normals) is None
    assert student_df(np.zeros((5, 3))) is None
    assert world.model().df is None
    assert student_df(normals * np.sqrt((df - 2) / rng.chisquare(df, (40000, 1)))) == pytest.approx(
        df, rel=0.15
    )
    assert student_df(
        np.where(np.arange(40000)[:, None] % 100 == 0, 30, 1) * normals
    ) == pytest.approx(4.5, abs=0.2)


def test_heavy_tails_are_forecast_better_with_their_degrees_of_freedom():
    errors = {"student": [], "gaussian": []}
    for seed in range(3):
        world = World(df=5.0, seed=seed, noise=0.8)
        model = world.model()
        assert 4.5 <= model.df < 8
        edits = {c: world.vectors[c] for c in CLASSES}
        seen = replay_edits(world.classifier, edits, world.test, LAMBDAS)["accuracy"]
        for name, tried in (("student", model), ("gaussian", replace(model, df=None))):
            errors[name].append((forecast_edits(tried, edits, LAMBDAS)["accuracy"] - seen).abs())
    means = {name: [e.mean() for e in found] for name, found in errors.items()}
    assert (np.array(means["student"]) < 0.8 * np.array(means["gaussian"])).all(), means
    assert max(means["student"]) < 0.01


def test_a_gate_sees_the_same_tails_as_the_head():
    world = World(df=5.0, n=20000)
    weight = world.classifier.head.weight.detach().numpy().astype(float)
    scatter = world.mix.T @ world.mix
    row = np.linalg.svd(np.concatenate([weight @ scatter, world.means]))[2][
        -1
    ]  # unrelated to logits and to the class
    gate = Gate("a", CLASSES, "cosine", row[None], np.zeros(1), 0.67 * np.sqrt(row @ scatter @ row))
    edits = {c: (world.vectors[c].vector, gate) for c in CLASSES}
    own = {}
    for name, df in (("student", 5.0), ("gaussian", None)):
        own[name] = own_accuracy(
            forecast_edits(replace(world.model(n_draws=20000), df=df), edits, [-20.0])
        )
    seen = own_accuracy(replay_edits(world.classifier, edits, world.test, [-20.0]))
    assert own["student"] == pytest.approx(
        seen, abs=0.015
    )  # a quarter of a Gaussian lies above .67 σ, 21 % of a t5
    assert seen - own["gaussian"] > 0.02


def own_accuracy(frame):
    return frame[(frame["edited"] == frame["class"]) & (frame["lambda_"] < 0)]["accuracy"].mean()


@pytest.mark.parametrize("scale", [None, 10.0])
def test_without_scatter_the_forecast_is_the_fate_of_the_means(scale):
    rng = np.random.default_rng(3)
    means = rng.normal(size=(4, 6))
    classifier, y = head_of(means, scale=scale), np.repeat(np.arange(4), 3)
    features = Features(means[y], y, CLASSES)
    vectors = ClassVectors(means - rng.normal(size=(4, 6)), means, np.full(4, 3), CLASSES)
    unit = means / np.linalg.norm(means, axis=1, keepdims=True)
    gates = [
        Gate(c, CLASSES, "margin", unit, np.zeros(4), 0.05, own=i, rivals=True, normalise=True)
        for i, c in enumerate(CLASSES)
    ]
    for edits in (
        {c: vectors[c] for c in CLASSES},
        {c: vectors[c].gated(g) for c, g in zip(CLASSES, gates, strict=True)},
        {
            c: LinearMove(rng.normal(size=(2, 6)), rng.normal(size=2), rng.normal(size=(2, 6)))
            for c in CLASSES
        },
    ):
        told = forecast_edits(
            MomentModel.from_features(classifier, features, features, n_draws=7),
            edits,
            (-3.0, -1.5, 2.0),
        )
        seen = replay_edits(classifier, edits, features, (-3.0, -1.5, 2.0))
        assert set(seen["accuracy"]) == {0.0, 1.0}
        np.testing.assert_allclose(told["accuracy"], seen["accuracy"], atol=1e-12)


@pytest.mark.parametrize("df", [None, 2.2])
def test_features_and_moments_forecast_the_same(df):
    world = World(
        n=60, dim=30, df=df
    )  # fewer samples in a class than dimensions: the scatter has no full rank
    calls, model = predict(world.classifier, world.val), world.model()
    told = MomentModel.from_moments(
        world.classifier,
        world.train.moments(),
        world.val.moments(pooled_scatter=True),
        confusion(calls, world.val.y, CLASSES),
        df=model.df,
    )
    assert (model.df is None) == (df is None)
    np.testing.assert_allclose(
        told.factor.T @ told.factor, model.factor.T @ model.factor, atol=1e-12
    )
    for score in ("none", "predicted", "margin", "mapping"):
        if score == "margin":
            unit = world.means / np.linalg.norm(world.means, axis=1, keepdims=True)
            edit = world.vectors["b"].gated(
                Gate(
                    "b", CLASSES, score, unit, np.zeros(4), 0.1, own=1, rivals=True, normalise=True
                )
            )
        else:
            edit = world.edits(score)["b"]
        a, b = (forecast(m, edit, LAMBDAS) for m in (told, model))
        np.testing.assert_allclose(a, b, atol=0.002)  # rounding may turn a draw or two
        assert np.ptp(a) > 0.3


def test_lambda_zero_is_the_unedited_accuracy(world):
    calls = world.classifier.logits(torch.as_tensor(world.val.z).float()).argmax(1).numpy()
    right = [np.mean(calls[world.val.y == i] == i) for i in range(4)]
    assert min(right) < 1.0
    for model in (
        world.model(),
        replace(world.model(n_draws=50), df=5.0),
    ):  # the second shows few of the errors
        for score in ("none", "margin"):
            np.testing.assert_allclose(
                forecast(model, world.edits(score)["a"], [0.0])[0], right, atol=1e-12
            )


def test_behind_the_predicted_class_no_other_class_loses(world):
    model = world.model()
    for i, edit in enumerate(world.edits("predicted").values()):
        accuracy = forecast(model, edit, (0.0, -1.0, -4.0))
        others = np.delete(np.arange(4), i)
        assert (accuracy[1:, others] >= accuracy[0, others] - 1e-12).all()
        assert accuracy[2, i] < accuracy[0, i]


@given(scale=st.floats(0.01, 1000), stretch=st.floats(0.05, 20))
@settings(max_examples=15, deadline=None)
def test_a_cosine_head_knows_no_units(scale, stretch):
    world = COSINE
    edit = world.vectors["c"].gated(world.gate("c", "margin"))
    other = head_of(world.classifier.head.weight.numpy(), scale=scale)
    grown = [Features(f.z * stretch, f.y, CLASSES) for f in (world.train, world.val)]
    told = forecast(
        MomentModel.from_features(other, *grown), (edit.vector * stretch, edit.gate), LAMBDAS
    )
    np.testing.assert_allclose(told, forecast(COSINE_MODEL, edit, LAMBDAS), atol=0.002)


COSINE = World(n=800, scale=30.0, seed=2)
COSINE_MODEL = COSINE.model()


@given(lambda_=st.floats(-4, 4), seed=st.integers(0, 50))
@settings(max_examples=15, deadline=None)
def test_strength_is_length_and_draws_are_seeded(lambda_, seed):
    world, edit = COSINE, COSINE.vectors["a"]
    model = world.model(n_draws=200, seed=seed)
    a = forecast(model, edit, [lambda_])
    np.testing.assert_array_equal(a, forecast(world.model(n_draws=200, seed=seed), edit, [lambda_]))
    np.testing.assert_allclose(a, forecast(model, (lambda_ * edit.vector, None), [1.0]), atol=0.006)
    assert a.min() >= 0
    assert a.max() <= 1


def test_other_directions_behind_one_gate_are_as_if_each_were_forecast_alone(world):
    model, directions = world.model(n_draws=500), world.vectors.z_ft[:3]
    for score in ("none", "margin", "predicted"):
        edit = world.edits(score)["b"]
        together = forecast_along(model, edit, directions, LAMBDAS)
        alone = [forecast(model, (d, edit.gate), LAMBDAS) for d in directions]
        np.testing.assert_array_equal(together, alone)
    two = LinearMove(np.ones((2, 10)), np.zeros(2), np.ones((2, 10)))
    with pytest.raises(EditError, match="one step"):
        forecast_along(model, two, directions, LAMBDAS)


def test_errors_that_no_draw_shows_stay_errors():
    means = 50 * np.eye(4)
    classifier, y = head_of(means), np.repeat(np.arange(4), 10)
    z = means[y] + np.random.default_rng(0).normal(size=(40, 4))
    z[0] = means[1]  # one sample of a, out of its class by far
    moments = Features(z, y, CLASSES).moments(pooled_scatter=True)
    tight = ClassMoments.of(
        means[y] + 0.1 * (np.arange(40)[:, None] % 3), y, 4, pooled_scatter=True
    )
    shares = np.eye(4)
    shares[0, :2] = 0.9, 0.1
    told = forecast(
        MomentModel.from_moments(classifier, moments, tight, shares), (means[0], None), [0.0, 0.5]
    )
    np.testing.assert_allclose(told, [[0.9, 1, 1, 1]] * 2)
    shares[0] = [0, 0, 1, 0]  # nothing seen is drawn
    told = forecast(
        MomentModel.from_moments(classifier, moments, tight, shares), (means[0], None), [0.0, 0.5]
    )
    np.testing.assert_allclose(told, [[0, 1, 1, 1]] * 2)


def test_collateral_is_the_change_against_lambda_zero(world):
    edits, model = world.edits("none"), world.model()
    table = collateral_forecast(model, edits, -1.5)
    cells = forecast_edits(model, edits, [-1.5]).pivot(
        index=["edited", "class"], columns="lambda_", values="accuracy"
    )
    expected = (cells[-1.5] - cells[0.0]).unstack()
    np.testing.assert_allclose(
        table.to_numpy(), expected.loc[table.index, table.columns].to_numpy()
    )
    assert (table.index.name, table.columns.name) == ("edited", "class")
    assert table.to_numpy().min() < -0.5


def test_replaying_is_what_injection_does(world):
    for score in ("none", "margin", "soft"):
        edit = world.edits(score)["d"]
        seen = replay_edits(world.classifier, {"d": edit}, world.test, [-1.5]).set_index(
            ["lambda_", "class"]
        )["accuracy"]
        hit = predict(inject(world.classifier, -1.5 * edit), world.test) == world.test.y
        expected = [hit[world.test.y == i].mean() for i in range(4)]
        np.testing.assert_allclose(seen.loc[-1.5], expected, atol=0.001)


def frame(values):
    """Two classes, each edited at lambda 0 and -1: values (edited, lambda, class)."""
    index = pd.MultiIndex.from_product(
        [["a", "b"], [0.0, -1.0], ["a", "b"]], names=["edited", "lambda_", "class"]
    )
    return pd.DataFrame({"accuracy": np.ravel(values)}, index=index).reset_index()


def test_scores_by_hand():
    measured = frame([[[0.9, 0.8], [0.1, 0.7]], [[0.9, 0.8], [0.9, 0.3]]])
    told = frame([[[1.0, 1.0], [0.1, 0.8]], [[1.0, 1.0], [1.0, 0.4]]])
    score = score_forecast(told, measured, measured)
    assert score["lambda_"].tolist()[0] == -1.0
    assert np.isnan(score["lambda_"].iloc[-1])
    row = score.iloc[0]
    # changes measured a: -.8, -.1; b: 0, -.5; told a: -.9, -.2; b: 0, -.6
    assert row["forecast"] == pytest.approx((0.1 + 0.1 + 0.0 + 0.1) / 4)
    assert row["no_change"] == pytest.approx((0.8 + 0.1 + 0.0 + 0.5) / 4)
    assert row["replay"] == 0
    assert row["gain"] == pytest.approx(row["no_change"] - row["forecast"])
    assert row["gain_low"] < row["gain"] < row["gain_high"]
    assert row["acc_f_measured"] == pytest.approx(0.2)
    assert row["acc_f_error"] == pytest.approx(0.05)
    assert row["acc_f_replay_error"] == 0
    assert row["correlation"] == pytest.approx(1.0)  # of two changes, -.1 and 0 against -.2 and 0
    assert row["n"] == 2
    with pytest.raises(MismatchError, match="'replay' covers other"):
        score_forecast(told, measured, measured.iloc[1:])
    still = measured[measured["lambda_"] == 0]
    with pytest.raises(MismatchError, match="lambda 0 and at least one other"):
        score_forecast(still, still, still)


def test_the_last_row_tells_the_worst_error():
    base = {"edited": "a", "class": "a"}
    measured = pd.DataFrame(
        [{**base, "lambda_": x, "accuracy": a} for x, a in ((0, 1.0), (-1, 0.5), (-2, 0.1))]
    )
    told = measured.assign(accuracy=[1.0, 0.7, 0.0])
    assert score_forecast(told, measured, measured)["acc_f_error"].tolist() == pytest.approx(
        [0.2, -0.1, 0.2]
    )
    low = measured.assign(accuracy=[1.0, 0.6, -0.2])
    assert score_forecast(low, measured, measured)["acc_f_error"].iloc[-1] == pytest.approx(-0.3)


def test_bad_input_is_named():
    world = COSINE
    train, val = world.train, world.val
    kept = val.y != 2
    without_c = Features(val.z[kept], val.y[kept], CLASSES)
    with pytest.raises(MismatchError, match="no sample of class c in the validation set"):
        MomentModel.from_features(world.classifier, train, without_c)
    with pytest.raises(MismatchError, match="no sample of class c in the training features"):
        MomentModel.from_features(world.classifier, without_c, val)
    with pytest.raises(MismatchError, match="the validation features have 9"):
        MomentModel.from_features(world.classifier, train, Features(val.z[:, :9], val.y, CLASSES))
    with pytest.raises(MismatchError, match="the training features"):
        MomentModel.from_features(
            world.classifier, Features(train.z, train.y, ("a", "b", "c", "e")), val
        )
    with pytest.raises(MismatchError, match="4 validation samples of 4 classes"):
        MomentModel.from_features(world.classifier, train, Features(val.z[:4], val.y[:4], CLASSES))
    with pytest.raises(MismatchError, match="pooled_scatter=True"):
        MomentModel.from_moments(world.classifier, train.moments(), val.moments(), np.eye(4))
    with pytest.raises(MismatchError, match="no empty row"):
        MomentModel.from_moments(
            world.classifier, train.moments(), val.moments(pooled_scatter=True), np.zeros((4, 4))
        )
    with pytest.raises(MismatchError, match="3 classes and the classifier 4"):
        MomentModel.from_moments(
            world.classifier, ClassMoments(3, 10), val.moments(pooled_scatter=True), np.eye(4)
        )
    for df in (2.0, np.nan, np.inf):
        with pytest.raises(MismatchError, match=f"above 2 degrees of freedom; got df={df}"):
            MomentModel.from_moments(
                world.classifier,
                train.moments(),
                val.moments(pooled_scatter=True),
                np.eye(4),
                df=df,
            )
    with pytest.raises(MismatchError, match="at least one draw"):
        world.model(n_draws=0)
    with pytest.raises(EditError, match="not Sequential"):
        MomentModel.from_features(odd_head(), train, val)
    model, edit = COSINE_MODEL, world.vectors["a"]
    with pytest.raises(EditError, match="finite numbers"):
        forecast(model, edit, [np.nan])
    with pytest.raises(MismatchError, match="the edit has 5 dimensions"):
        forecast(model, (np.ones(5), None), [-1.0])
    narrow = Gate("a", CLASSES, "cosine", np.ones((1, 5)), np.zeros(1), 0.0, normalise=True)
    with pytest.raises(MismatchError, match="reads 5 dimensions and the model has 10"):
        forecast(model, (edit.vector, narrow), [-1.0])
    with pytest.raises(MismatchError, match="its gate or keys 5"):
        forecast(model, (edit.vector, narrow.at(0.0, normalise=False)), [-1.0])
    with pytest.raises(MismatchError, match="a finite vector"):
        forecast(model, (np.full(10, np.inf), None), [-1.0])
    with pytest.raises(MismatchError, match="by the class they edit"):
        forecast_edits(model, {"kappa": edit}, [-1.0])
    with pytest.raises(MismatchError, match="by the class they edit"):
        collateral_forecast(model, {}, -1.0)
    other = ClassVectors(world.vectors.z_pre, world.vectors.z_ft, np.ones(4), ("p", "q", "r", "s"))[
        "p"
    ]
    with pytest.raises(MismatchError, match="other classes than the model"):
        forecast(model, other, [-1.0])
