"""Mapping into LayerNorms reaches the target, holds the anchors, and changes nothing else."""

import numpy as np
import pytest
import torch
from conftest import CLASSES, coloured, small_classifier
from torch import nn

from classvec_lab import Classifier
from classvec_lab.datasets.torchvision_repair import ensure_torchvision
from classvec_lab.editing.weights.layernorm import map_layernorms
from classvec_lab.editing.weights.suffix import Suffix
from classvec_lab.errors import EditError, MismatchError, ModelError
from classvec_lab.models import Preprocess

ensure_torchvision()
from open_clip.transformer import VisionTransformer  # noqa: E402

DIM, SHIFT = 6, np.array([1.0, -0.5, 0, 0.25, 0, 0.5])


@pytest.fixture(scope="module")
def seen():
    """A small vision transformer on 8 × 8 images, with LayerNorms unlike the identity."""
    torch.manual_seed(0)
    encoder = VisionTransformer(8, 4, width=16, layers=3, heads=2, mlp_ratio=2.0, output_dim=DIM)
    with torch.no_grad():
        for parameter in encoder.parameters():
            parameter += 0.2 * torch.randn_like(parameter)
    preprocess = Preprocess("open_clip", {"size": 8, "mean": [0.5] * 3, "std": [0.5] * 3})
    return Classifier(encoder, nn.Linear(DIM, len(CLASSES)), classes=CLASSES, preprocess=preprocess)


def encoded(classifier, data):
    x = torch.stack([classifier.preprocess(data[i][0]) for i in range(len(data))])
    with torch.no_grad():
        return classifier.encode(x).double().numpy()


@pytest.mark.parametrize("parameters", ["ln_post", "ln_2", "last_block", "last_2_blocks"])
def test_the_edited_classifier_does_what_the_history_says(seen, parameters):
    data = coloured(15)
    mapping = map_layernorms(seen, SHIFT, "green", data, data, parameters=parameters, steps=30)
    moved = encoded(mapping.delta.apply_to(seen), data) - encoded(seen, data)
    scale, own = np.square(SHIFT).sum(), data.targets == 1
    last = mapping.history.iloc[-1]
    error = np.square(moved[own] - SHIFT).sum(axis=1).mean() / scale
    assert error == pytest.approx(last["target_error"], abs=1e-4)
    assert np.square(moved[~own]).sum(axis=1).mean() / scale == pytest.approx(
        last["retention_error"], abs=1e-4
    )
    change = sum(np.square(v).sum() for (v,) in mapping.delta.changes.values())
    assert last["loss"] == pytest.approx(
        last["target_error"] + last["retention_error"] + 1e-5 * change, rel=1e-4
    )
    assert last["target_error"] < 0.5


def test_the_history_begins_unedited_and_never_rises(seen):
    mapping = map_layernorms(seen, SHIFT, "green", coloured(15), coloured(15), parameters="ln_2")
    first = mapping.history.iloc[0]
    assert (first["step"], first["retention_error"]) == (0, 0)
    assert first["target_error"] == pytest.approx(1)
    assert (mapping.history["loss"].diff().dropna() <= 0).all()
    assert mapping.history["step"].tolist() == list(range(len(mapping.history)))


def test_only_the_layernorms_named_change_and_come_back(seen):
    before = {k: v.clone() for k, v in seen.state_dict().items()}
    mapping = map_layernorms(
        seen, SHIFT, "green", coloured(6), coloured(6), parameters="last_block", steps=3
    )
    edited = mapping.delta.apply_to(seen)
    changed = {k for k, v in edited.state_dict().items() if not torch.equal(v, before[k])}
    block = "encoder.transformer.resblocks.2.ln_"
    assert changed == {f"{block}{i}.{part}" for i in (1, 2) for part in ("weight", "bias")}
    assert mapping.n_parameters == sum(before[k].numel() for k in changed) == 64
    restored = mapping.delta.remove_from(edited).state_dict()
    assert all(
        torch.equal(v, before[k])
        for state in (seen.state_dict(), restored)
        for k, v in state.items()
    )
    assert all(p.grad is None and p.requires_grad for p in seen.encoder.parameters())


