"""Triggers keep their bounds, repeat, do more than random pixels, and leave the model as it was."""

from dataclasses import replace

import numpy as np
import pytest
import torch
from conftest import MOBILENET, coloured, small_classifier
from in_process import parameters, run
from PIL import Image
from small_experiments import small_experiment

from classvec_lab.applications.trigger_search import find_trigger
from classvec_lab.applications.triggers import KINDS, detected, encode, pixel_range
from classvec_lab.errors import EditError, MismatchError, ModelError
from classvec_lab.models import Preprocess
from classvec_lab.readout import logits

BUDGET = {"steps": 60, "batch_size": 24, "eps": 60.0, "area": 0.3}


@pytest.fixture(scope="module")
def exp():
    return small_experiment()


def images(exp, name, split="test"):
    data = exp.data[split]
    own = data.subset(data.targets == data.classes.index(name))
    return own, torch.stack([exp.ft.preprocess(x) for x, _ in own])


def success(exp, x, target):
    called = logits(exp.ft, encode(exp.ft, x)).argmax(axis=1)
    return (called == exp.ft.classes.index(target)).mean()


def shift(exp, source, target):
    kappa = exp.vectors.kappa
    return 3 * (kappa[exp.vectors.index(target)] - kappa[exp.vectors.index(source)])


@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize("way", ["shift", "target"])
def test_a_search_turns_new_images_and_random_pixels_do_not(exp, kind, way):
    own, _ = images(exp, "red", "train")
    _, x = images(exp, "red")
    towards = {"shift": shift(exp, "red", "blue"), "target": "blue"}
    found = find_trigger(exp.ft, own, kind=kind, **{way: towards[way]}, **BUDGET)
    before, after = success(exp, x, "blue"), success(exp, found.apply(x), "blue")
    control = success(exp, found.random(0).apply(x), "blue")
    assert after > max(before, control) + 0.3


@pytest.mark.parametrize("kind", KINDS)
def test_it_keeps_its_bounds_and_repeats(exp, kind):
    own, x = images(exp, "green")
    of = {"shift": shift(exp, "green", "red"), "kind": kind, **BUDGET}
    one, same = (find_trigger(exp.ft, own, **of) for _ in range(2))
    assert torch.equal(one.pixels, same.pixels)
    assert torch.equal(one.mask, same.mask)
    low, high, *size = pixel_range(exp.ft.preprocess)
    worn = one.apply(x)
    assert (worn >= low - 1e-6).all()
    assert (worn <= high + 1e-6).all()
    moved = ((worn - x) / (high - low)).abs()
    if kind == "patch":
        assert one.area <= BUDGET["area"]
        assert (moved[:, :, ~one.mask] == 0).all()
        rows, columns = (torch.nonzero(one.mask.any(dim=d)).ravel() for d in (1, 0))
        side = len(rows)
        assert side == len(columns) == int((0.3 * size[0] * size[1]) ** 0.5)
        assert one.mask.sum() == side**2
    else:
        assert one.area == 1
        assert moved.max() <= BUDGET["eps"] / 255 + 1e-6
        bound = one.random(0).pixels.abs()
        assert torch.allclose(bound, one.pixels.abs().max().expand_as(bound))


def test_the_model_is_left_as_it_was(exp):
    own, _ = images(exp, "red")
    model = exp.ft
    model.train()
    next(model.encoder.parameters()).requires_grad_(False)
    before = {k: v.clone() for k, v in model.state_dict().items()}
    asked = [p.requires_grad for p in model.parameters()]
    find_trigger(model, own, target="blue", steps=3)
    assert model.training
    assert [p.requires_grad for p in model.parameters()] == asked
    assert all(p.grad is None for p in model.parameters())
    assert all(torch.equal(v, before[k]) for k, v in model.state_dict().items())
    model.eval()
    model.requires_grad_(True)


def test_an_image_with_a_trigger_looks_as_the_network_sees_it(exp):
    own, x = images(exp, "red")
    found = find_trigger(exp.ft, own, target="green", **BUDGET)
    shown = found.image(x[0])
    again = exp.ft.preprocess(shown)
    np.testing.assert_allclose(again, found.apply(x[:1])[0], atol=2 / 255 * 2)


