"""Mapped edits move class means as promised, come off bit for bit, and say where they can't be."""

import copy
import pickle
from dataclasses import replace
from functools import cache

import numpy as np
import pandas as pd
import pytest
import torch
from conftest import coloured, small_classifier
from hypothesis import given
from hypothesis import strategies as st
from sklearn.linear_model import Ridge
from torch import nn
from worlds import PREPROCESS, bits, class_vectors_of, logits, names, reader, same_bits, samples

from classvec_lab import (
    Classifier,
    ClassMoments,
    ClassVectors,
    CosineHead,
    Features,
    calibrate_gate,
    extract_features,
    load_classifier,
)
from classvec_lab.editing.weights.delta import apply_deltas
from classvec_lab.editing.weights.mapping import (
    MappedEdit,
    discriminant_keys,
    map_edit,
    nullspace_keys,
)
from classvec_lab.editing.weights.sites import find_site
from classvec_lab.edits import Edit
from classvec_lab.errors import EditError, FileFormatError, MismatchError, ModelError
from classvec_lab.files import read_tensors, write_tensors

COLOURS = ("red", "green", "blue")
TEN = ("red", "green", "blue", "black", "white", "yellow", "orange", "pink", "brown", "grey")
KINDS = {
    "clip": "encoder.proj",
    "linear head": "head",
    "plain head": "head",
    "mlp": "encoder.3",
    "no bias": "encoder.3",
}


@cache
def setting(kind, classes=COLOURS):
    """A classifier, a data set and its features."""
    data = coloured(20 * len(classes), classes=classes)
    rows = torch.randn(len(classes), 12, generator=torch.Generator().manual_seed(0))
    if kind == "clip":
        classifier = load_classifier("tiny-clip", classes=classes)
    elif kind == "linear head":
        classifier = small_classifier(classes, dim=12)
    elif kind == "plain head":
        encoder = small_classifier(classes, dim=12).encoder
        classifier = Classifier(
            encoder, nn.Linear(12, len(classes), bias=False), classes=classes, preprocess=PREPROCESS
        )
    elif kind == "mlp":
        mlp = load_classifier(
            "mlp", classes=classes, model_args={"size": 8, "hidden": [16], "dim": 12}
        )
        classifier = Classifier(
            mlp.encoder, CosineHead(rows, 10.0), classes=classes, preprocess=mlp.preprocess
        )
    else:
        encoder = nn.Sequential(
            nn.Flatten(), nn.Linear(192, 16), nn.ReLU(), nn.Linear(16, 12, bias=False)
        )
        classifier = Classifier(
            encoder, CosineHead(rows, 10.0), classes=classes, preprocess=PREPROCESS
        )
    return classifier, data, extract_features(classifier, data, progress=False, cache=False)


def edit_on(classifier, features, target, strength=-1.0, seed=0):
    """An edit of about the size of the class's own distance from the others."""
    rng = np.random.default_rng([seed, features.classes.index(target)])
    mean = features.moments().mean
    size = np.linalg.norm(mean[features.classes.index(target)] - mean.mean(axis=0))
    drawn = rng.normal(size=classifier.dim)
    name = f"u[{target}]"
    edit = Edit.along(
        name,
        size * drawn / np.linalg.norm(drawn),
        target=target,
        classes=classifier.classes,
        ft=features.model,
    )
    return strength * edit


@pytest.mark.parametrize("source", ["features", "moments"])
@pytest.mark.parametrize("kind", KINDS)
def test_retained_means_stay_and_the_targets_moves_by_the_edit(kind, source):
    classifier, _, f = setting(kind)
    edit = edit_on(classifier, f, "green")
    mapped = map_edit(
        classifier, edit, f if source == "features" else f.moments(pooled_scatter=True)
    )
    assert mapped.site.name == KINDS[kind]
    assert mapped.site.bias is (kind in ("linear head", "mlp"))
    np.testing.assert_allclose(mapped.moved_means["green"], [0, 1, 0], atol=1e-6)
    shift = ClassMoments.of(mapped.moved(f.z), f.y, 3).mean - f.moments().mean
    expected = np.outer([0, 1, 0], edit.vector)
    np.testing.assert_allclose(shift, expected, atol=1e-6 * edit.norm)
    np.testing.assert_allclose(mapped.amounts(f.moments().mean), np.eye(3)[:, 1:2], atol=1e-6)


