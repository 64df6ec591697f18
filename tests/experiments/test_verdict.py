"""A verdict puts val beside test, and says the opposite where the opposite was found."""

from dataclasses import replace

import numpy as np
import pandas as pd
import pytest
from conftest import CLASSES, small_classifier
from small_experiments import (
    RECIPE,
    idle_experiment,
    small_experiment,
    splits,
    trained,
    warmed,
)

from classvec_lab import finetune, inject
from classvec_lab.editing import Bounds
from classvec_lab.editing.advice import MAPPINGS
from classvec_lab.editing.weights.mapping import map_edit
from classvec_lab.errors import EditError
from classvec_lab.experiments import study_says
from classvec_lab.experiments.methods import FINE_TUNED, RETRAINED
from classvec_lab.experiments.page import PAID, PROBED, verdict, verdicts_say
from classvec_lab.experiments.prospects import Editability
from classvec_lab.readout import Readout, predict
from classvec_lab.statistics import median, split_accuracy


def hardly_moved():
    """Fine-tuned from a model that is good already: class vectors of nearly no length."""
    good = small_experiment()
    options = {**RECIPE, "epochs": 1, "lr": 1e-5}
    tuned = finetune(
        good.ft, good.data["train"], val=good.data["val"], progress=False, cache=False, **options
    )
    return replace(good, pre=good.ft, ft=tuned.classifier)


def edited(exp, target, lambda_, way="predicted"):
    """What the class vector leaves of the test images, by default behind the model's own decision."""
    edit = lambda_ * exp.vectors[target]
    if way in MAPPINGS:
        z = map_edit(exp.ft, edit, exp.moments, method=MAPPINGS[way]).moved(exp.features["test"].z)
        return Readout.of(exp.ft, replace(exp.features["test"], z=z.astype(np.float32)))
    return Readout.of(inject(exp.ft, edit.gated(exp.gate(target, way))), exp.features["test"])


@pytest.fixture(scope="module")
def exp(tmp_path_factory):
    return warmed(tmp_path_factory, lambda: small_experiment(data=splits(noise=110.0)))


@pytest.fixture(scope="module")
def report(exp, tmp_path_factory):
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("CLASSVEC_DATA", str(tmp_path_factory.mktemp("verdict")))
        return verdict(exp, name="coloured", retrained=["green"], bounds=Bounds(threshold=0.04))


@pytest.fixture(scope="module")
def failing(tmp_path_factory):
    bounds = Bounds(false_fire=0.002)  # of which the page alone tells that 300 samples are too few
    return verdict(warmed(tmp_path_factory, hardly_moved), targets=["red", "blue"], bounds=bounds)


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
    pairs = report.geometry.equivalence((0.1,)).iloc[0]
    for found, column in (("shown", "inside"), ("refuted", "outside")):
        row = table.loc[f"pairs of classes {found} within ±0.1 of orthogonal"]
        assert (row["value"], row["n"], row["split"]) == (pairs[column], pairs["n_entries"], "val")
    for method, audit in ((m, report.audits[m]) for m in PROBED):
        assert (
            table.loc[f"probe on class green after {method}", "value"]
            == audit.get("probe")["value"]
        )
    retrained = table.loc["probe on class green in a model retrained without it"]
    (audit,) = report.study.audits([RETRAINED], "green").values()
    assert retrained["value"] == audit.get("probe")["value"]
    known = report.table.dropna(subset=["low", "high"])
    assert (
        (known["low"] <= known["value"] + 1e-12) & (known["value"] <= known["high"] + 1e-12)
    ).all()


