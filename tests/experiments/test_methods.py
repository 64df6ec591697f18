"""Every method of forgetting sees no label at test time, and says truthfully what it left."""

import functools
from dataclasses import replace
from types import SimpleNamespace

import numpy as np
import pytest
import torch
from small_experiments import (
    RECIPE,
    changed,
    idle_experiment,
    small_experiment,
    warmed,
    with_labels,
)

from classvec_lab import Edit, extract_features, inject
from classvec_lab.editing import directions
from classvec_lab.editing.strength import Bounds, choose_lambda
from classvec_lab.editing.unlearning import retrain_without
from classvec_lab.editing.weights import relocate
from classvec_lab.editing.weights.mapping import map_edit
from classvec_lab.errors import EditError, MismatchError
from classvec_lab.experiments import methods as M
from classvec_lab.models import Classifier
from classvec_lab.models.heads import probe_head
from classvec_lab.readout import Readout, predict

SCORES = ("margin", "none", "cosine", "predicted", "discriminant")
STANDARD = M.standard_methods("margin", SCORES, n_random=2)
FREE = M.standard_methods("none", (), n_random=1)
RIVALS = ("z_ft - μ", "head direction", "random vector")
MAPPED = ("mapping, class vector", "mapping, retired to the mean", "mapping, retired and scattered")


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


def run(exp, name, target="green", methods=STANDARD):
    return M.measure(exp, name, target, methods[name])


@pytest.fixture(scope="module")
def outcomes(exp):
    """Name to what that method made of green, made once."""
    return functools.cache(lambda name: run(exp, name))


@pytest.fixture(scope="module")
def blind(exp, tmp_path_factory):
    """The same experiment with the labels of its test images permuted."""
    y = np.random.default_rng(0).permutation(exp.test.targets)
    return warmed(tmp_path_factory, lambda: replace(exp, test=with_labels(exp.test, y)))


@pytest.mark.parametrize("name", STANDARD)
def test_no_label_is_used_at_test_time(outcomes, blind, name):
    for seen, unseen in zip(outcomes(name), run(blind, name), strict=True):
        a, b = (o.readouts("test")["test"] for o in (seen, unseen))
        assert (a.y != b.y).mean() > 0.5
        np.testing.assert_array_equal(a.logits, b.logits)
        np.testing.assert_array_equal(a.z, b.z)
        np.testing.assert_array_equal(seen.predicted, unseen.predicted)
        np.testing.assert_equal(seen.lambda_, unseen.lambda_)
        np.testing.assert_array_equal(seen.fired("test"), unseen.fired("test"))


@pytest.mark.parametrize("name", STANDARD)
def test_readouts_are_what_the_classifier_gives_for_the_images(exp, outcomes, name):
    some = np.arange(0, 150, 4)
    for o in outcomes(name):
        assert (o.method, o.target) == (name, "green")
        found, model = o.readouts("test", "val"), o.classifier
        np.testing.assert_array_equal(found["val"].y, exp.val.targets)
        found = found["test"]
        np.testing.assert_array_equal(o.predicted, found.predicted)
        features = extract_features(model, exp.test.subset(some), progress=False, cache=False)
        expected = Readout.of(model, features)
        np.testing.assert_allclose(found.logits[some], expected.logits, rtol=1e-4, atol=1e-4)
        np.testing.assert_allclose(found.z[some], expected.z, rtol=1e-4, atol=1e-4)
        np.testing.assert_array_equal(found.predicted[some], expected.predicted)
        before, after = exp.ft.encoder.state_dict(), model.encoder.state_dict()
        same = all(torch.equal(before[k], v) for k, v in after.items())
        assert o.leaves_encoder == same


@pytest.mark.parametrize("methods", [STANDARD, FREE])
@pytest.mark.parametrize("name", ["class vector", *RIVALS, "head-aware class vector"])
def test_a_gate_says_where_a_latent_edit_acts(exp, name, methods):
    for o in run(exp, name, methods=methods):
        assert (o.family, o.n_parameters) == ("latent edit", exp.ft.dim)
        assert isinstance(o.result, Edit)
        for split, features in exp.features.items():
            moved = (o.readouts(split)[split].z != features.z).any(axis=1)
            assert moved.any()
            if o.gate == "none":
                assert o.fired(split) is None
                assert moved.all()
                continue
            gate = o.result.gate
            np.testing.assert_array_equal(o.fired(split), gate.fires(features.z))
            tied = np.abs(gate.scores(features.z) - gate.threshold) < 1e-5  # float32 in the network
            np.testing.assert_array_equal(moved[~tied], o.fired(split)[~tied])
            assert tied.sum() <= 1


