"""The figures of editing show the numbers of their frames."""

import matplotlib.pyplot as plt
import numpy as np
import pandas as pd
import pytest

from classvec_lab import plots
from classvec_lab.plots.editing import setting_names

pytestmark = pytest.mark.usefixtures("look")

TARGETS = ["red", "green", "blue"]
SETTINGS = [  # method, family, gate, chosen, lambda_, ACC_f of the targets, ACC_r
    ("fine-tuned", "reference", "none", False, np.nan, (1.0, 0.9, 0.95), 0.98),
    ("pre-trained", "reference", "none", False, np.nan, (0.1, 0.0, 0.2), 0.06),
    ("logit mask", "trivial", "none", False, np.nan, (0.0, 0.0, 0.0), 0.98),
    ("class vector", "latent edit", "margin", True, -1.25, (0.0, 0.0, 0.4), 0.97),
    ("class vector", "latent edit", "none", True, -1.0, (0.0, 0.3, 0.8), 0.9),
    ("LEACE", "eraser", "none", False, np.nan, (0.05, 0.0, 0.1), 0.96),
]


def study(targets=TARGETS):
    rows = [
        {
            "method": m,
            "family": f,
            "gate": g,
            "chosen": c,
            "lambda_": v,
            "target": t,
            "acc_f": x[i % 3],
            "acc_r": r - 0.01 * (i % 3),
        }
        for m, f, g, c, v, x, r in SETTINGS
        for i, t in enumerate(targets)
    ]
    return pd.DataFrame(rows)


def summary(table):
    keys = ["method", "family", "gate", "chosen"]
    frame = table.groupby(keys, sort=False).agg(
        lambda_=("lambda_", "mean"),
        n=("acc_f", "size"),
        acc_f=("acc_f", "mean"),
        acc_r=("acc_r", "mean"),
        worst_acc_f=("acc_f", "max"),
    )
    frame = frame.reset_index()
    frame["worst_target"], frame["unit"] = "blue", "classes"
    for name in ("acc_f", "acc_r"):
        frame[f"{name}_low"], frame[f"{name}_high"] = frame[name] - 0.02, frame[name] + 0.01
    return frame


def line(ax, label):
    (found,) = [x for x in ax.lines if x.get_label() == label]
    return np.asarray(found.get_xdata(), float), np.asarray(found.get_ydata(), float)


def texts(ax):
    return [t.get_text() for t in ax.texts]


def labels(ax):
    return [t.get_text() for t in ax.get_legend().get_texts()]


def below(axes):
    """The legend under several Axes."""
    (legend,) = axes[0].figure.legends
    return [t.get_text() for t in legend.get_texts()]


def dots(ax, axis=0):
    """Drawn values of every error bar by its label, and the ends of its intervals."""
    found = {}
    for c in ax.containers:
        marks, _, (spans,) = c
        ends = np.array(
            [s[:, axis] if len(s) else [np.nan, np.nan] for s in spans.get_segments()]
        ).reshape(-1, 2)
        found.setdefault(c.get_label(), []).append(
            (np.asarray(marks.get_xydata()[:, axis], float), ends)
        )
    return {
        k: (np.concatenate([v for v, _ in x]), np.concatenate([e for _, e in x]))
        for k, x in found.items()
    }


def test_names_tell_settings_apart():
    names = setting_names(summary(study()))
    assert names[3:5] == [
        "class vector, margin gate, λ* = -1.25",
        "class vector, no gate, λ* = -1.00",
    ]
    assert names[0] == "fine-tuned"
    assert names[5] == "LEACE"
    assert len(set(names)) == len(names)


def marks(ax):
    """Setting to the line of its targets."""
    return {x.get_gid(): x for x in ax.lines if x.get_gid()}


