"""The linearity panel without a browser.

What is shown is what the diagnostics say, at any alpha and for any pair.
"""

import matplotlib.pyplot as plt
import numpy as np
import pytest
from hypothesis import settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, initialize, invariant, rule
from small_world import PREPROCESS, World, control
from torch import nn

from classvec_lab import (
    Classifier,
    ClassvecError,
    ClassVectors,
    Features,
    class_interpolation,
    latent_paths,
)
from classvec_lab.diagnostics.linearity import (
    ClassInterpolations,
    LatentPaths,
    class_interpolations,
)
from classvec_lab.errors import MismatchError, PanelError
from classvec_lab.panels import LinearityPanel
from classvec_lab.panels.linearity import MOST_KEPT, VIEWS
from classvec_lab.panels.payload import MOST_IMAGES
from classvec_lab.panels.ways import MOST_ROWS
from classvec_lab.readout import Latent

WORLD = World(n_classes=6, n=150, spread=2.5)
GIVEN = WORLD.classifier, WORLD.ft["test"], WORLD.vectors
PATHS = latent_paths(WORLD.pre["test"], WORLD.vectors, WORLD.classifier, alphas=(0, 0.25, 0.5, 1))
PAIRS = class_interpolations(*GIVEN, n_boot=20)
STATE = ("alpha", "pair", "view", "curves")


def panel(**more):
    return LinearityPanel(
        *GIVEN, **{"paths": PATHS, "pairs": PAIRS, "dataset": WORLD.images("test"), **more}
    )


def without(*absent):
    """Test features without the samples of some classes."""
    features = WORLD.ft["test"]
    rows = ~np.isin(features.y, [WORLD.classes.index(c) for c in absent])
    return Features(features.z[rows], features.y[rows], WORLD.classes)


def predicted(source, target, alpha):
    features, vectors = WORLD.ft["test"], WORLD.vectors
    s, k = (WORLD.classes.index(c) for c in (source, target))
    rows = np.flatnonzero(features.y == s)
    return rows, Latent(WORLD.classifier, features.z[rows]).predict(
        vectors.kappa[k] - vectors.kappa[s], [alpha]
    )[0]


def state(p):
    return {name: getattr(p, name) for name in STATE}


def test_it_begins_with_the_pair_that_passes_a_third_class_most_often():
    p = panel()
    detour = PAIRS.matrix("detour")
    assert detour.loc[p.pair] == detour.max().max()
    assert p.map.selected == [WORLD.classes.index(name) for name in p.pair]
    assert p.curves == ("true class", "nearest class", "wrong class", "random direction")
    assert "LinearityPanel of 6 classes" in repr(p)
    alone = LinearityPanel(*GIVEN, PATHS)
    assert alone.pair == ("c0", "c1")
    alone.alpha = 0.2
    assert alone.charts.markers == [0.2, 0.2]


@pytest.mark.parametrize("alpha", [0, 0.31, 0.5, 1])
def test_what_is_shown_at_an_alpha_is_what_the_head_says(alpha):
    p = panel()
    p.alpha = alpha
    rows, classes = predicted(*p.pair, alpha)
    table = p.path.distribution(p.alpha)
    for row in table.itertuples():
        assert row.hits == (classes == WORLD.classes.index(row[1])).sum()
        assert (
            f"<th scope='row'>{row[1]}</th><td>{row.hits}</td><td>{row.share:.1%} ["
            in p.shift_table.value
        )
    assert table["hits"].sum() == len(rows)
    third = ~np.isin(classes, [WORLD.classes.index(name) for name in p.pair])
    (group,) = p.gallery.groups
    assert [item["key"] for item in group["items"]] == rows[third].tolist()[:MOST_IMAGES]
    assert [item["caption"] for item in group["items"]] == [
        WORLD.classes[i] for i in classes[third]
    ][:MOST_IMAGES]
    assert f"{third.sum()} of {len(rows)}" in group["title"]
    assert p.charts.markers == [alpha, alpha]


