"""The orthogonality panel without a browser.

Every control, what can't be, blocks and search, and any sequence of actions.
"""

import numpy as np
import pytest
from hypothesis import settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, initialize, invariant, rule
from small_world import World, control

from classvec_lab import ClassvecError, ClassVectors, orthogonality
from classvec_lab.diagnostics.orthogonality import ClassCosines
from classvec_lab.errors import MismatchError, PanelError
from classvec_lab.panels import OrthogonalityPanel
from classvec_lab.panels.class_map import block_starts, class_order

WORLD = World(n_classes=7, n=210, spread=2.0)
VECTORS = ClassVectors.from_features(WORLD.pre["test"], WORLD.ft["test"])
FEATURES = WORLD.pre["test"], WORLD.ft["test"]
REPORT = orthogonality(VECTORS, features=FEATURES, n_boot=60)


def panel(**more):
    options = {
        "report": REPORT,
        "features": FEATURES,
        "classifier": WORLD.classifier,
        "dataset": WORLD.images("test"),
        **more,
    }
    return OrthogonalityPanel(VECTORS, **options)


def many(n=1200, dim=16):
    rng = np.random.default_rng(0)
    z_pre, z_ft = rng.normal(size=(2, n, dim))
    return ClassVectors(z_pre, z_ft, np.full(n, 3), [f"class {i}" for i in range(n)])


def values(p):
    return np.frombuffer(p.map.values, "<f4").reshape(len(p.map.row_names), len(p.map.column_names))


def test_it_shows_the_report_and_selects_the_largest_entry():
    p = panel()
    off = REPORT.cosine.abs().where(~np.eye(7, dtype=bool))
    assert off.loc[p.selected] == off.max().max()
    assert values(p) == pytest.approx(REPORT.cosine.to_numpy(), abs=1e-6)
    assert np.frombuffer(p.map.low, "<f4") == pytest.approx(
        REPORT.low.to_numpy().ravel(), abs=1e-6, nan_ok=True
    )
    assert (
        np.frombuffer(p.map.marked, np.uint8).reshape(7, 7).astype(bool).tolist()
        == REPORT.significant().to_numpy().tolist()
    )
    assert tuple(p.map.marks) == REPORT.chance()
    low, high = REPORT.chance()
    assert p.map.marks_label == f"95 % of random directions: {low:+.2f} to {high:+.2f}"
    free = REPORT.intervals["cosine"].cosine.ravel()
    assert np.frombuffer(p.map.estimates, "<f4") == pytest.approx(free, abs=1e-6)
    assert p.map.row_counts == [30] * 7
    assert "OrthogonalityPanel of 7 classes" in repr(p)


def test_a_click_selects_the_pair_and_shows_its_two_classes():
    p = panel()
    p.map.selected = [3, 5]
    assert p.selected == ("c3", "c5")
    value, low = REPORT.cosine.loc["c3", "c5"], REPORT.low.loc["c3", "c5"]
    free = REPORT.intervals["cosine"].estimate[3, 5]
    assert f": {value:+.3f}, free of noise {free:+.3f} [{low:+.3f}, " in p.headline.value
    assert f"an exact ETF&#x27;s {REPORT.expected:+.3f}" in p.headline.value
    assert "n = 30 and 30" in p.headline.value
    assert [g["title"] for g in p.gallery.groups][:2] == [
        "c3: nearest to its own mean",
        "c3: nearest to c5",
    ]
    assert len(p.charts.charts) == 2
    assert "→ c5" in p.table.value
    p.selected = ("c3", "c3")
    assert len(p.gallery.groups) == 1
    assert p.map.selected == [3, 3]
    p.selected = ()
    assert p.map.selected == []
    assert "Select a cell" in p.headline.value


