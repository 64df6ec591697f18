"""A context makes what methods share once, calibrates gates on val alone, and names a wrong class before any work."""

from dataclasses import replace

import numpy as np
import pytest
from conftest import CLASSES
from contexts import RECIPE, changed, idle_context, small_context, warmed, with_labels

from classvec_lab import class_vectors, extract_features
from classvec_lab.editing.calibration import threshold
from classvec_lab.errors import EditError
from classvec_lab.experiments.context import SPLITS, EditingContext
from classvec_lab.experiments.experiment import Experiment

SCORES = ("margin", "cosine", "predicted", "discriminant")


@pytest.fixture(scope="module")
def context(tmp_path_factory):
    return warmed(tmp_path_factory)


def relabel(context, split, seed=0):
    """The same context, the labels of one split permuted; vectors and moments as they were."""
    y = np.random.default_rng(seed).permutation(context.data[split].targets)
    assert (y != context.data[split].targets).any()
    assert context.moments.mean.shape == context.vectors.z_ft.shape
    made = changed(context, data={**context.data, split: with_labels(context.data[split], y)})
    made.__dict__["features"] = {**context.features, split: replace(context.features[split], y=y)}
    return made


def same_gate(a, b):
    return (
        np.array_equal(a.weight, b.weight)
        and np.array_equal(a.bias, b.bias)
        and a.threshold == b.threshold
    )


def test_features_are_keyed_by_split(context):
    assert tuple(context.features) == tuple(context.pre_features) == SPLITS
    for split, data in context.data.items():
        for classifier, features in (
            (context.ft, context.features),
            (context.pre, context.pre_features),
        ):
            expected = extract_features(classifier, data, progress=False)
            np.testing.assert_array_equal(features[split].z, expected.z)
            np.testing.assert_array_equal(features[split].y, data.targets)
    assert context.features is context.features


def test_class_vectors_and_moments_are_those_of_train(context):
    expected = class_vectors(context.pre, context.ft, context.data["train"], progress=False)
    np.testing.assert_array_equal(context.vectors.kappa, expected.kappa)
    np.testing.assert_allclose(context.moments.mean, context.vectors.z_ft, rtol=1e-6)
    assert context.moments.count.sum() == len(context.data["train"])
    assert context.moments.scatter is not None


@pytest.mark.parametrize("score", SCORES)
def test_one_gate_a_class_and_score(context, score):
    assert context.gate("red", score) is context.gate("red", score)
    assert (context.gate("red", score).target, context.gate("red", score).score) == ("red", score)
    others = [context.gate("blue", score), *(context.gate("red", s) for s in SCORES if s != score)]
    assert all(context.gate("red", score) is not other for other in others)


def test_no_gate(context):
    assert context.gate("red", "none") is None
    assert context.gate("red") is context.gate("red", "margin")


@pytest.mark.parametrize("score", SCORES)
@pytest.mark.parametrize("split", ["train", "test"])
def test_labels_of_other_splits_do_not_reach_a_gate(context, split, score):
    assert same_gate(relabel(context, split).gate("green", score), context.gate("green", score))


def test_labels_of_val_set_the_threshold(context):
    val, gate = context.features["val"], context.gate("green")
    scores, other = gate.scores(val.z), val.y != 1
    assert gate.threshold == threshold(scores[other], 0.01, among=scores[~other])
    assert (gate.guarantee, gate.false_fire, gate.n_negatives) == ("marginal", 0.01, 300)
    assert relabel(context, "val").gate("green").threshold != gate.threshold


def test_settings_reach_gates_and_a_changed_context_makes_its_own(context):
    first = context.gate("red")
    loose = changed(context, false_fire=0.2)
    assert (loose.gate("red").false_fire, context.gate("red")) == (0.2, first)
    assert loose.gate("red").threshold < first.threshold
    assert changed(context, guarantee="pac").gate("red").guarantee == "pac"


def test_from_an_experiment(context):
    splits = [context.data[s] for s in SPLITS]
    exp = Experiment(context.pre, context.ft, None, *splits, RECIPE)
    made = EditingContext.of(exp, seed=3, false_fire=0.05)
    assert (made.pre, made.ft, made.recipe, made.seed, made.false_fire) == (
        context.pre,
        context.ft,
        RECIPE,
        3,
        0.05,
    )
    assert [made.data[s] for s in SPLITS] == splits


def test_a_wrong_class_is_named_before_any_work():
    context = idle_context(test=np.array([0, 1, 0]), val=np.array([0, 1, 1]))
    assert context.require_target("red") == "red"
    with pytest.raises(EditError, match="no class 'pink' to edit; there are red, green, blue"):
        context.require_target("pink")
    with pytest.raises(
        EditError, match="class 'blue' has no image in val, test: use a larger limit"
    ):
        context.require_target("blue")
    with pytest.raises(AssertionError, match="was read"):
        assert context.features


def test_lists_of_targets_and_gates():
    context = idle_context()
    assert context.require_targets(None) == CLASSES
    assert context.require_targets(["blue", "red"]) == ("blue", "red")
    for wrong, shown in (
        ([], "got none"),
        (["red", "red"], "got red, red"),
        (["red", "pink"], "no class 'pink'"),
    ):
        with pytest.raises(EditError, match=shown):
            context.require_targets(wrong)
    assert context.require_gates(["none", *SCORES]) == ("none", *SCORES)
    with pytest.raises(EditError, match="no gate 'margins'; there are none, margin"):
        context.require_gates(["margin", "margins"])


def test_too_few_negatives_say_how_many_are_needed(context):
    few = replace(context, data={**context.data, "val": context.data["val"].subset(range(90))})
    with pytest.raises(EditError, match=r"needs at least 99 .* there are 60"):
        few.gate("red")
    assert few.gate("red", "predicted").threshold == 0


def test_making_a_context_extracts_nothing():
    assert "features" not in small_context().__dict__
