"""Curves of a gate are counts at each threshold; gates are compared at one strength, on both
splits.
"""

import numpy as np
import pandas as pd
import pytest
from small_experiments import idle_experiment, small_experiment, splits, warmed

from classvec_lab import inject
from classvec_lab.editing import gate_curve
from classvec_lab.errors import EditError
from classvec_lab.experiments.forget import forget_study
from classvec_lab.experiments.gate_choice import (
    compare_gates,
    compare_strengths,
    gate_choices,
    summarise_gates,
    summarise_strengths,
)
from classvec_lab.experiments.methods import measure
from classvec_lab.readout import predict
from classvec_lab.statistics import mean_interval

COLUMNS = [
    "gate", "guarantee", "target", "seed", "split", "false_fire", "miss", "sibling_fires",
    "sibling", "out_of_reach", "n_f", "acc_f", "acc_f_low", "acc_f_high", "n_r", "acc_r",
    "acc_r_low", "acc_r_high", "change_r",
]  # fmt: skip


@pytest.fixture(scope="module")
def exp(tmp_path_factory):
    return warmed(tmp_path_factory)


@pytest.fixture(scope="module")
def noisy(tmp_path_factory):
    """Classes that overlap: a gate of few false fires misses samples that are named rightly."""
    return warmed(tmp_path_factory, lambda: small_experiment(data=splits(noise=250.0)))


@pytest.fixture(scope="module")
def table(exp):
    return compare_gates(exp, ["red", "green"])


@pytest.mark.parametrize("score", ["margin", "cosine", "predicted", "discriminant"])
def test_a_curve_is_counted_at_each_threshold(exp, score):
    gate, features = exp.gate("green", score), exp.features["val"]
    curve = gate_curve(gate, features)
    scores = gate.scores(features.z)
    for _, row in curve.iterrows():
        fired = scores > row["threshold"]
        rates = [fired[features.y == i].mean() for i in (0, 2)]
        expected = [1 - fired[features.y == 1].mean(), fired[features.y != 1].mean(), max(rates)]
        np.testing.assert_allclose(
            [row["miss"], row["false_fire"], row["worst"]], expected, atol=1e-12
        )
    assert curve["threshold"].is_monotonic_increasing
    assert curve["chosen"].sum() == 1
    assert curve.loc[curve["chosen"], "threshold"].item() == gate.threshold
    assert (curve["threshold"].iloc[[0, -1]] == [scores.min(), scores.max()]).all()
    assert len(curve) in (200, 201)
    assert set(curve["target"]) | set(curve["score"]) == {"green", score}


def test_the_chosen_point_is_the_gates_own_rate(exp):
    gate = exp.gate("red", "margin")
    for split in ("val", "test"):
        features = exp.features[split]
        row = gate_curve(gate, features).set_index("chosen").loc[True]
        fired = gate.fires(features.z)
        np.testing.assert_allclose(row["false_fire"], fired[features.y != 0].mean())
        np.testing.assert_allclose(row["miss"], 1 - fired[features.y == 0].mean(), atol=1e-12)


