"""Sub-populations inside a class: vectors, gate, edit, clusters, and the notebook on other data."""

from dataclasses import replace

import numpy as np
import pandas as pd
import pytest
from conftest import MOBILENET, coloured, small_classifier
from in_process import run
from PIL import Image

from classvec_lab import ClassVectors, Features, inject
from classvec_lab.applications.populations import choose_cells, column_cells, find_clusters
from classvec_lab.applications.subclasses import (
    GROUPS,
    cell_gate,
    cell_names,
    cells,
    groups,
    outcome,
    owner,
    without_siblings,
)
from classvec_lab.editing import random_direction, relocation
from classvec_lab.errors import DatasetError, EditError
from classvec_lab.readout import predict

SHAPES, VALUES, CELL = ("star", "starfish", "disc"), ("red", "green", "blue"), "star·red"


def world(n, seed, *, apart=4.0, classes=SHAPES):
    """Features with a direction for each class and one for each value, and the names of the cells."""
    rng = np.random.default_rng(seed)
    y, a = rng.integers(len(classes), size=n), rng.integers(3, size=n)
    z = rng.normal(0, 0.5, (n, 8))
    z[np.arange(n), y] += 6
    z[np.arange(n), 3 + a] += apart
    return Features(z, y, classes), cell_names(classes, y, np.array(VALUES)[a])


def reader():
    """A classifier whose head reads the directions of the classes."""
    import torch

    found = small_classifier(SHAPES, dim=8)
    with torch.no_grad():
        found.head.weight.copy_(torch.eye(8)[:3])
        found.head.bias.zero_()
    return found


@pytest.fixture(scope="module")
def parts():
    return {
        s: world(n, i) for i, (s, n) in enumerate({"train": 450, "val": 900, "test": 900}.items())
    }


@pytest.fixture(scope="module")
def deployed(parts):
    """The edit away from the other classes behind the gate of the cell, and its control."""
    (train, named), (val, val_names) = parts["train"], parts["val"]
    pre = replace(train, z=train.z * 0.2)
    gate = cell_gate(cells(train, named), val, val_names, CELL, false_fire=0.02)
    alone = (without_siblings(f, named, CELL) for f in (pre, train))
    vectors = ClassVectors.from_features(*alone)
    unit = relocation(vectors, "star") * 1.5
    drawn = random_direction(vectors, "star", seed=0).scaled_to(unit.norm)
    return gate, unit, drawn


def test_groups_go_by_whole_names():
    names = np.array(["star·red", "star·blue", "starfish·red", "disc·red", "star·red dwarf"])
    assert groups(names, CELL).tolist() == [0, 1, 2, 2, 1]
    assert owner("a·b·red") == "a·b"


def test_the_cells_make_up_their_class(parts):
    """κ of a class is the mean of κ of its cells, weighted by their samples; one stands in for it."""
    train, named = parts["train"]
    pre = replace(train, z=train.z[::-1].copy())
    small = ClassVectors.from_features(*(cells(f, named) for f in (pre, train)))
    whole = ClassVectors.from_features(pre, train)
    own = [name.startswith("star·") for name in small.classes]
    mean = np.average(small.kappa[own], axis=0, weights=small.count[own])
    np.testing.assert_allclose(mean, whole["star"].vector)
    alone = ClassVectors.from_features(*(without_siblings(f, named, CELL) for f in (pre, train)))
    np.testing.assert_allclose(alone["star"].vector, small[CELL].vector)
    np.testing.assert_array_equal(alone["disc"].vector, whole["disc"].vector)


def test_a_gate_sees_its_cell_alone(parts, deployed):
    gate, test, names = deployed[0], *parts["test"]
    group, fires = groups(names, CELL), gate.fires(test.z)
    assert gate.target == "star"
    assert gate.classes == SHAPES
    assert fires[group == 0].mean() >= 0.98
    assert fires[group > 0].mean() <= 0.01
    assert gate.threshold >= 0
    assert gate.false_fire == 0.02


