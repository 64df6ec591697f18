"""Figures: a frame in, Axes out. Nothing here computes a statistic or opens a window."""

import inspect

from . import style
from .audit import audit_dots, collateral_maps, routing_bars
from .collapse import collapse_bars, collapse_curves, collapse_map
from .editing import (
    displacement_strips,
    gate_curves,
    method_intervals,
    strength_curves,
    trade_off,
)
from .linearity import (
    adding_curves,
    class_shift,
    deviation_by_layer,
    deviation_curves,
    order_scatter,
    over_path,
    scaling_curves,
    shift_bars,
)
from .live import edit_effect
from .matrices import cluster_order, departures, entries, heatmap, histogram
from .performance import accuracy_bars, sample_sheet, scatter_map
from .shares import by_condition, over_strength
from .study import over_class_counts, over_epochs
from .verdict import verdict_page, verdict_pair

for _name, _draw in [*globals().items()]:
    if inspect.isfunction(_draw) and _draw is not cluster_order:
        globals()[_name] = style.legible(_draw)
