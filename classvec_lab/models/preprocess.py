"""`Preprocess`: a library's evaluation transform, or torchvision's, known by its configuration."""

import json
import re
import warnings
from collections.abc import Callable, Mapping, Sequence
from contextlib import suppress
from dataclasses import dataclass
from enum import Enum
from functools import cached_property
from importlib import import_module
from inspect import signature

import numpy as np
import torch
from PIL import Image
from torch.utils.data import DataLoader, Dataset

from ..checks import one_of
from ..datasets.items import usable
from ..datasets.torchvision_repair import ensure_torchvision
from ..errors import ClassvecError, DatasetError, ModelError
from .blocks import evaluating

# all that a card may name: nothing else is imported or called
ROOTS = [f"torchvision.transforms{room}" for room in (".v2", "._presets", "")]


@dataclass(frozen=True)
class Preprocess:
    """PIL image in, normalised float32 tensor (3, H, W) out.

    Args:
        library: "open_clip", "timm" or "transformers", whose evaluation transform it is, or
            "torchvision", whose transforms it is made of.
        config: JSON-able: the fields of open_clip's PreprocessCfg, what
            `timm.data.resolve_model_data_config` or an image processor's `to_dict` gives, or what
            `of` makes. Being plain data it can be hashed, saved and compared.
    """

    library: str
    config: Mapping

    def __post_init__(self):
        config = json.dumps(dict(self.config), sort_keys=True)  # as a card keeps it
        if huge := re.search(r"(?<![.\d])([5-9]\d{3}|\d{5,})(?![.\d])", config):
            raise ModelError(f"images are made of at most 4999 pixels a side, not of {huge[0]}")
        object.__setattr__(self, "config", json.loads(config))

    @classmethod
    def of(cls, transform: Callable | Mapping) -> Callable:
        """The same transform as plain data, where it can be, else itself.

        Args:
            transform: made of torchvision's transforms, or size, mean and std in a mapping: the
                shorter edge is resized, the middle cut out, and three channels normalised.
        Raises:
            ModelError: for a mapping without these.
        """
        if isinstance(transform, Mapping):
            if not transform.keys() >= {"size", "mean", "std"}:
                raise ModelError(f"preprocess needs size, mean and std; got {dict(transform)}")
            return cls("open_clip", transform)
        if type(transform).__module__.startswith(ROOTS[-1]):
            noise = np.random.default_rng(0).integers(0, 256, (48, 64, 3), np.uint8)
            image, steady = Image.fromarray(noise), True
            with suppress(Exception), torch.random.fork_rng(devices=[]):
                first = transform(image)
                steady = all(torch.equal(first, transform(image)) for _ in range(8))
                plain = cls("torchvision", _described(transform))
                if steady and torch.equal(plain(image), first):
                    return plain
            if not steady:
                what = "the preprocessing gives other pixels at each call, as random transforms do"
                warnings.warn(f"{what}: give that of evaluation, without them", stacklevel=3)
        return transform

    @cached_property
    def _transform(self) -> Callable:
        ensure_torchvision()
        try:
            return self._made()
        except Exception as error:
            what = f"no preprocessing of {self.library!r} can be made of {self.config}"
            raise ModelError(f"{what} ({type(error).__name__}: {error})") from error

    def _made(self) -> Callable:
        if self.library == "torchvision":
            return _built(self.config)
        if self.library == "timm":
            from timm.data import create_transform

            return create_transform(**self.config, is_training=False)
        if self.library == "transformers":
            import transformers

            kind = getattr(transformers, self.config["image_processor_type"])
            if not issubclass(kind, transformers.ImageProcessingMixin):
                raise ModelError(f"{kind.__name__} is no image processor")
            made = kind.from_dict(self.config)
            return lambda image: made(image.convert("RGB"), return_tensors="pt").pixel_values[0]
        from open_clip.transform import PreprocessCfg, image_transform_v2

        return image_transform_v2(PreprocessCfg(**self.config), is_train=False)

    def __call__(self, image: Image.Image) -> torch.Tensor:
        return self._transform(image)

    def __reduce__(self):
        return Preprocess, (self.library, self.config)


