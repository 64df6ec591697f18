import hashlib
import os
import pickle
import re
import shutil
import warnings
from pathlib import Path

import numpy as np
import pandas as pd
import pytest
from PIL import Image

from classvec_lab.datasets import load_dataset
from classvec_lab.errors import DatasetError

DATA = Path(__file__).resolve().parents[3] / "shared" / "data"
SPLITS = ("train", "val", "test")


@pytest.fixture(autouse=True)
def data(tmp_path, monkeypatch):
    monkeypatch.setenv("CLASSVEC_DATA", str(tmp_path / "data"))


def make(root, part, classes, names):
    """Images of random pixels, no two the same, at root/part/class/name."""
    for c in classes:
        for name in names:
            path = root / part / c / name
            path.parent.mkdir(parents=True, exist_ok=True)
            rng = np.random.default_rng(
                int(hashlib.sha256(path.relative_to(root).as_posix().encode()).hexdigest()[:12], 16)
            )
            Image.fromarray(rng.integers(0, 256, (4, 4, 3), dtype=np.uint8)).save(path)
    return root


NAMES = [f"{patient}_{i}.png" for patient in range(10) for i in range(4)]
LAYOUTS = {
    "plain": [""],
    "train": ["train"],
    "train, test": ["train", "test"],
    "train, val": ["train", "Validation"],
    "train, val, test": ["train", "valid", "test"],
}


def contents(dataset):
    return {dataset[i][0].tobytes() for i in range(len(dataset))}


@pytest.mark.parametrize("layout", LAYOUTS)
@pytest.mark.parametrize("group", [None, r"/(\d+)_"])
def test_no_image_and_no_group_leaks(tmp_path, layout, group):
    for k, part in enumerate(LAYOUTS[layout]):
        names = [f"{10 * k + int(n.partition('_')[0])}_{n.partition('_')[2]}" for n in NAMES]
        make(tmp_path / "set", part, ["cat", "dog"], names)
    parts = {
        split: load_dataset(tmp_path / "set", split=split, seed=0, group=group) for split in SPLITS
    }
    n_files = 80 * len(LAYOUTS[layout])
    assert sum(map(len, parts.values())) == n_files
    seen = [contents(part) for part in parts.values()]
    assert len(set().union(*seen)) == sum(map(len, seen)) == n_files
    if group:
        patients = [set(part.metadata["group"]) for part in parts.values()]
        assert len(set().union(*patients)) == sum(map(len, patients))
    for split, part in parts.items():
        assert part.classes == ("cat", "dog")
        assert part.split == split
        assert set(part.targets.tolist()) == {0, 1}
        assert [part.classes[t] for t in part.targets] == [
            f.split("/")[-2] for f in part.metadata["file"]
        ]
    share = {
        "plain": (0.2, 0.2),
        "train": (0.1, 0.2),
        "train, test": (0.1, 1),
        "train, val": (1, 0.2),
    }.get(layout, (1, 1))
    for split, fraction in zip(("val", "test"), share, strict=True):
        assert len(parts[split]) == pytest.approx(80 * fraction, abs=8 if group else 1)


def test_seed_decides_what_is_carved(tmp_path):
    make(tmp_path / "set", "", ["cat", "dog"], NAMES)
    one, same, other = (
        load_dataset(tmp_path / "set", split="train", seed=seed) for seed in (0, 0, 1)
    )
    assert (
        one.metadata["file"].tolist()
        == same.metadata["file"].tolist()
        != other.metadata["file"].tolist()
    )


def test_items(tmp_path):
    root = make(tmp_path / "set", "", ["cat", "dog"], NAMES)
    Image.new("RGBA", (3, 3), (9, 9, 9, 0)).save(root / "cat" / "clear.PNG")
    files = {}
    for split in SPLITS:
        dataset = load_dataset(root, split=split, seed=0)
        files |= {name: dataset[i] for i, name in enumerate(dataset.metadata["file"])}
    assert files["cat/clear.PNG"][0].getpixel((1, 1)) == (255, 255, 255)
    assert files["dog/3_1.png"][0].tobytes() == Image.open(root / "dog" / "3_1.png").tobytes()
    assert files["dog/3_1.png"][1] == 1