@pytest.mark.parametrize("method", ["nullspace", "discriminant", "ridge"])
@pytest.mark.parametrize("kind", KINDS)
def test_the_network_does_what_the_formula_says(kind, method):
    classifier, data, f = setting(kind)
    before = bits(classifier)
    edit = edit_on(classifier, f, "green", -2.0)
    mapped = map_edit(classifier, edit, f, method=method)
    changed = mapped.apply_to(classifier)
    new = extract_features(changed, data, progress=False, cache=False)
    moved = mapped.moved(f.z)
    scale = np.abs(moved).max()
    if mapped.site.kind == "head":
        np.testing.assert_array_equal(new.z, f.z)
        expected = logits(classifier, moved).numpy()
        np.testing.assert_allclose(
            logits(changed, f.z).numpy(), expected, atol=1e-5 * np.abs(expected).max()
        )
    else:
        np.testing.assert_allclose(new.z, moved, atol=1e-5 * scale)
        assert same_bits(bits(changed.head), bits(classifier.head))
    assert np.abs(moved - f.z).max() > 1e-2 * scale
    assert same_bits(bits(classifier), before)
    assert same_bits(bits(mapped.remove_from(changed)), before)


@given(st.integers(0, 50), st.sampled_from([True, False]), st.integers(3, 30))
def test_the_discriminant_moves_samples_of_others_least(seed, bias, n_classes):
    """No other key with amount 1 at the class's mean has a smaller mean square of amounts."""
    rng = np.random.default_rng(seed)
    y = np.repeat(np.arange(n_classes), 12)
    z = 3 * rng.normal(size=(n_classes, 32))[y] + rng.normal(size=(len(y), 32))
    moments = ClassMoments.of(z, y, n_classes, pooled_scatter=True)
    own = int(rng.integers(n_classes))

    def cost(key):
        """Of samples of the others, by moments: within their class, and of their class's mean."""
        others = np.delete(moments.mean, own, axis=0) - centre
        return key @ moments.covariance(0.1) @ key + np.square(others @ key).mean()

    centre = np.delete(moments.mean, own, axis=0).mean(axis=0) * bias
    (key,), (offset,) = discriminant_keys(moments, [own], bias=bias)
    assert key @ moments.mean[own] + offset == pytest.approx(1)
    assert key @ centre + offset == pytest.approx(0, abs=1e-9)
    step = moments.mean[own] - centre
    for _ in range(5):
        other = key + 0.3 * np.linalg.norm(key) * rng.normal(size=32) / np.sqrt(32)
        assert cost(other / (other @ step)) >= cost(key) * (1 - 1e-9)
    (exact,), _ = nullspace_keys(moments, [own], shrinkage=0.1, bias=bias)
    assert cost(exact) >= cost(key) * (1 - 1e-9)


@pytest.mark.parametrize("method", ["nullspace", "discriminant"])
def test_the_limit_is_what_samples_do(method):
    vectors = class_vectors_of()
    f = samples(vectors, 2000, spread=1.5)
    edits = [vectors[c] for c in ("c2", "c0")]
    mapped = map_edit(reader(vectors), edits, f, method=method)
    limits = mapped.limits(f)
    for t, (row, edit) in enumerate(zip(limits.itertuples(), edits, strict=True)):
        amount, own = mapped.amounts(f.z)[:, t], f.y == f.classes.index(edit.target)
        assert row.target == edit.target
        assert (amount[own] < row.own).mean() == pytest.approx(0.05, abs=0.01)
        assert (np.abs(amount[~own]) > row.others).mean() == pytest.approx(0.05, abs=0.01)