def test_training_reaches_the_exact_minimum(seen):
    data, penalty = coloured(12), 0.01
    options = {"parameters": "ln_post", "ridge": penalty, "retention": 2.0}
    trained = map_layernorms(seen, SHIFT, "red", data, data, tol=1e-6, **options)
    assert trained.converged
    # z is linear in the last norm, so that least squares give the minimum
    tokens = []
    handle = seen.encoder.ln_post.register_forward_pre_hook(lambda m, args: tokens.append(args[0]))
    encoded(seen, data)
    handle.remove()
    tokens = nn.functional.layer_norm(tokens[0][:, 0].detach(), (16,)).double().numpy()
    projection, own = seen.encoder.proj.detach().double().numpy(), data.targets == 0
    weight = np.sqrt(np.where(own, 1 / own.sum(), 2 / (~own).sum()) / np.square(SHIFT).sum())
    weight = weight[:, None]
    design = [
        np.hstack([projection.T * n, projection.T]) * w for n, w in zip(tokens, weight, strict=True)
    ]
    design = np.vstack([*design, np.sqrt(penalty) * np.eye(32)])
    goal = np.concatenate([*(weight * own[:, None] * SHIFT), np.zeros(32)])
    expected = np.linalg.lstsq(design, goal)[0]
    least = np.square(design @ expected - goal).sum()
    assert least <= trained.history["loss"].iloc[-1] * (1 + 1e-5)
    assert trained.history["loss"].iloc[-1] == pytest.approx(least, rel=1e-4)
    found = np.concatenate(
        [trained.delta.changes[f"encoder.ln_post.{part}"][0] for part in ("weight", "bias")]
    )
    np.testing.assert_allclose(found, expected, atol=1e-2 * np.abs(expected).max())


def test_it_stops_when_the_loss_has_come_to_rest(seen):
    loose = map_layernorms(
        seen, SHIFT, "red", coloured(12), coloured(12), parameters="ln_2", tol=0.2
    )
    short = map_layernorms(
        seen, SHIFT, "red", coloured(12), coloured(12), parameters="ln_2", steps=2
    )
    assert loose.converged
    assert 5 <= len(loose.history) - 1 < 200
    assert not short.converged
    assert len(short.history) - 1 == 2


def test_published_pulls_all_references_to_one_point_and_holds_no_anchor(seen):
    data = coloured(12)
    mapping = map_layernorms(
        seen, SHIFT, "red", data, data, method="published", parameters="last_2_blocks", steps=20
    )
    without = map_layernorms(
        seen, SHIFT, "red", data, method="published", parameters="last_2_blocks", steps=20
    )
    assert len(mapping.history) - 1 == 20
    for name, (change,) in mapping.delta.changes.items():
        np.testing.assert_allclose(change, without.delta.changes[name][0], atol=1e-6)
    assert without.history["retention_error"].isna().all()
    goal = encoded(seen, data)[data.targets == 0].mean(axis=0) + SHIFT
    end = encoded(mapping.delta.apply_to(seen), data)[data.targets == 0]
    error = np.square(end - goal).sum(axis=1).mean() / np.square(SHIFT).sum()
    assert error == pytest.approx(mapping.history["target_error"].iloc[-1], abs=1e-4)
    assert error < mapping.history["target_error"].iloc[0]


def test_anchors_are_held(seen):
    data = coloured(30)
    options = {"parameters": "last_block", "steps": 40, "ridge": 0.0}
    free = map_layernorms(seen, SHIFT, "red", data, data, retention=0.0, **options)
    held = map_layernorms(seen, SHIFT, "red", data, data, retention=1.0, **options)
    assert held.history["retention_error"].iloc[-1] < 0.5 * free.history["retention_error"].iloc[-1]


def test_tensors_and_data_sets_are_taken_alike(seen):
    data = coloured(9)
    x = torch.stack([seen.preprocess(data[i][0]) for i in range(9)])
    y = torch.as_tensor(data.targets)
    kept = torch.cat([x[y == 0], x[y == 2]])
    a = map_layernorms(seen, SHIFT, "green", data, data, steps=5)
    b = map_layernorms(seen, SHIFT, "green", x[y == 1], kept, steps=5)
    for mapping in (a, b):
        assert (mapping.delta.facts["references"], mapping.delta.facts["anchors"]) == (3, 6)
    assert a.delta.fingerprint == b.delta.fingerprint