def test_a_gate_keeps_its_rate_on_siblings_that_look_alike():
    """Values that nothing shows: as few siblings fire as stated, and of the cell no more."""
    rates = []
    for seed in range(30):
        (train, a), (val, b), (test, c) = (world(300, [seed, i], apart=0.0) for i in range(3))
        gate = cell_gate(cells(train, a), val, b, CELL, false_fire=0.1)
        group, fires = groups(c, CELL), gate.fires(test.z)
        rates.append([fires[group == k].mean() for k in (0, 1)])
    hit, fire = np.mean(rates, axis=0)
    assert fire <= 0.1
    assert abs(hit - fire) < 0.05


def test_few_siblings_allow_no_lower_rate(parts):
    train, named = parts["train"]
    val, names = parts["val"]
    kept = np.flatnonzero(groups(names, CELL) == 1)[4:]
    few = np.setdiff1d(np.arange(len(names)), kept)
    held = replace(val, z=val.z[few], y=val.y[few])
    gate = cell_gate(cells(train, named), held, names[few], CELL, false_fire=0.02)
    assert gate.false_fire == pytest.approx(1 / 5)
    assert gate.n_negatives == 4


def test_red_stars_go_and_all_others_stay(parts, deployed):
    """Behind the gate of the cell; a random direction does nothing, and without the gate siblings go."""
    gate, unit, drawn = deployed
    test, names = parts["test"]
    model, before = reader(), predict(reader(), test) == test.y
    made = {}
    for way, edit in (("edit", unit.gated(gate)), ("random", drawn.gated(gate)), ("leak", unit)):
        after = predict(inject(model, edit), test) == test.y
        made[way] = outcome(names, CELL, before, after).set_index("condition")
    assert before.mean() > 0.99
    own, near, far = GROUPS
    assert made["edit"].loc[own, "accuracy"] <= 0.05
    assert made["edit"].loc[near, "change"] >= -0.05
    assert made["edit"].loc[far, "change"] >= -0.01
    assert made["random"]["accuracy"].min() > 0.95
    assert made["leak"].loc[near, "change"] < -0.9


def test_no_label_is_used_when_the_edit_runs(parts, deployed):
    gate, unit, _ = deployed
    test, _ = parts["test"]
    shuffled = replace(test, y=np.random.default_rng(0).permutation(test.y))
    edited = inject(reader(), unit.gated(gate))
    np.testing.assert_array_equal(predict(edited, test), predict(edited, shuffled))
    with edited:
        assert (predict(edited, test) != predict(reader(), test)).any()
    np.testing.assert_array_equal(predict(edited, test), predict(reader(), test))


def test_outcomes_are_counted_by_hand():
    names = np.array(["star·red"] * 4 + ["star·blue"] * 2 + ["star·green"] * 2 + ["disc·red"] * 2)
    before = np.ones(10, bool)
    after = np.array([0, 0, 0, 1, 1, 0, 1, 1, 1, 1], bool)
    table = outcome(names, CELL, before, after).set_index("condition")
    assert list(table.index) == [*GROUPS, "star·blue", "star·green"]
    assert table["n"].tolist() == [4, 4, 2, 2, 2]
    assert table["accuracy"].tolist() == [0.25, 0.75, 1, 0.5, 1]
    assert table["change"].tolist() == [-0.75, -0.25, 0, -0.5, 0]
    assert (table["change_low"] <= table["change"]).all()


def known(**columns):
    return replace(coloured(12), describe=pd.DataFrame(columns))


def test_a_column_names_the_cells():
    data = known(light=["dark", "light"] * 6, site=[1, 2, 3] * 4)
    assert column_cells(data, "light")[:4].tolist() == [
        "red·dark", "green·light", "blue·dark", "red·light",
    ]  # fmt: skip
    assert column_cells(data.subset([2, 0]), "site").tolist() == ["blue·3", "red·1"]


