import hashlib
import pickle
import urllib.error
import urllib.request

import numpy as np
import pytest
from PIL import Image

from classvec_lab.datasets.torchvision_repair import ensure_torchvision
from classvec_lab.datasets.torchvision_sets import load_torchvision
from classvec_lab.errors import DatasetError

SPLITS = ("train", "val", "test")


@pytest.fixture(autouse=True)
def root(tmp_path, monkeypatch):
    monkeypatch.setenv("CLASSVEC_DATA", str(tmp_path / "data"))

    def no_network(*args, **kwargs):
        raise urllib.error.URLError("no route to host")

    monkeypatch.setattr(urllib.request, "urlopen", no_network)
    return tmp_path / "data" / "torchvision"


def contents(dataset):
    return {dataset[i][0].tobytes() for i in range(len(dataset))}


def noise(path, side=6):
    path.parent.mkdir(parents=True, exist_ok=True)
    seed = int(hashlib.sha256("/".join(path.parts[-3:]).encode()).hexdigest()[:12], 16)
    Image.fromarray(
        np.random.default_rng(seed).integers(0, 256, (side, side, 3), dtype=np.uint8)
    ).save(path)


def write_mnist(folder, prefix, n, seed):
    folder.mkdir(parents=True, exist_ok=True)
    images = np.random.default_rng(seed).integers(0, 256, (n, 28, 28), dtype=np.uint8)
    targets = (np.arange(n) % 10).astype(np.uint8)
    for kind, array in (("images-idx3", images), ("labels-idx1", targets)):
        header = bytes([0, 0, 8, array.ndim]) + np.array(array.shape, ">i4").tobytes()
        (folder / f"{prefix}-{kind}-ubyte").write_bytes(header + array.tobytes())
    return images


def fake(split, seed=0, **options):
    options = {"size": 50, "image_size": (3, 8, 8), "num_classes": 5} | options
    return load_torchvision("FakeData", split=split, seed=seed, **options)


def test_a_set_without_splits_is_cut():
    parts = {split: fake(split) for split in SPLITS}
    assert [len(part) for part in parts.values()] == pytest.approx([30, 10, 10], abs=2)
    seen = [contents(part) for part in parts.values()]
    assert len(set().union(*seen)) == sum(map(len, seen)) == 50
    assert parts["train"].classes == tuple("01234")
    image, target = parts["test"][0]
    assert (image.mode, image.size) == ("RGB", (8, 8))
    assert target == parts["test"].targets[0]
    assert parts["test"].metadata is None


def test_fingerprint_follows_pixels_and_split():
    first = fake("train").fingerprint
    assert first == fake("train").fingerprint
    assert first != fake("train", random_offset=3).fingerprint
    assert first != fake("train", seed=1).fingerprint
    assert first != fake("test").fingerprint


def test_can_be_sent_to_another_process():
    dataset = fake("val")
    assert pickle.loads(pickle.dumps(dataset))[3][0].tobytes() == dataset[3][0].tobytes()


def test_train_and_test_of_its_own(root):
    train_images = write_mnist(root / "MNIST" / "raw", "train", 200, 0)
    test_images = write_mnist(root / "MNIST" / "raw", "t10k", 50, 1)
    train, val, test = (load_torchvision("MNIST", split=split, seed=0) for split in SPLITS)
    assert [len(train), len(val), len(test)] == [180, 20, 50]
    assert train.classes[3] == "3 - three"
    assert (np.bincount(val.targets) == 2).all()
    assert not contents(train) & contents(val)
    assert np.array_equal(np.asarray(test[7][0])[..., 0], test_images[7])
    assert np.array_equal(np.asarray(train[7][0])[..., 2], train_images[train.indices[7]])
    assert train[7][1] == train.indices[7] % 10
    with pytest.raises(DatasetError, match="no file names to tell groups by"):
        load_torchvision("MNIST", split="train", seed=0, group="(.)")


def test_a_constructor_with_a_split_of_another_meaning(root):
    write_mnist(root / "EMNIST" / "raw", "emnist-digits-train", 100, 0)
    write_mnist(root / "EMNIST" / "raw", "emnist-digits-test", 40, 1)
    sizes = [
        len(load_torchvision("EMNIST", split=split, seed=0, split_="digits")) for split in SPLITS
    ]
    assert sizes == [90, 10, 40]
    with pytest.raises(DatasetError, match=r"torchvision:EMNIST needs the option split_"):
        load_torchvision("EMNIST", split="train", seed=0)


def test_three_splits_of_its_own(root):
    base = root / "dtd" / "dtd"
    (base / "labels").mkdir(parents=True)
    for k, split in enumerate(SPLITS):
        names = [f"{c}/{c}_{k}{i}.png" for i in range(6 - k) for c in ("dotted", "banded")]
        for name in names:
            noise(base / "images" / name)
        (base / "labels" / f"{split}2.txt").write_text("\n".join(names) + "\n")
    parts = [load_torchvision("DTD", split=split, seed=0, partition=2) for split in SPLITS]
    assert [len(part) for part in parts] == [12, 10, 8]
    assert all(part.classes == ("banded", "dotted") for part in parts)
    assert parts[1].metadata["file"][0] == "dtd/dtd/images/dotted/dotted_10.png"
    assert parts[1][0][1] == 1
    with pytest.raises(DatasetError, match="torchvision:DTD can't be built"):
        load_torchvision("DTD", split="train", seed=0, partition="x")


