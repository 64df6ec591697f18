"""Linearity: between two networks' weights, along class vectors, and from one class to another."""

from .between_classes import (
    ClassInterpolation,
    ClassInterpolations,
    class_interpolation,
    class_interpolations,
)
from .cross_task import cross_task_linearity
from .independence import Additivity, additivity, cyclic_shift, scaling
from .pair import ClassPair, ClassPath, class_pair, class_path
from .paths import LatentPaths, latent_paths, weight_path
from .theorem import path_order
