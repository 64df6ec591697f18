"""The collapse panel without a browser.

Charts, film and table at any epoch of any run are what the histories hold.
"""

import matplotlib.pyplot as plt
import numpy as np
import pandas as pd
import pytest
from hypothesis import settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, initialize, invariant, rule
from small_world import control
from traitlets import TraitError
from worlds_of_panels import collapse_history

from classvec_lab import ClassvecError
from classvec_lab.errors import MismatchError, PanelError
from classvec_lab.panels import CollapsePanel
from classvec_lab.panels.collapse import COLOURS, run_colours
from classvec_lab.plots.collapse import PANELS

LONG, SHORT = (
    collapse_history(epochs=9, kept=7),
    collapse_history(epochs=4, kept=3, seed=1, null=False),
)
STATE = ("run", "epoch", "metrics", "focus")


def panel(**more):
    return CollapsePanel({"long": LONG, "short": SHORT}, **more)


def state(p):
    return {name: getattr(p, name) for name in STATE}


def film(p, what):
    return np.frombuffer(getattr(p.film, what), "<f4")


def test_it_begins_with_the_first_run_at_its_end():
    p = panel()
    assert state(p) == {"run": "long", "epoch": 9, "metrics": tuple(PANELS), "focus": ""}
    assert "neural-collapse panel of 4 classes over 9 epochs in 2 runs" in repr(p)
    alone = CollapsePanel(LONG)
    assert (alone.run, alone.last, alone.kept) == ("run", 9, 7)
    assert "in 2 runs" not in repr(alone)
    assert [k["name"] for k in alone.charts.key] == ["95 % of what an exact ETF would show"]


def test_charts_hold_all_runs_their_intervals_null_and_kept_epoch():
    p = panel()
    assert [c["title"] for c in p.charts.charts] == list(PANELS.values())
    for made, metric in zip(p.charts.charts, PANELS, strict=True):
        first, *rest = made["series"]
        rows = LONG.table[LONG.table["metric"] == metric]
        assert (first["name"], first["x"]) == ("long", list(range(10)))
        for key, column in (("y", "value"), ("low", "low"), ("high", "high")):
            assert np.array(first[key], dtype=float) == pytest.approx(
                rows[column].to_numpy(), nan_ok=True
            )
        nulls = [s for s in rest if s["dash"]]
        assert len(nulls) == metric.startswith("nc2")
        assert all(s["y"] == pytest.approx(rows["null_high"]) for s in nulls)
        assert rest[-1]["x"] == list(range(5))
        assert made.get("log", False) == (metric in ("nc1", "cdnv"))
        assert [m["x"] for m in made["marks"]] == [7]
    p.run = "short"
    assert {m["x"] for made in p.charts.charts for m in made["marks"]} == {3}
    assert [s["width"] for s in p.charts.charts[0]["series"]] == [1.8, 3.0]
    assert [k["name"] for k in p.charts.key] == [
        "long",
        "short",
        "95 % of what an exact ETF would show",
    ]


def test_the_film_is_of_the_run_and_glides_with_the_epoch():
    p = panel()
    for run, history in (("long", LONG), ("short", SHORT)):
        p.run = run
        epochs, n, k = history.drawn.shape[0], 30, 4
        assert film(p, "points").reshape(epochs, n, 2).reshape(-1, 2) == pytest.approx(
            history.points[["x", "y"]].to_numpy(), abs=1e-5
        )
        assert film(p, "means").reshape(epochs, k, 2).reshape(-1, 2) == pytest.approx(
            history.means2d[["x", "y"]].to_numpy(), abs=1e-5
        )
        assert film(p, "labels").tolist() == history.labels.tolist()
        low_x, high_x, low_y, high_y = p.film.box
        every = pd.concat([history.points, history.means2d])
        assert every["x"].between(low_x, high_x).all()
        assert every["y"].between(low_y, high_y).all()
    assert p.film.names == ["c0", "c1", "c2", "c3"]
    assert len(p.film.colours) == 12
    p.epoch = 2
    assert p.film.step == 2
    assert p.film.caption.startswith("epoch 2 of 4, short; plane of the last means, ")
    p.epoch = 0
    assert p.film.caption.startswith("before fine-tuning")


