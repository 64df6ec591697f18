"""Arrays and map-style data sets: read as what they are, in one way or not at all."""

import pickle

import numpy as np
import pytest
import torch
from conftest import CLASSES, coloured, small_classifier
from PIL import Image
from torch.utils.data import ConcatDataset, DataLoader, Subset, TensorDataset, random_split

from classvec_lab import extract_features, finetune, load_dataset
from classvec_lab.datasets import ImageDataset
from classvec_lab.datasets.torchvision_repair import ensure_torchvision
from classvec_lab.errors import DatasetError, MismatchError, ModelError
from classvec_lab.models import finetuning

ensure_torchvision()

SPLITS = ("train", "val", "test")
RNG = np.random.default_rng(0)
COLOUR = RNG.integers(0, 256, (30, 5, 6, 3), dtype=np.uint8)
LABELS = np.arange(30) % 3


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    """An image folder of red, green and blue, as torchvision's ImageFolder reads it."""
    from torchvision.datasets import ImageFolder

    root = tmp_path_factory.mktemp("folder")
    for i, (image, label) in enumerate(coloured(30)):
        (root / CLASSES[label]).mkdir(exist_ok=True)
        image.save(root / CLASSES[label] / f"{i % 5}_{i}.png")

    def made(**options):
        return ImageFolder(root, **options)

    return made


def pixels(data):
    return np.stack([np.asarray(image) for image, _ in data])


@pytest.mark.parametrize(
    "images",
    [
        COLOUR,
        np.moveaxis(COLOUR, -1, 1),
        torch.from_numpy(COLOUR),
        COLOUR / 255,
        torch.from_numpy(COLOUR).permute(0, 3, 1, 2) / 255,
        torch.tensor(COLOUR / 255, requires_grad=True),
        list(COLOUR),
    ],
    ids=["NHWC", "NCHW", "tensor", "floats", "NCHW floats", "gradient", "list"],
)
def test_arrays_in_all_forms_are_the_same_images(images):
    data = ImageDataset.from_arrays(images, LABELS, classes=["a", "b", "c"])
    assert (pixels(data) == COLOUR).all()
    assert data.targets.tolist() == LABELS.tolist()
    assert (data.classes, data.split, len(data)) == (("a", "b", "c"), "train", 30)


def test_grey_one_bit_and_transparent_arrays():
    grey = COLOUR[..., 0]
    for images in (grey, grey[..., None], grey[:, None], grey / np.float32(255)):
        data = ImageDataset.from_arrays(images, LABELS)
        assert (pixels(data) == grey[..., None]).all()
    assert (pixels(ImageDataset.from_arrays(grey > 99, LABELS))[..., 0] == 255 * (grey > 99)).all()
    clear = np.dstack([COLOUR[0], np.zeros((5, 6), np.uint8)])[None]
    assert (pixels(ImageDataset.from_arrays(clear, [0])) == 255).all()


@pytest.mark.parametrize(
    ("images", "said"),
    [
        (COLOUR.astype(np.float32), r"from 0 to 255: give uint8, bool, or floats from 0 to 1"),
        ((COLOUR / 127.5 - 1), r"from -1 to 1: give .* not yet normalised"),
        (np.where(COLOUR > 250, np.nan, 0.5), "from nan to nan: give"),
        (COLOUR.astype(np.int64), "int64 of shape .* give uint8"),
        (COLOUR.astype(np.uint16), "uint16 of shape"),
        (
            (COLOUR > 99).astype(np.uint8),
            "all of them would be black: multiply by 255, or give bool",
        ),
        (COLOUR.reshape(30, -1), r"shape \(30, 90\).*: an image is \(H, W\)"),
        (COLOUR[:, :, :3].transpose(0, 2, 1, 3), r"shape \(30, 3, 5, 3\).*no other side"),
        (COLOUR[..., :2], r"shape \(30, 5, 6, 2\).*: an image is"),
        (COLOUR[:, :0], "from nan to nan"),
        (COLOUR[:29], "arrays: 29 images, 30 labels and metadata of 0 rows"),
    ],
)
def test_arrays_that_could_be_read_in_two_ways_are_refused(images, said):
    with pytest.raises(DatasetError, match=said):
        ImageDataset.from_arrays(images, LABELS)


