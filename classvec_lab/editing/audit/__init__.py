"""What an edit left of a class: where its samples go, attacks, probes, relearning."""

from .blank import incompetent
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
from .relearn import Relearning, relearn_time
from .report import Audit, audit
