"""A verdict puts forecasts beside measurements, and says the opposite where the opposite was found."""

from dataclasses import replace

import numpy as np
import pandas as pd
import pytest
from small_experiments import RECIPE, idle_experiment, small_experiment, splits, warmed

from classvec_lab import finetune
from classvec_lab.errors import EditError
from classvec_lab.experiments import methods
from classvec_lab.experiments.forget import FINE_TUNED, RETRAINED
from classvec_lab.experiments.outlook import Editability
from classvec_lab.experiments.page import PROBED, _median, routed, verdict
from classvec_lab.readout import Readout, predict

QUICK = {"n_boot": 20, "n_random": 1, "progress": False}


def hardly_moved():
    """Fine-tuned from a model that is good already: class vectors of nearly no length."""
    good = small_experiment()
    options = {**RECIPE, "epochs": 1, "lr": 1e-5}
    tuned = finetune(
        good.ft, good.data["train"], val=good.data["val"], progress=False, cache=False, **options
    )
    return replace(good, pre=good.ft, ft=tuned.classifier)


@pytest.fixture(scope="module")
def exp(tmp_path_factory):
    return warmed(tmp_path_factory, lambda: small_experiment(data=splits(noise=110.0)))


@pytest.fixture(scope="module")
def report(exp, tmp_path_factory):
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("CLASSVEC_DATA", str(tmp_path_factory.mktemp("verdict")))
        return verdict(exp, name="coloured", retrained=["green"], **QUICK)


@pytest.fixture(scope="module")
def failing(tmp_path_factory):
    return verdict(warmed(tmp_path_factory, hardly_moved), targets=["red", "blue"], **QUICK)


def test_the_table_repeats_what_was_measured(exp, report):
    table = report.table.set_index("quantity")
    assert table.index.is_unique
    base = Readout.of(exp.ft, exp.features["test"])
    row = table.loc["accuracy of the fine-tuned model"]
    assert (row["value"], row["n"], row["split"]) == (
        (base.predicted == base.y).mean(),
        150,
        "test",
    )
    pre = exp.pre_features["val"]
    row = table.loc["head on the pre-trained representation"]
    assert (row["value"], row["n"]) == ((predict(exp.ft, pre) == pre.y).mean(), 450)
    assert (
        table.loc["share of |κ|² that the head reads, median", "value"]
        == report.editability.table["read_share"].median()
    )
    own = report.geometry.summary().iloc[0]["off_diagonal"]
    assert table.loc["mean cosine of κ to other classes' means", "value"] == own
    for method, audit in ((m, report.audits[m]) for m in PROBED):
        assert (
            table.loc[f"probe on class green after {method}", "value"]
            == audit.get("probe")["value"]
        )
    retrained = table.loc["probe on class green in a model retrained without it"]
    assert retrained["value"] == report.study.audit(RETRAINED, "green").get("probe")["value"]
    known = report.table.dropna(subset=["low", "high"])
    assert (
        (known["low"] <= known["value"] + 1e-12) & (known["value"] <= known["high"] + 1e-12)
    ).all()


def test_measured_is_the_change_under_each_class_vector(exp, report):
    base = Readout.of(exp.ft, exp.features["test"])
    for target in exp.ft.classes:
        outcome = methods.class_vector(exp, target, gate="predicted", lambda_=-1.5).readouts["test"]
        for i, other in enumerate(exp.ft.classes):
            own = base.y == i
            change = (outcome.predicted[own] == i).mean() - (base.predicted[own] == i).mean()
            np.testing.assert_allclose(report.measured.loc[target, other], change, atol=1e-12)
    assert report.forecast.shape == report.measured.shape
    assert (report.forecast - report.measured).abs().to_numpy().mean() < 0.1


def test_who_pays_is_the_largest_loss_of_another_class(exp, report):
    y, rng = exp.features["test"].y, np.random.default_rng(0)
    drawn = [report.measured + rng.normal(size=report.measured.shape) for _ in range(20)]
    for measured in (report.measured, *drawn, *(d.iloc[:2] for d in drawn)):
        losses = {
            (e, o): measured.loc[e, o] for e in measured.index for o in measured.columns if e != o
        }
        edited, other, change, n = replace(report, measured=measured).pays()
        assert change == losses[edited, other] == min(losses.values())
        assert n == (y == exp.ft.classes.index(other)).sum()
    planted = report.measured.copy()
    planted.loc["red", "blue"] = -0.75
    paying = replace(report, measured=planted)
    assert paying.pays() == ("red", "blue", -0.75, 50)
    assert (
        "Who pays: editing red changes blue's accuracy by -75.0 points (n = 50), the largest loss."
        in paying.says()
    )
    gaining = replace(report, measured=planted.abs())
    assert "Who pays: no other class loses accuracy under any class's edit." in gaining.says()


def test_curves_are_means_over_the_edited_classes(exp, report):
    curves = report.curves.set_index(["kind", "lambda_"])
    assert set(report.curves["kind"]) == {"forecast", "measured", "replayed on val"}
    accuracies = []
    for target in exp.ft.classes:
        r = methods.class_vector(exp, target, gate="predicted", lambda_=-1.0).readouts["test"]
        hit, own = r.predicted == r.y, r.y == r.index(target)
        accuracies.append([hit[own].mean(), hit[~own].mean()])
    np.testing.assert_allclose(
        curves.loc[("measured", -1.0), ["acc_f", "acc_r"]].astype(float),
        np.mean(accuracies, axis=0),
    )
    at = report.score.set_index("lambda_")
    assert at.loc[-1.5, "acc_f_measured"] == curves.loc[("measured", -1.5), "acc_f"]
    assert report.curves["n"].eq(3).all()


