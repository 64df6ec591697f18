"""Means over classes and trainings: intervals cover new ones of both, and tables say what counts."""

import numpy as np
import pandas as pd
import pytest

from classvec_lab.statistics import crossed_mean, mean_interval, summarise

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


def mean_of(table):
    return crossed_mean(table["x"], table["target"], table["seed"])


WORLDS = [(1, 0, 0.3), (1, 0.3, 0.5), (1, 1, 1), (0.3, 1, 0.3), (0, 1, 0.3), (0, 0, 1)]


def shares_covered(n_classes, n_trainings, scales, repeats=400, skewed=False):
    """How often intervals of four kinds hold the mean, 0, where there are any.

    Args:
        scales: standard deviations of classes, trainings and cells.
        skewed: whether classes are spread as an exponential.
    """
    rng, grid = np.random.default_rng(1), np.indices((n_classes, n_trainings))
    table, hits = pd.DataFrame({"target": grid[0].ravel(), "seed": grid[1].ravel()}), []
    for _ in range(repeats):
        parts = [rng.normal(size=shape) for shape in ((n_classes, 1), n_trainings, grid[0].shape)]
        if skewed:
            parts[0] = rng.exponential(size=(n_classes, 1)) - 1
        level = sum(scale * part for scale, part in zip(scales, parts, strict=True))
        table["x"] = level.ravel()
        ways = {"cells": level.ravel(), "trainings": level.mean(0), "classes": level.mean(1)}
        found = {way: mean_interval(values) for way, values in ways.items()}
        found["both"] = tuple(mean_of(table))
        known = {way: ends for way, (_, *ends) in found.items() if np.isfinite(ends).all()}
        hits.append({way: low <= 0 <= high for way, (low, high) in known.items()})
    return pd.DataFrame(hits).reindex(columns=list(found)).mean()


@pytest.mark.slow
@pytest.mark.parametrize("n_trainings", [1, 2, 3, 5])
@pytest.mark.parametrize("scales", WORLDS)
@pytest.mark.parametrize("skewed", [False, True])
def test_coverage_over_classes_and_trainings(n_trainings, scales, skewed, coverage):
    """4,000 simulated tables of ten classes: intervals over both cover 90 to 100 %."""
    rates = shares_covered(10, n_trainings, scales, 4000, skewed)
    world = dict(zip(("of_classes", "of_trainings", "of_cells"), scales, strict=True))
    coverage("means", n_trainings=n_trainings, **world, skewed=skewed, **rates)
    if n_trainings > 1:
        assert rates["both"] >= (0.86 if skewed else 0.9)


@pytest.mark.parametrize(
    ("of_class", "of_training", "residual"),
    WORLDS,
)
def test_ten_classes_and_three_trainings_cover_the_mean_over_both(of_class, of_training, residual):
    covered = shares_covered(10, 3, (of_class, of_training, residual))
    assert covered["both"] >= 0.92
    assert covered["cells"] < 0.8 or not (of_class or of_training)


@pytest.mark.parametrize("residual", [0.3, 1])
def test_ten_classes_of_one_training_cover_the_mean_over_classes(residual):
    assert 0.92 <= shares_covered(10, 1, (1, 0, residual))["both"] <= 0.98


def test_another_training_lies_outside_what_one_can_show():
    """Which is why the unit of a table says how many trainings it is of."""
    assert shares_covered(10, 1, (0.3, 1, 0.3))["both"] < 0.4


def test_trainings_that_differ_widen_the_interval_and_so_do_classes():
    by_training, by_class = cells(), cells(dict.fromkeys(LEVELS, 0.5))
    by_class["x"] += by_class["target"].str[1:].astype(int) / 20
    for table, unit in ((by_training, "seed"), (by_class, "target")):
        found = mean_of(table)
        expected = mean_interval(table.groupby(unit)["x"].mean())
        assert (found.n, found.name) == (10, "classes × 3 trainings")
        assert found.value == pytest.approx(expected[0])
        np.testing.assert_allclose(tuple(found), expected, atol=0.01)
        assert np.diff((found.low, found.high)) > 1.5 * np.diff(mean_interval(table["x"])[1:])


