"""Classes forgotten in turn leave the same model as all at once, and taken back none is left."""

import numpy as np
import pandas as pd
import pytest
from contexts import idle_context, small_context, warmed

from classvec_lab.editing.injection import InjectedClassifier, inject
from classvec_lab.editing.weights.delta import Delta
from classvec_lab.errors import EditError
from classvec_lab.experiments import sequence
from classvec_lab.experiments.sequence import WAYS, forget_in_turn
from classvec_lab.readout import Readout

COLUMNS = [
    "step", "action", "class", "forgotten", "way", "split", "n_f", "acc_f", "acc_f_low", "acc_f_high", "n_r", "acc_r",
    "acc_r_low", "acc_r_high", "identical",
]  # fmt: skip


@pytest.fixture(scope="module")
def contexts(tmp_path_factory):
    return {
        head: warmed(tmp_path_factory, lambda head=head: small_context(head))
        for head in ("linear", "cosine")
    }


@pytest.mark.parametrize("head", ["linear", "cosine"])
@pytest.mark.parametrize("way", WAYS)
def test_every_step_is_the_same_as_all_at_once(contexts, way, head):
    found = forget_in_turn(contexts[head], way=way, seed=1)
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
def test_accuracies_are_those_of_the_edited_model(contexts, way, head):
    context = contexts[head]
    found = forget_in_turn(context, ["green", "red"], way=way).set_index("step")
    base = Readout.of(context.ft, context.features["test"])
    hit, own = base.predicted == base.y, base.y == 1
    assert found.loc[4, "forgotten"] == 0
    assert np.isnan(found.loc[4, "acc_f"])
    np.testing.assert_allclose(found.loc[4, "acc_r"], hit.mean())
    assert found.loc[1, "acc_f"] < 0.1 < hit[own].mean()
    assert found.loc[1, "acc_r"] > 0.9
    assert ((found["acc_r_low"] <= found["acc_r"]) & (found["acc_r"] <= found["acc_r_high"])).all()
    if way == "latent":
        edit = (-1.5 * context.vectors["green"]).gated(context.gate("green"))
        r = Readout.of(inject(context.ft, edit), context.features["test"])
        hit = r.predicted == r.y
        np.testing.assert_allclose(
            found.loc[1, ["acc_f", "acc_r"]].astype(float), [hit[own].mean(), hit[~own].mean()]
        )


def test_gates_may_be_left_out(contexts):
    found = forget_in_turn(contexts["linear"], ["red"], gate="none")
    assert found["identical"].all()
    assert found["acc_f"].iloc[0] < 0.1


def test_the_order_of_restoring_is_the_seeds(contexts):
    orders = {tuple(forget_in_turn(contexts["linear"], seed=s)["class"][3:]) for s in range(4)}
    assert len(orders) > 1
    again = [forget_in_turn(contexts["linear"], seed=2) for _ in range(2)]
    pd.testing.assert_frame_equal(*again)


@pytest.mark.parametrize("way", WAYS)
def test_an_edit_that_is_not_taken_off_is_noticed(contexts, way, monkeypatch):
    if way == "latent":
        monkeypatch.setattr(InjectedClassifier, "without", lambda model, edit: model)
    else:
        monkeypatch.setattr(Delta, "remove_from", lambda delta, model: model)
    found = forget_in_turn(contexts["linear"], ["red", "blue"], way=way)
    assert found["identical"].tolist() == [True, True, False, False]


def test_weights_are_compared_too(contexts):
    ft = contexts["linear"].ft
    assert sequence._same_weights(ft, ft)
    assert sequence._same_weights(ft, inject(ft, contexts["linear"].vectors["red"]))
    other = small_context().pre
    assert not sequence._same_weights(ft, other)
    moved = type(ft)(ft.encoder, other.head, classes=ft.classes, preprocess=ft.preprocess)
    assert not sequence._same_weights(ft, moved)


def test_models_without_a_fingerprint_are_read_anew(contexts, monkeypatch):
    context = contexts["cosine"]
    expected = forget_in_turn(context, ["red"], way="mapping")
    monkeypatch.setattr(type(context.ft), "fingerprint", None)
    pd.testing.assert_frame_equal(forget_in_turn(context, ["red"], way="mapping"), expected)


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"way": "latents"}, "way is one of latent, mapping; got 'latents'"),
        ({"targets": ["pink"]}, "no class 'pink'"),
        ({"targets": ["red", "red"]}, "once"),
        ({"gate": "margins"}, "no gate 'margins'"),
    ],
)
def test_typos_cost_no_work(options, message):
    with pytest.raises(EditError, match=message):
        forget_in_turn(idle_context(), **options)


def test_strength_zero_is_refused(contexts):
    with pytest.raises(EditError, match="strength 0"):
        forget_in_turn(contexts["linear"], ["red"], lambda_=0.0)
