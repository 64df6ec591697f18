"""Mapped edits as methods of a study, and what their tables and differences say.

Rows are what each mapped model answers, and two mappings of one edit differ by amounts computed by
hand.
"""

from types import SimpleNamespace

import numpy as np
import pandas as pd
import pytest
import torch
from conftest import CLASSES
from small_experiments import changed, small_experiment, splits, trained, warmed
from torch import nn

from classvec_lab import Classifier, extract_features, forget_study
from classvec_lab.datasets.torchvision_repair import ensure_torchvision
from classvec_lab.editing import Bounds, relocation
from classvec_lab.editing.injection import inject
from classvec_lab.editing.weights import map_layernorms
from classvec_lab.editing.weights.delta import apply_deltas
from classvec_lab.editing.weights.mapping import map_edit
from classvec_lab.experiments import (
    compare_references,
    difference_says,
    mapping_difference,
    mapping_says,
    multi_class_mapping,
    summarise_mappings,
)
from classvec_lab.experiments.methods import left_of, read
from classvec_lab.models import Preprocess
from classvec_lab.readout import Readout
from classvec_lab.statistics import mean_interval, rates

GATED, NULL, RETIRED = "latent injection", "null space", "null space, retired"
SOFT, SOFT_RETIRED = "discriminant", "discriminant, retired"
RIDGE = "ridge, 4 references"


def methods(lambda_=-1.5):
    """The mappings that train nothing, beside gated injection, as notebook 06 has them."""
    ridge = {"method": "ridge", "n_references": 4}
    return {
        GATED: lambda e, n: (lambda_ * e.vectors[n]).gated(e.gate(n)),
        NULL: lambda e, n: map_edit(e.ft, lambda_ * e.vectors[n], e.moments),
        RETIRED: lambda e, n: map_edit(e.ft, relocation(e.vectors, n), e.moments),
        SOFT: lambda e, n: map_edit(e.ft, lambda_ * e.vectors[n], e.moments, method="discriminant"),
        SOFT_RETIRED: lambda e, n: map_edit(
            e.ft, relocation(e.vectors, n), e.moments, method="discriminant"
        ),
        RIDGE: lambda e, n: map_edit(
            e.ft, lambda_ * e.vectors[n], e.features["train"], seed=e.seed, **ridge
        ),
    }


def table_of(study):
    """The study's rows as `summarise_mappings` takes them."""
    agreement = [
        (o.predicted == study.find(GATED, target).predicted).mean()
        for target, found in study.outcomes.items()
        for o in found
    ]
    table = study.table.assign(agreement=agreement)
    return table.rename(columns={"method": "mapping"})


@pytest.fixture(scope="module", params=["linear", "cosine"])
def exp(request, tmp_path_factory):
    """Mappings go into the linear head, or, before a cosine head, into the last linear map."""
    return warmed(
        tmp_path_factory, lambda: small_experiment(request.param, data=splits(noise=90.0), seed=3)
    )


@pytest.fixture(scope="module")
def table(exp):
    return table_of(forget_study(exp, ["red", "blue"], methods(), progress=False))


def mapped(exp, name, target):
    return methods()[name](exp, target)


def answers(exp, classifier):
    """Labels that a classifier gives test images, the encoder run anew."""
    return Readout.of(
        classifier, extract_features(classifier, exp.data["test"], progress=False, cache=False)
    ).predicted


def test_one_row_a_mapping_and_target(exp, table):
    names = [GATED, NULL, RETIRED, SOFT, SOFT_RETIRED, RIDGE]
    assert list(zip(table["mapping"], table["target"], strict=True)) == [
        (m, t) for t in ("red", "blue") for m in names
    ]
    assert table["seed"].eq(3).all()
    assert table["split"].eq("test").all()
    assert table["gate"].tolist() == ["predicted", *["none"] * 5] * 2
    assert table["family"].tolist() == ["latent edit", *["weight mapping"] * 5] * 2
    in_head = exp.ft.head.__class__ is nn.Linear
    assert table["leaves_encoder"].tolist() == [True, *[in_head] * 5] * 2


