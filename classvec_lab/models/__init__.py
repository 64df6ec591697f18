"""Where networks come from, and how they are fine-tuned."""

from .blocks import block_names, recorded
from .checkpoints.exporting import export
from .classifier import Classifier, can_build, held
from .cutting import state_dict_as_loaded
from .finetuning import finetune
from .heads import CosineHead, probe_head
from .interpolation import blend, check_alphas, interpolate, recalibrate
from .preprocess import Preprocess
from .sources import load_classifier
from .training import FineTuned