def test_the_light_is_the_forecasts(report, failing):
    assert isinstance(report.editability, Editability)
    assert report.light == report.editability.light == "green"
    assert (failing.light, failing.recommended) == ("red", "retired to the mean")
    assert report.recommended == "class vector"


def test_the_audited_class_is_the_one_with_a_reference(report, failing):
    assert (report.audited, failing.audited) == ("green", "red")
    assert "logit mask" not in report.audits
    assert all(audit.target == "green" for audit in report.audits.values())
    assert {"class vector", "mapping, retired to the mean"} <= set(report.audits)


def test_sentences_have_the_numbers_of_the_tables(report):
    says = report.says()
    assert says[:3] == report.editability.says()[:3]
    at, every = report.score.set_index("lambda_").loc[-1.5], report.score.iloc[-1]
    (measured,) = [
        s for s in says if s.startswith("Measured at lambda = -1.5 behind the gate 'predicted'")
    ]
    for number in (
        f"ACC_f {at['acc_f_measured']:.1%}, forecast {at['acc_f_forecast']:.1%} (mean over 3 classes)",
        f"{every['forecast']:.1%} against {every['no_change']:.1%}",
        f"{every['replay']:.1%}",
        "it beats",
    ):
        assert number in measured
    for method, audit in ((m, report.audits[m]) for m in PROBED):
        probe = audit.get("probe")
        expected = (
            f"Recoverable after {method}: a probe finds {probe['value']:.1%} [{probe['low']:.1%}, {probe['high']:.1%}] of class "
            f"green (n = 50); in a model retrained without it {probe['retrained']:.1%}."
        )
        assert expected in says


def test_sentences_say_the_opposite_where_class_vectors_fail(report, failing):
    good, bad = " ".join(report.says()), " ".join(failing.says())
    assert "GREEN: " in good
    assert "RED: " in bad
    assert "forecast to forget 3 of 3" in good
    assert "forecast to forget 0 of 3" in bad
    assert "Recommended for most classes: class vector." in good
    assert "Recommended for most classes: retired to the mean." in bad
    assert "it beats 'no change'" in good
    assert "it is not shown to beat 'no change'" in bad
    assert "already names 100.0%" in bad
    assert "retrained without it" not in bad
    worse = replace(report, score=report.score.assign(gain_low=-0.2, gain_high=-0.1))
    assert "it does not beat 'no change'" in " ".join(worse.says())
    assert failing.measured.abs().to_numpy().max() == 0


def test_routes_of_the_audited_class(report, failing):
    routes = routed(report)
    assert set(routes["target"]) == {"green"}
    assert {RETRAINED, FINE_TUNED, "class vector", "logit mask"} <= set(routes["method"])
    np.testing.assert_allclose(routes.groupby("method")["share"].sum(), 1)
    r = report.study.find(FINE_TUNED, "green").readouts["test"]
    shares = routes[routes["method"] == FINE_TUNED].set_index("class")["share"]
    np.testing.assert_allclose(shares, np.bincount(r.predicted[r.y == 1], minlength=3) / 50)
    assert RETRAINED not in set(routed(failing)["method"])


def test_without_enough_samples_for_a_margin_gate(exp):
    few = replace(exp, val=exp.val.subset(range(90)))
    found = verdict(few, targets=["red"], **QUICK)
    assert set(found.study.table["gate"]) == {"none", "predicted"}
    assert set(found.table.loc[found.table["split"] == "test", "n"]) == {150, 50}


@pytest.mark.parametrize("n", [3, 5, 6, 10, 41])
def test_the_interval_of_a_median_covers_it(n):
    rng = np.random.default_rng(n)
    rows = [_median("x", pd.Series(rng.normal(size=n))) for _ in range(400)]
    if n < 6:  # even the whole range covers it too rarely
        assert np.isnan([row["low"] for row in rows]).all()
    else:
        covered = np.mean([row["low"] <= 0 <= row["high"] for row in rows])
        assert covered > 0.92
    values = pd.Series([3.0, 1.0, 2.0, np.nan])
    assert (_median("x", values)["value"], _median("x", values)["n"]) == (2.0, 3)


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"targets": ["pink"]}, "no class 'pink'"),
        ({"targets": []}, "got none"),
        ({"retrained": ["pink"]}, "no class 'pink'"),
        ({"targets": ["red"], "retrained": ["blue"]}, "'blue' is none of red"),
        (
            {"targets": ["red"], "audited": "blue"},
            "the class to audit, 'blue', must be one of the targets red",
        ),
        ({"deploy": "predict"}, "no gate 'predict'"),
        ({"deploy": "mapping"}, "no gate 'mapping'"),
        ({"lambda_": 0.0}, "lambda_ must be finite and below 0; got 0.0"),
        ({"lambda_": np.nan}, "below 0; got nan"),
    ],
)
def test_typos_cost_no_work(options, message):
    with pytest.raises(EditError, match=message):
        verdict(idle_experiment(), **options, **QUICK)
