"""The edit panel without a browser: every control, what can't be, what is kept, and any sequence of actions."""

import numpy as np
import pytest
from hypothesis import settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, initialize, invariant, precondition, rule
from small_world import World, control

from classvec_lab import ClassvecError, Edit, Features, calibrate_gate, inject
from classvec_lab.errors import MismatchError, PanelError
from classvec_lab.gates import DEPLOYED
from classvec_lab.panels import EditPanel, EditTerm
from classvec_lab.readout import predict

WORLD = World()


def panel(tmp_path="", world=WORLD, edits=(), **more):
    options = {
        "held_out": world.ft["test"],
        "dataset": world.images("val"),
        "folder": tmp_path,
        **more,
    }
    made = EditPanel(world.classifier, world.vectors, world.ft["val"], **options)
    made.edits = tuple(edits) or made.edits
    return made


def answers(world, edits, split="val"):
    """Predictions of the injected head, in float32 as it is deployed."""
    edits = [edit for edit in ([edits] if isinstance(edits, Edit) else edits) if edit.norm > 0]
    edited = inject(world.classifier, edits) if edits else world.classifier
    return predict(edited, world.ft[split])


def agrees(p, edits, world=WORLD):
    """Whether the panel shows what the injected head answers."""
    edits = [edits] if isinstance(edits, Edit) else list(edits)
    return (p.readout.after == answers(world, edits)).all()


def test_it_begins_with_the_first_class_forgotten():
    p = panel()
    assert p.edits == (EditTerm("forget", "c0"),)
    assert agrees(p, p.edit(p.term))
    assert "0.0%" in p.table.value
    assert p.gallery.groups[0]["items"][0]["caption"].startswith("c0 → ")
    assert repr(p).startswith("<EditPanel of 5 classes; live in JupyterLab")


def test_what_the_gate_decides_beforehand_is_said():
    """Behind the model's own decision others can't lose, so ACC_r is no success there."""
    p = panel()
    assert p.term.gate == DEPLOYED
    assert "no other class can lose, by construction" in p.table.value
    p.change(gate="margin")
    assert "by construction" not in p.table.value
    p.change(gate=DEPLOYED, on=False)
    assert "by construction" not in p.table.value


def test_the_gate_is_the_models_own_decision_and_needs_no_images():
    assert EditTerm("forget", "c0").gate == panel().term.gate == "predicted"
    small = World(n=40)
    p = panel(world=small)
    assert p.term.gate == "predicted"
    assert agrees(p, (-1.5 * small.vectors["c0"]).gated(p.gate(p.term)), small)
    with pytest.raises(
        PanelError, match=r"needs at least 99 held-out samples.*or choose the gate 'predicted'"
    ):
        p.change(gate="margin")
    assert p.term.gate == "predicted"


def test_a_new_term_whose_class_has_too_few_others_takes_the_models_own_decision():
    """It is like the active one, but where that one's gate can't be calibrated."""
    world = World(n=130)
    kept = (world.ft["val"].y != 1) | (np.arange(130) < 20)
    world.ft["val"] = Features(world.ft["val"].z[kept], world.ft["val"].y[kept], world.classes)
    p = panel(world=world, edits=[EditTerm("forget", "c1", 0.75, gate="margin")], dataset=None)
    assert p.gate(p.term).n_negatives == 104
    p.add()  # of c0 there are as many as of the others, which leaves 82
    assert (p.term.class_name, p.term.gate, p.term.strength) == ("c0", "predicted", 0.75)
    p.active = 0
    p.change(gate="cosine")
    with pytest.raises(PanelError, match="needs at least 99"):
        p.change(class_name="c2")


