"""The page and the pair show the numbers of their verdicts, and nothing on top of anything else."""

import re
from types import SimpleNamespace

import matplotlib.pyplot as plt
import numpy as np
import pandas as pd
import pytest
from matplotlib.colors import to_hex

from classvec_lab import plots
from classvec_lab.experiments.replay import Replayed
from classvec_lab.plots.verdict import LIGHTS, MEANING

pytestmark = pytest.mark.usefixtures("look")


@pytest.fixture(autouse=True)
def quick(monkeypatch):
    """Seaborn draws the whole figure for each heat map, only to see whether tick labels collide."""
    monkeypatch.setattr("seaborn.matrix._draw_figure", lambda fig: None, raising=False)


CLASSES = ("red", "green", "blue")
QUANTITIES = [  # in the order of the page, with how they are written
    (
        "accuracy of the fine-tuned model",
        0.9806,
        0.9603,
        0.9905,
        359,
        "test",
        "98.1%",
        "[96.0, 99.1], n = 359 test",
    ),
    (
        "displacement explained by class (R²)",
        0.8434,
        0.823,
        0.8639,
        359,
        "val",
        "84.3%",
        "[82.3, 86.4], n = 359 val",
    ),
    (
        "shift of a class over its spread, median",
        3.744,
        2.802,
        5.287,
        3,
        "val",
        "3.74",
        "[2.80, 5.29], n = 3 classes",
    ),
    (
        "head on the pre-trained representation",
        0.0669,
        np.nan,
        np.nan,
        359,
        "val",
        "6.7%",
        "n = 359 val",
    ),
    (
        "pairs of classes shown within ±0.1 of orthogonal",
        0.2879,
        0.28,
        0.31,
        1359,
        "val",
        "28.8%",
        "[28.0, 31.0], n = 1,359 pairs",
    ),
    (
        "pairs of classes refuted within ±0.1 of orthogonal",
        np.nan,
        np.nan,
        np.nan,
        358,
        "val",
        "unknown",
        "n = 358 pairs",
    ),
    ("something new", 0.25, np.nan, np.nan, 7, "val", "0.25", "n = 7 val"),
    (
        "probe on class red after class vector",
        0.75,
        0.5,
        0.875,
        40,
        "test",
        "75.0%",
        "[50.0, 87.5], n = 40 test",
    ),
]
METHODS = [  # method, family, gate, chosen, lambda_, ACC_f of the first class
    ("fine-tuned", "reference", "none", False, np.nan, 0.95),
    ("class vector", "latent edit", "predicted", True, -1.25, 0.0),
    ("class vector", "latent edit", "predicted", False, -1.0, 0.2),
    ("class vector", "latent edit", "none", True, -0.8, 0.1),
    ("z_ft - μ", "latent edit", "predicted", False, -1.25, 0.0),
    ("head direction", "latent edit", "predicted", False, -1.25, 0.3),
    ("logit mask", "trivial", "none", False, np.nan, 0.0),
]


def report(
    light="green", classes=CLASSES, methods=METHODS, *, retain=0.98, name="a model on colours"
):
    audited, n = classes[0], len(classes)
    rng = np.random.default_rng(n)
    table = pd.DataFrame(
        [q[:6] for q in QUANTITIES], columns=["quantity", "value", "low", "high", "n", "split"]
    )
    table["quantity"] = table["quantity"].str.replace("class red", f"class {audited}")
    columns = ["method", "family", "gate", "chosen", "lambda_", "acc_f"]
    study = pd.concat(
        [
            pd.DataFrame(methods, columns=columns).assign(target=c, acc_r=retain - 0.001 * i)
            for i, c in enumerate(classes)
        ]
    )
    square = pd.DataFrame(rng.uniform(-0.3, 0.3, (n, n)), classes, classes)
    said = (
        f"{light.upper()}: On validation, class vectors at |lambda| <= 1.5 forget {n} of {n}.",
        "Behind the gate 'predicted' no other class can lose, by construction.",
        "With two classes, an edit that forgets one leaves one answer.",
        f"Recommended: class vector for {n} classes.",
        f"The edits recommended on validation forget {n} of {n} classes on test.",
        "Who pays without a gate, lambda = -1.5: no class.",
        "Recoverable after class vector: a probe finds it.",
    )
    factors = {
        "predicted": 1 / 20,
        "none": 1 / 10,
        "margin": 1 / 12,
        "mapping, discriminant": 1 / 8,
    }
    collateral = {
        way: SimpleNamespace(
            gate=way, lambda_=-1.5, measured=square * factor, forecast=square * factor,
            val=replayed(classes, 0.5), test=replayed(classes, 0.4),
        )
        for way, factor in factors.items()
    }  # fmt: skip
    return SimpleNamespace(
        name=name, light=light, table=table, audited=audited, lambda_=-1.5, says=lambda: said,
        geometry=SimpleNamespace(cosine=square, chance=lambda: (-0.3, 0.3), count=pd.Series(5, classes)),
        editability=SimpleNamespace(deploy="predicted"),
        study=SimpleNamespace(table=study.reset_index(drop=True), outcomes=dict.fromkeys(classes)),
        collateral=collateral, deployed=collateral["predicted"],
        paying=["none", "margin", "mapping, discriminant"],
        routes=lambda: routes(classes),
    )  # fmt: skip


