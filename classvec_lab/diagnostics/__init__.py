"""Measurements on features and class vectors: frames and frozen reports, no drawing."""

from .orthogonality import Orthogonality, cosine_matrix, orthogonality
from .performance import accuracy, confusion, feature_map, over_seeds, predict

__all__ = ["Orthogonality", "accuracy", "confusion", "cosine_matrix", "feature_map", "orthogonality", "over_seeds", "predict"]
