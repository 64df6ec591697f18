"""A relocated class scatters as its pre-trained likeness says, and the other means stay."""

from dataclasses import replace

import numpy as np
import pytest
import torch
from small_experiments import small_experiment, warmed
from torch import nn
from worlds import bits, class_vectors_of, logits, names, reader, same_bits, samples

from classvec_lab import CosineHead, Features
from classvec_lab.editing.audit.probe import probe_recovery
from classvec_lab.editing.weights import relocation
from classvec_lab.editing.weights.mapping import map_edit
from classvec_lab.editing.weights.relocation import likeness, relocate, relocations
from classvec_lab.errors import EditError, MismatchError
from classvec_lab.experiments.methods import MAPPING, measure, standard_methods
from classvec_lab.readout import Readout

HEADS = ("linear", "cosine", "no bias")


def classifier_of(vectors, kind):
    """A classifier that is edited in its head, in a last map with a bias, or in one without."""
    encoder = (
        nn.Sequential(nn.Flatten(), nn.Linear(192, vectors.dim, bias=False))
        if kind == "no bias"
        else None
    )
    return reader(vectors, "linear" if kind == "linear" else "cosine", encoder=encoder)


def world(n_classes=6, dim=30, n=1200, seed=0):
    """Class vectors, and features before and after: class c1 looked like c0, c2 or c3, each sample.

    After it, classes are tight; what a sample of c1 looked like survives in two small directions.
    """
    rng = np.random.default_rng(seed)
    vectors = class_vectors_of(n_classes, dim, seed)
    y = np.arange(n) % n_classes
    like = np.where(y == 1, np.array([0, 2, 3])[rng.integers(0, 3, n)], y)
    pre = Features(vectors.z_pre[like] + 0.3 * rng.normal(size=(n, dim)), y, vectors.classes)
    hidden = np.linalg.qr(rng.normal(size=(dim, 2)))[0].T
    angle = 2 * np.pi * np.searchsorted([0, 2, 3], like) / 3
    trace = np.column_stack([np.cos(angle), np.sin(angle)]) * (y == 1)[:, None]
    z = vectors.z_ft[y] + 0.05 * rng.normal(size=(n, dim)) + 0.5 * trace @ hidden
    return vectors, pre, Features(z, y, vectors.classes), like


def halves(features):
    """Every other round of classes for training, the rest for testing."""
    first = np.arange(len(features)) // len(features.classes) % 2 == 0
    return [
        Features(features.z[part], features.y[part], features.classes) for part in (first, ~first)
    ]


@pytest.mark.parametrize("kind", HEADS)
@pytest.mark.parametrize("rank", [0, 1, 2])
def test_the_other_means_stay_and_the_class_goes_where_it_looks_like(kind, rank, monkeypatch):
    monkeypatch.setattr(relocation, "RANK", rank)
    vectors, pre, f, _ = world()
    m = relocate(classifier_of(vectors, kind), "c1", pre, f)
    before, after = (Features(z, f.y, f.classes).moments().mean for z in (f.z, m.moved(f.z)))
    others = np.delete(np.arange(6), 1)
    np.testing.assert_allclose(after[others], before[others], atol=1e-8)
    share = likeness(pre, 1).mean(axis=0)
    np.testing.assert_allclose(after[1], share @ before[others], atol=1e-8)
    np.testing.assert_allclose(m.amounts(before)[1], np.eye(rank + 1)[0], atol=1e-8)
    # nothing is left along the key, whatever the input
    fresh = 5 * np.random.default_rng(1).normal(size=(20, 30))
    np.testing.assert_allclose(m.amounts(m.moved(fresh))[:, 0], 0, atol=1e-8)
    assert np.abs(m.amounts(fresh)[:, 0]).max() > 0.1
    assert len(m.edits) == len(m.keys) == rank + 1


@pytest.mark.parametrize("kind", HEADS)
def test_the_class_scatters_as_its_likeness_does(kind):
    vectors, pre, f, _ = world()
    classifier = classifier_of(vectors, kind)
    mean = f.moments().mean
    target = likeness(pre, 1) @ np.delete(mean, 1, axis=0)
    size = np.linalg.svd(target - target.mean(axis=0), compute_uv=False) / np.sqrt(len(target))
    m = relocate(classifier, "c1", pre, f)
    scores = m.amounts(f.z[f.y == 1])[:, 1:]
    np.testing.assert_allclose(scores.T @ scores / len(scores), np.eye(2), atol=1e-8)
    np.testing.assert_allclose(np.linalg.norm(m.steps[1:], axis=1), size[:2], rtol=1e-8)
    np.testing.assert_allclose(m.steps[1] @ m.steps[2], 0, atol=1e-8 * size[0] ** 2)


