"""Folders as people have them: splits by any name, variants, links, loose files, copies, numbers."""

import os
import shutil
import warnings

import numpy as np
import pytest
from PIL import Image

from classvec_lab.datasets import load_dataset
from classvec_lab.datasets.splits import find_parts
from classvec_lab.datasets.torchvision_repair import ensure_torchvision
from classvec_lab.errors import DatasetError

SPLITS = ("train", "val", "test")


def make(root, *folders, n=5):
    """n images of noise, no two the same, in each folder."""
    for folder in folders:
        rng = np.random.default_rng(list(folder.encode()))
        (root / folder).mkdir(parents=True, exist_ok=True)
        for i in range(n):
            pixels = rng.integers(0, 256, (4, 4, 3), dtype=np.uint8)
            Image.fromarray(pixels).save(root / folder / f"{i}.png")
    return root


def sizes(root, **options):
    return [len(load_dataset(root, split=split, **options)) for split in SPLITS]


@pytest.mark.parametrize(
    ("train", "val", "test"),
    [
        ("Training", "Validation", "Testing"),
        ("seg_train/seg_train", "seg_val/seg_val", "seg_test/seg_test"),
        ("train_images", "val_images", "test_images"),
        ("TRAIN", "dev", "Test"),
        ("training_set/training_set", "development", "test_set/test_set"),
        ("train2017", "val2017", "test2017"),
        ("flowers-train/images", "flowers-valid/images", "flowers-test/images"),
        ("TrainData", "ValidData", "TestData"),
        ("trn", "validate", "tst"),
    ],
)
def test_splits_by_their_usual_names(tmp_path, train, val, test):
    root = make(tmp_path / "set", f"{train}/x", f"{train}/y", n=6)
    make(root, f"{val}/x", f"{val}/y", n=3)
    make(root, f"{test}/x", f"{test}/y", n=2)
    for split, folder, n in zip(SPLITS, (train, val, test), (12, 6, 4), strict=True):
        data = load_dataset(root, split=split)
        assert (len(data), data.classes) == (n, ("x", "y"))
        assert data.metadata["file"].str.startswith(folder).all()


def test_names_of_classes_are_no_splits():
    for names in (
        ["bullet_train", "test_tube", "valley"],
        ["passenger_train", "freight_train"],
        ["testimony", "training wheels", "contest", "latest", "string"],
    ):
        assert find_parts(names) == {}
    assert find_parts(["bullet_train", "test"]) == {"test": "test"}


def test_a_class_split_by_no_one_else(tmp_path):
    root = make(tmp_path / "set", "train", "bus", "bullet_train")
    assert load_dataset(root, split="train").classes == ("bullet_train", "bus", "train")


@pytest.mark.parametrize(
    ("folders", "said"),
    [
        (("color/x", "color/y", "grayscale/x", "grayscale/y"), "color/, grayscale/"),
        (("amazon/images/x", "amazon/images/y", "dslr/images/x", "dslr/images/y"), "amazon/, dslr"),
        (("a/prueba/x", "a/prueba/y", "b/x", "b/y"), "a/, b/"),
        (("train/raw/x", "train/raw/y", "train/cropped/x", "train/cropped/y"), "cropped/, raw/"),
    ],
)
def test_variants_of_one_set_are_refused_with_what_was_seen(tmp_path, folders, said):
    root = make(tmp_path / "set", *folders)
    with pytest.raises(DatasetError, match=rf"{said}.* same folders, x, y: variants .*classes=\["):
        load_dataset(root, split="train")


