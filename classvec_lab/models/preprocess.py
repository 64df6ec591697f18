"""`Preprocess`: open_clip's or timm's own evaluation transform, known by its configuration."""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from functools import cached_property

import torch
from PIL import Image
from torch.utils.data import DataLoader, Dataset

from ..datasets.torchvision_repair import ensure_torchvision
from ..errors import ClassvecError, DatasetError
from ..files import hash_json

LIBRARIES = ("open_clip", "timm")


@dataclass(frozen=True)
class Preprocess:
    """PIL image in, normalised float32 tensor (3, H, W) out.

    `library` is "open_clip" (config: the fields of its PreprocessCfg) or "timm" (config: what
    `timm.data.resolve_model_data_config` gives). Being plain data it can be hashed, saved and compared.
    """

    library: str
    config: Mapping

    @cached_property
    def fingerprint(self) -> str:
        """Hash of library and configuration."""
        return hash_json([self.library, dict(self.config)])

    @cached_property
    def _transform(self):
        ensure_torchvision()
        if self.library == "open_clip":
            from open_clip.transform import PreprocessCfg, image_transform_v2

            return image_transform_v2(PreprocessCfg(**self.config), is_train=False)
        if self.library == "timm":
            from timm.data import create_transform

            return create_transform(**self.config, is_training=False)
        raise ValueError(f"library must be one of {', '.join(LIBRARIES)}; got {self.library!r}")

    def __call__(self, image: Image.Image) -> torch.Tensor:
        return self._transform(image)

    def __deepcopy__(self, memo) -> "Preprocess":
        return self


MEMORY = 1 << 30  # bytes of preprocessed images that may be kept


class PreprocessedImages(Dataset):
    """(tensor, label) of each (PIL image, label); kept after the first pass where all fit into `memory` bytes."""

    def __init__(self, dataset: Sequence, preprocess: Callable, *, memory: int = MEMORY):
        self.dataset, self.preprocess = dataset, preprocess
        self._kept: dict[int, tuple[torch.Tensor, int]] = {}
        self._memory = memory

    def __len__(self) -> int:
        return len(self.dataset)

    def __getitem__(self, i: int) -> tuple[torch.Tensor, int]:
        if i in self._kept:
            return self._kept[i]
        image, label = self.dataset[i]
        try:
            tensor = self.preprocess(image)
        except ClassvecError:
            raise
        except Exception as error:
            raise DatasetError(
                f"the preprocessing failed on image {i} of {self.dataset!r}: {error}"
            ) from error
        item = tensor, int(label)
        if tensor.nbytes * len(self) <= self._memory:
            self._kept[i] = item
        return item


def loader(
    images: Dataset, *, batch_size: int, workers: int = 0, shuffle_seed: int | None = None
) -> DataLoader:
    """A DataLoader in order, or shuffled by `shuffle_seed`; torch's global generator is left alone."""
    generator = torch.Generator().manual_seed(shuffle_seed or 0)
    return DataLoader(
        images,
        batch_size=batch_size,
        shuffle=shuffle_seed is not None,
        generator=generator,
        num_workers=workers,
        persistent_workers=workers > 0,
    )
