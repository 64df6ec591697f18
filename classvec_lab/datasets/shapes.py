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
from .base import ImageDataset

SIDE = 32
CLASSES = ("disc", "box", "ring", "star", "plus", "moon", "drop", "bolt", "arch", "kite")
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
_SPLIT_ID = {name: i for i, name in enumerate(SPLITS)}
_VERSION = 2  # of the drawing: part of the fingerprint


def _circle(radius=1.0, x=0.0, y=0.0, start=0.0, stop=2 * math.pi, n=24):
    t = np.linspace(start, stop, n)
    return np.stack([x + radius * np.cos(t), y + radius * np.sin(t)], axis=1)


def _star():
    t = -math.pi / 2 + math.pi / 5 * np.arange(10)
    return (
        np.stack([np.cos(t), np.sin(t)], axis=1) * np.where(np.arange(10) % 2, 0.42, 1.0)[:, None]
    )


def _outlines():
    """Per class the polygons in the unit circle, each with True (fill) or False (cut out)."""
    a, b = 1.0, 0.34
    plus = [(-b, -a), (b, -a), (b, -b), (a, -b), (a, b), (b, b), (b, a), (-b, a), (-b, b), (-a, b)]
    plus += [(-a, -b), (-b, -b)]
    arch = [_circle(0.85, 0, -0.05, math.pi, 2 * math.pi), [(0.85, 0.85), (0.4, 0.85)]]
    arch += [_circle(0.4, 0, -0.05, 2 * math.pi, math.pi), [(-0.4, 0.85), (-0.85, 0.85)]]
    outlines = {
        "disc": [(_circle(0.85), True)],
        "box": [([(-0.75, -0.75), (0.75, -0.75), (0.75, 0.75), (-0.75, 0.75)], True)],
        "ring": [(_circle(0.95), True), (_circle(0.5), False)],
        "star": [(_star() * 1.1, True)],
        "plus": [(plus, True)],
        "moon": [(_circle(0.95), True), (_circle(0.8, 0.5, 0), False)],
        "drop": [
            (
                np.concatenate(
                    [[(0, -1.1)], _circle(0.62, 0, 0.36, -0.15 * math.pi, 1.15 * math.pi)]
                ),
                True,
            )
        ],
        "bolt": [
            (
                [
                    (0.35, -1.1),
                    (-0.6, 0.15),
                    (-0.05, 0.15),
                    (-0.35, 1.1),
                    (0.6, -0.2),
                    (0.05, -0.2),
                ],
                True,
            )
        ],
        "arch": [(np.concatenate(arch), True)],
        "kite": [([(0, -0.75), (0.55, -0.3), (0, 1.15), (-0.55, -0.3)], True)],
    }
    return [[(np.asarray(p, float), fill) for p, fill in outlines[name]] for name in CLASSES]


def _textures():
    """Greyscale masks (SIDE × SIDE) that blend two background tones: plain, ramps, stripes, checks,
    clouds.
    """
    y, x = np.mgrid[:SIDE, :SIDE] / (SIDE - 1)
    masks = [np.zeros_like(x)] * 3
    masks += [x, y, (x + y) / 2, (x - y + 1) / 2]
    masks += [((x * k + y * m) % 1 < 0.5) for k, m in ((4, 0), (0, 4), (3, 3))]
    masks += [((np.floor(x * 4.001) + np.floor(y * 4.001)) % 2)]
    rng = np.random.RandomState(7)
    for cells in (4, 6, 8):
        cloud = Image.fromarray(rng.randint(0, 256, (cells, cells), dtype=np.uint8))
        masks.append(np.asarray(cloud.resize((SIDE, SIDE), Image.Resampling.BICUBIC)) / 255)
    return [Image.fromarray(np.uint8(255 * m)) for m in masks]


_OUTLINES, _TEXTURES = _outlines(), _textures()
_RGB, _COLOUR_NAMES = np.array(list(COLOURS.values()), float), tuple(COLOURS)
_OVER = 4
_LUMA = np.array([0.299, 0.587, 0.114])


def _scene(seed: int, split: str, index: int) -> tuple[int, np.ndarray]:
    """Class and the 16 uniform numbers that determine the clean image."""
    return index % len(CLASSES), _rng(seed, split, index, 0).random(16)


def _rng(seed: int, split: str, index: int, stream: int) -> np.random.Generator:
    # the generator counts up in the lowest word, so that word stays free and no two images share
    # numbers
    return np.random.Generator(
        np.random.Philox(key=[seed, stream], counter=[0, index, _SPLIT_ID[split], 0])
    )


def _rgb(u: np.ndarray) -> np.ndarray:
    return _RGB[int(u[0] * len(_RGB))] + (u[6:9] - 0.5) * 36


def _tone(u: np.ndarray) -> float:
    """Lightness of the background in 0..1, kept away from the object's own so that it stays
    visible.
    """
    tone = 0.08 + 0.84 * u[4]
    if abs(tone - _rgb(u) @ _LUMA / 255) < 0.22:
        tone += 0.4 if tone < 0.5 else -0.4
    return tone


def _radius(u: np.ndarray) -> float:
    return 6.0 + 4.5 * u[1]


