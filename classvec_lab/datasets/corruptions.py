"""Corruptions as transforms, for images of any size: snow, contrast, lighting, marker, label.

They leave what they are given untouched and return a new RGB image of the same size, so that a
clean image and its corrupted version are a pair.
"""

from collections.abc import Sequence
from functools import lru_cache

import numpy as np
from PIL import Image, ImageDraw, ImageEnhance, ImageFont

from ..checks import in_range
from ..errors import DatasetError

SNOW = (236, 240, 247)
PAPER, INK = 245, 25
STRIP = 4  # the label covers 1 / STRIP of the height, and a letter 1 / STRIP of the width


def snow(image: Image.Image, rng: np.random.Generator, *, strength: float = 1.0) -> Image.Image:
    """Falling snow: a white veil over the whole image, then flakes of random size and place.

    `strength` scales the veil and the number of flakes: 0 changes nothing, 1 hides about half of
    the contrast. Raises DatasetError outside 0..1.5.
    """
    in_range("the strength of snow", strength, 0, 1.5, error=DatasetError)
    width, height = image.size
    u = rng.random(2)
    veil = strength * (0.40 + 0.20 * u[0])
    image = Image.blend(image, Image.new("RGB", image.size, SNOW), veil)
    n_flakes = int(strength * (25 + 30 * u[1]))
    flakes = Image.new("L", (2 * width, 2 * height))
    draw = ImageDraw.Draw(flakes)
    scale = 2 * max(width, height) / 32
    for x, y, r in rng.random((n_flakes, 3)).tolist():
        r = scale * (0.35 + 0.75 * r)
        x, y = 2 * width * x, 2 * height * y
        draw.ellipse((x - r, y - r, x + r, y + r), fill=255)
    image.paste(SNOW, (0, 0), flakes.reduce(2))
    return image


@lru_cache(maxsize=4096)
def _label(word: str, width: int, height: int) -> Image.Image:
    """The paper strip (width × height) with `word` in capitals, each letter centred in its own
    cell.
    """
    over = 4
    strip = Image.new("L", (over * width, over * height), PAPER)
    draw = ImageDraw.Draw(strip)
    cell = over * width / max(STRIP, len(word))
    font = ImageFont.load_default(size=min(over * height, 1.1 * cell) * 1.1)
    for i, letter in enumerate(word.upper()):
        draw.text(((i + 0.5) * cell, over * height / 2), letter, fill=INK, font=font, anchor="mm")
    return strip.reduce(over).convert("RGB")


def label(image: Image.Image, word: str) -> Image.Image:
    """A paper strip along the lower edge, a quarter of the height, with `word` written on it.

    An empty word gives blank paper, the control of typographic experiments. Letters stand in equal
    cells from the left, so that on a 32-pixel image with 8-pixel patches each letter fills a patch.
    """
    width, height = image.size
    image = image.copy()
    strip = _label(word, width, max(height // STRIP, 1))
    image.paste(strip, (0, height - strip.height))
    return image


def contrast(image: Image.Image, rng: np.random.Generator, *, strength: float = 1.0) -> Image.Image:
    """Another scanner: contrast falls by up to 60 % at strength 1, drawn for each image."""
    in_range("the loss of contrast", strength, 0, 1.5, error=DatasetError)
    return ImageEnhance.Contrast(image).enhance(1 - 0.6 * strength * (0.75 + 0.25 * rng.random()))


def lighting(image: Image.Image, rng: np.random.Generator, *, strength: float = 1.0) -> Image.Image:
    """Another lamp: one side, drawn for each image, is brighter and the other darker by 60 %."""
    in_range("the strength of lighting", strength, 0, 1.5, error=DatasetError)
    ramp = np.linspace(1 - 0.6 * strength, 1 + 0.6 * strength, image.width)[:: rng.choice([-1, 1])]
    pixels = np.asarray(image.convert("RGB")) * ramp[None, :, None]
    return Image.fromarray(np.uint8(np.clip(pixels, 0, 255)))


def marker(image: Image.Image, rng: np.random.Generator, *, strength: float = 1.0) -> Image.Image:
    """Another site's mark: a bright square with a dark frame in a corner drawn for each image.

    At strength 1 it is a quarter of the shorter side wide.
    """
    in_range("the size of the marker", strength, 0, 1.5, error=DatasetError)
    image, side = image.convert("RGB"), round(strength * min(image.size) / 4)
    x, y = (int(rng.integers(2)) * (length - side) for length in image.size)
    if side:
        box = (x, y, x + side - 1, y + side - 1)
        ImageDraw.Draw(image).rectangle(box, fill=(PAPER,) * 3, outline=(INK,) * 3)
    return image


def word_for(word: str | None, classes: Sequence[str], c: int, u: float) -> str | None:
    """What is written on an image of class c: None, "" (blank paper), the "true" name, a
    "conflict", a "random" name, or the word itself; u in [0, 1) draws.
    """
    n = len(classes)
    names = {
        "true": classes[c],
        "random": classes[int(u * n)],
        "conflict": classes[(c + 1 + int(u * (n - 1))) % n],
        "blank": "",
    }
    return names.get(word, word)