def test_curves_of_the_pair_are_the_report():
    p = panel()
    p.pair = "c2", "c4"
    report = class_interpolation(*GIVEN, "c2", "c4")
    _, made = p.charts.charts
    for line, name in zip(made["series"], ("source", "target", "other"), strict=True):
        for key, column in (
            ("x", "alpha"),
            ("y", f"{name}_share"),
            ("low", f"{name}_low"),
            ("high", f"{name}_high"),
        ):
            assert line[key] == pytest.approx(report.table[column])
    assert [m["x"] for m in made["marks"]] == pytest.approx(report.crossing["alpha"].dropna())
    spans = {(s["from"], s["to"]) for s in made["spans"]}
    assert spans == set(zip(p.detours["first"], p.detours["last"], strict=True))
    assert all(words.replace("'", "&#x27;") in p.shift_table.value for words in report.says())


def test_curves_of_the_paths_and_the_measured_alpha_that_is_nearest():
    p = panel()
    p.alpha = 0.3
    rows = PATHS.at(0.25)
    assert len(rows) == 4
    assert "the measured α nearest to 0.3" in p.way_table.value
    for row in rows.itertuples():
        assert (
            f"<td>{row.accuracy:.1%} [{row.low:.1%}, {row.high:.1%}]</td><td>{row.n}</td>"
            in p.way_table.value
        )
    p.alpha = 0.25
    assert "nearest to" not in p.way_table.value
    p.curves = ("wrong class", "true class")
    assert p.curves == ("true class", "wrong class")
    made, _ = p.charts.charts
    known = PATHS.table[PATHS.table["path"] == "wrong class"]
    assert made["series"][1]["y"] == pytest.approx(known["accuracy"])
    assert made["series"][1]["colour"] == "contrast"
    assert len(made["series"]) == 2


def test_the_map_follows_the_view_and_a_click_picks_the_pair():
    p = panel()
    for view in VIEWS:
        p.view = view
        shown = np.frombuffer(p.map.values, "<f4").reshape(6, 6)
        assert shown == pytest.approx(PAIRS.matrix(view).to_numpy(), abs=1e-6, nan_ok=True)
        low = np.frombuffer(p.map.low, "<f4").reshape(6, 6)
        one = PAIRS.table.set_index(["source", "target"]).loc[("c1", "c3"), f"{view}_low"]
        assert low[1, 3] == pytest.approx(one, nan_ok=True)
    assert not p.map.centred
    p.map.selected = [1, 3]
    assert p.pair == ("c1", "c3")
    assert p.path.source == "c1"
    p.map.selected = [2, 2]
    assert p.frame.problem
    assert "two different classes" in p.frame.message
    assert (p.pair, p.map.selected) == (("c1", "c3"), [1, 3])
    p.map.selected = [4, 3]
    assert (p.frame.problem, p.pair) == (False, ("c4", "c3"))


def test_controls_set_the_state_and_show_it():
    p = panel()
    p.pair = "c0", "c1"
    control(p, "α").value = 0.8
    control(p, "source").value = "c3"
    control(p, "target").value = "c0"
    control(p, "map").value = "success"
    assert (p.alpha, p.pair, p.view) == (0.8, ("c3", "c0"), "success")
    control(p, "Swap").click()
    assert p.pair == ("c0", "c3")
    assert (control(p, "source").value, control(p, "target").value) == ("c0", "c3")
    control(p, "target").value = "c0"  # refused, said, put back
    assert control(p, "target").value == p.pair[1] == "c3"
    assert p.frame.problem
    p.charts.picked = [1, 0.4321]
    assert p.alpha == control(p, "α").value == 0.43
    p.charts.picked = [0, 1.7]  # refused
    assert p.alpha == 0.43
    assert p.frame.problem


@pytest.mark.parametrize(
    ("name", "value", "words"),
    [
        ("alpha", 1.01, r"alpha must lie in \[0, 1\]; got 1.01"),
        ("alpha", -0.1, "got -0.1"),
        ("alpha", float("nan"), "got nan"),
        ("pair", ("c9", "c1"), "no class 'c9'; there are c0, c1"),
        ("pair", ("c0", "c9"), "no class 'c9'"),
        ("pair", ("c1", "c1"), r"two different classes, \(source, target\); got \('c1', 'c1'\)"),
        ("pair", ("c0", "c0", "c1"), "two different classes"),
        ("pair", (), r"got \(\)"),
        ("view", "speed", "there are crossing, detour, success"),
        ("curves", (), "draw at least one of true class"),
        ("curves", ("true class", "weights"), "no curve 'weights'"),
    ],
)
def test_what_cannot_be_is_refused_and_changes_nothing(name, value, words):
    p = panel()
    p.pair = "c0", "c1"
    before, code = state(p), p.code
    with pytest.raises(PanelError, match=words):
        setattr(p, name, value)
    assert (state(p), p.code) == (before, code)


