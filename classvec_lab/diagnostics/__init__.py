"""Measurements on features and class vectors: frames and frozen reports, no drawing."""

from .between_classes import ClassInterpolation, ClassInterpolations, class_interpolation, class_interpolations
from .blocks import CosineBlocks, cosine_blocks
from .independence import Adding, CyclicShift, Scaling, adding, cyclic_shift, scaling
from .linearity import CrossTaskLinearity, cross_task_linearity
from .orthogonality import Orthogonality, cosine_matrix, orthogonality
from .paths import LatentPaths, latent_paths, weight_path
from .performance import accuracy, confusion, feature_map, over_seeds, predict
from .theorem import PathOrder, path_order

__all__ = [
    "Adding",
    "ClassInterpolation",
    "ClassInterpolations",
    "CosineBlocks",
    "CrossTaskLinearity",
    "CyclicShift",
    "LatentPaths",
    "Orthogonality",
    "PathOrder",
    "Scaling",
    "accuracy",
    "adding",
    "class_interpolation",
    "class_interpolations",
    "confusion",
    "cosine_blocks",
    "cosine_matrix",
    "cross_task_linearity",
    "cyclic_shift",
    "feature_map",
    "latent_paths",
    "orthogonality",
    "over_seeds",
    "path_order",
    "predict",
    "scaling",
    "weight_path",
]