def test_groups_by_file_name(root):
    training = root / "gtsrb" / "GTSRB" / "Training"
    for c in range(3):
        for track in range(10):
            for frame in range(3):
                noise(training / f"{c:05d}" / f"{c}{track:04d}_{frame:05d}.ppm")
    train, val = (
        load_torchvision("GTSRB", split=split, seed=0, group=r"/(\d+)_")
        for split in ("train", "val")
    )
    assert len(train) + len(val) == 90
    assert not set(train.metadata["group"]) & set(val.metadata["group"])
    assert set(val.targets.tolist()) == {0, 1, 2}
    with pytest.raises(
        DatasetError, match=r"torchvision:GTSRB isn't there yet, and downloading it failed"
    ):
        load_torchvision("GTSRB", split="test", seed=0)


def test_image_files_are_identified_by_content(root):
    for c in ("Forest", "River"):
        for i in range(10):
            noise(root / "eurosat" / "2750" / c / f"{c}_{i}.jpg")
    train = load_torchvision("EuroSAT", split="train", seed=0)
    assert train.classes == ("Forest", "River")
    assert [len(load_torchvision("EuroSAT", split=split, seed=0)) for split in SPLITS] == [12, 4, 4]
    before = train.fingerprint
    noise(root / train.metadata["file"][0], side=7)
    assert load_torchvision("EuroSAT", split="train", seed=0).fingerprint != before
    elsewhere = root.rename(root.with_name("moved"))
    assert len(load_torchvision("EuroSAT", split="train", seed=0, root=elsewhere)) == 12


def test_without_a_network_the_message_says_what_to_do(root):
    with pytest.raises(DatasetError) as caught:
        load_torchvision("FashionMNIST", split="val", seed=0)
    message = str(caught.value)
    assert "torchvision:FashionMNIST isn't there yet, and downloading it failed" in message
    assert "no route to host" in message
    assert f"Run this once with a network, or put its files under {root}" in message


def test_what_can_only_be_fetched_by_hand(root):
    with pytest.raises(
        DatasetError, match=rf"can't be downloaded automatically .*put its files under {root}"
    ):
        load_torchvision("ImageNet", split="val", seed=0)


def test_unknown_names():
    with pytest.raises(DatasetError, match=r"no data set 'cifar10'; did you mean 'CIFAR10'\?"):
        load_torchvision("cifar10", split="train", seed=0)
    with pytest.raises(DatasetError, match=r"no data set 'CIFR10'; did you mean 'CIFAR10'\?"):
        load_torchvision("CIFR10", split="train", seed=0)
    with pytest.raises(DatasetError, match=r"no data set 'xyzzy'\. It has .*CIFAR10"):
        load_torchvision("xyzzy", split="train", seed=0)
    for name in ("ImageFolder", "wrap_dataset_for_transforms_v2", "__doc__"):
        with pytest.raises(DatasetError, match="no data set"):
            load_torchvision(name, split="train", seed=0)


def test_unknown_options_and_empty_sets():
    with pytest.raises(
        DatasetError,
        match=r"FakeData has no option sise; it takes image_size, num_classes, random_offset, size",
    ):
        fake("train", sise=3)
    with pytest.raises(DatasetError, match=r"has no option transform"):
        fake("train", transform=None)
    with pytest.raises(DatasetError, match="holds no images"):
        fake("train", size=0)


def set_of(monkeypatch, items, **attributes):
    """Torchvision's SEMEION replaced by a set with the given items: a constructor with neither train nor split."""
    ensure_torchvision()
    from torchvision import datasets

    class Made(datasets.VisionDataset):
        def __init__(self, root, download=False):
            self.root, self.reads = root, 0
            vars(self).update(attributes)

        def __len__(self):
            return len(items)

        def __getitem__(self, i):
            self.reads += 1
            return items[i]

    monkeypatch.setattr(datasets, "SEMEION", Made)


def load_made(split="train"):
    return load_torchvision("SEMEION", split=split, seed=0)


def test_labels_from_items_and_other_forms_of_them(monkeypatch):
    image = Image.new("L", (4, 4), 7)
    items = [(image, np.int64(i % 2)) for i in range(20)]
    set_of(monkeypatch, items)
    assert load_made().classes == ("0", "1")
    set_of(monkeypatch, items, labels=[1] * 10 + [0] * 10, classes=["a", "b", "spare"])
    dataset = load_made()
    assert dataset.classes == ("a", "b", "spare")
    assert dataset[0][1] == 1
    assert dataset[0][0].mode == "RGB"
    set_of(monkeypatch, items, targets=np.zeros((20, 3), int), class_to_idx={"b": 1, "a": 0})
    dataset = load_made()
    assert dataset.classes == ("a", "b")
    assert set(dataset.targets.tolist()) == {
        0,
        1,
    }  # a table is no list of labels: the items were read


def test_sets_that_are_not_for_classification(monkeypatch):
    image = Image.new("L", (4, 4))
    for label in ("a caption", [1, 2, 3], 0.5, None):
        set_of(monkeypatch, [(image, label)] * 10)
        with pytest.raises(
            DatasetError, match="doesn't give each image one class: the label of item 0"
        ):
            load_made()
    set_of(monkeypatch, [(image, 0)] * 10, targets=[-1, 0] * 5)
    with pytest.raises(DatasetError, match="5 labels are negative"):
        load_made()
    set_of(monkeypatch, [("no image", i % 2) for i in range(10)])
    with pytest.raises(DatasetError, match="gives no images: item"):
        load_made()[0]