def test_images_are_drawn_by_seed(seen):
    def drawn(seed):
        return map_layernorms(
            seen,
            SHIFT,
            "green",
            coloured(30),
            coloured(30),
            steps=2,
            n_references=2,
            n_anchors=3,
            seed=seed,
        )

    facts = drawn(0).delta.facts
    assert (facts["references"], facts["anchors"]) == (2, 6)
    assert drawn(0).delta.fingerprint == drawn(0).delta.fingerprint != drawn(1).delta.fingerprint


def test_edits_of_several_classes_are_undone_in_any_order(seen):
    deltas = [
        map_layernorms(seen, SHIFT, c, coloured(6), coloured(6), parameters="ln_2", steps=2).delta
        for c in CLASSES
    ]
    edited = seen
    for delta in deltas:
        edited = delta.apply_to(edited)
    for delta in (deltas[1], deltas[0], deltas[2]):
        edited = delta.remove_from(edited)
    assert all(torch.equal(v, seen.state_dict()[k]) for k, v in edited.state_dict().items())


def test_a_second_edit_starts_from_the_first(seen):
    first = map_layernorms(seen, SHIFT, "red", coloured(6), coloured(6)).delta
    once = first.apply_to(seen)
    second = map_layernorms(once, SHIFT, "blue", coloured(6), coloured(6))
    moved = encoded(second.delta.apply_to(once), coloured(6)) - encoded(once, coloured(6))
    error = (
        np.square(moved[coloured(6).targets == 2] - SHIFT).sum(axis=1).mean()
        / np.square(SHIFT).sum()
    )
    assert error == pytest.approx(second.history["target_error"].iloc[-1], abs=1e-4)
    assert second.apply_to(seen) is not None


@pytest.mark.parametrize(
    ("change", "error", "words"),
    [
        ({"target": "gren"}, MismatchError, "no class 'gren'; there are red, green, blue"),
        ({"shift": np.ones(5)}, MismatchError, r"shape \(6,\).*got \(5,\)"),
        ({"shift": np.zeros(6)}, EditError, "norm 0"),
        ({"shift": np.full(6, np.inf)}, EditError, "not finite"),
        ({"method": "adam"}, EditError, "no method 'adam'; there are trained, published"),
        ({"steps": 0}, EditError, r"steps must lie in \[1, .*got 0"),
        ({"tol": 1.5}, EditError, r"tol must lie in \[0, 1\]; got 1\.5"),
        ({"ridge": -1.0}, EditError, r"ridge must lie in \[0, .*got -1\.0"),
        ({"images": coloured(5).subset([0, 2])}, EditError, "no reference image of class 'green'"),
        ({"images": torch.zeros(3, 8, 8)}, MismatchError, r"shape \(N, 3, H, W\).*\(3, 8, 8\)"),
        (
            {"images": coloured(6).only(["red", "blue"])},
            EditError,
            "no reference image of class 'green'",
        ),
        ({"anchors": None}, EditError, "pass anchors="),
        (
            {"anchors": coloured(6).only(["green"])},
            EditError,
            "no image of a class other than 'green'",
        ),
    ],
)
def test_what_cannot_be_done_is_said_before_any_work(seen, monkeypatch, change, error, words):
    monkeypatch.setattr(Suffix, "__init__", lambda *_: pytest.fail("the encoder ran"))
    settings = {
        "shift": SHIFT,
        "target": "green",
        "images": coloured(6),
        "anchors": coloured(6),
        **change,
    }
    with pytest.raises(error, match=words):
        map_layernorms(seen, **settings)


def test_an_encoder_without_layernorm_is_pointed_elsewhere():
    with pytest.raises(ModelError, match=r"Sequential has no LayerNorm.*closed form"):
        map_layernorms(small_classifier(), SHIFT, "green", coloured(6), coloured(6))
