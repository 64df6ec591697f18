"""Deltas go on and come off bit for bit, in any order, and only where they belong."""

import copy
import itertools
import pickle

import numpy as np
import pytest
import torch
from conftest import CLASSES, small_classifier
from worlds import class_vectors_of, reader

from classvec_lab import load_classifier
from classvec_lab.editing.weights.delta import Delta, apply_deltas
from classvec_lab.errors import ClassvecError, EditError, FileFormatError, MismatchError

BIAS, WEIGHT = "head.bias", "encoder.3.weight"  # shapes (3,) and (6, 16)


def bits(classifier):
    return {name: value.numpy().tobytes() for name, value in classifier.state_dict().items()}


def forgetting(classifier, i):
    """A rank-2 and a dense change, so different in size that adding and subtracting lose bits."""
    rng = np.random.default_rng(i)
    factors = (10.0 ** (2 * i - 4) * rng.normal(size=(6, 2)), rng.normal(size=(16, 2)))
    return Delta.on(classifier, f"forget {i}", {WEIGHT: factors, BIAS: rng.normal(size=3)})


def test_dense_and_factored_changes_are_added(classifier):
    a, b, bias = np.arange(6.0), np.linspace(-1, 1, 16), np.array([0.5, 0, -2], dtype=np.float32)
    first = np.full((16, 192), 0.25)
    changes = {WEIGHT: (a[:, None], b[:, None]), BIAS: bias, "encoder.1.weight": first}
    delta = Delta.on(classifier, "both", changes)
    edited = delta.apply_to(classifier)
    expected = classifier.encoder[3].weight.detach().double().numpy() + np.outer(a, b)
    np.testing.assert_array_equal(
        edited.encoder[3].weight.detach().numpy(), expected.astype(np.float32)
    )
    np.testing.assert_array_equal(
        edited.head.bias.detach().numpy(), classifier.head.bias.detach().numpy() + bias
    )
    assert torch.equal(edited.encoder[1].weight, classifier.encoder[1].weight + 0.25)
    assert delta.n_parameters == 6 + 16 + 3 + 16 * 192
    assert list(delta.changes) == [WEIGHT, BIAS, "encoder.1.weight"]
    others = [n for n in bits(classifier) if n not in delta.changes]
    assert all(bits(edited)[n] == bits(classifier)[n] for n in others)


def test_the_argument_is_left_alone_and_no_changed_weight_is_shared(classifier):
    before = bits(classifier)
    delta = forgetting(classifier, 1)
    edited = delta.apply_to(classifier)
    back = delta.remove_from(edited)
    assert bits(classifier) == before
    assert bits(back) == before
    with torch.no_grad():
        for model in (edited, back):
            for name in delta.changes:
                model.state_dict()[name].fill_(7)
        for p in copy.deepcopy(edited).parameters():
            p.fill_(7)
    assert bits(classifier) == before


def storages(*classifiers):
    """Bytes of the distinct memory under all parameters and buffers."""
    tensors = [t for c in classifiers for t in (*c.parameters(), *c.buffers())]
    found = {t.untyped_storage().data_ptr(): t.untyped_storage().nbytes() for t in tensors}
    return sum(found.values())


def test_what_does_not_change_is_shared():
    classifier = load_classifier("tiny-clip", classes=[f"c{i}" for i in range(10)])
    classifier.train()
    width, before = classifier.encoder.proj.shape, bits(classifier)
    deltas = [
        Delta.on(
            classifier, f"{i}", {"encoder.proj": (np.ones((width[0], 1)), np.eye(width[1], 1))}
        )
        for i in range(10)
    ]
    edited = [delta.apply_to(classifier) for delta in deltas]
    stored = sum(8 * delta.n_parameters for delta in deltas)
    assert storages(classifier, *edited) < 1.2 * storages(classifier) + stored
    assert len({e.encoder.proj.data_ptr() for e in (classifier, *edited)}) == 11
    assert edited[0].encoder is not classifier.encoder
    assert edited[0].encoder.conv1.weight is classifier.encoder.conv1.weight
    assert edited[0].head is classifier.head
    assert all(m.training for e in (classifier, *edited) for m in e.modules())
    own = copy.deepcopy(edited[3])
    assert storages(own, edited[3]) == storages(own) + storages(edited[3])
    assert bits(own) == bits(edited[3])
    for delta, e in zip(deltas, edited, strict=True):
        assert bits(delta.remove_from(e)) == before
    assert bits(classifier) == before