def test_folders_named_as_classes_are_classes(tmp_path):
    root = make(tmp_path / "set", "cat/day", "cat/night", "dog/day", "dog/night")
    with pytest.raises(DatasetError, match="same folders, day, night"):
        load_dataset(root, split="train")
    assert load_dataset(root, split="train", classes=["dog", "cat"]).classes == ("dog", "cat")
    named = load_dataset(root, split="train", rename={"dog": "Hund"})
    assert named.classes == ("cat", "Hund")
    nested = make(tmp_path / "nested", "train/cat/day", "train/cat/night", "train/dog/day")
    make(nested, "train/dog/night", "test/cat/day")
    with pytest.raises(DatasetError, match="same folders, day, night"):
        load_dataset(nested, split="train")
    assert load_dataset(nested, split="test", classes=["cat"]).classes == ("cat",)
    make(root, "test")
    with pytest.raises(DatasetError, match=r"cat/, dog/, test/ but no train/.*classes=\['cat', 'd"):
        load_dataset(root, split="test")
    assert load_dataset(root, split="test", classes=["test", "dog"]).classes == ("test", "dog")


def test_sub_folders_of_their_own_are_no_variants(tmp_path):
    root = make(tmp_path / "set", "cat/p1", "cat/p2", "dog/p3", "dog/p4", "eel/images")
    assert sum(sizes(root)) == 25


@pytest.mark.parametrize("name", ["eval", "holdout", "train_augmented"])
def test_a_split_by_an_unknown_name_is_refused(tmp_path, name):
    root = make(tmp_path / "set", "train/x", "train/y", f"{name}/{name}/x", f"{name}/{name}/y")
    for split in SPLITS:
        with pytest.raises(
            DatasetError, match=rf"{name}/ holds classes of .*train, but has no name"
        ):
            load_dataset(root, split=split)
    assert sum(sizes(root / "train")) == 10


@pytest.mark.parametrize("link", [".", "..", "../b", "../../set"])
def test_a_link_back_gives_each_image_once(tmp_path, link):
    root = make(tmp_path / "set", "a", "b", n=10)
    before = sizes(root)
    os.symlink(link, root / "b" / "again" if link == "../b" else root / "a" / "again")
    assert sizes(root) == before == [12, 4, 4]


def test_a_link_to_the_root_is_no_class(tmp_path):
    root = make(tmp_path / "set", "train/a", "train/b", "test/a", "test/b")
    before = sizes(root)
    for link in ("train/all", "test/everything"):
        os.symlink("..", root / link)
    os.symlink(".", root / "here")
    assert sizes(root) == before
    assert load_dataset(root, split="test").classes == ("a", "b")


def test_linked_files_and_folders_give_each_image_once(tmp_path):
    root = make(tmp_path / "set", "a", "b/deep", n=10)
    os.symlink("0.png", root / "a" / "z.png")
    os.symlink("deep", root / "b" / "alias")
    os.symlink("../../a/more", root / "a" / "one")
    make(root, "a/more", n=2)
    os.symlink("../one", root / "a" / "more" / "two")
    assert sum(sizes(root)) == 22


def test_dead_links_are_named(tmp_path):
    root = make(tmp_path / "set", "a", "b")
    os.symlink("unmounted", root / "cat")
    with pytest.raises(DatasetError, match=r"can't look into .*cat: No such file"):
        load_dataset(root, split="train")


def test_a_dead_link_beside_splits_is_named(tmp_path):
    root = make(tmp_path / "set", "train/a", "train/b")
    os.symlink("unmounted", root / "more")
    with pytest.raises(DatasetError, match=r"can't look into .*more: No such file"):
        load_dataset(root, split="train")


@pytest.mark.parametrize("place", ["train/{}", "{}"])
def test_loose_images_in_test_are_refused(tmp_path, place):
    root = make(tmp_path / "set", place.format("a"), place.format("b"), "test", n=5)
    said = (
        r"no images in class folders under .*test \(5 lie outside" if "/" in place else "no train/"
    )
    for split in SPLITS:
        with pytest.raises(DatasetError, match=said):
            load_dataset(root, split=split)


def test_what_is_left_out_is_said(tmp_path):
    root = make(tmp_path / "set", "train/a", "train/b", "train", "seg_pred/seg_pred")
    make(root, "test/a", "test/b", n=7)
    with pytest.warns(UserWarning, match="left out") as told:
        assert sizes(root) == [8, 2, 14]
    assert {str(w.message).partition("set: ")[2] for w in told} == {
        "5 images outside of class folders left out, such as train/0.png",
        "seg_pred/ beside test/, train/ is taken for no split and left out (5 images)",
    }


