"""The drawn world: ten shapes in eight colours, each image a pure function of (seed, split, index).

Geometry, colour and background are drawn from one stream, snow from another: the same index shows
the same object with and without snow or a label, which makes exact pairs.
"""

import math

import numpy as np
import pandas as pd
from PIL import Image, ImageDraw

from ..errors import DatasetError
from . import corruptions
from .base import ImageDataset, integer

SIDE = 32
COLOURS = {
    "red": (214, 40, 40),
    "orange": (244, 140, 30),
    "yellow": (238, 214, 50),
    "green": (48, 164, 62),
    "cyan": (52, 196, 214),
    "blue": (46, 84, 216),
    "purple": (136, 58, 180),
    "pink": (246, 138, 190),
}
SPLITS = {"train": 4000, "val": 1000, "test": 2000, "pretrain": 10_000_000}
_VERSION = 2  # of the drawing: part of the fingerprint


def _polar(t, radius, x=0.0, y=0.0):
    return np.stack([x + radius * np.cos(t), y + radius * np.sin(t)], axis=1)


def _arc(radius, x=0.0, y=0.0, start=0.0, stop=2.0):
    """Points of an arc, from `start` to `stop` half turns; by default a circle."""
    return _polar(np.linspace(math.pi * start, math.pi * stop, 24), radius, x, y)


def _outlines():
    """Per class a polygon in the unit circle to fill, and a second one to cut out of rings."""
    a, b = 1.0, 0.34
    plus = np.array([-b, b, b, a, a, b, b, -b, -b, -a, -a, -b])  # x; y is x a quarter turn later
    tips = np.arange(10)
    star = _polar(-math.pi / 2 + math.pi / 5 * tips, np.where(tips % 2, 0.42, 1.0)) * 1.1
    arch = [_arc(0.85, 0, -0.05, 1, 2), [(0.85, 0.85), (0.4, 0.85)]]
    arch += [_arc(0.4, 0, -0.05, 2, 1), [(-0.4, 0.85), (-0.85, 0.85)]]
    bolt = [(0.35, -1.1), (-0.6, 0.15), (-0.05, 0.15), (-0.35, 1.1), (0.6, -0.2), (0.05, -0.2)]
    return {
        "disc": [_arc(0.85)],
        "box": [[(-0.75, -0.75), (0.75, -0.75), (0.75, 0.75), (-0.75, 0.75)]],
        "ring": [_arc(0.95), _arc(0.5)],
        "star": [star],
        "plus": [np.stack([plus, np.roll(plus, 3)], axis=1)],
        "moon": [_arc(0.95), _arc(0.8, 0.5)],
        "drop": [[(0, -1.1), *_arc(0.62, 0, 0.36, -0.15, 1.15)]],
        "bolt": [bolt],
        "arch": [np.concatenate(arch)],
        "kite": [[(0, -0.75), (0.55, -0.3), (0, 1.15), (-0.55, -0.3)]],
    }


def _textures():
    """Greyscale masks (SIDE × SIDE) that blend two background tones: plain, ramps, stripes, checks,
    clouds.
    """
    y, x = np.mgrid[:SIDE, :SIDE] / (SIDE - 1)
    masks = [*[0 * x] * 3, x, y, (x + y) / 2, (x - y + 1) / 2]
    masks += [(x * k + y * m) % 1 < 0.5 for k, m in ((4, 0), (0, 4), (3, 3))]
    masks += [(np.floor(x * 4.001) + np.floor(y * 4.001)) % 2]
    rng = np.random.RandomState(7)
    for cells in (4, 6, 8):
        cloud = Image.fromarray(rng.randint(0, 256, (cells, cells), dtype=np.uint8))
        masks.append(np.asarray(cloud.resize((SIDE, SIDE), Image.Resampling.BICUBIC)) / 255)
    return [Image.fromarray(np.uint8(255 * m)) for m in masks]


_OUTLINES, _TEXTURES = _outlines(), _textures()
CLASSES = tuple(_OUTLINES)
_RGB = np.array(list(COLOURS.values()), float)
_OVER = 4
_LUMA = np.array([0.299, 0.587, 0.114])


def _rng(seed, split, index, stream):
    # the generator counts up in the lowest word, so that word stays free and no two images share
    # numbers
    counter = [0, index, list(SPLITS).index(split), 0]
    return np.random.Generator(np.random.Philox(key=[seed, stream], counter=counter))


