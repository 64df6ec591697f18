"""`prepare` turns flat parameters into an experiment, which makes what methods share once.

Gates are calibrated on val alone, and a wrong class is named before any work.
"""

from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import torch
from conftest import CLASSES, coloured, small_classifier
from PIL import Image
from small_experiments import (
    SPLITS,
    changed,
    idle_experiment,
    small_experiment,
    trained,
    warmed,
    with_labels,
)

from classvec_lab import (
    Classifier,
    class_vectors,
    extract_features,
    finetune,
    load_dataset,
    prepare,
)
from classvec_lab.editing.calibration import threshold
from classvec_lab.editing.strength import Bounds, choose_lambda
from classvec_lab.errors import DatasetError, EditError, MismatchError, ModelError
from classvec_lab.experiments import accuracy_says, outlook, rates_say
from classvec_lab.gates import SCORES
from classvec_lab.models import finetuning
from classvec_lab.readout import predict
from classvec_lab.statistics import share
from classvec_lab.words import percent

SETUP = {
    "model": "mlp",
    "model_args": {"size": 8, "hidden": [16], "dim": 8},
    "epochs": 1,
    "batch_size": 16,
}


@pytest.fixture
def folder(tmp_path):
    rng = np.random.default_rng(0)
    for c, name in enumerate(("dark", "light")):
        (tmp_path / "images" / name).mkdir(parents=True)
        for i in range(20):
            pixels = rng.integers(0, 100, (9, 7, 3), dtype=np.uint8) + np.uint8(150 * c)
            Image.fromarray(pixels).save(tmp_path / "images" / name / f"{i % 5}_{i}.png")
    return str(tmp_path / "images")


def test_empty_parameters_stand_for_none(folder):
    exp = prepare(
        dataset=folder,
        data_args={},
        group="",
        limit=0,
        weights="",
        templates=[],
        finetuned="",
        lr=0.0,
        **SETUP,
    )
    assert (len(exp.train), len(exp.val), len(exp.test)) == (24, 8, 8)
    assert exp.pre.classes == exp.ft.classes == ("dark", "light")
    assert exp.pre.fingerprint != exp.ft.fingerprint
    assert exp.history["epoch"].tolist() == [0, 1]
    facts = exp.facts()
    assert facts["models"]["fine_tuned"] == exp.ft.fingerprint
    assert len(set(facts["data"].values())) == 3
    assert exp.data == {"train": exp.train, "val": exp.val, "test": exp.test}


@pytest.mark.parametrize(
    "wrong", [{"split": "train"}, {"name_or_path": "shapes"}, {3: 4}, {"x": 1}]
)
def test_options_of_the_data_that_can_not_be_are_named(wrong):
    said = f"can't hold {next(iter(wrong))}: give|digits has no option x; it takes none"
    with pytest.raises(DatasetError, match=said):
        prepare(dataset="digits", model="tiny-clip", data_args=wrong)


def test_group_and_limit_reach_the_data(folder):
    exp = prepare(dataset=folder, group=r"/(\d)_", **SETUP)
    groups = [set(d.metadata["group"]) for d in (exp.train, exp.val, exp.test)]
    assert sum(map(len, groups)) == 5
    assert len(prepare(dataset=folder, limit=6, **SETUP).train) == 6


@pytest.fixture
def untrainable(monkeypatch):
    monkeypatch.setattr(finetuning, "train_or_load", lambda *a, **k: pytest.fail("trained"))


@pytest.mark.usefixtures("untrainable")
def test_a_class_of_too_few_groups_is_named_before_training(folder):
    for path in (Path(folder) / "light").iterdir():
        path.rename(path.with_name(f"{int(path.name[0]) % 2}of_light_{path.name}"))
    few = {"dataset": folder, "group": r"/([^_]+)_", **SETUP}
    told = pytest.warns(UserWarning, match="images: val has no image of light, so that nothing")
    why = r"class 'light' has no image in val: its images come from 2 groups of group='/\("
    for asked in ({"targets": ["light"]}, {"targets": []}, {"error": ["dark", "light"]}):
        (name,) = asked
        with told, pytest.raises(EditError, match=rf"^{name}=.*{why}"):
            prepare(asked=asked, **few)
    with told, pytest.raises(EditError, match=f"^split='val': {why}"):
        prepare(asked={"split": "val"}, **few)
    with told:
        known = prepare(asked={"targets": ["dark"], "split": "test"}, fine_tune=False, **few)
    assert known.counts["val"].tolist() == [8, 0]
    assert known.counts.loc["light"].sum() == 20
    assert known.ft is known.pre
    assert (known.history, known.recipe["epochs"]) == (None, 1)