def test_one_row_a_gate_target_and_split(table):
    assert list(table.columns) == COLUMNS
    assert len(table) == 7 * 2 * 2
    assert not table.duplicated(["gate", "target", "split"]).any()
    assert (table["seed"].eq(0).all(), table["n_f"].eq(50).sum()) == (True, len(table) // 2)


@pytest.mark.parametrize("score", ["margin", "predicted"])
def test_rows_agree_with_the_method(exp, table, score):
    (outcome,) = measure(
        exp, "mine", "red", lambda exp, t: (-1.5 * exp.vectors[t]).gated(exp.gate(t, score))
    )
    study = forget_study(
        exp, ["red"], {"mine": lambda exp, t: outcome.result}, progress=False
    ).table.iloc[0]
    row = table[
        (table["gate"] == score) & (table["target"] == "red") & (table["split"] == "test")
    ].iloc[0]
    r, fired = outcome.readouts("test")["test"], outcome.fired("test")
    own, hit = r.y == 0, r.predicted == r.y
    np.testing.assert_allclose([row["acc_f"], row["acc_r"]], [hit[own].mean(), hit[~own].mean()])
    np.testing.assert_allclose(
        [row["miss"], row["false_fire"]], [1 - fired[own].mean(), fired[~own].mean()]
    )
    assert row["sibling_fires"] == max(fired[r.y == 1].mean(), fired[r.y == 2].mean())
    right = predict(exp.ft, exp.features["test"]) == r.y
    assert row["out_of_reach"] == study["out_of_reach"] == (right & ~fired)[own].mean()
    np.testing.assert_allclose(
        [row["change_r"], study["change_r"]], hit[~own].mean() - right[~own].mean(), atol=1e-12
    )


def test_without_a_gate_nothing_fires_and_nothing_is_out_of_reach(exp, table):
    rows = table[table["gate"] == "none"]
    assert rows[["false_fire", "miss", "sibling_fires"]].isna().all(axis=None)
    assert rows["out_of_reach"].eq(0).all()
    for _, row in rows.iterrows():
        it = exp.features[row["split"]]
        hit = predict(inject(exp.ft, -1.5 * exp.vectors[row["target"]]), it) == it.y
        own = it.y == it.classes.index(row["target"])
        assert (row["acc_f"], row["acc_r"]) == (hit[own].mean(), hit[~own].mean())


def test_behind_the_models_own_decision_no_other_class_loses(table):
    """By construction; each other way of acting costs some class something."""
    assert table.loc[table["gate"] == "predicted", "change_r"].min() >= 0
    assert table.loc[table["gate"] != "predicted", "change_r"].min() < 0


@pytest.mark.parametrize("lambda_", [-1.5, -50.0])
def test_out_of_reach_bounds_acc_f_from_below_at_every_strength(noisy, monkeypatch, lambda_):
    monkeypatch.setattr("classvec_lab.experiments.gate_choice.LAMBDA", lambda_)
    table = compare_gates(noisy, ["red", "green"])
    assert (table["acc_f"] >= table["out_of_reach"] - 1e-12).all()
    hidden = table.groupby("gate")["out_of_reach"].max()
    assert hidden["margin"] > 0.1
    assert hidden[["none", "predicted", "margin, soft"]].eq(0).all()
    if lambda_ == -50:  # a soft gate lets the edit act on those, too
        left = table[table["gate"].isin(["margin", "margin, soft"])].groupby("gate")["acc_f"].max()
        assert left["margin"] == pytest.approx(hidden["margin"])
        assert left["margin, soft"] < hidden["margin"]


def test_soft_and_youden_gates_carry_no_guarantee(exp, table):
    guarantees = table.groupby("gate")["guarantee"].unique().map(list).to_dict()
    assert guarantees == {
        "cosine": ["marginal"], "margin": ["marginal"], "discriminant": ["marginal"],
        "predicted": ["none"], "margin, Youden": ["none"], "margin, soft": ["none"],
        "none": ["none"],
    }  # fmt: skip
    hard, soft = exp.gate("red", "margin"), gate_choices(exp, "red")["margin, soft"]
    assert soft.threshold == hard.threshold
    assert hard.temperature == 0 < soft.temperature
    weights = soft.weights(exp.features["val"].z)
    assert ((weights > 0.01) & (weights < 0.99)).any()
    np.testing.assert_array_equal(weights > 0.5, hard.fires(exp.features["val"].z))


def test_youdens_gate_is_the_best_of_its_curve(exp):
    gate = gate_choices(exp, "green")["margin, Youden"]
    curve = gate_curve(gate, exp.features["val"])
    loss = curve["miss"] + curve["false_fire"]
    np.testing.assert_allclose(loss[curve["chosen"]].item(), loss.min(), atol=1e-12)


def test_the_summary_averages_targets(table):
    found = summarise_gates(table).set_index(["gate", "split"])
    assert len(found) == 2 * 7
    assert found["n"].eq(2).all()
    assert found["unit"].eq("classes").all()
    part = table[(table["gate"] == "cosine") & (table["split"] == "test")]
    row = found.loc[("cosine", "test")]
    mean, low, high = mean_interval(part["false_fire"])
    np.testing.assert_allclose(
        [row["false_fire"], row["false_fire_low"], row["false_fire_high"]],
        [mean, max(low, 0), min(high, 1)],
    )
    assert (row["worst_acc_f"], row["worst_sibling"]) == (
        part["acc_f"].max(),
        part["sibling_fires"].max(),
    )


def test_the_same_call_gives_the_same_frame(exp, table):
    pd.testing.assert_frame_equal(compare_gates(exp, ["red", "green"]), table, check_exact=True)


def test_over_trainings_the_summary_averages_these(table):
    rates = {0: 0.01, 1: 0.03}
    several = pd.concat([table.assign(seed=s, false_fire=x) for s, x in rates.items()])
    found = summarise_gates(several)
    assert found["n"].eq(2).all()
    assert found["unit"].eq("classes × 2 trainings").all()
    expected = np.clip(mean_interval(list(rates.values())), 0, 1)
    names = ["false_fire", "false_fire_low", "false_fire_high"]
    np.testing.assert_allclose(found[names], np.tile(expected, (len(found), 1)))


@pytest.mark.parametrize(
    ("targets", "message"),
    [
        (["pink"], "no class 'pink'"),
        (["red", "pink"], "no class 'pink'"),
        ([], "got none"),
        (["red", "red"], "each class to edit once"),
    ],
)
def test_typos_cost_no_work(targets, message):
    with pytest.raises(EditError, match=message):
        compare_gates(idle_experiment(), targets)


def test_strengths_are_those_of_injected_models_and_the_chosen_one_is_vals(noisy):
    curves = compare_strengths(noisy, ["red", "blue"], ["none", "predicted", "margin"])
    test, right = noisy.features["test"], predict(noisy.ft, noisy.features["test"])
    for (target, gate), own in curves.groupby(["target", "gate"]):
        assert {-1.0, -1.5} <= set(own["lambda_"])
        (chosen,) = own.loc[own["chosen"], "lambda_"]
        assert chosen == noisy.strength(target, gate).best
        mine = test.y == test.classes.index(target)
        before = (right == test.y)[~mine].mean()
        for row in own[own["lambda_"].isin([-1.0, -2.0])].itertuples():
            edit = row.lambda_ * noisy.vectors[target].gated(noisy.gate(target, gate))
            hit = predict(inject(noisy.ft, edit), test) == test.y
            assert row.acc_f == pytest.approx(hit[mine].mean())
            assert row.change_r == pytest.approx(hit[~mine].mean() - before)
    table = summarise_strengths(curves)
    assert list(table.index) == list(range(9))
    for row in table.itertuples():
        rule = curves["chosen"] if row.rule == "chosen on val" else None
        rows = curves[curves["lambda_"] == float(row.rule) if rule is None else rule]
        rows = rows[rows["gate"] == row.gate]
        assert (row.n, row.acc_f) == (2, pytest.approx(rows["acc_f"].mean()))
        assert row.worst_acc_f == rows["acc_f"].max()


def test_the_chosen_strength_is_no_worse_than_fixed_ones_behind_the_models_decision(exp, noisy):
    for it in (exp, noisy):
        curves = compare_strengths(it, it.ft.classes, ["predicted"])
        left = summarise_strengths(curves).set_index("rule")["acc_f"]
        assert left["chosen on val"] <= min(left["-1"], left["-1.5"]) + 0.01
