"""Figures: a frame in, Axes out. Nothing here computes a statistic or opens a window."""

from .matrices import cluster_order, heatmap, histogram
from .performance import accuracy_bars, history_curves, sample_sheet, scatter_map

__all__ = ["accuracy_bars", "cluster_order", "heatmap", "histogram", "history_curves", "sample_sheet", "scatter_map"]
