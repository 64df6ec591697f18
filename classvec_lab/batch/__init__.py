"""Runs notebooks with checked parameters, several at a time, and files what they make; what is up
to date is kept.
"""

from .outputs import Outputs, begin
from .parameters import check_parameters, read_parameters
from .planning import Job, plan
from .runner import FAILED, NOT_RUN, Result, run, table

__all__ = [
    "FAILED",
    "NOT_RUN",
    "Job",
    "Outputs",
    "Result",
    "begin",
    "check_parameters",
    "plan",
    "read_parameters",
    "run",
    "table",
]