@pytest.mark.parametrize("kind", ["cosine", "kappa_cosine", "mean_cosine"])
def test_families_and_centring(kind):
    p = panel()
    p.kind = kind
    for share, suffix in ((0.0, ""), (1.0, "_centred")):
        p.centring = share
        assert values(p) == pytest.approx(getattr(REPORT, kind + suffix).to_numpy(), abs=1e-6)
        assert len(p.map.low) == 4 * 49
    assert p.expected == pytest.approx(-1 / 6)
    p.centring = 0.5
    assert p.map.low == p.map.marked == b""
    assert p.map.estimates == b""
    assert p.map.marks == []
    assert "raw (0) and centred (1)" in p.frame.message
    p.centring = 1.0
    assert p.frame.message == ""
    p.selected = ("c1", "c2")
    assert f"{getattr(REPORT, kind + '_centred').loc['c1', 'c2']:+.3f}" in p.headline.value
    p.centring = 0.0
    assert f"{getattr(REPORT, kind).loc['c1', 'c2']:+.3f}" in p.headline.value


def test_highlights():
    p = panel()
    p.highlight = "nothing"
    assert p.map.marked == b""
    p.highlight = "differs from an ETF"
    assert p.marked().equals(REPORT.significant("cosine", value=REPORT.expected))
    p.kind = "mean_cosine"
    assert p.marked() is None
    assert "An ETF fixes no value" in p.frame.message
    assert p.map.marks == []
    p.centring = 1.0
    assert p.map.marks == [pytest.approx(-1 / 6)]
    assert p.map.marks_label == "forced mean"


@pytest.mark.parametrize("order", ["name", "accuracy", "cluster"])
def test_orders_move_rows_and_keep_the_selection(order):
    p = panel()
    p.selected = ("c2", "c6")
    p.order = order
    place = p.map.selected
    assert (p.map.row_names[place[0]], p.map.column_names[place[1]]) == ("c2", "c6")
    frame = REPORT.cosine.loc[p.map.row_names, p.map.row_names]
    assert values(p) == pytest.approx(frame.to_numpy(), abs=1e-6)
    assert sorted(p.map.row_names) == sorted(VECTORS.classes)


def test_names_are_ordered_as_people_count():
    v = ClassVectors(
        *np.random.default_rng(0).normal(size=(2, 5, 3)), np.ones(5), ["a10", "B1", "²", "a9", "2"]
    )
    order = class_order(v, None, None, ClassCosines(v), "name")
    assert [v.classes[i] for i in order] == ["2", "a9", "a10", "B1", "²"]


def test_hidden_classes_are_gone_and_take_the_selection_with_them():
    p = panel()
    p.selected = ("c2", "c3")
    p.hidden = ("c3", "c0")
    assert p.map.row_names == ["c1", "c2", "c4", "c5", "c6"]
    assert p.selected == ()
    assert values(p).shape == (5, 5)
    with pytest.raises(PanelError, match="class 'c3' is hidden"):
        p.selected = ("c2", "c3")
    p.hidden = ()
    p.selected = ("c2", "c3")
    assert p.map.selected == [2, 3]


@pytest.mark.parametrize(
    ("name", "value", "says"),
    [
        ("kind", "angle", "no kind 'angle'; there are cosine"),
        ("order", "random", "no order 'random'; there are given"),
        ("highlight", "all", "no highlight 'all'; there are nothing"),
        ("centring", 1.2, r"centring must lie in \[0, 1\]; got 1.2"),
        ("centring", float("nan"), r"centring must lie in \[0, 1\]; got nan"),
        ("limit", 0.0, r"limit must lie in \(0, 1\]; got 0"),
        ("selected", ("c1",), "a cell is two classes"),
        ("selected", ("c1", "zebra"), "no class 'zebra'; there are c0"),
        ("hidden", ("zebra",), "no class 'zebra'"),
        ("hidden", ("c0", "c1", "c2", "c3", "c4", "c5"), r"must lie in \[0, 5\]; got 6"),
        ("window", (0, 0), "two of 0 blocks"),
    ],
)
def test_what_cannot_be_is_refused_and_changes_nothing(name, value, says):
    p = panel()
    before, sent = getattr(p, name), p.map.values
    with pytest.raises(PanelError, match=says):
        setattr(p, name, value)
    assert getattr(p, name) == before
    assert p.map.values == sent


def test_a_refused_control_goes_back_and_says_why():
    p = panel(classifier=None)
    with pytest.raises(PanelError, match="needs a classifier"):
        p.order = "accuracy"
    control(p, "search").value = "zzz"
    assert p.frame.problem
    assert "no class 'zzz' among 7" in p.frame.message


