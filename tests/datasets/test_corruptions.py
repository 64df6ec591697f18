import numpy as np
import pytest
import torch
from conftest import CLASSES as CLASS_NAMES
from conftest import coloured
from PIL import Image

from classvec_lab import load_dataset
from classvec_lab.datasets import ImageDataset
from classvec_lab.datasets.corruptions import (
    KINDS,
    corrupted,
    label,
    marker,
    snow,
    transplanted,
    written_on,
)
from classvec_lab.datasets.shapes import CLASSES
from classvec_lab.errors import DatasetError

SIZES = [(32, 32), (64, 48), (7, 5), (224, 100)]


def picture(size, seed=0):
    return Image.fromarray(
        np.random.default_rng(seed).integers(0, 256, (size[1], size[0], 3), dtype=np.uint8)
    )


def pixels(image):
    return np.asarray(image).astype(int)


@pytest.mark.parametrize("size", SIZES)
def test_both_leave_the_original_alone(size):
    image = picture(size)
    before = image.tobytes()
    for made in (
        snow(image, np.random.default_rng(0)),
        label(image, "cat"),
        snow(image, np.random.default_rng(0), strength=0),
    ):
        assert (made.mode, made.size) == ("RGB", size)
        assert made is not image
        made.putpixel((0, 0), (1, 2, 3))
        assert image.tobytes() == before


def test_snow_is_decided_by_its_generator():
    image = picture((32, 32))
    one, same, other = (snow(image, np.random.default_rng(seed)).tobytes() for seed in (0, 0, 1))
    assert one == same != other


def test_strength_of_snow():
    image = picture((64, 64))
    assert snow(image, np.random.default_rng(0), strength=0).tobytes() == image.tobytes()
    spread = [
        pixels(snow(image, np.random.default_rng(0), strength=s)).std()
        for s in (0, 0.25, 0.5, 1, 1.5)
    ]
    assert (np.diff(spread) < 0).all()
    bright = [
        pixels(snow(image, np.random.default_rng(0), strength=s)).mean()
        for s in (0, 0.25, 0.5, 1, 1.5)
    ]
    assert (np.diff(bright) > 0).all()
    assert 0.3 < spread[3] / spread[0] < 0.6  # "about half of the contrast"
    for strength in (-0.1, 1.6, float("nan")):
        with pytest.raises(DatasetError, match=r"\[0, 1\.5\]"):
            snow(image, np.random.default_rng(0), strength=strength)