def test_labels_are_numbers_or_names():
    def made(labels, classes=None):
        return ImageDataset.from_arrays(COLOUR, labels, classes=classes)

    for labels in (LABELS, torch.from_numpy(LABELS), LABELS.astype(np.uint8), LABELS.tolist()):
        assert made(labels).classes == ("0", "1", "2")
    text = np.array(["b", "c", "a"])[LABELS]
    assert made(text).classes == ("a", "b", "c")
    named = made(text.tolist(), ["c", "b", "a", "spare"])
    assert [named.classes[t] for t in named.targets] == text.tolist()
    assert named.counts.to_dict() == {"c": 10, "b": 10, "a": 10, "spare": 0}
    for labels, classes, said in (
        (text, ["a", "b"], "labels c are none of the 2 classes a, b"),
        (LABELS, ["a", "b"], "labels 2 are none of the 2 classes"),
        (LABELS + 1, ["a", "b"], "labels 2, 3 are none|labels 3 are none"),
        (LABELS - 1, None, "labels -1 are none of the 2 classes"),
        (LABELS + 2, ["a", "b", "c"], "labels 3, 4 are none of the 3 classes"),
        (LABELS / 2, None, r"labels are a whole number or a name.*float64 of shape \(30,\)"),
        (np.eye(3, dtype=int)[LABELS], None, r"int64 of shape \(30, 3\)"),
        ([None, "a", "b"] * 10, None, "got object of shape"),
    ):
        with pytest.raises(DatasetError, match=said):
            made(labels, classes)
    with pytest.warns(UserWarning, match="differ in case or spaces alone: 'Cat', 'cat', 'cat '$"):
        made(["cat", "cat ", "Cat", "dog", "do g"] * 6)


def test_an_item_that_fails_is_named():
    class Broken(list):
        def __getitem__(self, i):
            return super().__getitem__(i) if i < 5 else 1 / 0

    pair = (np.zeros((4, 4), np.uint8), 0)
    with pytest.raises(DatasetError, match=r"Broken: item 5 can't be read \(ZeroDivisionError"):
        ImageDataset.from_dataset(Broken([pair] * 9))
    with pytest.raises(DatasetError, match=r"list: item 2 can't be read \(TypeError.*NoneType"):
        ImageDataset.from_dataset([pair, pair, None, pair])


@pytest.mark.parametrize(
    ("labels", "classes", "said", "names"),
    [
        (LABELS + 1, ["a", "b", "c"], "from 1 to 3 became .* 0 to 2: 1 is number 0, 'a'", "abc"),
        (LABELS + 1, None, "from 1 to 3 became .* 1 is number 0, '1'", "123"),
        (LABELS * 2 + 3, None, "from 3 to 7 became .* 3 is number 0, '3'", "357"),
    ],
)
def test_labels_that_do_not_count_from_0_are_mapped_with_a_word(labels, classes, said, names):
    for make in (
        lambda: ImageDataset.from_arrays(COLOUR, labels, classes=classes),
        lambda: ImageDataset.from_dataset(list(zip(COLOUR, labels, strict=True)), classes=classes),
    ):
        with pytest.warns(UserWarning, match=said):
            data = make()
        assert data.targets.tolist() == LABELS.tolist()
        assert data.classes == tuple(names)


def test_images_in_memory_are_cut_into_splits():
    whole = ImageDataset.from_arrays(COLOUR, LABELS)
    for source in (whole, (COLOUR, LABELS), list(zip(COLOUR, LABELS, strict=True))):
        parts = [load_dataset(source, split=split, seed=3) for split in SPLITS]
        assert [(len(part), part.split) for part in parts] == [
            (18, "train"),
            (6, "val"),
            (6, "test"),
        ]
        assert {image.tobytes() for part in parts for image, _ in part} == {
            image.tobytes() for image, _ in whole
        }
        assert len({part.fingerprint for part in parts}) == 3
    assert len(load_dataset(whole, split="train", limit=6, classes=["2", "0"])) == 6
    for options, said in (
        ({"group": "patient"}, "arrays has no file names to tell groups by"),
        ({"snow": 1}, "ImageDataset has no option snow; it takes group"),
    ):
        with pytest.raises(DatasetError, match=said):
            load_dataset(whole, split="train", **options)


def test_metadata_of_arrays_names_groups():
    patients = [f"p{i // 3}" for i in range(30)]
    whole = ImageDataset.from_arrays(COLOUR, LABELS, metadata={"patient": patients})
    parts = [load_dataset(whole, split=split, group="patient") for split in SPLITS]
    assert sum(len(set(part.metadata["group"])) for part in parts) == 10
    for part in parts:
        assert part.metadata["patient"].tolist() == [patients[i] for i in part.indices]
    with pytest.raises(DatasetError, match="30 images, 30 labels and metadata of 29 rows"):
        ImageDataset.from_arrays(COLOUR, LABELS, metadata={"patient": patients[1:]})


