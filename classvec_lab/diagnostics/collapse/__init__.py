"""Neural collapse of a trained model, and over the epochs of a training."""

from .report import NeuralCollapse, neural_collapse
from .tracking import CollapseHistory, collapse_over_training
