"""Loops over methods, targets and seeds, on a pair of models and the splits of a data set."""

from .class_counts import ClassCountStudy, class_count_study
from .correction import Correction, confusions, correct_error, planted_error
from .experiment import Experiment, prepare
from .forget import ForgetStudy, forget_study, summarise, summarise_audits
from .forget_words import study_says
from .gate_choice import compare_gates, summarise_gates
from .mapping import (
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
from .outlook import Editability, editability
from .page import Verdict, verdict
from .replay import CollateralSurvey, Replayed, replay_edits, survey_collateral
from .sequence import forget_in_turn
from .surveys import guarantees_say, survey_guarantees, survey_relearning, survey_strengths