def test_classes_in_natural_order(tmp_path):
    numbers = make(tmp_path / "numbers", "train", map(str, range(9)), ["1.png", "2.png", "3.png"])
    assert load_dataset(numbers, split="train", seed=0).classes == tuple("012345678")
    make(tmp_path / "words", "", ["2", "10", "b", "A"], ["1.png", "2.png", "3.png"])
    assert load_dataset(tmp_path / "words", split="train", seed=0).classes == ("10", "2", "A", "b")


def test_hidden_and_foreign_files_are_ignored_and_sub_folders_count(tmp_path):
    root = make(tmp_path / "set", "train", ["cat", "dog"], [*NAMES, "more/deep/a.JPEG"])
    make(root, "test", ["cat"], ["1.png"])
    make(root, "train", [".ipynb_checkpoints", "cat/.hidden"], ["1.png"])
    shutil.copy(root / "train/cat/0_0.png", root / "train/cat/._0_0.png")
    (root / "train" / "cat" / "notes.txt").write_text("hello")
    (root / "train" / "cat" / "named like an image.png").mkdir()
    with pytest.warns(UserWarning, match="set: test has no image of dog, so that nothing can be"):
        datasets = [load_dataset(root, split=split, seed=0) for split in SPLITS]
    files = pd.concat([d.metadata["file"] for d in datasets]).tolist()
    assert len(files) == 2 * (len(NAMES) + 1) + 1
    assert "train/dog/more/deep/a.JPEG" in files
    assert len(datasets[2]) == 1  # a class may be missing in test


def test_a_class_called_train(tmp_path):
    root = make(tmp_path / "vehicles", "", ["bus", "car", "train"], ["1.png", "2.png", "3.png"])
    assert load_dataset(root, split="train", seed=0).classes == ("bus", "car", "train")


def test_folders_that_are_not_understood(tmp_path):
    def failing(root, match):
        with pytest.raises(DatasetError, match=match):
            load_dataset(root, split="train", seed=0)

    failing(tmp_path / "gone", r"gone does not exist. Understood are: one folder per class.*train/")
    (tmp_path / "file.txt").write_text("x")
    failing(tmp_path / "file.txt", r"file\.txt is a file. Understood")
    (tmp_path / "empty").mkdir()
    failing(tmp_path / "empty", r"no images in class folders under .*empty. Understood")
    make(tmp_path, "flat", [""], ["1.png", "2.png"])
    failing(tmp_path / "flat", r"flat \(2 lie outside of any\)")
    make(tmp_path / "loose", "", ["train", "test"], ["1.png", "2.png"])
    failing(tmp_path / "loose", r"under .*test \(2 lie outside of any\)")
    make(tmp_path / "headless", "test", ["cat"], ["1.png"])
    failing(tmp_path / "headless", r"has test/ but no train/")
    make(tmp_path / "nested", "2750", ["cat", "dog"], ["1.png"])
    failing(tmp_path / "nested", r"if these are the classes, load .*2750$")
    make(tmp_path / "two", "train", ["cat"], ["1.png"])
    make(tmp_path / "two", "val", ["cat"], ["1.png"])
    make(tmp_path / "two", "valid", ["cat"], ["1.png"])
    failing(tmp_path / "two", r"two val folders, val/ and valid/")
    make(tmp_path / "hollow", "", ["cat", "dog"], ["1.png"])
    (tmp_path / "hollow" / "eel").mkdir()
    failing(tmp_path / "hollow", r"class folder .*hollow/eel holds no images")
    make(tmp_path / "unknown", "train", ["cat", "dog"], ["1.png"])
    make(tmp_path / "unknown", "test", ["cat", "eel"], ["1.png"])
    failing(tmp_path / "unknown", r"test/eel is no class of .*train, which has cat, dog")
    make(tmp_path / "tiny", "", ["cat", "dog"], ["1.png"])
    failing(
        tmp_path / "tiny",
        r"tiny: can't carve out train: too few images to hold some out: 2 for 2 cl",
    )


