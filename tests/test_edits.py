"""Edits form a vector space of named directions, know their model, and survive the disk."""

import copy
import pickle

import numpy as np
import pytest
from conftest import small_classifier
from hypothesis import given
from hypothesis import strategies as st

from classvec_lab import ClassVectors
from classvec_lab.edits import Edit
from classvec_lab.errors import EditError, FileFormatError, MismatchError
from classvec_lab.files import hash_json, read_tensors, write_tensors
from classvec_lab.gates import Gate

CLASSES = ("red", "green", "blue")
numbers = st.floats(-8, 8).map(lambda x: round(x, 3))


def vectors(dim=6, seed=0, classes=CLASSES, **origin):
    rng = np.random.default_rng(seed)
    shape = len(classes), dim
    return ClassVectors(
        rng.normal(size=shape), rng.normal(size=shape), np.full(len(classes), 9), classes, **origin
    )


def gate(dim=6, **changes):
    rng = np.random.default_rng(1)
    of = {
        "target": "red",
        "classes": CLASSES,
        "score": "margin",
        "weight": rng.normal(size=(3, dim)),
        "bias": np.zeros(3),
    }
    return Gate(**{**of, "threshold": 0.25, "rivals": True, "normalise": True, **changes})


V = vectors()


@st.composite
def edits(draw):
    """Sums of scaled class vectors, of one to four terms."""
    terms = draw(st.lists(st.tuples(st.sampled_from(CLASSES), numbers), min_size=1, max_size=4))
    total = terms[0][1] * V[terms[0][0]]
    for name, c in terms[1:]:
        total = total + c * V[name]
    return total


def close(a, b):
    np.testing.assert_allclose(a.vector, b.vector, rtol=1e-9, atol=1e-9)


@given(edits(), edits(), edits(), numbers, numbers)
def test_edits_form_a_vector_space(a, b, c, s, t):
    close(a + b, b + a)
    close((a + b) + c, a + (b + c))
    close(s * (a + b), s * a + s * b)
    close((s + t) * a, s * a + t * a)
    close((s * t) * a, s * (t * a))
    close(a - b, a + (-1.0) * b)
    negative = -a
    np.testing.assert_array_equal((-negative).vector, a.vector)
    np.testing.assert_array_equal((1 * a).vector, a.vector)
    assert (a - a).norm == 0
    assert (a + b).target == a.target


@given(edits(), numbers)
def test_the_vector_is_what_numpy_makes_of_the_coefficients(a, s):
    expected = sum(c * V.kappa[CLASSES.index(name[2:-1])] for name, c in a.coefficients.items())
    np.testing.assert_allclose(a.vector, expected, rtol=1e-12, atol=1e-12)
    np.testing.assert_allclose(
        (s * a).norm, abs(s) * np.linalg.norm(expected), rtol=1e-9, atol=1e-12
    )
    assert a.dim == 6
    assert a.vector.dtype == np.float64


def test_a_class_vector_is_an_edit_of_strength_one():
    v = vectors(pre="before", ft="after", data="data")
    edit = v["green"]
    np.testing.assert_array_equal(edit.vector, v.kappa[1])
    assert (edit.target, edit.classes, edit.expression) == ("green", CLASSES, "κ[green]")
    assert (edit.pre, edit.ft, edit.data, edit.gate) == ("before", "after", "data", None)
    with pytest.raises(MismatchError, match="no class 'grene'; there are red, green, blue"):
        v["grene"]


