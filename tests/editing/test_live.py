"""Edits read live are what `inject` would answer, whatever the head, the gates and their number."""

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import nn
from worlds import class_vectors_of, logits, reader, samples

from classvec_lab import Classifier, calibrate_gate, inject
from classvec_lab.editing import LiveEdits, LiveReadout, gate_curve, strength_curve
from classvec_lab.errors import EditError, MismatchError
from classvec_lab.statistics import split_accuracy

VECTORS = class_vectors_of()
HELD, OTHER = samples(VECTORS, 400, spread=1.5), samples(VECTORS, 300, seed=3, spread=1.5)


def gate(name, score="margin", **more):
    return calibrate_gate(HELD, VECTORS, name, score=score, false_fire=0.05, **more)


def decided(classifier, z, least=1e-3):
    """Samples whose two largest logits differ enough for float32 and float64 to agree."""
    top = np.sort(logits(classifier, z).numpy(), axis=1)
    return top[:, -1] - top[:, -2] > least


@pytest.mark.parametrize("head", ["linear", "cosine"])
@settings(max_examples=25)
@given(
    st.lists(
        st.tuples(
            st.sampled_from(VECTORS.classes),
            st.floats(-3, 3).filter(lambda s: abs(s) > 1e-3),
            st.sampled_from(["none", "margin", "cosine", "soft"]),
        ),
        min_size=1, max_size=4,
    )
)  # fmt: skip
def test_predictions_are_those_of_the_injected_classifier(head, terms):
    classifier = reader(VECTORS, head)
    edits = []
    for name, strength, how in terms:
        edit = strength * VECTORS[name]
        if how != "none":
            g = gate(name, "cosine" if how == "cosine" else "margin")
            edit = edit.gated(g.soft(0.05) if how == "soft" else g)
        edits.append(edit)
    read = LiveEdits(classifier, OTHER).read(edits)
    edited = inject(classifier, edits)
    sure = decided(edited, OTHER.z)
    assert sure.mean() > 0.9
    assert (read.after[sure] == logits(edited, OTHER.z).numpy().argmax(axis=1)[sure]).all()
    sure = decided(classifier, OTHER.z)
    assert (read.before[sure] == logits(classifier, OTHER.z).numpy().argmax(axis=1)[sure]).all()


def test_no_edit_changes_nothing():
    read = LiveEdits(reader(VECTORS), OTHER).read([])
    assert not len(read.changed)
    assert list(read.table()["class"]) == ["all others"]
    assert read.says() == ("No edit is on (val split, n = 300).",)


def test_labels_decide_no_prediction():
    edit = (-1.5 * VECTORS["c1"]).gated(gate("c1"))
    shuffled = type(OTHER)(OTHER.z, np.random.default_rng(0).permutation(OTHER.y), OTHER.classes)
    a, b = (LiveEdits(reader(VECTORS), features).read(edit) for features in (OTHER, shuffled))
    assert (a.after == b.after).all()
    assert (a.control == b.control).all()


def test_the_table_counts_what_the_strength_curve_counts():
    classifier, edit = reader(VECTORS), VECTORS["c2"].gated(gate("c2"))
    read = LiveEdits(classifier, OTHER).read(-1.5 * edit)
    curve = strength_curve(classifier, edit, OTHER, lambdas=[-1.5]).set_index("lambda_")
    table = read.table().set_index("class")
    for name, row in (("f", "c2"), ("r", "all others")):
        assert table.loc[row, "after"] == pytest.approx(curve.loc[-1.5, f"acc_{name}"])
        assert table.loc[row, "before"] == pytest.approx(curve.loc[0.0, f"acc_{name}"])
        assert table.loc[row, "low"] == pytest.approx(curve.loc[-1.5, f"acc_{name}_low"])
    assert table.loc["c2", "after"] < 0.1 < 0.8 < table.loc["c2", "random"]
    went = np.bincount(read.after[read.y == 2], minlength=4)
    assert (table.loc["c2", "called"], table.loc["c2", "called_share"]) == (
        VECTORS.classes[went.argmax()],
        went.max() / 75,
    )
    assert table.loc["all others", "called"] == ""
    assert "Class 'c2'" in read.says()[0]
    assert ": less;" in read.says()[0]


def test_sentences_say_what_the_table_knows():
    """A class without samples is said to have none."""
    some = OTHER.y != 2
    part = type(OTHER)(OTHER.z[some], OTHER.y[some], OTHER.classes)
    read = LiveEdits(reader(VECTORS), part, split="test").read(
        [-1.5 * VECTORS["c2"], (-1.5 * VECTORS["c1"]).gated(gate("c1"))]
    )
    absent, edited, others = read.says()
    assert absent == "Class 'c2': no sample on test."
    row = read.table().set_index("class").loc["c1"]
    assert edited == (
        f"Class 'c1': accuracy {row['after']:.1%} [{row['low']:.1%}, {row['high']:.1%}] on test, "
        f"from {row['before']:.1%} (n = 75): less; random directions of the same norm leave "
        f"{row['random']:.1%}."
    )
    assert others.startswith("All classes that no edit targets: accuracy ")
    assert "nan" not in " ".join(read.says())


