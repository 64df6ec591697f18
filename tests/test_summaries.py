"""Means over classes and trainings: the interval is over what is independent, and says which."""

import numpy as np
import pandas as pd
import pytest

from classvec_lab.statistics import mean_interval, over_trainings, summarise

LEVELS = {3: 0.1, 1: 0.3, 2: 0.6}  # of a training, by seed; its classes hardly differ


def cells(levels=LEVELS, n_classes=10, spread=0.01):
    """One row a class and training, of which the classes share the training's level."""
    rng = np.random.default_rng(0)
    rows = [
        {"method": "m", "target": f"c{i}", "seed": seed, "x": level + spread * rng.normal()}
        for seed, level in levels.items()
        for i in range(n_classes)
    ]
    return pd.DataFrame(rows)


def width(interval):
    _, low, high = interval
    return high - low


def test_with_several_seeds_the_interval_is_over_trainings():
    table = cells()
    found = over_trainings(table["x"], table["seed"])
    assert (found.n, found.name) == (3, "trainings")
    np.testing.assert_allclose(tuple(found), mean_interval(table.groupby("seed")["x"].mean()))
    as_if_independent = mean_interval(table["x"])
    assert found.value == pytest.approx(as_if_independent[0])
    assert width(found) > 4 * width(as_if_independent)


def test_with_one_seed_it_is_over_classes():
    table = cells({5: 0.3}, spread=0.1)
    found = over_trainings(table["x"], table["seed"])
    assert (found.n, found.name) == (10, "classes")
    np.testing.assert_allclose(tuple(found), mean_interval(table["x"]))


def test_the_interval_over_trainings_covers_a_new_one_s_mean():
    rng, covered, naive = np.random.default_rng(1), 0, 0
    for _ in range(300):
        table = cells(dict(enumerate(rng.normal(0.5, 0.1, 4))), spread=0.05)
        found, cell = over_trainings(table["x"], table["seed"]), mean_interval(table["x"])
        covered += found.low <= 0.5 <= found.high
        naive += cell[1] <= 0.5 <= cell[2]
    assert 0.91 <= covered / 300 <= 0.99
    assert naive / 300 < 0.7


def test_trainings_count_alike_however_many_classes_they_have():
    table = cells(spread=0.0)
    table = table[(table["seed"] != 1) | table["target"].isin(["c0", "c1"])]
    table.loc[table["target"].eq("c3") & table["seed"].eq(2), "x"] = np.nan
    found = over_trainings(table["x"], table["seed"])
    assert found.n == 3
    np.testing.assert_allclose(tuple(found), mean_interval(list(LEVELS.values())))


def test_one_training_of_several_has_no_interval():
    """What only one of them was measured on says nothing about another, also over classes."""
    table = cells()
    known = table["x"].where(table["seed"] == 1)
    found = over_trainings(known, table["seed"])
    assert (found.n, found.name) == (1, "trainings")
    assert np.isnan([found.low, found.high]).all()
    nothing = over_trainings(table["x"] * np.nan, table["seed"])
    assert nothing.n == 0
    assert np.isnan(tuple(nothing)).all()


COLUMNS = ["n", "unit", "x", "x_low", "x_high", "worst_x", "worst_target"]


def summary(table, columns=COLUMNS, keys=("method",)):
    return summarise(table, keys, columns, of="x")


@pytest.mark.parametrize(
    ("levels", "n", "unit"), [(LEVELS, 3, "trainings"), ({1: 0.4}, 10, "classes")]
)
def test_a_summary_says_what_its_intervals_are_over(levels, n, unit):
    table = cells(levels)
    found = summary(table)
    assert list(found) == ["method", *COLUMNS]
    row, expected = found.iloc[0], over_trainings(table["x"], table["seed"])
    assert (row["n"], row["unit"]) == (n, unit) == (expected.n, expected.name)
    np.testing.assert_allclose(
        [row["x"], row["x_low"], row["x_high"]], np.clip(tuple(expected), 0, 1)
    )
    worst = table.loc[table["x"].idxmax()]
    assert (row["worst_x"], row["worst_target"]) == (worst["x"], worst["target"])


def test_draws_are_averaged_before_anything_is_counted():
    table = pd.DataFrame(
        {"method": "m", "seed": 0, "target": ["a"] * 4 + ["b"], "x": [0.1, 0.2, 0.3, 0.4, 0.75]}
    )
    row = summary(table).iloc[0]
    assert (row["n"], row["x"], row["worst_x"]) == (2, 0.5, 0.75)
    np.testing.assert_allclose([row["x_low"], row["x_high"]], [0, 1])  # cut off


def test_a_change_may_be_negative_and_groups_keep_their_order():
    table = pd.DataFrame(
        {
            "method": ["z", "z", "a", "a"], "target": ["c", "d"] * 2, "seed": 0,
            "x": 0.5, "change_x": [-0.9, -0.1, -0.2, -0.2],
        }
    )  # fmt: skip
    found = summary(table, ["change_x", "change_x_low", "change_x_high"])
    assert found["method"].tolist() == ["z", "a"]
    np.testing.assert_allclose(found["change_x"], [-0.5, -0.2])
    np.testing.assert_allclose(found["change_x_low"], [-1, -0.2])
    np.testing.assert_allclose(found["change_x_high"], [1, -0.2])


def test_a_group_may_lack_a_key():
    table = cells({0: 0.2}, n_classes=4)
    table["gate"] = ["margin", "margin", np.nan, np.nan]
    found = summary(table, ["n", "x"], ["method", "gate"])
    assert found["n"].tolist() == [2, 2]
    assert found["gate"].isna().tolist() == [False, True]


def test_of_no_rows_there_is_an_empty_summary():
    found = summary(cells()[:0])
    assert (len(found), list(found)) == (0, ["method", *COLUMNS])