def draw(
    seed: int, split: str, index: int, *, snow: float = 0.0, word: str | None = None
) -> Image.Image:
    """The image number `index` of a split, RGB, 32 × 32; `snow` and `word` as in `corruptions`."""
    shape, u = _scene(seed, split, index)
    colour = _rgb(u)
    tone = _tone(u)
    tint = (u[9:12] - 0.5) * 50
    back = 255 * tone + tint
    other = back + (u[5] - 0.5) * 90
    ground, second, colour = (
        tuple(np.clip(c, 0, 255).astype(int).tolist()) for c in (back, other, colour)
    )
    image = Image.new("RGB", (SIDE, SIDE), ground)
    image.paste(second, (0, 0), _TEXTURES[int(u[12] * len(_TEXTURES))])

    radius = _radius(u)
    angle = (u[2] - 0.5) * math.pi / 2.6
    reach = 1.05 * radius
    x = reach + u[3] * (SIDE - 2 * reach)
    y = reach + u[13] * max(SIDE - 5 - 2 * reach, 0.0)
    cos, sin = radius * _OVER * math.cos(angle), radius * _OVER * math.sin(angle)
    turn = np.array([[cos, sin], [-sin, cos]])
    mask = Image.new("L", (SIDE * _OVER, SIDE * _OVER))
    pen = ImageDraw.Draw(mask)
    for polygon, fill in _OUTLINES[shape]:
        points = polygon @ turn + (x * _OVER, y * _OVER)
        pen.polygon(points.ravel().tolist(), fill=255 if fill else 0)
    image.paste(colour, (0, 0), mask.reduce(_OVER))

    if snow:
        image = corruptions.snow(image, _rng(seed, split, index, 1), strength=float(snow))
    if word is not None:
        image = corruptions.label(image, word)
    return image


def written(word: str | None, seed: int, split: str, index: int) -> str | None:
    """The word on image `index`: None, "" (blank paper), the "true" name, a "conflict", "random",
    or the word itself.
    """
    shape = index % len(CLASSES)
    if word == "true":
        return CLASSES[shape]
    if word in ("conflict", "random"):
        u = _rng(seed, split, index, 2).random()
        if word == "random":
            return CLASSES[int(u * len(CLASSES))]
        return CLASSES[(shape + 1 + int(u * (len(CLASSES) - 1))) % len(CLASSES)]
    return "" if word == "blank" else word


def describe_one(
    seed: int, split: str, index: int, *, snow: float = 0.0, word: str | None = None
) -> dict:
    """Shape, colour, size ("small" / "big"), radius in pixels, tone of the background, word,
    snow.
    """
    shape, u = _scene(seed, split, index)
    return {
        "shape": CLASSES[shape],
        "colour": _COLOUR_NAMES[int(u[0] * len(_COLOUR_NAMES))],
        "size": "small" if u[1] < 0.5 else "big",
        "radius": float(_radius(u)),
        "tone": "dark" if _tone(u) < 0.5 else "light",
        "word": written(word, seed, split, index),
        "snow": float(snow),
    }


def describe(
    seed: int, split: str, indices, *, snow: float = 0.0, word: str | None = None
) -> pd.DataFrame:
    """`describe_one` of each index, one row an image."""
    return pd.DataFrame([describe_one(seed, split, int(i), snow=snow, word=word) for i in indices])


def load_shapes(
    *, split: str, seed: int, n: int | None = None, snow: float = 0.0, word: str | None = None
) -> ImageDataset:
    """The drawn world as a data set; class balance is exact up to one image.

    `n` images (default train 4,000, val 1,000, test 2,000); `snow` a strength in 0..1.5 (True is
    1); `word` None, "true", "conflict", "random", "blank" or any word of up to 12 letters.
    """
    if split not in SPLITS:
        raise DatasetError(f"shapes has the splits {', '.join(SPLITS)}; got split={split!r}")
    n = SPLITS[split] if n is None else n
    if isinstance(n, bool) or not (isinstance(n, int | np.integer) and 0 < n <= SPLITS["pretrain"]):
        raise DatasetError(f"shapes: n must be a positive number of images, got n={n!r}")
    if not (isinstance(seed, int | np.integer) and 0 <= seed < 2**63):
        raise DatasetError(f"shapes: seed must be an integer >= 0, got seed={seed!r}")
    if not (isinstance(snow, (bool, int, float)) and 0 <= snow <= 1.5):
        raise DatasetError(f"shapes: snow is a strength in 0..1.5 (or True), got snow={snow!r}")
    if not (word is None or (isinstance(word, str) and len(word) <= 12)):
        raise DatasetError(
            "shapes: word is 'true', 'conflict', 'random', 'blank' or a word of up to 12 letters, "
            f"got {word!r}"
        )
    seed, indices = int(seed), np.arange(n)

    def load(i: int) -> Image.Image:
        return draw(seed, split, i, snow=float(snow), word=written(word, seed, split, i))

    def identity(chosen: np.ndarray) -> object:
        probe = [
            load(int(i)).tobytes().hex() for i in chosen[:4]
        ]  # a changed renderer changes the identity
        return ["shapes", _VERSION, seed, split, float(snow), word, chosen.tolist(), probe]

    return ImageDataset(
        load,
        indices % len(CLASSES),
        CLASSES,
        name="shapes",
        split=split,
        identity=identity,
        metadata=lambda chosen: describe(seed, split, chosen, snow=snow, word=word),
    )