def test_constraints_of_many_classes_leave_no_room_and_the_discriminant_does():
    """As many classes as dimensions nearly: the exact key must move single samples far."""
    rng = np.random.default_rng(0)
    y, vectors = np.repeat(np.arange(30), 40), class_vectors_of(30, dim=32)
    f = Features(vectors.z_ft[y] + 1.5 * rng.normal(size=(1200, 32)), y, vectors.classes)
    moved = {
        method: map_edit(reader(vectors), vectors["c3"], f, method=method).limits(f)["others"][0]
        for method in ("nullspace", "discriminant")
    }
    assert moved["discriminant"] < 0.8 * moved["nullspace"]


def test_moments_are_as_good_as_features():
    for kind in KINDS:
        classifier, _, f = setting(kind)
        edit = edit_on(classifier, f, "red")
        streamed = ClassMoments(3, classifier.dim, pooled_scatter=True)
        for part in np.array_split(np.arange(len(f)), 5):
            streamed.update(f.z[part], f.y[part])
        keys = [
            map_edit(classifier, edit, source).keys
            for source in (f, f.moments(pooled_scatter=True), streamed)
        ]
        np.testing.assert_array_equal(keys[0], keys[1])
        np.testing.assert_allclose(keys[0], keys[2], rtol=1e-6, atol=1e-8 * np.abs(keys[0]).max())


@given(st.integers(0, 500), st.sampled_from([0.1, 0.5, 1.0]), st.booleans())
def test_the_key_is_the_smallest_of_all_feasible(seed, shrinkage, bias):
    rng = np.random.default_rng(seed)
    vectors = class_vectors_of(int(rng.integers(2, 7)), 9, seed)
    f = samples(vectors, 140, seed)
    encoder = nn.Sequential(nn.Flatten(), nn.Linear(192, 9, bias=bias))
    mapped = map_edit(
        reader(vectors, "cosine", encoder=encoder), vectors["c1"], f, shrinkage=shrinkage
    )
    assert mapped.site.bias is bias
    moments = f.moments(pooled_scatter=True)
    covariance = moments.scatter / (len(f) - len(vectors))
    metric = (1 - shrinkage) * covariance + shrinkage * np.trace(covariance) / 9 * np.eye(9)
    others = np.delete(moments.mean, 1, axis=0)
    constraints = moments.mean - others.mean(axis=0) if bias else moments.mean
    key = mapped.keys[0]
    np.testing.assert_allclose(constraints @ key, np.eye(len(vectors))[1], atol=1e-8)
    np.testing.assert_allclose(
        mapped.offsets[0], -key @ others.mean(axis=0) if bias else 0.0, atol=1e-8
    )
    free = np.eye(9) - np.linalg.pinv(constraints) @ constraints
    steps = rng.normal(size=(50, 9)) @ free * rng.uniform(1e-3, 1, (50, 1))
    feasible = key + steps
    np.testing.assert_allclose(
        feasible @ constraints.T, np.tile(np.eye(len(vectors))[1], (50, 1)), atol=1e-7
    )
    cost = np.einsum("nm,mk,nk->n", feasible, metric, feasible)
    assert (cost > key @ metric @ key).all()


def test_two_mappings_of_one_displacement_differ_elsewhere():
    # the displacement of a class's mean leaves open what happens to single inputs
    for kind in KINDS:
        classifier, _, f = setting(kind)
        edit = edit_on(classifier, f, "blue")
        a, b = (map_edit(classifier, edit, f, shrinkage=s) for s in (0.1, 0.9))
        np.testing.assert_allclose(a.moved_means, b.moved_means, atol=1e-6)
        means = [ClassMoments.of(m.moved(f.z), f.y, 3).mean for m in (a, b)]
        np.testing.assert_allclose(*means, atol=1e-6 * edit.norm)
        fresh = extract_features(
            classifier, coloured(30, split="test"), progress=False, cache=False
        ).z
        apart = np.linalg.norm(a.moved(fresh) - b.moved(fresh), axis=1)
        assert np.median(apart) > 1e-3 * edit.norm