def test_formats_that_are_not_read_are_no_silent_loss(tmp_path):
    root = make(tmp_path / "set", "a", "b")
    (root / "a" / "photo.HEIC").write_bytes(b"ftypheic" * 9)
    data = [load_dataset(root, split=split) for split in SPLITS]
    assert sum(map(len, data)) == 11
    with pytest.raises(DatasetError, match=r"can't read the image .*photo\.HEIC"):
        [part.fingerprint for part in data]


def test_names_and_leftovers_of_any_system(tmp_path):
    names = ["Grüner Käfer", "été 100%", "Maikäfer (groß)", "猫"]
    root = make(tmp_path / "set", *(f"train/{n}" for n in names), *(f"test/{n}" for n in names))
    for place in (root, root / "train", root / "train" / names[0]):
        for left in (".DS_Store", "Thumbs.db", "desktop.ini"):
            (place / left).write_bytes(b"x")
    assert load_dataset(root, split="test").classes == tuple(sorted(names))
    assert sizes(root) == [16, 4, 20]


def test_images_of_any_mode_become_rgb(tmp_path):
    root = make(tmp_path / "set", "a", "b")
    noise = np.random.default_rng(0).integers(0, 256, (6, 7, 4), dtype=np.uint8)
    deep = Image.fromarray(noise[..., 0].astype(np.uint16) * 257)
    rgb = Image.fromarray(noise[..., :3])
    odd = {"deep.png": deep, "clear.png": Image.fromarray(noise), "print.jpg": rgb.convert("CMYK")}
    odd |= {
        "grey.tif": rgb.convert("LA"),
        "bits.bmp": rgb.convert("1"),
        "few.GIF": rgb.convert("P"),
    }
    for name, image in odd.items():
        image.save(root / "a" / name)
    data = [load_dataset(root, split=split) for split in SPLITS]
    assert sum(map(len, data)) == 16
    assert {image.mode for part in data for image, _ in part} == {"RGB"}
    found = {f: part[i][0] for part in data for i, f in enumerate(part.metadata["file"])}
    assert (np.asarray(found["a/deep.png"])[..., 1] == noise[..., 0]).all()


@pytest.mark.parametrize("content", ["cut", "page", "nothing"])
def test_a_damaged_image_is_named_at_the_latest_when_it_is_read(tmp_path, content):
    root = make(tmp_path / "set", "a", "b")
    rng = np.random.default_rng(0)
    Image.fromarray(rng.integers(0, 256, (64, 64, 3), dtype=np.uint8)).save(root / "a" / "bad.jpg")
    whole = (root / "a" / "bad.jpg").read_bytes()
    held = {"cut": whole[:-600], "page": b"<html>404</html>", "nothing": b""}
    (root / "a" / "bad.jpg").write_bytes(held[content])
    with pytest.raises(DatasetError, match=r"can't read the image .*a/bad\.jpg: \w"):
        [list(load_dataset(root, split=split)) for split in SPLITS]


@pytest.mark.parametrize(
    ("folders", "said"),
    [
        (("fold0/a", "fold0/b", "fold1/a", "fold1/b"), "same folders, a, b: variants"),
        (("train/Cat", "train/Dog", "test/cat", "test/dog"), r"test/cat is no class of .*Cat, Dog"),
        (("set/a", "set/b"), r"one folder, below which are a, b: .* load \S+/set/set$"),
        (("set/set/set/a", "set/set/set/b"), r"are a, b: .* load \S+/set/set/set/set$"),
        (
            ("train/classes/a", "train/classes/b"),
            r"train holds one folder, .* load \S+/train/classes$",
        ),
        (("images/train", "images/val"), r"labels holds no images"),
        (("train/images", "test/images"), r"train/labels holds no images"),
    ],
)
def test_other_layouts_are_refused_with_what_was_seen(tmp_path, folders, said):
    root = make(tmp_path / "set", *folders)
    if "labels" in said:  # as detection has them
        (root / folders[0].replace("images", "labels").replace("/train", "")).mkdir()
    with pytest.raises(DatasetError, match=said):
        load_dataset(root, split="train")


