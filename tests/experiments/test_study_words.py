"""Sentences hold the summary's numbers, and say the opposite where the numbers do."""

import numpy as np
import pandas as pd
import pytest

from classvec_lab.experiments.forget_words import study_says

START = {
    "method": "class vector", "family": "latent edit", "gate": "margin", "chosen": False, "lambda_": -1.5, "n": 4,
    "acc_f": 0.01, "acc_f_low": 0.005, "acc_f_high": 0.015, "acc_r": 0.97, "acc_r_low": 0.96, "acc_r_high": 0.98,
    "worst_acc_f": 0.03, "worst_target": "owl", "change_r": -0.002, "false_fire": 0.011, "miss": 0.02,
    "sibling_fires": 0.25, "routing_js": np.nan, "n_parameters": 6.0,
}  # fmt: skip
UNGATED = {"gate": "none", "false_fire": np.nan, "miss": np.nan, "sibling_fires": np.nan}


def summary(*rows, **main):
    """A summary whose first row is the class vector at its chosen strength, with changes, and more rows."""
    return pd.DataFrame([START | {"chosen": True} | main, *(START | row for row in rows)])


def test_the_first_sentence_has_the_numbers():
    (first, gate) = study_says(summary())
    assert first == (
        "The class vector behind the gate 'margin', its strength chosen on val (mean lambda -1.50), forgets and leaves the "
        "others alone: ACC_f 1.0% [0.5%, 1.5%] (worst owl with 3.0%), ACC_r 97.0% [96.0%, 98.0%] (-0.2 points), n = 4 classes "
        "and seeds."
    )
    assert gate.startswith(
        "The gate fires on 1.1% of the other classes' samples and misses 2.0% of the class's; on its worst"
    )
    assert "it fires on 25.0%" in gate


@pytest.mark.parametrize(
    ("acc_f", "change_r", "effect"),
    [
        (0.02, -0.01, "forgets and leaves the others alone"),
        (0.02, -0.3, "forgets at the others' expense"),
        (0.6, 0.0, "leaves the others alone but does not forget"),
        (0.6, -0.3, "neither forgets nor leaves the others alone"),
    ],
)
def test_the_effect_follows_the_numbers(acc_f, change_r, effect):
    text = study_says(summary(acc_f=acc_f, change_r=change_r))[0]
    assert f", {effect}: ACC_f {acc_f:.1%} [" in text
    assert f"({100 * change_r:+.1f} points)" in text


def test_one_cell_has_no_interval():
    one = {f"{name}_{end}": np.nan for name in ("acc_f", "acc_r") for end in ("low", "high")}
    text = study_says(summary(n=1, **one))[0]
    assert "ACC_f 1.0% (worst" in text
    assert "[" not in text


@pytest.mark.parametrize(
    ("acc_f", "words"),
    [
        (0.9, "leaves ACC_f 90.0% [85.0%, 95.0%], 89.0 points more: so the direction matters."),
        (
            0.01,
            "leaves ACC_f 1.0% [-4.0%, 6.0%], 0.0 points more: so the direction does not matter here.",
        ),
    ],
)
def test_the_control(acc_f, words):
    row = {
        "method": "random vector",
        "acc_f": acc_f,
        "acc_f_low": acc_f - 0.05,
        "acc_f_high": acc_f + 0.05,
    }
    found = [s for s in study_says(summary(row)) if s.startswith("A random direction")]
    assert len(found) == 1
    assert found[0].endswith(words)


def test_a_control_behind_another_gate_is_no_control():
    assert not any(
        "random" in s
        for s in study_says(summary({"method": "random vector", "acc_f": 0.9, "gate": "cosine"}))
    )


def test_the_published_strength():
    at = {"lambda_": -1.0, "acc_f": 0.4, "acc_f_low": 0.3, "acc_f_high": 0.5}
    assert "At the published lambda = -1 it leaves ACC_f 40.0% [30.0%, 50.0%]." in study_says(
        summary(at)
    )
    assert not any("published" in s for s in study_says(summary(at | {"gate": "cosine"})))


@pytest.mark.parametrize(
    ("method", "start"),
    [
        ("z_ft - μ", "z_ft - μ, which needs no pre-trained model,"),
        ("head direction", "The head's own direction"),
        ("logit mask", "Masking the logit, which removes nothing,"),
    ],
)
@pytest.mark.parametrize(
    ("acc_f", "main", "verdict"),
    [
        (0.5, 0.4, "less than the class vector"),
        (0.495, 0.49, "as much as the class vector"),
        (0.485, 0.49, "as much as the class vector"),
        (0.0, 0.4, "more than the class vector"),
    ],
)
def test_the_rivals(method, start, acc_f, main, verdict):
    row = {"method": method, "acc_f": acc_f, "change_r": 0.031} | (
        UNGATED if method == "logit mask" else {}
    )
    (found,) = (s for s in study_says(summary(row, acc_f=main)) if s.startswith(start))
    assert found == f"{start} forgets {verdict}: ACC_f {acc_f:.1%} [0.5%, 1.5%], ACC_r +3.1 points."


def test_mappings_are_told_without_a_gate():
    row = {
        "method": "mapping, retired to the mean",
        "family": "weight mapping",
        "acc_f": 0.07,
        "n_parameters": 48.0,
    } | UNGATED
    (text,) = (s for s in study_says(summary(row)) if s.startswith("Mapping"))
    assert text == (
        "Mapping, retired to the mean: ACC_f 7.0% [0.5%, 1.5%] (worst 3.0%), ACC_r -0.2 points, from 48 stored numbers and "
        "without a gate."
    )


def test_nearest_to_retraining_is_the_smallest_distance_but_for_retraining_itself():
    rows = [
        {"method": "retrained without it", "routing_js": 0.0},
        {"method": "logit mask", "routing_js": 0.12},
        {"method": "LEACE", "routing_js": 0.3},
    ]
    text = study_says(summary(*rows, routing_js=0.2))[-1]
    assert text == (
        "Nearest to retraining in where the class's samples go: logit mask (0.12 bits; the class vector 0.20; 0 is the same, 1 "
        "disjoint)."
    )
    assert study_says(summary(*rows, routing_js=0.05))[-1].startswith(
        "Nearest to retraining in where the class's samples go: class vector (0.05 bits"
    )
    assert not any("Nearest" in s for s in study_says(summary(rows[0])))


def test_nothing_is_said_without_the_gated_class_vector():
    assert study_says(summary(chosen=False)) == ()
    assert study_says(summary(gate="none")) == ()
    assert study_says(summary(method="LEACE")) == ()