@pytest.mark.parametrize("gate", ["margin", "predicted", "none"])
def test_the_class_vector_is_tried_without_a_gate_first_then_behind_each(exp, gate):
    """Without a gate it is the claim itself; the main one speaks for the method."""
    given = ("margin", "none", "cosine")
    found = run(exp, "class vector", "red", M.standard_methods(gate, given))
    others = [score for score in ("margin", "cosine") if score != gate]
    free = [] if gate == "none" else ["none"]
    assert [o.gate for o in found] == [*free, gate, gate, *others]
    at = len(free) + 1
    assert [o.chosen for o in found] == [i != at for i in range(len(found))]
    assert found[at].lambda_ == -1.0
    assert [o.main for o in found] == [i in (at - 1, at) for i in range(len(found))]
    for o in found:
        expected = o.lambda_ * exp.vectors["red"].vector
        np.testing.assert_allclose(o.result.vector, expected, rtol=1e-12)
        assert o.result.gate is exp.gate("red", o.gate)
        if o.chosen:
            edit = exp.vectors["red"].gated(exp.gate("red", o.gate))
            assert o.lambda_ == choose_lambda(exp.ft, edit, exp.features["val"]).best


@pytest.mark.parametrize("gate", ["margin", "predicted", "none"])
def test_controls_have_the_class_vectors_norm_gate_and_strength(exp, gate):
    methods = M.standard_methods(gate, n_random=3)
    main = next(o for o in run(exp, "class vector", "red", methods) if o.main)
    assert main.chosen
    controls = [o for name in RIVALS for o in run(exp, name, "red", methods)]
    assert [o.draw for o in controls] == ["", "", 0, 1, 2]
    for o in controls:
        np.testing.assert_allclose(o.result.norm, main.result.norm, rtol=1e-12)
        assert (o.lambda_, o.gate, o.chosen) == (main.lambda_, gate, False)
        assert o.result.gate is main.result.gate is exp.gate("red", gate)
        assert not np.allclose(o.result.vector, main.result.vector)


def test_by_default_the_gate_is_the_one_that_is_deployed(linear):
    methods = M.standard_methods(n_random=1)
    for name in ("class vector", *RIVALS, M.RECOMMENDED):
        (main, *_) = [o for o in run(linear, name, "red", methods) if o.main]
        assert main.gate == "predicted"
    assert {o.gate for o in run(linear, "class vector", "red", methods)} == {
        "none", "predicted", "margin", "cosine",
    }  # fmt: skip


@pytest.mark.parametrize("name", MAPPED)
def test_a_mapping_says_which_keys_did_best_on_val(exp, name):
    """No other key costs less there, in ACC_f less ACC_r."""
    (found,) = run(exp, name, "green")
    assert found.keys in ("nullspace", "discriminant")
    cost, val = {}, exp.features["val"]
    for keys in ("nullspace", "discriminant"):
        if name == MAPPED[2]:
            features = (exp.pre_features["train"], exp.features["train"])
            made = relocate(exp.ft, "green", *features, method=keys)
        elif name == MAPPED[1]:
            step = directions.relocation(exp.vectors, "green")
            made = map_edit(exp.ft, step, exp.moments, method=keys)
        else:
            continue
        z = made.moved(val.z).astype(np.float32)
        hit = predict(exp.ft, replace(val, z=z)) == val.y
        cost[keys] = hit[val.y == 1].mean() - hit[val.y != 1].mean()
    if cost:
        assert cost[found.keys] == min(cost.values())


def test_draws_of_a_random_direction(linear):
    one, two = (run(linear, "random vector", "red") for _ in range(2))
    vectors = [o.result.vector for o in one]
    np.testing.assert_array_equal(vectors[0], two[0].result.vector)
    assert not np.allclose(vectors[0], vectors[1])
    other = run(changed(linear, seed=1), "random vector", "red")[0].result.vector
    assert not np.allclose(vectors[0], other)


def test_bounds_decide_on_the_strength(exp):
    bounds = Bounds(lambdas=(-7.0,), threshold=1.0)
    narrow = exp.strength("blue", bounds=bounds)
    assert set(narrow.curve["lambda_"]) == {0.0, -1.0, -7.0}
    assert exp.strength("blue", bounds=bounds) is narrow
    assert exp.strength("blue") is not narrow
    floors = {x: exp.strength("blue", bounds=replace(bounds, floor=x)).best for x in (0, 1.5, 9)}
    assert floors == {0: -1.0, 1.5: -7.0, 9: -7.0}
    for name in ("class vector", "mapping, class vector"):
        found = run(exp, name, "blue", M.standard_methods(bounds=bounds))[0]
        assert found.lambda_ in (-1.0, -7.0)


