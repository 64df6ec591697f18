"""What runs over numbers of classes and lengths of training say follows their numbers."""

import pandas as pd
import pytest

from classvec_lab.experiments import counts_say


def runs(shown=(0.0, 0.0, 0.3, 0.5), off_diagonal=(-0.6, -0.64, -0.1, -0.1), **columns):
    """Two draws of 2 classes and two of 10, trained for 5 epochs."""
    cells = {"dataset": "x", "n_classes": [2, 2, 10, 10], "epochs": 5, "draw": [0, 1, 0, 1]}
    pairs = {"delta": 0.1, "shown": shown, "refuted": [1.0, 1.0, 0.5, 0.3], "open": 0.2}
    measures = {"off_diagonal": off_diagonal, "expected": [-0.6, -0.6, -0.1, -0.1]}
    spread = {"entries_sd": [0.1, 0.1, 0.2, 0.4], "null_sd": [0.5, 0.7, 0.3, 0.3]}
    ratio = {"shift_ratio": [0.5, 0.7, 0.8, 0.8]}
    return pd.DataFrame(cells | pairs | measures | spread | ratio | columns)


def test_the_sentences_have_the_tables_numbers():
    first, second, mean = counts_say(runs())  # one length of training: nothing is said of it
    assert first.startswith("x: with 10 classes after 5 epochs, independence within ±0.1 is shown")
    assert "shown for 40% of the pairs, refuted for 40% and open for 20% (mean of 2 runs)" in first
    assert (
        "spread by 0.30, those of random directions that vary as the features do by 0.30" in first
    )
    assert "from 2 to 10 classes the share of pairs shown goes from 0% to 40%" in second
    assert "refuted from 100% to 40%" in second
    assert "spread by 0.10 and 0.30 (random directions by 0.60 and 0.30)" in second
    assert "shift ratio 0.60 and 0.80." in second
    assert "by 0.010 on average over 4 runs, at most by 0.040 (2 classes, 5 epochs)" in mean


def test_the_mean_decides_nothing():
    """However close to or far from what is forced it is, only its own sentence changes."""
    near, far = counts_say(runs()), counts_say(runs(off_diagonal=[-1.0, -1.0, 0.4, 0.4]))
    assert near[:-1] == far[:-1]
    assert "at most by 0.500 (10 classes, 5 epochs)" in far[-1]
    for said in (near[-1], far[-1]):
        assert "says nothing about single pairs, since centring forces it" in said


def test_lengths_are_compared_at_the_most_classes_and_the_classes_at_the_longest():
    short = runs([0.1, 0.1, 0.9, 0.9], epochs=1)
    said = counts_say(pd.concat([short, runs()], ignore_index=True))
    assert len(said) == 4
    assert "with 10 classes after 5 epochs" in said[0]
    assert "from 2 to 10 classes the share of pairs shown goes from 0% to 40%" in said[1]
    assert "from 1 to 5 epochs the share of pairs shown goes from 90% to 40%" in said[2]


def test_each_data_set_speaks_for_itself():
    said = counts_say(pd.concat([runs(), runs([1.0, 1.0, 0.2, 0.2], dataset="y")]))
    assert [s[0] for s in said] == ["x", "x", "x", "y", "y", "y"]
    assert "shown goes from 100% to 20%" in said[4]
    assert counts_say(runs()) == said[:3]


@pytest.mark.parametrize("draws", [1, 2])
def test_one_number_of_classes_and_one_length_have_nothing_to_compare(draws):
    assert len(counts_say(runs().head(draws))) == 2