def test_trade_off_shows_each_target_and_names_what_it_leaves_out():
    table = study()
    ax = plots.trade_off(table, title="t")
    assert ax.get_title(loc="left") == "t: n = 3 targets, λ* chosen on val"
    rows = {t.get_text(): y for y, t in zip(ax.get_yticks(), ax.get_yticklabels(), strict=True)}
    for label, setting in (
        ("class vector, margin gate, λ* = -1.25", SETTINGS[3]),
        ("LEACE", SETTINGS[5]),
    ):
        x, y = map(np.asarray, marks(ax)[label].get_data())
        own = table[(table["method"] == setting[0]) & (table["gate"] == setting[2])]
        gone = own["acc_f"].to_numpy() == 0
        np.testing.assert_allclose(x, own["acc_r"])
        np.testing.assert_allclose(y[~gone], own["acc_f"][~gone])
        assert set(y[gone]) == {rows[label]}  # in one line, under the plane
        assert rows[label] < 0
        assert f"{gone.sum()} of 3" in texts(ax)
    assert ax.get_xlim()[0] > 0.5
    assert "pre-trained" not in marks(ax)
    assert "← mean ACC_r 0.05, ACC_f 0.10" in texts(ax)
    x, _ = line(ax, "fine-tuned, mean ACC_r 0.970")
    np.testing.assert_allclose(x, 0.97)
    families = ["reference", "trivial", "latent edit", "eraser"]
    assert labels(ax) == ["fine-tuned, mean ACC_r 0.970", *families]


def test_rows_of_settings_lie_apart_below_the_plane():
    table = study([f"class {i}" for i in range(43)])
    ax = plots.trade_off(table)
    below = [{y for y in x.get_ydata() if y < 0} for x in marks(ax).values()]
    below = [next(iter(ys)) for ys in below if len(ys) == 1]
    assert len(below) == len(set(below)) == 4  # the mask, two class vectors, LEACE
    assert max(below) < -0.08
    assert ax.get_ylim()[0] < min(below)
    drawn = {(x.get_color(), x.get_marker(), x.get_fillstyle()) for x in marks(ax).values()}
    assert len(drawn) == 5


def test_random_draws_are_a_control_of_their_own_and_an_unmeasured_target_is_left_out():
    table = study()
    table["method"] = table["method"].replace("LEACE", "random vector")
    table.loc[len(table) - 1, ["acc_f"]] = np.nan
    ax = plots.trade_off(table)
    assert marks(ax)["random vector"].get_color() == plots.style.MUTED
    assert labels(ax)[-1] == "random vector"
    assert len(marks(ax)["random vector"].get_xdata()) == 2


def test_methods_keep_the_order_of_the_frame_with_intervals():
    frame = summary(study())
    frame.loc[5, ["n", "acc_f_low", "acc_f_high"]] = 1, np.nan, np.nan
    axes = plots.method_intervals(frame, title="t")
    names = [t.get_text() for t in axes[0].get_yticklabels()]
    assert names == [*setting_names(frame)[:5], "LEACE (n = 1)"]
    assert axes[0].get_ylim()[0] > axes[0].get_ylim()[1]
    assert axes[0].figure.get_suptitle() == "t"
    assert "n = 3 classes" in axes[0].get_title(loc="left")
    found = dots(axes[0])
    values, ends = found["latent edit"]
    rows = frame[frame["family"] == "latent edit"]
    np.testing.assert_allclose(values, rows["acc_f"])
    np.testing.assert_allclose(ends, rows[["acc_f_low", "acc_f_high"]])
    assert np.isnan(found["eraser"][1]).all()
    first = axes[1].containers[0][0].get_xydata()[:, 0].astype(float)
    np.testing.assert_allclose(first, frame["acc_r"][:1])  # the pre-trained one is written instead
    (said,) = texts(axes[1])
    assert said == "← 0.05 [0.03, 0.06]"
    assert axes[1].get_xlim()[0] > 0.5
    worst = np.concatenate([x.get_xdata() for x in axes[0].lines if x.get_marker() == "D"])
    np.testing.assert_allclose(np.sort(worst), np.sort(frame["worst_acc_f"]))
    assert texts(axes[0]).count("blue") == 3  # both class vectors and the eraser


def curves(targets=TARGETS, gates=("none", "margin")):
    lambdas = np.array([0, -0.5, -1, -2])
    parts = [
        pd.DataFrame(
            {"lambda_": lambdas, "acc_f": np.clip(1 + lambdas * (0.6 + 0.1 * i), 0, 1)}
        ).assign(acc_r=0.9 + 0.01 * i, gate=gate, target=t, seed=0)
        for gate in gates
        for i, t in enumerate(targets)
    ]
    return pd.concat(parts, ignore_index=True)