def replayed(classes, at_one):
    """Edits of all classes at 0, -1 and -2: ACC_f falls from 0.9 to `at_one` and to 0."""
    hits = np.full((len(classes), 3, len(classes)), 9)
    own = np.arange(len(classes))
    hits[own, 1, own], hits[own, 2, own] = 10 * at_one, 0
    count = np.full(len(classes), 10)
    return Replayed(tuple(classes), tuple(classes), (0.0, -1.0, -2.0), hits, count)


def routes(classes):
    share = np.full(len(classes), 1 / len(classes))
    one = pd.DataFrame({"class": classes, "share": share, "n": 40, "target": classes[0]})
    return pd.concat(
        [one.assign(method=m) for m in ("fine-tuned", "class vector")], ignore_index=True
    )


def every_text(fig):
    return [t for t in fig.findobj(plt.Text) if t.get_text() and t.get_visible()]


def words(fig):
    return [t.get_text() for t in every_text(fig)]


def titles(fig):
    return [ax.get_title(loc="left") for ax in fig.axes]


def disc(fig, light):
    (found,) = [line for ax in fig.axes for line in ax.lines if line.get_label() == light]
    return found


def overlaps(fig, texts):
    """Pairs of texts whose boxes share more than a sliver."""
    fig.canvas.draw()
    boxes = [(t.get_text(), t.get_window_extent()) for t in texts if not t.get_rotation()]
    return [
        (a, b) for i, (a, x) in enumerate(boxes) for b, y in boxes[:i]
        if min(x.x1, y.x1) - max(x.x0, y.x0) > 2 and min(x.y1, y.y1) - max(x.y0, y.y0) > 4
    ]  # fmt: skip


@pytest.mark.parametrize("light", LIGHTS)
def test_the_light_is_a_disc_of_its_colour_beside_its_word(light):
    fig = plots.verdict_pair(report(light), report("green" if light != "green" else "red"))
    mark = disc(fig, light)
    assert (to_hex(mark.get_color()), mark.get_marker(), len(mark.get_xdata())) == (
        LIGHTS[light],
        "o",
        1,
    )
    said = [" ".join(text.split()) for text in words(fig)]
    assert said.count(f"{light}: {MEANING[light]}") == 1


def test_the_page_writes_every_quantity_in_the_order_of_the_table():
    shown = report()
    fig = plots.verdict_page(shown)
    head = fig.axes[0]
    by_place = [t.get_text() for t in head.texts]
    values, intervals = [q[6] for q in QUANTITIES], [q[7] for q in QUANTITIES]
    assert [t for t in by_place if t in values] == values
    assert [t for t in by_place if t in intervals] == list(intervals)
    heights = {t.get_text(): t.get_position()[1] for t in head.texts}
    assert [heights[v] for v in values[:-1]] == sorted(heights[v] for v in values[:-1])
    assert heights["75.0%"] > heights["0.25"]  # the probe's block stands below the other
    assert "something new" in by_place
    assert by_place[0] == "a model on colours"
    assert by_place[1] == f"green: {MEANING['green']}"
    assert to_hex(disc(fig, "green").get_color()) == LIGHTS["green"]
    (said,) = [t for t in by_place if "On validation" in t]
    assert " ".join(said.split()) == " ".join(
        [
            "On validation, class vectors at |λ| ≤ 1.5 forget 3 of 3.",
            "Behind the gate 'predicted' no other class can lose, by construction.",
            "With two classes, an edit that forgets one leaves one answer.",
            "Recommended: class vector for 3 classes.",
            "The edits recommended on validation forget 3 of 3 classes on test.",
        ]
    )


