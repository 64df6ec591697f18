"""Figures: a frame in, Axes out. Nothing here computes a statistic or opens a window."""

from .collapse import collapse_bars, collapse_curves, collapse_map
from .linearity import (
    adding_curves,
    class_shift,
    cosine_curves,
    deviation_by_layer,
    deviation_curves,
    order_scatter,
    path_accuracy,
    path_distance,
    scaling_curves,
    shift_bars,
)
from .matrices import block_heatmap, cluster_order, departures, entries, heatmap, histogram
from .performance import accuracy_bars, history_curves, sample_sheet, scatter_map
from .study import over_class_counts, over_epochs

__all__ = [
    "accuracy_bars",
    "adding_curves",
    "block_heatmap",
    "class_shift",
    "cluster_order",
    "collapse_bars",
    "collapse_curves",
    "collapse_map",
    "cosine_curves",
    "departures",
    "deviation_by_layer",
    "deviation_curves",
    "entries",
    "heatmap",
    "histogram",
    "history_curves",
    "order_scatter",
    "over_class_counts",
    "over_epochs",
    "path_accuracy",
    "path_distance",
    "sample_sheet",
    "scaling_curves",
    "scatter_map",
    "shift_bars",
]
