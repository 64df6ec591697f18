"""A collapse history for panels to show, without a training."""

import numpy as np
import pandas as pd

from classvec_lab.diagnostics.collapse import CollapseHistory
from classvec_lab.diagnostics.collapse.report import METRICS


def collapse_history(
    n_classes=4, epochs=6, *, dim=8, samples=30, kept=None, null=True, seed=0, names=None
):
    """A history of `epochs` epochs after epoch 0 in which classes draw together around means that move apart."""
    rng = np.random.default_rng([seed, n_classes, epochs])
    classes = tuple(f"c{i}" for i in range(n_classes)) if names is None else tuple(names)
    labels = np.arange(samples) % n_classes
    share = np.linspace(0.1, 1, epochs + 1)[:, None, None]
    means = share * rng.normal(size=(n_classes, dim))
    drawn = means[:, labels] + 0.4 * (1.2 - share) * rng.normal(size=(samples, dim))
    history = pd.DataFrame({"epoch": np.arange(epochs + 1)})
    history["kept"] = history["epoch"] == (epochs if kept is None else kept)
    table = _table(epochs, n_classes, null, rng)
    return CollapseHistory(
        table, means.astype("f4"), drawn.astype("f4"), labels, classes, None, history
    )


def _table(epochs, n_classes, null, rng):
    rows = []
    for epoch in range(epochs + 1):
        for metric in METRICS:
            value = (
                1 - 0.5 / (1 + epoch)
                if metric == "nc4"
                else (0.2 + rng.uniform(0, 0.1)) * 4 / (1 + epoch)
            )
            missing = n_classes == 2 and metric.startswith("nc2")
            row = {
                "metric": metric,
                "epoch": epoch,
                "value": np.nan if missing else value,
                "low": np.nan,
                "high": np.nan,
            }
            if metric in ("nc1", "cdnv", "nc4"):
                row |= {"low": 0.9 * value, "high": 1.1 * value}
            rows.append(
                row
                | {
                    "null_high": 0.15
                    if null and metric.startswith("nc2") and not missing
                    else np.nan,
                    "n": 120,
                }
            )
    return pd.DataFrame(rows)
