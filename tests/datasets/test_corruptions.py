import numpy as np
import pytest
from PIL import Image

from classvec_lab.datasets.corruptions import label, snow
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
    for corrupted in (
        snow(image, np.random.default_rng(0)),
        label(image, "cat"),
        snow(image, np.random.default_rng(0), strength=0),
    ):
        assert (corrupted.mode, corrupted.size) == ("RGB", size)
        assert corrupted is not image
        corrupted.putpixel((0, 0), (1, 2, 3))
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