def test_the_expression_reads_as_it_was_written():
    v = vectors(classes=("3", "5", "8"))
    for edit, text in (
        (-1.5 * v["3"] + 1.5 * v["5"], "-1.5·κ[3] + 1.5·κ[5]"),
        (v["3"] - v["5"], "κ[3] - κ[5]"),
        (-v["8"], "-κ[8]"),
        (0.5 * (v["3"] - 2 * v["5"]), "0.5·κ[3] - κ[5]"),
        (v["3"] - v["3"], "0·κ[3]"),
        (v["3"] + v["5"] + v["3"], "2·κ[3] + κ[5]"),
        (-1 / 3 * v["3"], "-0.333333·κ[3]"),
    ):
        assert edit.expression == text
    assert (
        repr(-1.5 * v["3"])
        == f"<Edit -1.5·κ[3] on '3': norm {1.5 * np.linalg.norm(v.kappa[0]):.4g}, no gate>"
    )


@pytest.mark.parametrize("factor", [2, 2.0, np.float64(2), np.float32(2), np.int64(2)])
def test_numbers_of_every_kind_scale_an_edit(factor):
    for scaled in (factor * V["red"], V["red"] * factor):
        assert type(scaled) is Edit
        np.testing.assert_array_equal(scaled.vector, 2 * V.kappa[0])
        assert type(scaled.coefficients["κ[red]"]) is float


@pytest.mark.parametrize("factor", ["2", np.array([1.0, 2.0]), np.ones(6), [2], None, 1j])
def test_what_is_no_number_does_not_scale_an_edit(factor):
    with pytest.raises(TypeError):
        factor * V["red"]
    with pytest.raises(TypeError):
        V["red"] * factor


def test_no_other_arithmetic_is_guessed():
    for operation in (
        lambda: V["red"] * V["blue"],
        lambda: V["red"] + 1,
        lambda: 1 - V["red"],
        lambda: V["red"] - np.ones(6),
    ):
        with pytest.raises(TypeError):
            operation()
    with pytest.raises(MismatchError, match="not finite in an edit: κ\\[red\\]"):
        float("nan") * V["red"]


def test_nothing_in_an_edit_can_be_changed():
    given_array = np.ones(6)
    edit = Edit.along("u", given_array, target="red", classes=CLASSES).gated(gate())
    given_array[0] = 9
    assert edit.vector[0] == 1
    for array in (edit.directions["u"], edit.gate.weight, edit.gate.bias):
        with pytest.raises(ValueError, match="read-only"):
            array[0] = 5
    with pytest.raises(TypeError):
        edit.coefficients["u"] = 2.0
    with pytest.raises(AttributeError):
        edit.target = "blue"


def test_copies_keep_everything():
    edit = (-1.5 * V["red"] + V["blue"]).gated(gate())
    assert copy.deepcopy([edit])[0] is edit
    again = pickle.loads(pickle.dumps(edit))
    np.testing.assert_array_equal(again.vector, edit.vector)
    np.testing.assert_array_equal(again.gate.weight, edit.gate.weight)
    assert (again.expression, again.target, again.gate.packed()[1]) == (
        edit.expression,
        edit.target,
        edit.gate.packed()[1],
    )


def test_edits_that_do_not_belong_together():
    gated = V["red"].gated(gate())
    for a, b in ((gated, V["blue"]), (V["blue"], gated)):
        with pytest.raises(EditError, match="compose edits first and gate the sum"):
            a + b
        with pytest.raises(EditError, match="compose edits first"):
            a - b
    with pytest.raises(MismatchError, match=r"two different directions are both called κ\[red\]"):
        V["red"] + vectors(seed=1)["red"]
    with pytest.raises(
        MismatchError, match=r"different models can't be added: 6 dimensions, .* and 4 dimensions"
    ):
        V["red"] + vectors(dim=4)["red"]
    with pytest.raises(MismatchError, match="the edit to add lacks blue"):
        V["red"] + vectors(classes=("red", "green"))["red"]
    with pytest.raises(MismatchError, match=r"can't be added: .* model one and .* model two"):
        vectors(ft="one")["red"] + vectors(ft="two")["blue"]


def test_a_sum_knows_only_the_origin_that_its_terms_share():
    a, b = vectors(pre="p", ft="m", data="d")["red"], vectors(pre="p", ft="m", data="other")["blue"]
    total = a + b
    assert (total.pre, total.ft, total.data) == ("p", "m", None)
    assert (V["red"] + b).ft == "m"
    assert V["red"].gated(gate()).gated(None).gate is None


