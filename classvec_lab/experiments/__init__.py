"""Loops over methods, targets and seeds, on a pair of models and the splits of a data set."""

from .class_counts import counts_say
from .correction import Correction, correct_error, planted_error
from .experiment import Experiment, prepare
from .forecast import MomentModel, collateral_forecast, forecast, forecast_edits, student_df
from .forecast_scores import CollateralSurvey, replay_edits, score_forecast, survey_collateral
from .forget import ForgetStudy, forget_study, summarise_audits, summarise_methods
from .forget_words import study_says
from .gate_choice import compare_gates, summarise_gates
from .mapping import (
    difference_says,
    mapping_difference,
    mapping_says,
    multi_class_mapping,
    summarise_mappings,
)
from .methods import Outcome, standard_methods, training_methods
from .outlook import Editability, editability
from .page import Verdict, routed, verdict
from .sequence import forget_in_turn
from .surveys import guarantees_say, survey_relearning