@pytest.mark.parametrize(
    ("data", "column", "message"),
    [
        (known(light=["a"] * 12), "ligth", "no column of the metadata 'ligth'; there are light"),
        (coloured(12), "light", "no column of the metadata 'light'; there are"),
        (
            known(light=["a", None] * 6),
            "light",
            "column='light' has 1 distinct.* none for 6 images",
        ),
    ],
)
def test_columns_that_name_none(data, column, message):
    with pytest.raises(DatasetError, match=message):
        column_cells(data, column)


def test_numbers_that_are_measured_are_refused():
    data = replace(coloured(30), describe=pd.DataFrame({"size": np.linspace(0, 1, 30)}))
    with pytest.raises(DatasetError, match=r"column='size' has 30 distinct .*pandas\.cut"):
        column_cells(data, "size")


COUNTS = {"star·red": 9, "star·blue": 6, "disc·red": 7, "disc·blue": 4, "box·red": 30}


def test_cells_have_enough_images_and_siblings():
    """The disc has too few blue ones, and so none of its cells will do; the box has no sibling."""
    names = {s: np.repeat(list(COUNTS), [*COUNTS.values()]) for s in ("train", "val", "test")}
    given = {"target": "", "value": "", "n": 5, "seed": 0}
    assert sorted(choose_cells(names, **given)) == ["star·blue", "star·red"]
    assert choose_cells(names, **given) == choose_cells(names, **given)
    assert len(choose_cells(names, **given | {"n": 1})) == 1
    assert choose_cells(names, **given | {"value": "blue"}) == ["star·blue"]
    for change, have in (
        ({"target": "disc"}, "disc·blue 4, disc·red 4"),
        ({"value": "pink"}, "box·red 0"),
    ):
        with pytest.raises(EditError, match=f"no sub-population has 5 images.*{have}"):
            choose_cells(names, **given | change)
    lacking = names | {"test": names["test"][names["test"] != "star·red"]}
    with pytest.raises(EditError, match="star·blue 0, star·red 0"):
        choose_cells(lacking, **given | {"target": "star"})


@pytest.fixture(scope="module")
def clustered(parts):
    return find_clusters({s: f for s, (f, _) in parts.items()}, "star", most=5, seed=0)


def test_clusters_find_the_values_that_are_there(parts, clustered):
    found, table = clustered
    best = table[table["chosen"]].set_index("of")
    assert best["k"].tolist() == [3, 3]
    assert best.loc["images", "stability_low"] > best.loc["one Gaussian", "stability_high"]
    for split, (features, names) in parts.items():
        own = features.y == 0
        pairs = {*zip(names[own], found[split][own], strict=True)}
        assert len(pairs) == 3, "each value is one cluster"
        assert {*found[split][~own]} == {"starfish·all", "disc·all"}


def test_clusters_are_the_same_again(parts, clustered):
    features = {s: f for s, (f, _) in parts.items()}
    found, table = find_clusters(features, "star", most=5, seed=0)
    pd.testing.assert_frame_equal(table, clustered[1])
    np.testing.assert_array_equal(found["test"], clustered[0]["test"])


def test_one_gaussian_has_no_stable_clusters():
    features = {s: world(600, i, apart=0.0)[0] for i, s in enumerate(("train", "val"))}
    _, table = find_clusters(features, "star", most=5, seed=0)
    best = table[table["chosen"]].set_index("of")
    assert best.loc["images", "stability_low"] < best.loc["one Gaussian", "stability_high"]


def test_a_class_too_small_to_cluster():
    features = {"train": world(300, 0)[0], "val": world(12, 1)[0]}
    with pytest.raises(EditError, match="the images of star in train and in val must lie in"):
        find_clusters(features, "star", most=5, seed=0)
    with pytest.raises(EditError, match="no class 'sta'"):
        find_clusters(features, "sta", most=5, seed=0)


SMALL = {
    "dataset": "shapes", "limit": 200, "column": "tone", "model": "mlp", "epochs": 1, "lr": 0.01,
    "model_args": {"size": 8, "hidden": [16], "dim": 12}, "n_populations": 2, "most_clusters": 2,
}  # fmt: skip


