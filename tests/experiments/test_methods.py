"""Every method of forgetting sees no label at test time, and says truthfully how it was set and what it left."""

import functools
from dataclasses import replace

import numpy as np
import pandas as pd
import pytest
import torch
from small_experiments import (
    RECIPE,
    SPLITS,
    changed,
    idle_experiment,
    small_experiment,
    warmed,
    with_labels,
)

from classvec_lab import extract_features
from classvec_lab.editing import directions
from classvec_lab.editing.strength import Bounds, choose_lambda
from classvec_lab.editing.unlearning import retrain_without
from classvec_lab.errors import EditError, MismatchError, ModelError
from classvec_lab.experiments import methods as M
from classvec_lab.readout import Readout, predict

GATES = ("none", "margin", "cosine", "predicted", "discriminant")
LATENT = {
    **{f"class vector, {g}": lambda c, t, g=g: M.class_vector(c, t, gate=g) for g in GATES},
    "class vector at -1": lambda c, t: M.class_vector(c, t, lambda_=-1.0),
    "z_ft - μ": lambda c, t: M.rival(c, t, "z_ft - μ"),
    "head direction": lambda c, t: M.rival(c, t, "head direction"),
    "random vector": lambda c, t: M.random_vector(c, t, draw=1),
    "head-aware": lambda c, t: M.head_aware(c, t),
    "head-aware, none": lambda c, t: M.head_aware(c, t, gate="none"),
}
MAPPINGS = {
    "mapping": lambda c, t: M.mapped(c, t),
    "mapping, ridge": lambda c, t: M.mapped(c, t, method="ridge"),
    "mapping, retired": lambda c, t: M.mapped(c, t, towards="retire"),
}
OTHERS = {
    "unedited": M.unedited,
    "pretrained": M.pretrained,
    "logit mask": M.logit_mask,
    "projection": M.projection,
    "LEACE": M.leace_eraser,
}
ALL = LATENT | MAPPINGS | OTHERS


@pytest.fixture(scope="module")
def exps(tmp_path_factory):
    return {
        head: warmed(tmp_path_factory, lambda head=head: small_experiment(head))
        for head in ("linear", "cosine")
    }


@pytest.fixture(scope="module", params=["linear", "cosine"])
def exp(exps, request):
    return exps[request.param]


@pytest.fixture(scope="module")
def linear(exps):
    return exps["linear"]


@pytest.fixture(scope="module")
def outcomes(exp):
    """Name to the outcome of that method on green, made once."""
    return functools.cache(lambda name: ALL[name](exp, "green"))


@pytest.fixture(scope="module")
def blind(exp, tmp_path_factory):
    """The same exp with the labels of its test images permuted."""
    y = np.random.default_rng(0).permutation(exp.data["test"].targets)
    return warmed(tmp_path_factory, lambda: replace(exp, test=with_labels(exp.test, y)))


@pytest.mark.parametrize("name", ALL)
def test_no_label_is_used_at_test_time(outcomes, blind, name):
    seen, unseen = outcomes(name), ALL[name](blind, "green")
    a, b = seen.readouts["test"], unseen.readouts["test"]
    assert (a.y != b.y).mean() > 0.5
    np.testing.assert_array_equal(a.logits, b.logits)
    np.testing.assert_array_equal(a.z, b.z)
    np.testing.assert_equal(seen.lambda_, unseen.lambda_)
    if seen.strength is not None:
        pd.testing.assert_frame_equal(seen.strength.curve, unseen.strength.curve)
    if seen.fired is not None:
        np.testing.assert_array_equal(seen.fired["test"], unseen.fired["test"])


@pytest.mark.parametrize("name", ALL)
def test_every_outcome_reads_all_splits(exp, outcomes, name):
    outcome = outcomes(name)
    assert tuple(outcome.readouts) == SPLITS
    for split, readout in outcome.readouts.items():
        np.testing.assert_array_equal(readout.y, exp.data[split].targets)
        assert readout.classes == exp.ft.classes
    before, after = exp.ft.encoder.state_dict(), outcome.classifier.encoder.state_dict()
    assert outcome.leaves_encoder == all(torch.equal(before[k], v) for k, v in after.items())
    assert outcome.target == "green"