@pytest.mark.parametrize(
    ("target", "other", "under"),
    [("test/b", "train", 1), ("test/a", "train", 0), ("val/b", "train", 1)],
)
def test_copies_across_splits_are_warned_of(tmp_path, target, other, under):
    root = make(tmp_path / "set", "train/a", "train/b")
    make(root, "val/a", "val/b", "test/a", "test/b", n=4)
    shutil.copy(root / "train/a/3.png", root / target / "another.png")
    split = target.partition("/")[0]
    said = (
        rf"1 image of {split} of set lie.* \({under} of them\).*train/a/3.png and {target}/another"
    )
    with pytest.warns(UserWarning, match=said):
        load_dataset(root, split=split)
    with pytest.warns(UserWarning, match=f"1 image of {other}"):
        load_dataset(root, split=other)
    load_dataset(root, split="test" if split == "val" else "val")  # no word


def test_copies_that_a_cut_parts_and_copies_in_two_classes(tmp_path):
    root = make(tmp_path / "set", "a", "b", n=10)
    train = load_dataset(root, split="train").metadata["file"]
    here = [file for file in train if file.startswith("a/")]
    shutil.copy(root / here[0], root / "b" / "copy.png")
    with pytest.warns(UserWarning, match=r"\(1 of them\)"):
        load_dataset(root, split="train")
    os.unlink(root / "b" / "copy.png")
    for file in here[1:3]:
        shutil.copy(root / here[0], root / file)
    load_dataset(root, split="train")  # copies in one split and class mislead no result
    apart = next(f"a/{i}.png" for i in range(10) if f"a/{i}.png" not in here)
    shutil.copy(root / here[0], root / apart)
    with pytest.warns(UserWarning, match=r"3 images of train of set lie in another split too"):
        load_dataset(root, split="train")


def test_numbers_in_another_order_than_torchvisions(tmp_path):
    ensure_torchvision()
    from torchvision import datasets

    root = make(tmp_path / "set", *map(str, range(12)))
    with pytest.warns(UserWarning, match=r"0, 1, 2 ….* 0, 1, 10 ….*order='text'.*order='number'"):
        plain = load_dataset(root, split="train")
    assert plain.classes == tuple(map(str, range(12)))
    assert load_dataset(root, split="train", order="number").classes == plain.classes
    text = load_dataset(root, split="train", order="text")
    assert list(text.classes) == datasets.ImageFolder(root).classes
    for data in (plain, text):
        names = data.metadata["file"].str.partition("/")[0]
        assert [data.classes[t] for t in data.targets] == names.tolist()
    with pytest.raises(DatasetError, match="no order of classes 'ImageFolder'; there are"):
        load_dataset(root, split="train", order="ImageFolder")
    with pytest.raises(DatasetError, match="no order of classes 'number'; there are None, text"):
        load_dataset(make(tmp_path / "words", "a", "b"), split="train", order="number")


def test_files_that_are_no_images_are_told_and_notes_are_not(tmp_path):
    for name in ("cat", "dog"):
        for i in range(4):
            path = tmp_path / name / f"{i}.png"
            path.parent.mkdir(exist_ok=True)
            Image.new("RGB", (8, 8), (40 * i, 0, 0 if name == "cat" else 99)).save(path)
    for note in ("notes.txt", "labels.json", "Thumbs.db", ".DS_Store"):
        (tmp_path / "cat" / note).write_text("x")
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        load_dataset(str(tmp_path), split="train")
    for odd in ("raw.CR2", "photo", "5.npy"):
        (tmp_path / "dog" / odd).write_bytes(b"x")
    with pytest.warns(UserWarning, match=r"3 files left out as no images, such as .*5\.npy"):
        load_dataset(str(tmp_path), split="train")
