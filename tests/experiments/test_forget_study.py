"""A study has one row a method and target, computed from the outcomes it keeps, and refuses typos
before any work.
"""

import copy
from dataclasses import replace

import numpy as np
import pandas as pd
import pytest
import torch
from small_experiments import idle_experiment, warmed

from classvec_lab import inject
from classvec_lab.editing.audit.metrics import js_divergence
from classvec_lab.errors import EditError, MismatchError
from classvec_lab.experiments.forget import forget_study, summarise_audits, summarise_methods
from classvec_lab.experiments.methods import (
    FINE_TUNED,
    RECOMMENDED,
    RETRAINED,
    VECTOR,
    standard_methods,
    training_methods,
)
from classvec_lab.readout import predict
from classvec_lab.statistics import crossed_mean, mean_interval, paired_change, rates

METHODS = standard_methods(n_random=2) | training_methods(["neggrad+"])
OPTIONS = {
    "targets": ["red", "blue"],
    "methods": METHODS,
    "only": {RETRAINED: ["red"], "NegGrad+": ["red"]},
    "progress": False,
}
EVERYWHERE = {
    (FINE_TUNED, "none"): 1, ("pre-trained", "none"): 1, ("logit mask", "none"): 1,
    (VECTOR, "none"): 1, (VECTOR, "predicted"): 2, (VECTOR, "margin"): 1, (VECTOR, "cosine"): 1,
    ("z_ft - μ", "predicted"): 1, ("head direction", "predicted"): 1,
    ("random vector", "predicted"): 2, ("head-aware class vector", "predicted"): 1,
    (RECOMMENDED, "predicted"): 1, ("mapping, class vector", "none"): 1,
    ("mapping, retired to the mean", "none"): 1, ("mapping, retired and scattered", "none"): 1,
    ("projection", "none"): 1, ("LEACE", "none"): 1,
}  # fmt: skip


@pytest.fixture(scope="module")
def exp(tmp_path_factory):
    return warmed(tmp_path_factory)


@pytest.fixture(scope="module")
def study(exp, tmp_path_factory):
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("CLASSVEC_DATA", str(tmp_path_factory.mktemp("study")))
        return forget_study(exp, **OPTIONS)


def test_one_row_a_method_setting_and_target(study):
    counts = {
        t: part.groupby(["method", "gate"]).size().to_dict()
        for t, part in study.table.groupby("target")
    }
    assert counts == {
        "blue": EVERYWHERE,
        "red": EVERYWHERE | {(RETRAINED, "none"): 1, ("NegGrad+", "none"): 1},
    }
    assert list(study.outcomes) == ["red", "blue"]
    assert len(study.table) == sum(map(len, study.outcomes.values()))
    assert study.table["split"].eq("test").all()
    assert "seconds" not in study.table


def test_rows_are_counts_of_the_outcomes(exp, study):
    outcomes = [o for found in study.outcomes.values() for o in found]
    test = exp.features["test"]
    base = predict(exp.ft, test) == test.y
    for (_, row), o in zip(study.table.iterrows(), outcomes, strict=True):
        index = test.classes.index(o.target)
        own, hit = test.y == index, o.predicted == test.y
        assert (row["method"], row["target"], row["gate"]) == (o.method, o.target, o.gate)
        assert (row["n_f"], row["n_r"], row["chosen"]) == (50, 100, o.chosen)
        assert (row["seed"], row["unedited_f"]) == (0, base[own].mean())
        np.testing.assert_allclose(
            [row["acc_f"], row["acc_r"]], [hit[own].mean(), hit[~own].mean()]
        )
        np.testing.assert_allclose(
            [row["acc_r_low"], row["acc_r_high"]], np.ravel(rates(hit[~own].sum(), 100)[1:])
        )
        np.testing.assert_allclose(
            row["change_r"], paired_change(base[~own], hit[~own]).value, atol=1e-12
        )
        np.testing.assert_equal([row["lambda_"], row["n_parameters"]], [o.lambda_, o.n_parameters])
        fired = o.fired("test")
        assert (fired is None) == (o.gate == "none")
        if fired is None:
            assert np.isnan([row["false_fire"], row["miss"], row["sibling_fires"]]).all()
            assert row["out_of_reach"] == 0
        else:
            np.testing.assert_allclose(
                [row["false_fire"], 1 - row["miss"]], [fired[~own].mean(), fired[own].mean()]
            )
            assert row["out_of_reach"] == (base & ~fired)[own].mean() <= row["acc_f"]
            worst = max(fired[test.y == i].mean() for i in range(3) if i != index)
            assert row["sibling_fires"] == worst
            assert fired[test.y == test.classes.index(row["sibling"])].mean() == worst