def _described(value):
    """A transform as plain data: where its class is, and the arguments that make it again."""
    if isinstance(value, list | tuple):
        return [_described(item) for item in value]
    if isinstance(value, torch.dtype | Enum):
        return str(getattr(value, "value", value))
    kind = type(value)
    if not kind.__module__.startswith(ROOTS[-1]):
        return value
    held = {name: vars(value)[name] for name in signature(kind).parameters}
    root = next(root for root in ROOTS if kind.__module__.startswith(root))
    if root == ROOTS[1]:  # presets keep a number as a list of one
        held |= {name: held[name][0] for name in ("crop_size", "resize_size")}
    return {"of": root, "name": kind.__name__, **{n: _described(v) for n, v in held.items()}}


def _built(config):
    """The transform that `_described` describes."""
    from torchvision.transforms import InterpolationMode

    if isinstance(config, list):
        return [_built(item) for item in config]
    if not isinstance(config, dict):
        return config
    given = {name: _built(value) for name, value in config.items()}
    root = one_of(given.pop("of"), ROOTS, "module of transforms", ModelError)
    name = given.pop("name")
    if "interpolation" in given:
        given["interpolation"] = InterpolationMode(given["interpolation"])
    if "dtype" in given:
        given["dtype"] = getattr(torch, given["dtype"].removeprefix("torch."))
    return getattr(import_module(root), name)(**given)


MEMORY = 1 << 30  # bytes of preprocessed images that may be kept
NEEDED = (
    "Needed: a preprocessing that makes one floating-point tensor (channels, height, width) of an "
    "RGB image of PIL, of the same size for all. End it with Resize, CenterCrop and ToTensor; of a "
    "processor of transformers write lambda image: processor(image, return_tensors='pt')"
    "['pixel_values'][0], of a batch of one x[0], of an array torch.from_numpy(x).float(), of "
    "bytes x / 255"
)


class PreprocessedImages(Dataset):
    """(tensor, label) of each (PIL image, label), kept after the first pass where all fit.

    Args:
        dataset: a sequence of (PIL image, label), with `.classes`.
        preprocess: image to tensor.
        memory: bytes that may be kept.
    Raises:
        DatasetError: at once for the first image, then for any, saying what came, what is needed
            and what to write.
    """

    def __init__(self, dataset: Sequence, preprocess: Callable, *, memory: int = MEMORY):
        self.dataset, self.preprocess, self.memory = usable(dataset, None), preprocess, memory
        self._kept = {}
        self.shape = None
        self.shape = self[0][0].shape

    def __len__(self) -> int:
        return len(self.dataset)

    def __getitem__(self, i: int) -> tuple[torch.Tensor, int]:
        if i in self._kept:
            return self._kept[i]
        (image, label), cause = self.dataset[i], None
        try:
            x = self.preprocess(image)
        except ClassvecError:
            raise
        except Exception as error:
            x = cause = error
        good = isinstance(x, torch.Tensor) and x.is_floating_point() and x.ndim == 3
        if not (good and x.shape == (self.shape or x.shape)):
            raise DatasetError(
                f"image {i} of {self.dataset!r:.200} came as {image!r:.200}; "
                f"the preprocessing {'failed' if cause else 'made'}: {type(x).__name__} "
                f"{f'{tuple(x.shape)} {x.dtype}' if hasattr(x, 'dtype') else str(x)[:200]} (of "
                f"image 0: {self.shape and tuple(self.shape)}). {NEEDED}"
            ) from cause
        item = x.float(), label
        if item[0].nbytes * len(self) <= self.memory:
            self._kept[i] = item
        return item


@torch.no_grad()
def try_first(classifier, *data: Sequence | None) -> None:
    """Raise now what encoding the first image of each data set would raise later.

    Warns of a preprocessing or an encoder that gives something else the second time.
    """
    like = next(classifier.parameters(), torch.empty(0))
    with evaluating(classifier):
        for dataset in filter(None, data):
            images = PreprocessedImages(dataset, classifier.preprocess, memory=0)
            one, again = (classifier.encode(images[0][0][None].to(like)) for _ in range(2))
            if not torch.allclose(one, again, rtol=1e-3, atol=1e-5, equal_nan=True):
                warnings.warn(
                    f"{classifier.name}: the first image has another representation each time: "
                    "take what is random out of the preprocessing and the encoder",
                    stacklevel=3,
                )


def loader(
    images: Dataset, *, batch_size: int, workers: int = 0, shuffle_seed: int | None = None
) -> DataLoader:
    """A DataLoader in order, or shuffled by a seed; torch's global generator is left alone."""
    return DataLoader(
        images,
        batch_size=batch_size,
        shuffle=shuffle_seed is not None,
        generator=torch.Generator().manual_seed(shuffle_seed or 0),
        num_workers=workers,
        persistent_workers=workers > 0,
    )
