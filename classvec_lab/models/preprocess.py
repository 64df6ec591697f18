"""`Preprocess`: open_clip's or timm's own evaluation transform, known by its configuration."""

import json
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from functools import cached_property

import torch
from PIL import Image
from torch.utils.data import DataLoader, Dataset

from ..datasets.torchvision_repair import ensure_torchvision
from ..errors import ClassvecError, DatasetError


@dataclass(frozen=True)
class Preprocess:
    """PIL image in, normalised float32 tensor (3, H, W) out.

    Args:
        library: "open_clip" or "timm", whose evaluation transform it is.
        config: JSON-able: the fields of open_clip's PreprocessCfg, or what
            `timm.data.resolve_model_data_config` gives. Being plain data it can be hashed, saved
            and compared.
    """

    library: str
    config: Mapping

    def __post_init__(self):
        config = json.loads(json.dumps(dict(self.config), sort_keys=True))  # as a card keeps it
        object.__setattr__(self, "config", config)

    @cached_property
    def _transform(self) -> Callable:
        ensure_torchvision()
        if self.library == "timm":
            from timm.data import create_transform

            return create_transform(**self.config, is_training=False)
        from open_clip.transform import PreprocessCfg, image_transform_v2

        return image_transform_v2(PreprocessCfg(**self.config), is_train=False)

    def __call__(self, image: Image.Image) -> torch.Tensor:
        return self._transform(image)

    def __reduce__(self):
        return Preprocess, (self.library, self.config)


MEMORY = 1 << 30  # bytes of preprocessed images that may be kept


class PreprocessedImages(Dataset):
    """(tensor, label) of each (PIL image, label), kept after the first pass where all fit.

    Args:
        dataset: a sequence of (PIL image, label).
        preprocess: image to tensor.
        memory: bytes that may be kept.
    """

    def __init__(self, dataset: Sequence, preprocess: Callable, *, memory: int = MEMORY):
        self.dataset, self.preprocess, self.memory = dataset, preprocess, memory
        self._kept: dict[int, tuple[torch.Tensor, int]] = {}

    def __len__(self) -> int:
        return len(self.dataset)

    def __getitem__(self, i: int) -> tuple[torch.Tensor, int]:
        if i in self._kept:
            return self._kept[i]
        image, label = self.dataset[i]
        try:
            item = self.preprocess(image), int(label)
        except ClassvecError:
            raise
        except Exception as error:
            what = f"image {i} of {self.dataset!r}: {error}"
            raise DatasetError(f"the preprocessing failed on {what}") from error
        if item[0].nbytes * len(self) <= self.memory:
            self._kept[i] = item
        return item


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
