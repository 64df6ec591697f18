"""Shares, areas, ratios and tallies with their intervals, and how tables name them."""

import numpy as np
import pandas as pd
import pytest

from classvec_lab.statistics import (
    Estimate,
    accuracy,
    auc,
    averaged,
    columns,
    ends,
    paired_change,
    rates,
    ratio_difference,
    ratio_interval,
    share,
    shares,
    tally,
)
from classvec_lab.words import most


def test_delong_s_interval_covers_the_true_area():
    rng, hits = np.random.default_rng(0), 0
    for _ in range(200):
        found = auc(rng.normal(1, 1, 60), rng.normal(0, 1, 80))
        hits += found.low <= 0.7602499 <= found.high  # Phi(1 / sqrt 2)
    assert 0.9 <= hits / 200 <= 0.99
    assert auc(np.array([2.0, 1, 1]), np.array([1.0, 0])).value == pytest.approx(
        (1 + 1 + 0.5 + 1 + 0.5 + 1) / 6
    )


def test_a_paired_change_has_a_width_where_nothing_changed():
    hits = np.array([True] * 20)
    still = paired_change(hits, hits)
    high = float(rates(0, 20)[2])
    assert (still.value, still.low, still.high) == (0, pytest.approx(-high), pytest.approx(high))
    all_lost = paired_change(hits, ~hits)
    assert (all_lost.value, all_lost.low) == (-1, -1)
    assert all_lost.high < -0.7
    assert paired_change([1, 1, 0, 0], [1, 0, 1, 1]).value == 0.25


def test_a_share_lies_within_its_interval_whatever_the_rounding():
    n = np.arange(1, 500)
    for hits in (0 * n, n, n / 3):
        low, high = rates(hits, n)[1:]
        assert (low <= hits / n).all()
        assert (hits / n <= high).all()


def test_a_share_of_nothing_is_unknown():
    assert np.isnan([share([]).value, share([]).low]).all()
    assert np.isnan(shares(np.zeros((3, 0)))).all()


def test_shares_of_many_rows_are_those_of_each_and_may_be_fractional():
    hits = np.array([[1, 0, 1, 1], [0, 0, 0, 0], [0.5, 0.25, 1, 0]])
    for row, found in zip(hits, np.transpose(shares(hits)), strict=True):
        assert tuple(found) == tuple(share(row))
        assert tuple(found) == (row.mean(), *rates(row.sum(), 4)[1:])


def test_a_tally_counts_and_knows_nothing_of_no_sample():
    table = tally(np.array([2, 0, 2]), ("a", "b", "c"))
    assert table[["class", "hits", "n"]].to_numpy().tolist() == [
        ["a", 1, 3],
        ["b", 0, 3],
        ["c", 2, 3],
    ]
    assert table["share"].tolist() == pytest.approx([1 / 3, 0, 2 / 3])
    assert table.loc[2, ["low", "high"]].tolist() == [float(end) for end in rates(2, 3)[1:]]
    assert tally(np.zeros(0, int), ("a", "b"))[["share", "low", "high"]].isna().all(axis=None)


def test_a_ratio_over_nothing_is_unknown():
    assert np.isnan(ratio_interval(np.ones(3), np.zeros(3))).all()
    assert np.isnan(ratio_interval([], [])).all()


def test_the_difference_of_two_ratios_is_paired():
    rng = np.random.default_rng(0)
    size, noise = rng.gamma(4, size=200), rng.normal(size=(2, 200))
    first, second = (size + 0.1 * noise[0], 2 * size), (size + 0.1 * noise[1], 4 * size)
    value, low, high = ratio_difference(first, second)
    assert value == pytest.approx(ratio_interval(*first)[0] - ratio_interval(*second)[0])
    assert low < value < high
    ends_apart = ratio_interval(*first)[2] - ratio_interval(*second)[1]
    assert high - value < ends_apart - value  # what both have in common is taken off
    assert ratio_difference(first, first) == (0, 0, 0)


def test_columns_and_ends_name_an_interval_alike():
    found = Estimate(0.5, 0.4, 0.7, 9)
    row = {"n": 9, **columns("success", found), **columns("share", (1, 2, 3), "")}
    assert list(row) == ["n", "success", "success_low", "success_high", "share", "low", "high"]
    assert ends(row, "success") == tuple(found) == (0.5, 0.4, 0.7)
    assert ends(row, "share", "") == (1, 2, 3)


def test_groups_are_averaged_in_their_order_and_stay_shares():
    table = pd.DataFrame(
        {"kind": ["b", "a", "b", "a"], "share": [1.0, 0.5, 0.9, np.nan], "other": [0, 1, 0, 1]}
    )
    found = averaged(table, ["kind"], "n_rows", {"share": "", "other": None})
    assert found["kind"].tolist() == ["b", "a"]
    assert found["n_rows"].tolist() == [2, 1]  # of how many the first share is known
    assert found["share"].tolist() == pytest.approx([0.95, 0.5])
    assert found["high"].tolist()[0] == 1
    assert np.isnan(found["low"].tolist()[1])
    assert found.columns.tolist()[-3:] == ["other", "other_low", "other_high"]


def test_means_of_runs_by_hand():
    runs = pd.DataFrame({"model": ["a", "b"] * 3, "accuracy": [0.9, 0.5, 0.8, 0.5, 1.0, 0.5]})
    table = averaged(runs, ["model"], "n_runs", {"accuracy": ""}).set_index("model")
    assert table.loc["a", "accuracy"] == pytest.approx(0.9)
    half = 4.302652729911275 * 0.1 / np.sqrt(3)  # t quantile for 2 degrees of freedom
    assert table.loc["a", ["low", "high"]].tolist() == pytest.approx([0.9 - half, 1])  # a share
    assert table.loc["b", ["low", "high", "n_runs"]].tolist() == [0.5, 0.5, 3]
    single = averaged(runs.head(2), ["model"], "n_runs", {"accuracy": ""})
    assert single[["low", "high"]].isna().to_numpy().all()


Y = np.array([0, 0, 0, 0, 1, 1, 1, 1, 1, 1])
PREDICTED = np.array([0, 0, 0, 1, 1, 1, 1, 0, 0, 2])


def test_accuracy_per_class_and_over_all():
    table = accuracy(PREDICTED, Y, ["a", "b", "c"]).set_index("class")
    assert table["accuracy"].tolist()[:2] == [0.75, 0.5]
    assert np.isnan(table.loc["c", ["accuracy", "low", "high"]].astype(float)).all()
    assert table.loc["all", "accuracy"] == 0.6
    assert table["n"].tolist() == [4, 6, 0, 10]
    # Wilson (1927) for 6 of 10 at 95 %
    z = 1.959963984540054
    centre, half = (
        (0.6 + z * z / 20) / (1 + z * z / 10),
        z / (1 + z * z / 10) * np.sqrt(0.6 * 0.4 / 10 + z * z / 400),
    )
    assert table.loc["all", ["low", "high"]].tolist() == pytest.approx(
        [centre - half, centre + half]
    )


@pytest.mark.parametrize(
    ("interval", "word"),
    [((0.6, 0.8), "most"), ((0.2, 0.4), "less than half"), ((0.3, 0.6), "perhaps half")],
)
def test_most_is_said_where_the_interval_allows_it(interval, word):
    assert most(0.5, *interval) == word
