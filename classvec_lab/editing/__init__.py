"""Editing a classifier with class vectors: gates, latent injection, weight mapping, and the audit of what they did."""

from .calibration import (
    Exchangeability,
    calibrate_gate,
    dry_run,
    exchangeability,
    gate_curve,
    gate_report,
    negatives_needed,
)
from .directions import (
    head_aware,
    head_direction,
    random_direction,
    retirement,
    without_pretraining,
)
from .erasers import Eraser, erase, leace, mask_class, project_out
from .injection import InjectedClassifier, conflicts, inject, read_logits
from .live import LiveEdits, LiveReadout
from .strength import Strength, choose_lambda, strength_curve
from .unlearning import retrain_without, unlearn
