"""Mappings compared: rows are what each mapped model answers, and two mappings of one edit differ by hand-computed amounts."""

from types import SimpleNamespace

import numpy as np
import pandas as pd
import pytest
import torch
from conftest import CLASSES
from small_experiments import changed, idle_experiment, small_experiment, splits, trained, warmed
from torch import nn

from classvec_lab import Classifier, Features, extract_features
from classvec_lab.datasets.torchvision_repair import ensure_torchvision
from classvec_lab.editing.directions import retirement
from classvec_lab.editing.injection import inject
from classvec_lab.editing.weights.delta import apply_deltas
from classvec_lab.editing.weights.mapping import map_edit
from classvec_lab.errors import EditError
from classvec_lab.experiments.mapping import (
    compare_mappings,
    difference_says,
    mapping_difference,
    mapping_references,
    mapping_says,
    mapping_several,
    mapping_study,
    sample_groups,
    summarise_mappings,
)
from classvec_lab.models import Preprocess
from classvec_lab.readout import Readout
from classvec_lab.statistics import mean_interval, wilson

GATED, NULL, RETIRED = "latent injection, margin gate", "null space", "null space, retired"
COLUMNS = [
    "mapping", "target", "seed", "split", "n_parameters", "n_f", "acc_f", "n_r", "acc_r", "change_r", "agreement",
]  # fmt: skip


@pytest.fixture(scope="module", params=["linear", "cosine"])
def exp(request, tmp_path_factory):
    """Mappings go into the linear head, or, before a cosine head, into the encoder's last linear map."""
    return warmed(
        tmp_path_factory, lambda: small_experiment(request.param, data=splits(noise=90.0), seed=3)
    )


@pytest.fixture(scope="module")
def study(exp):
    return mapping_study(exp, ["red", "blue"], n_references=4)


def mapped(exp, name, target):
    edit = -1.5 * exp.vectors[target]
    if name == NULL:
        return map_edit(exp.ft, edit, exp.moments)
    if name == RETIRED:
        return map_edit(exp.ft, retirement(exp.vectors, target), exp.moments)
    return map_edit(
        exp.ft,
        edit,
        exp.features["train"],
        method="ridge",
        n_references=4,
        seed=exp.seed,
    )


def answers(exp, classifier):
    """Labels that a classifier gives test images, the encoder run anew."""
    return Readout.of(
        classifier, extract_features(classifier, exp.data["test"], progress=False, cache=False)
    ).predicted


def test_one_row_a_mapping_and_target(study):
    assert list(study.table) == COLUMNS
    names = [GATED, NULL, RETIRED, "ridge, 4 references"]
    assert list(zip(study.table["mapping"], study.table["target"], strict=True)) == [
        (m, t) for t in ("red", "blue") for m in names
    ]
    assert study.table["seed"].eq(3).all()
    assert study.table["split"].eq("test").all()
    assert list(study.seconds["mapping"]) == names[1:] * 2
    assert (study.seconds["seconds"] > 0).all()
    assert study.seconds["prefix_seconds"].isna().all()


def test_rows_are_what_the_edited_models_answer(exp, study):
    y = exp.data["test"].targets
    unedited = answers(exp, exp.ft)
    for _, row in study.table.iterrows():
        i = CLASSES.index(row["target"])
        edit = -1.5 * exp.vectors[row["target"]]
        gated = answers(exp, inject(exp.ft, edit.gated(exp.gate(row["target"]))))
        found = None if row["mapping"] == GATED else mapped(exp, row["mapping"], row["target"])
        predicted = gated if found is None else answers(exp, found.apply_to(exp.ft))
        hit, own = predicted == y, y == i
        assert (row["n_f"], row["n_r"]) == (50, 100)
        assert row["n_parameters"] == (edit.dim if found is None else found.n_parameters)
        expected = [
            hit[own].mean(),
            hit[~own].mean(),
            (hit.astype(float) - (unedited == y))[~own].mean(),
            (predicted == gated).mean(),
        ]
        np.testing.assert_allclose(
            row[["acc_f", "acc_r", "change_r", "agreement"]].astype(float), expected, atol=1e-12
        )


def test_latent_injection_agrees_with_itself_and_a_mapping_that_does_nothing_as_the_unedited(
    exp, study
):
    assert study.table.loc[study.table["mapping"] == GATED, "agreement"].eq(1).all()
    idle = mapping_study(exp, ["red"], lambda_=-1e-9).table.set_index("mapping")
    assert (idle.loc[[GATED, NULL], "change_r"] == 0).all()
    assert (idle.loc[[GATED, NULL, "ridge, 5 references"], "agreement"] == 1).all()
    assert idle.loc[RETIRED, "acc_f"] < idle.loc[NULL, "acc_f"]