def test_each_control_changes_the_term_and_the_figures():
    p = panel()
    v = p.fields
    v["strength"].value = 0.6
    assert p.term.strength == 0.6
    v["class_name"].value = "c2"
    assert p.term.class_name == "c2"
    v["action"].value = "strengthen"
    assert agrees(p, (0.6 * WORLD.vectors["c2"]).gated(p.gate(p.term)))
    v["action"].value = "switch"
    assert p.term.to == "c0"
    assert v["to"].layout.display == "flex"
    v["to"].value = "c4"
    edit = 0.6 * (WORLD.vectors["c4"] - WORLD.vectors["c2"])
    assert np.allclose(p.edit(p.term).vector, edit.vector)
    v["gate"].value = "none"
    assert v["gamma"].disabled
    assert p.gate_curve() is None
    assert agrees(p, edit)
    v["gate"].value = "cosine"
    v["gamma"].value = 0.9
    assert p.term.gamma == pytest.approx(0.9)
    assert agrees(p, edit.gated(p.gate(p.term)))
    control(p, "Calibrated γ").click()
    assert p.term.gamma is None
    v["on"].value = False
    assert not len(p.readout.changed)
    assert p.code == "# no edit is on"
    control(p, "Add").click()
    assert p.active == 1
    assert p.term.class_name == "c0"
    p.list.value = 0
    assert p.active == 0
    assert v["class_name"].value == "c2"
    control(p, "Remove").click()
    assert [e.class_name for e in p.edits] == ["c0"]
    control(p, "false fire").value = 0.05
    assert p.gate(p.term).false_fire == 0.05
    assert not p.frame.problem


def test_a_click_on_a_curve_sets_gamma_or_the_strength():
    p = panel()
    p.charts.picked = [0, 0.25]
    assert p.term.gamma == pytest.approx(0.25)
    p.charts.picked = [1, 2.004]
    assert p.term.strength == 2.0
    p.charts.picked = [0, 99.0]
    assert p.term.gamma == pytest.approx(p.span(p.calibrated(p.term))[1])


@pytest.mark.parametrize(
    ("fields", "says"),
    [
        (
            {"gamma": 7.0},
            r"γ, beyond which a gate fires always or never, must lie in \[-?\d.*; got 7",
        ),
        ({"gamma": -7.0}, "got -7"),
        ({"gate": "none", "gamma": 0.1}, "no meaning without a gate"),
        ({"class_name": "zebra"}, "no class 'zebra'; there are c0, c1"),
        ({"action": "erase"}, "no action 'erase'; there are forget, strengthen, switch"),
        ({"gate": "discriminant"}, "no gate 'discriminant'; there are none, margin"),
        ({"strength": -0.1}, r"strength must lie in \[0, 5\]; got -0.1"),
        ({"strength": float("nan")}, r"strength must lie in \[0, 5\]; got nan"),
        ({"action": "switch", "to": "c0"}, "from one class to another"),
        ({"action": "switch", "to": "nowhere"}, "no class 'nowhere'"),
    ],
)
def test_what_cannot_be_is_refused_and_changes_nothing(fields, says):
    p = panel(edits=[EditTerm("forget", "c0", gate="margin")])
    before, table = p.edits, p.readout.table()
    with pytest.raises(PanelError, match=says):
        p.change(**fields)
    assert p.edits == before
    assert p.readout.table().equals(table)


def test_a_threshold_beyond_all_scores_of_the_models_own_decision_is_refused():
    p = panel()
    low, high = p.span(p.calibrated(p.term))
    for beyond in (low - 1, high + 1):
        with pytest.raises(PanelError, match="beyond which a gate fires always or never"):
            p.change(gamma=beyond)
    assert p.term.gamma is None


def test_impossible_values_of_traits():
    p = panel(edits=[EditTerm("forget", "c0", gate="margin")])
    for name, value, says in (
        ("active", 1, r"the active edit must lie in \[0, 0\]; got 1"), ("active", -1, "got -1"),
        ("false_fire", 0.0, r"must lie in \(0, 1\)"), ("false_fire", 1e-5, "needs at least"),
        ("edits", (1,), "EditTerms such as"),
    ):  # fmt: skip
        with pytest.raises(PanelError, match=says):
            setattr(p, name, value)
    assert p.false_fire == 0.01
    assert p.edits == (EditTerm("forget", "c0", gate="margin"),)


def test_nothing_selected():
    p = panel()
    p.remove()
    assert p.edits == ()
    assert p.term is None
    assert p.fields["strength"].disabled
    for action, says in (
        (lambda: p.change(strength=1.0), "add one first"),
        (p.keep, "nothing to keep"),
        (p.remove, "no edit to remove"),
    ):
        with pytest.raises(PanelError, match=says):
            action()
    control(p, "Keep").click()
    assert p.frame.problem
    assert "nothing to keep" in p.frame.message
    control(p, "Add").click()
    assert p.term == EditTerm("forget", "c0")
    assert not p.frame.problem