@pytest.mark.parametrize("target", ["red", "green", "blue"])
def test_the_head_aware_edit_forgets_on_val(exp, target):
    (found,) = run(exp, "head-aware class vector", target)
    val = found.readouts("val")["val"]
    before = predict(exp.ft, exp.features["val"])
    called = before == val.index(target)
    expected = directions.head_aware(exp.ft, exp.vectors, target, exp.features["val"])
    np.testing.assert_array_equal(found.result.vector, expected.vector)
    assert (found.gate, found.chosen) == ("predicted", False)
    assert np.isnan(found.lambda_)
    assert (val.predicted[called] == val.index(target)).mean() <= 0.01
    np.testing.assert_array_equal(val.predicted[~called], before[~called])


def test_a_class_that_is_never_named_on_val_has_no_head_aware_edit(linear, monkeypatch):
    monkeypatch.setattr(M, "predict", lambda model, features: np.zeros(len(features), int))
    assert run(linear, "head-aware class vector", "green") == []


def test_a_mapping_is_stored_in_the_head_where_that_is_linear(exp):
    linear = type(exp.ft.head).__name__ == "Linear"
    for name in MAPPED:
        (found,) = run(exp, name, "red")
        assert (found.family, found.leaves_encoder) == ("weight mapping", linear)
        assert found.result.site.kind == ("head" if linear else "linear")
        z = found.readouts("test")["test"].z
        assert (z == exp.features["test"].z).all() == linear
        assert found.n_parameters == found.result.n_parameters
    (chosen,), (retired,) = (run(exp, name, "red") for name in MAPPED[:2])
    assert chosen.chosen
    norm = abs(chosen.lambda_) * exp.vectors["red"].norm
    np.testing.assert_allclose(chosen.result.edits[0].norm, norm)
    assert np.isnan(retired.lambda_)
    own = exp.vectors.z_ft
    expected = own[[1, 2]].mean(axis=0) - own[0]
    np.testing.assert_allclose(retired.result.edits[0].vector, expected)


def test_a_mappings_strength_is_what_the_classifier_does_on_val(exp):
    (found,) = run(exp, "mapping, class vector")
    val, choices = exp.features["val"], {}
    for keys in ("nullspace", "discriminant"):
        unit = map_edit(exp.ft, exp.vectors["green"], exp.moments, method=keys)
        acts = unit.amounts(val.z)[:, 0]
        choices[keys] = choose_lambda(exp.ft, exp.vectors["green"], val, weights=acts)
    best = min(choices.values(), key=lambda x: (np.isnan(x.lambda_), x.cost))
    choice = choices[found.keys]
    assert (np.isnan(choice.lambda_), choice.cost) == (np.isnan(best.lambda_), best.cost)
    assert found.lambda_ == choice.best
    again = map_edit(exp.ft, found.lambda_ * exp.vectors["green"], exp.moments, method=found.keys)
    np.testing.assert_array_equal(found.result.keys, again.keys)
    r = found.readouts("val")["val"]
    own, hit = r.y == 1, r.predicted == r.y
    row = choice.curve.set_index("lambda_").loc[found.lambda_, ["acc_f", "acc_r"]].astype(float)
    np.testing.assert_allclose(row, [hit[own].mean(), hit[~own].mean()])


def test_references_are_what_they_say(exp):
    ft, pre, mask = (run(exp, n, "red")[0] for n in ("fine-tuned", "pre-trained", "logit mask"))
    assert (ft.family, pre.family, mask.family) == ("reference", "reference", "trivial")
    ft, pre, mask = (o.readouts("test")["test"].logits for o in (ft, pre, mask))
    np.testing.assert_array_equal(ft, Readout.of(exp.ft, exp.features["test"]).logits)
    np.testing.assert_array_equal(pre, Readout.of(exp.ft, exp.pre_features["test"]).logits)
    assert np.isneginf(mask[:, 0]).all()
    np.testing.assert_array_equal(mask[:, 1:], ft[:, 1:])


def test_the_projection_levels_the_class_with_the_mean_of_the_head(linear):
    (found,) = run(linear, "projection", "red")
    z, weight = found.readouts("test")["test"].z, linear.ft.head.weight.detach().numpy()
    np.testing.assert_allclose(z @ (weight[0] - weight.mean(axis=0)), 0, atol=1e-4)
    assert (found.family, found.n_parameters) == ("eraser", 3 * linear.ft.dim)


def test_retraining_follows_the_recipe(linear):
    (found,) = M.measure(linear, M.RETRAINED, "red", M.training_methods()[M.RETRAINED])
    options = {"val": linear.val, "progress": False, "cache": False, **RECIPE}
    expected = retrain_without(linear.pre, linear.train, "red", **options).classifier
    z = extract_features(expected, linear.test, progress=False)
    logits = found.readouts("test")["test"].logits
    np.testing.assert_array_equal(logits, Readout.of(expected, z).logits)
    assert (found.family, found.leaves_encoder) == ("reference", False)
    assert found.n_parameters == sum(p.numel() for p in linear.ft.parameters())


