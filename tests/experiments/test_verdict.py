"""A verdict puts val beside test, and says the opposite where the opposite was found."""

from dataclasses import replace

import numpy as np
import pandas as pd
import pytest
from small_experiments import RECIPE, idle_experiment, small_experiment, splits, warmed

from classvec_lab import finetune, inject
from classvec_lab.editing import Bounds
from classvec_lab.errors import EditError
from classvec_lab.experiments.methods import FINE_TUNED, RETRAINED
from classvec_lab.experiments.page import PROBED, verdict
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


def edited(exp, target, lambda_):
    """What the class vector behind the model's own decision leaves of the test images."""
    edit = lambda_ * exp.vectors[target].gated(exp.gate(target, "predicted"))
    return Readout.of(inject(exp.ft, edit), exp.features["test"])


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
    own = report.geometry.summary().iloc[0]["off_diagonal"]
    assert table.loc["mean cosine of κ to other classes' means", "value"] == own
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


def test_measured_is_the_change_under_each_class_vector(exp, report):
    base = Readout.of(exp.ft, exp.features["test"])
    for target in exp.ft.classes:
        outcome = edited(exp, target, -1.5)
        for i, other in enumerate(exp.ft.classes):
            own = base.y == i
            change = (outcome.predicted[own] == i).mean() - (base.predicted[own] == i).mean()
            np.testing.assert_allclose(
                report.collateral.measured.loc[target, other], change, atol=1e-12
            )
    gap = report.collateral.forecast - report.collateral.measured
    assert gap.abs().to_numpy().mean() < 0.1


def test_who_pays_is_said(report):
    """Planted: the edit of red loses blue on test, then it gains."""
    test = report.collateral.test
    red, blue = test.targets.index("red"), test.classes.index("blue")
    pays = (
        "Who pays: editing red changes blue's accuracy by -80.0 points (n = 50), the largest loss."
    )
    nobody = "Who pays: no other class loses accuracy under any class's edit."
    for left, said in ((10, pays), (50, nobody)):
        hits = np.repeat(test.hits[:, :1], len(test.lambdas), axis=1)  # nothing changes
        hits[:, 0, blue] = hits[:, :, blue] = 50
        hits[red, 1:, blue] = left
        planted = replace(report.collateral, test=replace(test, hits=hits))
        assert said in replace(report, collateral=planted).says()


def test_curves_are_those_of_the_edits(exp, report):
    curves = report.collateral.test.curves().set_index(["class", "lambda_"])
    for target in exp.ft.classes:
        r = edited(exp, target, -1.0)
        found = split_accuracy(r.predicted == r.y, r.y == r.index(target))
        assert curves.loc[(target, -1.0), list(found)].to_dict() == pytest.approx(found)
    at = report.collateral.score.set_index("lambda_")
    assert at.loc[-1.5, "acc_f_measured"] == pytest.approx(
        curves.xs(-1.5, level="lambda_")["acc_f"].mean()
    )


def test_val_decides_the_light(report, failing):
    assert isinstance(report.editability, Editability)
    assert report.light == report.editability.light == "green"
    assert failing.light == "red"
    own = report.editability.curves.query("method == 'class vector' and gate == 'predicted'")
    expected = report.collateral.val.curves()
    own = own[list(expected)].reset_index(drop=True)
    pd.testing.assert_frame_equal(own, expected)


def test_the_audited_class_is_the_one_with_a_reference(report, failing):
    assert (report.audited, failing.audited) == ("green", "red")
    assert "logit mask" not in report.audits
    assert all(audit.target == "green" for audit in report.audits.values())
    assert {"class vector", "mapping, retired to the mean"} <= set(report.audits)


def test_sentences_have_the_numbers_of_the_tables(report):
    says = report.says()
    assert says[:3] == report.editability.says()[:3]
    score = report.collateral.score
    at, every = score.set_index("lambda_").loc[-1.5], score.iloc[-1]
    start = "Measured on test at lambda = -1.5 behind the gate 'predicted'"
    (measured,) = [s for s in says if s.startswith(start)]
    gain, low, high = (100 * every[name] for name in ("gain", "gain_low", "gain_high"))
    for number in (
        f"ACC_f {at['acc_f_measured']:.1%}, on validation {at['acc_f_replay']:.1%} (mean over 3",
        f"at most {100 * abs(every['acc_f_replay_error']):.1f} points off",
        f"errs by {100 * every['replay']:.1f} points, ",
        f"'no change' by {100 * every['no_change']:.1f}:",
        f"a gain of {gain:+.1f} [{low:+.1f}, {high:+.1f}] points",
    ):
        assert number in measured
    assert low > 0
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
    assert "Recommended for most classes: class vector." in good
    assert "Recommended for most classes: retired to the mean." in bad
    assert "a gain of +0.0 [+0.0, +0.0] points" in bad
    assert "Gates are calibrated" not in good
    assert bad.count("Gates are calibrated for 0.332%, the least that 300 validation samples") == 1
    assert "already names 100.0%" in bad
    assert "retrained without it" not in bad
    assert failing.collateral.measured.abs().to_numpy().max() == 0


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
