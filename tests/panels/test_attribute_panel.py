"""The attribute panel without a browser: its numbers are those of `judge`, labels reach class known alone, and what can't be is refused."""

import numpy as np
import pandas as pd
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from small_world import World, control
from torch import nn

from classvec_lab import Classifier, Delta, Features
from classvec_lab.applications import attribute_vectors, judge
from classvec_lab.applications.removal import map_removal
from classvec_lab.applications.routing import route
from classvec_lab.errors import ClassvecError, MismatchError, PanelError
from classvec_lab.panels import AttributePanel
from classvec_lab.readout import predict

WORLD = World(spread=1.5)
PLAIN = WORLD.ft["test"]
SNOW = 2.5 * np.random.default_rng(3).normal(size=(len(WORLD.classes), 12))


def worn(features, y=None):
    """Representations of the same images in the snow, which moves each class its own way."""
    return Features(features.z + SNOW[features.y], features.y if y is None else y, features.classes)


def some(n=20):
    return Features(PLAIN.z[:n], PLAIN.y[:n], PLAIN.classes)


VECTORS = attribute_vectors(some(), {"snow": worn(some())}, plain=PLAIN)
MET = worn(WORLD.ft["val"])
CONDITIONS = {"snow": (MET, np.zeros(300, int)), "clean": WORLD.ft["val"]}


def panel(folder="", conditions=CONDITIONS, vectors=VECTORS, world=WORLD, **more):
    return AttributePanel(world.classifier, vectors, PLAIN, conditions, folder=folder, **more)


def row(p, condition, setting):
    return p.results.query("condition == @condition and setting == @setting").iloc[0]


def as_shown(p):
    """What the code that the panel shows makes."""
    names = {"ft": WORLD.classifier, "vectors": VECTORS, "plain": PLAIN, "conditions": CONDITIONS}
    exec(p.code, names)
    return names


def test_it_begins_with_the_router_at_the_shrinkage_that_samples_ask_for():
    p = panel()
    assert (p.condition, p.way, p.strength, p.amount) == ("snow", "router", -1.0, VECTORS.amount)
    before, known, deployed = (
        row(p, "snow", s).accuracy for s in ("reference", "class known", "deployed")
    )
    assert before < 0.8 < 0.9 < deployed <= known
    assert abs(row(p, "snow", "control").gain) < 0.5 * row(p, "snow", "deployed").gain
    assert row(p, "clean", "deployed").accuracy > 0.95
    assert repr(p).startswith("<AttributePanel of 5 classes")


def test_the_deployed_code_reads_no_label_and_class_known_does():
    shuffled = np.random.default_rng(0).permutation(MET.y)
    given = {"snow": (Features(MET.z, shuffled, MET.classes), np.zeros(300, int))}
    p, other = panel(), panel(conditions=given)
    for way in ("router", "mean shift behind router", "linear map"):
        p.way = other.way = way
        assert (p.readouts[0].after == other.readouts[0].after).all()
        assert (p.readouts[1].after != other.readouts[1].after).any()
        assert f"the {way}, reads representations" in p.table.value


@pytest.mark.parametrize("way", ["router", "mean shift behind router", "linear map"])
@pytest.mark.parametrize("strength", [-1.0, 0.0, 0.6])
def test_the_code_reproduces_table_and_predictions(way, strength):
    p = panel()
    p.way, p.strength, p.amount, p.false_fire = way, strength, 0.3, 0.05
    names = as_shown(p)
    pd.testing.assert_frame_equal(names["table"], p.results)
    assert (predict(names["edited"], PLAIN)).shape == (300,)
    if way != "linear map":  # that one is in the encoder, which this world's refuses to be
        assert (predict(names["edited"], MET) == p.readouts[0].after).all()


def test_every_control_changes_what_is_shown():
    p = panel()
    seen = {p.table.value}
    for name, value in (
        ("strength λ", -0.4), ("shrinkage", 0.9), ("false fire", 0.2), ("deployed by", "linear map"),
    ):  # fmt: skip
        control(p, name).value = value
        assert p.table.value not in seen
        seen.add(p.table.value)
    assert (p.strength, p.amount, p.false_fire, p.way) == (-0.4, 0.9, 0.2, "linear map")
    bars, picture = p.bars.after, p.images.children
    control(p, "condition").value = "clean"
    assert p.condition == "clean"
    assert p.bars.after != bars
    assert p.images.children != picture
    assert p.charts.charts[0]["title"] == "clean: accuracy, n = 300"
    assert not p.frame.problem


