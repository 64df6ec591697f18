"""What runs over numbers of classes and lengths of training say follows their numbers."""

import pandas as pd
import pytest

from classvec_lab.experiments import counts_say


def runs(off_diagonal=(-0.6, -0.61, -0.1, -0.11), expected=(-0.6, -0.6, -0.1, -0.1), **columns):
    """Two draws of 2 classes and two of 10, trained for 5 epochs."""
    cells = {"dataset": "x", "n_classes": [2, 2, 10, 10], "epochs": 5, "draw": [0, 1, 0, 1]}
    measures = {"off_diagonal": off_diagonal, "expected": expected}
    spread = {"entries_sd": [0.1, 0.1, 0.2, 0.4], "shift_ratio": [0.5, 0.7, 0.8, 0.8]}
    return pd.DataFrame(cells | measures | spread | columns)


def test_the_words_follow_the_numbers():
    near = " ".join(counts_say(runs()))
    assert ": nearer to the former" in near
    assert "closer to 0" in near
    far = " ".join(counts_say(runs([-1.0, -1.0, -1 / 9, -1 / 9], 0.3)))
    assert "no nearer to the former" in far
    away = " ".join(counts_say(runs([0.0, 0.0, 0.4, 0.4])))
    assert "further from 0" in away


def test_the_sentences_have_the_tables_numbers():
    first, second = counts_say(runs())  # one length of training: nothing is said of it
    assert first.startswith("x: over 4 runs the mean off-diagonal cosine lies 0.005 from the ")
    assert "and 0.201 from -1/(C-1)" in first  # (0.4 + 0.39 + 0.1/9 + 0.01/9) / 4
    assert "from 2 to 10 classes the mean moves from -0.605 to -0.105" in second
    assert "single entries spread by 0.10 and 0.30; shift ratio 0.60 and 0.80." in second


def test_lengths_are_compared_at_the_most_classes_and_the_classes_at_the_longest():
    short = runs([-0.9, -0.9, -0.5, -0.5], epochs=1)
    said = counts_say(pd.concat([short, runs()], ignore_index=True))
    assert len(said) == 3
    assert "from 2 to 10 classes the mean moves from -0.605 to -0.105" in said[1]
    assert "from 1 to 5 epochs the mean moves from -0.500 to -0.105, closer to 0" in said[2]


def test_each_data_set_speaks_for_itself():
    said = counts_say(pd.concat([runs(), runs([-1.0, -1.0, -0.2, -0.2], dataset="y")]))
    assert [s[0] for s in said] == ["x", "x", "y", "y"]
    assert "from -1.000 to -0.200" in said[3]
    assert counts_say(runs())[0] == said[0]


@pytest.mark.parametrize("draws", [1, 2])
def test_one_number_of_classes_and_one_length_have_nothing_to_compare(draws):
    assert len(counts_say(runs().head(draws))) == 1