@pytest.mark.parametrize("size", SIZES)
def test_a_label_covers_the_lowest_quarter_only(size):
    image = picture(size)
    height = max(size[1] // 4, 1)
    for word in ("", "cat", "a-long-word!"):
        found = pixels(label(image, word))
        assert np.array_equal(found[:-height], pixels(image)[:-height])
        strip = found[-height:]
        assert (strip == strip[..., :1]).all()
        if not word:
            assert len(np.unique(strip)) == 1
        elif size[1] >= 32:
            assert strip.min() < 150 < 230 < strip.max()


def test_each_letter_stands_in_a_patch_of_its_own():
    blank = pixels(label(picture((32, 32)), ""))
    for word in ("disc", "box", "plus"):
        found = pixels(label(picture((32, 32)), word))
        inked = [
            (found[24:, 8 * k : 8 * k + 8] != blank[24:, 8 * k : 8 * k + 8]).any() for k in range(4)
        ]
        assert inked == [k < len(word) for k in range(4)]


def test_words_differ_and_case_does_not():
    image = picture((32, 32))
    words = [label(image, word).tobytes() for word in CLASSES]
    assert len(set(words)) == len(words)
    assert label(image, "DISC").tobytes() == words[0]


@pytest.mark.parametrize("kind", ["contrast", "lighting", "marker"])
@pytest.mark.parametrize("size", [size for size in SIZES if min(size) > 8])
def test_shifts_of_a_site_grow_with_their_strength_and_leave_the_original_alone(kind, size):
    image, changed = picture(size), KINDS[kind]
    before = image.tobytes()
    away = [
        np.abs(pixels(changed(image, np.random.default_rng(0), strength=s)) - pixels(image)).mean()
        for s in (0, 0.5, 1.0)
    ]
    assert away[0] == 0 < away[1] < away[2]
    assert image.tobytes() == before
    one, same = (changed(image, np.random.default_rng(3)) for _ in range(2))
    assert one.tobytes() == same.tobytes()
    assert (one.mode, one.size) == ("RGB", size)
    for strength in (-0.1, 1.6, float("nan")):
        with pytest.raises(DatasetError, match=r"\[0, 1\.5\]"):
            changed(image, np.random.default_rng(0), strength=strength)


def test_a_marker_covers_a_sixteenth_of_a_square_image_in_one_of_four_corners():
    image, places = picture((64, 64)), set()
    for seed in range(20):
        away = np.abs(pixels(marker(image, np.random.default_rng(seed))) - pixels(image)).any(2)
        rows, columns = (np.flatnonzero(away.any(axis=a)) for a in (1, 0))
        assert (np.ptp(rows), np.ptp(columns)) == (15, 15)
        places.add((int(rows[0]), int(columns[0])))
    assert places == {(0, 0), (0, 48), (48, 0), (48, 48)}


def test_a_view_is_the_same_each_time_and_pairs_with_its_images():
    data = coloured(12)
    one, same, other = (corrupted(data, "snow", 0.5, seed=s) for s in (0, 0, 1))
    assert one.fingerprint == same.fingerprint != other.fingerprint != data.fingerprint
    assert [one[i][0].tobytes() for i in range(12)] == [same[i][0].tobytes() for i in range(12)]
    assert (one.targets == data.targets).all()
    assert set(one.metadata["corruption"]) == {"snow"}
    # an image stays what it is, whatever is chosen beside it
    part = one.subset([7, 3])
    assert part[0][0].tobytes() == one[7][0].tobytes()
    assert corrupted(data.subset([7, 3]), "snow", 0.5)[0][0].tobytes() == one[7][0].tobytes()
    assert len(one.hashes & data.hashes) == 0
    assert corrupted(data, "snow", 0.0).hashes == data.hashes


def test_views_keep_what_is_known_of_each_image():
    data = load_dataset("shapes", split="test", limit=20)
    worn = corrupted(written_on(data, "conflict"), "marker")
    assert (worn.metadata["colour"] == data.metadata["colour"]).all()
    word = worn.metadata["word"].tolist()
    assert all(w in CLASSES and w != CLASSES[y] for w, y in zip(word, data.targets, strict=True))
    assert worn.subset([4]).metadata["word"].tolist() == word[4:5]


def test_any_word_is_written_on_any_image():
    data = coloured(9)
    for text, expected in (
        ("true", [CLASS_NAMES[y] for y in data.targets]),
        ("blank", [""] * 9),
        ("iPod", ["iPod"] * 9),
    ):
        view = written_on(data, text)
        assert view.metadata["word"].tolist() == expected
        drawn = label(data[0][0], expected[0])
        assert view[0][0].tobytes() == drawn.tobytes()
    assert written_on(data, None)[0][0].tobytes() == data[0][0].tobytes()
    words = [written_on(coloured(300), "conflict", seed=s).metadata["word"] for s in (0, 1)]
    assert not words[0].equals(words[1])
    for wrong in ("a" * 61, 3):
        with pytest.raises(DatasetError, match="up to 60 letters"):
            written_on(data, wrong)


def test_torchvisions_transforms_serve_by_name_and_share():
    data = coloured(4)
    noisy = [corrupted(data, "torchvision:RandomInvert", s, p=1.0)[0][0] for s in (0, 0.5, 1.0)]
    before = pixels(data[0][0])
    assert (pixels(noisy[0]) == before).all()
    assert (pixels(noisy[2]) == 255 - before).all()
    assert np.abs(pixels(noisy[1]) - 127.5).max() <= 1
    jitter = [
        corrupted(data, "torchvision:ColorJitter", seed=s, brightness=0.9)[1][0].tobytes()
        for s in (0, 0, 1)
    ]
    assert jitter[0] == jitter[1] != jitter[2]
    state = torch.get_rng_state()
    corrupted(data, "torchvision:ColorJitter", brightness=0.9)[0]
    assert torch.equal(state, torch.get_rng_state())


def test_images_of_another_folder_stand_for_the_environment(tmp_path):
    for seed, split in enumerate(("train", "test")):
        for i, name in enumerate(CLASS_NAMES):
            (tmp_path / split / name).mkdir(parents=True)
            picture((8, 8), 10 * seed + i).save(tmp_path / split / name / "a.png")
    snowy = corrupted(coloured(9, split="test"), f"folder:{tmp_path}")
    assert (len(snowy), snowy.split, snowy.classes) == (3, "test", CLASS_NAMES)


def test_corruptions_that_cannot_be_are_refused_with_what_there_is(tmp_path):
    data = coloured(3)
    for given, said in (
        (lambda: corrupted(data, "snwo"), "no corruption 'snwo'; did you mean 'snow'?"),
        (lambda: corrupted(data, "snow", 2.0), r"the strength of snow must lie in \[0, 1\.5\]"),
        (lambda: corrupted(data, "snow", flakes=3), "'snow' has no option flakes"),
        (lambda: corrupted(data, "torchvision:Snow"), r"v2\.Snow.* can't be made"),
        (lambda: corrupted(data, "torchvision:GaussianBlur", sigma=1.0), "can't be made"),
        (lambda: corrupted(data, "torchvision:RandomInvert", 1.2), r"\[0, 1\]"),
        (lambda: corrupted(data, f"folder:{tmp_path}", 0.5), r"\[1, 1\]"),
        (lambda: corrupted(data, "folder:nowhere"), "nowhere"),
    ):
        with pytest.raises(DatasetError, match=said):
            given()


def of(images, split="train"):
    """A data set of these images, of two classes."""
    targets = np.arange(len(images)) % 2
    identity = {"identity": lambda chosen: [split], "name": "given", "split": split}
    return ImageDataset(lambda i: images[i], targets, ("a", "b"), **identity)


@pytest.mark.parametrize("size", SIZES)
def test_a_pair_of_gain_and_offset_is_worn_exactly_by_any_image(size):
    """x' = 0.5 x + (10, 20, 30), fitted on one pair, is what another image gets, whatever its size."""

    def veiled(image):
        return Image.fromarray(np.uint8(0.5 * pixels(image) + [10, 20, 30]))

    pair, others = picture((32, 32)), [picture(size, seed) for seed in (1, 2)]
    made = transplanted(of(others), of([pair]), of([veiled(pair)]), copies=2)
    assert len(made) == 4
    assert made.metadata["pair"].tolist() == [-1, -1, 0, 0]
    for i, image in enumerate(others):
        assert made[i][0].tobytes() == image.tobytes()
        assert made[2 + i][0].size == size
        assert np.abs(pixels(made[2 + i][0]) - pixels(veiled(image))).max() <= 2


@pytest.mark.parametrize("colour", [255, 0])
def test_what_covers_a_pixel_covers_it_on_any_ground_and_nowhere_else(colour):
    """A white or black square on a dark pair is that square on a bright image, or mirrored."""
    pair = Image.fromarray(np.uint8(60 + 0.5 * pixels(picture((16, 16)))))
    covered = pair.copy()
    covered.paste((colour,) * 3, (2, 3, 6, 7))
    bright = Image.new("RGB", (16, 16), (200, 120, 60))
    made, places = transplanted(of([bright] * 30), of([pair]), of([covered]), copies=2), set()
    for i in range(30, 60):
        hit = (np.abs(pixels(made[i][0]) - colour) <= 3).all(axis=2)
        assert hit.sum() == 16
        assert np.abs(pixels(made[i][0])[~hit] - [200, 120, 60]).max() <= 4
        rows, columns = np.nonzero(hit)
        places.add((int(rows[0]), int(columns[0])))
    assert places == {(3, 2), (3, 10), (9, 2), (9, 10)}


def test_copies_are_drawn_anew_by_seed_and_keep_labels_and_identity():
    data, few = coloured(9), coloured(6, split="val")
    worn = corrupted(few, "snow")
    one, same, other = (transplanted(data, few, worn, copies=4, seed=s) for s in (0, 0, 1))
    assert one.fingerprint == same.fingerprint != other.fingerprint != data.fingerprint
    assert [x.tobytes() for x, _ in one] == [x.tobytes() for x, _ in same]
    assert np.array_equal(one.targets, np.tile(data.targets, 4))
    assert one.subset([20]).fingerprint != one.subset([21]).fingerprint
    worn_pairs = one.metadata["pair"].to_numpy().reshape(4, 9)
    assert (worn_pairs[:2] == -1).all()
    assert (worn_pairs[2:] >= 0).all()
    assert not np.array_equal(*worn_pairs[2:])
    unknown = of([picture((8, 8), i) for i in range(6)])
    unknown.identity = lambda chosen: None
    assert transplanted(unknown, few, worn, copies=2).fingerprint is None


def test_what_is_no_pair_is_refused():
    data = coloured(6)
    small = of([picture((8, 8))] * 6)
    large = of([picture((9, 8))] * 6)
    for given, said in (
        (lambda: transplanted(data, small, large), "of one size"),
        (lambda: transplanted(data, small, small.subset([0, 1])), "a pair is one image"),
        (lambda: transplanted(data, small, small, copies=3), "copies must be even"),
        (lambda: transplanted(data, small, small, copies=0), "copies must be an integer >= 2"),
    ):
        with pytest.raises(DatasetError, match=said):
            given()