def test_routing_distance_is_to_the_retrained_model(exp, study):
    table, own = study.table.set_index(["target", "method"]), exp.features["test"].y == 0
    assert table.loc["blue", "routing_js"].isna().all()
    assert table.loc[("red", RETRAINED), "routing_js"] == 0
    counts = [
        np.bincount(study.find(method, "red").predicted[own], minlength=3)
        for method in ("logit mask", RETRAINED)
    ]
    np.testing.assert_allclose(
        table.loc[("red", "logit mask"), "routing_js"], js_divergence(*counts)
    )


def test_controls_stand_at_the_chosen_strength(exp, study):
    for target in ("red", "blue"):
        part = study.table[
            (study.table["target"] == target) & (study.table["gate"] == "predicted")
        ].set_index("method")
        chosen = study.find(VECTOR, target).lambda_
        assert chosen == exp.strength(target).best
        assert part.loc[["z_ft - μ", "head direction", "random vector"], "lambda_"].eq(chosen).all()
        assert part.loc[VECTOR, "lambda_"].tolist() == [chosen, -1.0]
        assert part.loc[VECTOR, "chosen"].tolist() == [True, False]
    draws = study.table.loc[study.table["method"] == "random vector", "draw"]
    assert draws.tolist() == [0, 1, 0, 1]


def test_without_a_gate_comes_first_and_the_main_gate_speaks(study):
    """Its row is the first of the class vector's; what is looked up is the edit to be deployed."""
    for target, part in study.table[study.table["method"] == VECTOR].groupby("target"):
        gates = ["none", "predicted", "predicted", "cosine", "margin"]
        assert part["gate"].tolist() == gates
        assert part["chosen"].tolist() == [True, True, False, True, True]
        outcome = study.first(target)[VECTOR]
        assert (outcome.gate, outcome.chosen) == ("predicted", True)
    (audit,) = study.audits([VECTOR], "red").values()
    main = study.table.query("method == @VECTOR and gate == 'predicted' and chosen")
    row = main.set_index("target").loc["red"]
    assert audit.get("ACC_f")["value"] == row["acc_f"]
    assert audit.get("worst sibling")["value"] == row["sibling_fires"]  # there is a gate


def test_columns_of_what_no_strength_reaches_of_keys_and_of_change(study):
    table = study.table
    assert (table["acc_f"] >= table["out_of_reach"] - 1e-12).all()
    assert table.loc[table["gate"] == "predicted", "change_r"].min() >= 0
    mapped = table["method"].str.startswith("mapping")
    assert table.loc[mapped, "keys"].isin(["nullspace", "discriminant"]).all()
    assert table.loc[~mapped, "keys"].eq("").all()
    assert study.summary()["out_of_reach"].notna().all()


def test_find(study):
    found = study.find(VECTOR, "red")
    assert (found.gate, found.chosen, found.target) == ("predicted", True, "red")
    assert study.first("red")[VECTOR] is found
    for call, message in (
        (
            {"method": "magic", "target": "red"},
            r"no outcome on 'red' of 'magic'; there are .*, logit mask, .*fine-tuned",
        ),
        ({"method": RETRAINED, "target": "blue"}, "no outcome on 'blue' of 'retrained without it'"),
        ({"method": "logit mask", "target": "green"}, "no target 'green'; there are red, blue"),
    ):
        with pytest.raises(EditError, match=message):
            study.find(**call)