def test_classes_without_samples_are_targets_only():
    given = WORLD.classifier, without("c0", "c3"), WORLD.vectors
    p = LinearityPanel(*given, PATHS, pairs=PAIRS)
    assert p.pair[0] not in ("c0", "c3")
    with pytest.raises(PanelError, match="class 'c3' has no sample to move"):
        p.pair = "c3", "c2"
    p.pair = "c1", "c3"
    with pytest.raises(PanelError, match="no sample to move"):
        p.swap()
    control(p, "Swap").click()
    assert p.frame.problem
    assert p.pair == ("c1", "c3")
    assert control(p, "source").options == ("c1", "c2", "c4", "c5")


def test_things_that_do_not_belong_together_are_refused():
    other = World(n_classes=4)
    with pytest.raises(MismatchError):
        LinearityPanel(WORLD.classifier, other.ft["test"], WORLD.vectors, PATHS)
    with pytest.raises(MismatchError, match="the map of pairs has 6 classes"):
        panel(pairs=ClassInterpolations(PAIRS.table, PAIRS.classes[::-1]))
    with pytest.raises(MismatchError, match="the data set has 4 classes and the features 6"):
        panel(dataset=other.images("test"))
    with pytest.raises(PanelError, match="no path of latent_paths 'home'"):
        panel(paths=LatentPaths(PATHS.table.assign(path="home")))


def test_a_move_of_alpha_computes_nothing_but_predictions(monkeypatch):
    p = panel()
    monkeypatch.setattr("classvec_lab.panels.linearity.class_interpolation", None)
    monkeypatch.setattr("classvec_lab.panels.linearity.class_path", None)
    groups = p.gallery.groups
    for alpha in np.linspace(0, 1, 21):
        p.alpha = float(alpha)
    assert p.gallery.groups != groups or p.detours.empty


def test_results_of_pairs_are_kept_and_not_for_ever():
    p = panel()
    for s in WORLD.classes:
        for k in WORLD.classes:
            if s != k:
                p.pair = s, k
    assert p.moved.cache_info().currsize == MOST_KEPT
    report = p.report
    p.swap()
    p.swap()
    assert p.report is report


def test_code_reproduces_what_is_shown():
    p = panel()
    p.pair = "c4", "c1"
    p.alpha, p.curves = 0.3, ("true class", "random direction")
    space = {
        "ft": WORLD.classifier,
        "features": WORLD.ft["test"],
        "vectors": WORLD.vectors,
        "paths": PATHS,
    }
    exec(p.code, space)
    assert space["report"].table.equals(p.report.table)
    assert space["report"].says() == p.report.says()
    assert space["distribution"].equals(p.path.distribution(p.alpha))
    assert space["drawn"].table.equals(p.drawn.table)
    plt.close("all")


def test_figures_are_left_under_new_names(tmp_path):
    p = panel(folder=tmp_path)
    p.pair = "c4", "c1"
    first, second = p.figure(), p.figure()
    assert [path.name for path in (*first, *second)] == [
        f"linearity_c4_to_c1_alpha_0.5{k}{suffix}"
        for k in ("", "-2")
        for suffix in (".png", ".pdf")
    ]
    assert all(path.stat().st_size > 1000 for path in (*first, *second))
    assert first[0].read_bytes() == second[0].read_bytes()
    fig = p.draw()
    for ax in fig.axes:
        assert [0.5, 0.5] in [
            list(line.get_xdata()) for line in ax.lines if line.get_label() == "α = 0.5"
        ]
    shaded = [
        patch for patch in fig.axes[1].patches if str(patch.get_label()).startswith("passing")
    ]
    assert len(shaded) == p.detours.groupby(["first", "last"]).ngroups
    plt.close("all")