def test_shrinkage_does_nothing_to_the_mean_shift_and_much_to_class_known():
    p = panel()
    p.way = "mean shift behind router"
    first = row(p, "snow", "deployed").accuracy, row(p, "snow", "class known").accuracy
    p.amount = 0.9
    assert row(p, "snow", "deployed").accuracy == first[0]
    assert row(p, "snow", "class known").accuracy < first[1]


def test_curves_pass_through_the_table_and_a_click_sets_the_strength():
    p = panel()
    at = p.curves[np.isclose(p.curves["lambda_"], -1.0)].reset_index(drop=True)
    assert at["accuracy"].tolist() == p.results["accuracy"].tolist()
    for line in p.charts.charts[0]["series"]:
        own = p.curves.query("condition == 'snow' and method == @line['name']")
        assert line["y"] == own["accuracy"].tolist()
    none = p.curves[p.curves["lambda_"] == 0].groupby("condition")["accuracy"].nunique()
    assert none.tolist() == [1, 1]
    p.charts.picked = [0, -0.504]
    assert p.strength == -0.5
    assert p.charts.markers == [-0.5]


def test_the_images_are_those_that_change():
    p = panel(datasets={"snow": WORLD.images()})
    y = MET.y
    before = predict(WORLD.classifier, MET)
    after = route(VECTORS.pooled(), PLAIN).on(WORLD.classifier)
    rows = np.flatnonzero(before != predict(after, MET))
    deployed, known, between = p.galleries["snow"].groups
    assert deployed["title"].startswith(f"{len(rows)} images that the router changes")
    assert [item["key"] for item in deployed["items"]] == rows[:24].tolist()
    assert {item["tone"] for item in deployed["items"]} <= {"good", "bad", ""}
    repaired = (p.readouts[1].after == y) & (before != y)
    assert known["items"][0]["tone"] == "good" or not repaired.any()
    differ = np.flatnonzero(p.readouts[2].before != p.readouts[2].after)
    assert [item["key"] for item in between["items"]] == differ[:24].tolist()
    assert p.galleries["snow"].has_images
    assert not p.galleries["clean"].has_images


@pytest.mark.parametrize(
    ("name", "value", "says"),
    [
        ("condition", "rain", "no condition 'rain'; there are snow, clean"),
        ("way", "magic", "no way 'magic'; there are router, mean shift behind router, linear map"),
        ("strength", -2.1, r"strength must lie in \[-2, 1\]; got -2.1"),
        ("strength", float("nan"), r"strength must lie in \[-2, 1\]; got nan"),
        ("amount", 1.1, r"amount must lie in \[0, 1\]; got 1.1"),
        ("false_fire", 0.0, r"false_fire must lie in \[0.01, 0.5\]; got 0.0"),
    ],
)
def test_what_cannot_be_is_refused_and_changes_nothing(name, value, says):
    p = panel()
    before, table = getattr(p, name), p.table.value
    with pytest.raises(PanelError, match=says):
        setattr(p, name, value)
    assert getattr(p, name) == before
    assert p.table.value == table


class Cubed(nn.Module):
    """A head that ranks classes as another does, and isn't linear."""

    def __init__(self, head):
        super().__init__()
        self.head, self.in_features, self.out_features = head, 12, 5

    def forward(self, z):
        return (self.head(z) / 10) ** 3


def test_a_model_without_a_linear_map_keeps_to_the_router():
    own = WORLD.classifier
    made = {"classes": own.classes, "preprocess": own.preprocess}
    model = Classifier(own.encoder, Cubed(own.head), **made)
    p = AttributePanel(model, VECTORS, PLAIN, CONDITIONS)
    control(p, "deployed by").value = "linear map"
    assert p.frame.problem
    assert (p.way, control(p, "deployed by").value) == ("router", "router")
    assert row(p, "snow", "deployed").gain > 0.1


