"""Corruptions of images of any size, snow, contrast, lighting, marker, label, and of data sets.

They leave what they are given untouched and return a new RGB image of the same size, so that a
clean image and its corrupted version are a pair.
"""

import itertools
from collections.abc import Callable, Sequence
from functools import lru_cache

import numpy as np
import pandas as pd
from PIL import Image, ImageDraw, ImageEnhance, ImageFont

from ..checks import in_range, listed, nearest
from ..errors import DatasetError
from ..files import hash_bytes
from .base import ImageDataset, integer
from .torchvision_repair import ensure_torchvision

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


KINDS = {"snow": snow, "contrast": contrast, "lighting": lighting, "marker": marker}
_LIBRARY = "torchvision:"


def corrupted(
    dataset: ImageDataset, kind: str, strength: float = 1.0, *, seed: int = 0, **options
) -> ImageDataset:
    """The same images under a corruption; each is a function of (seed, split, its index).

    Args:
        kind: one of "snow", "contrast", "lighting", "marker" (see the functions of these names);
            "torchvision:NAME", a class of torchvision.transforms.v2 such as "GaussianBlur"; or
            "folder:PATH", other images of the same split and classes, taken there (no pairs).
        strength: of the own kinds in 0..1.5, 0 changes nothing; of torchvision's in 0..1, the share
            with which its result is blended with the original.
        options: of torchvision's class, such as kernel_size=5.
    Raises:
        DatasetError: for a kind that isn't there, a strength out of range, options that it refuses.
    """
    if kind.startswith("folder:"):
        from . import load_dataset

        in_range(f"the strength of {kind}", strength, 1, 1, error=DatasetError)
        path = kind.removeprefix("folder:")
        return load_dataset(path, split=dataset.split, classes=dataset.classes, **options)
    change = _change(kind, strength, options)
    return dataset.changed(
        lambda image, i: change(image, _rng(seed, dataset.split, i)),
        ["corrupted", kind, float(strength), seed, options],
        lambda i: {"corruption": kind, "strength": float(strength)},
    )


def written_on(dataset: ImageDataset, word: str | None, *, seed: int = 0) -> ImageDataset:
    """The same images with paper and a word along the lower edge, see `label`.

    `metadata` has a column "word": what is written on each.

    Args:
        word: "true" (the image's class), "conflict" (another class, drawn), "random" (any class),
            "blank" (paper alone), any word of up to 60 letters, or None for no paper.
    """
    if word is not None and not (isinstance(word, str) and len(word) <= 60):
        raise DatasetError(f"word is text of up to 60 letters, or None; got {word!r}")

    def on(i: int) -> str | None:
        u = _rng(seed, dataset.split, i).random() if word in ("conflict", "random") else 0
        return word_for(word, dataset.classes, int(dataset.all_targets[i]), u)

    def write(image, i):
        return image if word is None else label(image, on(i))

    return dataset.changed(write, ["written", word, seed], lambda i: {"word": on(i)})