def test_a_removed_class_takes_its_edit_along():
    """The active edit moves to one that is still there."""
    p = panel(edits=[EditTerm("forget", "c0"), EditTerm("forget", "c1"), EditTerm("forget", "c2")])
    p.active = 2
    p.remove()
    assert p.active == 1
    assert p.term.class_name == "c1"
    p.active = 0
    p.remove()
    assert p.active == 0
    assert p.term.class_name == "c1"


def test_keep_writes_cards_that_load_and_do_the_same(tmp_path):
    p = panel(tmp_path)
    (path,) = p.keep()
    edit = Edit.load(path, WORLD.classifier)
    assert agrees(p, edit)
    assert edit.facts["chosen_on"] == "val"
    assert edit.facts["measured"]["test"][0]["class"] == "c0"
    after = answers(WORLD, edit, "test")
    own = WORLD.ft["test"].y == 0
    assert edit.facts["measured"]["test"][0]["after"] == pytest.approx((after[own] == 0).mean())
    assert f"{(after[own] == 0).mean():.1%}" in p.kept[0]["ACC_f, test"]
    p.edits += (EditTerm("switch", "c1", to="c2", gate="cosine"),)
    paths = p.keep()
    assert len({path, *paths}) == 3
    both = [Edit.load(x, WORLD.classifier) for x in paths]
    assert agrees(p, both)
    assert both[0].facts["together_with"] == [e.expression for e in both]
    assert len(p.kept) == 2
    assert "Kept" in p.kept_table.value
    assert {f.name for f in tmp_path.iterdir()} == {x.name for x in (path, *paths)}
    (again,) = panel(tmp_path).keep()
    assert again != path


def test_the_code_reproduces_the_edits():
    p = panel(edits=[EditTerm("forget", "c0", 1.25, gamma=0.125), EditTerm("switch", "c1", 0.9, to="c3", gate="cosine"),
                     EditTerm("strengthen", "c2", 0.3, gate="none"), EditTerm("forget", "c4", gate="predicted"),
                     EditTerm("forget", "c3", on=False)])  # fmt: skip
    names = {"vectors": WORLD.vectors, "val_features": WORLD.ft["val"], "ft": WORLD.classifier}
    exec(p.code.replace("edited = inject(ft, edits)", ""), names)
    mine = [p.edit(term) for term in p.working()]
    assert len(names["edits"]) == 4
    for a, b in zip(names["edits"], mine, strict=True):
        assert np.array_equal(a.vector, b.vector)
        assert a.target == b.target
        assert str(a.gate) == str(b.gate)
    assert agrees(p, names["edits"])
    assert {"calibrate_gate", "inject"} <= names.keys()
    assert names["inject"] is inject
    assert names["calibrate_gate"] is calibrate_gate


@pytest.mark.usefixtures("look")
def test_figures_are_saved_and_never_written_over(tmp_path):
    p = panel(tmp_path)
    first, second = p.figure(), p.figure()
    assert [x.suffix for x in first] == [".png", ".pdf"]
    assert len({*first, *second}) == 4
    assert all(x.stat().st_size > 1000 for x in (*first, *second))
    p.remove()
    assert p.figure()[0].exists()


def test_the_discriminant_gate_needs_moments():
    moments = WORLD.ft["test"].moments(pooled_scatter=True)
    p = panel(moments=moments)
    p.change(gate="discriminant")
    assert "moments=train_moments" in p.code


def test_images_that_do_not_belong_are_refused():
    with pytest.raises(MismatchError, match="the data set has 200 samples and the features 300"):
        panel(dataset=World(n=200).images())
    other = World(n_classes=4)
    with pytest.raises(MismatchError, match="classes"):
        EditPanel(WORLD.classifier, other.vectors, WORLD.ft["val"])


def test_thumbnails_are_sent_when_asked_for():
    p = panel()
    sent = []
    p.gallery.send = lambda message, buffers: sent.append((message, buffers))
    p.gallery._asked(None, {"type": "images", "keys": [3, 299]}, None)
    ((message, buffers),) = sent
    assert message["keys"] == [3, 299]
    assert all(b.startswith(b"\x89PNG") for b in buffers)


