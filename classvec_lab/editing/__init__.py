"""Editing a classifier with class vectors: gates, latent injection, weight mapping, and the audit of what they did."""

from .audit import Audit, audit
from .calibration import Exchangeability, calibrate_gate, dry_run, exchangeability, gate_report, negatives_needed
from .context import EditingContext
from .correction import Correction, confusions, correct_error
from .delta import Delta, apply_deltas, deltas_on
from .directions import head_aware, head_direction, random_direction, retirement, without_pretraining
from .editability import Editability, editability
from .erasers import Eraser, erase, leace, mask_class, project_out
from .forecast import MomentModel, collateral_forecast, forecast, forecast_edits
from .forecast_scores import replay_edits, score_forecast
from .gate_choice import compare_gates, gate_curve, summarise_gates
from .injection import InjectedClassifier, conflicts, inject, read_logits
from .layernorm import LayerNormMapping, map_layernorms
from .mapping import MappedEdit, map_edit
from .methods import Outcome
from .metrics import (
    collateral,
    js_divergence,
    linear_cka,
    membership_inference,
    probe_recovery,
    routing,
    routing_distance,
    worst_sibling,
    zrf,
)
from .readout import Readout, incompetent
from .relearn import Relearning, relearn_ratio, relearn_time
from .sequence import forget_in_turn
from .strength import Strength, choose_lambda, strength_curve
from .study import ForgetStudy, forget_study, summarise
from .unlearning import Unlearned, retrain_without, unlearn
from .verdict import Verdict, routed, verdict

__all__ = [
    "Audit",
    "Correction",
    "Delta",
    "Editability",
    "EditingContext",
    "Eraser",
    "Exchangeability",
    "ForgetStudy",
    "InjectedClassifier",
    "LayerNormMapping",
    "MappedEdit",
    "MomentModel",
    "Outcome",
    "Readout",
    "Relearning",
    "Strength",
    "Unlearned",
    "Verdict",
    "apply_deltas",
    "audit",
    "calibrate_gate",
    "choose_lambda",
    "collateral",
    "collateral_forecast",
    "compare_gates",
    "conflicts",
    "confusions",
    "correct_error",
    "deltas_on",
    "dry_run",
    "editability",
    "erase",
    "exchangeability",
    "forecast",
    "forecast_edits",
    "forget_in_turn",
    "forget_study",
    "gate_curve",
    "gate_report",
    "head_aware",
    "head_direction",
    "incompetent",
    "inject",
    "js_divergence",
    "leace",
    "linear_cka",
    "map_edit",
    "map_layernorms",
    "mask_class",
    "membership_inference",
    "negatives_needed",
    "probe_recovery",
    "project_out",
    "random_direction",
    "read_logits",
    "relearn_ratio",
    "relearn_time",
    "replay_edits",
    "retirement",
    "retrain_without",
    "routed",
    "routing",
    "routing_distance",
    "score_forecast",
    "strength_curve",
    "summarise",
    "summarise_gates",
    "unlearn",
    "verdict",
    "without_pretraining",
    "worst_sibling",
    "zrf",
]
