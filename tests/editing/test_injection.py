"""Injected edits act where their gates fire and nowhere else, and come off without a trace."""

import copy
import inspect
import warnings

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from torch import nn
from worlds import (
    PREPROCESS,
    bits,
    class_vectors_of,
    images,
    logits,
    names,
    reader,
    same_bits,
    samples,
)

from classvec_lab import Classifier, ClassVectors, readout
from classvec_lab.editing.calibration import calibrate_gate
from classvec_lab.editing.directions import random_direction
from classvec_lab.editing.erasers import erase, mask_class, project_out
from classvec_lab.editing.injection import GateModule, inject
from classvec_lab.errors import EditError, MismatchError
from classvec_lab.gates import Gate
from classvec_lab.readout import Readout, predict

V = class_vectors_of()
TEN = class_vectors_of(10, 12, seed=1)
HELD = samples(V, 800)


def gated(vectors=V, target="c1", strength=-1.5, **options):
    held = HELD if vectors is V else samples(vectors, 1500)
    return (strength * vectors[target]).gated(calibrate_gate(held, vectors, target, **options))


def ten_edits():
    return [gated(TEN, name, -1.5, false_fire=0.05) for name in TEN.classes]


def by_hand(classifier, edits, z):
    """Edited representations, sample by sample in float64."""
    out = np.array(z, dtype=np.float64)
    for i, row in enumerate(np.asarray(z, dtype=np.float64)):
        for edit in edits:
            weight = 1.0 if edit.gate is None else edit.gate.weights(row[None])[0]
            out[i] += weight * edit.vector
    return out


@pytest.mark.parametrize("head", ["linear", "cosine"])
def test_logits_are_read_from_the_edited_representation(head):
    classifier, z = reader(V, head), samples(V, 300, seed=3).z
    edit = gated()
    fired = edit.gate.fires(z)
    assert 0 < fired.sum() < len(z)
    edited = inject(classifier, edit)
    expected = logits(classifier, by_hand(classifier, [edit], z))
    torch.testing.assert_close(logits(edited, z), expected, rtol=1e-4, atol=1e-3)
    assert torch.equal(logits(edited, z)[~fired], logits(classifier, z)[~fired])
    assert (logits(edited, z)[fired] != logits(classifier, z)[fired]).any(dim=1).all()
    assert (edited.dim, edited.classes, edited.edits) == (V.dim, V.classes, (edit,))


@pytest.mark.parametrize("head", ["linear", "cosine"])
def test_the_argument_is_never_changed(head):
    classifier = reader(V, head)
    before, own, encoder = bits(classifier), classifier.head, classifier.encoder
    x, shown = images(), classifier(images())
    edited = inject(classifier, [gated(), gated(target="c2")])
    independent = copy.deepcopy(edited).train().double()
    with torch.no_grad():
        for value in [*independent.parameters(), *independent.buffers()]:
            value.fill_(7)
    assert same_bits(before, bits(classifier))
    assert classifier.head is own
    assert classifier.encoder is encoder
    assert not hasattr(classifier, "edits")
    assert torch.equal(classifier(x), shown)


def storage(*modules):
    """Bytes of all different tensors in the modules."""
    values = [v for m in modules for v in (*m.parameters(), *m.buffers())]
    return sum(
        {v.untyped_storage().data_ptr(): v.untyped_storage().nbytes() for v in values}.values()
    )


def test_ten_edits_take_less_memory_than_one_encoder():
    """An edit behind the encoder shares encoder and head, and so does taking it off."""
    classifier, x = reader(TEN), images(16)
    before = classifier(x)
    models, step = [classifier], classifier
    for edit in ten_edits():
        step = inject(step, edit)
        models.append(step)
    models += [step.without(step.edits[3]), step.original(), mask_class(step, "c0")]
    models.append(erase(step, project_out(TEN.kappa[0])))
    assert all(model.encoder is classifier.encoder for model in models)
    assert models[10].head.head is models[12].head is classifier.head
    assert storage(step) - storage(classifier) < storage(classifier.encoder)
    shared = storage(*(model.encoder for model in models), *(m.head.head for m in models[1:11]))
    assert shared == storage(classifier)
    assert torch.equal(classifier(x), before)
    assert torch.equal(step.original()(x), before)