def test_a_change_of_the_head_keeps_the_encoder():
    classifier = reader(class_vectors_of())
    delta = Delta.on(classifier, "head", {"head.bias": np.ones(4)})
    edited = delta.apply_to(classifier)
    assert edited.encoder is classifier.encoder
    assert edited.head.weight is classifier.head.weight
    assert torch.equal(edited.head.bias, classifier.head.bias + 1)


def test_tied_weights_stay_tied(classifier):
    classifier.encoder[3].bias = classifier.head.extra = torch.nn.Parameter(torch.ones(6))
    edited = Delta.on(classifier, "tied", {"head.extra": np.ones(6)}).apply_to(classifier)
    assert edited.encoder[3].bias is edited.head.extra
    assert (edited.head.extra == 2).all()
    assert (classifier.encoder[3].bias == 1).all()


def test_an_edited_classifier_is_pickled_with_its_deltas(classifier):
    deltas = [forgetting(classifier, i) for i in range(2)]
    edited = pickle.loads(pickle.dumps(apply_deltas(classifier, deltas)))
    with pytest.raises(MismatchError, match="'forget 1' is already on"):
        deltas[1].apply_to(edited)
    assert bits(deltas[0].remove_from(edited)) == bits(deltas[1].apply_to(classifier))


def test_the_same_deltas_give_the_same_bits_in_any_order(classifier):
    deltas = [forgetting(classifier, i) for i in range(4)]
    together = bits(apply_deltas(classifier, deltas))
    for order in itertools.permutations(deltas):
        one_by_one = classifier
        for delta in order:
            one_by_one = delta.apply_to(one_by_one)
        assert bits(one_by_one) == together


def test_deltas_come_off_in_any_order(classifier):
    deltas = [forgetting(classifier, i) for i in range(4)]
    for order in itertools.permutations(range(4)):
        edited = apply_deltas(classifier, deltas)
        for done in range(4):
            edited = deltas[order[done]].remove_from(edited)
            left = [deltas[i] for i in order[done + 1 :]]
            assert bits(edited) == bits(apply_deltas(classifier, left))
        assert bits(edited) == bits(classifier)


def test_subtracting_would_not_have_been_exact(classifier):
    delta = forgetting(classifier, 4)
    a, b = delta.changes[WEIGHT]
    edited = delta.apply_to(classifier).encoder[3].weight.detach().numpy()
    assert (
        (edited - a @ b.T).astype(np.float32) != classifier.encoder[3].weight.detach().numpy()
    ).any()


def test_a_delta_made_on_an_edited_classifier_belongs_to_the_unedited_one(classifier):
    first = forgetting(classifier, 0)
    second = forgetting(first.apply_to(classifier), 1)
    assert second.fingerprint == forgetting(classifier, 1).fingerprint
    assert bits(second.apply_to(classifier)) == bits(forgetting(classifier, 1).apply_to(classifier))


def test_buffers_can_change_and_integers_cannot():
    classifier = small_classifier(batchnorm=True)
    delta = Delta.on(classifier, "statistics", {"encoder.2.running_mean": np.full(16, 0.25)})
    edited = delta.apply_to(classifier)
    assert (edited.encoder[2].running_mean == 0.25).all()
    assert (classifier.encoder[2].running_mean == 0).all()
    with pytest.raises(MismatchError, match=r"no weight 'encoder\.2\.num_batches_tracked'"):
        Delta.on(classifier, "count", {"encoder.2.num_batches_tracked": np.array(1.0)})