def test_metadata_is_joined_by_file_and_names_groups(tmp_path):
    root = make(tmp_path / "set", "", ["cat", "dog"], NAMES)
    files = [f"{c}/{name}" for c in ("cat", "dog") for name in NAMES]
    table = pd.DataFrame(
        {"file": files, "age": range(len(files)), "site": [f"0{Path(f).name[0]}" for f in files]}
    )
    table.sample(frac=1, random_state=0).iloc[1:].to_csv(root / "metadata.csv", index=False)
    absent = table.sample(frac=1, random_state=0)["file"].iloc[0]
    whole = {}
    for split in SPLITS:
        metadata = load_dataset(root, split=split, seed=0).metadata
        assert list(metadata.columns) == ["file", "age", "site"]
        assert metadata["age"].dtype.kind in "if"
        whole |= metadata.set_index("file")["age"].to_dict()
    assert np.isnan(whole.pop(absent))
    assert all(files[int(age)] == name for name, age in whole.items())
    with pytest.raises(DatasetError, match=rf"the metadata gives no 'site' for {absent} \(1 of 80"):
        load_dataset(root, split="train", seed=0, group="site")
    table.to_csv(root / "metadata.csv", index=False)
    parts = [load_dataset(root, split=split, seed=0, group="site").metadata for split in SPLITS]
    assert set(parts[0]["group"]) <= {f"0{i}" for i in range(10)}  # "00" stays text
    seen = [set(part["group"]) for part in parts]
    assert len(set().union(*seen)) == sum(map(len, seen)) == 10


def test_metadata_that_is_not_understood(tmp_path):
    root = make(tmp_path / "set", "", ["cat", "dog"], NAMES)
    for text, match in (
        ("name,age\ncat/0_0.png,3\n", r"needs a column 'file' .*it has name, age"),
        ("file,age\ncat/0_0.png,3\n./cat\\0_0.png,4\n", r"lists cat/0_0\.png twice"),
        ("", r"can't read .*metadata\.csv"),
        ("file,age\n1,2,3\n4,5,6,7\n", r"can't read .*metadata\.csv"),
    ):
        (root / "metadata.csv").write_text(text)
        with pytest.raises(DatasetError, match=match):
            load_dataset(root, split="train", seed=0)


@pytest.mark.parametrize(
    ("group", "match"),
    [
        (
            "patient",
            r"group='patient' is no column \(columns of the metadata: none\), .* exactly one capture group.*: it has 0",
        ),
        (r"(\d)_(\d)", "it has 2"),
        (r"(\d", "exactly one capture group.* unterminated subpattern"),
        (r"^train/(\d+)", r"finds nothing in cat/0_0\.png \(80 of 80 images\)"),
        (r"(1)?_", r"finds nothing in cat/0_0\.png"),
    ],
)
def test_group_that_is_not_understood(tmp_path, group, match):
    root = make(tmp_path / "set", "", ["cat", "dog"], NAMES)
    with pytest.raises(DatasetError, match=match):
        load_dataset(root, split="train", seed=0, group=group)


def test_too_few_groups(tmp_path):
    root = make(tmp_path / "set", "", ["cat", "dog"], NAMES[:8])
    with pytest.raises(DatasetError, match="there are 2, and 3 are needed"):
        load_dataset(root, split="test", seed=0, group=r"/(\d+)_")


def test_shared_groups_are_warned_of(tmp_path):
    root = make(tmp_path / "set", "train", ["cat", "dog"], NAMES)
    make(root, "test", ["cat", "dog"], NAMES[:8])
    with pytest.warns(
        UserWarning,
        match=r"train and test share 2 groups of group='/\(\\\\d\+\)_', for "
        r"example '0' \(train/cat/0_0.png and test/cat/0_0.png\)\. If .* look better",
    ):
        load_dataset(root, split="test", seed=0, group=r"/(\d+)_")
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        load_dataset(root, split="test", seed=0)


@pytest.mark.filterwarnings("ignore:set. test has no image of dog")
def test_names_that_restart_in_each_class(tmp_path):
    """Equal names are one group across classes, unless the pattern takes the class in."""
    root = make(tmp_path / "set", "train", ["cat", "dog"], NAMES[:20])
    make(root, "test", ["cat"], [f"9_{i}.png" for i in range(4)])
    make(root, "train", ["dog"], ["9_0.png"])
    with pytest.warns(UserWarning, match="names restart in each class") as told:
        load_dataset(root, split="val", seed=0, group=r"/(\d+)_")
    (text,) = {str(warning.message) for warning in told}
    assert "train and test share 1 group of group=" in text
    assert "'9' (train/dog/9_0.png and test/cat/9_0.png)" in text
    within = re.search("as in group='(.+)'", text)[1]
    kinds = {}
    for split in SPLITS:  # no warning
        metadata = load_dataset(root, split=split, seed=0, group=within).metadata
        kinds[split] = set(metadata["group"])
        folders = metadata["file"].str.extract(r"/([^/]+)/(\d+)_")
        assert (metadata["group"] == folders[0] + "/" + folders[1]).all()
    assert sum(map(len, kinds.values())) == 12


