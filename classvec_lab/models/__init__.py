"""Where networks come from, and how they are fine-tuned."""

from .blocks import block_names, recorded
from .checkpoints.exporting import export
from .classifier import Classifier
from .cutting import state_dict_as_loaded
from .finetuning import finetune
from .heads import CosineHead
from .interpolation import interpolate, recalibrate
from .preprocess import Preprocess
from .sources import load_classifier
from .training import FineTuned