def test_the_first_of_each_method_and_what_was_not_run_is_left_out(study):
    assert set(study.first("red")) == {name for name, _ in EVERYWHERE} | {RETRAINED, "NegGrad+"}
    wanted = ["logit mask", RETRAINED, "magic", VECTOR]
    assert list(study.first("red", wanted)) == ["logit mask", RETRAINED, VECTOR]
    assert list(study.first("blue", wanted)) == ["logit mask", VECTOR]
    assert study.first("red", []) == {}
    for read in (study.audits, study.routes):
        with pytest.raises(EditError, match="no target 'green'; there are red, blue"):
            read([VECTOR], "green")


def test_routes_add_up(study):
    for target, expected in (("red", {VECTOR, RETRAINED}), ("blue", {VECTOR})):
        routes = study.routes([VECTOR, RETRAINED, "magic"], target)
        assert set(routes["method"]) == expected
        assert routes["target"].eq(target).all()
        np.testing.assert_allclose(routes.groupby("method")["share"].sum(), 1)
        assert routes["n"].eq(50).all()


def test_audits_agree_with_the_table(study):
    for method, target in ((VECTOR, "red"), ("mapping, class vector", "blue")):
        audit = study.audits([method], target)[method]
        gate = "predicted" if method == VECTOR else "none"
        row = study.table[
            (study.table["method"] == method)
            & (study.table["target"] == target)
            & (study.table["gate"] == gate)
        ].iloc[0]
        assert (audit.get("ACC_f")["value"], audit.get("ACC_r")["value"]) == (
            row["acc_f"],
            row["acc_r"],
        )
        np.testing.assert_equal(audit.get("worst sibling")["value"], row["sibling_fires"])
        assert audit.leaves_encoder == row["leaves_encoder"]
        assert np.isfinite(audit.get("ACC_f")["retrained"]) == (target == "red")
    expected = study.table.set_index(["target", "method"]).loc[("red", "logit mask"), "routing_js"]
    np.testing.assert_allclose(
        study.audits(["logit mask"], "red")["logit mask"].get("routing JS")["value"], expected
    )


def test_audits_are_summarised_by_method(study):
    found = [study.audits([VECTOR, "logit mask", "magic"], t) for t in ("red", "blue")]
    assert [list(part) for part in found] == [[VECTOR, "logit mask"]] * 2
    made = [audit for part in found for audit in part.values()]
    joined = pd.concat([audit.summary() for audit in made])
    found = summarise_audits(joined.assign(seed=0)).set_index("method")
    assert list(found.index) == [VECTOR, "logit mask"]
    assert found["n"].tolist() == [2, 2]
    assert found["unit"].eq("classes").all()
    assert found["split"].eq("test").all()
    for method, row in found.iterrows():
        own = [a for a in made if a.method == method]
        values = {
            "ACC_f": [a.get("ACC_f")["value"] for a in own],
            "ACC_r": [a.get("ACC_r")["value"] for a in own],
            "probe": [a.get("probe")["value"] for a in own],
            "mia": [a.membership.members.value for a in own],
            "routing_js": [own[0].get("routing JS")["value"]],  # only red was retrained
            "mean_gap": [own[0].mean_gap],
            "cka_retrained": [own[0].get("CKA to retrained")["value"]],
        }
        for name, expected in values.items():
            mean, low, high = mean_interval(expected)
            np.testing.assert_allclose(row[name], mean, err_msg=name)
            np.testing.assert_allclose(
                [row[f"{name}_low"], row[f"{name}_high"]], np.clip([low, high], 0, 1), err_msg=name
            )
        assert (row["worst_probe"], row["worst_js"]) == (
            max(values["probe"]),
            values["routing_js"][0],
        )
        assert np.isnan(row["zrf"])  # no untrained network was given
        assert np.isnan(row["mean_gap_low"])


def audits(*cells):
    """Rows of joined summaries of audits."""
    columns = ["test_ACC_f", "test_ACC_r", "probe", "routing_js", "zrf", "cka_retrained", "mia"]
    start = dict.fromkeys([*columns, "mean_gap"], 0.5) | {"method": "m", "target": "a", "seed": 0}
    return pd.DataFrame([start | cell for cell in cells])


def test_the_worst_of_the_audits_is_the_largest():
    table = audits(
        {"probe": 0.2, "routing_js": 0.9}, {"probe": 0.8, "routing_js": 0.1, "target": "b"}
    )
    found = summarise_audits(table).iloc[0]
    np.testing.assert_allclose(
        found[["probe", "worst_probe", "routing_js", "worst_js"]].astype(float),
        [0.5, 0.8, 0.5, 0.9],
    )
    assert (found["probe_low"], found["probe_high"]) == (0, 1)