def test_a_retrained_model_of_a_probed_head_never_saw_the_class(linear, monkeypatch):
    begun = []

    def tuned(pre, *args, **options):
        begun.append(pre)
        return SimpleNamespace(classifier=pre)

    monkeypatch.setattr(M, "retrain_without", tuned)
    for exp in (linear, changed(linear, probed=True)):
        M.training_methods()[M.RETRAINED](exp, "red")
    assert begun[0] is linear.pre
    assert begun[1].encoder is linear.pre.encoder
    expected = probe_head(*(linear.pre_features[s] for s in ("train", "val")), 0)
    torch.testing.assert_close(begun[1].head.state_dict(), expected.state_dict(), rtol=0, atol=0)


@pytest.mark.parametrize(
    ("method", "name"), [("neggrad+", "NegGrad+"), ("retain", "fine-tuned on the rest")]
)
def test_training_baselines(linear, method, name):
    before = Readout.of(linear.ft, linear.features["test"]).logits
    (found,) = M.measure(linear, name, "red", M.training_methods([method])[name])
    assert (found.family, found.leaves_encoder) == ("training", False)
    assert not np.array_equal(found.readouts("test")["test"].logits, before)
    features = extract_features(linear.ft, linear.test, progress=False, cache=False)
    np.testing.assert_array_equal(Readout.of(linear.ft, features).logits, before)


def test_a_method_of_ones_own_is_a_line(linear):
    """A classifier, an edit, an edit behind a gate, a mapping, several at once, or nothing."""
    kappa = linear.vectors["red"]
    ways = {
        "classifier": lambda exp, target: inject(exp.ft, -2 * exp.vectors[target]),
        "edit": lambda exp, target: -2 * exp.vectors[target],
        "gated": lambda exp, target: (-2 * exp.vectors[target]).gated(exp.gate(target)),
        "mapping": lambda exp, target: map_edit(exp.ft, -2 * exp.vectors[target], exp.moments),
        "several": lambda exp, target: [-exp.vectors[target], (exp.ft, {"family": "mine"})],
        "nothing": lambda exp, target: None,
    }
    found = {name: M.measure(linear, name, "red", way) for name, way in ways.items()}
    families = {name: [o.family for o in made] for name, made in found.items()}
    assert families == {
        "classifier": ["own"], "edit": ["latent edit"], "gated": ["latent edit"],
        "mapping": ["weight mapping"], "several": ["latent edit", "mine"], "nothing": [],
    }  # fmt: skip
    expected = predict(inject(linear.ft, -2 * kappa), linear.features["test"])
    for name in ("classifier", "edit"):
        np.testing.assert_array_equal(found[name][0].predicted, expected)
    assert found["gated"][0].gate == "predicted"


def test_a_method_that_trains_is_run_again_for_its_model(linear):
    calls = []

    def shifted(exp, target):
        calls.append(target)
        encoder = torch.nn.Sequential(exp.ft.encoder, torch.nn.Linear(exp.ft.dim, exp.ft.dim))
        torch.nn.init.eye_(encoder[1].weight)
        torch.nn.init.ones_(encoder[1].bias)
        of = {"classes": exp.ft.classes, "preprocess": exp.ft.preprocess}
        return Classifier(encoder, exp.ft.head, **of)

    (found,) = M.measure(linear, "shifted", "red", shifted)
    assert (found.kept, found.leaves_encoder, calls) == (None, False, ["red"])
    read = found.readouts("train", "test")
    assert calls == ["red"] * 2  # once for both splits
    np.testing.assert_allclose(read["test"].z, linear.features["test"].z + 1, atol=1e-5)
    assert found.n_parameters == sum(p.numel() for p in found.classifier.parameters())
    assert calls == ["red"] * 3


def test_what_is_no_method_is_named(linear):
    with pytest.raises(EditError, match="a Classifier, an Edit or a mapping; got 'forgotten'"):
        M.measure(linear, "mine", "red", lambda exp, target: "forgotten")
    of = {"classes": ("a", "b", "c"), "preprocess": linear.ft.preprocess}
    other = Classifier(linear.ft.encoder, linear.ft.head, **of)
    with pytest.raises(MismatchError, match="the data for method 'mine'"):
        M.measure(linear, "mine", "red", lambda exp, target: other)


def test_unknown_names():
    for arguments in (("margins",), ("margin", ("none", "margins"))):
        with pytest.raises(EditError, match="no gate 'margins'; there are none, margin"):
            M.standard_methods(*arguments)
    with pytest.raises(EditError, match="no baseline 'negrad'; there are retain, neggrad"):
        M.training_methods(["negrad"])
    assert list(M.training_methods(["neggrad"])) == [M.RETRAINED, "NegGrad"]
    assert idle_experiment().gate("red", "none") is None