def test_an_image_that_cannot_be_read_any_more_is_an_empty_answer():
    images = WORLD.images("val")

    def gone(i):
        raise OSError("no such file")

    images.load = gone
    p, sent = panel(dataset=images), []
    p.gallery.send = lambda message, buffers: sent.append((message["keys"], buffers))
    p.gallery._asked(None, {"type": "images", "keys": [3]}, None)
    assert sent == [([3], [b""])]


def test_many_classes_are_typed_and_the_bars_show_those_that_changed():
    world = World(n_classes=240, dim=24, n=960, spread=0.4)
    p = panel(world=world)
    assert len(p.bars.names) == 60
    assert "c0" in p.bars.names
    p.fields["class_name"].value = "c239"
    assert p.term.class_name == "c239"
    p.fields["class_name"].value = "c240"
    assert p.frame.problem
    assert p.fields["class_name"].value == "c239"
    assert "c239" in p.bars.names


def test_more_logits_than_memory_holds_are_refused(monkeypatch):
    from classvec_lab.panels import edit

    monkeypatch.setattr(edit, "MOST_LOGITS", 1000)
    with pytest.raises(PanelError, match="here 300 × 5: give it fewer images, at most 200"):
        panel()


class Actions(RuleBasedStateMachine):
    """Whatever a user does, in any order: the panel shows what its terms say, and refuses what can't be without a trace."""

    @initialize()
    def begin(self):
        self.panel = panel()

    def attempt(self, action):
        before = self.panel.edits, self.panel.active, self.panel.false_fire
        try:
            action()
        except ClassvecError:
            assert (self.panel.edits, self.panel.active, self.panel.false_fire) == before

    @rule(strength=st.floats(-1, 7))
    def slide(self, strength):
        self.attempt(lambda: self.panel.change(strength=strength))

    @rule(gamma=st.none() | st.floats(-3, 3))
    def move_gamma(self, gamma):
        self.attempt(lambda: self.panel.change(gamma=gamma))

    @rule(
        action=st.sampled_from(["forget", "strengthen", "switch", "paint"]),
        to=st.sampled_from(["", *WORLD.classes, "zebra"]),
    )
    def act(self, action, to):
        self.attempt(lambda: self.panel.change(action=action, **({"to": to} if to else {})))

    @rule(
        name=st.sampled_from([*WORLD.classes, "zebra"]),
        gate=st.sampled_from(["none", "margin", "cosine", "predicted", "odd"]),
    )
    def choose(self, name, gate):
        self.attempt(lambda: self.panel.change(class_name=name, gate=gate))

    @rule(on=st.booleans())
    def switch_on(self, on):
        self.attempt(lambda: self.panel.change(on=on))

    @rule()
    def add(self):
        self.attempt(self.panel.add)

    @rule()
    def remove(self):
        self.attempt(self.panel.remove)

    @rule(which=st.integers(-1, 3))
    def activate(self, which):
        self.attempt(lambda: setattr(self.panel, "active", which))

    @rule(rate=st.sampled_from([0.0, 0.001, 0.01, 0.2, 1.0]))
    def recalibrate(self, rate):
        self.attempt(lambda: setattr(self.panel, "false_fire", rate))

    @precondition(lambda self: self.panel.edits)
    @rule(value=st.floats(0, 5))
    def drag_the_slider(self, value):
        self.panel.fields["strength"].value = value
        assert self.panel.term.strength == pytest.approx(value)

    @invariant()
    def shows_what_it_holds(self):
        p = self.panel
        assert 0 <= p.active < max(len(p.edits), 1)
        edits = [p.edit(term) for term in p.working()]
        assert agrees(p, edits) if edits else not len(p.readout.changed)
        assert p.readout.targets == tuple(term.class_name for term in p.working())
        per_class = p.readout.per_class()
        assert np.frombuffer(p.bars.after, "<f4") == pytest.approx(
            per_class["after"].to_numpy(), abs=1e-6
        )
        assert len(p.charts.charts) == len(p.charts.markers)
        if p.term is not None:
            assert p.fields["strength"].value == pytest.approx(p.term.strength)
            assert p.fields["class_name"].value == p.term.class_name
            if p.term.gate != "none":
                assert p.fields["gamma"].value == pytest.approx(p.gate(p.term).threshold, abs=0.01)
                assert p.charts.markers[0] == p.gate(p.term).threshold
        assert p.kept == ()
        compile(p.code, "code", "exec")


TestActions = Actions.TestCase
TestActions.settings = settings(max_examples=15, stateful_step_count=25)
