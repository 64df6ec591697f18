"""Batches of preprocessed images, kept in memory where they are small."""

from collections.abc import Callable, Sequence

import torch
from torch.utils.data import DataLoader, Dataset

from ..errors import ClassvecError, DatasetError

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
            raise DatasetError(f"the preprocessing failed on image {i} of {self.dataset!r}: {error}") from error
        item = tensor, int(label)
        if tensor.nbytes * len(self) <= self._memory:
            self._kept[i] = item
        return item


def loader(images: Dataset, *, batch_size: int, workers: int = 0, shuffle_seed: int | None = None) -> DataLoader:
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