@pytest.mark.parametrize("epoch", [0, 4, 9])
def test_the_table_is_that_of_the_history(epoch):
    p = panel()
    p.epoch = epoch
    rows = p.values()
    known = LONG.table[LONG.table["epoch"] == epoch].set_index("metric")
    for row in rows.itertuples():
        assert row.value == known.loc[row.metric, "value"]
        interval = f" [{row.low:.3g}, {row.high:.3g}]" if np.isfinite(row.low) else ""
        value = f"<th scope='row'>{PANELS[row.metric]}</th><td>{row.value:.3g}{interval}</td>"
        assert value in p.words.value
    assert rows.set_index("metric")["ideal"].to_dict() == {m: float(m == "nc4") for m in PANELS}
    assert "n = 120 held-out images; epoch 7 was kept" in p.words.value
    assert p.charts.markers == [epoch] * len(PANELS)


def test_a_shorter_run_brings_the_epoch_back_and_says_so():
    p = panel()
    p.epoch = 8
    control(p, "run").value = "short"
    assert (p.run, p.epoch) == ("short", 4)
    assert p.frame.message == "'short' ends at epoch 4: that is shown, not 8"
    assert not p.frame.problem
    assert (control(p, "epoch").max, control(p, "Play").max) == (4, 4)
    p.epoch = 3
    assert p.frame.message == ""
    p.run = "long"
    assert (p.epoch, control(p, "epoch").max) == (3, 9)


def test_controls_set_the_state_and_show_it():
    p = panel()
    control(p, "epoch").value = 3
    assert p.epoch == control(p, "Play").value == 3
    control(p, "Play").value = 4
    assert p.epoch == control(p, "epoch").value == 4
    control(p, "focus").value = "c2"
    assert (p.focus, p.film.focus) == ("c2", 2)
    p.film.focus = 1
    assert (p.focus, control(p, "focus").value) == ("c1", "c1")
    p.film.focus = -1
    assert p.focus == ""
    control(p, "TagsInput").value = ["nc4", "nc1"]
    assert p.metrics == ("nc1", "nc4")
    assert p.charts.markers == [4, 4]
    control(p, "TagsInput").value = []
    assert control(p, "TagsInput").value == ["nc1", "nc4"]
    assert p.frame.problem
    assert "draw at least one of nc1, cdnv" in p.frame.message
    p.charts.picked = [0, 6.7]
    assert p.epoch == 7
    p.charts.picked = [1, 40.0]
    assert p.epoch == 9


@pytest.mark.parametrize(
    ("name", "value", "words"),
    [
        (
            "epoch",
            -1,
            r"epoch of 'long' must lie in \[0, 9\]; got -1",
        ),
        ("epoch", 10, "got 10"),
        ("run", "third", "no run 'third'; there are long, short"),
        ("metrics", (), "no metric would be left"),
        ("metrics", ("nc1", "nc9"), "no metric 'nc9'; there are nc1, cdnv"),
        ("focus", "c4", "no class 'c4'; there are c0, c1, c2, c3"),
    ],
)
def test_what_cannot_be_is_refused_and_changes_nothing(name, value, words):
    p = panel()
    before, code = state(p), p.code
    with pytest.raises(PanelError, match=words):
        setattr(p, name, value)
    with pytest.raises(TraitError):
        p.epoch = 1.5
    assert (state(p), p.code) == (before, code)


def test_histories_that_cannot_be_compared_are_refused():
    with pytest.raises(PanelError, match="collapse_over_training"):
        CollapsePanel({})
    with pytest.raises(MismatchError, match="'b' has 5 classes and 'a' 4 that differ"):
        CollapsePanel({"a": LONG, "b": collapse_history(n_classes=5)})


def test_two_classes_have_no_nc2_and_hundreds_work():
    two = CollapsePanel(collapse_history(n_classes=2))
    assert two.charted() == two.metrics == ("nc1", "cdnv", "nc3", "nc3_centred", "nc4")
    two.metrics = ("nc1", "nc2_etf")
    assert two.charted() == ("nc1",)
    assert "<th scope='row'>NC2: distance from an ETF</th><td>no value</td>" in two.words.value
    assert two.charts.markers == [6]
    two.draw()
    many = CollapsePanel(collapse_history(n_classes=300, samples=400, dim=16, epochs=2))
    many.focus = "c299"
    assert (many.film.focus, len(many.film.colours)) == (299, 900)
    assert many.values().set_index("metric").loc["nc2_etf", "ideal"] > 0.5
    assert "<td>?</td>" in many.words.value
    many.draw()
    plt.close("all")