@pytest.mark.parametrize("bias", [True, False])
def test_ridge_is_that_of_scikit_learn_on_the_drawn_samples(bias):
    vectors = class_vectors_of(4, 9)
    f = samples(vectors, 80)
    classifier = reader(
        vectors, "cosine", encoder=nn.Sequential(nn.Flatten(), nn.Linear(192, 9, bias=bias))
    )
    everything = map_edit(
        classifier, [vectors["c1"], vectors["c3"]], f, method="ridge", n_references=1000
    )
    z = f.z - f.z.mean(axis=0) if bias else f.z
    penalty = 0.1 * np.square(z).sum() / len(z)
    for t, c in enumerate((1, 3)):
        fitted = Ridge(penalty, fit_intercept=bias).fit(f.z, (f.y == c).astype(float))
        np.testing.assert_allclose(everything.keys[t], fitted.coef_, rtol=1e-7)
        np.testing.assert_allclose(everything.offsets[t], fitted.intercept_, rtol=1e-7)

    # five a class, drawn by a seed: what other samples are does not matter
    few = map_edit(classifier, vectors["c1"], f, method="ridge", seed=3)
    order = np.random.default_rng(3)
    chosen = np.concatenate([order.permutation(np.flatnonzero(f.y == c))[:5] for c in range(4)])
    fitted = map_edit(
        classifier,
        vectors["c1"],
        Features(f.z[chosen], f.y[chosen], f.classes),
        method="ridge",
        n_references=5,
    )
    np.testing.assert_allclose(few.keys, fitted.keys, rtol=1e-9)
    assert (
        np.abs(few.keys - map_edit(classifier, vectors["c1"], f, method="ridge", seed=4).keys).max()
        > 1e-6
    )


@pytest.mark.parametrize("kind", KINDS)
def test_ten_classes_together_and_in_turn(kind):
    classifier, _, f = setting(kind, TEN)
    edits = [edit_on(classifier, f, c) for c in TEN]
    mapped = [map_edit(classifier, e, f) for e in edits]
    step, start = classifier, bits(classifier)
    for m in mapped:
        step = m.apply_to(step)
    at_once = apply_deltas(classifier, [m.delta for m in mapped])
    assert same_bits(bits(step), bits(at_once))
    assert not same_bits(bits(step), start)

    joint = map_edit(classifier, edits, f)
    np.testing.assert_allclose(
        joint.keys, np.concatenate([m.keys for m in mapped]), rtol=1e-9, atol=1e-12
    )
    np.testing.assert_allclose(joint.moved_means, np.eye(10), atol=1e-6)
    total = f.z + sum(m.moved(f.z) - f.z for m in mapped)
    np.testing.assert_allclose(joint.moved(f.z), total, atol=1e-9 * np.abs(total).max())
    one = bits(joint.apply_to(classifier))
    for name, value in bits(step).items():
        torch.testing.assert_close(
            one[name], value, rtol=1e-5, atol=1e-6 * float(value.abs().max())
        )

    for seed in range(4):
        left = step
        order = np.random.default_rng(seed).permutation(10)
        for k, i in enumerate(order):
            left = mapped[i].remove_from(left)
            if k == 3:
                kept = [m.delta for j, m in enumerate(mapped) if j not in order[:4]]
                assert same_bits(bits(left), bits(apply_deltas(classifier, kept)))
        assert same_bits(bits(left), start)
        assert torch.equal(logits(left, f.z), logits(classifier, f.z))
        assert left.fingerprint == classifier.fingerprint


def test_what_is_stored():
    n = {
        "clip": None,
        "mlp": (12 + 16) + 12,
        "linear head": (12 + 3) + 3,
        "plain head": 12 + 3,
        "no bias": 16 + 12,
    }
    for kind, count in n.items():
        classifier, _, f = setting(kind)
        mapped = map_edit(classifier, edit_on(classifier, f, "red"), f)
        if kind == "clip":
            count = sum(classifier.encoder.proj.shape)
        assert mapped.n_parameters == mapped.delta.n_parameters == count
        assert mapped.seconds > 0
        np.testing.assert_array_equal(mapped.steps, mapped.edits[0].vector[None])