def test_a_subset_keeps_its_metadata_when_it_is_cut(folder):
    whole = ImageDataset.from_dataset(folder()).subset(np.arange(29, 0, -1))
    parts = [load_dataset(whole, split=split, group=r"/(\d)_") for split in SPLITS]
    assert sum(len(set(part.metadata["group"])) for part in parts) == 5
    for part in parts:
        names = part.metadata["file"].str.split("/", expand=True)[0]
        assert [part.classes[t] for t in part.targets] == names.tolist()
        assert (part.metadata["file"].str.extract(r"/(\d)_")[0] == part.metadata["group"]).all()


def test_renamed_and_joined_classes():
    data = ImageDataset.from_arrays(COLOUR, LABELS, classes=["cat", "dog", "car"])
    joined = data.renamed({"cat": "animal", "dog": "animal"})
    assert joined.classes == ("animal", "car")
    assert joined.targets.tolist() == [[0, 0, 1][label] for label in LABELS]
    assert data.renamed({"cat": "dog", "dog": "cat"}).classes == ("dog", "cat", "car")
    assert data.renamed({"cat": "dog"}).counts.to_dict() == {"dog": 20, "car": 10}
    assert joined.fingerprint != data.fingerprint
    with pytest.raises(DatasetError, match="no class 'cow'; there are cat, dog, car"):
        data.renamed({"cow": "x"})
    chosen = load_dataset(
        data, split="train", rename={"cat": "Katze", "car": "Auto"}, classes=["Auto", "Katze"]
    )
    assert chosen.classes == ("Auto", "Katze")
    assert [LABELS[i] for i in chosen.indices] == [2 - 2 * t for t in chosen.targets]


@pytest.mark.parametrize("kind", ["plain", "0..1", "uint8", "arrays", "tensors", "nested"])
def test_map_style_sets(folder, kind):
    from torchvision.transforms import Compose, PILToTensor, ToTensor

    expected = pixels(folder())
    source = {
        "plain": lambda: folder(),
        "0..1": lambda: folder(transform=ToTensor()),
        "uint8": lambda: folder(transform=PILToTensor()),
        "arrays": lambda: folder(transform=Compose([np.asarray])),
        "tensors": lambda: TensorDataset(
            torch.from_numpy(expected), torch.tensor(folder().targets)
        ),
        "nested": lambda: Subset(Subset(folder(), range(30)), list(range(30))),
    }[kind]()
    data = ImageDataset.from_dataset(source)
    assert data.classes == (("0", "1", "2") if kind == "tensors" else tuple(sorted(CLASSES)))
    assert (pixels(data) == expected).all()
    assert data.targets.tolist() == folder().targets
    assert data.fingerprint == ImageDataset.from_dataset(source).fingerprint
    assert pickle.loads(pickle.dumps(data)).fingerprint == data.fingerprint


def test_labels_are_those_of_the_items(folder):
    """A list of targets that a target_transform changes is not believed; tensors are labels."""
    names = sorted(CLASSES)
    turned = ImageDataset.from_dataset(folder(target_transform=lambda y: 2 - y))
    assert turned.targets.tolist() == [2 - y for y in folder().targets]
    tensors = ImageDataset.from_dataset(folder(target_transform=lambda y: torch.tensor([y])))
    assert tensors.targets.tolist() == folder().targets
    with pytest.warns(UserWarning, match=f"labels from 1 to 3 .* 1 is number 0, {names[0]!r}"):
        shifted = ImageDataset.from_dataset(folder(target_transform=lambda y: y + 1))
    assert shifted.targets.tolist() == folder().targets
    for wrong in (lambda y: float(y), lambda y: names[y], lambda y: [y, y]):
        with pytest.raises(
            DatasetError, match="doesn't give each image one class: the label of it"
        ):
            ImageDataset.from_dataset(folder(target_transform=wrong))