def test_each_run_has_a_colour_of_its_own():
    assert run_colours(["one"]) == {"one": "accent"}
    for n in (2, 3, len(COLOURS), 9):
        colours = run_colours(range(n))
        assert list(colours) == list(range(n))
        assert len(set(colours.values())) == n


@pytest.mark.parametrize("single", [True, False])
def test_code_reproduces_what_is_shown(single):
    p = CollapsePanel(LONG) if single else panel()
    p.epoch, p.metrics, p.focus = 3, ("nc1", "nc2_etf"), "c1"
    space = {"history": LONG} if single else {"histories": {"long": LONG, "short": SHORT}}
    exec(p.code, space)
    columns = ["metric", "value", "low", "high", "null_high", "n"]
    assert space["values"][columns].reset_index(drop=True).equals(p.values()[columns])
    assert space["fig"].get_size_inches() == pytest.approx(p.draw().get_size_inches())
    plt.close("all")


def test_figures_are_left_under_new_names(tmp_path):
    p = panel(folder=tmp_path)
    p.epoch, p.metrics, p.focus = 2, ("nc1", "nc4"), "c3"
    first, second = p.figure(), p.figure()
    assert [path.name for path in (*first, *second)] == [
        f"collapse_long_epoch_2{k}{suffix}" for k in ("", "-2") for suffix in (".png", ".pdf")
    ]
    assert first[0].read_bytes() == second[0].read_bytes()
    fig = p.draw()
    curves = [ax for ax in fig.subfigs[0].axes if ax.lines]
    assert len(curves) == 2
    for ax in curves:
        assert [
            x.get_xdata()[0] for x in ax.lines if str(x.get_label()).startswith(("epoch", "kept"))
        ] == [7, 2]
    (plane,) = fig.subfigs[1].axes
    shown = LONG.means2d.query("epoch == 2")[["x", "y"]].to_numpy()
    assert np.asarray(plane.collections[1].get_offsets()) == pytest.approx(shown)
    assert plane.collections[1].get_alpha().tolist() == [0.08, 0.08, 0.08, 1.0]
    assert CollapsePanel(SHORT).stem() == "collapse_epoch_4"
    plt.close("all")


class Actions(RuleBasedStateMachine):
    """Whatever a user does, in any order.

    What is shown follows the state, and what is refused leaves no trace.
    """

    @initialize()
    def begin(self):
        self.panel = panel()

    def attempt(self, name, value):
        before = state(self.panel)
        try:
            setattr(self.panel, name, value)
        except ClassvecError:
            assert state(self.panel) == before

    @rule(epoch=st.integers(-2, 12))
    def set_epoch(self, epoch):
        self.attempt("epoch", epoch)

    @rule(epoch=st.integers(-2, 12), kind=st.sampled_from(["IntSlider", "Play"]))
    def slide(self, epoch, kind):
        control(self.panel, kind).value = epoch

    @rule(run=st.sampled_from(["long", "short", "third"]))
    def set_run(self, run):
        self.attempt("run", run)

    @rule(metrics=st.lists(st.sampled_from([*PANELS, "nc9"]), max_size=4))
    def set_metrics(self, metrics):
        self.attempt("metrics", tuple(metrics))

    @rule(focus=st.sampled_from(["", "c0", "c3", "c9"]))
    def set_focus(self, focus):
        self.attempt("focus", focus)

    @rule(i=st.integers(-1, 3))
    def click_mean(self, i):
        self.panel.film.focus = i

    @rule(x=st.floats(-3, 15))
    def pick(self, x):
        self.panel.charts.picked = [0, x]

    @invariant()
    def shows_its_state(self):
        p = self.panel
        assert p.run in p.histories
        assert 0 <= p.epoch <= p.last == len(p.history.means) - 1
        assert set(p.metrics) <= set(PANELS)
        assert p.charts.markers == [p.epoch] * len(p.charts.charts)
        assert [c["title"] for c in p.charts.charts] == [PANELS[m] for m in p.charted()]
        assert p.film.step == p.epoch
        assert len(film(p, "means")) == (p.last + 1) * 4 * 2
        assert p.film.focus == (p.classes.index(p.focus) if p.focus else -1)
        assert control(p, "IntSlider").value == control(p, "Play").value == p.epoch
        assert control(p, "IntSlider").max == p.last
        assert p.values()["value"].notna().all()
        assert f'(tables["epoch"] == {p.epoch})' in p.code


TestActions = Actions.TestCase
TestActions.settings = settings(max_examples=12, stateful_step_count=12, deadline=None)