@pytest.mark.parametrize("training", [True, False])
def test_the_mode_of_the_argument_stays(training):
    """Dropout and batch norm of the caller's encoder stay as they were set, module by module."""
    encoder = nn.Sequential(
        nn.Flatten(), nn.Linear(192, V.dim), nn.BatchNorm1d(V.dim), nn.Dropout(0.5)
    )
    head = reader(V).head
    classifier = Classifier(encoder, head, classes=V.classes, preprocess=PREPROCESS)
    classifier.train(training)
    encoder[2].train(not training)  # as where batch-norm statistics are frozen
    head.weight.requires_grad_(False)
    modes = {name: module.training for name, module in classifier.named_modules()}
    edited = inject(classifier, gated())
    made = [
        edited,
        edited.without(edited.edits[0]),
        edited.original(),
        mask_class(classifier, "c1"),
    ]
    made.append(erase(classifier, project_out(V.kappa[0])))
    assert {name: module.training for name, module in classifier.named_modules()} == modes
    for model in made:
        assert model.training == training
        assert model.encoder[3].training == training
        assert model.encoder[2].training != training
    assert not head.weight.requires_grad
    assert head.bias.requires_grad


def test_no_label_and_no_hook():
    assert set(inspect.signature(GateModule.forward).parameters) == {"self", "z"}
    classifier = reader(V)
    edited = inject(classifier, gated())
    for module in [*edited.modules(), *classifier.modules()]:
        assert not module._forward_hooks
        assert not module._forward_pre_hooks
    f = samples(V, 200)
    turned = type(f)(f.z, np.roll(f.y, 1), f.classes)
    np.testing.assert_array_equal(predict(edited, f), predict(edited, turned))


@given(st.integers(0, 1000), st.booleans(), st.booleans(), st.sampled_from([0.0, 0.3]))
def test_the_network_and_the_array_agree(seed, rivals, normalise, temperature):
    rng = np.random.default_rng(seed)
    k, dim = int(rng.integers(2, 6)), int(rng.integers(1, 20))
    gate = Gate(
        "c0", names(6), "margin", rng.normal(size=(k, dim)), rng.normal(size=k),
        float(rng.normal()), int(rng.integers(k)), rivals, normalise, temperature,
    )  # fmt: skip
    z = rng.normal(size=(50, dim)) * 10 ** rng.uniform(-2, 2)
    own, module = gate.weights(z), GateModule(gate)(torch.tensor(z, dtype=torch.float32)).numpy()
    if temperature:
        np.testing.assert_allclose(module, own, atol=1e-6)
    else:
        np.testing.assert_array_equal(module, own)


def test_soft_gates_and_edits_without_a_gate():
    classifier, z = reader(V), samples(V, 100, seed=3).z
    free, soft = 0.5 * V["c2"], (-1.5 * V["c1"]).gated(gated().gate.soft(0.2))
    for edits in ([free], [soft], [soft, free]):
        moved = inject(classifier, edits).head.moved(torch.tensor(z, dtype=torch.float32))
        np.testing.assert_allclose(
            moved.numpy(), by_hand(classifier, edits, z), rtol=1e-4, atol=1e-4
        )


@pytest.mark.parametrize("head", ["linear", "cosine"])
def test_leaving_the_context_restores_every_bit(head):
    classifier, x = reader(V, head), images(20)
    with torch.no_grad():
        before = classifier(x)
        with inject(classifier, 2 * V["c0"]) as edited:
            assert not torch.equal(edited(x), before)
        assert torch.equal(edited(x), before)
        assert edited.edits == ()
        with (
            pytest.raises(RuntimeError, match="on purpose"),
            inject(classifier, 2 * V["c0"]) as edited,
        ):
            raise RuntimeError("on purpose")
        assert torch.equal(edited(x), before)
        assert torch.equal(classifier(x), before)
        again = inject(edited, 2 * V["c0"])
        assert torch.equal(again(x), inject(classifier, 2 * V["c0"])(x))


