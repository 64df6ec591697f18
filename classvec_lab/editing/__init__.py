"""Editing a classifier with class vectors: gates, latent injection, weight mapping, and the audit of what they did."""

from .audit import Audit, audit
from .calibration import Exchangeability, calibrate_gate, dry_run, exchangeability, gate_report, negatives_needed
from .context import EditingContext
from .correction import Correction, confusions, correct_error, planted_error
from .delta import Delta, apply_deltas, deltas_on
from .directions import head_aware, head_direction, random_direction, retirement, without_pretraining
from .editability import Editability, editability
from .erasers import Eraser, erase, leace, mask_class, project_out
from .forecast import MomentModel, collateral_forecast, forecast, forecast_edits, student_df
from .forecast_scores import CollateralSurvey, replay_edits, score_forecast, survey_collateral
from .gate_choice import compare_gates, gate_curve, summarise_gates
from .injection import InjectedClassifier, conflicts, inject, read_logits
from .layernorm import LayerNormMapping, map_layernorms
from .live import LiveEdits, LiveReadout
from .mapping import MappedEdit, map_edit
from .mapping_study import (
    MappingStudy,
    compare_mappings,
    difference_says,
    mapping_difference,
    mapping_references,
    mapping_says,
    mapping_several,
    mapping_study,
    sample_groups,
    summarise_mappings,
)
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
from .retire import retire
from .sequence import forget_in_turn
from .strength import Strength, choose_lambda, strength_curve
from .study import ForgetStudy, forget_study, summarise, summarise_audits
from .study_words import study_says
from .surveys import guarantees_say, survey_guarantees, survey_relearning, survey_strengths
from .unlearning import Unlearned, retrain_without, unlearn
from .verdict import Verdict, routed, verdict

__all__ = [
    "Audit",
    "CollateralSurvey",
    "Correction",
    "Delta",
    "Editability",
    "EditingContext",
    "Eraser",
    "Exchangeability",
    "ForgetStudy",
    "InjectedClassifier",
    "LayerNormMapping",
    "LiveEdits",
    "LiveReadout",
    "MappedEdit",
    "MappingStudy",
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
    "compare_mappings",
    "conflicts",
    "confusions",
    "correct_error",
    "deltas_on",
    "difference_says",
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
    "guarantees_say",
    "head_aware",
    "head_direction",
    "incompetent",
    "inject",
    "js_divergence",
    "leace",
    "linear_cka",
    "map_edit",
    "map_layernorms",
    "mapping_difference",
    "mapping_references",
    "mapping_says",
    "mapping_several",
    "mapping_study",
    "mask_class",
    "membership_inference",
    "negatives_needed",
    "planted_error",
    "probe_recovery",
    "project_out",
    "random_direction",
    "read_logits",
    "relearn_ratio",
    "relearn_time",
    "replay_edits",
    "retire",
    "retirement",
    "retrain_without",
    "routed",
    "routing",
    "routing_distance",
    "sample_groups",
    "score_forecast",
    "strength_curve",
    "student_df",
    "study_says",
    "summarise",
    "summarise_audits",
    "summarise_gates",
    "summarise_mappings",
    "survey_collateral",
    "survey_guarantees",
    "survey_relearning",
    "survey_strengths",
    "unlearn",
    "verdict",
    "without_pretraining",
    "worst_sibling",
    "zrf",
]
