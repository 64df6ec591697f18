"""Measurements on features and class vectors: frames and frozen reports, no drawing."""

from .between_classes import ClassInterpolation, ClassInterpolations, class_interpolation, class_interpolations
from .blocks import CosineBlocks, cosine_blocks
from .class_path import ClassPath, class_path
from .collapse import NeuralCollapse, neural_collapse
from .independence import Adding, CyclicShift, Scaling, adding, cyclic_shift, scaling
from .linearity import CrossTaskLinearity, cross_task_linearity
from .orthogonality import Orthogonality, cosine_matrix, orthogonality
from .pair import ClassPair, class_pair
from .partly_centred import ClassCosines
from .paths import LatentPaths, latent_paths, weight_path
from .performance import accuracy, confusion, feature_map, over_seeds, predict
from .theorem import PathOrder, path_order
from .tracking import CollapseHistory, collapse_over_training

__all__ = [
    "Adding",
    "ClassCosines",
    "ClassInterpolation",
    "ClassInterpolations",
    "ClassPair",
    "ClassPath",
    "CollapseHistory",
    "CosineBlocks",
    "CrossTaskLinearity",
    "CyclicShift",
    "LatentPaths",
    "NeuralCollapse",
    "Orthogonality",
    "PathOrder",
    "Scaling",
    "accuracy",
    "adding",
    "class_interpolation",
    "class_interpolations",
    "class_pair",
    "class_path",
    "collapse_over_training",
    "confusion",
    "cosine_blocks",
    "cosine_matrix",
    "cross_task_linearity",
    "cyclic_shift",
    "feature_map",
    "latent_paths",
    "neural_collapse",
    "orthogonality",
    "over_seeds",
    "path_order",
    "predict",
    "scaling",
    "weight_path",
]