def test_overlaps_are_added_up():
    rng = np.random.default_rng(0)
    classifier, z = reader(V), rng.normal(size=(60, V.dim))

    def half(axis, name, strength):
        weight = np.eye(V.dim)[axis : axis + 1]
        return (strength * V[name]).gated(Gate(name, V.classes, "cosine", weight, np.zeros(1), 0.0))

    edits = [half(0, "c0", -1.0), half(1, "c1", 2.0), half(2, "c2", -0.5)]
    moved = inject(classifier, edits).head.moved(torch.tensor(z, dtype=torch.float32))
    np.testing.assert_allclose(moved.numpy(), by_hand(classifier, edits, z), rtol=1e-5, atol=1e-5)


@pytest.fixture(scope="module")
def ten():
    """A classifier, ten gated edits, images and representations, and the logits before."""
    classifier, z = reader(TEN, "cosine"), samples(TEN, 300, seed=4, spread=3.0).z
    return classifier, ten_edits(), images(16), z


def test_ten_edits_one_after_the_other_are_ten_at_once(ten):
    classifier, edits, x, z = ten
    at_once, step = inject(classifier, edits), classifier
    for edit in edits:
        step = inject(step, edit)
    assert torch.equal(logits(step, z), logits(at_once, z))
    assert torch.equal(step(x), at_once(x))
    assert same_bits(bits(step), bits(at_once))
    assert (logits(at_once, z) != logits(classifier, z)).any(dim=1).float().mean() > 0.3


@given(st.permutations(range(10)))
def test_ten_edits_come_off_in_any_order(ten, order):
    classifier, edits, x, z = ten
    edited = inject(classifier, edits)
    for k, i in enumerate(order):
        edited = edited.without(edits[i])
        if k == 4:
            left = [e for j, e in enumerate(edits) if j not in order[:5]]
            assert edited.edits == tuple(left)
            assert torch.equal(logits(edited, z), logits(inject(classifier, left), z))
    assert torch.equal(logits(edited, z), logits(classifier, z))
    assert torch.equal(edited(x), classifier(x))
    assert edited.edits == ()


def test_taking_edits_off(ten):
    classifier, edits, _, _ = ten
    edited = inject(classifier, edits)
    assert edited.without(edits[5]).edits == (*edits[:5], *edits[6:])
    assert edited.edits == tuple(edits)
    original = edited.original()
    assert type(original) is type(classifier)
    assert same_bits(bits(original), bits(classifier))
    assert original.fingerprint == classifier.fingerprint == edited.fingerprint
    with pytest.raises(EditError, match=r"there is no edit .* to take off; on it: -1.5·κ"):
        edited.without(gated())
    with pytest.raises(EditError, match="on it: none"):
        inject(classifier, edits[0]).without(edits[0]).without(edits[0])
    with pytest.raises(EditError, match=r"edited.original\(\).save\(folder\), and edit.save"):
        edited.save("anywhere")


def test_deep_copies_are_independent(ten):
    classifier, edits, x, _ = ten
    edited = inject(classifier, edits)
    twin = copy.deepcopy(edited)
    assert torch.equal(twin(x), edited(x))
    assert twin.edits == edited.edits
    assert torch.equal(twin.original()(x), classifier(x))
    with torch.no_grad():
        twin.head.steps.zero_()
    assert torch.equal(edited(x), inject(classifier, edits)(x))


def test_state_goes_into_a_classifier_with_the_same_edits():
    edits = [gated(), gated(target="c2")]
    a, b = inject(reader(V, seed=0), edits), inject(reader(V, seed=5), edits)
    assert not torch.equal(a(images()), b(images()))
    b.load_state_dict(a.state_dict())
    assert torch.equal(a(images()), b(images()))


@pytest.mark.parametrize("head", ["linear", "cosine"])
def test_an_injected_classifier_can_be_exported(head):
    edits = [gated(), (0.5 * V["c2"]).gated(gated(target="c2").gate.soft(0.3)), 0.1 * V["c3"]]
    edited, x = inject(reader(V, head), edits), images(16)
    with warnings.catch_warnings():
        warnings.filterwarnings("ignore", category=DeprecationWarning)
        warnings.filterwarnings("ignore", category=FutureWarning)
        program = torch.export.export(edited, (x,))
    again = program.module()
    with torch.no_grad():
        for seed in range(3):
            assert torch.equal(again(images(16, seed)), edited(images(16, seed)))
    assert set(program.state_dict) == set(edited.state_dict())