@pytest.mark.parametrize("name", ALL)
def test_readouts_are_what_the_classifier_gives_for_the_images(exp, outcomes, name):
    outcome = outcomes(name)
    some = np.arange(0, 150, 4)
    features = extract_features(
        outcome.classifier, exp.data["test"].subset(some), progress=False, cache=False
    )
    expected, found = Readout.of(outcome.classifier, features), outcome.readouts["test"]
    np.testing.assert_allclose(found.logits[some], expected.logits, rtol=1e-4, atol=1e-4)
    np.testing.assert_allclose(found.z[some], expected.z, rtol=1e-4, atol=1e-4)
    np.testing.assert_array_equal(found.predicted[some], expected.predicted)


@pytest.mark.parametrize("name", LATENT)
def test_a_gate_says_where_a_latent_edit_acts(exp, outcomes, name):
    outcome = outcomes(name)
    assert (outcome.family, outcome.n_parameters) == ("latent edit", exp.ft.dim)
    np.testing.assert_allclose(outcome.norm, np.linalg.norm(outcome.edit.vector))
    for split, features in exp.features.items():
        moved = (outcome.readouts[split].z != features.z).any(axis=1)
        if outcome.gate == "none":
            assert outcome.fired is None
            assert moved.all()
        else:
            np.testing.assert_array_equal(outcome.fired[split], outcome.edit.gate.fires(features.z))
            tied = (
                np.abs(outcome.edit.gate.scores(features.z) - outcome.edit.gate.threshold) < 1e-5
            )  # float32 in the network
            np.testing.assert_array_equal(moved[~tied], outcome.fired[split][~tied])
            assert tied.sum() <= 1
            assert moved.any()


@pytest.mark.parametrize("gate", ["margin", "predicted"])
@pytest.mark.parametrize("lambda_", [-1.0, -2.0])
def test_controls_have_the_class_vectors_norm_gate_and_strength(exp, gate, lambda_):
    main = M.class_vector(exp, "red", gate=gate, lambda_=lambda_)
    controls = [
        M.rival(exp, "red", which, gate=gate, lambda_=lambda_)
        for which in ("z_ft - μ", "head direction")
    ]
    controls += [M.random_vector(exp, "red", draw=k, gate=gate, lambda_=lambda_) for k in range(3)]
    for control in controls:
        np.testing.assert_allclose(control.norm, abs(lambda_) * exp.vectors["red"].norm, rtol=1e-12)
        assert (control.lambda_, control.gate, control.strength) == (lambda_, gate, None)
        assert control.edit.gate is main.edit.gate is exp.gate("red", gate)
        assert not np.allclose(control.edit.vector, main.edit.vector)
    np.testing.assert_allclose(main.norm, controls[0].norm, rtol=1e-12)
    np.testing.assert_allclose(main.edit.vector, lambda_ * exp.vectors["red"].vector)


def test_draws_of_a_random_direction(linear):
    vectors = [M.random_vector(linear, "red", draw=k).edit.vector for k in (0, 1, 0)]
    np.testing.assert_array_equal(vectors[0], vectors[2])
    assert not np.allclose(vectors[0], vectors[1])
    assert M.random_vector(linear, "red", draw=7).facts["draw"] == 7
    other = M.random_vector(changed(linear, seed=1), "red", draw=0).edit.vector
    assert not np.allclose(vectors[0], other)


def test_strength_is_chosen_on_val(exp):
    found = M.class_vector(exp, "blue")
    edit = exp.vectors["blue"].gated(exp.gate("blue"))
    expected = choose_lambda(exp.ft, edit, exp.features["val"])
    assert found.lambda_ == expected.best == found.strength.best
    assert M.class_vector(exp, "blue", lambda_=-0.5).strength is None
    narrow = M.class_vector(exp, "blue", bounds=Bounds(lambdas=(-7.0,), threshold=1.0))
    assert set(narrow.strength.curve["lambda_"]) == {0.0, -1.0, -7.0}


@pytest.mark.parametrize("target", ["red", "green", "blue"])
def test_the_head_aware_edit_forgets_on_val(exp, target):
    found = M.head_aware(exp, target)
    val = found.readouts["val"]
    before = predict(exp.ft, exp.features["val"])
    called = before == val.index(target)
    expected = directions.head_aware(exp.ft, exp.vectors, target, exp.features["val"])
    np.testing.assert_array_equal(found.edit.vector, expected.vector)
    assert (found.gate, found.strength) == ("predicted", None)
    assert np.isnan(found.lambda_)
    assert (val.predicted[called] == val.index(target)).mean() <= 0.01
    np.testing.assert_array_equal(val.predicted[~called], before[~called])