def test_strength_is_a_mean_over_targets_with_each_of_them():
    frame = curves(gates=("margin", "none"))
    axes = plots.strength_curves(frame)
    assert [ax.get_title(loc="left") for ax in axes] == [
        "margin gate: n = 3 targets",
        "no gate: n = 3 targets",
    ]
    for ax, gate in zip(axes, ("margin", "none"), strict=True):
        mean = frame[frame["gate"] == gate].groupby("lambda_")["acc_f"].mean()
        x, y = line(ax, "ACC_f, mean")
        np.testing.assert_allclose(x, mean.index)
        np.testing.assert_allclose(y, mean)
        assert [z.get_xdata()[0] for z in ax.lines if z.get_linestyle() == ":"] == [-1]
        assert ax.xaxis_inverted()
    thin = [x for x in axes[0].lines if x.get_alpha() == 0.3]
    assert len(thin) == 2 * len(TARGETS)
    assert below(axes) == ["ACC_f, mean", "ACC_r, mean", "one target"]
    both = pd.concat([frame, frame.assign(seed=1)])
    thin = [x for x in plots.strength_curves(both)[0].lines if x.get_alpha() == 0.3]
    assert len(thin) == 4 * len(TARGETS)  # a line a target and seed


def test_gate_curves_mark_the_threshold_in_use_in_every_split():
    parts = []
    for split in ("val", "test"):
        for k, t in enumerate(TARGETS):
            grid = np.linspace(-1, 1, 21) + 0.01 * k
            part = pd.DataFrame(
                {
                    "threshold": grid,
                    "false_fire": np.linspace(1, 0, 21),
                    "miss": np.linspace(0, 1, 21) ** 2,
                }
            )
            parts.append(
                part.assign(target=t, split=split, score="margin", chosen=np.arange(21) == 15 + k)
            )
    frame = pd.concat(parts, ignore_index=True)
    axes = plots.gate_curves(frame, stated=0.05)
    assert [ax.get_title(loc="left") for ax in axes] == [
        "val: n = 3 targets",
        "test: n = 3 targets",
    ]
    for ax, split in zip(axes, ("val", "test"), strict=True):
        used = frame[(frame["split"] == split) & frame["chosen"]]
        for column, name in (("false_fire", "false fire"), ("miss", "miss")):
            x, y = line(ax, f"{name} at the threshold in use")
            np.testing.assert_allclose(x, used["threshold"])
            np.testing.assert_allclose(y, used[column])
        np.testing.assert_allclose(line(ax, "false fire asked for: 0.05")[1], 0.05)
        assert (
            sum(z.get_linestyle() in ("-", "--") and len(z.get_xdata()) == 21 for z in ax.lines)
            == 6
        )
    assert len(below(axes)) == 5
    assert len(plots.gate_curves(frame[frame["split"] == "val"])) == 1


def test_gates_show_val_hollow_and_test_filled():
    rows = []
    for gate, x in (("cosine", 0.1), ("margin", 0.2)):
        for split, more in (("val", 0.0), ("test", 0.05)):
            v = x + more
            row = {"gate": gate, "split": split, "n": 3, "unit": "classes", "worst_sibling": v / 2}
            for name in ("acc_f", "acc_r", "false_fire"):
                row |= {name: v, f"{name}_low": v - 0.01, f"{name}_high": v + 0.02}
            rows.append(row)
    frame = pd.DataFrame(rows)
    names = ["acc_f", "acc_r", "false_fire", "worst_sibling"]
    axes = plots.by_condition(frame, value=names, row="gate", by="split")
    assert [t.get_text() for t in axes[0].get_yticklabels()] == ["cosine", "margin"]
    assert [ax.get_title(loc="left") for ax in axes] == names
    assert {ax.get_xlabel() for ax in axes} == {"n = 3"}
    for ax, column in zip(axes, names, strict=True):
        found = dots(ax)
        lower, upper = (c[0].get_ydata() for c in ax.containers)
        assert (np.diff([lower, upper], axis=0) > 0.2).all()  # neither lies on the other
        for split in ("val", "test"):
            own = frame[frame["split"] == split]
            np.testing.assert_allclose(found[split][0], own[column])
            if column != "worst_sibling":
                np.testing.assert_allclose(
                    found[split][1], own[[f"{column}_low", f"{column}_high"]]
                )
        faces = {c.get_label(): c[0].get_markerfacecolor() for c in ax.containers}
        assert faces["val"] == "white"
        assert faces["test"] != "white"


