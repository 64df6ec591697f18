"""Editing a classifier with class vectors: gates, latent injection, weight mapping, the audit."""

from .advice import MAPPINGS, behind, cannot_lose
from .calibration import calibrate_gate, exchangeability, gate_curve, quietly
from .directions import (
    contrast_direction,
    head_aware,
    head_direction,
    random_direction,
    relocation,
)
from .erasers import erase, leace, mask_class, project_out
from .injection import inject
from .live import LiveEdits, LiveReadout
from .strength import BOUNDS, Bounds, Strength, choose_lambda, left, strength_curve
from .unlearning import retrain_without, unlearn