def test_the_strength_moves_the_class(study, exp):
    by = study.table.set_index(["mapping", "target"])
    unedited = (answers(exp, exp.ft) == exp.data["test"].targets)[
        exp.data["test"].targets == 0
    ].mean()
    assert by.loc[(NULL, "red"), "acc_f"] < unedited - 0.3


def test_unknown_classes_cost_no_work():
    for arguments in (([*CLASSES, "pink"], ()), (["red"], ["pink"])):
        with pytest.raises(EditError, match="no class 'pink'"):
            mapping_study(idle_experiment(), arguments[0], trained=arguments[1])


def rows(**columns):
    start = {
        "mapping": "m",
        "target": "a",
        "n_parameters": 10,
        "acc_f": 0.0,
        "acc_r": 1.0,
        "change_r": 0.0,
        "agreement": 1.0,
    }
    size = max(len(v) for v in columns.values())
    return pd.DataFrame({**{k: [v] * size for k, v in start.items()}, **columns})


def test_the_summary_is_means_and_the_worst():
    table = rows(
        target=["a", "b", "c"],
        acc_f=[0.0, 0.3, 0.03],
        acc_r=[0.9, 0.8, 1.0],
        change_r=[-0.1, 0.0, 0.04],
        n_parameters=[4, 6, 8],
    )
    found = summarise_mappings(table).iloc[0]
    assert (found["mapping"], found["n"], found["split"], found["n_parameters"]) == (
        "m",
        3,
        "test",
        6,
    )
    assert (found["worst_acc_f"], found["worst_target"]) == (0.3, "b")
    for name, bounds in (
        ("acc_f", (0, 1)),
        ("acc_r", (0, 1)),
        ("change_r", (-1, 1)),
        ("agreement", (0, 1)),
    ):
        mean, low, high = mean_interval(table[name])
        np.testing.assert_allclose(
            found[[name, f"{name}_low", f"{name}_high"]].astype(float),
            [mean, *np.clip([low, high], *bounds)],
        )
    assert (found["acc_f_low"], found["acc_r_high"]) == (0, 1)
    assert found["change_r_low"] < -0.1


def test_the_summary_keeps_the_order_of_mappings_and_says_when_one_cell_has_no_interval():
    table = rows(mapping=["z", "a", "z"], acc_f=[0.1, 0.5, 0.2])
    found = summarise_mappings(table)
    assert found["mapping"].tolist() == ["z", "a"]
    assert found["n"].tolist() == [2, 1]
    assert found["acc_f_low"].isna().tolist() == [False, True]


def test_more_references_up_to_the_smallest_class(exp):
    found = mapping_references(exp, ["red", "green"], counts=(1, 3, 60, 500))
    assert list(found) == [
        "method",
        "references",
        "target",
        "split",
        "n_f",
        "acc_f",
        "n_r",
        "acc_r",
    ]
    expected = {
        (m, k, t)
        for k in (1, 3, 60)
        for t in ("red", "green")
        for m in ("ridge", "nullspace")
        if k > 1 or m == "ridge"
    }
    assert set(zip(found["method"], found["references"], found["target"], strict=True)) == expected
    assert len(found) == len(expected)
    assert (found["n_f"] + found["n_r"]).eq(150).all()


def test_all_references_are_all_of_them(exp):
    found = mapping_references(exp, ["green"], counts=()).set_index("method")
    train, edit, y = (
        exp.features["train"],
        -1.5 * exp.vectors["green"],
        exp.data["test"].targets,
    )
    for method in ("ridge", "nullspace"):
        edited = map_edit(exp.ft, edit, train, method=method, n_references=60).apply_to(exp.ft)
        hit = answers(exp, edited) == y
        np.testing.assert_allclose(
            found.loc[method, ["acc_f", "acc_r"]].astype(float),
            [hit[y == 1].mean(), hit[y != 1].mean()],
        )
    assert found["references"].eq(60).all()