def routes(
    classes, methods=("fine-tuned", "class vector", "retrained without it"), targets=("red",)
):
    rng = np.random.default_rng(0)
    parts = []
    for t in targets:
        for m in methods:
            share = rng.dirichlet(np.full(len(classes), 0.4))
            parts.append(
                pd.DataFrame({"class": classes, "share": share, "n": 40, "method": m, "target": t})
            )
    return pd.concat(parts, ignore_index=True)


def bars(ax, name):
    return [b for c in ax.containers if c.get_label() == name for b in c.patches]


def test_routes_stack_to_one_with_the_retrained_model_first():
    frame = routes(TARGETS)
    ax = plots.routing_bars(frame, target="red")
    assert [t.get_text() for t in ax.get_yticklabels()] == [
        "retrained without it",
        "fine-tuned",
        "class vector",
    ]
    ticks = ax.get_yticks()
    assert ticks[1] - ticks[0] > ticks[2] - ticks[1]
    for name, label in zip(TARGETS, ("red, the class itself", *TARGETS[1:]), strict=True):
        drawn = {round(b.get_y() + b.get_height() / 2, 6): b.get_width() for b in bars(ax, label)}
        for tick, method in zip(
            ticks, ["retrained without it", "fine-tuned", "class vector"], strict=True
        ):
            expected = frame.set_index(["method", "class"]).loc[(method, name), "share"]
            assert drawn.get(round(tick, 6), 0) == pytest.approx(expected)
    assert labels(ax) == ["red, the class itself", "green", "blue"]
    assert all(b.get_hatch() for b in bars(ax, "red, the class itself"))
    assert not any(b.get_hatch() for b in bars(ax, "blue"))
    named = (frame["share"] >= 0.08).sum()
    assert len(list(filter(None, texts(ax)))) == named
    assert ax.get_title(loc="left") == "samples of class red, n = 40"


def test_routes_of_many_classes_join_the_small_ones():
    classes = ["red", *[f"a class {i}" for i in range(42)]]
    frame = routes(classes, targets=("red", classes[3]))
    ax = plots.routing_bars(frame, target=classes[3])
    shown = labels(ax)
    assert len(shown) == 8
    assert {f"{classes[3]}, the class itself", "other"} <= set(shown)
    assert sum(b.get_width() for c in ax.containers for b in c.patches) == pytest.approx(3)
    own = frame[frame["target"] == classes[3]]
    rest = own.loc[~own["class"].isin([*shown, classes[3]]), "share"].sum()
    assert sum(b.get_width() for b in bars(ax, "other")) == pytest.approx(rest)
    largest = own[~own["class"].isin([classes[3]])].groupby("class")["share"].max().nlargest(6)
    assert set(largest.index) <= set(shown)
    with pytest.raises(ValueError, match="no routes of target 'z'; there are red"):
        plots.routing_bars(frame, target="z")


def changes(n, seed=0):
    names = [f"c{i}" for i in range(n)]
    values = np.random.default_rng(seed).normal(0, 0.02, (n, n))
    np.fill_diagonal(values, -1)
    return pd.DataFrame(values, names, names)