def test_the_page_has_its_panels_in_order_with_their_numbers():
    shown = report(name="mine")
    fig = plots.verdict_page(shown)
    assert fig.axes[0].texts[0].get_text() == "mine"
    named = [" ".join(t.split()) for t in titles(fig) if t]
    starts = (
        "without a gate mean ",
        "behind the gate 'margin' mean ",
        "written into the weights (discriminant) mean ",
        "cos(κ_c",
        "Where samples of class red",
        "Every method",
        "Class vector",
    )
    assert len(named) == len(starts)
    assert all(t.startswith(start) for t, start in zip(named, starts, strict=True))
    assert "n = 40, test" in named[4]
    assert "n = 15" in named[3]
    for start, way in zip(starts[:3], shown.paying, strict=True):
        drawn = paying(fig, start.partition(" mean")[0])
        by_cell = {tuple(int(x) for x in t.get_position()): t.get_text() for t in drawn.texts}
        expected = 100 * shown.collateral[way].measured
        assert float(by_cell[1, 0]) == round(expected.iloc[0, 1], 1)
        assert float(by_cell[0, 2]) == round(expected.iloc[2, 0], 1)
    assert len([t for t in words(fig) if t.startswith("Who pays")]) == 1


def paying(fig, start="without a gate"):
    """The map of one way in which others can lose."""
    (found,) = [
        ax for ax in fig.axes if " ".join(ax.get_title(loc="left").split()).startswith(start)
    ]
    return found


def test_a_way_that_was_not_tried_has_no_map():
    shown = report()
    shown.paying = ["none", "mapping, discriminant"]
    named = [" ".join(t.split()) for t in titles(plots.verdict_page(shown))]
    assert not any("'margin'" in t for t in named)
    assert sum(" mean " in t for t in named) == 2


def marks(ax):
    """Setting to the line of its targets in the figure of all methods."""
    return {line.get_gid(): line for line in ax.lines if line.get_gid()}


def methods(fig):
    """The Axes with all methods."""
    return [ax for ax in fig.axes if marks(ax)]


def test_no_method_that_the_page_leaves_out_is_drawn():
    shown = report()
    drawn = [name for ax in methods(plots.verdict_pair(shown, shown)) for name in marks(ax)]
    assert any(name.startswith("class vector") for name in drawn)
    assert not any(name.startswith("logit mask") for name in drawn)


def test_the_pair_puts_the_first_left_and_explains_both_columns_once():
    fig = plots.verdict_pair(report("green", name="one"), report("red", name="two"))
    at = {
        t.get_text(): t.get_window_extent().x0
        for t in every_text(fig)
        if t.get_text() in ("one", "two")
    }
    assert at["one"] < at["two"]
    assert disc(fig, "green").get_window_extent().x0 < disc(fig, "red").get_window_extent().x0
    legends = [ax.get_legend() for ax in fig.axes if ax.get_legend()]
    assert not legends
    keys = [
        [t.get_text() for t in part.legends[0].get_texts()] for part in fig.subfigs if part.legends
    ]
    assert keys[0] == [
        "fine-tuned, mean ACC_r", "reference", "latent edit",
    ]  # fmt: skip
    rows = [t.get_text() for t in methods(fig)[0].get_yticklabels()]
    assert rows[6:] == [
        "fine-tuned", "class vector, predicted gate", "class vector, predicted gate, λ = -1.00",
        "class vector, no gate", "z_ft - μ, predicted gate", "head direction, predicted gate",
    ]  # fmt: skip
    for name in ("ACC_f, mean on val", "ACC_r, mean on val"):
        assert name in keys[1]


def test_strength_stands_on_test_and_on_val():
    fig = plots.verdict_page(report())
    (ax,) = [ax for ax in fig.axes if ax.get_title(loc="left").startswith("Class vector, test")]
    assert "behind the gate 'predicted'" in ax.get_title(loc="left")
    (val,) = [line for line in ax.lines if line.get_label() == "ACC_f, mean on val"]
    np.testing.assert_allclose(val.get_xdata(), [-2, -1, 0])
    np.testing.assert_allclose(val.get_ydata(), [0, 0.5, 0.9])
    means = [line for line in ax.lines if line.get_label() == "ACC_f, mean"]
    np.testing.assert_allclose(means[0].get_ydata(), [0, 0.4, 0.9])


