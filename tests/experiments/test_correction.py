"""A planted error is found and corrected on other images, at no cost to the other classes."""

from dataclasses import replace

import numpy as np
import pandas as pd
import pytest
from sklearn.metrics import confusion_matrix
from small_experiments import idle_experiment, small_experiment, splits, warmed, with_labels

from classvec_lab.editing import Bounds
from classvec_lab.editing.injection import inject
from classvec_lab.errors import EditError
from classvec_lab.experiments.correction import (
    LAMBDAS,
    Correction,
    correct_error,
)
from classvec_lab.readout import Readout, logits, predict
from classvec_lab.statistics import rates


def mislabelled():
    """Trained with six in ten green images labelled blue; class vectors of right labels."""
    data = splits()
    green = np.flatnonzero(data["train"].targets == 1)
    wrong = small_experiment(
        data={**data, "train": data["train"].relabelled(green[: int(0.6 * len(green))], "blue")}
    )
    return replace(wrong, train=data["val"])


@pytest.fixture(scope="module")
def exp(tmp_path_factory):
    return warmed(tmp_path_factory, mislabelled)


@pytest.fixture(scope="module")
def correction(exp):
    return correct_error(exp, "green", "blue")


def test_the_planted_error_is_the_largest(exp):
    val = exp.features["val"]
    found = confusion_matrix(val.y, predict(exp.ft, val), normalize="true")
    np.fill_diagonal(found, 0)
    assert np.unravel_index(found.argmax(), found.shape) == (1, 2)
    assert found.max() > 0.4


def test_the_planted_error_is_corrected(correction):
    cell = correction.table.set_index(["what", "when"])
    before, after = (cell.loc[("green seen as blue", when)] for when in ("before", "after"))
    assert before["share"] > 0.4
    assert after["high"] < before["low"]
    assert cell.loc[("class green", "after"), "share"] > 0.95
    for kept in ("class blue", "other classes"):
        assert cell.loc[(kept, "after"), "share"] >= cell.loc[(kept, "before"), "share"] - 0.02
    assert cell.loc[("blue seen as green", "after"), "share"] <= 0.02


def test_nothing_changes_where_the_gate_is_silent(exp, correction):
    z, edit = exp.features["test"].z, correction.edit
    fired = edit.gate.fires(z)
    before, after = logits(exp.ft, z), logits(inject(exp.ft, edit), z)
    np.testing.assert_array_equal(before[~fired], after[~fired])
    assert (before[fired] != after[fired]).any(axis=1).all()
    y = exp.features["test"].y
    assert fired[y != 1].mean() <= 0.05


def test_the_edit_leads_from_one_class_to_the_other(exp, correction):
    lambda_ = correction.edit.coefficients["κ[green]"]
    assert lambda_ > 0
    expected = lambda_ * (exp.vectors["green"].vector - exp.vectors["blue"].vector)
    np.testing.assert_allclose(correction.edit.vector, expected)
    assert (
        correction.edit.target,
        correction.edit.gate.guarantee,
        correction.edit.gate.n_negatives,
    ) == (
        "green",
        "marginal",
        300,
    )
    val = exp.features["val"]
    assert correction.edit.gate.fires(val.z)[val.y != 1].mean() <= 0.01


def test_the_strength_is_the_smallest_of_the_best_on_val(exp, correction):
    val, right = exp.features["val"], {}
    edit = (exp.vectors["green"] - exp.vectors["blue"]).gated(correction.edit.gate)
    for lambda_ in LAMBDAS:
        right[lambda_] = (predict(inject(exp.ft, lambda_ * edit), val) == val.y).sum()
    best = max(right.values())
    assert best > (predict(exp.ft, val) == val.y).sum()
    smallest = min(lambda_ for lambda_, n in right.items() if n == best)
    assert correction.edit.coefficients["κ[green]"] == smallest


def test_the_table_counts_what_the_edited_model_does(exp, correction):
    test, cell = exp.features["test"], correction.table.set_index(["when", "what"])
    for when, model in (("before", exp.ft), ("after", inject(exp.ft, correction.edit))):
        r = Readout.of(model, test)
        green, blue, hit = r.y == 1, r.y == 2, r.predicted == r.y
        shares = [
            (r.predicted[green] == 2).mean(),
            (r.predicted[blue] == 1).mean(),
            hit[green].mean(),
            hit[blue].mean(),
        ]
        shares += [hit[r.y == 0].mean(), hit.mean()]
        np.testing.assert_allclose(cell.loc[when, "share"], shares)
        assert cell.loc[when, "n"].tolist() == [50, 50, 50, 50, 50, 150]


def test_no_test_label_is_used(exp, correction):
    y = np.random.default_rng(0).permutation(exp.data["test"].targets)
    blind = correct_error(
        replace(exp, test=with_labels(exp.test, y)),
        "green",
        "blue",
    )
    np.testing.assert_array_equal(blind.edit.vector, correction.edit.vector)
    assert blind.edit.gate.threshold == correction.edit.gate.threshold
    assert blind.edit.coefficients == correction.edit.coefficients
    assert not blind.table["share"].equals(correction.table["share"])


def test_a_looser_gate_fires_more(exp, correction):
    loose = correct_error(exp, "green", "blue", bounds=Bounds(false_fire=0.3))
    assert loose.edit.gate.false_fire == 0.3
    assert loose.edit.gate.threshold < correction.edit.gate.threshold


def test_the_sentence_has_the_tables_numbers(correction):
    (text,) = correction.says()
    cell = correction.table.set_index(["what", "when"])
    assert text.startswith(f"The edit {correction.edit.expression} corrects the error: ")
    for when in ("before", "after"):
        row = cell.loc[("green seen as blue", when)]
        assert f"{row['share']:.1%} [{row['low']:.1%}, {row['high']:.1%}]" in text
        assert f"{cell.loc[('all classes', when), 'share']:.1%} {when}" in text
    assert "(n = 50)" in text


@pytest.mark.parametrize(
    ("shares", "word"),
    [
        ((30, 2), "corrects"),
        ((4, 1), "seems to correct"),
        ((4, 4), "does not correct"),
        ((4, 9), "does not correct"),
    ],
)
def test_the_verdict_follows_the_counts(correction, shares, word):
    rows = []
    for when, hits in zip(("before", "after"), shares, strict=True):
        low, high = rates(hits, 50)[1:]
        rows.append(
            {
                "what": "green seen as blue",
                "when": when,
                "n": 50,
                "share": hits / 50,
                "low": low,
                "high": high,
            }
        )
        rows.append(
            {"what": "all classes", "when": when, "n": 150, "share": 0.5, "low": 0.4, "high": 0.6}
        )
    made = Correction(correction.edit, "green", "blue", pd.DataFrame(rows))
    assert f" {word} the error" in made.says()[0]


def test_too_few_confused_samples(exp):
    with pytest.raises(
        EditError,
        match=r"\d of 150 validation samples of 'blue' are seen as 'red': too few .*at least 3",
    ):
        correct_error(exp, "blue", "red")


@pytest.mark.parametrize(
    ("pair", "message"),
    [
        (("red", "red"), "each class to edit once, .*; got red, red"),
        (("red", "pink"), "no class 'pink'"),
        (("pink", "red"), "no class 'pink'"),
    ],
)
def test_typos_cost_no_work(pair, message):
    with pytest.raises(EditError, match=message):
        correct_error(idle_experiment(), *pair)