def test_collateral_shares_one_scale_without_the_class_itself():
    measured = changes(5)
    ways = {"without a gate": 0.5 * measured, "behind a gate": 0.1 * measured, "written": measured}
    axes = plots.collateral_maps(ways)
    assert len(axes) == 3  # one map a way
    off = ~np.eye(5, dtype=bool)
    for ax, (way, factor) in zip(axes, zip(ways, (50, 10, 100), strict=True), strict=True):
        mesh = ax.collections[0]
        drawn = np.ma.filled(mesh.get_array().astype(float), np.nan).reshape(5, 5)
        values = factor * measured.to_numpy()[off]
        np.testing.assert_allclose(drawn[off], values.round(1))
        assert np.isnan(np.diag(drawn)).all()  # what is behind them is hatched
        assert ax.patch.get_hatch()
        assert ax.get_title(loc="left") == (
            f"{way}\nmean {round(values.mean(), 1) + 0.0:+.1f}, lowest {values.min():+.1f}"
        )
    limits = {ax.collections[0].get_clim() for ax in axes}
    assert len(limits) == 1  # one scale, that of the largest change in any way
    assert limits.pop()[1] == pytest.approx(100 * np.abs(measured.to_numpy()[off]).max())
    labels = [x for x in axes[0].figure.axes if "percentage points" in x.get_ylabel()]
    assert len(labels) == 1  # and one bar


def test_a_single_way_and_no_way_known():
    (ax,) = plots.collateral_maps({"without a gate": changes(4)})
    assert [x for x in ax.figure.axes if "percentage points" in x.get_ylabel()]
    known, unknown = plots.collateral_maps({"a": changes(4), "b": changes(4) * np.nan})
    assert known.get_title(loc="left").startswith("a\nmean ")
    assert unknown.get_title(loc="left") == "b"
    assert known.collections[0].get_clim() == unknown.collections[0].get_clim()


def test_collateral_of_some_targets_of_many_and_of_no_change():
    many = changes(43).iloc[[2, 7]]
    for ax in plots.collateral_maps({"a": many, "b": many}):
        drawn = ax.collections[0].get_array().reshape(2, 43)
        assert np.argwhere(np.ma.getmaskarray(drawn)).tolist() == [[0, 2], [1, 7]]
    still = pd.DataFrame(-np.eye(3), TARGETS, TARGETS)
    axes = plots.collateral_maps({"a": still, "b": still})
    assert axes[1].get_title(loc="left") == "b\nmean +0.0, lowest +0.0"
    assert set(texts(axes[0])) == {"0"}


def audits():
    rows = []
    for k, method in enumerate(("fine-tuned", "class vector")):
        for metric, split in (
            ("ACC_f", "train"),
            ("ACC_f", "test"),
            ("MIA", "train"),
            ("CKA to retrained", "test"),
        ):
            known = metric != "CKA to retrained"
            row = {
                "metric": metric,
                "split": split,
                "value": 0.9 - 0.3 * k,
                "n": 36,
                "original": 0.9,
                "retrained": 0.1,
            }
            rows.append(
                row
                | {
                    "low": 0.5 - 0.3 * k if known else np.nan,
                    "high": 1 - 0.3 * k if known else np.nan,
                    "method": method,
                }
            )
    return pd.DataFrame(rows)


def test_audits_stand_beside_the_retrained_model():
    frame = audits()
    axes = plots.audit_dots(frame, title="t")
    assert [ax.get_title(loc="left") for ax in axes] == [
        "ACC_f\ntest, n = 36",
        "MIA\ntrain, n = 36",
        "CKA to retrained\ntest, n = 36",
    ]
    assert [t.get_text() for t in axes[0].get_yticklabels()] == ["fine-tuned", "class vector"]
    values, ends = dots(axes[0])["after the edit"]
    np.testing.assert_allclose(values, [0.9, 0.6])
    np.testing.assert_allclose(ends, [[0.5, 1.0], [0.2, 0.7]])
    assert np.isnan(dots(axes[2])["after the edit"][1]).all()
    assert line(axes[0], "retrained")[0].tolist() == [0.1, 0.1]
    without = plots.audit_dots(frame.assign(retrained=np.nan))
    assert not [x for x in without[0].lines if x.get_label() == "retrained"]
    with pytest.raises(ValueError, match="'fine-tuned' has several audits"):
        plots.audit_dots(pd.concat([frame, frame]))


