"""Loops over methods, targets and seeds, on a pair of models and the splits of a data set."""

from .class_counts import counts_say
from .correction import Correction, correct_error, planted_error
from .experiment import Experiment, prepare
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
from .page import Verdict, verdict
from .replay import CollateralSurvey, Replayed, replay_edits, survey_collateral
from .sequence import forget_in_turn
from .surveys import guarantees_say, survey_relearning