@pytest.mark.filterwarnings("ignore:set. test has no image of dog")
def test_a_shared_group_of_a_column_is_not_blamed_on_a_pattern(tmp_path):
    root = make(tmp_path / "set", "train", ["cat", "dog"], NAMES[:12])
    make(root, "test", ["cat"], ["3_0.png"])
    files = sorted(p.relative_to(root).as_posix() for p in root.rglob("*.png"))
    patients = [Path(file).name[0].replace("3", "1") for file in files]
    pd.DataFrame({"file": files, "patient": patients}).to_csv(root / "metadata.csv", index=False)
    with pytest.warns(UserWarning, match=r"share 1 group of group='patient', .* than they are\.$"):
        load_dataset(root, split="test", seed=0, group="patient")


def test_fingerprint_follows_bytes_not_places(tmp_path):
    root = make(tmp_path / "set", "", ["cat", "dog"], NAMES[:12])
    before = {split: load_dataset(root, split=split, seed=0).fingerprint for split in SPLITS}
    assert len(set(before.values())) == 3
    copy = shutil.copytree(root, tmp_path / "elsewhere" / "copy")
    assert {
        split: load_dataset(copy, split=split, seed=0).fingerprint for split in SPLITS
    } == before
    victim = load_dataset(root, split="val", seed=0).metadata["file"][0]
    data = bytearray((root / victim).read_bytes())
    data[-20] ^= 1  # the size stays
    (root / victim).write_bytes(data)
    after = {split: load_dataset(root, split=split, seed=0).fingerprint for split in SPLITS}
    assert [split for split in SPLITS if after[split] != before[split]] == ["val"]
    os.rename(root / victim, (root / victim).with_name("renamed.png"))
    assert load_dataset(root, split="train", seed=0).fingerprint


def test_fingerprint_names_an_unreadable_file(tmp_path):
    root = make(tmp_path / "set", "", ["cat", "dog"], NAMES[:12])
    dataset = load_dataset(root, split="train", seed=0)
    name = dataset.metadata["file"][3]
    (root / name).write_bytes(b"no image")
    with pytest.raises(DatasetError, match=f"{name}: not an image"):
        _ = dataset.fingerprint
    with pytest.raises(DatasetError, match=f"{name}: not an image"):
        dataset[3]


def test_can_be_sent_to_another_process(tmp_path):
    root = make(tmp_path / "set", "", ["cat", "dog"], NAMES[:12])
    dataset = load_dataset(root, split="train", seed=0)
    assert pickle.loads(pickle.dumps(dataset))[2][0].tobytes() == dataset[2][0].tobytes()


def test_linked_folders_count(tmp_path):
    real = make(tmp_path / "real", "", ["cat"], NAMES[:8])
    root = make(tmp_path / "set", "", ["dog"], NAMES[:8])
    (root / "cat").symlink_to(real / "cat", target_is_directory=True)
    dataset = load_dataset(root, split="train", seed=0)
    assert dataset.classes == ("cat", "dog")
    assert dataset[0][0].size == (4, 4)


@pytest.mark.real
@pytest.mark.skipif(
    not (DATA / "mnist").is_dir(), reason="real images are not beside the repository"
)
def test_real_mnist():
    train, val, test = (load_dataset(DATA / "mnist", split=split, seed=0) for split in SPLITS)
    assert [len(train), len(val), len(test)] == [2700, 300, 2000]
    assert train.classes == tuple("0123456789")
    assert (np.bincount(val.targets) == 30).all()
    assert not set(train.metadata["file"]) & set(val.metadata["file"])
    assert val[7][0].size == (28, 28)
    assert val.fingerprint == load_dataset(DATA / "mnist", split="val", seed=0).fingerprint


@pytest.mark.real
@pytest.mark.skipif(
    not (DATA / "eurosat").is_dir(), reason="real images are not beside the repository"
)
def test_real_eurosat():
    train, val, test = (load_dataset(DATA / "eurosat", split=split, seed=0) for split in SPLITS)
    assert [len(train), len(val), len(test)] == [60, 20, 20]
    assert train.classes[0] == "AnnualCrop"
    assert all(test[i][0].size == (64, 64) for i in range(len(test)))