def test_without_a_gate_no_gate_is_named():
    shown = report()
    shown.deployed.gate = "none"
    (said,) = [t for t in words(plots.verdict_page(shown)) if t.startswith("Class vec")]
    assert said == "Class vector, test, n = 3 classes,\nwithout a gate"
    (over,) = [t for t in words(plots.verdict_page(report())) if t.startswith("Who pays: c")]
    assert "gate" not in over


def test_a_method_looks_the_same_in_both_columns_of_the_pair():
    fewer = [
        m for m in METHODS if m[0] != "z_ft - μ"
    ]  # alone, the head direction would have its colour
    fig = plots.verdict_pair(report(methods=METHODS), report("red", methods=fewer, retain=0.6))
    left, right = methods(fig)
    looks = [
        {k: (m.get_color(), m.get_marker(), m.get_fillstyle()) for k, m in marks(ax).items()}
        for ax in (left, right)
    ]
    assert {n for n, m in marks(right).items() if not len(m.get_xdata())} == {
        "z_ft - μ, predicted gate"
    }
    assert looks[0] == looks[1]
    assert len(set(looks[0].values())) == len(looks[0])
    assert left.get_xlim() == right.get_xlim()
    assert left.get_ylim() == right.get_ylim()
    assert left.get_xlim()[0] < 0.6
    assert left.get_xlim()[1] > 0.98


def test_a_method_out_of_view_is_named_with_its_model():
    case = report("red", name="the other")
    ungated = (case.study.table["method"] == "class vector") & (case.study.table["gate"] == "none")
    case.study.table.loc[ungated, "acc_r"] = 0.01
    fig = plots.verdict_pair(report(), case)
    left, right = methods(fig)
    assert "class vector, no gate" in marks(left)
    assert "class vector, no gate" not in marks(right)
    assert "← mean ACC_r 0.01, ACC_f 0.10" in [t.get_text() for t in right.texts]


def test_nothing_known_is_drawn_as_nothing_known():
    shown = report("amber")
    shown.table[["value", "low", "high"]] = np.nan
    for survey in shown.collateral.values():
        survey.measured = survey.measured * np.nan
    shown.geometry.cosine = shown.geometry.cosine * np.nan
    shown.geometry.chance = lambda: ()
    shown.study.table["acc_f"] = shown.study.table["acc_f"].where(
        shown.study.table["target"] != "red"
    )
    fig = plots.verdict_page(shown)
    assert words(fig).count("unknown") == len(QUANTITIES)
    assert not [w for w in words(fig) if re.search(r"\bnan\b", w)]
    plots.verdict_pair(shown, shown)


@pytest.mark.parametrize(
    "classes",
    [CLASSES, tuple(f"a rather long name of class {i}" for i in range(43))],
    ids=["3", "43"],
)
def test_nothing_is_written_over_anything_else(classes):
    shown = report("amber", classes)
    page, pair = (
        plots.verdict_page(shown),
        plots.verdict_pair(shown, report("red")),
    )
    for fig, panels in ((page, (0,)), (pair, (0, 1))):
        headers = [ax for ax in fig.axes if not ax.axison]
        assert len(headers) == len(panels)
        headings = [t for ax in fig.axes for t in (ax._left_title, ax.xaxis.label) if t.get_text()]
        assert overlaps(fig, [t for ax in headers for t in ax.texts] + headings) == []
    measured = paying(page)
    along = [t.get_text() for t in measured.get_yticklabels()]
    assert min(len(classes), 10) <= len(along) <= len(classes)
    assert len(set(along)) == len(along)
    assert max(map(len, along)) <= 14


def test_few_targets_of_many_classes_keep_their_names():
    classes = tuple(f"class {i}" for i in range(30))
    shown = report(classes=classes)
    for survey in shown.collateral.values():
        survey.measured = survey.measured.iloc[:2]
    page = plots.verdict_page(shown)
    measured = paying(page)
    assert [t.get_text() for t in measured.get_yticklabels()] == ["class 0", "class 1"]
    assert [t.get_text() for t in measured.get_xticklabels()] == list(classes[::2])
