"""Data sets of the package `datasets`: columns and names found, splits by any name, no network."""

import sys

import numpy as np
import pytest
from PIL import Image

from classvec_lab.datasets import load_dataset
from classvec_lab.errors import DatasetError

hub = pytest.importorskip("datasets")

NAMES = ["cat", "dog"]
SPLITS = ("train", "val", "test")


@pytest.fixture(autouse=True, scope="module")
def offline():
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(hub.config, "HF_HUB_OFFLINE", True)
        hub.disable_progress_bars()
        yield


def rows(n, seed=0, **columns):
    rng = np.random.default_rng(seed)
    images = [Image.fromarray(rng.integers(0, 256, (5, 6, 3), dtype=np.uint8)) for _ in range(n)]
    kinds = {"picture": hub.Image(), "animal": hub.ClassLabel(names=NAMES)}
    kinds |= {name: hub.Value("string") for name in columns}
    made = {"picture": images, "animal": [i % 2 for i in range(n)], **columns}
    return hub.Dataset.from_dict(made, hub.Features(kinds)), images


def same(data, images):
    return all(
        image.tobytes() == images[i].tobytes()
        for (image, _), i in zip(data, data.indices, strict=True)
    )


def test_a_saved_set_is_cut(tmp_path):
    patients = [f"p{i // 2}" for i in range(20)]
    made, images = rows(20, patient=patients)
    made.save_to_disk(tmp_path / "saved")
    for source in (tmp_path / "saved", str(tmp_path / "saved"), f"hf:{tmp_path / 'saved'}", made):
        parts = [load_dataset(source, split=split, group="patient") for split in SPLITS]
        assert sum(map(len, parts)) == 20
        assert sum(len(set(part.metadata["patient"])) for part in parts) == 10
        for part in parts:
            assert part.classes == ("cat", "dog")
            assert part.targets.tolist() == [i % 2 for i in part.indices]
            assert same(part, images)
            assert list(part.metadata) == ["patient", "group"]
    other, _ = rows(20, seed=1)
    assert load_dataset(other, split="test").fingerprint != parts[2].fingerprint


def test_its_own_splits_by_any_name(tmp_path):
    (train, _), (valid, images) = rows(20), rows(6, seed=1)
    (test, _), (extra, _) = rows(4, seed=2), rows(2, seed=3)
    made = hub.DatasetDict(train=train, validation=valid, testing=test, unlabelled=extra)
    made.save_to_disk(tmp_path / "dict")
    with pytest.warns(UserWarning, match="unlabelled left out, no name of a split as train, valid"):
        parts = [load_dataset(tmp_path / "dict", split=split) for split in SPLITS]
    assert [len(part) for part in parts] == [20, 6, 4]
    for (image, target), i in zip(parts[1], range(6), strict=True):
        assert (image.tobytes(), target) == (images[i].tobytes(), i % 2)
    two = hub.DatasetDict(train=train, test=test)
    assert [len(load_dataset(two, split=split)) for split in SPLITS] == [18, 2, 4]
    with pytest.raises(DatasetError, match="holds a, b, not only names of splits with train"):
        load_dataset(hub.DatasetDict(a=train, b=test), split="train")


@pytest.mark.parametrize("none", [-1, None])
def test_a_split_without_labels_is_left_out_and_cut(none):
    """As the test splits of competitions are: what is cut is what a set without it would have."""
    train, images = rows(20)
    blank, _ = rows(6, seed=1)
    blank = blank.remove_columns("animal").add_column(
        "animal", [none] * 6, feature=blank.features["animal"]
    )
    whole = hub.DatasetDict(train=train, test=blank)
    with pytest.warns(UserWarning, match="test left out, where no image has a class; train gives"):
        parts = [load_dataset(whole, split=split) for split in SPLITS]
    expected = [load_dataset(hub.DatasetDict(train=train), split=split) for split in SPLITS]
    for part, other in zip(parts, expected, strict=True):
        assert part.fingerprint == other.fingerprint
        assert same(part, images)
    with pytest.raises(DatasetError, match="labels -1 are none of the 2 classes cat, dog"):
        load_dataset(hub.DatasetDict(train=blank, test=train), split="train")


def test_columns_are_found_or_named():
    made, _ = rows(12, label=["x", "y", "z"] * 4)
    assert load_dataset(made, split="train").classes == ("cat", "dog")
    assert load_dataset(made, split="train", label="label").classes == ("x", "y", "z")
    two = made.add_column("fine", [i % 4 for i in range(12)]).cast_column(
        "fine", hub.ClassLabel(num_classes=4)
    )
    assert load_dataset(two, split="train", label="fine").classes == ("0", "1", "2", "3")
    for data, options, said in (
        (
            made,
            {"label": "kind"},
            "0 columns for label='kind'; say label=COLUMN, one of animal, la",
        ),
        (made, {"path": "animal"}, "path='animal' is no one of its columns of images, picture"),
        (made.remove_columns("picture"), {}, "path=None is no one of its columns of images, none"),
        (two.remove_columns("label"), {}, "0 columns for label=None; say label=COLUMN, one of an"),
        (made, {"snow": 1}, "Dataset has no option snow; it takes config, group, label, path"),
    ):
        with pytest.raises(DatasetError, match=said):
            load_dataset(data, split="train", **options)


def test_what_is_not_there_is_told_with_a_way_out(tmp_path):
    with pytest.raises(DatasetError, match=r"hf:no/such_set can't be loaded \(.*save_to_disk"):
        load_dataset("hf:no/such_set", split="train")
    (tmp_path / "empty").mkdir()
    with pytest.raises(DatasetError, match=r"hf:.*empty can't be loaded"):
        load_dataset(f"hf:{tmp_path / 'empty'}", split="train")


def test_without_the_package_the_extra_is_named(monkeypatch):
    monkeypatch.setitem(sys.modules, "datasets", None)
    with pytest.raises(DatasetError, match=r"needs datasets: pip install 'classvec_lab\[hf\]'"):
        load_dataset("hf:cifar10", split="train")
