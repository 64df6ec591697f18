"""Patches of photographs: real, disjoint, whole blocks in one split, and every class in each."""

import numpy as np
import pytest

from classvec_lab import load_dataset
from classvec_lab.datasets.photographs import _patches
from classvec_lab.errors import DatasetError
from classvec_lab.files import builtin_dir

SPLITS = ("train", "val", "test")


@pytest.mark.parametrize("turns", [1, 2, 4])
def test_splits_part_no_block_and_hold_every_class(turns):
    _, targets, names, blocks = _patches()
    parts = {s: load_dataset("photographs", split=s, turns=turns) for s in SPLITS}
    kept = np.concatenate([d.indices for d in parts.values()])
    assert sorted(kept) == list(range(turns * len(targets)))
    seen = [set(blocks[d.indices % len(targets)]) for d in parts.values()]
    assert len(set().union(*seen)) == sum(map(len, seen))
    for data in parts.values():
        assert len(data.classes) == len(set(data.classes)) == turns * len(names)
        assert set(data.targets) == set(range(turns * len(names)))
    shares = [len(parts[s]) / len(kept) for s in SPLITS]
    np.testing.assert_allclose(shares, [0.6, 0.2, 0.2], atol=0.05)


def test_items_are_the_photographs_pixels():
    data = load_dataset("photographs", split="train")
    image, label = data[0]
    assert (image.size, image.mode) == ((32, 32), "RGB")
    patches, targets, names, _ = _patches()
    np.testing.assert_array_equal(np.asarray(image)[..., 0], patches[data.indices[0]])
    assert label == targets[data.indices[0]]
    assert data.classes == names


def test_turns_turn():
    upright, turned = (load_dataset("photographs", split="test", turns=t) for t in (1, 3))
    where = {int(i): k for k, i in enumerate(turned.indices)}
    first, n = int(turned.indices[0]), len(_patches()[1])
    for turn in (1, 2):
        image, label = turned[where[first + turn * n]]
        np.testing.assert_array_equal(
            np.asarray(image), np.rot90(np.asarray(turned[where[first]][0]), turn)
        )
        assert turned.classes[label].endswith(f" {90 * turn}°")
    assert upright.fingerprint != turned.fingerprint
    with pytest.raises(DatasetError, match="1 to 4 turns; got turns=5"):
        load_dataset("photographs", split="test", turns=5)


def test_they_are_small_and_their_sources_are_told():
    folder = builtin_dir("photographs")
    files = sorted(folder.glob("*.png"))
    assert sum(f.stat().st_size for f in files) < 3_000_000
    told = (folder / "README.md").read_text(encoding="utf-8")
    for file in files:
        assert f"`{file.name}`" in told