def test_with_one_training_the_interval_is_over_classes_and_the_other_way_round():
    table = cells({5: 0.3}, spread=0.1)
    found = mean_of(table)
    assert (found.n, found.name) == (10, "classes")
    np.testing.assert_allclose(tuple(found), mean_interval(table["x"]))
    table = cells(n_classes=1)
    found = mean_of(table)
    assert (found.n, found.name) == (1, "class × 3 trainings")
    np.testing.assert_allclose(tuple(found), mean_interval(table["x"]))


def test_what_is_absent_is_not_counted():
    table = cells()
    known = table["x"].where(table["seed"] == 1)
    found = crossed_mean(known, table["target"], table["seed"])
    assert (found.n, found.name) == (10, "classes")
    np.testing.assert_allclose(tuple(found), mean_interval(known.dropna()))
    nothing = crossed_mean(table["x"] * np.nan, table["target"], table["seed"])
    assert nothing.n == 0
    assert np.isnan(tuple(nothing)).all()
    single = mean_of(table[:1])
    assert (single.n, single.name) == (1, "class")
    assert np.isnan([single.low, single.high]).all()


def test_equal_values_have_an_interval_of_no_width():
    found = mean_of(cells(dict.fromkeys(LEVELS, 0.5), spread=0.0))
    assert tuple(found) == (0.5, 0.5, 0.5)


COLUMNS = ["n", "unit", "x", "x_low", "x_high", "worst_x", "worst_target"]


def summary(table, columns=COLUMNS, keys=("method",)):
    return summarise(table, keys, columns, of="x")


@pytest.mark.parametrize(
    ("levels", "unit"), [(LEVELS, "classes × 3 trainings"), ({1: 0.4}, "classes")]
)
def test_a_summary_says_what_its_intervals_are_over(levels, unit):
    table = cells(levels)
    found = summary(table)
    assert list(found) == ["method", *COLUMNS]
    row, expected = found.iloc[0], mean_of(table)
    assert (row["n"], row["unit"]) == (10, unit) == (expected.n, expected.name)
    np.testing.assert_allclose(
        [row["x"], row["x_low"], row["x_high"]], np.clip(tuple(expected), 0, 1)
    )
    worst = table.loc[table["x"].idxmax()]
    assert (row["worst_x"], row["worst_target"]) == (worst["x"], worst["target"])


def test_draws_are_averaged_before_anything_is_counted():
    table = pd.DataFrame(
        {"method": "m", "seed": 0, "target": ["a"] * 4 + ["b"], "x": [0.1, 0.2, 0.3, 0.4, 0.75]}
    )
    row = summary(table, [*COLUMNS, "lowest_x"]).iloc[0]
    assert (row["n"], row["x"], row["worst_x"]) == (2, 0.5, 0.75)
    assert row["lowest_x"] == 0.1  # of a single draw
    np.testing.assert_allclose([row["x_low"], row["x_high"]], [0, 1])  # cut off


def test_only_shares_are_cut_off():
    """An interval that ended where shares end would not hold a mean beyond it."""
    table = cells({0: 5.0, 1: 6.0}, n_classes=3)
    row = summary(table).iloc[0]
    assert (row["x"], row["x_low"], row["x_high"]) == tuple(mean_of(table))
    assert row["x_low"] < 1 < row["x"] < row["x_high"]


def test_a_mean_says_over_how_many_classes_it_is_known():
    table = cells({0: 0.4}).assign(y=lambda t: t["x"].where(t["target"] < "c3"))
    row = summary(table, ["n", "x", "y", "n_y"]).iloc[0]
    assert (row["n"], row["n_y"]) == (10, 3)


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