def test_measured_is_the_change_under_each_class_vector_in_each_way(exp, report):
    base = Readout.of(exp.ft, exp.features["test"])
    assert list(report.collateral) == ["predicted", "none", "margin", "mapping, discriminant"]
    assert report.deployed is report.collateral["predicted"]
    assert tuple(report.paying) == PAID == ("none", "margin", "mapping, discriminant")
    for way, survey in report.collateral.items():
        assert survey.gate == way
        for target in exp.ft.classes:
            outcome = edited(exp, target, -1.5, way)
            for i, other in enumerate(exp.ft.classes):
                own = base.y == i
                change = (outcome.predicted[own] == i).mean() - (base.predicted[own] == i).mean()
                np.testing.assert_allclose(survey.measured.loc[target, other], change, atol=1e-12)
        gap = survey.forecast - survey.measured
        assert gap.abs().to_numpy().mean() < 0.1


def test_behind_the_models_own_decision_nobody_pays_and_elsewhere_somebody_may(report):
    """So the page asks who pays where there is somebody who can."""
    others = ~np.eye(3, dtype=bool)
    lost = {way: s.measured.to_numpy()[others].min() for way, s in report.collateral.items()}
    assert lost["predicted"] >= 0
    assert lost["none"] < 0
    assert not any(s.startswith("Who pays behind the gate 'predicted'") for s in report.says())
    assert sum(s.startswith("Behind the gate 'predicted' no other") for s in report.says()) == 1


@pytest.mark.parametrize("way", PAID)
def test_who_pays_is_said(report, way):
    """Planted: in one way the edit of red loses blue on test, then it gains."""
    survey = report.collateral[way]
    test = survey.test
    red, blue = test.targets.index("red"), test.classes.index("blue")
    start = {
        "none": "Who pays without a gate",
        "margin": "Who pays behind the gate 'margin'",
        "mapping, discriminant": "Who pays written into the weights (discriminant)",
    }[way]
    pays = (
        f"{start}, lambda = -1.5: others change by -13.3 points on average over all pairs of "
        "classes; most for blue, by -80.0 points when red is edited (n = 50)."
    )
    nobody = (
        f"{start}, lambda = -1.5: no class; others change by +0.0 points on average over all pairs "
        "of classes."
    )
    for left, said in ((10, pays), (50, nobody)):
        hits = np.repeat(test.hits[:, :1], len(test.lambdas), axis=1)  # nothing changes
        hits[:, 0, blue] = hits[:, :, blue] = 50
        hits[red, 1:, blue] = left
        planted = report.collateral | {way: replace(survey, test=replace(test, hits=hits))}
        says = replace(report, collateral=planted).says()
        assert said in says
        assert sum(s.startswith("Who pays") for s in says) == 3


def test_another_gate_that_is_deployed_has_its_survey(exp):
    found = verdict(exp, targets=["red", "blue"], deploy="cosine")
    assert list(found.collateral) == ["cosine", *PAID]
    assert found.deployed.gate == "cosine"
    assert not any("by construction" in s for s in found.says())
    assert found.study.find("class vector", "red").gate == "cosine"
    free = verdict(exp, targets=["red"], deploy="none")
    assert list(free.collateral) == list(PAID)
    assert free.deployed is free.collateral["none"]


def test_what_was_recommended_is_measured_on_test(report, failing):
    """One row a class that was edited; the sentence counts them."""
    for page, bound in ((report, 0.04), (failing, 0.02)):
        table = page.verdicts()
        study = page.study.table.query("method == 'recommended'").set_index("target")
        advice = page.editability.recommendation.set_index("class")
        assert table["class"].tolist() == list(page.study.outcomes)
        for row in table.itertuples():
            made, said = study.loc[row[1]], advice.loc[row[1]]
            assert (row.light, row.method, row.lambda_) == (
                said["light"],
                said["method"],
                made["lambda_"],
            )
            assert (row.acc_f, row.acc_r, row.n_f) == (made["acc_f"], made["acc_r"], 50)
            assert row.verdict == ("forgotten" if made["acc_f"] <= bound else "not forgotten")
        (said,) = (s for s in page.says() if s.startswith("The edits recommended"))
        gone = (table["acc_f"] <= bound).sum()
        assert f"forget {gone} of {len(table)} classes on test: ACC_f " in said
        assert f"ACC_f {100 * table['acc_f'].mean():.1f}% on average" in said
        assert f"ACC_r {100 * table['change_r'].mean():+.1f} points." in said
        worst = table.loc[table["acc_f"].idxmax()]
        assert (f"(most for {worst['class']}: ACC_f" in said) == (worst["acc_f"] > 0)