def test_what_is_no_map_style_set_of_images_is_named(folder):
    class Dicts(list):
        pass

    for source, said in (
        (DataLoader(folder()), "DataLoader is no map-style .* Of a DataLoader give .dataset"),
        (
            Dicts([{"image": 0, "label": 1}]),
            "Dicts is no map-style.*first item is {'image': 0, 'la",
        ),
        (iter([]), "is no map-style data set"),
        ([], "IndexError"),
        (TensorDataset(torch.zeros(3, 4, 4)), r"its first item is \(tensor"),
        ([("a.png", 0)], "list gives no images: item 0 is a str"),
        ([(np.full((4, 4), 9.0), 0)], "list, image 0: float64 .* from 9 to 9: give uint8"),
    ):
        with pytest.raises(DatasetError, match=said):
            ImageDataset.from_dataset(source)


def test_random_transforms_are_warned_of_and_not_cached(folder):
    from torchvision.transforms import RandomCrop

    with pytest.warns(UserWarning, match="ImageFolder gives other pixels at each reading"):
        data = ImageDataset.from_dataset(folder(transform=RandomCrop(4)))
    assert data.fingerprint is None


def test_a_random_split_goes_straight_into_training_and_extraction(folder):
    train, val = random_split(folder(), [20, 10], torch.Generator().manual_seed(0))
    classifier = small_classifier(tuple(sorted(CLASSES)))
    tuned = finetune(classifier, train, val=val, epochs=1, progress=False)
    features = extract_features(tuned.classifier, val, progress=False)
    whole = ImageDataset.from_dataset(folder())
    expected = extract_features(tuned.classifier, whole.subset(val.indices), progress=False)
    np.testing.assert_array_equal(features.z, expected.z)
    assert features.y.tolist() == [folder().targets[i] for i in val.indices]
    assert features.classes == whole.classes
    assert features.data == expected.data


def test_sets_without_names_have_those_of_the_classifier():
    images = torch.rand(9, 3, 8, 8)
    labelled = TensorDataset(images, torch.arange(9) % 3)
    features = extract_features(small_classifier(), labelled, progress=False)
    assert features.classes == CLASSES
    both = ConcatDataset([labelled, labelled])
    assert extract_features(small_classifier(), both, progress=False).y.tolist() == [0, 1, 2] * 6
    with pytest.warns(UserWarning, match="1 is number 0, 'red'"):
        shifted = extract_features(
            small_classifier(), TensorDataset(images, torch.arange(9) % 3 + 1), progress=False
        )
    np.testing.assert_array_equal(shifted.z, features.z)
    np.testing.assert_array_equal(shifted.y, features.y)


def test_joined_sets_have_the_names_of_their_members(folder):
    whole = folder()
    joined = ConcatDataset([whole, Subset(whole, [3, 4])])
    data = ImageDataset.from_dataset(joined)
    assert data.classes == tuple(sorted(CLASSES))
    assert data.targets.tolist() == [*whole.targets, *whole.targets[3:5]]
    assert ImageDataset.from_dataset(Subset(joined, [0, 31])).classes == data.classes
    other = ImageDataset.from_arrays(COLOUR, LABELS, classes=["a", "b", "c"])
    plain = TensorDataset(torch.from_numpy(COLOUR), torch.from_numpy(LABELS))
    for member, said in ((other, "blue, green, red and a, b, c"), (plain, "red and no names")):
        joined = ConcatDataset([whole, member])
        with pytest.raises(DatasetError, match=f"ConcatDataset joins .* classes, .*{said}: give"):
            ImageDataset.from_dataset(joined)
        named = ImageDataset.from_dataset(joined, classes=["x", "y", "z"])
        assert (len(named), named.classes) == (60, ("x", "y", "z"))


def test_wrong_sets_are_refused_before_any_training(monkeypatch, folder):
    monkeypatch.setattr(finetuning, "train_or_load", lambda *a, **k: pytest.fail("trained"))
    images = torch.rand(9, 3, 8, 8)
    for data, said in (
        (
            TensorDataset(images * 4 - 2, torch.arange(9) % 3),
            "TensorDataset, image 0: .*normalised",
        ),
        (TensorDataset(images, torch.arange(9)), "labels 3, 4, .* are none of the 3 classes"),
        (TensorDataset(images, torch.rand(9)), "doesn't give each image one class"),
        (folder(), "the training set .*|classifier"),
    ):
        with pytest.raises((DatasetError, MismatchError, ModelError), match=said):
            finetune(small_classifier(), data, progress=False)


def test_pil_images_of_several_sizes():
    pairs = [(Image.new("L", (4 + i % 2, 5), i), i % 2) for i in range(12)]
    data = ImageDataset.from_dataset(pairs)
    assert {image.size for image, _ in data} == {(4, 5), (5, 5)}
    assert data[3][0].getpixel((0, 0)) == (3, 3, 3)