@pytest.mark.usefixtures("untrainable")
def test_a_class_that_is_not_in_train_or_test_is_named_before_training(tmp_path):
    """Also to who asks for nothing, and whatever the data come from."""
    rng, sets = np.random.default_rng(0), {"train": "ab", "val": "abc", "test": "ac"}
    arrays = {}
    for split, names in sets.items():
        labels = np.array([*"abc"] * 4)
        arrays[f"y_{split}"] = labels = labels[np.isin(labels, list(names))]
        arrays[f"x_{split}"] = rng.integers(0, 256, (len(labels), 9, 7), dtype=np.uint8)
    np.savez(tmp_path / "lacking.npz", **arrays)
    told = "lacking.npz: (train has no image of c|test has no image of b), so that nothing"
    with (
        pytest.warns(UserWarning, match=told) as warned,
        pytest.raises(EditError, match="class 'c' has no image in train: add some, or choose"),
    ):
        prepare(dataset=str(tmp_path / "lacking.npz"), **SETUP)
    assert len(warned) == 2
    with pytest.warns(UserWarning, match="test has no image of b"):
        known = prepare(
            dataset=str(tmp_path / "lacking.npz"),
            data_args={"classes": ["b", "a"]},
            fine_tune=False,
            **SETUP,
        )
    assert known.pre.classes == ("b", "a")
    assert known.counts.to_dict("list") == {"train": [4, 4], "val": [4, 4], "test": [0, 4]}
    with pytest.raises(MismatchError, match="no image of b, and so no vector"):
        class_vectors(known.pre, known.ft, known.test)


@pytest.mark.usefixtures("untrainable")
def test_what_data_and_model_lack_is_named_before_training(folder):
    for asked, message in (
        (
            {"targets": ["light", "grey"]},
            r"targets=\['light', 'grey'\]: no class 'grey'; there are",
        ),
        ({"audited": "grey"}, "audited='grey': no class 'grey'; there are dark, light"),
        ({"layernorms": ["ln_2"]}, r"layernorms=\['ln_2'\]: .* has no LayerNorm for 'ln_2'"),
        ({"layers": ["fc9"]}, r"layers=\['fc9'\]: .* has no layer 'fc9'; nearest"),
    ):
        with pytest.raises((EditError, ModelError), match=message):
            prepare(dataset=folder, asked=asked, **SETUP)
    nothing = {"audited": "", "error": [], "layers": "blocks", "layernorms": [], "other": 3}
    with pytest.raises(pytest.fail.Exception, match="trained"):
        prepare(dataset=folder, asked=nothing, **SETUP)
    with pytest.raises(
        EditError, match=r"number of classes of digits must lie in \[2, inf\]; got 1"
    ):
        prepare(dataset="digits", classes=["3"], **SETUP)


def test_a_given_fine_tuned_model_is_used(folder, tmp_path):
    first = prepare(dataset=folder, **SETUP)
    first.ft.save(tmp_path / "mine")
    second = prepare(dataset=folder, finetuned=str(tmp_path / "mine"), **SETUP)
    assert second.history is None
    assert second.ft.fingerprint == first.ft.fingerprint
    with pytest.raises(MismatchError):
        prepare(dataset="digits", limit=20, finetuned=str(tmp_path / "mine"), **SETUP)


def test_the_recipe_makes_the_same_model_again(folder):
    exp = prepare(dataset=folder, seed=3, **SETUP)
    assert (exp.recipe["epochs"], exp.recipe["batch_size"], exp.recipe["seed"]) == (1, 16, 3)
    assert exp.seed == 3
    assert exp.recipe["lr"] > 0  # the one that was chosen
    again = finetune(exp.pre, exp.train, val=exp.val, progress=False, cache=False, **exp.recipe)
    assert again.classifier.fingerprint == exp.ft.fingerprint
    assert prepare(dataset=folder, lr=0.02, **SETUP).recipe["lr"] == 0.02


def test_a_probed_head_is_fitted_to_train_and_for_a_reference_without_the_class(folder):
    plain, exp = (prepare(dataset=folder, head=head, **SETUP) for head in ("linear", "probe"))
    features = exp.pre_features
    assert (predict(exp.pre, features["train"]) == features["train"].y).all()
    assert (predict(exp.pre_without("dark"), features["train"]) == 1).all()
    assert plain.pre_without("dark") is plain.pre