@pytest.mark.usefixtures("look")
def test_the_notebook_says_what_fails_and_repeats_byte_for_byte(tmp_path, monkeypatch):
    """A network that knows nothing: no cell is told apart, and the page says so."""
    monkeypatch.setattr("in_process.drawn", lambda outputs, figure, name: None)  # of tables alone
    made = [run("13", SMALL | {"out": str(tmp_path / str(i))}) for i in range(2)]
    assert made[0]["says"][0] == "Before any edit, on val: 0 of 2 cells can be told from siblings."
    assert not [s for s in made[0]["says"] if s.startswith("unedited") and ": in bounds" in s]
    tables = sorted(p.name for p in (tmp_path / "0").glob("*.csv"))
    assert len(tables) == 6
    for name in tables:
        assert (tmp_path / "0" / name).read_bytes() == (tmp_path / "1" / name).read_bytes(), name
    table, told = made[0]["table"], made[0]["told"]
    plain = table[table["method"] == "unedited"]
    assert plain["change"].eq(0).all()
    assert told["n_hit"].ge(5).all()


@pytest.mark.real
@pytest.mark.usefixtures("look")
@pytest.mark.filterwarnings("ignore:timm.mobilenetv2_100:UserWarning")
def test_dark_photographs_of_a_folder_with_metadata(shared, tmp_path):
    """CIFAR-10 in folders of one's own, a metadata.csv that says which photographs are dark."""
    rows = []
    for split, of, turn in (("train", "train", 0), ("val", "train", 1), ("test", "test", 0)):
        for name in ("frog", "truck"):
            folder = tmp_path / "mine" / split / name
            folder.mkdir(parents=True)
            for path in sorted((shared / "data/cifar10" / of / name).iterdir())[turn:90:2]:
                (folder / path.name).symlink_to(path)
                light = np.asarray(Image.open(path).convert("L")).mean()
                kind = "dark" if light < 115 else "light"
                rows.append((f"{split}/{name}/{path.name}", kind, light))
    table = pd.DataFrame(rows, columns=["file", "brightness", "mean"])
    table.to_csv(tmp_path / "mine" / "metadata.csv", index=False)
    chosen = {
        "dataset": str(tmp_path / "mine"), "column": "brightness", "limit": 0, "head": "probe",
        "model": "timm:mobilenetv2_100", "model_args": MOBILENET, "epochs": 1, "batch_size": 16,
        "weights": str(shared / "weights/mobilenetv2_100_imagenet.safetensors"),
        "n_populations": 2, "n_retrained": 1, "most_clusters": 2, "false_fire": 0.05,
        "out": str(tmp_path / "out"),
    }  # fmt: skip
    made = run("13", chosen)
    assert {*made["names"]["test"]} == {"frog·dark", "frog·light", "truck·dark", "truck·light"}
    assert made["says"][0] == "Before any edit, on val: 0 of 2 cells can be told from siblings."
    seen = made["told"][made["told"]["split"] == "test"]
    assert seen["auc"].between(0.5, 0.95).all()
    rows = made["summary"].set_index(["method", "condition"])
    own, near, _ = GROUPS
    known, unseen = rows.loc[("unedited", own), "accuracy"], 1 - seen["hit"].mean()
    assert known > 0.6
    edited, leak = (rows.loc[f"z_ft - rest, {gate}"] for gate in ("cell's gate", "class's gate"))
    assert edited.loc[own, "accuracy"] > known + unseen - 1.05, "what the gate doesn't see stays"
    assert edited.loc[near, "change"] > -0.2
    assert leak.loc[own, "accuracy"] < 0.05
    assert leak.loc[near, "change"] < -0.5
    assert rows.loc[("random like z_ft - rest, cell's gate", own), "change"] > -0.1
    with pytest.raises(DatasetError, match=r"column='mean' has .* distinct values"):
        run("13", chosen | {"column": "mean"})
