"""Cosines between class vectors and class means, with intervals, nulls and what is forced."""

from .class_cosines import ClassCosines, CosineBlocks, cosine_blocks, cosine_matrix
from .report import Orthogonality, orthogonality