def test_the_recipe_of_a_given_model_is_what_was_asked_for(folder, tmp_path):
    prepare(dataset=folder, **SETUP).ft.save(tmp_path / "mine")
    given = prepare(dataset=folder, finetuned=str(tmp_path / "mine"), lr=0.0, seed=5, **SETUP)
    assert given.recipe == {"epochs": 1, "lr": None, "batch_size": 16, "seed": 5}
    finetune(given.pre, given.train, progress=False, **given.recipe)


def test_classes_can_be_chosen():
    exp = prepare(
        dataset="digits",
        model="mlp",
        model_args={"size": 16, "hidden": [8], "dim": 4},
        limit=60,
        classes=["7", "3"],
        epochs=1,
    )
    assert exp.pre.classes == exp.test.classes == ("7", "3")
    whole = load_dataset("digits", split="test", limit=60)
    assert len(exp.test) == np.isin(whole.targets, [7, 3]).sum()
    assert exp.test.fingerprint != whole.only(["3", "7"]).fingerprint
    image, label = exp.test[0]
    position = np.flatnonzero(np.isin(whole.targets, [7, 3]))[0]
    assert exp.test.classes[label] == whole.classes[whole.targets[position]]
    np.testing.assert_array_equal(np.asarray(image), np.asarray(whole[position][0]))
    with pytest.raises(DatasetError, match=r"no class 'x'; there are 0, 1, 2, .*, 9$"):
        whole.only(["7", "x"])


@pytest.fixture(scope="module")
def exp(tmp_path_factory):
    return warmed(tmp_path_factory)


def relabel(exp, split, seed=0):
    """The same experiment, the labels of one split permuted; vectors and moments as they were."""
    y = np.random.default_rng(seed).permutation(exp.data[split].targets)
    assert (y != exp.data[split].targets).any()
    assert exp.moments.mean.shape == exp.vectors.z_ft.shape
    made = changed(exp, **{split: with_labels(exp.data[split], y)})
    made.__dict__["features"] = {**exp.features, split: replace(exp.features[split], y=y)}
    return made


def same_gate(a, b):
    return (
        np.array_equal(a.weight, b.weight)
        and np.array_equal(a.bias, b.bias)
        and a.threshold == b.threshold
    )


def test_features_are_keyed_by_split(exp):
    assert tuple(exp.features) == tuple(exp.pre_features) == SPLITS
    for split, data in exp.data.items():
        for classifier, features in (
            (exp.ft, exp.features),
            (exp.pre, exp.pre_features),
        ):
            expected = extract_features(classifier, data, progress=False)
            np.testing.assert_array_equal(features[split].z, expected.z)
            np.testing.assert_array_equal(features[split].y, data.targets)
    assert exp.features is exp.features


def test_class_vectors_and_moments_are_those_of_train(exp):
    expected = class_vectors(exp.pre, exp.ft, exp.data["train"], progress=False)
    np.testing.assert_array_equal(exp.vectors.kappa, expected.kappa)
    np.testing.assert_allclose(exp.moments.mean, exp.vectors.z_ft, rtol=1e-6)
    assert exp.moments.count.sum() == len(exp.data["train"])
    assert exp.moments.scatter is not None


@pytest.mark.parametrize("score", SCORES)
def test_one_gate_a_class_and_score(exp, score):
    assert exp.gate("red", score) is exp.gate("red", score)
    assert (exp.gate("red", score).target, exp.gate("red", score).score) == ("red", score)
    others = [exp.gate("blue", score), *(exp.gate("red", s) for s in SCORES if s != score)]
    assert all(exp.gate("red", score) is not other for other in others)


def test_no_gate(exp):
    assert exp.gate("red", "none") is None
    assert exp.gate("red") is exp.gate("red", "predicted")


@pytest.mark.parametrize("score", SCORES)
@pytest.mark.parametrize("split", ["train", "test"])
def test_labels_of_other_splits_do_not_reach_a_gate(exp, split, score):
    assert same_gate(relabel(exp, split).gate("green", score), exp.gate("green", score))


def test_labels_of_val_set_the_threshold(exp):
    val, gate = exp.features["val"], exp.gate("green", "margin")
    scores = gate.scores(val.z)[val.y != 1]
    assert gate.threshold == threshold(scores, 0.01)
    assert (gate.guarantee, gate.false_fire, gate.n_negatives) == ("marginal", 0.01, 300)
    assert relabel(exp, "val").gate("green", "margin").threshold != gate.threshold


