"""The collapse panel without a browser.

Charts, film and table at any epoch are what the history holds.
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
from classvec_lab.errors import PanelError
from classvec_lab.panels import CollapsePanel
from classvec_lab.plots.collapse import PANELS

HISTORY = collapse_history(epochs=9, kept=7)
STATE = ("epoch", "metrics", "focus")


def panel(**more):
    return CollapsePanel(HISTORY, **more)


def state(p):
    return {name: getattr(p, name) for name in STATE}


def film(p, what):
    return np.frombuffer(getattr(p.film, what), "<f4")


def test_it_begins_at_the_end():
    p = panel()
    assert state(p) == {"epoch": 9, "metrics": tuple(PANELS), "focus": ""}
    assert "CollapsePanel of 4 classes" in repr(p)
    assert (p.last, p.kept) == (9, 7)
    assert [k["name"] for k in p.charts.key] == ["95 % of what an exact ETF would show"]
    p.metrics = ("nc1",)
    assert p.charts.key == []
    assert CollapsePanel(collapse_history(null=False)).charts.key == []


def test_charts_hold_values_intervals_null_and_kept_epoch():
    p = panel()
    assert [c["title"] for c in p.charts.charts] == list(PANELS.values())
    for made, metric in zip(p.charts.charts, PANELS, strict=True):
        first, *nulls = made["series"]
        rows = HISTORY.table[HISTORY.table["metric"] == metric]
        assert (first["name"], first["x"]) == ("value", list(range(10)))
        for key, column in (("y", "value"), ("low", "low"), ("high", "high")):
            assert np.array(first[key], dtype=float) == pytest.approx(
                rows[column].to_numpy(), nan_ok=True
            )
        assert len(nulls) == metric.startswith("nc2")
        assert all(s["y"] == pytest.approx(rows["null_high"]) and s["dash"] for s in nulls)
        assert made.get("log", False) == (metric in ("nc1", "cdnv"))
        assert [m["x"] for m in made["marks"]] == [7]


def test_the_film_glides_with_the_epoch():
    p = panel()
    assert film(p, "points").reshape(10, 30, 2).reshape(-1, 2) == pytest.approx(
        HISTORY.points[["x", "y"]].to_numpy(), abs=1e-5
    )
    assert film(p, "means").reshape(10, 4, 2).reshape(-1, 2) == pytest.approx(
        HISTORY.means2d[["x", "y"]].to_numpy(), abs=1e-5
    )
    assert film(p, "labels").tolist() == HISTORY.labels.tolist()
    low_x, high_x, low_y, high_y = p.film.box
    every = pd.concat([HISTORY.points, HISTORY.means2d])
    assert every["x"].between(low_x, high_x).all()
    assert every["y"].between(low_y, high_y).all()
    assert p.film.names == ["c0", "c1", "c2", "c3"]
    assert len(p.film.colours) == 12
    p.epoch = 2
    assert p.film.step == 2
    assert p.film.caption.startswith("Epoch 2 of 9; plane of the last means, ")
    p.epoch = 0
    assert p.film.caption.startswith("Before fine-tuning")


@pytest.mark.parametrize("epoch", [0, 4, 9])
def test_the_table_is_that_of_the_history(epoch):
    p = panel()
    p.epoch = epoch
    rows = p.values()
    known = HISTORY.table[HISTORY.table["epoch"] == epoch].set_index("metric")
    for row in rows.itertuples():
        assert row.value == known.loc[row.metric, "value"]
        interval = f" [{row.low:.3g}, {row.high:.3g}]" if np.isfinite(row.low) else ""
        value = f"<th scope='row'>{PANELS[row.metric]}</th><td>{row.value:.3g}{interval}</td>"
        assert value in p.words.value
    assert rows.set_index("metric")["ideal"].to_dict() == {m: float(m == "nc4") for m in PANELS}
    assert "n = 120 held-out images; epoch 7 was kept" in p.words.value
    assert p.charts.markers == [epoch] * len(PANELS)


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
    assert not p.frame.problem
    p.charts.picked = [1, 40.0]
    assert p.epoch == 7
    assert p.frame.problem


@pytest.mark.parametrize(
    ("name", "value", "words"),
    [
        ("epoch", -1, r"epoch must lie in \[0, 9\]; got -1"),
        ("epoch", 10, "got 10"),
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


def test_two_classes_have_no_nc2_and_hundreds_work():
    two = CollapsePanel(collapse_history(n_classes=2))
    assert two.metrics == ("nc1", "cdnv", "nc3", "nc3_centred", "nc4")
    with pytest.raises(PanelError, match="no metric 'nc2_etf'; there are nc1, cdnv, nc3"):
        two.metrics = ("nc1", "nc2_etf")
    assert two.charts.markers == [6] * 5
    two.draw()
    many = CollapsePanel(collapse_history(n_classes=300, samples=400, dim=16, epochs=2))
    many.focus = "c299"
    assert (many.film.focus, len(many.film.colours)) == (299, 900)
    assert many.values().set_index("metric").loc["nc2_etf", "ideal"] > 0.5
    assert "<td>?</td>" in many.words.value
    many.draw()
    plt.close("all")


def test_code_reproduces_what_is_shown():
    p = panel()
    p.epoch, p.metrics, p.focus = 3, ("nc1", "nc2_etf"), "c1"
    space = {"history": HISTORY}
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
        f"collapse_epoch_2{k}{suffix}" for k in ("", "-2") for suffix in (".png", ".pdf")
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
    shown = HISTORY.means2d.query("epoch == 2")[["x", "y"]].to_numpy()
    assert np.asarray(plane.collections[1].get_offsets()) == pytest.approx(shown)
    assert plane.collections[1].get_alpha().tolist() == [0.08, 0.08, 0.08, 1.0]
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
        assert 0 <= p.epoch <= p.last == len(HISTORY.means) - 1
        assert set(p.metrics) <= set(PANELS)
        assert p.charts.markers == [p.epoch] * len(p.charts.charts)
        assert [c["title"] for c in p.charts.charts] == [PANELS[m] for m in p.metrics]
        assert p.film.step == p.epoch
        assert len(film(p, "means")) == (p.last + 1) * 4 * 2
        assert p.film.focus == (p.classes.index(p.focus) if p.focus else -1)
        assert control(p, "IntSlider").value == control(p, "Play").value == p.epoch
        assert control(p, "IntSlider").max == p.last
        assert p.values()["value"].notna().all()
        assert f'(table["epoch"] == {p.epoch})' in p.code


TestActions = Actions.TestCase
TestActions.settings = settings(max_examples=12, stateful_step_count=12)