def test_rows_are_what_the_edited_models_answer(exp, table):
    y = exp.data["test"].targets
    unedited = answers(exp, exp.ft)
    for _, row in table.iterrows():
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
    exp, table
):
    assert table.loc[table["mapping"] == GATED, "agreement"].eq(1).all()
    still = forget_study(exp, ["red"], methods(lambda_=-1e-9), progress=False)
    idle = table_of(still).set_index("mapping")
    assert (idle.loc[[GATED, NULL, SOFT], "change_r"] == 0).all()
    assert (idle.loc[[GATED, NULL, SOFT, RIDGE], "agreement"] == 1).all()
    assert idle.loc[RETIRED, "acc_f"] < idle.loc[NULL, "acc_f"]
    assert idle.loc[SOFT_RETIRED, "acc_f"] < idle.loc[SOFT, "acc_f"]


def test_the_strength_moves_the_class(table, exp):
    by = table.set_index(["mapping", "target"])
    unedited = (answers(exp, exp.ft) == exp.data["test"].targets)[
        exp.data["test"].targets == 0
    ].mean()
    assert by.loc[(NULL, "red"), "acc_f"] < unedited - 0.3


def rows(**columns):
    start = {
        "mapping": "m",
        "target": "a",
        "seed": 0,
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
    assert found[["mapping", "n", "unit", "split", "n_parameters"]].tolist() == [
        "m",
        3,
        "classes",
        "test",
        6,
    ]
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
    table = rows(mapping=["z", "a", "z"], target=["a", "a", "b"], acc_f=[0.1, 0.5, 0.2])
    found = summarise_mappings(table)
    assert found["mapping"].tolist() == ["z", "a"]
    assert found["n"].tolist() == [2, 1]
    assert found["acc_f_low"].isna().tolist() == [False, True]


def test_several_at_once(exp):
    found = multi_class_mapping(exp, CLASSES).set_index(["way", "classes"])
    ways = ("along the class vectors", "retired to the mean")
    assert list(found.index) == [(way, k) for k in (1, 2) for way in ways]
    y = exp.data["test"].targets
    for (way, k), row in found.iterrows():
        gone = CLASSES[:k]
        edits = [-1.5 * exp.vectors[t] for t in gone]
        if way == ways[1]:  # the mean of those that stay
            left = exp.vectors.z_ft[k:].mean(axis=0)
            edits = [relocation(exp.vectors, t, without=gone) for t in gone]
            for i, edit in enumerate(edits):
                np.testing.assert_allclose(exp.vectors.z_ft[i] + edit.vector, left)
        deltas = [map_edit(exp.ft, e, exp.moments).delta for e in edits]
        hit, own = answers(exp, apply_deltas(exp.ft, deltas)) == y, y < k
        np.testing.assert_allclose(
            row[["acc_f", "acc_r"]].astype(float), [hit[own].mean(), hit[~own].mean()]
        )
        assert (row["n_f"], row["n_r"]) == (50 * k, 150 - 50 * k)
        bias = len(CLASSES) if isinstance(exp.ft.head, nn.Linear) else exp.ft.dim  # stored once
        assert row["n_parameters"] == sum(d.n_parameters for d in deltas) - (k - 1) * bias
        for name, chosen in (("f", own), ("r", ~own)):
            bounds = np.ravel(rates(hit[chosen].sum(), chosen.sum())[1:])
            np.testing.assert_allclose(
                row[[f"acc_{name}_low", f"acc_{name}_high"]].astype(float), bounds
            )
    assert (found.xs(2, level="classes")["acc_f"] < 0.5).all()


@pytest.mark.parametrize(("n", "sizes"), [(1, [1]), (2, [1, 2]), (3, [1, 2])])
def test_sizes_of_several(exp, n, sizes):
    assert multi_class_mapping(exp, CLASSES[:n])["classes"].unique().tolist() == sizes


def pair_of(first, second):
    """Stand-ins that move z by given keys, as a mapping with one edit does."""
    return [
        SimpleNamespace(amounts=lambda z, k=k: np.asarray(z) @ np.asarray(k, float)[:, None])
        for k in (first, second)
    ]


def groups_of(features, target):
    own = features.y == features.classes.index(target)
    return {f"class {target}": features.z[own], "other classes": features.z[~own]}


def test_a_mapping_does_not_differ_from_itself(exp):
    found = mapped(exp, NULL, "red")
    same = mapping_difference([found, found], groups_of(exp.features["test"], "red"))
    assert same["group"].tolist() == ["class red", "other classes"]
    assert same["n"].tolist() == [50, 100]
    assert (same[["difference", "low", "high"]] == 0).all(axis=None)


def test_mappings_of_one_edit_move_means_alike_and_samples_apart(exp):
    groups = groups_of(exp.features["train"], "green")
    pair = [
        map_edit(exp.ft, -1.5 * exp.vectors["green"], exp.moments, shrinkage=s)
        for s in (0.01, 0.99)
    ]
    for found in (*pair, mapped(exp, RETIRED, "green")):
        # the class's mean moves by the whole step and the others' by none
        own, others = (found.amounts(z)[:, 0].mean() for z in groups.values())
        np.testing.assert_allclose([own, others], [1, 0], atol=1e-4)
    assert (mapping_difference(pair, groups)["low"] > 0).all()


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


GUARANTEE = pd.DataFrame({"beyond": [0.04, 0.06], "n": [100, 300]})


def test_sentences_have_the_tables_numbers(table):
    summary = summarise_mappings(table)
    *found, last = mapping_says(table, GUARANTEE)
    assert len(found) == len(summary)
    for text, (_, row) in zip(found, summary.iterrows(), strict=True):
        assert text.lower().startswith(row["mapping"].lower())
        assert (
            f": ACC_f {row['acc_f']:.1%} (worst {row['worst_target']} {row['worst_acc_f']:.1%}), "
            f"ACC_r {100 * row['change_r']:+.1f} points; {row['n_parameters']:.0f} numbers, agrees "
            f"with latent injection on {row['agreement']:.1%} (n = 2 classes)." in text
        )
    mean, low, high = mean_interval(GUARANTEE["beyond"])
    assert f"in {mean:.1%} [{low:.1%}, {high:.1%}] of cases on test, not told from what is" in last
    assert "(worst target 6.0%)" in last


@pytest.mark.parametrize(
    ("acc_f", "change_r", "words"),
    [
        (0.01, 0.0, "M forgets and leaves the others alone: ACC_f 1.0% (worst a 1.0%), "),
        (0.4, 0.0, "M does not forget and leaves the others alone: ACC_f 40.0% (worst a 40.0%), "),
        (
            0.0,
            -0.2,
            "M forgets and costs the others accuracy: ACC_f 0.0% (worst a 0.0%), ACC_r -20",
        ),
    ],
)
def test_verdicts_follow_the_numbers(acc_f, change_r, words):
    assert mapping_says(rows(acc_f=[acc_f], change_r=[change_r]), GUARANTEE)[0].startswith(words)


def test_verdicts_follow_the_bounds_and_the_interval_of_the_mean():
    targets = list("abcd")
    alike = rows(target=targets, acc_f=[0.1, 0.11, 0.09, 0.1], change_r=[-0.1, -0.11, -0.09, -0.1])
    assert "M does not forget and costs the others accuracy:" in mapping_says(alike, GUARANTEE)[0]
    loose = mapping_says(alike, GUARANTEE, Bounds(threshold=0.2, tolerance=0.2))[0]
    assert "M forgets and leaves the others alone:" in loose
    apart = rows(target=targets, acc_f=[0.0, 0.0, 0.0, 0.4], change_r=[0.0, 0.0, 0.0, -0.4])
    assert (
        "M is not shown to forget and is not shown to leave the others alone: ACC_f 10.0% (worst d "
        in mapping_says(apart, GUARANTEE)[0]
    )


@pytest.mark.parametrize(
    ("beyond", "word"),
    [([0.04, 0.07], "not told from"), ([0.2, 0.2], "more than"), ([0.0, 0.0], "less than")],
)
def test_the_quantile_is_kept_to_or_not(beyond, word):
    text = mapping_says(rows(acc_f=[0.0]), GUARANTEE.assign(beyond=beyond))[-1]
    assert f"in {np.mean(beyond):.1%} [" in text
    assert f"] of cases on test, {word} what is stated" in text


def test_the_difference_is_said_with_both_ends():
    found = {"difference": [0.02, 0.3, 0.8], "low": [0.01, 0.2, 0.7], "high": [0.03, 0.4, 0.9]}
    table = pd.DataFrame({"group": ["near", "middle", "far"], "n": [5, 6, 7]} | found)
    (text,) = difference_says(table)
    assert (
        "by 2% [1%, 3%] of the movement on near (n = 5) and by 80% [70%, 90%] of the movement on "
        "far (n = 7)." in text
    )


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


def layernorms(parameters, method, count):
    """A method of forgetting by LayerNorms, with `count` images a class, as notebook 06 has it."""
    how = {"parameters": parameters, "method": method, "n_references": count}
    how["n_anchors"] = count if method == "trained" else 0
    return lambda e, n: map_layernorms(
        e.ft, -1.5 * e.vectors[n].vector, n, e.train, seed=e.seed, **how
    )


def test_layernorms_are_trained_on_the_targets_named(transformer):
    before = {k: v.clone() for k, v in transformer.ft.state_dict().items()}
    learnt = {
        "LayerNorms ln_post, trained": layernorms("ln_post", "trained", 3),
        "LayerNorms ln_post, published": layernorms("ln_post", "published", 1),
        "LayerNorms ln_2, trained": layernorms("ln_2", "trained", 3),
    }
    only = dict.fromkeys(learnt, ("green",))
    study = forget_study(
        transformer, ["red", "green"], methods() | learnt, only=only, progress=False
    )
    table = table_of(study)
    assert table["target"].tolist() == ["red"] * 6 + ["green"] * 9
    table = table[table["mapping"].str.startswith("LayerNorms")].set_index("mapping")
    assert table.index.tolist() == list(learnt)
    assert table["target"].eq("green").all()
    assert table["n_parameters"].eq(32).all()  # one LayerNorm of width 16, weight and bias
    assert table["agreement"].between(0, 1).all()
    assert not table["leaves_encoder"].any()
    seconds = study.seconds().set_index("method")["seconds"]
    for name in learnt:
        result = study.find(name, "green").result
        assert seconds[name] == result.seconds > 0
        assert result.prefix_seconds > 0
    after = transformer.ft.state_dict()
    assert all(torch.equal(after[k], v) for k, v in before.items())


def test_layernorm_rows_are_what_the_edited_model_answers(transformer):
    exp = changed(transformer, seed=2)
    learnt = {
        "trained": layernorms("ln_2", "trained", 3),
        "published": layernorms("ln_2", "published", 1),
    }
    table = forget_study(exp, ["blue"], learnt, progress=False).table.set_index("method")
    y = exp.data["test"].targets
    for name, method in learnt.items():
        hit = answers(exp, method(exp, "blue").apply_to(exp.ft)) == y
        row = table.loc[name]
        np.testing.assert_allclose(
            [row["acc_f"], row["acc_r"]], [hit[y == 2].mean(), hit[y != 2].mean()]
        )


def test_references_go_from_one_to_those_of_the_smallest_class(exp):
    """With all images a class the mapping is that of the training images; one is enough for ridge."""
    table = compare_references(exp, ["red"], lambda_=-1.5)
    assert table.equals(compare_references(exp, ["red"], lambda_=-1.5))
    train = exp.features["train"]
    least = np.bincount(train.y).min()
    assert set(table["references"]) == {1, 2, 5, 20, least}
    assert set(table.loc[table["references"] == 1, "method"]) == {"ridge"}
    assert set(table["method"]) == {"ridge", "nullspace", "discriminant"}
    equal = np.bincount(train.y).max() == least
    assert equal  # else the last row would not use every image
    for method in ("nullspace", "discriminant"):
        edit = -1.5 * exp.vectors["red"]
        whole = left_of(read(exp, map_edit(exp.ft, edit, train, method=method), "test"), ["red"])
        row = table[(table["method"] == method) & (table["references"] == least)].iloc[0]
        assert (row["acc_f"], row["acc_r"]) == (whole["acc_f"], whole["acc_r"])