@pytest.mark.parametrize(
    ("given", "says"),
    [
        ({"conditions": {}}, "no condition ''"),
        ({"conditions": {"snow": (MET, np.ones(300, int))}}, r"index of a value in \('snow',\)"),
        ({"conditions": {"snow": (MET, np.zeros(3, int))}}, "each of its 300 samples"),
        ({"conditions": {"x": Features(MET.z[:, :3], MET.y, MET.classes)}}, "representations"),
        ({"world": World(n_classes=4)}, "classes"),
        ({"datasets": {"rain": WORLD.images()}}, "no condition 'rain'"),
        ({"datasets": {"snow": World(n=200).images()}}, "has 200 samples and the features 300"),
    ],
    ids=lambda given: given if isinstance(given, str) else "",
)
def test_what_does_not_belong_is_refused(given, says):
    with pytest.raises((MismatchError, PanelError), match=says):
        panel(**given)


def test_words_that_name_classes_are_counted_as_attacks():
    names, y = WORLD.classes, WORLD.ft["val"].y
    push = 0.9 * WORLD.vectors.z_ft

    def written(features, w):
        return Features(features.z + push[w], features.y, names)

    few = some()
    having = {name: written(few, np.full(20, k)) for k, name in enumerate(names)}
    w = (y + 1) % 5
    met = {"conflict": (written(WORLD.ft["val"], w), w), "clean": WORLD.ft["val"]}
    p = panel(conditions=met, vectors=attribute_vectors(few, having, plain=PLAIN))
    attack = p.results.set_index(["condition", "setting"])["attack"]
    assert attack["conflict", "reference"] > attack["conflict", "deployed"]
    assert f" ({attack['conflict', 'reference']:.1%})" in p.table.value
    assert "written word" in p.table.value
    assert "word" not in panel().table.value
    assert "words=True" in p.code


def test_keep_writes_the_linear_map_and_nothing_for_a_router(tmp_path):
    p = panel(tmp_path)
    control(p, "Keep").click()
    assert p.frame.problem
    assert "kept is a linear map" in p.frame.message
    assert not list(tmp_path.iterdir())
    p.way, p.strength = "linear map", -0.8
    path, again = p.keep(), p.keep()
    assert path != again
    made = map_removal(WORLD.classifier, VECTORS.pooled(), strength=-0.8)
    assert Delta.load(path).fingerprint == made.delta.fingerprint
    edited = Delta.load(path).require(WORLD.classifier).apply_to(WORLD.classifier)
    assert (predict(edited, MET) == p.readouts[0].after).mean() > 0.99


@pytest.mark.usefixtures("look")
def test_the_figure_has_every_condition(tmp_path):
    p = panel(tmp_path)
    assert [path.suffix for path in p.figure()] == [".png", ".pdf"]
    assert all(path.stat().st_size > 1000 for path in tmp_path.iterdir())
    fig = p.draw()
    assert [ax.get_title(loc="left") for ax in fig.axes[:2]] == ["snow", "clean"]
    assert "val, n = 300: router" in fig.get_suptitle()


STATES = {
    "condition": st.sampled_from(["snow", "clean", "rain"]),
    "way": st.sampled_from(["router", "mean shift behind router", "linear map", "odd"]),
    "strength": st.floats(-3, 2),
    "amount": st.floats(-0.5, 1.5),
    "false_fire": st.sampled_from([0.0, 0.01, 0.2, 0.7]),
}
LIVE = panel()


@settings(max_examples=15)
@given(st.data())
def test_whatever_a_user_does_the_panel_shows_what_it_holds(data):
    name = data.draw(st.sampled_from(sorted(STATES)))
    value, before = data.draw(STATES[name]), getattr(LIVE, name)
    try:
        setattr(LIVE, name, value)
    except ClassvecError:
        assert getattr(LIVE, name) == before
    expected = judge(
        WORLD.classifier,
        LIVE._ways(LIVE.strength, LIVE.way, LIVE.amount, LIVE.false_fire),
        CONDITIONS,
    )
    pd.testing.assert_frame_equal(expected, LIVE.results)
    own = LIVE.results.query("condition == @LIVE.condition").set_index("setting")["accuracy"]
    deployed, known, _ = LIVE.readouts
    assert own["deployed"] == (deployed.after == deployed.y).mean()
    assert own["class known"] == (known.after == known.y).mean()
    assert own["reference"] == (known.before == known.y).mean()
    assert control(LIVE, "strength λ").value == LIVE.strength
    compile(LIVE.code, "code", "exec")
