"""Accuracy along the paths from the pre-trained to the fine-tuned model, with what was measured nearest to an alpha."""

import ipywidgets as w
import numpy as np
import pandas as pd

from ..diagnostics.linearity import LatentPaths
from ..errors import MismatchError
from .canvas import Charts, chart, series
from .tables import interval, table

PATHS = {
    "weights": ("ink", (), "weights θ_pre + α τ"),
    "true class": ("accent", (), "κ of the true class (knows the label)"),
    "nearest class": ("green", (), "κ of the nearest class (no label)"),
    "wrong class": ("contrast", (6, 3), "κ of a wrong class"),
    "random direction": ("muted", (2, 3), "random direction"),
}


class PathView:
    """Shows some paths of a `LatentPaths`; known: the names of those it holds, () without a report."""

    def __init__(self, paths: LatentPaths | None):
        names = set() if paths is None else set(paths.table["path"])
        if not names <= set(PATHS):
            raise MismatchError(
                f"these are no paths of latent_paths: {', '.join(sorted(names - set(PATHS)))}"
            )
        self._paths = paths
        self.known = tuple(p for p in PATHS if p in names)
        self.chart = Charts(label="accuracy from pre-trained to fine-tuned", height=300, picks=True)
        self.table = w.HTML()

    def drawn(self, names: tuple) -> LatentPaths:
        """The report with these paths alone."""
        rows = self._paths.table
        return LatentPaths(rows[rows["path"].isin(names)])

    def measured(self, names: tuple, alpha: float) -> pd.DataFrame:
        """The rows of these paths at the measured alpha nearest to `alpha`."""
        rows = self.drawn(names).table
        known = np.unique(rows["alpha"])
        return (
            rows[rows["alpha"] == known[np.abs(known - alpha).argmin()]]
            .set_index("path")
            .loc[list(names)]
            .reset_index()
        )

    def show(self, names: tuple) -> None:
        """Draw these paths; `at` has to follow."""
        lines, rows = [], self.drawn(names).table.sort_values("alpha")
        for name in names:
            colour, dash, label = PATHS[name]
            x, y, low, high = (
                rows.loc[rows["path"] == name, ["alpha", "accuracy", "low", "high"]].to_numpy().T
            )
            lines.append(series(label, x, y, colour, dash=dash, dots=True, low=low, high=high))
        title = f"pre-trained → fine-tuned: accuracy, n = {rows['n'].iloc[0]}"
        shape = {"xlim": [0, 1], "ylim": [-0.02, 1.02], "percent": True}
        self.chart.charts = [chart(lines, title=title, xlabel="α", **shape)]

    def at(self, names: tuple, alpha: float) -> None:
        """The marker, and the table of what was measured there or nearest to it."""
        rows = self.measured(names, alpha)
        at = rows["alpha"].iloc[0]
        near = "" if np.isclose(at, alpha) else f", the measured α nearest to {alpha:g}"
        cells = [
            (PATHS[r.path][2], f"{r.accuracy:.1%}", interval(r.low, r.high, ".1%"), r.n)
            for r in rows.itertuples()
        ]
        self.chart.markers = [alpha]
        self.table.value = table(
            ("path", "accuracy", "95 % interval", "n"), cells, caption=f"At α = {at:g}{near}"
        )