def test_audits_of_several_trainings_have_intervals_over_classes_and_trainings():
    values = {0: (0.10, 0.12, 0.11), 1: (0.30, 0.31, 0.32), 2: (0.20, 0.22, 0.21)}
    table = audits(
        *(
            {"seed": seed, "target": target, "probe": probe}
            for seed, part in values.items()
            for target, probe in zip("abc", part, strict=True)
        )
    )
    found = summarise_audits(table).iloc[0]
    assert (found["n"], found["unit"]) == (3, "classes × 3 trainings")
    assert found["worst_probe"] == 0.32
    expected = crossed_mean(table["probe"], table["target"], table["seed"])
    np.testing.assert_allclose(
        found[["probe", "probe_low", "probe_high"]].astype(float), np.clip(tuple(expected), 0, 1)
    )


def test_seconds_have_a_row_a_method_and_gate(study):
    seconds = study.seconds()
    assert not seconds.duplicated(["method", "gate"]).any()
    assert len(seconds) == len(EVERYWHERE) + 2
    assert (seconds["seconds"].dropna() >= 0).all()


def cell(**changes):
    row = {
        "method": "m", "family": "f", "gate": "margin", "chosen": False, "target": "a", "seed": 0,
        "lambda_": -1.0, "acc_f": 0.0, "acc_r": 1.0, "change_r": 0.0, "false_fire": 0.1,
        "miss": 0.0, "out_of_reach": 0.0, "sibling_fires": 0.2, "routing_js": np.nan, "n_parameters": 6.0,
    }  # fmt: skip
    return row | changes


def test_random_draws_are_averaged_before_the_targets():
    rows = [cell(acc_f=x, change_r=-x) for x in (0.2, 0.4, 0.6)]  # class a: three draws of mean .4
    rows += [cell(target="b", acc_f=0.8, sibling_fires=0.5, lambda_=-2.0)]
    found = summarise_methods(pd.DataFrame(rows)).iloc[0]
    mean, low, high = mean_interval([0.4, 0.8])
    np.testing.assert_allclose(
        [found["acc_f"], found["n"], found["lambda_"], found["change_r"]], [0.6, 2, -1.5, -0.2]
    )
    np.testing.assert_allclose(
        [mean, found["acc_f_low"], found["acc_f_high"]], [0.6, max(low, 0), min(high, 1)]
    )
    assert (found["worst_target"], found["worst_acc_f"], found["sibling_fires"]) == ("b", 0.8, 0.5)
    assert found["lowest_acc_f"] == 0.2  # of single draws: a control that forgets must be seen
    assert np.isnan(found["routing_js"])
    assert found["n_routing_js"] == 0


def test_seeds_and_settings_make_cells_and_rows():
    rows = [
        cell(acc_f=0.1),
        cell(acc_f=0.3, seed=1),
        cell(acc_f=0.9, chosen=True),
        cell(acc_f=0.7, gate="none", false_fire=np.nan),
    ]
    found = summarise_methods(pd.DataFrame(rows)).set_index(["gate", "chosen"])
    assert found["n"].eq(1).all()
    assert found["unit"].tolist() == ["class × 2 trainings", "class", "class"]
    np.testing.assert_allclose(found["acc_f"], [0.2, 0.9, 0.7])
    assert np.isnan(found.loc[("margin", True), "acc_f_low"])


def test_the_summary_counts_targets_not_draws(study):
    summary = study.summary().set_index(["method", "gate", "chosen"])
    assert summary.loc[("random vector", "predicted", False), "n"] == 2
    assert summary.loc[(RETRAINED, "none", False), "n"] == 1
    assert len(summary) == len(EVERYWHERE) + 1 + 2
    part = study.table[study.table["method"] == "random vector"]
    np.testing.assert_allclose(
        summary.loc[("random vector", "predicted", False), "acc_f"],
        part.groupby("target")["acc_f"].mean().mean(),
    )


