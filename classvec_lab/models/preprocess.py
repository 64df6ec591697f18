"""`Preprocess`: open_clip's or timm's own evaluation transform, known by its configuration."""

from collections.abc import Mapping
from dataclasses import dataclass
from functools import cached_property

import torch
from PIL import Image

from .._torchvision import ensure_torchvision
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
