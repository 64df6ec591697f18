"""Loops over methods, targets and seeds, on a pair of models and the splits of a data set."""

from .class_counts import counts_say
from .correction import correct_error
from .experiment import Experiment, accuracy_says, prepare
from .forget import forget_study, summarise_audits, summarise_methods
from .forget_words import study_says
from .gate_choice import (
    compare_gates,
    compare_strengths,
    guarantees_say,
    rates_say,
    summarise_gates,
    summarise_strengths,
)
from .mapping import (
    compare_references,
    difference_says,
    mapping_difference,
    mapping_says,
    multi_class_mapping,
    summarise_mappings,
)
from .methods import standard_methods, training_methods
from .page import PAID, class_verdicts, verdict, verdicts_say
from .prospects import editability, outlook
from .replay import survey_collateral
from .sequence import forget_in_turn
