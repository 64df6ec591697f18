"""`prepare` turns flat notebook parameters into models and splits."""

import numpy as np
import pytest
from PIL import Image

from classvec_lab import finetune, load_dataset, prepare
from classvec_lab.errors import DatasetError, MismatchError

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


def test_group_and_limit_reach_the_data(folder):
    exp = prepare(dataset=folder, group=r"/(\d)_", **SETUP)
    groups = [set(d.metadata["group"]) for d in (exp.train, exp.val, exp.test)]
    assert sum(map(len, groups)) == 5
    assert len(prepare(dataset=folder, limit=6, **SETUP).train) == 6


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
    assert exp.recipe["lr"] > 0  # the one that was chosen
    again = finetune(exp.pre, exp.train, val=exp.val, progress=False, cache=False, **exp.recipe)
    assert again.classifier.fingerprint == exp.ft.fingerprint
    assert prepare(dataset=folder, lr=0.02, **SETUP).recipe["lr"] == 0.02


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
    with pytest.raises(DatasetError, match=r"choose among its classes 0, 1, .* \(unknown: x\)"):
        whole.only(["7", "x"])