def test_what_cannot_be_injected_is_refused_and_changes_nothing():
    classifier = reader(V)
    before = bits(classifier)
    nowhere = ClassVectors(V.z_ft, V.z_ft, V.count, V.classes)
    known = ClassVectors(V.z_pre, V.z_ft, V.count, V.classes, ft="another model")
    for edits, error, message in (
        (0 * V["c1"], EditError, "strength 0 and would change nothing; choose lambda other than 0"),
        (nowhere["c1"], EditError, "norm 0 and would change nothing.*are both models the same"),
        ([V["c1"], V["c1"] - V["c1"]], EditError, "strength 0"),
        ([], EditError, "at least one edit"),
        (
            [V["c1"], V.kappa[1]],
            EditError,
            r"takes edits such as -1.5 \* vectors\['cat'\], not ndarray",
        ),
        (["c1"], EditError, "not str"),
        (
            class_vectors_of(3)["c1"],
            MismatchError,
            "classes .*edit: c0, c1, c2; model: c0, c1, c2, c3",
        ),
        (class_vectors_of(dim=11)["c1"], MismatchError, "dimension .*edit: 11; model: 10"),
        (
            known["c1"],
            MismatchError,
            "weights or preprocessing .*edit: another model; model: " + classifier.fingerprint,
        ),
    ):
        with pytest.raises(error, match=message):
            inject(classifier, edits)
    with pytest.raises(MismatchError, match="no class 'cat'"):
        inject(classifier, V["cat"])
    assert same_bits(before, bits(classifier))


@pytest.mark.parametrize("head", ["linear", "cosine"])
def test_stored_representations_are_read_as_the_classifier_does(head):
    classifier, features = reader(V, head), samples(V, 100, seed=3)
    edits = [gated(), gated(target="c2"), random_direction(V, "c0", seed=0)]
    for edited in (classifier, inject(classifier, edits)):
        read = readout.logits(edited, features.z)
        assert read.dtype == np.float64
        np.testing.assert_array_equal(read, logits(edited, features.z).double())
        np.testing.assert_array_equal(read, Readout.of(edited, features).logits)
        np.testing.assert_array_equal(read.argmax(axis=1), predict(edited, features))


def test_injected_and_erased_heads_stack():
    """`moved` gives what the innermost head reads, in whichever order edits were put on."""
    classifier, z = reader(V), torch.tensor(samples(V, 50).z, dtype=torch.float32)
    edit, eraser = 0.5 * V["c2"], project_out(V.kappa[0])
    step = torch.tensor(edit.vector, dtype=torch.float32)
    for model, moved in (
        (inject(erase(classifier, eraser), edit), lambda z: eraser((z + step).double())),
        (erase(inject(classifier, edit), eraser), lambda z: eraser(z.double()) + step),
    ):
        torch.testing.assert_close(
            model.head.moved(z).double(), moved(z).double(), rtol=1e-5, atol=1e-5
        )
        torch.testing.assert_close(model.logits(z), classifier.logits(model.head.moved(z)))


def test_a_readout_holds_what_the_head_reads():
    f = samples(V, 100, seed=3)
    edit = gated()
    edited = inject(reader(V), edit)
    found = Readout.of(edited, f)
    np.testing.assert_allclose(found.z, by_hand(edited, [edit], f.z), rtol=1e-5, atol=1e-5)
    np.testing.assert_array_equal(found.logits, logits(edited, f.z).double())


def test_a_large_encoder_is_hashed_once(monkeypatch):
    hashed = []
    monkeypatch.setattr(
        type(reader(V)), "fingerprint", property(lambda self: hashed.append(1) or "after")
    )
    known = ClassVectors(V.z_pre, V.z_ft, V.count, V.classes, ft="after")
    inject(reader(V), [known[c] for c in V.classes])
    assert len(hashed) == 1
    other = ClassVectors(V.z_pre, V.z_ft, V.count, V.classes, ft="another")
    with pytest.raises(MismatchError, match="edit: another; model: after"):
        inject(reader(V), [known["c0"], other["c1"]])