def transplanted(
    dataset: ImageDataset,
    without: ImageDataset,
    having: ImageDataset,
    *,
    copies: int = 8,
    seed: int = 0,
) -> ImageDataset:
    """Images with what a few pairs differ in, so that few samples show an attribute on many images.

    Of a pair the change is a gain for all pixels and an offset of each channel, fitted to most
    pixels (so that flakes don't count), and a cover, the share of the way to white or black that
    each pixel is still off. Another image gets all three, the cover mirrored at random.

    Args:
        dataset: N images.
        without, having: the same images without and with the attribute, in one order.
        copies: even. Each image stays as it is in the first half of its copies and wears a pair,
            drawn anew, in every other.
    Returns:
        copies · N images, one copy of all after the other, with the labels of `dataset`; `metadata`
        has a column "pair": which one is worn, -1 for none.
    Raises:
        DatasetError: for what are no pairs, and an odd number of copies.
    """
    if integer("copies", copies, 2) % 2:
        raise DatasetError(f"copies must be even, half of them stay as they are; got {copies}")
    both = ([np.float64(x.convert("RGB")) for x, _ in part] for part in (without, having))
    pairs = list(itertools.zip_longest(*both, fillvalue=np.zeros(0)))
    if any(a.shape != b.shape for a, b in pairs):
        raise DatasetError("a pair is one image without and with the attribute, of one size")
    changes = [_pair_change(*pair) for pair in pairs]
    size, total = len(dataset), copies * len(dataset)
    draws = np.random.default_rng(seed).integers([[len(pairs)], [2], [2]], size=(3, total)).T
    draws[: total // 2, 0] = -1

    def load(k):
        image, (pair, *flips) = dataset[k % size][0].convert("RGB"), draws[k]
        if pair < 0:
            return image
        gain, offset, cover = changes[pair]
        cover = cover[:: 1 - 2 * flips[0], :: 1 - 2 * flips[1]]
        ends = zip(image.size[::-1], cover.shape, strict=False)
        cover = cover[np.ix_(*(np.arange(n) * m // n for n, m in ends))]
        base = np.clip(gain * np.asarray(image) + offset, 0, 255)
        return Image.fromarray(np.uint8(base + cover * _room(base, cover) + 0.5))

    def known(chosen):
        parts = [d.fingerprint for d in (dataset, without, having)]
        some = [hash_bytes(load(int(k)).tobytes()) for k in chosen[-4:]]
        return None if None in parts else [*parts, some, seed, copies, chosen.tolist()]

    targets, pair = np.tile(dataset.targets, copies), pd.DataFrame({"pair": draws[:, 0]})
    names = {"name": dataset.name, "split": dataset.split}
    return ImageDataset(load, targets, dataset.classes, **names, identity=known, describe=pair)


def _pair_change(before, after):
    """Gain, offset (3,) and cover (H, W, 3) of one pair, the fit weighing small errors most."""
    weight = np.ones((*before.shape[:2], 1))
    for _ in range(10):
        share = weight / weight.sum()
        means = [(share * x).sum(axis=(0, 1)) for x in (before, after)]
        x, y = before - means[0], after - means[1]
        gain = (share * x * y).sum() / max((share * x * x).sum(), 1e-9)
        weight = 1 / (2 + np.square(y - gain * x).sum(axis=2, keepdims=True))
    offset = means[1] - gain * means[0]
    base = np.clip(gain * before + offset, 0, 255)
    rest = after - base
    rest[np.abs(rest) <= 2] = 0  # what rounding does is no cover
    return gain, offset, rest / np.maximum(_room(base, rest), 16)


def _room(base, towards):
    return np.where(towards > 0, 255 - base, base)


def _rng(seed: int, split: str, i: int) -> np.random.Generator:
    return np.random.default_rng([seed, i, *split.encode()])


def _change(kind: str, strength: float, options: dict) -> Callable:
    if kind.startswith(_LIBRARY):
        in_range(f"the share of {kind}", strength, 0, 1, error=DatasetError)
        return _of_torchvision(kind.removeprefix(_LIBRARY), options, strength)
    if kind not in KINDS:
        raise DatasetError(
            f"no corruption {kind!r}{nearest(kind, [*KINDS, _LIBRARY])} There are {listed(KINDS)} "
            f'and "{_LIBRARY}NAME"'
        )
    if options:
        raise DatasetError(f"{kind!r} has no option {listed(options)}; it takes a strength")
    draw = KINDS[kind]
    in_range(f"the strength of {kind}", strength, 0, 1.5, error=DatasetError)
    return lambda image, rng: draw(image, rng, strength=strength)


def _of_torchvision(name: str, options: dict, strength: float) -> Callable:
    import torch

    ensure_torchvision()
    from torchvision.transforms import v2

    try:
        transform = getattr(v2, name)(**options)
    except (AttributeError, TypeError, ValueError) as error:
        raise DatasetError(
            f"torchvision.transforms.v2.{name}(**{options}) can't be made: {error}"
        ) from error

    def blended(image, rng):
        image = image.convert("RGB")
        with torch.random.fork_rng(devices=[]):
            torch.manual_seed(int(rng.integers(2**31)))
            whole = transform(image).convert("RGB").resize(image.size)
        return Image.blend(image, whole, strength)

    return blended