def test_audits_of_several_classes_show_their_means_and_each_of_them():
    frame = pd.concat([audits(), audits().assign(value=lambda t: t["value"] - 0.1, retrained=0.3)])
    means = pd.DataFrame({"method": ["retrained without it", "fine-tuned", "class vector"]})
    means = means.assign(n=2, unit="classes")
    for k, name in enumerate(("ACC_f", "mia", "cka_retrained")):
        means[name] = [0.0, 0.85 - 0.1 * k, 0.55]
        means[f"{name}_low"], means[f"{name}_high"] = means[name] - 0.02, means[name] + 0.01
    axes = plots.audit_dots(frame, means, title="t")
    assert axes[0].figure.get_suptitle() == "t: mean of n = 2 classes, 95 % interval"
    assert [t.get_text() for t in axes[0].get_yticklabels()] == ["fine-tuned", "class vector"]
    for ax, name in zip(axes, ("ACC_f", "mia", "cka_retrained"), strict=True):
        values, ends = dots(ax)["after the edit"]
        np.testing.assert_allclose(values, means[name][1:])
        np.testing.assert_allclose(ends, means[[f"{name}_low", f"{name}_high"]][1:])
    (each,) = [c for c in axes[0].collections if c.get_label().startswith("one class")]
    np.testing.assert_allclose(sorted(each.get_offsets()[:, 0]), [0.5, 0.6, 0.8, 0.9])
    np.testing.assert_allclose(line(axes[0], "retrained")[0], 0.2)


def test_displacements_are_strokes_around_their_median_and_say_n():
    rng = np.random.default_rng(0)
    parts = [
        pd.DataFrame({"mapping": m, "group": g, "amount": rng.normal(size=n)})
        for m in ("null space", "ridge")
        for g, n in (("class 3", 20), ("drawn world", 3000))
    ]
    frame = pd.concat(parts, ignore_index=True)
    frame.loc[0, "amount"] = np.nan
    ax = plots.displacement_strips(frame)
    assert [t.get_text() for t in ax.get_xticklabels()] == [
        "class 3\nn = 19 to 20",
        "drawn world\nn = 3,000",
    ]
    clouds = [np.asarray(c.get_offsets()) for c in ax.collections if len(c.get_offsets())]
    assert sorted(map(len, clouds)) == [19, 20, 3000, 3000]
    assert all(len(set(c[:, 0])) == 1 for c in clouds)  # nothing is spread sideways
    of = frame.groupby(["group", "mapping"])["amount"]
    drawn = sorted((c[:, 1].min(), c[:, 1].max()) for c in clouds)
    np.testing.assert_allclose(drawn, sorted(of.agg(["min", "max"]).itertuples(False, None)))
    medians = sorted(y for x in ax.lines if x.get_marker() == "o" for y in x.get_ydata())
    np.testing.assert_allclose(medians, np.sort(of.median()))
    assert [t.get_text() for t in ax.get_legend().get_texts()] == ["null space", "ridge"]


def test_given_axes_are_used():
    _, axes = plt.subplots(1, 2)
    assert plots.trade_off(study(), ax=axes[0]) is axes[0]
    frame = pd.DataFrame({"mapping": ["a"], "group": ["g"], "amount": [1.0]})
    assert plots.displacement_strips(frame, ax=axes[1]) is axes[1]


def test_methods_look_as_in_the_figure_of_more_of_them():
    table = study()
    both = [plots.trade_off(t, like=table) for t in (table, table[table["gate"] == "none"])]
    looks = [
        {k: (z.get_color(), z.get_marker(), z.get_fillstyle()) for k, z in marks(ax).items()}
        for ax in both
    ]
    assert looks[0]["LEACE"] == looks[1]["LEACE"]
    assert len(set(looks[0].values())) == 5
    rows = [[t for t in texts(ax) if t == "not run" or " of " in t] for ax in both]
    assert "not run" not in rows[0]
    assert len(rows[0]) == len(rows[1]) > rows[1].count("not run") > 0
    assert "0 of 0" not in rows[1]


def test_without_a_fine_tuned_model_nothing_is_left_out():
    table = study()[lambda t: t["method"] != "fine-tuned"]
    ax = plots.trade_off(table)
    assert len(marks(ax)["pre-trained"].get_xdata()) == 3
    assert not [t for t in labels(ax) if "fine-tuned" in t]
    axes = plots.method_intervals(summary(table))
    assert texts(axes[1]) == []
    assert "fine-tuned, ACC_r" not in below(axes)
