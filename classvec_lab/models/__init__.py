"""Where networks come from, and how they are fine-tuned."""

from .blocks import block_names, recorded
from .classifier import Classifier
from .finetuning import finetune
from .heads import CosineHead
from .interpolation import interpolate, recalibrate
from .preprocess import Preprocess
from .sources import load_classifier
from .training import FineTuned
