"""Editing a classifier with class vectors: gates, latent injection, weight mapping, the audit."""

from .calibration import (
    Exchangeability,
    calibrate_gate,
    exchangeability,
    firing,
    gate_curve,
    gate_report,
    negatives_needed,
)
from .directions import (
    contrast_direction,
    head_aware,
    head_direction,
    random_direction,
    relocation,
)
from .erasers import erase, leace, mask_class, project_out
from .injection import InjectedClassifier, conflicts, inject
from .live import LiveEdits, LiveReadout
from .strength import Bounds, Strength, choose_lambda, strength_curve
from .unlearning import retrain_without, unlearn
