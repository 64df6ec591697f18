"""Classes forgotten in turn leave the same model as all at once, and taken back none is left."""

import numpy as np
import pandas as pd
import pytest
from small_experiments import idle_experiment, small_experiment, warmed

from classvec_lab.editing.injection import InjectedClassifier, inject
from classvec_lab.editing.weights.delta import Delta
from classvec_lab.editing.weights.mapping import map_edit
from classvec_lab.errors import EditError
from classvec_lab.experiments import sequence
from classvec_lab.experiments.sequence import forget_in_turn
from classvec_lab.readout import Readout

WAYS, ALL = ("latent", "mapping"), ("red", "green", "blue")
COLUMNS = [
    "step", "action", "class", "forgotten", "way", "split", "n_f", "acc_f", "acc_f_low",
    "acc_f_high", "n_r", "acc_r", "acc_r_low", "acc_r_high", "identical",
]  # fmt: skip


@pytest.fixture(scope="module")
def exps(tmp_path_factory):
    return {
        head: warmed(tmp_path_factory, lambda head=head: small_experiment(head))
        for head in ("linear", "cosine")
    }


def in_turn(exp, targets=ALL, way="latent", gate="margin", **options):
    """-1.5 κ_c behind each class's gate, or by the closed form, one after the other."""
    edits = {t: -1.5 * exp.vectors[t] for t in targets}
    for t, edit in edits.items():
        latent = edit.gated(exp.gate(t, gate)) if way == "latent" else None
        edits[t] = latent or map_edit(exp.ft, edit, exp.moments).delta
    return forget_in_turn(exp, edits, **options)


@pytest.mark.parametrize("head", ["linear", "cosine"])
@pytest.mark.parametrize("way", WAYS)
def test_every_step_is_the_same_as_all_at_once(exps, way, head):
    found = in_turn(exps[head], way=way, seed=1)
    assert list(found.columns) == COLUMNS
    assert found["identical"].all()
    assert found["step"].tolist() == [1, 2, 3, 4, 5, 6]
    assert found["action"].tolist() == ["forget"] * 3 + ["restore"] * 3
    assert found["class"].tolist()[:3] == ["red", "green", "blue"]
    assert sorted(found["class"].tolist()[3:]) == ["blue", "green", "red"]
    assert found["forgotten"].tolist() == [1, 2, 3, 2, 1, 0]
    assert found["n_f"].tolist() == [50, 100, 150, 100, 50, 0]
    assert (found["n_f"] + found["n_r"]).eq(150).all()


@pytest.mark.parametrize("head", ["linear", "cosine"])
@pytest.mark.parametrize("way", WAYS)
def test_accuracies_are_those_of_the_edited_model(exps, way, head):
    exp = exps[head]
    found = in_turn(exp, ["green", "red"], way=way).set_index("step")
    base = Readout.of(exp.ft, exp.features["test"])
    hit, own = base.predicted == base.y, base.y == 1
    assert found.loc[4, "forgotten"] == 0
    assert np.isnan(found.loc[4, "acc_f"])
    np.testing.assert_allclose(found.loc[4, "acc_r"], hit.mean())
    assert found.loc[1, "acc_f"] < 0.1 < hit[own].mean()
    assert found.loc[1, "acc_r"] > 0.9
    assert ((found["acc_r_low"] <= found["acc_r"]) & (found["acc_r"] <= found["acc_r_high"])).all()
    if way == "latent":
        edit = (-1.5 * exp.vectors["green"]).gated(exp.gate("green"))
        r = Readout.of(inject(exp.ft, edit), exp.features["test"])
        hit = r.predicted == r.y
        np.testing.assert_allclose(
            found.loc[1, ["acc_f", "acc_r"]].astype(float), [hit[own].mean(), hit[~own].mean()]
        )


def test_gates_may_be_left_out(exps):
    found = in_turn(exps["linear"], ["red"], gate="none")
    assert found["identical"].all()
    assert found["acc_f"].iloc[0] < 0.1


def test_the_order_of_restoring_is_the_seeds(exps):
    orders = {tuple(in_turn(exps["linear"], seed=s)["class"][3:]) for s in range(4)}
    assert len(orders) > 1
    again = [in_turn(exps["linear"], seed=2) for _ in range(2)]
    pd.testing.assert_frame_equal(*again)


@pytest.mark.parametrize("way", WAYS)
def test_an_edit_that_is_not_taken_off_is_noticed(exps, way, monkeypatch):
    if way == "latent":
        monkeypatch.setattr(InjectedClassifier, "without", lambda model, edit: model)
    else:
        monkeypatch.setattr(Delta, "remove_from", lambda delta, model: model)
    found = in_turn(exps["linear"], ["red", "blue"], way=way)
    assert found["identical"].tolist() == [True, True, False, False]


def test_weights_are_compared_too(exps):
    ft = exps["linear"].ft
    weights = sequence._hashes(ft)
    assert sequence._hashes(inject(ft, exps["linear"].vectors["red"])) == weights
    other = small_experiment().pre
    assert not set(sequence._hashes(other)) & set(weights)
    moved = type(ft)(ft.encoder, other.head, classes=ft.classes, preprocess=ft.preprocess)
    same = [a == b for a, b in zip(sequence._hashes(moved), weights, strict=True)]
    assert same == [True, False]


def test_the_same_answers_from_other_weights_are_not_identical(exps, monkeypatch):
    hashes = iter(range(100))
    monkeypatch.setattr(sequence, "_hashes", lambda model: [next(hashes)])
    assert not in_turn(exps["linear"], ["red"], way="mapping")["identical"].any()


def test_models_without_a_fingerprint_are_read_anew(exps, monkeypatch):
    exp = exps["cosine"]
    expected = in_turn(exp, ["red"], way="mapping")
    monkeypatch.setattr(type(exp.ft), "fingerprint", None)
    pd.testing.assert_frame_equal(in_turn(exp, ["red"], way="mapping"), expected)


@pytest.mark.parametrize(
    ("edits", "message"), [({"pink": None}, "no class 'pink'"), ({}, "got none")]
)
def test_typos_cost_no_work(edits, message):
    with pytest.raises(EditError, match=message):
        forget_in_turn(idle_experiment(), edits)


def test_strength_zero_is_refused(exps):
    with pytest.raises(EditError, match="strength 0"):
        forget_in_turn(exps["linear"], {"red": 0.0 * exps["linear"].vectors["red"]})