def test_very_many_third_classes_are_summed_up():
    world = World(n_classes=40, n=2000, spread=9.0)
    paths = latent_paths(world.pre["test"], world.vectors, world.classifier, alphas=(0, 1))
    p = LinearityPanel(world.classifier, world.ft["test"], world.vectors, paths)
    rows = p.path.distribution(p.alpha)
    assert len(rows) > 2 + MOST_ROWS
    assert f"{len(rows) - 2 - MOST_ROWS} more classes" in p.shift_table.value
    assert " more" in p.shift_table.value
    assert len(p.gallery.groups[0]["items"]) == MOST_IMAGES


def test_thousands_of_classes_are_typed():
    rng = np.random.default_rng(0)
    classes = tuple(f"synset {i}" for i in range(3000))
    z = rng.normal(size=(2, 3000, 8))
    vectors = ClassVectors(*z, np.full(3000, 2), classes)
    y = np.array([0, 1, 2999, 2999])
    head = nn.Linear(8, 3000)
    classifier = Classifier(nn.Identity(), head, classes=classes, preprocess=PREPROCESS)
    features = Features(rng.normal(size=(4, 8)), y, classes)
    panel = LinearityPanel(classifier, features, vectors, PATHS)
    assert panel.pair == ("synset 0", "synset 1")
    target = control(panel, "target")
    target.value = "synset 2999"
    assert panel.pair[1] == "synset 2999"
    target.value = "synset"
    assert panel.frame.problem
    assert target.value == panel.pair[1] == "synset 2999"


class Actions(RuleBasedStateMachine):
    """Whatever a user does, in any order.

    What is shown follows the state, and what is refused leaves no trace.
    """

    @initialize()
    def begin(self):
        self.panel = panel()

    def attempt(self, action, *arguments):
        before = state(self.panel)
        try:
            action(*arguments)
        except ClassvecError:
            assert state(self.panel) == before

    @rule(alpha=st.one_of(st.floats(-0.2, 1.2), st.sampled_from([0.0, 0.5, 1.0])))
    def move(self, alpha):
        self.attempt(setattr, self.panel, "alpha", alpha + 0.0)

    @rule(value=st.lists(st.sampled_from([*WORLD.classes, "", "c9"]), max_size=3))
    def choose(self, value):
        self.attempt(setattr, self.panel, "pair", tuple(value))

    @rule(value=st.sampled_from(WORLD.classes), name=st.sampled_from(["source", "target"]))
    def choose_by_hand(self, name, value):
        control(self.panel, name).value = value

    @rule()
    def swap(self):
        self.attempt(self.panel.swap)

    @rule(row=st.integers(0, 5), column=st.integers(0, 5))
    def click(self, row, column):
        self.panel.map.selected = [row, column]

    @rule(x=st.floats(-1, 2) | st.just(-0.004))  # which is rounded to -0.0
    def pick(self, x):
        self.panel.charts.picked = [1, x + 0.0]  # -0.0 is 0.0 already

    @rule(view=st.sampled_from([*VIEWS, "other"]))
    def look(self, view):
        self.attempt(setattr, self.panel, "view", view)

    @rule(
        curves=st.lists(
            st.sampled_from(["true class", "wrong class", "nearest class", "weights"]), max_size=3
        )
    )
    def draw_curves(self, curves):
        self.attempt(setattr, self.panel, "curves", tuple(curves))

    @invariant()
    def shows_its_state(self):
        p = self.panel
        assert 0 <= p.alpha <= 1
        source, target = p.pair
        assert source in WORLD.classes
        assert source != target in WORLD.classes
        assert p.charts.markers == [p.alpha, p.alpha]
        assert p.map.selected == [WORLD.classes.index(source), WORLD.classes.index(target)]
        assert (p.report.source, p.report.target) == p.pair
        assert len(p.charts.charts[0]["series"]) == len(p.curves) > 0
        assert [control(p, n).value for n in ("α", "source", "target", "map")] == [
            p.alpha,
            source,
            target,
            p.view,
        ]
        _, classes = predicted(source, target, p.alpha)
        assert (
            p.path.distribution(p.alpha)["hits"].iloc[0]
            == (classes == WORLD.classes.index(source)).sum()
        )
        assert f"({p.alpha!r})" in p.code
        assert f"*{p.pair!r}" in p.code


TestActions = Actions.TestCase
TestActions.settings = settings(max_examples=12, stateful_step_count=12)