def test_an_edit_that_fails_on_test_is_said_to(report):
    table = report.verdicts()
    table["acc_f"] = [0.0, 0.5, 0.25]
    table["acc_f_low"], table["acc_f_high"] = 0.1, 0.6
    table["verdict"] = ["forgotten", "not forgotten", "not forgotten"]
    (said,) = verdicts_say(table.assign(change_r=[-0.1, -0.2, 0.0]))
    assert said == (
        "The edits recommended on validation forget 1 of 3 classes on test: ACC_f 25.0% on average "
        "(most for green: ACC_f 50.0% [10.0%, 60.0%] (n = 50)), ACC_r -10.0 points."
    )


def test_curves_are_those_of_the_edits(exp, report):
    curves = report.deployed.test.curves().set_index(["class", "lambda_"])
    for target in exp.ft.classes:
        r = edited(exp, target, -1.0)
        found = split_accuracy(r.predicted == r.y, r.y == r.index(target))
        assert curves.loc[(target, -1.0), list(found)].to_dict() == pytest.approx(found)
    at = report.deployed.score.set_index("lambda_")
    assert at.loc[-1.5, "acc_f_measured"] == pytest.approx(
        curves.xs(-1.5, level="lambda_")["acc_f"].mean()
    )


def test_val_decides_the_light(report, failing):
    assert isinstance(report.editability, Editability)
    assert report.light == report.editability.light == "green"
    assert failing.light == "red"
    for way, survey in report.collateral.items():
        own = report.editability.curves.query("method == 'class vector'")
        own = own[own["gate"] == way]
        expected = survey.val.curves()
        pd.testing.assert_frame_equal(own[list(expected)].reset_index(drop=True), expected)


def test_the_audited_class_is_the_one_with_a_reference(report, failing):
    assert (report.audited, failing.audited) == ("green", "red")
    assert "logit mask" not in report.audits
    assert all(audit.target == "green" for audit in report.audits.values())
    assert {"class vector", "mapping, retired to the mean"} <= set(report.audits)


def test_sentences_have_the_numbers_of_the_tables(report):
    says = report.says()
    beforehand = report.editability.says()
    assert says[: len(beforehand)] == beforehand
    at = report.deployed.score.set_index("lambda_").loc[-1.5]
    assert (
        "Measured on test at lambda = -1.5 behind the gate 'predicted': ACC_f "
        f"{at['acc_f_measured']:.1%}, on validation {at['acc_f_replay']:.1%} (mean over 3 classes)."
    ) in says
    every = report.deployed.score.iloc[-1]
    assert every["gain_low"] > 0  # val foretells test better than that nothing changes
    for method, audit in ((m, report.audits[m]) for m in PROBED):
        probe = audit.get("probe")
        expected = (
            f"Recoverable after {method}: a probe finds {probe['value']:.1%} "
            f"[{probe['low']:.1%}, {probe['high']:.1%}] of class green (n = 50); "
            f"in a model retrained without it {probe['retrained']:.1%}."
        )
        assert expected in says


def test_sentences_say_the_opposite_where_class_vectors_fail(report, failing):
    good, bad = " ".join(report.says()), " ".join(failing.says())
    assert "GREEN: " in good
    assert "RED: " in bad
    assert "forget 3 of 3 classes" in good
    assert "forget 0 of 3 classes" in bad
    assert "Recommended: class vector for 3 classes." in good
    assert "Recommended: retired to the mean for 3 classes." in bad
    assert "Who pays without a gate, lambda = -1.5: others change by -" in good
    assert "Who pays without a gate, lambda = -1.5: no class; others change by +0.0" in bad
    assert "ACC_f 100.0%, on validation 100.0% (mean over 2 classes)." in bad
    assert "Gates are calibrated" not in good
    assert bad.count("Gates are calibrated for 0.332%, the least that 300 validation samples") == 1
    assert "already names 100.0%" in bad
    assert "retrained without it" not in bad
    for survey in failing.collateral.values():
        assert survey.measured.abs().to_numpy().max() == 0