def test_bounds_reach_gates_and_each_has_its_own(exp):
    first = exp.gate("red", "margin")
    loose = exp.gate("red", "margin", Bounds(false_fire=0.2))
    assert (loose.false_fire, loose.threshold < first.threshold) == (0.2, True)
    assert exp.gate("red", "margin") is first
    assert exp.gate("red", "margin", Bounds(false_fire=0.2, threshold=0.5)) is loose
    assert exp.gate("red", "margin", Bounds(guarantee="pac")).guarantee == "pac"
    plain = exp.gate("red")  # the model's own decision has no threshold to set
    assert (plain.guarantee, plain.threshold) == ("none", 0)
    assert exp.gate("red", bounds=Bounds(false_fire=0.2)).threshold == 0


def test_a_changed_experiment_makes_gates_of_its_own(exp):
    assert replace(exp, seed=4).gate("red") is not exp.gate("red")


def test_the_strength_is_chosen_behind_the_gate_to_be_deployed(exp):
    """By default behind the model's own decision, which then is the gate that is used."""
    for score in (None, *SCORES, "none"):
        gate = exp.gate("blue", score) if score else exp.gate("blue", "predicted")
        found = exp.strength("blue", score) if score else exp.strength("blue")
        assert found.edit.gate is gate
        edit = exp.vectors["blue"].gated(gate)
        again = choose_lambda(exp.ft, edit, exp.features["val"])
        assert (found.best, found.out_of_reach) == (again.best, again.out_of_reach)
        assert found.curve.equals(again.curve)
    assert exp.strength("blue") is exp.strength("blue", "predicted")


def test_of_few_val_images_the_strength_is_chosen_on_training_images_as_well(exp):
    """Of the class to edit alone: 10 of val and 60 of train, beside the 20 others of val."""
    few = exp.val.subset(
        np.concatenate([np.flatnonzero(exp.val.targets == i)[:10] for i in range(3)])
    )
    small = replace(exp, val=few)
    judged = small.judged_on("blue")
    assert np.bincount(judged.y).tolist() == [10, 10, 10 + (exp.train.targets == 2).sum()]
    np.testing.assert_array_equal(judged.z[:30], small.features["val"].z)
    curve = small.strength("blue").curve
    assert set(curve["n_f"]) == {10 + (exp.train.targets == 2).sum()}
    assert set(curve["n_r"]) == {20}
    assert exp.judged_on("blue") is exp.features["val"]


def test_a_floor_is_a_size():
    for wrong in (-0.1, np.nan):
        with pytest.raises(EditError, match=r"floor must lie in \[0, inf\]; got"):
            Bounds(floor=wrong)
    assert Bounds(floor=0).strength["floor"] == 0
    assert Bounds().floor == 1.5


def test_a_class_may_have_any_name(tmp_path):
    """What is kept of a class is not taken for what is kept of all of them."""
    classes = ("outlook", "gate", "predicted")
    sizes = zip(SPLITS, (60, 90, 60), strict=True)
    made = trained(
        small_classifier(classes), {s: coloured(n, split=s, classes=classes) for s, n in sizes}
    )
    told = outlook(made)
    assert made.strength("outlook").edit.target == "outlook"
    assert outlook(made) is told


@pytest.mark.parametrize("name", ["threshold", "tolerance", "false_fire"])
def test_bounds_are_shares(name):
    with pytest.raises(EditError, match=rf"{name} must lie in \[0, 1\]; got 1.5"):
        Bounds(**{name: 1.5})


def test_a_wrong_class_is_named_before_any_work():
    exp = idle_experiment(test=np.array([0, 1, 0]), val=np.array([0, 1, 1]))
    assert exp.require_targets(["red"]) == ("red",)
    with pytest.raises(EditError, match="no class 'pink'; there are red, green, blue"):
        exp.require_targets(["pink"])
    with pytest.raises(
        EditError, match="class 'blue' has no image in val, test: add some, or choose other"
    ):
        exp.require_targets(["red", "blue"])
    with pytest.raises(AssertionError, match="was read"):
        assert exp.features


