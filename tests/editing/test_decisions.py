"""A gate decides alike in a table, a panel, a network, an exported one, and after saving."""

import copy
import warnings

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from worlds import class_vectors_of, reader, samples

from classvec_lab import Classifier, CosineHead, Edit, Features, calibrate_gate, inject
from classvec_lab.editing import LiveEdits
from classvec_lab.editing.calibration import GUARANTEES, threshold
from classvec_lab.editing.injection import GateModule
from classvec_lab.gates import SCORES

BATCHES = (1, 7, 1000)


def single(features):
    """The features in float32, as an encoder gives them."""
    return Features(features.z.astype(np.float32), features.y, features.classes)


def world(seed, head="linear"):
    """A classifier, class vectors, held-out features, some of them twice, and new ones."""
    vectors = class_vectors_of(seed=seed)
    held = samples(vectors, 450, seed=seed, spread=2.5)
    twice = np.r_[np.arange(450), np.random.default_rng(seed).integers(450, size=60)]
    held = single(Features(held.z[twice], held.y[twice], held.classes))
    return reader(vectors, head), vectors, held, single(samples(vectors, 300, seed + 1, 2.5))


def deployed(classifier, edit, z, batch):
    """Where the edit acts in the network, in batches."""
    head, z = inject(classifier, edit).head, torch.tensor(z)
    with torch.no_grad():
        return np.concatenate([head.gates[0](part).numpy() > 0 for part in z.split(batch)])


@settings(max_examples=30)
@given(
    st.integers(0, 10_000),
    st.sampled_from(SCORES),
    st.sampled_from(GUARANTEES),
    st.sampled_from(["linear", "cosine"]),
    st.sampled_from([0.01, 0.05, 0.2]),
)
def test_every_way_decides_alike(tmp_path_factory, seed, score, guarantee, head, rate):
    classifier, vectors, held, new = world(seed, head)
    moments = held.moments(pooled_scatter=True)
    gate = calibrate_gate(
        held, vectors, "c1", score=score, guarantee=guarantee, false_fire=rate,
        classifier=classifier, moments=moments,
    )  # fmt: skip
    edit = (-1.5 * vectors["c1"]).gated(gate)
    loaded = Edit.load(edit.save(tmp_path_factory.mktemp("edit") / "card.safetensors"))
    for features in (held, new):
        fired = gate.fires(features.z)
        shown = LiveEdits(classifier, features).read(edit).weights[0] > 0.5
        np.testing.assert_array_equal(shown, fired)
        np.testing.assert_array_equal(gate.fires(features.z.astype(np.float64)), fired)
        np.testing.assert_array_equal(loaded.gate.fires(features.z), fired)
        for batch in BATCHES:
            for one in (edit, loaded):
                acts = deployed(classifier, one, features.z, batch)
                np.testing.assert_array_equal(acts, fired)


@pytest.mark.parametrize("score", SCORES)
def test_an_exported_network_decides_alike(score):
    classifier, vectors, held, _ = world(3)
    gate = calibrate_gate(
        held, vectors, "c1", score=score, false_fire=0.05,
        classifier=classifier, moments=held.moments(pooled_scatter=True),
    )  # fmt: skip
    z = torch.tensor(held.z)
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        program = torch.export.export(GateModule(gate), (z,)).module()
    np.testing.assert_array_equal(program(z).numpy() > 0, gate.fires(held.z))


@pytest.mark.parametrize("cast", ["float", "double", "half", "bfloat16"])
def test_a_network_that_is_cast_still_decides_alike(cast):
    _, vectors, held, _ = world(4)
    gate = calibrate_gate(held, vectors, "c1", false_fire=0.05)
    module = copy.deepcopy(GateModule(gate))
    getattr(module, cast)()
    assert module.rows.dtype == torch.float64
    acts = module(torch.tensor(held.z))
    assert acts.dtype == torch.float32
    np.testing.assert_array_equal(acts.numpy() > 0, gate.fires(held.z))


def test_a_device_without_float64_leaves_the_gate_on_the_cpu():
    def to_mps(tensor):
        raise TypeError("Cannot convert a MPS Tensor to float64 dtype")

    _, vectors, held, _ = world(5)
    gate = calibrate_gate(held, vectors, "c1", false_fire=0.05)
    module = GateModule(gate)._apply(to_mps)
    np.testing.assert_array_equal(module(torch.tensor(held.z)) > 0, gate.fires(held.z))


@given(
    st.lists(st.integers(-6, 6), min_size=40, max_size=120),
    st.lists(st.integers(-6, 6), max_size=30),
    st.sampled_from(["marginal", "pac"]),
    st.sampled_from([0.08, 0.2, 0.5]),
    st.integers(0, 1000),
)
def test_a_threshold_lies_between_two_scores(negative, own, guarantee, rate, seed):
    """Ties, and scores that differ by rounding, count as one, and none of them fires."""
    rng = np.random.default_rng(seed)
    negative, own = (
        s * (1 + 1e-14 * rng.normal(size=len(s))) for s in map(np.array, (negative, own))
    )
    level = threshold(negative, rate, guarantee, among=own)
    scores = np.concatenate([negative, own])
    size = np.abs(scores).max() or 1.0
    assert np.abs(scores - level).min() > 1e-11 * size
    statistic = threshold(np.round(negative), rate, guarantee)
    # decided as at the order statistic of the true scores
    np.testing.assert_array_equal(scores > level, np.round(scores) > np.floor(statistic))


def test_the_predicted_gate_the_table_and_the_head_agree():
    for seed in range(20):
        for head in ("linear", "cosine"):
            classifier, vectors, held, _ = world(seed, head)
            gate = calibrate_gate(held, vectors, "c2", score="predicted", classifier=classifier)
            called = LiveEdits(classifier, held).before == 2
            np.testing.assert_array_equal(gate.fires(held.z), called)
            acts = deployed(classifier, vectors["c2"].gated(gate), held.z, 7)
            np.testing.assert_array_equal(acts, called)
            with torch.no_grad():
                logits = classifier.logits(torch.tensor(held.z)).double().numpy()
            top = np.sort(logits, axis=1)
            sure = top[:, -1] - top[:, -2] > 1e-5 * np.abs(logits).max()
            np.testing.assert_array_equal((logits.argmax(axis=1) == 2)[sure], called[sure])
            assert sure.mean() > 0.99


def test_where_two_classes_tie_no_gate_fires():
    rows = torch.tensor([[1.0, 0.0], [1.0, 0.0], [0.0, 1.0]])
    vectors = class_vectors_of(3, 2)
    classifier = Classifier(
        torch.nn.Flatten(), CosineHead(rows, 1.0), classes=vectors.classes, preprocess=len
    )
    held = Features(np.array([[2.0, 1.0], [1.0, 3.0]], np.float32), [0, 2], vectors.classes)
    for name, fires in (("c0", False), ("c1", False), ("c2", True)):
        gate = calibrate_gate(held, vectors, name, score="predicted", classifier=classifier)
        assert gate.fires(held.z).any() == fires
        assert deployed(classifier, vectors[name].gated(gate), held.z, 1).any() == fires