def test_strengths_are_reads_at_each_strength():
    classifier = reader(VECTORS, "cosine")
    first, second = VECTORS["c0"].gated(gate("c0")), (0.7 * VECTORS["c3"]).gated(gate("c3"))
    live = LiveEdits(classifier, OTHER)
    curve = live.strengths([first, second], [0.0, 0.8, 2.0])
    for factor, row in zip((0.8, 2.0), curve.iloc[1:].itertuples(), strict=True):
        read = live.read([factor * first, second])
        hit = read.after == read.y
        own = read.y == 0
        assert row.acc_f == pytest.approx(hit[own].mean())
        assert row.acc_r == pytest.approx(
            split_accuracy(hit, (read.y == 0) | (read.y == 3))["acc_r"]
        )


def test_fires_and_curves_agree_with_the_gate():
    g = gate("c1", "cosine")
    live = LiveEdits(reader(VECTORS), OTHER)
    fires = live.read((-1.0 * VECTORS["c1"]).gated(g)).fires().iloc[0]
    fired, own = g.fires(OTHER.z), OTHER.y == 1
    assert fires["fires"] == pytest.approx(fired[own].mean())
    assert fires["false_fires"] == pytest.approx(fired[~own].mean())
    assert fires["worst_fires"] == pytest.approx(max(fired[OTHER.y == i].mean() for i in (0, 2, 3)))
    plain, given = gate_curve(g, OTHER), gate_curve(g, OTHER, scores=live.scores(g))
    assert plain.equals(given)
    assert live.scores(g) is live.scores(g.at(0.3))


def test_the_worst_class_is_one_that_has_samples():
    y, acts = np.array([0, 0, 2, 2, 3, 3, 3]), np.array([[1, 1, 0, 1, 1, 0, 0.4]])

    def fires(chosen):
        size = len(y[chosen])
        nothing = np.zeros(size, int)
        read = LiveReadout(
            nothing, nothing, acts[:, chosen], np.zeros((0, size)), y[chosen], tuple("abcd"), ("a",)
        )
        return read.fires().iloc[0]

    every = fires(np.arange(7))
    assert (every["fires"], every["false_fires"], every["worst_class"], every["worst_fires"]) == (
        1.0,
        0.4,
        "c",
        0.5,
    )
    alone, without = fires(y == 0), fires(y == 3)
    assert alone["worst_class"] == ""
    assert np.isnan(alone["worst_fires"])
    assert np.isnan(alone["false_fires"])
    assert np.isnan(without["fires"])
    assert (without["worst_class"], without["worst_fires"]) == ("d", pytest.approx(1 / 3))


def test_random_directions_have_the_edits_norm_and_repeat():
    classifier = reader(VECTORS)
    edit = -2.0 * VECTORS["c0"]
    live = LiveEdits(classifier, OTHER)
    read = live.read(edit)
    assert read.control.shape == (5, 300)
    assert (read.control == LiveEdits(classifier, OTHER).read(edit).control).all()
    unit = (
        live._drawn("c0") @ np.linalg.pinv(live._head).T
    )  # back from the head: their part that it reads
    assert (np.linalg.norm(unit, axis=1) <= 1 + 1e-9).all()


def test_the_encoder_is_never_called():
    class Refuses(nn.Module):
        def forward(self, images):
            raise AssertionError("called")

    classifier = reader(VECTORS, encoder=Refuses())
    LiveEdits(classifier, OTHER).read(-1.0 * VECTORS["c0"])


def test_what_does_not_fit_is_said():
    with pytest.raises(MismatchError, match=r"the head reads .* \(N, 10\); got \(400, 7\)"):
        LiveEdits(reader(VECTORS), samples(class_vectors_of(dim=7)))
    other = class_vectors_of(n_classes=5)
    with pytest.raises(MismatchError, match="another model"):
        LiveEdits(reader(VECTORS), OTHER).read(other["c0"])
    classifier = reader(VECTORS)
    deep = nn.Sequential(nn.Linear(10, 4))
    deep.in_features, deep.out_features = 10, 4
    with pytest.raises(EditError, match=r"W z \+ b and .*Sequential is neither"):
        LiveEdits(
            Classifier(
                classifier.encoder, deep, classes=VECTORS.classes, preprocess=classifier.preprocess
            ),
            OTHER,
        )
    assert torch.is_grad_enabled()
