"""What an edit left of a class: where its samples go, attacks, probes, relearning."""

from .blank import incompetent
from .relearn import relearn_time
from .report import Audit, audit