def test_scaling_keeps_the_gate_and_sets_the_length():
    edit = V["red"].gated(gate())
    assert (-2 * edit).gate is edit.gate
    scaled = (-V["red"]).scaled_to(3.0)
    np.testing.assert_allclose(
        scaled.vector, -3 * V.kappa[0] / np.linalg.norm(V.kappa[0]), rtol=1e-12
    )
    with pytest.raises(EditError, match="strength 0"):
        (0 * V["red"]).scaled_to(1.0)


def test_a_gate_sets_the_target_and_must_fit():
    assert V["red"].gated(gate(target="blue")).target == "blue"
    for other in (gate(dim=5), gate(classes=("red", "blue", "green"))):
        with pytest.raises(MismatchError, match="the gate reads"):
            V["red"].gated(other)


def test_edits_without_effect_say_why():
    same = ClassVectors(V.z_ft, V.z_ft, V.count, CLASSES)
    with pytest.raises(
        EditError, match=r"κ\[red\] has norm 0 .*fine-tuning moved class 'red' nowhere"
    ):
        same["red"].require_effect()
    with pytest.raises(EditError, match=r"strength 0.*choose lambda other than 0"):
        (0 * V["red"]).require_effect()
    a = Edit.along("u", np.ones(6), target="red", classes=CLASSES)
    b = Edit.along("w", -np.ones(6), target="red", classes=CLASSES)
    with pytest.raises(EditError, match="its directions cancel"):
        (a + b).require_effect()
    assert a.require_effect() is a


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"directions": {}, "coefficients": {}}, "directions of one shape"),
        (
            {"directions": {"a": np.ones(3), "b": np.ones(2)}, "coefficients": {"a": 1, "b": 1}},
            "directions of one shape",
        ),
        ({"coefficients": {"b": 1}}, "a coefficient for each"),
        ({"directions": {"a": np.ones((2, 3))}}, "directions of one shape"),
        ({"directions": {"a": np.array([1, np.nan, 0])}}, "not finite in an edit: a"),
        ({"target": "pink"}, "no class 'pink'; there are red, green, blue"),
    ],
)
def test_malformed_edits(changes, message):
    of = {
        "directions": {"a": np.ones(3)},
        "coefficients": {"a": 1.0},
        "target": "red",
        "classes": CLASSES,
    }
    Edit(**of)
    with pytest.raises(MismatchError, match=message):
        Edit(**{**of, **changes})


GATES = {
    "none": None,
    "marginal": gate(guarantee="marginal", false_fire=0.01, n_negatives=500),
    "pac": gate(guarantee="pac", false_fire=0.05, n_negatives=60),
    "soft": gate().soft(0.125),
    "cosine": gate(score="cosine", weight=np.eye(6)[:1], bias=np.zeros(1), rivals=False),
    "linear": gate(
        score="discriminant", normalise=False, bias=np.arange(3.0), own=2, threshold=-np.inf
    ),
}


@pytest.mark.parametrize("kind", GATES)
def test_saved_and_loaded(tmp_path, kind):
    v = vectors(pre="before", ft="after", data="data")
    edit = -1.5 * v["red"] + 0.1 * v["blue"]
    edit = edit if GATES[kind] is None else edit.gated(GATES[kind])
    path = edit.save(tmp_path / "a.safetensors", why="a test", shares=[0.1, 2])
    loaded = Edit.load(path)
    np.testing.assert_array_equal(loaded.vector, edit.vector)
    assert dict(loaded.coefficients) == dict(edit.coefficients)
    assert list(loaded.directions) == list(edit.directions)
    for name in ("target", "classes", "ft", "pre", "data", "expression"):
        assert getattr(loaded, name) == getattr(edit, name)
    assert loaded.facts["why"] == "a test"
    if edit.gate is not None:
        z = np.random.default_rng(0).normal(size=(50, 6))
        np.testing.assert_array_equal(loaded.gate.weights(z), edit.gate.weights(z))
        assert loaded.gate.packed()[1] == edit.gate.packed()[1]
        assert str(loaded.gate) == str(edit.gate)
    else:
        assert loaded.gate is None
    bytes_first = path.read_bytes()
    assert (
        edit.save(tmp_path / "b.safetensors", why="a test", shares=[0.1, 2]).read_bytes()
        == bytes_first
    )
    assert loaded.save(tmp_path / "c.safetensors").read_bytes() == bytes_first


