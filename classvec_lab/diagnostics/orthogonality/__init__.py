"""Cosines between class vectors and class means, with intervals, nulls and what theory expects."""

from .blocks import CosineBlocks, cosine_blocks
from .partly_centred import ClassCosines
from .report import Orthogonality, cosine_matrix, orthogonality