def test_lists_of_targets():
    exp = idle_experiment()
    assert exp.require_targets(None) == CLASSES
    assert exp.require_targets(["blue", "red"]) == ("blue", "red")
    for wrong, shown in (
        ([], "got none"),
        (["red", "red"], "got red, red"),
        (["red", "pink"], "no class 'pink'"),
    ):
        with pytest.raises(EditError, match=shown):
            exp.require_targets(wrong)


def test_a_small_val_has_gates_of_the_rate_that_it_allows_and_says_so(exp):
    assert rates_say(exp) == ()
    few = replace(exp, val=exp.val.subset(range(90)))
    gate = few.gate("red", "margin")
    assert (gate.false_fire, gate.n_negatives) == (1 / 61, 60)
    assert rates_say(few) == (
        "Gates are calibrated for 1.64%, the least that 60 validation samples of other classes "
        "allow; 1% was asked for.",
    )
    assert rates_say(few, Bounds(false_fire=1 / 61)) == ()
    assert rates_say(few, Bounds(guarantee="youden")) == ()
    uneven = replace(exp, val=exp.val.subset(range(91)))  # 31, 30, 30
    rates = [uneven.gate(name, "margin").false_fire for name in CLASSES]
    assert f"for up to {100 * max(rates):.3g}%, the least that 60 " in rates_say(uneven)[0]
    pac = Bounds(guarantee="pac")
    rate = 100 * few.gate("red", "margin", pac).false_fire
    assert f"calibrated for {rate:.3g}%" in rates_say(few, pac)[0]
    assert few.gate("red").threshold == few.gate("red", "predicted").threshold == 0


def test_making_an_experiment_extracts_nothing():
    assert "features" not in small_experiment().__dict__


def reading(right, seed=0):
    """A classifier that names coloured images rightly with a given share, by their index."""

    class Encoder(torch.nn.Module):
        def forward(self, images):
            true = images.mean(dim=(2, 3)).argmax(1)
            drawn = torch.rand(len(true), generator=torch.Generator().manual_seed(seed))
            return 9.0 * torch.nn.functional.one_hot((true + (drawn >= right)) % 3, 3)

    head = torch.nn.Linear(3, 3)
    with torch.no_grad():
        head.weight.copy_(torch.eye(3))
        head.bias.zero_()
    return Classifier(
        Encoder(), head, classes=CLASSES, preprocess=small_classifier().preprocess
    ).eval()


@pytest.mark.parametrize(
    ("before", "after", "warned"),
    [
        (0.34, 1.0, []),
        (0.97, 1.0, []),
        (0.34, 0.34, ["is poor"]),
        (0.2, 0.41, ["is poor"]),
        (1.0, 0.34, ["is poor", "is below"]),
        (1.0, 0.85, ["is below"]),
        (0.99, 0.98, []),
    ],
)
def test_the_accuracy_of_a_pair_is_said_with_a_warning_where_it_is_poor(before, after, warned):
    val = coloured(150, split="val", noise=5)
    says = accuracy_says(reading(before), reading(after), val)
    shown = [percent(*share(predict(m, val) == val.targets)) for m in map(reading, (before, after))]
    assert says[0] == f"Accuracy on val (n = 150): pre-trained {shown[0]}, fine-tuned {shown[1]}."
    assert len(says) == 1 + len(warned)
    for sentence, words in zip(says[1:], warned, strict=True):
        assert sentence.startswith("Warning: the fine-tuned model ")
        assert words in sentence


def test_uneven_classes_are_said():
    model = small_classifier()
    data = coloured(24)
    uneven = data.subset(
        np.r_[np.flatnonzero(data.targets != 1), np.flatnonzero(data.targets == 1)[:2]]
    )
    assert not any("uneven" in line for line in accuracy_says(model, model, data))
    said = accuracy_says(model, model, uneven)
    assert "Classes are uneven in train: 2 images of 'green', 8 of 'red'." in said


def test_accuracies_are_said_where_a_notebook_prepares_a_pair(folder, tmp_path, capsys):
    exp = prepare(dataset=folder, asked={}, **SETUP)
    said = capsys.readouterr().out.splitlines()
    assert said == list(accuracy_says(exp.pre, exp.ft, exp.val))
    exp.pre.save(tmp_path / "poor")
    given = {"dataset": folder, "finetuned": str(tmp_path / "poor"), **SETUP}
    prepare(**given, seed=1, asked={"targets": []})
    assert capsys.readouterr().out.startswith("Accuracy on val (n = ")
    prepare(**given)
    prepare(dataset=folder, asked={}, fine_tune=False, **SETUP)
    assert capsys.readouterr().out == ""