def test_damaged_cards_are_refused(tmp_path):
    edit = (-1.5 * V["red"]).gated(gate())
    path = edit.save(tmp_path / "card.safetensors")
    whole = path.read_bytes()
    for cut in (0, 7, 100, len(whole) // 2, len(whole) - 1):
        path.write_bytes(whole[:cut])
        with pytest.raises(FileFormatError, match=r"card\.safetensors"):
            Edit.load(path)
    flipped = bytearray(whole)
    flipped[-3] ^= 1
    path.write_bytes(flipped)
    with pytest.raises(FileFormatError, match="damaged"):
        Edit.load(path)
    assert b"[-1.5]" in whole
    path.write_bytes(whole.replace(b"[-1.5]", b"[-9.5]"))
    with pytest.raises(FileFormatError, match="damaged"):
        Edit.load(path)
    with pytest.raises(FileNotFoundError, match="absent"):
        Edit.load(tmp_path / "absent.safetensors")


def test_a_card_that_is_something_else(tmp_path):
    path = V.save(tmp_path / "vectors.safetensors")
    with pytest.raises(FileFormatError, match="holds 'class vectors', not 'edit card'"):
        Edit.load(path)
    with pytest.raises(FileFormatError, match="holds 'edit card', not 'class vectors'"):
        ClassVectors.load(V["red"].save(tmp_path / "card.safetensors"))


def test_a_card_tells_how_it_was_made(tmp_path):
    edit = (-1.5 * vectors(pre="before", ft="after", data="data")["red"]).gated(GATES["marginal"])
    _, card = read_tensors(edit.save(tmp_path / "card.safetensors", note="x"))
    assert (card["expression"], card["target"], card["facts"]) == (
        "-1.5·κ[red]",
        "red",
        {"note": "x"},
    )
    assert (card["pre"], card["ft"], card["data"]) == ("before", "after", "data")
    assert card["gate"]["guarantee"] == "marginal"


def test_a_card_without_its_checksum_is_refused(tmp_path):
    path = V["red"].save(tmp_path / "card.safetensors")
    arrays, card = read_tensors(path)
    checksum = card.pop("checksum")
    assert checksum == hash_json(card)
    write_tensors(path, arrays, card)
    with pytest.raises(FileFormatError, match="checksum"):
        Edit.load(path)


def test_a_card_for_another_model_is_refused_by_name(tmp_path):
    classifier = small_classifier(seed=0)
    edit = vectors(ft=classifier.fingerprint)["red"]
    path = edit.save(tmp_path / "card.safetensors")
    assert Edit.load(path, classifier).expression == "κ[red]"
    for other, message in (
        (small_classifier(seed=1), f"weights or preprocessing .*edit: {classifier.fingerprint}"),
        (
            small_classifier(classes=("green", "red", "blue")),
            "classes .*edit: red, green, blue; model: green, red, blue",
        ),
        (small_classifier(dim=5), "dimension .*edit: 6; model: 5"),
    ):
        with pytest.raises(
            MismatchError,
            match=r"the edit κ\[red\] was made for another model than 'Sequential'.*" + message,
        ):
            Edit.load(path, other)
    assert vectors()["red"].require(
        small_classifier(seed=1)
    )  # of unknown origin: only shapes and names can be compared
