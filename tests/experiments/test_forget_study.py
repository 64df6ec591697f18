"""A study has one row a method and target, computed from the outcomes it keeps, and refuses typos before any work."""

from dataclasses import replace
from types import SimpleNamespace

import numpy as np
import pandas as pd
import pytest
from small_experiments import idle_experiment, small_experiment, warmed

from classvec_lab.editing.audit.metrics import js_divergence
from classvec_lab.errors import EditError
from classvec_lab.experiments.forget import (
    FINE_TUNED,
    RETRAINED,
    forget_study,
    summarise,
    summarise_audits,
)
from classvec_lab.statistics import mean_interval, paired_change, wilson

OPTIONS = {
    "targets": ["red", "blue"],
    "retrained": ["red"],
    "trained": ["neggrad+"],
    "n_random": 2,
    "progress": False,
}
EVERYWHERE = {
    (FINE_TUNED, "none"): 1, ("pre-trained", "none"): 1, ("logit mask", "none"): 1, ("class vector", "margin"): 2,
    ("class vector", "none"): 1, ("class vector", "cosine"): 1, ("class vector", "predicted"): 1, ("z_ft - μ", "margin"): 1,
    ("head direction", "margin"): 1, ("random vector", "margin"): 2, ("head-aware class vector", "predicted"): 1,
    ("mapping, class vector", "none"): 1, ("mapping, retired to the mean", "none"): 1,
    ("mapping, retired and scattered", "none"): 1, ("projection", "none"): 1, ("LEACE", "none"): 1,
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


def test_rows_are_counts_of_the_outcomes(study):
    outcomes = [o for found in study.outcomes.values() for o in found]
    for (_, row), o in zip(study.table.iterrows(), outcomes, strict=True):
        r = o.readouts["test"]
        own, hit = r.y == r.index(o.target), r.predicted == r.y
        base = study.find(FINE_TUNED, o.target).readouts["test"]
        assert (row["method"], row["target"], row["gate"]) == (o.method, o.target, o.gate)
        assert (row["n_f"], row["n_r"], row["chosen"]) == (50, 100, o.strength is not None)
        np.testing.assert_allclose(
            [row["acc_f"], row["acc_r"]], [hit[own].mean(), hit[~own].mean()]
        )
        np.testing.assert_allclose(
            [row["acc_r_low"], row["acc_r_high"]], np.ravel(wilson(hit[~own].sum(), 100))
        )
        before = (base.predicted == base.y)[~own]
        np.testing.assert_allclose(
            row["change_r"], paired_change(before, hit[~own]).value, atol=1e-12
        )
        np.testing.assert_equal([row["lambda_"], row["n_parameters"]], [o.lambda_, o.n_parameters])
        if o.fired is None:
            assert np.isnan([row["false_fire"], row["miss"], row["sibling_fires"]]).all()
        else:
            fired = o.fired["test"]
            np.testing.assert_allclose(
                [row["false_fire"], 1 - row["miss"]], [fired[~own].mean(), fired[own].mean()]
            )
            worst = max(fired[r.y == i].mean() for i in range(3) if i != r.index(o.target))
            assert row["sibling_fires"] == worst
            assert fired[r.y == r.index(row["sibling"])].mean() == worst


def test_routing_distance_is_to_the_retrained_model(study):
    table = study.table.set_index(["target", "method"])
    assert table.loc["blue", "routing_js"].isna().all()
    assert table.loc[("red", RETRAINED), "routing_js"] == 0
    counts = []
    for method in ("logit mask", RETRAINED):
        r = study.find(method, "red").readouts["test"]
        counts.append(np.bincount(r.predicted[r.y == 0], minlength=3))
    np.testing.assert_allclose(
        table.loc[("red", "logit mask"), "routing_js"], js_divergence(*counts)
    )


def test_controls_stand_at_the_chosen_strength(study):
    for target in ("red", "blue"):
        part = study.table[
            (study.table["target"] == target) & (study.table["gate"] == "margin")
        ].set_index("method")
        chosen = study.find("class vector", target).lambda_
        assert part.loc[["z_ft - μ", "head direction", "random vector"], "lambda_"].eq(chosen).all()
        assert part.loc["class vector", "lambda_"].tolist() == [chosen, -1.0]
    draws = study.table.loc[study.table["method"] == "random vector", "draw"]
    assert draws.tolist() == [0, 1, 0, 1]


def test_find(study):
    assert study.find("class vector", "red").gate == "margin"
    assert study.find("class vector", "red").strength is not None
    assert study.find("class vector", "red", gate="cosine").gate == "cosine"
    published = study.find("class vector", "red", chosen=False)
    assert (published.lambda_, published.strength, published.target) == (-1.0, None, "red")
    for call, message in (
        (
            {"method": "magic", "target": "red"},
            "no outcome of 'magic' on 'red' here; there are fine-tuned, pre-trained",
        ),
        ({"method": RETRAINED, "target": "blue"}, "no outcome of 'retrained without it' on 'blue'"),
        ({"method": "logit mask", "target": "green"}, "on 'green' here; the targets are red, blue"),
        (
            {"method": "class vector", "target": "red", "gate": "discriminant"},
            r"behind 'discriminant'.*class vector \(cosine\)",
        ),
        ({"method": "logit mask", "target": "red", "chosen": False}, "at lambda = -1"),
    ):
        with pytest.raises(EditError, match=message):
            study.find(**call)


def test_collateral_is_the_change_of_every_class(study):
    table = study.collateral()
    assert (list(table.index), list(table.columns)) == (["red", "blue"], ["red", "green", "blue"])
    before, after = (study.find(m, "red").readouts["test"] for m in (FINE_TUNED, "class vector"))
    for i, name in enumerate(table.columns):
        own = before.y == i
        change = (after.predicted[own] == i).mean() - (before.predicted[own] == i).mean()
        np.testing.assert_allclose(table.loc["red", name], change, atol=1e-12)
    pd.testing.assert_frame_equal(table, study.collateral(gate="margin"))
    assert np.diag(study.collateral("logit mask")[["red", "blue"]]).max() < 0


def test_routes_add_up(study):
    routes = study.routes(["class vector", RETRAINED])
    assert set(zip(routes["method"], routes["target"], strict=True)) == {
        ("class vector", "red"), ("class vector", "blue"), (RETRAINED, "red"),
    }  # fmt: skip
    np.testing.assert_allclose(routes.groupby(["method", "target"])["share"].sum(), 1)
    assert routes["n"].eq(50).all()
    with pytest.raises(EditError, match="no outcome of 'magic'"):
        study.routes(["magic"])


def test_audits_agree_with_the_table(study):
    for method, target in (("class vector", "red"), ("mapping, class vector", "blue")):
        audit = study.audit(method, target)
        row = study.table[
            (study.table["method"] == method) & (study.table["target"] == target)
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
        study.audit("logit mask", "red").get("routing JS")["value"], expected
    )


def test_audits_are_summarised_by_method(study):
    made = [study.audit(m, t) for t in ("red", "blue") for m in ("class vector", "logit mask")]
    found = summarise_audits(iter(made)).set_index("method")
    assert list(found.index) == ["class vector", "logit mask"]
    assert found["n"].tolist() == [2, 2]
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


def test_the_worst_of_the_audits_is_the_largest():
    columns = ["test_ACC_f", "test_ACC_r", "zrf", "cka_retrained", "mia", "mean_gap"]
    cells = [
        dict.fromkeys(columns, 0.5) | {"method": "m", "probe": p, "routing_js": js}
        for p, js in ((0.2, 0.9), (0.8, 0.1))
    ]
    found = summarise_audits(
        SimpleNamespace(summary=lambda c=c: pd.DataFrame([c])) for c in cells
    ).iloc[0]
    np.testing.assert_allclose(
        found[["probe", "worst_probe", "routing_js", "worst_js"]].astype(float),
        [0.5, 0.8, 0.5, 0.9],
    )
    assert (found["probe_low"], found["probe_high"]) == (0, 1)


def test_seconds_have_a_row_a_method_and_gate(study):
    seconds = study.seconds()
    assert not seconds.duplicated(["method", "gate"]).any()
    assert len(seconds) == len(EVERYWHERE) + 2
    assert (seconds["seconds"].dropna() >= 0).all()


def cell(**changes):
    row = {
        "method": "m", "family": "f", "gate": "margin", "chosen": False, "target": "a", "seed": 0, "lambda_": -1.0, "acc_f": 0.0,
        "acc_r": 1.0, "change_r": 0.0, "false_fire": 0.1, "miss": 0.0, "sibling_fires": 0.2, "routing_js": np.nan,
        "n_parameters": 6.0,
    }  # fmt: skip
    return row | changes


def test_random_draws_are_averaged_before_the_targets():
    rows = [cell(acc_f=x, change_r=-x) for x in (0.2, 0.4, 0.6)]  # class a: three draws of mean .4
    rows += [cell(target="b", acc_f=0.8, sibling_fires=0.5, lambda_=-2.0)]
    found = summarise(pd.DataFrame(rows)).iloc[0]
    mean, low, high = mean_interval([0.4, 0.8])
    np.testing.assert_allclose(
        [found["acc_f"], found["n"], found["lambda_"], found["change_r"]], [0.6, 2, -1.5, -0.2]
    )
    np.testing.assert_allclose(
        [mean, found["acc_f_low"], found["acc_f_high"]], [0.6, max(low, 0), min(high, 1)]
    )
    assert (found["worst_target"], found["worst_acc_f"], found["sibling_fires"]) == ("b", 0.8, 0.5)
    assert np.isnan(found["routing_js"])


def test_seeds_and_settings_make_cells_and_rows():
    rows = [
        cell(acc_f=0.1),
        cell(acc_f=0.3, seed=1),
        cell(acc_f=0.9, chosen=True),
        cell(acc_f=0.7, gate="none", false_fire=np.nan),
    ]
    found = summarise(pd.DataFrame(rows)).set_index(["gate", "chosen"])
    assert found["n"].to_dict() == {("margin", False): 2, ("margin", True): 1, ("none", False): 1}
    np.testing.assert_allclose(found["acc_f"], [0.2, 0.9, 0.7])
    assert np.isnan(found.loc[("margin", True), "acc_f_low"])


def test_the_summary_counts_targets_not_draws(study):
    summary = study.summary().set_index(["method", "gate", "chosen"])
    assert summary.loc[("random vector", "margin", False), "n"] == 2
    assert summary.loc[(RETRAINED, "none", False), "n"] == 1
    assert len(summary) == len(EVERYWHERE) + 1 + 2
    part = study.table[study.table["method"] == "random vector"]
    np.testing.assert_allclose(
        summary.loc[("random vector", "margin", False), "acc_f"],
        part.groupby("target")["acc_f"].mean().mean(),
    )


def test_the_same_call_gives_the_same_frames(exp, study):
    again = forget_study(exp, **OPTIONS)
    pd.testing.assert_frame_equal(again.table, study.table, check_exact=True)
    pd.testing.assert_frame_equal(again.summary(), study.summary(), check_exact=True)


def test_another_main_gate_and_no_erasers(exp):
    study = forget_study(
        exp,
        ["green"],
        gates=["predicted"],
        main_gate="predicted",
        n_random=0,
        erasers=False,
        progress=False,
    )
    assert set(study.table["gate"]) == {"none", "predicted"}
    assert not {"projection", "LEACE", "random vector", RETRAINED} & set(study.table["method"])
    np.testing.assert_array_equal(study.collateral(), study.collateral(gate="predicted"))


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"targets": ["pink"]}, "no class 'pink'; there are red"),
        ({"targets": []}, "at least one; got none"),
        ({"targets": ["red", "red"]}, "each class to edit once"),
        ({"retrained": ["pink"]}, "no class 'pink'"),
        ({"targets": ["red"], "retrained": ["blue"]}, "'blue' is none of red"),
        ({"trained": ["negrad"]}, "no baseline 'negrad'; there are retain, neggrad"),
        ({"gates": ["margin", "margins"]}, "no gate 'margins'; there are none, margin"),
        (
            {"gates": ["none", "cosine"]},
            "the main gate 'margin' must be one of the gates tried, none, cosine",
        ),
    ],
)
def test_typos_cost_no_work(options, message):
    with pytest.raises(EditError, match=message):
        forget_study(idle_experiment(), **options, progress=False)


def test_too_few_samples_for_a_gate_cost_no_training(monkeypatch, tmp_path_factory):
    few = small_experiment()
    few = replace(few, val=few.val.subset(range(90)))
    monkeypatch.setattr(
        "classvec_lab.experiments.methods.retrained", lambda *_: pytest.fail("retrained")
    )
    with pytest.raises(EditError, match=r"needs at least 99 .* there are 60"):
        forget_study(few, ["red"], retrained=None, progress=False)


def test_a_class_that_is_never_named_on_val_has_no_head_aware_edit(exp, monkeypatch):
    monkeypatch.setattr(
        "classvec_lab.experiments.forget._named", lambda exp, target: target != "red"
    )
    study = forget_study(
        exp,
        ["red", "green"],
        gates=("none",),
        main_gate="none",
        n_random=1,
        erasers=False,
        progress=False,
    )
    made = study.table.loc[study.table["method"] == "head-aware class vector", "target"]
    assert made.tolist() == ["green"]
