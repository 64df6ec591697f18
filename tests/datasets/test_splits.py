from itertools import product

import numpy as np
import pytest
from conftest import coloured
from hypothesis import assume, example, given, settings
from hypothesis import strategies as st

from classvec_lab.datasets.splits import carve, external_samples, hold_out, stratified_sample
from classvec_lab.errors import DatasetError

labels = st.lists(st.integers(0, 5), min_size=1, max_size=80)
seeds = st.integers(0, 2**40)


@settings(max_examples=60)
@given(labels, st.integers(1, 90), seeds)
def test_sample(targets, n, seed):
    targets = np.array(targets)
    chosen = stratified_sample(targets, n, seed)
    assert len(chosen) == min(n, len(targets))
    assert (np.diff(chosen) > 0).all()
    classes, counts = np.unique(targets, return_counts=True)
    share = np.array([(targets[chosen] == c).sum() for c in classes])
    if n >= len(classes):
        assert (share >= 1).all()
        if (n * counts >= len(targets)).all():  # no class was lifted to one image
            assert (np.abs(share - len(chosen) * counts / len(targets)) < 1).all()
    assert np.array_equal(chosen, stratified_sample(targets, n, seed))


def test_sample_is_seeded_and_balanced():
    targets = np.arange(1000) % 10
    one, other = stratified_sample(targets, 100, 0), stratified_sample(targets, 100, 1)
    assert not np.array_equal(one, other)
    assert (np.bincount(targets[one]) == 10).all()
    assert set(one) <= set(stratified_sample(targets, 200, 0))  # a larger limit adds images


def test_rare_classes_get_one_image_each():
    targets = np.array([0] * 100 + [1, 2, 3])
    assert np.bincount(targets[stratified_sample(targets, 10, 0)]).tolist() == [7, 1, 1, 1]


@settings(max_examples=60)
@given(st.lists(st.integers(0, 5), min_size=2, max_size=80), st.floats(0.02, 0.98), seeds)
def test_hold_out(targets, fraction, seed):
    targets = np.array(targets)
    counts = np.bincount(targets)
    if counts.max() < 2:
        with pytest.raises(DatasetError, match="at least 2"):
            hold_out(targets, fraction, seed)
        return
    kept, held = hold_out(targets, fraction, seed)
    assert np.array_equal(np.sort(np.concatenate([kept, held])), np.arange(len(targets)))
    held_counts = np.bincount(targets[held], minlength=len(counts))
    several = counts >= 2
    assert (held_counts[several] >= 1).all()
    assert (held_counts[several] < counts[several]).all()
    assert (held_counts[~several] == 0).all()
    room = round(fraction * len(targets))
    assert len(held) == np.clip(room, several.sum(), (counts - 1)[several].sum())


@settings(max_examples=60)
@given(
    st.lists(st.tuples(st.integers(0, 3), st.integers(0, 12)), min_size=2, max_size=80),
    st.floats(0.05, 0.6),
    seeds,
)
def test_hold_out_by_group(pairs, fraction, seed):
    targets, codes = (np.array(column) for column in zip(*pairs, strict=True))
    groups = [
        ("patient", int(code)) for code in codes
    ]  # hashable, not sortable with everything, no number
    owners = {c: set(codes[targets == c]) for c in set(targets.tolist())}
    alone = {next(iter(o)) for o in owners.values() if len(o) == 1}
    if set(codes.tolist()) <= alone:
        with pytest.raises(
            DatasetError, match=r"too few groups to hold one out: \d+ for .*at least 2"
        ):
            hold_out(targets, fraction, seed, groups)
        return
    kept, held = hold_out(targets, fraction, seed, groups)
    assert np.array_equal(np.sort(np.concatenate([kept, held])), np.arange(len(targets)))
    assert len(held)
    assert not set(codes[kept]) & set(codes[held])
    assert set(targets[kept]) == set(targets)
    again = hold_out(targets, fraction, seed, groups)
    assert np.array_equal(held, again[1])


grouped = st.lists(  # one list a class: the sizes of its groups
    st.lists(st.integers(1, 9), min_size=1, max_size=6), min_size=1, max_size=5
).filter(lambda sizes: max(map(len, sizes)) >= 3)


@settings(max_examples=60)
@given(grouped, seeds, st.sampled_from([(), ("test",), ("val",)]))
def test_each_class_with_enough_groups_is_in_every_carved_part(sizes, seed, given):
    targets = np.repeat(range(len(sizes)), [sum(own) for own in sizes])
    names = [f"{c}/{g}" for c, own in enumerate(sizes) for g, n in enumerate(own) for _ in range(n)]
    split = [s for s in ("test", "val", "train") if s not in given]  # in the order of being served
    parts = {s: carve(targets, s, seed, given=given, groups=names) for s in split}
    held = {s: {names[i] for i in part} for s, part in parts.items()}
    assert sum(map(len, held.values())) == len(set(names))
    for c, own in enumerate(sizes):
        n = {s: sum(name.startswith(f"{c}/") for name in found) for s, found in held.items()}
        assert [s for s in split if n[s]] == [*split[:-1][: len(own) - 1], "train"]