def test_the_report_counts_by_hand():
    classifier, _, f = setting("no bias")
    fresh = extract_features(classifier, coloured(45, split="test"), progress=False, cache=False)
    edits = [edit_on(classifier, f, c) for c in ("red", "blue")]
    table = map_edit(classifier, edits, f).report(f, fresh)
    assert list(table.columns) == [
        "edit",
        "target",
        "quantile",
        "norm",
        "n",
        "beyond",
        "low",
        "high",
    ]
    for edit, (_, row) in zip(edits, table.iterrows(), strict=True):
        single, own = map_edit(classifier, edit, f), f.classes.index(edit.target)
        held, new = (
            np.linalg.norm(single.moved(x.z) - x.z, axis=1)[x.y != own] for x in (f, fresh)
        )
        assert row["target"] == edit.target
        assert row["norm"] == pytest.approx(edit.norm)
        assert row["quantile"] == pytest.approx(
            np.sort(held)[int(np.ceil(0.95 * (len(held) - 1)))], rel=1e-6
        )
        assert row["n"] == 30
        assert row["beyond"] == pytest.approx((new > row["quantile"]).mean())
        assert row["low"] <= row["beyond"] <= row["high"]


def with_encoder(*layers):
    rows = torch.randn(3, 6, generator=torch.Generator().manual_seed(0))
    return Classifier(
        nn.Sequential(nn.Flatten(), *layers),
        CosineHead(rows, 1.0),
        classes=COLOURS,
        preprocess=PREPROCESS,
    )


class Scaled(nn.Module):
    def forward(self, z):
        return 2 * z


@pytest.mark.parametrize(
    "last", [nn.ReLU(), nn.ReLU(inplace=True), nn.LayerNorm(6), nn.Tanh(), Scaled()], ids=repr
)
def test_an_encoder_without_a_linear_last_map_is_refused(last):
    linear = nn.Linear(192, 6)
    nn.init.constant_(linear.bias, 9.0)  # so that a ReLU lets everything through
    nn.init.constant_(linear.weight, 0.0)
    classifier = with_encoder(linear, last)
    f = Features(np.random.default_rng(0).normal(size=(30, 6)), np.arange(30) % 3, COLOURS)
    with pytest.raises(
        ModelError, match=r"neither a linear head nor a linear last map.*use inject"
    ):
        map_edit(classifier, Edit.along("u", np.ones(6), target="red", classes=COLOURS), f)


def test_looking_for_the_last_map_leaves_the_encoder_alone():
    classifier = with_encoder(
        nn.Linear(192, 4), nn.BatchNorm1d(4), nn.Linear(4, 6), nn.Dropout(0.5), nn.Identity()
    ).train()
    before = bits(classifier)
    site = find_site(classifier)
    assert (site.name, site.kind, site.bias) == ("encoder.3", "linear", True)
    assert same_bits(bits(classifier), before)
    assert all(m.training for m in classifier.modules())
    assert not any(m._forward_hooks for m in classifier.modules())
    twice = nn.Linear(6, 6)
    with pytest.raises(ModelError, match="neither"):
        find_site(with_encoder(nn.Linear(192, 6, bias=False), twice, nn.ReLU(), twice))


def test_more_classes_than_dimensions():
    for bias, fits, fails in ((True, 6, 7), (False, 5, 6)):
        for n_classes in (fits, fails):
            vectors = class_vectors_of(n_classes, 5)
            classifier = reader(
                vectors, "cosine", encoder=nn.Sequential(nn.Flatten(), nn.Linear(192, 5, bias=bias))
            )
            f = samples(vectors, 200)
            if n_classes == fits:
                np.testing.assert_allclose(
                    map_edit(classifier, vectors["c1"], f).moved_means["c1"],
                    np.eye(fits)[1],
                    atol=1e-6,
                )
            else:
                with pytest.raises(
                    EditError,
                    match=f"{fails} class means can't be told apart linearly in 5 dimensions",
                ):
                    map_edit(classifier, vectors["c1"], f)