def test_several_at_once(exp):
    found = mapping_several(exp, CLASSES).set_index(["way", "classes"])
    ways = ("along the class vectors", "retired to the mean")
    assert list(found.index) == [(way, k) for k in (1, 2) for way in ways]
    y = exp.data["test"].targets
    for (way, k), row in found.iterrows():
        gone = CLASSES[:k]
        edits = [-1.5 * exp.vectors[t] for t in gone]
        if way == ways[1]:  # the mean of those that stay
            left = exp.vectors.z_ft[k:].mean(axis=0)
            edits = [
                retirement(exp.vectors, t, without=tuple(x for x in gone if x != t)) for t in gone
            ]
            for i, edit in enumerate(edits):
                np.testing.assert_allclose(exp.vectors.z_ft[i] + edit.vector, left)
        deltas = [map_edit(exp.ft, e, exp.moments).delta for e in edits]
        hit, own = answers(exp, apply_deltas(exp.ft, deltas)) == y, y < k
        np.testing.assert_allclose(
            row[["acc_f", "acc_r"]].astype(float), [hit[own].mean(), hit[~own].mean()]
        )
        assert (row["n_f"], row["n_r"]) == (50 * k, 150 - 50 * k)
        assert row["n_parameters"] == sum(d.n_parameters for d in deltas)
        for name, chosen in (("f", own), ("r", ~own)):
            bounds = np.ravel(wilson(hit[chosen].sum(), chosen.sum()))
            np.testing.assert_allclose(
                row[[f"acc_{name}_low", f"acc_{name}_high"]].astype(float), bounds
            )
    assert (found.xs(2, level="classes")["acc_f"] < 0.5).all()


@pytest.mark.parametrize(("n", "sizes"), [(1, [1]), (2, [1, 2]), (3, [1, 2])])
def test_sizes_of_several(exp, n, sizes):
    assert mapping_several(exp, CLASSES[:n])["classes"].unique().tolist() == sizes


def pair_of(first, second):
    """Stand-ins that move z by given keys, as a mapping with one edit does."""
    return [
        SimpleNamespace(amounts=lambda z, k=k: np.asarray(z) @ np.asarray(k, float)[:, None])
        for k in (first, second)
    ]


def test_a_mapping_does_not_differ_from_itself(exp):
    found = mapped(exp, NULL, "red")
    groups = sample_groups(exp.features["test"], "red")
    same = mapping_difference([found, found], groups)
    assert same["group"].tolist() == ["class red", "other classes"]
    assert same["n"].tolist() == [50, 100]
    assert (same[["difference", "low", "high"]] == 0).all(axis=None)


def test_the_difference_by_hand():
    z = {"g": np.array([[1.0, 0], [0, 1], [2, 2]])}
    pair = pair_of([2, 1], [1, 1])  # amounts 2, 1, 6 and 1, 1, 4
    row = mapping_difference(pair, z).iloc[0]
    np.testing.assert_allclose(row["difference"], np.sqrt((1 + 0 + 4) / (4 + 1 + 36)))
    assert row["low"] <= row["difference"] <= row["high"]
    assert row["n"] == 3
    nothing = mapping_difference(pair_of([2, 1], [0, 0]), z).iloc[0]
    np.testing.assert_allclose(nothing[["difference", "low", "high"]].astype(float), 1)
    still = mapping_difference(pair_of([0, 0], [0, 0]), z).iloc[0]
    assert still[["difference", "low", "high"]].isna().all()


def test_compared_amounts_are_those_of_the_mappings(exp):
    pair = {"loose": mapped(exp, NULL, "green"), "retired": mapped(exp, RETIRED, "green")}
    groups = sample_groups(exp.features["train"], "green")
    found = compare_mappings(pair, groups)
    assert list(found) == ["mapping", "group", "amount"]
    for (name, group), part in found.groupby(["mapping", "group"]):
        np.testing.assert_array_equal(part["amount"], pair[name].amounts(groups[group])[:, 0])
    # the class's mean moves by the whole step and the others' by none
    means = found.groupby(["mapping", "group"])["amount"].mean()
    np.testing.assert_allclose(means.xs("class green", level="group"), 1, atol=1e-4)
    np.testing.assert_allclose(means.xs("other classes", level="group"), 0, atol=1e-4)


def test_groups_share_out_the_samples():
    features = Features(np.arange(8.0).reshape(4, 2), np.array([0, 1, 0, 1]), ("a", "b"))
    groups = sample_groups(features, "b")
    assert {k: v[:, 0].tolist() for k, v in groups.items()} == {
        "class b": [2, 6],
        "other classes": [0, 4],
    }


GUARANTEE = pd.DataFrame({"beyond": [0.04, 0.06], "n": [100, 300]})


def test_sentences_have_the_tables_numbers(study):
    summary = summarise_mappings(study.table)
    *found, last = mapping_says(summary, GUARANTEE)
    assert len(found) == len(summary)
    for text, (_, row) in zip(found, summary.iterrows(), strict=True):
        assert text.lower().startswith(row["mapping"].lower())
        assert (
            f"ACC_f {row['acc_f']:.1%}, worst {row['worst_target']} {row['worst_acc_f']:.1%}"
            in text
        )
        assert f"agrees with latent injection on {row['agreement']:.1%} (n = 2)" in text
        assert f"{row['n_parameters']:.0f} numbers" in text
    assert "in 5.5% of cases on test, about as stated (worst target 6.0%)" in last  # (4 + 18) / 400