@settings(max_examples=200)
@given(
    st.lists(st.lists(st.integers(0, 9), min_size=3, max_size=3), min_size=2, max_size=8),
    st.floats(0.05, 0.6),
    st.integers(1, 2),
    seeds,
)
@example([[0, 1, 1], [1, 2, 0], [3, 3, 1]], 0.5, 2, 0)  # three groups change sides at once
def test_as_many_classes_are_on_both_sides_as_can_be(sizes, fraction, leave, seed):
    sizes = np.array(sizes)
    sizes = sizes[sizes.any(axis=1)][:, sizes.any(axis=0)]
    assume(sizes.size)
    groups, labels = np.repeat(np.argwhere(sizes >= 0), sizes.ravel(), axis=0).T
    some, of = sizes > 0, (sizes > 0).sum(axis=0)
    most = -1
    for mask in product([False, True], repeat=len(sizes)):
        held = some[np.array(mask)].sum(axis=0)
        kept = of - held
        if any(mask) and (kept > 0).all():
            served = (held > 0) & (kept >= np.minimum(leave, of - 1))
            most = max(most, served.sum())
    if most < 0:
        with pytest.raises(DatasetError, match="too few groups"):
            hold_out(labels, fraction, seed, groups, leave=leave)
        return
    parts = hold_out(labels, fraction, seed, groups, leave=leave)
    kept, held = (some[np.unique(groups[part])].sum(axis=0) for part in parts)
    assert (kept > 0).all()
    assert ((held > 0) & (kept >= np.minimum(leave, of - 1))).sum() == most


@pytest.mark.parametrize("mixed", [False, True])
@pytest.mark.parametrize("n_groups", [30, 300])
def test_uneven_groups_are_held_in_proportion(n_groups, mixed):
    for seed in range(10):
        rng = np.random.default_rng(seed)
        large = rng.random(n_groups) < 0.1
        codes = np.repeat(np.arange(n_groups), 1 + rng.poisson(20 * (1 + 5 * large)))
        targets = (codes + mixed * rng.integers(0, 2, len(codes))) % 3
        for fraction in (0.1, 0.2):
            held = hold_out(targets, fraction, seed, codes)[1]
            assert len(held) == pytest.approx(fraction * len(codes), rel=0.05)
            share = np.bincount(targets[held]) / np.bincount(targets)
            assert share == pytest.approx(fraction, abs=0.03)


def test_groups_of_equal_size_are_held_in_proportion():
    codes = np.arange(1000) // 10
    targets = codes % 5
    for fraction in (0.1, 0.2, 0.5, 0.8):
        kept, held = hold_out(targets, fraction, 3, codes)
        assert abs(len(held) - 1000 * fraction) <= 10
        assert (np.bincount(targets[held]) > 0).all()
        assert not set(codes[kept]) & set(codes[held])
    assert not np.array_equal(held, hold_out(targets, 0.8, 4, codes)[1])


def test_groups_that_cannot_be_parted():
    with pytest.raises(DatasetError, match="too few groups to hold one out: 1 for 2 classes"):
        hold_out([0, 0, 1], 0.2, 0, ["a", "a", "a"])
    with pytest.raises(DatasetError, match="too few groups to hold one out: 2 for 2 classes"):
        hold_out([0, 0, 1], 0.2, 0, ["a", "a", "b"])


@pytest.mark.parametrize(
    "given", [(), ("train",), ("train", "val"), ("train", "test"), ("train", "val", "test")]
)
@pytest.mark.parametrize("grouped", [False, True])
def test_carved_parts_are_disjoint_and_together_everything(given, grouped):
    targets = np.arange(600) % 4
    groups = [f"g{i // 8}" for i in range(600)] if grouped else None
    expected = [
        split for split in ("train", "val", "test") if split == "train" or split not in given
    ]
    parts = {split: carve(targets, split, 0, given=given, groups=groups) for split in expected}
    assert np.array_equal(np.sort(np.concatenate(list(parts.values()))), np.arange(600))
    share = {"test": 0.2, "val": 0.1 if given else 0.2}
    for split in expected[1:]:
        assert len(parts[split]) == pytest.approx(600 * share[split], abs=20 if grouped else 0.5)
        assert len(set(targets[parts[split]])) == 4
    if grouped:
        seen = [{groups[i] for i in part} for part in parts.values()]
        assert sum(map(len, seen)) == len(set().union(*seen))


def test_a_carved_val_has_at_most_5000_images():
    assert len(carve(np.arange(80_000) % 2, "val", 0, given=("train", "test"))) == 5000


def test_too_few_groups_for_three_parts():
    with pytest.raises(DatasetError, match="there are 2, and 3 are needed"):
        carve([0, 1] * 10, "train", 0, groups=["a", "b"] * 10)


def test_external_samples_are_so_many_a_class_drawn_by_seed_and_apart():
    data = coloured(30)
    one, same, other = (external_samples(data, 4, seed=s) for s in (0, 0, 1))
    assert one.counts.tolist() == [4, 4, 4]
    assert one.indices.tolist() == same.indices.tolist() != other.indices.tolist()
    rest = data.subset(np.setdiff1d(np.arange(30), one.indices))
    external_samples(one, 2, seed=0, apart_from=rest)
    with pytest.raises(DatasetError, match="12 of the external samples are images of train"):
        external_samples(one, 4, seed=0, apart_from=data)
    with pytest.raises(DatasetError, match="train has fewer than 11 images of red, green, blue"):
        external_samples(data, 11, seed=0)
    for wrong in (0, 2.0, True):
        with pytest.raises(DatasetError, match="n must be an integer >= 1"):
            external_samples(data, wrong, seed=0)