@pytest.mark.parametrize("bias", [True, False])
def test_dependent_means_are_refused(bias):
    vectors, rng = class_vectors_of(4, 9), np.random.default_rng(0)
    mean = vectors.z_ft.copy()
    mean[3] = mean[0] + mean[1] - mean[2]
    moments = ClassMoments.of(
        mean[np.arange(80) % 4] + rng.normal(size=(80, 9)),
        np.arange(80) % 4,
        4,
        pooled_scatter=True,
    )
    moments._mean[:] = mean
    classifier = reader(
        vectors, "cosine", encoder=nn.Sequential(nn.Flatten(), nn.Linear(192, 9, bias=bias))
    )
    with pytest.raises(EditError, match="linearly dependent"):
        map_edit(classifier, vectors["c1"], moments)


def test_features_without_any_spread():
    vectors = class_vectors_of(4, 9)
    f = Features(np.repeat(vectors.z_ft, 3, axis=0), np.repeat(np.arange(4), 3), vectors.classes)
    for shrinkage in (0.0, 0.5):
        mapped = map_edit(reader(vectors), vectors["c2"], f, shrinkage=shrinkage)
        np.testing.assert_allclose(mapped.moved_means["c2"], [0, 0, 1, 0], atol=1e-6)


V = class_vectors_of()
HELD = samples(V)


@pytest.mark.parametrize(
    ("changes", "error", "message"),
    [
        ({"edit": []}, EditError, "at least one; got targets none"),
        ({"edit": [V["c1"], 2 * V["c1"]]}, EditError, "one edit a class.*got targets c1, c1"),
        ({"edit": 0 * V["c1"]}, EditError, "strength 0"),
        ({"edit": class_vectors_of(3)["c1"]}, MismatchError, "made for another model"),
        (
            {"method": "magic"},
            EditError,
            "no mapping 'magic'; there are nullspace, discriminant, ridge",
        ),
        ({"shrinkage": 1.5}, EditError, r"shrinkage must lie in \[0, 1\]; got 1\.5"),
        (
            {"method": "ridge", "n_references": 0},
            EditError,
            r"n_references must lie in \[1, .*got 0",
        ),
        (
            {"method": "ridge", "references": HELD.moments()},
            EditError,
            "needs samples: give Features, not moments",
        ),
        ({"references": HELD.moments()}, MismatchError, "moments with a pooled scatter"),
        (
            {"references": ClassMoments(3, 10, pooled_scatter=True)},
            MismatchError,
            r"references of \(3, 10\) classes and dimensions don't fit a classifier of \(4, 10\)",
        ),
        (
            {"references": ClassMoments(4, 10, pooled_scatter=True)},
            MismatchError,
            "no reference of class c0, c1, c2, c3",
        ),
        (
            {"references": Features(HELD.z, np.zeros(len(HELD), int), HELD.classes)},
            MismatchError,
            "no reference of class c1, c2, c3",
        ),
        (
            {"references": Features(HELD.z, HELD.y, names(5))},
            MismatchError,
            "the references has 5 classes",
        ),
        (
            {"references": samples(class_vectors_of(dim=9))},
            MismatchError,
            r"references of \(4, 9\) classes and dimensions don't fit a classifier of \(4, 10\)",
        ),
        (
            {"references": Features(HELD.z, HELD.y, HELD.classes, "another")},
            MismatchError,
            r"another model than this one \(.*another",
        ),
    ],
)
def test_bad_input(changes, error, message):
    classifier = reader(V)
    before = bits(classifier)
    with pytest.raises(error, match=message):
        map_edit(**{"classifier": classifier, "edit": V["c1"], "references": HELD, **changes})
    assert same_bits(bits(classifier), before)


def two_edits(classifier, f):
    """Two edits, one of them behind a gate, with facts of their own."""
    vectors = ClassVectors.from_features(f, f)
    how = {"score": "predicted", "classifier": classifier}
    gate = calibrate_gate(f, vectors, "green", **how)
    edits = [edit_on(classifier, f, name) for name in ("red", "green")]
    return [replace(edits[0], facts={"note": "ü"}), edits[1].gated(gate)]


