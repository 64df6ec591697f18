"""Mapping into LayerNorms reaches the target, holds the anchors, and changes nothing else."""

import numpy as np
import pytest
import torch
from conftest import CLASSES, coloured, small_classifier
from torch import nn

from classvec_lab import Classifier
from classvec_lab.datasets.torchvision_repair import ensure_torchvision
from classvec_lab.editing.weights import layernorm
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


def errors(classifier, edited, data, target, goal=None):
    """Mean squared errors of references and anchors, in units of |shift|²."""
    before, own = encoded(classifier, data), data.targets == CLASSES.index(target)
    after, scale = encoded(edited, data), np.square(SHIFT).sum()
    wanted = before + SHIFT if goal is None else goal
    sides = (after - wanted)[own], (after - before)[~own]
    return [np.square(side).sum(axis=1).mean() / scale for side in sides]


def loss(classifier, mapping, data, target):
    """What "trained" minimises."""
    change = sum(np.square(v).sum() for (v,) in mapping.delta.changes.values())
    reached, held = errors(classifier, mapping.apply_to(classifier), data, target)
    return reached + layernorm.RETENTION * held + layernorm.RIDGE * change


@pytest.mark.parametrize("parameters", ["ln_post", "ln_2", "last_block", "last_2_blocks"])
def test_the_class_moves_by_the_shift_and_the_others_hardly(seen, parameters):
    data = coloured(15)
    found = [
        map_layernorms(seen, SHIFT, "green", data, parameters=parameters, steps=n) for n in (3, 30)
    ]
    reached, held = errors(seen, found[1].apply_to(seen), data, "green")
    assert reached < 0.5
    assert held < 0.5
    assert loss(seen, found[1], data, "green") < loss(seen, found[0], data, "green") < 1


def test_only_the_layernorms_named_change_and_come_back(seen):
    before = {k: v.clone() for k, v in seen.state_dict().items()}
    mapping = map_layernorms(seen, SHIFT, "green", coloured(6), parameters="last_block", steps=3)
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


def test_training_reaches_the_exact_minimum(seen, monkeypatch):
    data, penalty = coloured(12), 0.01
    for name, value in (("RIDGE", penalty), ("RETENTION", 2.0), ("TOLERANCE", 1e-6)):
        monkeypatch.setattr(layernorm, name, value)
    trained = map_layernorms(seen, SHIFT, "red", data, parameters="ln_post")
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
    reached = loss(seen, trained, data, "red")
    assert least <= reached * (1 + 1e-4)
    assert reached == pytest.approx(least, rel=1e-3)
    found = np.concatenate(
        [trained.delta.changes[f"encoder.ln_post.{part}"][0] for part in ("weight", "bias")]
    )
    np.testing.assert_allclose(found, expected, atol=1e-2 * np.abs(expected).max())


def test_it_stops_when_the_loss_has_come_to_rest(seen, monkeypatch):
    passes, call = [], Suffix.__call__
    monkeypatch.setattr(Suffix, "__call__", lambda self, q: passes.append(q) or call(self, q))
    counts, data = [], coloured(12)
    for tolerance in (1e-3, 0.2, 1.0):
        monkeypatch.setattr(layernorm, "TOLERANCE", tolerance)
        passes.clear()
        map_layernorms(seen, SHIFT, "red", data, parameters="ln_2")
        counts.append(len(passes))
    assert counts[0] > counts[1] > counts[2] >= 5


def test_published_pulls_all_references_to_one_point_and_holds_no_anchor(seen):
    data = coloured(12)
    how = {"method": "published", "parameters": "last_2_blocks", "steps": 20}
    mapping = map_layernorms(seen, SHIFT, "red", data, **how)
    own = data.subset(data.targets == 0)
    assert (
        mapping.delta.fingerprint
        == map_layernorms(seen, SHIFT, "red", own, **how).delta.fingerprint
    )
    goal = encoded(seen, own).mean(axis=0) + SHIFT
    ends = [errors(seen, m, data, "red", goal)[0] for m in (seen, mapping.apply_to(seen))]
    assert ends[1] < ends[0]


def test_anchors_are_held(seen, monkeypatch):
    monkeypatch.setattr(layernorm, "RIDGE", 0.0)
    data, held = coloured(30), []
    for retention in (0.0, 1.0):
        monkeypatch.setattr(layernorm, "RETENTION", retention)
        found = map_layernorms(seen, SHIFT, "red", data, parameters="last_block", steps=40)
        held.append(errors(seen, found.apply_to(seen), data, "red")[1])
    assert held[1] < 0.5 * held[0]


def test_images_are_drawn_by_seed(seen, monkeypatch):
    given, begin = [], Suffix.__init__

    def listen(self, encoder, layernorms, images):
        given.append(len(images))
        begin(self, encoder, layernorms, images)

    monkeypatch.setattr(Suffix, "__init__", listen)
    how = {"steps": 2, "n_references": 2, "n_anchors": 3}
    a, b, c = (map_layernorms(seen, SHIFT, "green", coloured(30), seed=s, **how) for s in (0, 0, 1))
    assert given == [2 + 2 * 3] * 3
    assert a.delta.fingerprint == b.delta.fingerprint != c.delta.fingerprint


def test_edits_of_several_classes_are_undone_in_any_order(seen):
    deltas = [
        map_layernorms(seen, SHIFT, c, coloured(6), parameters="ln_2", steps=2).delta
        for c in CLASSES
    ]
    edited = seen
    for delta in deltas:
        edited = delta.apply_to(edited)
    for delta in (deltas[1], deltas[0], deltas[2]):
        edited = delta.remove_from(edited)
    assert all(torch.equal(v, seen.state_dict()[k]) for k, v in edited.state_dict().items())


def test_a_second_edit_starts_from_the_first(seen):
    data = coloured(6)
    once = map_layernorms(seen, SHIFT, "red", data).apply_to(seen)
    second = map_layernorms(once, SHIFT, "blue", data)
    assert errors(once, second.apply_to(once), data, "blue")[0] < 0.5
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
        ({"images": coloured(5).subset([0, 2])}, EditError, "no reference image of class 'green'"),
        ({"images": coloured(6).only(["red", "blue"])}, MismatchError, "the images lacks green"),
        (
            {"images": coloured(6).subset(coloured(6).targets == 1)},
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
        **change,
    }
    with pytest.raises(error, match=words):
        map_layernorms(seen, **settings)


def test_an_encoder_without_layernorm_is_pointed_elsewhere():
    with pytest.raises(ModelError, match=r"Sequential has no LayerNorm.*closed form"):
        map_layernorms(small_classifier(), SHIFT, "green", coloured(6))