def _scene(seed, split, index):
    """The 16 uniform numbers that determine the clean image, and what they say of it: the colour,
    the radius in pixels, and the background's lightness in 0..1, kept away from the object's own.
    """
    u = _rng(seed, split, index, 0).random(16)
    colour = _RGB[int(u[0] * len(_RGB))] + (u[6:9] - 0.5) * 36
    tone = 0.08 + 0.84 * u[4]
    if abs(tone - colour @ _LUMA / 255) < 0.22:
        tone += 0.4 if tone < 0.5 else -0.4
    return u, colour, 6.0 + 4.5 * u[1], tone


def draw(
    seed: int, split: str, index: int, *, snow: float = 0.0, word: str | None = None
) -> Image.Image:
    """The image number `index` of a split, RGB, 32 × 32; `snow` and `word` as in `corruptions`."""
    u, colour, radius, tone = _scene(seed, split, index)
    back = 255 * tone + (u[9:12] - 0.5) * 50
    other = back + (u[5] - 0.5) * 90
    ground, second, colour = (
        tuple(np.clip(c, 0, 255).astype(int).tolist()) for c in (back, other, colour)
    )
    image = Image.new("RGB", (SIDE, SIDE), ground)
    image.paste(second, (0, 0), _TEXTURES[int(u[12] * len(_TEXTURES))])

    angle = (u[2] - 0.5) * math.pi / 2.6
    reach = 1.05 * radius
    x = reach + u[3] * (SIDE - 2 * reach)
    y = reach + u[13] * (SIDE - 5 - 2 * reach)
    cos, sin = math.cos(angle), math.sin(angle)
    turn = radius * _OVER * np.array([[cos, sin], [-sin, cos]])
    mask = Image.new("L", (SIDE * _OVER, SIDE * _OVER))
    for polygon, fill in zip(_OUTLINES[CLASSES[index % len(CLASSES)]], (255, 0), strict=False):
        points = polygon @ turn + (x * _OVER, y * _OVER)
        ImageDraw.Draw(mask).polygon(points.ravel().tolist(), fill=fill)
    image.paste(colour, (0, 0), mask.reduce(_OVER))

    if snow:
        image = corruptions.snow(image, _rng(seed, split, index, 1), strength=snow)
    if word is not None:
        image = corruptions.label(image, word)
    return image


def written(word: str | None, seed: int, split: str, index: int) -> str | None:
    """The word on image `index`: None, "" (blank paper), the "true" name, a "conflict", "random",
    or the word itself.
    """
    u = _rng(seed, split, index, 2).random()
    return corruptions.word_for(word, CLASSES, index % len(CLASSES), u)


def describe(
    seed: int, split: str, index: int, *, snow: float = 0.0, word: str | None = None
) -> dict:
    """Shape, colour, size ("small" / "big"), radius in pixels, tone of the background, word,
    snow.
    """
    u, _, radius, tone = _scene(seed, split, index)
    return {
        "shape": CLASSES[index % len(CLASSES)],
        "colour": list(COLOURS)[int(u[0] * len(COLOURS))],
        "size": "small" if u[1] < 0.5 else "big",
        "radius": float(radius),
        "tone": "dark" if tone < 0.5 else "light",
        "word": written(word, seed, split, index),
        "snow": float(snow),
    }


def load_shapes(
    *, split: str, seed: int, n: int | None = None, snow: float = 0.0, word: str | None = None
) -> ImageDataset:
    """The drawn world as a data set; class balance is exact up to one image.

    `n` images (default train 4,000, val 1,000, test 2,000); `snow` a strength in 0..1.5 (True is
    1); `word` None, "true", "conflict", "random", "blank" or any word of up to 12 letters.
    """
    n = SPLITS[split] if n is None else integer("n", n, 1)
    if not (isinstance(snow, (bool, int, float)) and 0 <= snow <= 1.5):
        raise DatasetError(f"shapes: snow is a strength in 0..1.5 (or True), got snow={snow!r}")
    if not (word is None or (isinstance(word, str) and len(word) <= 12)):
        raise DatasetError(
            "shapes: word is 'true', 'conflict', 'random', 'blank' or a word of up to 12 letters, "
            f"got {word!r}"
        )
    snow = float(snow)

    def load(i: int) -> Image.Image:
        return draw(seed, split, i, snow=snow, word=written(word, seed, split, i))

    def identity(chosen: np.ndarray) -> object:
        # with some images, as a changed renderer changes the identity
        probe = [load(int(i)).tobytes().hex() for i in chosen[:4]]
        return ["shapes", _VERSION, seed, split, snow, word, chosen.tolist(), probe]

    def rows(chosen: np.ndarray) -> pd.DataFrame:
        return pd.DataFrame(describe(seed, split, int(i), snow=snow, word=word) for i in chosen)

    return ImageDataset(
        load,
        np.arange(n) % len(CLASSES),
        CLASSES,
        name="shapes",
        split=split,
        identity=identity,
        describe=rows,
    )