@pytest.mark.parametrize("kind", KINDS)
def test_a_mapped_edit_comes_back_as_it_was(kind, tmp_path):
    classifier, _, f = setting(kind)
    mapped = map_edit(classifier, two_edits(classifier, f), f)
    changed = mapped.apply_to(classifier)  # which hashes the delta
    path = mapped.save(tmp_path / "mapped.safetensors")
    again = MappedEdit.load(path, classifier)
    for name in ("keys", "offsets", "steps"):
        np.testing.assert_array_equal(getattr(again, name), getattr(mapped, name))
    pd.testing.assert_frame_equal(again.moved_means, mapped.moved_means)
    assert (again.site, again.seconds, again.n_parameters) == (
        mapped.site,
        mapped.seconds,
        mapped.n_parameters,
    )
    assert again.delta.fingerprint == mapped.delta.fingerprint
    assert [str(e) for e in again.edits] == [str(e) for e in mapped.edits]
    assert again.edits[0].facts == {"note": "ü"}
    own = mapped.edits[1].gate
    np.testing.assert_array_equal(again.edits[1].gate.scores(f.z), own.scores(f.z))
    assert again.edits[1].gate.threshold == own.threshold
    assert same_bits(bits(again.apply_to(classifier)), bits(changed))
    assert same_bits(bits(again.remove_from(changed)), bits(classifier))
    pd.testing.assert_frame_equal(again.limits(f), mapped.limits(f))
    assert MappedEdit.load(path, changed).delta.fingerprint == mapped.delta.fingerprint


def test_a_mapped_edit_refuses_another_model_by_name(tmp_path):
    classifier, _, f = setting("linear head")
    path = map_edit(classifier, edit_on(classifier, f, "red"), f).save(tmp_path / "m.safetensors")
    others = {
        "the encoder, its preprocessing or the values of head.bias, head.weight differ": small_classifier(COLOURS, dim=12, seed=5),
        "another order": small_classifier(COLOURS[::-1], dim=12),
    }  # fmt: skip
    for told, other in others.items():
        with pytest.raises(MismatchError, match=told):
            MappedEdit.load(path, other)
        MappedEdit.load(path).delta  # noqa: B018 (without a model it is read)
        with pytest.raises(MismatchError, match=told):
            MappedEdit.load(path).apply_to(other)


@pytest.mark.parametrize("damage", ["cut", "flipped", "card", "another kind"])
def test_a_damaged_mapped_edit_is_refused(tmp_path, damage):
    classifier, _, f = setting("linear head")
    edit = edit_on(classifier, f, "red")
    mapped = map_edit(classifier, edit, f)
    path = mapped.save(tmp_path / "m.safetensors")
    content = bytearray(path.read_bytes())
    match damage:
        case "cut":
            path.write_bytes(content[:-9])
        case "flipped":
            content[-9] ^= 4
            path.write_bytes(content)
        case "card":
            arrays, card = read_tensors(path)
            card["edits"][0]["coefficients"]["u[red]"] = -3.0
            write_tensors(path, arrays, card)
        case "another kind":
            edit.save(path)
    with pytest.raises(FileFormatError, match=r"m\.safetensors"):
        MappedEdit.load(path)
    with pytest.raises(FileFormatError, match="mapped edit"):
        Edit.load(mapped.save(path))


@pytest.mark.parametrize("kind", KINDS)
def test_a_mapped_classifier_can_be_pickled(kind, tmp_path):
    classifier, _, f = setting(kind)
    mapped = map_edit(classifier, edit_on(classifier, f, "red"), f)
    changed = mapped.apply_to(classifier)
    torch.save(changed, tmp_path / "whole.pt")
    copies = (
        pickle.loads(pickle.dumps(changed)),
        copy.deepcopy(changed),
        torch.load(tmp_path / "whole.pt", weights_only=False),
    )
    for made in copies:
        assert same_bits(bits(made), bits(changed))
        assert made.fingerprint == changed.fingerprint
        assert same_bits(bits(mapped.remove_from(made)), bits(classifier))
    again = pickle.loads(pickle.dumps(mapped))
    assert same_bits(bits(again.apply_to(classifier)), bits(changed))
