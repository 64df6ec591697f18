"""Changed views of a data set: corrupted, with a word on each image, or a few external samples."""

from collections.abc import Callable

import numpy as np
from PIL import Image

from ..checks import in_range, listed, nearest
from ..errors import DatasetError
from ..files import hash_bytes
from . import corruptions
from .base import ImageDataset, integer
from .torchvision_repair import ensure_torchvision

KINDS = ("snow", "contrast", "lighting", "marker")
_LIBRARY = "torchvision:"


def corrupted(
    dataset: ImageDataset, kind: str, strength: float = 1.0, *, seed: int = 0, **options
) -> ImageDataset:
    """The same images under a corruption; each is a function of (seed, split, its index).

    Args:
        kind: one of "snow", "contrast", "lighting", "marker" (see `datasets.corruptions`);
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
    """The same images with paper and a word along the lower edge, see `corruptions.label`.

    `metadata` has a column "word": what is written on each.

    Args:
        word: "true" (the image's class), "conflict" (another class, drawn), "random" (any class),
            "blank" (paper alone), any word of up to 24 letters, or None for no paper.
    """
    if word is not None and not (isinstance(word, str) and len(word) <= 24):
        raise DatasetError(f"word is text of up to 24 letters, or None; got {word!r}")

    def on(i: int) -> str | None:
        u = _rng(seed, dataset.split, i).random()
        return corruptions.word_for(word, dataset.classes, int(dataset.all_targets[i]), u)

    def write(image, i):
        return image if word is None else corruptions.label(image, on(i))

    return dataset.changed(write, ["written", word, seed], lambda i: {"word": on(i)})


def external_samples(
    dataset: ImageDataset, n: int, *, seed: int, apart_from: ImageDataset | None = None
) -> ImageDataset:
    """n images of each class, drawn by `seed`: the few samples that an edit may be made from.

    Args:
        apart_from: images that none of them may be, by the hash of their pixels.
    Raises:
        DatasetError: for a class with fewer images, and for images of `apart_from`.
    """
    n = integer("n", n, 1)
    if len(short := dataset.counts.index[dataset.counts < n]):
        raise DatasetError(f"{dataset.split} has fewer than {n} images of {listed(short)}")
    rng = np.random.default_rng(seed)
    own = (np.flatnonzero(dataset.targets == c) for c in range(len(dataset.classes)))
    drawn = dataset.subset(np.sort(np.concatenate([rng.permutation(i)[:n] for i in own])))
    if apart_from is not None and (same := hashes(drawn) & hashes(apart_from)):
        raise DatasetError(
            f"{len(same)} of the external samples are images of {apart_from.split}, too: give "
            "external samples from elsewhere"
        )
    return drawn


def hashes(dataset: ImageDataset) -> set[str]:
    """A hash of the pixels of each image."""
    images = (dataset[i][0] for i in range(len(dataset)))
    return {hash_bytes(str(image.size).encode(), image.tobytes()) for image in images}


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
    draw = getattr(corruptions, kind)
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
