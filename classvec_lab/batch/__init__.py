"""Runs notebooks with checked parameters, several at a time, and files what they make; what is up
to date is kept.
"""

from .outputs import Outputs, begin
from .runner import run

__all__ = ["Outputs", "begin", "run"]