def test_routes_of_the_audited_class(exp, report, failing):
    routes = report.routes()
    assert set(routes["target"]) == {"green"}
    assert {RETRAINED, FINE_TUNED, "class vector", "logit mask"} <= set(routes["method"])
    np.testing.assert_allclose(routes.groupby("method")["share"].sum(), 1)
    predicted, y = report.study.find(FINE_TUNED, "green").predicted, exp.features["test"].y
    shares = routes[routes["method"] == FINE_TUNED].set_index("class")["share"]
    np.testing.assert_allclose(shares, np.bincount(predicted[y == 1], minlength=3) / 50)
    assert RETRAINED not in set(failing.routes()["method"])


def test_a_small_val_is_enough(exp):
    few = replace(exp, val=exp.val.subset(range(12)), test=exp.test.subset(range(9)))
    found = verdict(few, targets=["red"], retrained=["red"])
    assert set(found.study.table["gate"]) == {"none", "predicted", "margin"}
    assert any(s.startswith("Gates are calibrated for 11.1%, the least") for s in found.says())
    assert set(found.table.loc[found.table["split"] == "test", "n"]) == {9, 3}
    audit = found.audits["class vector"]  # six images of other classes are no membership attack
    assert np.isnan([audit.membership.members.value, audit.summary()["mia"].item()]).all()
    assert np.isfinite(audit.mean_gap)
    assert "points, MIA left out for too few images." in audit.says()[0]
    assert not any("nan" in s or "membership" in s for s in audit.says())


@pytest.mark.parametrize("n", [2, 3])
def test_two_classes_are_said_to_prove_nothing(tmp_path_factory, report, n):
    def make():
        data, classes = splits(noise=110.0), CLASSES[:2]
        return trained(small_classifier(classes), {s: d.only(classes) for s, d in data.items()})

    found = verdict(warmed(tmp_path_factory, make), targets=["red"]) if n == 2 else report
    two = [s for s in found.says() if s.startswith("With two classes, an edit that forgets one")]
    assert len(two) == (n == 2)
    text = study_says(found.study.table, n_classes=n)
    assert [s for s in text if s.startswith("With two classes")] == two
    assert text[0].startswith("Without a gate, where nothing but the class vectors' independence")
    assert text[1].startswith("The class vector behind the gate 'predicted'")


@pytest.mark.parametrize("n", [3, 5, 6, 10, 41])
def test_the_interval_of_a_median_covers_it(n):
    rng = np.random.default_rng(n)
    found = [median(rng.normal(size=n)) for _ in range(400)]
    if n < 6:  # even the whole range covers it too rarely
        assert np.isnan([e.low for e in found]).all()
    else:
        covered = np.mean([e.low <= 0 <= e.high for e in found])
        assert covered > 0.92
    values = pd.Series([3.0, 1.0, 2.0, np.nan])
    assert (median(values).value, median(values).n) == (2.0, 3)


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"targets": ["pink"]}, "no class 'pink'"),
        ({"targets": []}, "got none"),
        ({"retrained": ["pink"]}, "no target 'pink'; there are red, green, blue"),
        ({"targets": ["red"], "retrained": ["blue"]}, "no target 'blue'; there are red"),
        ({"targets": ["red"], "audited": "blue"}, "no target 'blue'; there are red"),
        ({"deploy": "predict"}, "no gate 'predict'"),
        ({"deploy": "mapping"}, "no gate 'mapping'"),
        ({"lambda_": 0.0}, r"lambdas must be finite and below 0; got \[0.0\]"),
        ({"lambda_": np.nan}, r"below 0; got \[nan\]"),
    ],
)
def test_typos_cost_no_work(options, message):
    with pytest.raises(EditError, match=message):
        verdict(idle_experiment(), **options)