def test_a_saved_delta_is_the_same(classifier, tmp_path):
    delta = Delta.on(
        classifier,
        "forget red",
        {WEIGHT: (np.ones((6, 1), np.float32), np.ones((16, 1))), BIAS: np.arange(3)},
    )
    read = Delta.load(delta.save(tmp_path / "delta.safetensors"))
    assert (read.name, read.classes) == ("forget red", CLASSES)
    assert read.fingerprint == delta.fingerprint
    assert bits(read.apply_to(classifier)) == bits(delta.apply_to(classifier))
    assert bits(read.remove_from(delta.apply_to(classifier))) == bits(classifier)
    with pytest.raises(MismatchError, match="made for another model"):
        Delta.load(tmp_path / "delta.safetensors").apply_to(small_classifier(seed=1))
    classifier.save(tmp_path / "model")
    with pytest.raises(FileFormatError, match="weight delta"):
        Delta.load(tmp_path / "model" / "weights.safetensors")


def test_another_model_is_refused_by_what_differs(classifier):
    delta = Delta.on(classifier, "forget red", {BIAS: np.ones(3)})
    other_head = copy.deepcopy(classifier)
    with torch.no_grad():
        other_head.head.bias += 1
    differ = "made for another model than .*: the encoder, .* or the values of head.bias differ"
    for model, words in (
        (small_classifier(seed=1), differ),
        (
            small_classifier(("a", "b", "c")),
            "has 3 classes .* lacks a, b, c; 'Sequential' lacks red",
        ),
        (other_head, differ),
    ):
        before = bits(model)
        with pytest.raises(MismatchError, match=f"the delta 'forget red' .*{words}"):
            delta.apply_to(model)
        assert bits(model) == before


def test_on_twice_or_off_without_being_on(classifier):
    delta, other = forgetting(classifier, 0), forgetting(classifier, 1)
    edited = delta.apply_to(classifier)
    with pytest.raises(MismatchError, match="'forget 0' is already on"):
        delta.apply_to(edited)
    with pytest.raises(
        MismatchError, match="'forget 1' is not on this classifier; on it: forget 0"
    ):
        other.remove_from(edited)
    with pytest.raises(MismatchError, match="on it: none"):
        delta.remove_from(classifier)


def test_weights_changed_under_a_delta_are_not_thrown_away(classifier):
    delta = forgetting(classifier, 0)
    edited = delta.apply_to(classifier)
    with torch.no_grad():
        edited.head.bias += 1
    for attempt in (delta.remove_from, forgetting(classifier, 1).apply_to):
        with pytest.raises(MismatchError, match=r"or head\.bias changed since forget 0 went on"):
            attempt(edited)


@pytest.mark.parametrize(
    ("change", "error", "words"),
    [
        ({}, EditError, "changes no weight"),
        (
            {"head.bais": np.ones(3)},
            MismatchError,
            r"no weight 'head.bais'; there are .*head\.bias",
        ),
        (
            {BIAS: np.ones(4)},
            MismatchError,
            r"head\.bias has shape \(3,\) and the delta 'x' \(4,\)",
        ),
        ({BIAS: np.array([1, np.nan, 0])}, EditError, r"not finite in head\.bias"),
        (
            {WEIGHT: (np.ones((16, 1)), np.ones((6, 1)))},
            MismatchError,
            r"shape \(6, 16\) .*\(16, 6\)",
        ),
        (
            {WEIGHT: (np.ones((6, 2)), np.ones((16, 3)))},
            MismatchError,
            r"\(6, 2\), \(16, 3\)",
        ),
    ],
)
def test_impossible_changes_are_refused(classifier, change, error, words):
    with pytest.raises(error, match=words) as caught:
        Delta.on(classifier, "x", change)
    assert isinstance(caught.value, ClassvecError)
