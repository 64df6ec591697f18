import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from classvec_lab.datasets import ImageDataset, load_dataset
from classvec_lab.errors import DatasetError

FAKE = {"size": 60, "image_size": (3, 6, 6), "num_classes": 3}


@pytest.fixture
def folder(tmp_path, monkeypatch):
    monkeypatch.setenv("CLASSVEC_DATA", str(tmp_path / "data"))
    root = tmp_path / "pets"
    for k, name in enumerate(("cat", "dog")):
        (root / name).mkdir(parents=True)
        for i in range(20):
            Image.new("RGB", (4, 4), (k, i, 0)).save(root / name / f"{i // 2}_{i}.png")
    return root


def sources(folder):
    return [
        ("digits", {}),
        ("shapes", {"n": 100}),
        ("torchvision:FakeData", FAKE),
        (folder, {}),
        (str(folder), {}),
    ]


def test_every_source_gives_the_same_kind_of_thing(folder):
    for source, options in sources(folder):
        dataset = load_dataset(source, split="val", **options)
        assert type(dataset) is ImageDataset
        assert isinstance(dataset.classes, tuple)
        assert dataset.targets.shape == (len(dataset),)
        image, target = dataset[0]
        assert image.mode == "RGB"
        assert target == dataset.targets[0]
        assert isinstance(target, int)
        assert len(dataset.fingerprint) == 32
        assert dataset.metadata is None or len(dataset.metadata) == len(dataset)
        assert str(len(dataset)) in repr(dataset)


def test_limit_takes_a_stratified_seeded_sample(folder):
    for source, options in sources(folder):
        whole = load_dataset(source, split="train", **options)
        few = load_dataset(source, split="train", limit=12, **options)
        assert len(few) == 12
        assert few.fingerprint != whole.fingerprint
        assert (
            few.fingerprint == load_dataset(source, split="train", limit=12, **options).fingerprint
        )
        assert set(few.indices) <= set(whole.indices)
        assert set(few.targets.tolist()) == set(whole.targets.tolist())
        assert (
            load_dataset(source, split="train", limit=10_000, **options).fingerprint
            == whole.fingerprint
        )
    few = load_dataset("shapes", split="train", limit=50, seed=1)
    assert (np.bincount(few.targets) == 5).all()
    assert not np.array_equal(
        few.indices, load_dataset("shapes", split="train", limit=50, seed=2).indices
    )


@pytest.mark.parametrize("limit", [0, -3, 2.5, True, "5"])
def test_a_limit_that_makes_no_sense(limit):
    with pytest.raises(DatasetError, match="limit must be an integer >= 1"):
        load_dataset("digits", split="train", limit=limit)


def test_a_limit_below_the_number_of_classes():
    with pytest.raises(
        DatasetError, match="limit=9 leaves some of the 10 classes of digits without an image"
    ):
        load_dataset("digits", split="train", limit=9)
    assert (np.bincount(load_dataset("digits", split="train", limit=10).targets) == 1).all()


@pytest.mark.parametrize("seed", [-1, 0.5, None, "0", 2**63])
def test_a_seed_that_makes_no_sense(seed):
    with pytest.raises(DatasetError, match="seed must be an integer >= 0"):
        load_dataset("digits", split="train", seed=seed)


def test_a_seed_of_numpy_is_a_seed():
    assert (
        load_dataset("shapes", split="val", seed=np.int64(3), n=10).fingerprint
        == load_dataset("shapes", split="val", seed=3, n=10).fingerprint
    )


def test_unknown_names(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    for name, match in (
        ("digit", r"unknown data set 'digit'.* did you mean 'digits'\? Under"),
        ("shape", r"did you mean 'shapes'\?"),
        ("", "unknown data set ''"),
        (
            "nowhere/at/all",
            r"no such folder\. Understood are 'digits', 'shapes', 'photographs', \"torchvision:NAME\"",
        ),
    ):
        with pytest.raises(DatasetError, match=match):
            load_dataset(name, split="train")
    with pytest.raises(DatasetError, match="does not exist"):
        load_dataset(tmp_path / "gone", split="train")
    with pytest.raises(DatasetError, match="int is no map-style data set"):
        load_dataset(5, split="train")


def test_wrong_splits_list_the_valid_ones(folder):
    for source, options in sources(folder):
        with pytest.raises(DatasetError, match=r"no split 'dev'; there are train, val, test"):
            load_dataset(source, split="dev", **options)


def test_unknown_options_list_the_valid_ones(folder):
    for source, match in (
        ("digits", "digits has no option size; it takes none"),
        ("shapes", "shapes has no option size; it takes n, snow, word"),
        ("torchvision:CIFAR10", "torchvision:CIFAR10 has no option size; it takes root"),
        (folder, r".*/pets has no option size; it takes group, order"),
    ):
        with pytest.raises(DatasetError, match=match):
            load_dataset(source, split="train", size=3)


def test_groups(folder):
    parts = [
        load_dataset(folder, split=split, group=r"/(\d+)_") for split in ("train", "val", "test")
    ]
    seen = [set(part.metadata["group"]) for part in parts]
    assert len(set().union(*seen)) == sum(map(len, seen)) == 10
    with pytest.raises(DatasetError, match="digits has no option group; it takes none"):
        load_dataset("digits", split="train", group="writer")
    with pytest.raises(DatasetError, match="shapes has no option group; it takes n, snow, word"):
        load_dataset("shapes", split="train", group="colour")
    with pytest.raises(DatasetError, match="group=7 is no column"):
        load_dataset(folder, split="train", group=7)


def test_home_is_expanded_and_a_path_beats_a_name(folder, monkeypatch):
    monkeypatch.setenv("HOME", str(folder.parent))
    assert load_dataset("~/pets", split="train").classes == ("cat", "dog")
    folder.rename(folder.with_name("digits"))
    monkeypatch.chdir(folder.parent)
    assert load_dataset("./digits", split="train").classes == ("cat", "dog")
    assert load_dataset(Path("digits"), split="train").classes == ("cat", "dog")
    assert len(load_dataset("digits", split="train").classes) == 10


def test_importing_stays_light():
    code = "import sys, classvec_lab.datasets; print(*{'torch', 'torchvision', 'sklearn', 'matplotlib', 'tqdm'} & set(sys.modules))"
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout.strip() == ""