@pytest.mark.parametrize(
    ("acc_f", "change_r", "words"),
    [
        (0.01, 0.0, "M: forgets (ACC_f 1.0%, worst a 1.0%) and keeps the others;"),
        (0.4, 0.0, "M: does not forget (ACC_f 40.0%, worst a 40.0%) and keeps the others;"),
        (0.0, -0.2, "M: forgets (ACC_f 0.0%, worst a 0.0%) and costs the others 20.0 points;"),
    ],
)
def test_verdicts_follow_the_numbers(acc_f, change_r, words):
    assert (
        words
        in mapping_says(summarise_mappings(rows(acc_f=[acc_f], change_r=[change_r])), GUARANTEE)[0]
    )


@pytest.mark.parametrize(
    ("beyond", "word"), [(0.05, "about as"), (0.2, "more than"), (0.0, "less than")]
)
def test_the_quantile_is_kept_to_or_not(beyond, word):
    text = mapping_says(summarise_mappings(rows(acc_f=[0.0])), GUARANTEE.assign(beyond=beyond))[-1]
    assert f"in {beyond:.1%} of cases on test, {word} stated" in text


def test_the_difference_is_said_with_both_ends():
    table = pd.DataFrame(
        {"group": ["near", "middle", "far"], "n": [5, 6, 7], "difference": [0.02, 0.3, 0.8]}
    )
    (text,) = difference_says(table)
    assert "by 2% of the movement on near (n = 5) and by 80% on far (n = 7)" in text


def vision_transformer():
    ensure_torchvision()
    from open_clip.transformer import VisionTransformer

    torch.manual_seed(0)
    encoder = VisionTransformer(8, 4, width=16, layers=2, heads=2, mlp_ratio=2.0, output_dim=6)
    preprocess = Preprocess("open_clip", {"size": 8, "mean": [0.5] * 3, "std": [0.5] * 3})
    return Classifier(encoder, nn.Linear(6, len(CLASSES)), classes=CLASSES, preprocess=preprocess)


@pytest.fixture(scope="module")
def transformer(tmp_path_factory):
    def make():
        return trained(vision_transformer(), splits(noise=40.0))

    return warmed(tmp_path_factory, make)


def test_layernorms_are_trained_on_the_targets_named(transformer):
    before = {k: v.clone() for k, v in transformer.ft.state_dict().items()}
    study = mapping_study(
        transformer,
        ["red", "green"],
        layernorms=["ln_post", "ln_2"],
        trained=["green"],
        n_references=3,
    )
    table = study.table[study.table["mapping"].str.startswith("LayerNorms")].set_index("mapping")
    names = [
        "LayerNorms ln_post, trained",
        "LayerNorms ln_post, published",
        "LayerNorms ln_2, trained",
    ]
    assert table.index.tolist() == names
    assert table["target"].eq("green").all()
    assert table["n_parameters"].eq(32).all()  # one LayerNorm of width 16, weight and bias
    assert table["agreement"].between(0, 1).all()
    seconds = study.seconds.set_index("mapping").loc[names]
    assert (seconds[["seconds", "prefix_seconds"]] > 0).all(axis=None)
    after = transformer.ft.state_dict()
    assert all(torch.equal(after[k], v) for k, v in before.items())


def test_layernorm_rows_are_what_the_edited_model_answers(transformer):
    from classvec_lab.editing.weights.layernorm import map_layernorms

    exp = changed(transformer, seed=2)
    table = mapping_study(
        exp, ["blue"], layernorms=["ln_2"], trained=["blue"], n_references=3
    ).table.set_index("mapping")
    train, shift = exp.data["train"], -1.5 * exp.vectors["blue"].vector
    trained = map_layernorms(
        exp.ft,
        shift,
        "blue",
        train,
        parameters="ln_2",
        method="trained",
        n_references=3,
        anchors=train,
        n_anchors=3,
        seed=2,
    )
    published = map_layernorms(
        exp.ft,
        shift,
        "blue",
        train,
        parameters="ln_2",
        method="published",
        n_references=1,
        seed=2,
    )
    y = exp.data["test"].targets
    for name, found in (("trained", trained), ("published", published)):
        hit = answers(exp, found.apply_to(exp.ft)) == y
        row = table.loc[f"LayerNorms ln_2, {name}"]
        np.testing.assert_allclose(
            [row["acc_f"], row["acc_r"]], [hit[y == 2].mean(), hit[y != 2].mean()]
        )