def test_samples_go_where_they_look_like():
    vectors, pre, f, like = world()
    m = relocate(classifier_of(vectors, "cosine"), "c1", pre, f)
    mean = f.moments().mean
    mine = f.y == 1
    moved = m.moved(f.z)
    nearest = np.linalg.norm(moved[:, None] - mean, axis=2).argmin(axis=1)
    assert (nearest[mine] == like[mine]).mean() > 0.95  # a third, were they only moved to the mean
    assert (nearest[~mine] == f.y[~mine]).mean() > 0.99


def test_a_probe_finds_a_scattered_class_less_than_a_cluster(monkeypatch):
    vectors, pre, f, _ = world()
    (train, test), (train_pre, _) = halves(f), halves(pre)
    classifier, found = classifier_of(vectors, "cosine"), {}
    for rank in (0, 2):
        monkeypatch.setattr(relocation, "RANK", rank)
        m = relocate(classifier, "c1", train_pre, train)
        edited = (
            Readout(m.moved(part.z), logits(classifier, part.z), part.y, part.classes)
            for part in (train, test)
        )
        found[rank] = probe_recovery(*edited, "c1").recall.value
    assert found[0] > 0.95
    assert found[2] < found[0] - 0.1


@pytest.mark.parametrize("kind", HEADS)
def test_without_scatter_it_is_a_mapping_along_its_step(kind, monkeypatch):
    monkeypatch.setattr(relocation, "RANK", 0)
    vectors, pre, f, _ = world()
    classifier = classifier_of(vectors, kind)
    m = relocate(classifier, "c1", pre, f)
    plain = map_edit(classifier, m.edits[0], f)
    np.testing.assert_array_equal(m.keys, plain.keys)
    np.testing.assert_array_equal(m.offsets, plain.offsets)
    assert same_bits(bits(m.apply_to(classifier)), bits(plain.apply_to(classifier)))


def test_several_methods_at_once_are_each_alone():
    vectors, pre, f, _ = world()
    classifier, methods = classifier_of(vectors, "cosine"), ("discriminant", "nullspace")
    found = relocations(classifier, "c1", pre, f, methods=methods)
    assert tuple(found) == methods
    for method, several in found.items():
        alone = relocate(classifier, "c1", pre, f, method=method)
        assert same_bits(bits(several.apply_to(classifier)), bits(alone.apply_to(classifier)))
    first, second = (each.keys for each in found.values())
    assert (first[0] != second[0]).any()
    np.testing.assert_array_equal(first[1:], second[1:])


@pytest.mark.parametrize("kind", HEADS)
def test_the_network_does_what_the_formula_says(kind):
    vectors, pre, f, _ = world()
    classifier = classifier_of(vectors, kind)
    before = bits(classifier)
    m = relocate(classifier, "c1", pre, f)
    edited = m.apply_to(classifier)
    x = torch.randn(8, 3, 8, 8, generator=torch.Generator().manual_seed(0))
    with torch.no_grad():
        z, new, out = (
            classifier.encode(x).double().numpy(),
            edited.encode(x).numpy(),
            edited(x).numpy(),
        )
    moved = m.moved(z)
    assert np.abs(moved - z).max() > 0.1
    np.testing.assert_allclose(
        new, z if kind == "linear" else moved, atol=1e-4 * np.abs(moved).max()
    )
    expected = logits(classifier, moved).numpy()
    np.testing.assert_allclose(out, expected, atol=1e-4 * np.abs(expected).max())
    assert same_bits(bits(m.remove_from(edited)), before)
    width = {"linear": 6 + 30, "cosine": 16 + 30, "no bias": 192 + 30}[kind]
    # a bias is stored once
    assert m.n_parameters == 3 * width + {"linear": 6, "cosine": 30, "no bias": 0}[kind]
    assert len(m.edits) == 1 + 2


def test_likeness_is_the_posterior_of_the_other_classes():
    _, pre, _, like = world()
    p = likeness(pre, 1)
    assert p.shape == ((pre.y == 1).sum(), 5)
    np.testing.assert_allclose(p.sum(axis=1), 1)
    assert (np.delete(np.arange(6), 1)[p.argmax(axis=1)] == like[pre.y == 1]).mean() > 0.99
    # Bayes by hand, with the covariance shrunk by a tenth
    others = np.delete(np.arange(6), 1)
    means = np.stack([pre.z[pre.y == j].mean(axis=0) for j in others])
    shrunk = []
    for j, mean in zip(others, means, strict=True):
        cov = np.cov(pre.z[pre.y == j].T)
        shrunk.append(0.9 * cov + 0.1 * np.trace(cov) / len(mean) * np.eye(len(mean)))
    inverse = np.linalg.inv(np.mean(shrunk, axis=0))
    far = np.einsum("njm,mk,njk->nj", d := pre.z[pre.y == 1][:, None] - means, inverse, d)
    expected = np.exp(-0.5 * (far - far.min(axis=1, keepdims=True)))
    np.testing.assert_allclose(p, expected / expected.sum(axis=1, keepdims=True), atol=1e-6)


