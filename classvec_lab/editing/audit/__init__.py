"""What an edit left of a class: where its samples go, attacks, probes, relearning."""

from .blank import incompetent
from .membership import membership_inference
from .metrics import (
    collateral,
    js_divergence,
    linear_cka,
    routing,
    routing_distance,
    worst_sibling,
    zrf,
)
from .probe import probe_recovery
from .relearn import Relearning, relearn_time
from .report import Audit, audit