def test_the_same_call_gives_the_same_frames(exp, study):
    again = forget_study(exp, **OPTIONS)
    pd.testing.assert_frame_equal(again.table, study.table, check_exact=True)
    pd.testing.assert_frame_equal(again.summary(), study.summary(), check_exact=True)


def test_another_main_gate_and_fewer_methods(exp):
    methods = standard_methods("predicted", ["predicted"], n_random=0)
    del methods["projection"], methods["LEACE"]
    study = forget_study(exp, ["green"], methods, progress=False)
    assert set(study.table["gate"]) == {"none", "predicted"}
    assert not {"projection", "LEACE", "random vector", RETRAINED} & set(study.table["method"])
    assert study.find(VECTOR, "green").gate == "predicted"


def test_a_way_of_ones_own_is_one_line_and_has_its_row(exp):
    methods = {FINE_TUNED: METHODS[FINE_TUNED]}
    methods["my way"] = lambda exp, target: inject(exp.ft, -2 * exp.vectors[target])
    study = forget_study(exp, ["red", "blue"], methods, progress=False)
    assert study.table["method"].tolist() == [FINE_TUNED, "my way"] * 2
    test, rows = exp.features["test"], study.table[study.table["method"] == "my way"]
    for target, row in rows.set_index("target").iterrows():
        hit = predict(inject(exp.ft, -2 * exp.vectors[target]), test) == test.y
        own = test.y == test.classes.index(target)
        assert (row["acc_f"], row["acc_r"]) == (hit[own].mean(), hit[~own].mean())
        assert (row["family"], row["gate"], row["leaves_encoder"]) == ("own", "none", True)
    (audit,) = study.audits(["my way"], "red").values()
    assert audit.get("ACC_f")["value"] == rows["acc_f"].iloc[0]
    assert study.summary()["method"].tolist() == [FINE_TUNED, "my way"]


def test_a_method_that_writes_to_the_model_is_noticed_at_the_next_target(exp):
    mine = replace(exp, ft=copy.deepcopy(exp.ft))

    def careless(exp, target):
        edited = inject(exp.ft, -2 * exp.vectors[target])
        with torch.no_grad():
            next(edited.encoder.parameters()).add_(1.0)
        return edited

    forget_study(mine, ["red"], {"careless": careless}, progress=False)
    mine = replace(exp, ft=copy.deepcopy(exp.ft))
    with pytest.raises(MismatchError, match="made for another model"):
        forget_study(mine, ["red", "blue"], {"careless": careless}, progress=False)


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"targets": ["pink"]}, "no class 'pink'; there are red"),
        ({"targets": []}, "at least one; got none"),
        ({"targets": ["red", "red"]}, "each class to edit once"),
        ({"only": {RETRAINED: ["pink"]}}, "no target 'pink'; there are red, green, blue"),
        ({"targets": ["red"], "only": {RETRAINED: ["blue"]}}, "no target 'blue'; there are red"),
        ({"only": {"negrad": ["red"]}}, "no method 'negrad'; there are fine-tuned"),
        (
            {"methods": None, "only": {RETRAINED: ["red"]}},
            "no method 'retrained without it'; there are fine-tuned",
        ),
    ],
)
def test_typos_cost_no_work(options, message):
    with pytest.raises(EditError, match=message):
        forget_study(idle_experiment(), **{"methods": METHODS, "progress": False} | options)


def test_a_mistake_in_another_method_costs_no_training(exp):
    methods = {
        RETRAINED: lambda exp, target: pytest.fail("retrained"),
        "mistaken": lambda exp, target: exp.gate(target, "euclid"),
    }
    with pytest.raises(MismatchError, match="no gate score 'euclid'"):
        forget_study(exp, ["red"], methods, only={RETRAINED: ["red"]}, progress=False)


def test_a_method_that_has_nothing_to_try_has_no_row(exp):
    methods = {
        FINE_TUNED: METHODS[FINE_TUNED],
        "picky": lambda exp, target: None if target == "red" else exp.vectors[target],
    }
    study = forget_study(exp, ["red", "green"], methods, progress=False)
    assert study.table.loc[study.table["method"] == "picky", "target"].tolist() == ["green"]
    assert ["picky" in study.first(target) for target in ("red", "green")] == [False, True]