def test_search_finds_and_goes():
    p = panel()
    p.search = "C4"
    assert p.matches() == ["c4"]
    p.go_to("c4")
    row = REPORT.cosine.loc["c4"].drop("c4").abs()
    assert p.selected == ("c4", row.idxmax())
    with pytest.raises(PanelError, match="no class 'c44'"):
        p.go_to("c44")


def test_without_features_only_the_map():
    p = OrthogonalityPanel(VECTORS)
    p.selected = ("c1", "c2")
    assert f"{REPORT.cosine.loc['c1', 'c2']:+.3f}" in p.headline.value
    assert "unknown" not in p.headline.value
    assert p.gallery.groups == []


@pytest.mark.usefixtures("look")
def test_the_code_reproduces_the_frame():
    p = panel(order="cluster")
    given = {"pre_features": FEATURES[0], "ft_features": FEATURES[1], "ft": WORLD.classifier}
    for change in (
        {},
        {"kind": "kappa_cosine"},
        {"centring": 0.25},
        {"centring": 1.0, "kind": "cosine"},
        {"hidden": ("c1",)},
    ):
        for name, value in change.items():
            setattr(p, name, value)
        names = dict(given)
        exec(p.code, names)
        shown = p.shown()
        assert np.allclose(names["frame"].loc[list(shown.index), list(shown.columns)], shown)
        assert (names["pair"].first, names["pair"].second) == p.selected


@pytest.mark.usefixtures("look")
def test_the_code_of_blocks_reproduces_them(monkeypatch):
    v = many(600)
    monkeypatch.setattr(ClassVectors, "from_features", lambda *_: v)
    p = OrthogonalityPanel(v)
    for change in (
        {},
        {"order": "name", "centring": 1.0},
        {"window": (2, 5), "kind": "mean_cosine"},
    ):
        for name, value in change.items():
            setattr(p, name, value)
        names = {"pre_features": None, "ft_features": None}
        exec(p.code, names)
        shown = p.shown()
        assert list(names["frame"].index) == list(shown.index)
        assert list(names["frame"].columns) == list(shown.columns)
        assert np.allclose(names["frame"], shown)


@pytest.mark.usefixtures("look")
def test_figures(tmp_path):
    p = panel(folder=tmp_path)
    first, second = p.figure(), p.figure()
    assert len({*first, *second}) == 4
    assert first[0].name == "orthogonality_cosine_raw.png"
    p.centring = 0.5
    assert p.figure()[0].exists()
    blocks = OrthogonalityPanel(many(600), folder=tmp_path)
    assert blocks.figure()[0].exists()


def test_many_classes_are_blocks_that_open():
    v = many()
    p = OrthogonalityPanel(v)
    assert p.blocks
    assert p.intervals == {}
    assert len(p.map.row_names) == len(block_starts(1200)) == 35
    assert p.map.opens
    full = ClassCosines(v).frame().to_numpy()
    first = full[:34, 34:68]
    assert values(p)[0, 1] == pytest.approx(first.mean(), abs=1e-6)
    p.map.selected = [0, 1]
    assert p.selected == tuple(
        v.classes[i]
        for i in (np.abs(first).max(axis=1).argmax(), 34 + np.abs(first).max(axis=0).argmax())
    )
    p.map.opened = [0, 1]
    assert p.window == (0, 1)
    assert values(p) == pytest.approx(first, abs=1e-6)
    assert p.map.selected == [
        np.abs(first).max(axis=1).argmax(),
        np.abs(first).max(axis=0).argmax(),
    ]
    p.map.opened = []
    assert p.window == ()
    assert len(p.map.row_names) == 35
    p.go_to("class 1111")
    assert p.selected[0] == "class 1111"
    assert "class 1111" in p.map.row_names
    assert p.selected[1] in p.map.column_names
    with pytest.raises(PanelError, match=r"no centring of blocks 0\.5; there are 0, 1"):
        p.centring = 0.5
    with pytest.raises(PanelError, match="two of 35 blocks"):
        p.window = (0, 35)
    with pytest.raises(PanelError, match=r"0 beside blocks, must lie in \[0, 0\]; got 1"):
        p.hidden = ("class 3",)
    with pytest.raises(PanelError, match="nothing to highlight"):
        p.highlight = "differs from 0"
    p.order = "cluster"
    assert p.window == ()
    assert sorted(p.positions()) == list(range(1200))
    assert len(p.matches()) == 0
    p.search = "class 11"
    assert 0 < len(p.matches()) <= 40
    assert p.matches()[0] == "class 11"


