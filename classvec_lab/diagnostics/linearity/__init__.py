"""Linearity: between two networks' weights, along class vectors, and from one class to another."""

from .between_classes import (
    ClassInterpolation,
    ClassInterpolations,
    class_interpolation,
    class_interpolations,
)
from .cross_task import CrossTaskLinearity, cross_task_linearity
from .independence import (
    Additivity,
    CyclicShift,
    Scaling,
    additivity,
    cyclic_shift,
    scaling,
)
from .pair import ClassPair, class_pair
from .paths import LatentPaths, latent_paths, weight_path
from .route import ClassPath, class_path
from .theorem import PathOrder, path_order
