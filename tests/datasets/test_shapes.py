import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from classvec_lab.datasets import shapes
from classvec_lab.datasets.shapes import CLASSES, COLOURS, SIDE, SPLITS, draw, load_shapes, written
from classvec_lab.errors import DatasetError

STRIP_TOP = SIDE - SIDE // 4
index = st.integers(0, 3999)


def pixels(image):
    return np.asarray(image).astype(int)


def test_an_image_depends_on_seed_split_and_index_only():
    dataset = load_shapes(split="train", seed=3, n=40)
    forward = [dataset[i][0].tobytes() for i in range(40)]
    backward = [dataset[i][0].tobytes() for i in reversed(range(40))][::-1]
    assert forward == backward
    longer = load_shapes(split="train", seed=3, n=50)
    assert [longer[i][0].tobytes() for i in range(40)] == forward
    picked = longer.subset([7, 2, 31])
    assert [picked[i][0].tobytes() for i in range(3)] == [forward[i] for i in (7, 2, 31)]
    assert len(set(forward)) == 40


def test_splits_and_seeds_differ():
    seen = [
        draw(seed, split, i).tobytes() for seed in (0, 1) for split in SPLITS for i in range(30)
    ]
    assert len(set(seen)) == len(seen)


@settings(max_examples=40)
@given(st.integers(0, 2**63 - 1), index)
def test_pairs_show_the_same_object(seed, i):
    clean = draw(seed, "test", i)
    assert (clean.mode, clean.size) == ("RGB", (SIDE, SIDE))
    assert draw(seed, "test", i, snow=0.0).tobytes() == clean.tobytes()
    labelled, blank = (draw(seed, "test", i, word=word) for word in ("disc", ""))
    assert np.array_equal(pixels(labelled)[:STRIP_TOP], pixels(clean)[:STRIP_TOP])
    assert np.array_equal(pixels(blank)[:STRIP_TOP], pixels(clean)[:STRIP_TOP])
    assert not np.array_equal(pixels(labelled)[STRIP_TOP:], pixels(blank)[STRIP_TOP:])
    snowy, both = draw(seed, "test", i, snow=1), draw(seed, "test", i, snow=1, word="disc")
    assert np.array_equal(pixels(both)[:STRIP_TOP], pixels(snowy)[:STRIP_TOP])
    assert snowy.tobytes() != clean.tobytes()


@settings(max_examples=100)
@given(st.integers(0, 100), index)
def test_a_conflicting_word_is_never_the_class(seed, i):
    assert written("conflict", seed, "test", i) in set(CLASSES) - {CLASSES[i % 10]}
    assert written("true", seed, "test", i) == CLASSES[i % 10]
    assert written("blank", seed, "test", i) == ""
    assert written("zebra", seed, "test", i) == "zebra"
    assert written(None, seed, "test", i) is None


def test_conflicts_and_random_words_use_every_class():
    for word, n in (("conflict", 9), ("random", 10)):
        for shape in range(10):
            words = {written(word, 0, "test", i) for i in range(shape, 2000, 10)}
            assert len(words) == n


def test_metadata_names_what_is_drawn():
    dataset = load_shapes(split="val", seed=0, n=400)
    table = dataset.metadata
    assert list(table["shape"]) == [dataset.classes[t] for t in dataset.targets]
    assert set(table["colour"]) == set(COLOURS)
    assert ((table["size"] == "big") == (table["radius"] >= 8.25)).all()
    # A big disc or box covers its inner circle with its colour, give or take the jitter of 18 a channel.
    for i in table.index[table["shape"].isin(["disc", "box"]) & (table["size"] == "big")]:
        found = pixels(dataset[i][0])
        near = np.abs(found - COLOURS[table["colour"][i]]).max(axis=-1) <= 20
        assert near.sum() > 0.8 * np.pi * (0.75 * table["radius"][i]) ** 2
        assert np.abs(found[near].mean(axis=0) - COLOURS[table["colour"][i]]).max() <= 19
    corners = np.array(
        [pixels(dataset[i][0])[[0, 0, -1, -1], [0, -1, 0, -1]].mean() for i in range(400)]
    )
    assert corners[table["tone"] == "light"].mean() > corners[table["tone"] == "dark"].mean() + 60


def test_metadata_follows_subsets_words_and_snow():
    dataset = load_shapes(split="test", seed=0, n=60, snow=True, word="conflict")
    table = dataset.metadata
    assert (table["snow"] == 1.0).all()
    assert (table["word"] != table["shape"]).all()
    picked = dataset.subset([5, 17])
    assert picked.metadata.equals(table.iloc[[5, 17]].reset_index(drop=True))


@pytest.mark.parametrize("n", [10, 200, 205, 7])
def test_classes_are_balanced(n):
    counts = np.bincount(load_shapes(split="train", seed=0, n=n).targets, minlength=10)
    assert counts.sum() == n
    assert counts.max() - counts.min() <= (n % 10 > 0)


def test_default_sizes():
    sizes = {split: len(load_shapes(split=split, seed=0)) for split in ("train", "val", "test")}
    assert sizes == {"train": 4000, "val": 1000, "test": 2000}


def test_fingerprint_follows_every_choice():
    base = {"split": "train", "seed": 0, "n": 20}
    changes = [
        {},
        {"seed": 1},
        {"split": "val"},
        {"n": 30},
        {"snow": 0.5},
        {"snow": 1},
        {"word": "true"},
        {"word": "blank"},
    ]
    prints = [load_shapes(**(base | change)).fingerprint for change in changes]
    assert len(set(prints)) == len(prints)
    assert prints[0] == load_shapes(**base).fingerprint
    dataset = load_shapes(**base)
    assert dataset.subset([0, 1]).fingerprint != dataset.subset([1, 0]).fingerprint


@pytest.mark.parametrize(
    ("change", "match"),
    [
        ({"n": 0}, "n=0"),
        ({"n": 2.5}, r"n=2\.5"),
        ({"snow": 2}, "snow=2"),
        ({"snow": float("nan")}, "snow=nan"),
        ({"snow": "much"}, "snow='much'"),
        ({"word": "thirteen-long"}, "12 letters"),
        ({"word": 5}, "12 letters"),
    ],
)
def test_errors_restate_the_argument(change, match):
    with pytest.raises(DatasetError, match=match):
        load_shapes(**({"split": "train", "seed": 0} | change))


@pytest.mark.parametrize("stream", [0, 1, 2])
def test_neighbouring_images_share_no_random_numbers(stream):
    draws = [shapes._rng(0, "train", i, stream).random(300) for i in range(4)]
    draws += [
        shapes._rng(0, "val", 0, stream).random(300),
        shapes._rng(1, "train", 0, stream).random(300),
    ]
    assert len(np.unique(np.concatenate(draws))) == 6 * 300