@pytest.mark.parametrize(("n_classes", "terms"), [(2, 0), (3, 1), (4, 2), (5, 3)])
def test_there_are_no_more_terms_than_the_other_classes_span(n_classes, terms, monkeypatch):
    monkeypatch.setattr(relocation, "RANK", 10)
    vectors = class_vectors_of(n_classes, 12)
    f = samples(vectors, 60 * n_classes)
    pre = Features(
        vectors.z_pre[f.y] + np.random.default_rng(0).normal(size=f.z.shape), f.y, f.classes
    )
    m = relocate(reader(vectors), "c1", pre, f)
    assert len(m.edits) == 1 + terms
    # nor more than what is left beside the means
    narrow = class_vectors_of(5, 6)
    g = samples(narrow, 200)
    pre = Features(
        narrow.z_pre[g.y] + np.random.default_rng(0).normal(size=g.z.shape), g.y, g.classes
    )
    assert (
        len(relocate(reader(narrow), "c1", pre, g).edits) == 1 + 2
    )  # 6 dimensions, 4 of them of the means


def test_a_class_without_spread_moves_as_one():
    vectors, pre, f, _ = world()
    z = np.where((f.y == 1)[:, None], vectors.z_ft[1], f.z)
    m = relocate(classifier_of(vectors, "cosine"), "c1", pre, Features(z, f.y, f.classes))
    moved = m.moved(z[f.y == 1])
    np.testing.assert_allclose(moved, np.broadcast_to(moved[0], moved.shape), atol=1e-6)
    assert np.isfinite(m.keys).all()


VECTORS, PRE, HELD, _ = world(n=120)


@pytest.mark.parametrize(
    ("changes", "error", "message"),
    [
        ({"target": "dog"}, MismatchError, "no class 'dog'; there are c0, c1"),
        (
            {"pre": Features(PRE.z[:60], PRE.y[:60], PRE.classes)},
            MismatchError,
            "has 120 samples and the pre-trained features 60: give the same images",
        ),
        (
            {"pre": Features(PRE.z, PRE.y[::-1], PRE.classes)},
            MismatchError,
            "has other labels than",
        ),
        (
            {"pre": Features(PRE.z, PRE.y, names(7))},
            MismatchError,
            "has 6 classes and the pre-trained features 7",
        ),
        (
            {"pre": replace(PRE, precision="bfloat16"), "ft": replace(HELD, precision="float32")},
            MismatchError,
            "number formats: pre-trained bfloat16, fine-tuned float32",
        ),
        (
            {"ft": replace(HELD, model="another")},
            MismatchError,
            r"another model than this one \(.*another",
        ),
        (
            {"ft": replace(HELD, z=HELD.z[:, :9])},
            MismatchError,
            r"different shapes: .*fine-tuned \(120, 9\)",
        ),
    ],
)
def test_bad_input(changes, error, message):
    classifier = reader(VECTORS)
    with pytest.raises(error, match=message):
        relocate(**{"classifier": classifier, "target": "c1", "pre": PRE, "ft": HELD, **changes})


def test_one_class_has_nowhere_to_go():
    one = Features(np.ones((3, 4)), np.zeros(3, int), ("c0",))
    classifier = reader(class_vectors_of(2, 4))
    with pytest.raises(EditError, match="relocating 'c0' needs another class"):
        relocate(classifier, "c0", one, one)


@pytest.fixture(scope="module", params=["linear", "cosine"])
def exp(request, tmp_path_factory):
    return warmed(tmp_path_factory, lambda: small_experiment(request.param))


def test_as_a_method_of_forgetting(exp):
    name = "mapping, retired and scattered"
    (found,) = measure(exp, name, "red", standard_methods()[name])
    expected = relocate(exp.ft, "red", exp.pre_features["train"], exp.features["train"])
    assert (found.method, found.family, found.gate) == (name, MAPPING, "none")
    assert found.result.delta.fingerprint == expected.delta.fingerprint
    assert found.n_parameters == expected.n_parameters
    np.testing.assert_array_equal(found.result.edits[0].vector, expected.edits[0].vector)
    z = exp.features["test"].z
    head = isinstance(exp.ft.head, CosineHead)
    np.testing.assert_allclose(
        found.readouts("test")["test"].z, expected.moved(z) if head else z, rtol=1e-5, atol=1e-5
    )
