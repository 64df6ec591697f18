"""Where networks come from, and how they are fine-tuned."""

from .classifier import Classifier
from .finetune import FineTuned, finetune
from .heads import CosineHead
from .preprocess import Preprocess
from .sources import load_classifier

__all__ = ["Classifier", "CosineHead", "FineTuned", "Preprocess", "finetune", "load_classifier"]
