"""Tables of paths and labels, and archives of arrays: columns found or named, nothing lost."""

import sys

import numpy as np
import pandas as pd
import pytest
from PIL import Image

from classvec_lab.datasets import load_dataset
from classvec_lab.errors import DatasetError

SPLITS = ("train", "val", "test")
N = 24


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    """Images 0.png … 23.png of noise below images/."""
    root = tmp_path_factory.mktemp("tables")
    (root / "images").mkdir()
    for i in range(N):
        pixels = np.random.default_rng(i).integers(0, 256, (4, 4, 3), dtype=np.uint8)
        Image.fromarray(pixels).save(root / "images" / f"{i}.png")
    return root


def frame(**columns):
    """Paths, labels that alternate, and more columns."""
    paths = [f"images/{i}.png" for i in range(N)]
    return pd.DataFrame({"path": paths, "label": ["cat", "dog"] * (N // 2), **columns})


def saved(folder, table, name="table.csv", **how):
    table.to_csv(folder / name, index=False, **how)
    return folder / name


def parts(source, **options):
    return [load_dataset(source, split=split, **options) for split in SPLITS]


def right(data):
    """Whether each image is its file's, under the label of its row."""
    for (image, target), file in zip(data, data.metadata["file"], strict=True):
        i = int(file.split("/")[-1].partition(".")[0])
        pixels = np.random.default_rng(i).integers(0, 256, (4, 4, 3), dtype=np.uint8)
        assert (np.asarray(image) == pixels).all()
        assert target == i % 2
    return True


@pytest.mark.parametrize(
    ("name", "names", "how"),
    [
        ("a.csv", {}, {}),
        ("b.csv", {"path": "File Name", "label": "Class"}, {"sep": ";"}),
        ("c.tsv", {"path": "image_path", "label": "target"}, {"sep": "\t"}),
        ("d.csv", {"path": "filepath", "label": "category"}, {"encoding": "utf-8-sig"}),
        ("e.parquet", {"path": "img", "label": "y"}, None),
    ],
)
def test_a_table_with_usual_names(folder, name, names, how):
    table = frame(age=range(N)).rename(columns=names)
    if how is None:
        pytest.importorskip("pyarrow")
        table.to_parquet(folder / name)
    else:
        saved(folder, table, name, **how)
    train, val, test = parts(folder / name)
    assert [len(train), len(val), len(test)] == [14, 5, 5]
    assert train.classes == ("cat", "dog")
    assert train.name == name
    assert all(map(right, (train, val, test)))
    ages = pd.concat([part.metadata["age"] for part in (train, val, test)])
    assert sorted(ages) == list(range(N))
    files = {file for part in (train, val, test) for file in part.metadata["file"]}
    assert len(files) == N


def test_columns_by_option_and_a_root_elsewhere(folder, tmp_path):
    table = frame(size=range(N)).rename(columns={"path": "where", "label": "what"})
    table["where"] = table["where"].str.removeprefix("images/")
    source = saved(tmp_path, table)
    options = {"path": "where", "label": "what", "root": str(folder / "images")}
    assert right(load_dataset(source, split="train", **options))
    with pytest.raises(DatasetError, match="0 columns for path=None; say path=COLUMN, one of wh"):
        load_dataset(source, split="train")
    with pytest.raises(DatasetError, match=r"24 of 24 files of its column 'where' aren't below .*"):
        load_dataset(source, split="train", path="where", label="what")
    with pytest.raises(DatasetError, match=r"0 columns for label='kind'; say label=COLUMN, one of"):
        load_dataset(source, split="train", **options | {"label": "kind"})
    with pytest.raises(DatasetError, match="has no option colour; it takes group, label, path, ro"):
        load_dataset(source, split="train", colour="red")


def test_ready_made_splits_and_missing_ones(folder):
    split = ["Training"] * 14 + ["valid"] * 4 + ["TEST"] * 6
    train, val, test = parts(saved(folder, frame(Split=split)))
    assert [len(train), len(val), len(test)] == [14, 4, 6]
    assert test.metadata["file"].tolist() == [f"images/{i}.png" for i in range(18, 24)]
    two = saved(folder, frame(fold=["train"] * 16 + ["test"] * 8))
    assert list(map(len, parts(two, split_column="fold"))) == [14, 2, 8]
    assert list(map(len, parts(two))) == [14, 5, 5]
    odd = saved(folder, frame(set=["train", "extra"] * 12))
    with pytest.raises(DatasetError, match="the column 'set' holds train, extra, not only names"):
        load_dataset(odd, split="train")
    assert list(map(len, parts(odd, split_column=""))) == [14, 5, 5]
    with pytest.raises(DatasetError, match="holds 1, 2, not only"):
        load_dataset(saved(folder, frame(subset=[1, 2] * 12)), split="train")


def test_groups_by_column_and_by_pattern(folder):
    patients = [f"p{i // 3}" for i in range(N)]
    source = saved(folder, frame(patient=patients))
    for group in ("patient", r"/(\d+)\."):
        seen = [set(part.metadata["group"]) for part in parts(source, group=group)]
        assert len(set().union(*seen)) == sum(map(len, seen))
    source = saved(folder, frame(patient=patients, split=["train", "train", "test", "test"] * 6))
    with pytest.warns(
        UserWarning, match=r"table.csv: train and test share 8 groups .*images/0.png and images/2"
    ):
        load_dataset(source, split="test", group="patient")


def test_text_is_read_as_it_stands(folder):
    """ "NA" and "007" are names of classes, and blanks beside them are no part of them."""
    source = saved(folder, frame().assign(label=["007", "NA"] * 12))
    assert load_dataset(source, split="train").classes == ("007", "NA")
    lines = [f"images/{i}.png , {'None' if i % 2 else 'null'}" for i in range(N)]
    (folder / "spaced.csv").write_text("\n".join(["path, label", *lines]))
    assert load_dataset(folder / "spaced.csv", split="train").classes == ("None", "null")


def test_numbers_as_labels(folder):
    plain = load_dataset(saved(folder, frame().assign(label=[0, 1] * 12)), split="train")
    assert plain.classes == ("0", "1")
    assert right(plain)
    with pytest.warns(UserWarning, match=r"labels from 1 to 2 became .*1 is number 0, '1'"):
        shifted = load_dataset(saved(folder, frame().assign(label=[1, 2] * 12)), split="train")
    assert shifted.classes == ("1", "2")
    assert right(shifted)


def test_what_can_not_be_read_is_named(folder):
    for table, said in (
        (frame().assign(label=[None, "a"] * 12), "12 rows without 'label', such as row 1"),
        (frame().assign(label=[0.5, 1.5] * 12), "labels are a whole number or a name.*float64"),
        (frame().assign(path="images/0.png"), r"lists images/0\.png twice"),
        (frame(file=range(N)), "2 columns for path=None; say path=COLUMN, one of path, file"),
        (frame(target=range(N)), "2 columns for label=None; .* label, target"),
        (frame().drop(columns="label"), "0 columns for label=None"),
        (frame().iloc[:0], r"got int64 of shape \(0,\)"),
        (frame().assign(path=[f"gone/{i}.png" for i in range(N)]), "24 of 24 .*such as gone/0.png"),
    ):
        with pytest.raises(DatasetError, match=said):
            load_dataset(saved(folder, table), split="train")
    (folder / "table.csv").write_bytes(b"path,label\nc\xe9,1\n")
    with pytest.raises(DatasetError, match=r"can't read .*table.csv: 'utf-8' codec"):
        load_dataset(folder / "table.csv", split="train")
    (folder / "broken.parquet").write_bytes(b"PAR1")
    with pytest.raises(DatasetError, match=r"can't read .*broken.parquet|pip install"):
        load_dataset(folder / "broken.parquet", split="train")
    (folder / "photos.zip").write_bytes(b"PK")
    with pytest.raises(
        DatasetError, match=r"photos.zip is a file.*than .csv, .tsv, .parquet, .npz"
    ):
        load_dataset(folder / "photos.zip", split="train")


def test_parquet_without_pyarrow_names_the_extra(folder, monkeypatch):
    frame().to_csv(folder / "x.parquet")
    monkeypatch.setitem(sys.modules, "pyarrow", None)
    monkeypatch.setitem(sys.modules, "fastparquet", None)
    with pytest.raises(DatasetError, match=r"needs pyarrow: pip install 'classvec_lab\[tables\]'"):
        load_dataset(folder / "x.parquet", split="train")


def test_copies_under_other_names_are_warned_of(folder):
    copied = folder / "images" / "copy.png"
    copied.write_bytes((folder / "images" / "0.png").read_bytes())
    table = frame(split=["train"] * 12 + ["test"] * 12)
    table.loc[N - 1, "path"] = "images/copy.png"
    with pytest.warns(UserWarning, match=r"1 image of test of table.csv .*\(1 of them\)"):
        load_dataset(saved(folder, table), split="test")


def archive(**arrays):
    rng = np.random.default_rng(0)
    shapes = {"images": (30, 5, 6)} | arrays
    return {
        name: rng.integers(0, 256, value, dtype=np.uint8) if isinstance(value, tuple) else value
        for name, value in shapes.items()
    }


def test_an_archive_of_arrays(tmp_path):
    labels = np.arange(30) % 3
    made = archive(labels=labels, patient=np.arange(30) // 3)
    np.savez(tmp_path / "all.npz", **made)
    train, val, test = parts(tmp_path / "all.npz")
    assert [len(train), len(val), len(test)] == [18, 6, 6]
    assert train.classes == ("0", "1", "2")
    for part in (train, val, test):
        rows = part.indices
        assert part.targets.tolist() == labels[rows].tolist()
        assert part.metadata["patient"].tolist() == (rows // 3).tolist()
        for (image, _), row in zip(part, rows, strict=True):
            assert (np.asarray(image)[..., 1] == made["images"][row]).all()
    seen = [set(part.metadata["group"]) for part in parts(tmp_path / "all.npz", group="patient")]
    assert sum(map(len, seen)) == 10
    made["images"][train.indices[0], 0, 0] ^= 1
    np.savez(tmp_path / "all.npz", **made)
    again = parts(tmp_path / "all.npz")
    assert [
        a.fingerprint == b.fingerprint for a, b in zip(again, (train, val, test), strict=True)
    ] == [
        False,
        True,
        True,
    ]


@pytest.mark.parametrize(
    ("images", "labels"),
    [("x_{}", "y_{}"), ("{}_images", "{}_labels"), ("X_{}", "target_{}")],
)
@pytest.mark.parametrize("kind", ["npz", "npy"])
def test_arrays_of_ready_made_splits(tmp_path, images, labels, kind):
    made = {}
    for split, n in (("train", 20), ("test", 8)):
        made |= archive(images=(0, 1, 1), **{images.format(split): (n, 5, 6, 3)})
        made[labels.format(split)] = np.arange(n)[:, None] % 2  # as MedMNIST has them
    del made["images"]
    if kind == "npz":
        np.savez(tmp_path / "set.npz", **made)
    else:
        for name, array in made.items():
            np.save(tmp_path / f"{name}.npy", array)
    source = tmp_path / ("set.npz" if kind == "npz" else f"{images.format('train')}.npy")
    train, val, test = parts(source)
    assert [len(train), len(val), len(test)] == [18, 2, 8]
    expected = made[images.format("test")]
    assert (np.stack([np.asarray(image) for image, _ in test]) == expected).all()
    assert test.targets.tolist() == [0, 1] * 4


def test_a_pair_of_files(tmp_path):
    made = archive(labels=np.array(["b", "a", "a"] * 10))
    for name, array in made.items():
        np.save(tmp_path / f"{name}.npy", array)
    train = load_dataset(tmp_path / "images.npy", split="train")
    assert train.classes == ("a", "b")
    assert [train.classes[t] for t in train.targets] == made["labels"][train.indices].tolist()


def test_archives_that_are_not_clear_are_refused(tmp_path):
    labels = np.arange(30) % 3

    def failing(said, **arrays):
        np.savez(tmp_path / "odd.npz", **arrays)
        with pytest.raises(DatasetError, match=said):
            load_dataset(tmp_path / "odd.npz", split="train")

    failing("0 arrays of images", labels=labels)
    failing("2 arrays of images .*images, masks", **archive(masks=(30, 5, 6), labels=labels))
    failing("1 arrays|0 arrays of images", **archive(x_train=(30, 5, 6), y_val=labels))
    failing("2 columns for label=None; .* label, target", **archive(label=labels, target=labels))
    failing("0 columns for label=None; .* f, g", **archive(f=labels, g=labels))
    failing("flat|an image is", images=np.zeros((30, 2, 5, 5, 3), np.uint8), labels=labels)
    failing("labels are a whole number", **archive(labels=labels / 2))
    failing("can't read .*odd.npz: Object arrays cannot", images=np.array([{}] * 3), labels=labels)
    (tmp_path / "odd.npz").write_bytes(b"PK\x03\x04 cut off")
    with pytest.raises(DatasetError, match=r"can't read .*odd\.npz"):
        load_dataset(tmp_path / "odd.npz", split="train")
    made = archive(labels=labels, names=np.array(["a", "b", "c"]))
    np.savez(tmp_path / "more.npz", **made)
    with pytest.warns(UserWarning, match=r"more.npz: names left out, not of the length of the im"):
        train = load_dataset(tmp_path / "more.npz", split="train", rename={"0": "a", "2": "c"})
    assert train.classes == ("a", "1", "c")