def test_a_mapping_is_stored_in_the_head_where_that_is_linear(exp):
    found, linear = M.mapped(exp, "red"), type(exp.ft.head).__name__ == "Linear"
    assert found.leaves_encoder == linear
    assert found.facts["mapping"].site.kind == ("head" if linear else "linear")
    assert (found.readouts["test"].z == exp.features["test"].z).all() == linear
    assert found.n_parameters == found.facts["mapping"].n_parameters
    np.testing.assert_allclose(found.norm, abs(found.lambda_) * exp.vectors["red"].norm)
    retired = M.mapped(exp, "red", towards="retire")
    assert np.isnan(retired.lambda_)
    own = exp.vectors.z_ft
    np.testing.assert_allclose(retired.edit.vector, own[[1, 2]].mean(axis=0) - own[0])
    names = [
        M.mapped(exp, "red", towards=t, method="ridge").method for t in ("class vector", "retire")
    ]
    assert names == ["mapping, class vector (ridge)", "mapping, retired to the mean (ridge)"]


def test_a_mappings_strength_is_what_the_classifier_does_on_val(exp):
    found = M.mapped(exp, "green")
    r, curve = found.readouts["val"], found.strength.curve.set_index("lambda_")
    own, hit = r.y == 1, r.predicted == r.y
    np.testing.assert_allclose(
        curve.loc[found.lambda_, ["acc_f", "acc_r"]].astype(float),
        [hit[own].mean(), hit[~own].mean()],
    )


def test_references_are_what_they_say(exp):
    ft, pre = M.unedited(exp, "red"), M.pretrained(exp, "red")
    np.testing.assert_array_equal(
        ft.readouts["test"].logits, Readout.of(exp.ft, exp.features["test"]).logits
    )
    np.testing.assert_array_equal(
        pre.readouts["test"].logits, Readout.of(exp.ft, exp.pre_features["test"]).logits
    )
    mask = M.logit_mask(exp, "red").readouts["test"]
    assert np.isneginf(mask.logits[:, 0]).all()
    np.testing.assert_array_equal(mask.logits[:, 1:], ft.readouts["test"].logits[:, 1:])


def test_the_projection_levels_the_class_with_the_mean_of_the_head(linear):
    z = M.projection(linear, "red").readouts["test"].z
    weight = linear.ft.head.weight.detach().numpy()
    np.testing.assert_allclose(z @ (weight[0] - weight.mean(axis=0)), 0, atol=1e-4)


def test_retraining_follows_the_recipe(linear):
    found = M.retrained(linear, "red")
    data = linear.data
    expected = retrain_without(
        linear.pre, data["train"], "red", val=data["val"], progress=False, cache=False, **RECIPE
    )
    z = extract_features(expected.classifier, data["test"], progress=False)
    np.testing.assert_array_equal(
        found.readouts["test"].logits, Readout.of(expected.classifier, z).logits
    )
    assert (found.family, found.leaves_encoder, tuple(found.readouts)) == (
        "reference",
        False,
        SPLITS,
    )
    assert found.n_parameters == sum(p.numel() for p in linear.ft.parameters())


@pytest.mark.parametrize(
    ("method", "name"), [("neggrad+", "NegGrad+"), ("retain", "fine-tuned on the rest")]
)
def test_training_baselines(linear, method, name):
    before = Readout.of(linear.ft, linear.features["test"]).logits
    found = M.trained(linear, "red", method)
    assert (found.method, found.family, found.leaves_encoder, tuple(found.readouts)) == (
        name,
        "training",
        False,
        SPLITS,
    )
    assert not np.array_equal(found.readouts["test"].logits, before)
    features = extract_features(linear.ft, linear.data["test"], progress=False, cache=False)
    np.testing.assert_array_equal(Readout.of(linear.ft, features).logits, before)


def test_unknown_names(linear):
    with pytest.raises(
        EditError, match="no rival direction 'best'; there are z_ft - μ, head direction"
    ):
        M.rival(idle_experiment(), "red", "best")
    with pytest.raises(
        EditError, match="a mapping goes along the class vector or to \"retire\"; got 'away'"
    ):
        M.mapped(idle_experiment(), "red", towards="away")
    with pytest.raises(EditError, match="unknown mapping 'magic'"):
        M.mapped(linear, "red", method="magic")
    with pytest.raises(MismatchError, match="unknown gate score 'margins'"):
        M.class_vector(linear, "red", gate="margins")
    with pytest.raises(ModelError, match=r"no unlearning method 'negrad'.*did you mean 'neggrad'"):
        M.trained(idle_experiment(), "red", "negrad")