def test_images_of_other_features_are_refused():
    with pytest.raises(MismatchError, match="the data set has other labels than the features"):
        panel(dataset=WORLD.images("test").relabelled([0], "c1"))


def test_a_report_of_other_classes_is_refused():
    with pytest.raises(MismatchError, match="the report has 7 classes and these class vectors 10"):
        OrthogonalityPanel(many(10), report=REPORT)
    one = ClassVectors(np.zeros((1, 3)), np.ones((1, 3)), [1], ["only"])
    with pytest.raises(MismatchError, match=r"number of classes .* must lie in \[2, 5000\]; got 1"):
        OrthogonalityPanel(one)


class Actions(RuleBasedStateMachine):
    """Whatever a user does, in any order.

    The map shows what the state says, and what is refused leaves no trace.
    """

    @initialize()
    def begin(self):
        self.panel = panel()

    def attempt(self, name, value):
        p = self.panel
        before = {
            n: getattr(p, n)
            for n in (
                "kind",
                "centring",
                "order",
                "highlight",
                "limit",
                "selected",
                "hidden",
                "window",
            )
        }
        try:
            setattr(p, name, value)
        except ClassvecError:
            assert {n: getattr(p, n) for n in before} == before

    @rule(value=st.sampled_from(["cosine", "kappa_cosine", "mean_cosine", "angle"]))
    def kind(self, value):
        self.attempt("kind", value)

    @rule(value=st.sampled_from([0.0, 1.0, 0.4, -0.1, 2.0]))
    def centring(self, value):
        self.attempt("centring", value)

    @rule(value=st.sampled_from(["given", "name", "accuracy", "cluster", "size"]))
    def order(self, value):
        self.attempt("order", value)

    @rule(value=st.sampled_from(["nothing", "differs from 0", "differs from an ETF", "odd"]))
    def highlight(self, value):
        self.attempt("highlight", value)

    @rule(value=st.sampled_from([0.1, 0.5, 1.0, 0.0, 3.0]))
    def limit(self, value):
        self.attempt("limit", value)

    @rule(value=st.lists(st.sampled_from([*VECTORS.classes, "zebra"]), max_size=6))
    def hide(self, value):
        self.attempt("hidden", tuple(value))

    @rule(value=st.lists(st.sampled_from([*VECTORS.classes, "zebra"]), max_size=3))
    def select(self, value):
        self.attempt("selected", tuple(value))

    @rule(row=st.integers(0, 8), column=st.integers(0, 8))
    def click(self, row, column):
        self.panel.map.selected = [row, column]
        if row < len(self.panel.map.row_names) and column < len(self.panel.map.row_names):
            assert self.panel.selected == (
                self.panel.map.row_names[row],
                self.panel.map.column_names[column],
            )

    @rule(text=st.sampled_from(["", "c", "c3", "x"]))
    def search(self, text):
        self.panel.search = text

    @invariant()
    def shows_what_it_holds(self):
        p = self.panel
        names = list(p.map.row_names)
        assert set(names) == set(VECTORS.classes) - set(p.hidden)
        assert values(p) == pytest.approx(p.shown().to_numpy(), abs=1e-6)
        assert p.map.limit == p.limit
        assert not set(p.selected) & set(p.hidden)
        assert set(p.matches()) <= set(names)
        if p.family is not None:
            expected = getattr(REPORT, p.family).loc[names, names]
            assert values(p) == pytest.approx(expected.to_numpy(), abs=1e-6)
        compile(p.code, "code", "exec")


TestActions = Actions.TestCase
TestActions.settings = settings(max_examples=12, stateful_step_count=20)