def test_black_and_white_are_found_for_any_scaling_and_mixing_is_refused():
    for mean, std in (([0.5] * 3, [0.5] * 3), ([0.48, 0.46, 0.41], [0.27, 0.26, 0.28])):
        own = Preprocess("open_clip", {"size": 8, "mean": mean, "std": std})
        low, high, *size = pixel_range(own)
        assert size == [8, 8]
        np.testing.assert_allclose(low.ravel(), -np.array(mean) / std, rtol=1e-5)
        np.testing.assert_allclose(high.ravel(), (1 - np.array(mean)) / std, rtol=1e-5)

    def vignette(image):
        x = torch.from_numpy(np.asarray(image.resize((8, 8)), np.float32)).permute(2, 0, 1) / 255
        return x * torch.linspace(0.5, 1, 8)

    with pytest.raises(ModelError, match="scales each channel by itself"):
        pixel_range(vignette)
    with pytest.raises(ModelError, match="scales each channel by itself"):
        pixel_range(lambda image: torch.zeros(3, 8, 8) + np.asarray(image).mean() ** 2)
    assert isinstance(Image.new("RGB", (2, 2)), Image.Image)


def test_what_cannot_be_is_named(exp):
    own, good = coloured(6), {"target": "blue"}
    for given, error, said in (
        ({}, EditError, "give one"),
        (good | {"shift": np.ones(6)}, EditError, "give one"),
        ({"target": "pink"}, MismatchError, "no class 'pink'"),
        ({"shift": np.ones(5)}, MismatchError, "shape"),
        (good | {"kind": "sticker"}, EditError, "no kind of trigger 'sticker'"),
        (good | {"area": 0.0}, EditError, "area"),
        (good | {"area": 0.001}, EditError, "side of the patch in pixels"),
        (good | {"eps": -1, "kind": "perturbation"}, EditError, "eps"),
        (good | {"steps": 0}, EditError, "steps"),
    ):
        with pytest.raises(error, match=said):
            find_trigger(exp.ft, own, **given)


def test_a_detector_takes_side_and_threshold_from_val_alone():
    rng = np.random.default_rng(0)
    worn, clean = (rng.normal(-2, 1, (2, 400)), rng.normal(0, 1, (2, 2000)))
    row = detected(worn, clean)
    assert row["auroc"] == pytest.approx(0.921, abs=0.02)  # of two normals, two apart
    assert row["detected"] == pytest.approx(0.95, abs=0.03)
    assert row["false_alarms"] == pytest.approx(0.36, abs=0.05)
    flipped = detected(-worn, -clean)
    assert flipped == pytest.approx(row)
    other = detected([worn[0], -worn[1]], [clean[0], -clean[1]])  # on test it is the other way
    assert other["auroc"] < 0.1


@pytest.mark.usefixtures("look")
def test_the_notebook_says_what_its_tables_say(tmp_path):
    small = {"model": "mlp", "model_args": {"size": 8, "hidden": [8], "dim": 12}, "limit": 200}
    names = run("09", small | {"epochs": 2, "steps": 3, "n_seeds": 2, "out": str(tmp_path)})
    assert set(names["runs"]["kind"]) == set(KINDS)
    none = names["success"].query("method == 'none'")
    assert none["accuracy"].nunique() == 1  # no trigger is of no kind
    assert "transfer" in names["success"]
    assert parameters("09").keys() <= names.keys()
    assert any(
        said.startswith("A patch: called the target by class vectors") for said in names["says"]
    )


@pytest.mark.real
@pytest.mark.usefixtures("look")
def test_triggers_on_photographs(shared, photographs, tmp_path):
    weights = str(shared / "weights" / "mobilenetv2_100_imagenet.safetensors")
    given = {
        "dataset": str(photographs), "limit": 45, "epochs": 1,
        "model": "timm:mobilenetv2_100", "model_args": MOBILENET, "weights": weights,
        "head": "probe", "n_candidates": 1, "steps": 10, "batch": 8, "out": str(tmp_path),
    }  # fmt: skip
    names = run("09", given)
    table = names["success"].set_index(["kind", "method"])["success"]
    assert table["perturbation", "PGD"] > table["perturbation", "none"]


def test_another_head_or_aim_is_another_search(exp):
    own, _ = images(exp, "red")
    one = find_trigger(exp.ft, own, target="blue", **BUDGET)
    other = find_trigger(exp.ft, own, target="green", **BUDGET)
    assert not torch.equal(one.pixels, other.pixels)
    model = small_classifier(seed=4)
    moved = find_trigger(model, own, target="blue", **BUDGET)
    assert not torch.equal(one.pixels, moved.pixels)
    assert replace(one, kind="patch").area == one.area
