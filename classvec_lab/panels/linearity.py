"""The linearity panel: alpha by hand, along the way to the fine-tuned model and between classes."""

from functools import cache, lru_cache
from textwrap import dedent

import ipywidgets as w
import matplotlib.pyplot as plt
import numpy as np
import traitlets as t

from .. import plots
from ..checks import same_classes
from ..diagnostics.linearity import LatentPaths, class_interpolation, class_path
from ..errors import PanelError
from ..readout import check_labelled
from .base import Panel, choice, in_range, one_of, some_of
from .canvas import Charts, Gallery, Matrix
from .payload import colour_table, paragraphs
from .ways import PATHS, path_chart, path_table, shift_chart, shift_table, shift_words, stray_images

MOST_KEPT = 16  # pairs whose results stay in memory
VIEWS = {
    "crossing": "α where the shares cross",
    "detour": "share passing a third class",
    "success": "share that arrives",
}


class LinearityPanel(Panel):
    """Accuracy from pre-trained to fine-tuned, and one class moved to another, at an alpha.

    From class to class, predictions are read at each alpha itself; on the way to the fine-tuned
    model the nearest measured alpha is told. No image is encoded. Traits: alpha, in [0, 1]; pair,
    the names (source, target) of two classes, source with samples; view, the value of the pairs
    that the map shows, "crossing", "detour" or "success"; curves, names of the paths drawn. Of the
    pair, `report` is the `ClassInterpolation`, `path` the `ClassPath`, and `detours` the ranges of
    alpha in which a third class is predicted; `drawn` are the paths drawn.

    Args:
        classifier: the fine-tuned one.
        features: its own.
        vectors: the class vectors, best of another split.
        paths: `latent_paths`.
        pairs: `class_interpolations`: a map of all pairs, in which a click picks one. What isn't
            given isn't shown.
        dataset: the images of the features.
        folder: where files go.
    Raises:
        MismatchError: where classes, dimensions or images don't agree.
    """

    title = (
        "Linearity: is the way from pre-trained to fine-tuned, and from class to class, straight?"
    )
    alpha = t.Float(0.5)
    pair = t.Tuple(())
    view = t.Unicode("detour")
    curves = t.Tuple(())

    def __init__(
        self, classifier, features, vectors, paths, *, pairs=None, dataset=None, folder=""
    ):
        super().__init__(folder=folder)
        check_labelled(classifier, features, vectors)
        if pairs is not None:
            same_classes(pairs.classes, vectors.classes, "the map of pairs", "the vectors")
        self.gallery = Gallery(dataset, features, label="samples taken for a third class")
        self.classes, self.paths, self.pairs = vectors.classes, paths, pairs
        self.count = np.bincount(features.y, minlength=len(vectors)).tolist()
        self.movable = [self.classes[i] for i in np.unique(features.y)]

        def moved(*pair):
            given = classifier, features, vectors, *pair
            path = class_path(*given)
            return class_interpolation(*given), path, path.detours()

        self.moved = lru_cache(MOST_KEPT)(moved)
        self._views = cache(self._values)
        self.known = self.curves = some_of(set(paths.table["path"]), PATHS, "path of latent_paths")
        self.pair = self.movable[0], self.classes[self.movable[0] == self.classes[0]]
        if pairs is not None:  # the pair that passes a third class most often
            rows = pairs.table.query("source in @self.movable").nlargest(1, "detour")
            self.pair = tuple(rows[["source", "target"]].iloc[0])
        label = "accuracy from pre-trained to fine-tuned, and shares from one class to another"
        self.charts = self.picks(
            Charts(label=label, height=300), lambda _, x: setattr(self, "alpha", round(x, 2))
        )
        self.way_table, self.shift_table = w.HTML(), w.HTML()
        source, target = choice("source", self.movable), choice("target", self.classes)
        controls = [
            self.bind("alpha", w.FloatSlider(description="α", max=1, step=0.01)),
            self.bind("pair", source, read=lambda s: (s, self.pair[1]), show=lambda pair: pair[0]),
            self.bind("pair", target, read=lambda k: (self.pair[0], k), show=lambda pair: pair[1]),
            self.button("Swap", "exchange source and target", self.swap, icon="exchange"),
        ]
        left = [self.way_table, self.tags("curves", self.known, "curves")]
        if self.pairs is not None:
            self.map = Matrix(
                label="map of all pairs; arrow keys move the selected pair, + and - zoom, "
                "Shift with arrows pans, 0 shows all",
                palette=colour_table(plots.style.SEQUENTIAL),
                centred=False,
                row_label="source",
                column_label="target",
                row_names=self.classes,
                column_names=self.classes,
                row_counts=self.count,
            )
            self.bind(
                "pair",
                self.map,
                read=lambda place: tuple(self.classes[i] for i in place),
                show=lambda pair: list(map(self.classes.index, pair)),
                at="selected",
            )
            views = [(label, view) for view, label in VIEWS.items()]
            controls.append(self.bind("view", choice("map", views)))
            left.append(self.map)
        columns = w.Box([w.VBox(left), w.VBox([self.shift_table, self.gallery])])
        self.lay_out(w.HBox(controls), self.charts, columns)

    # what may be set

    @t.validate("alpha", "pair", "view", "curves")
    def _possible(self, proposal):
        name, value = proposal.trait.name, proposal.value
        match name:
            case "alpha":
                return in_range(name, value, 0, 1) + 0.0  # -0.0, rounded from a click, is 0
            case "view":
                return one_of(value, VIEWS, name)
            case "curves":
                return some_of(value, self.known, "curve")
        for one in value:
            one_of(one, self.classes, "class")
        if len(value) != 2 or value[0] == value[1]:
            raise PanelError(f"a pair is two different classes, (source, target); got {value}")
        if value[0] not in self.movable:
            raise PanelError(f"class {value[0]!r} has no sample to move: choose another source")
        return value

    def swap(self) -> None:
        """Exchange source and target."""
        self.pair = self.pair[::-1]

    # what is shown

    def show(self) -> None:
        """Put the state into the widgets."""
        self.report, self.path, self.detours = self.moved(*self.pair)
        rows = self.paths.table.set_index("path").loc[list(self.curves)].reset_index()
        self.drawn = LatentPaths(rows)
        self.way_table.value = path_table(rows, self.alpha)
        words = paragraphs(shift_words(self.report, self.detours))
        self.shift_table.value = words + shift_table(self.path, self.alpha)
        self.gallery.groups = [stray_images(self.path, self.alpha)]
        self.charts.put(
            charts=[path_chart(rows), shift_chart(self.report, self.detours)],
            markers=[self.alpha] * 2,
        )
        if self.pairs is not None:
            self.map.put(**self._views(self.view))

    def _values(self, view):
        """The state of the map of pairs in this view."""
        values, low, high = (self.pairs.matrix(view + end) for end in ("", "_low", "_high"))
        limit = float(np.nanmax(values, initial=0.0)) if view == "detour" else 1.0
        return {
            "values": values,
            "low": low,
            "high": high,
            "limit": limit or 1.0,
            "value_label": VIEWS[view],
        }

    # what is left behind

    def draw(self):
        """The pair as `plots.class_shift` draws it, under the paths."""
        fig, (above, below) = plt.subplots(2, 1, figsize=(8.2, 6.8))
        at = self.alpha
        plots.over_path(self.drawn, at=at, ax=above, title="pre-trained to fine-tuned")
        plots.class_shift(
            self.report, at=at, detours=self.detours, ax=below, title=" to ".join(self.pair)
        )
        return fig

    def stem(self) -> str:
        """Named by the pair and alpha."""
        return f"linearity_{'_to_'.join(self.pair)}_alpha_{self.alpha:g}"

    def write(self) -> str:
        """The library's calls for this pair and these paths."""
        return dedent(f"""\
            from classvec_lab import class_interpolation, plots
            from classvec_lab.diagnostics.linearity import LatentPaths, class_path

            # ft, features, vectors and paths are those that the panel was given
            given = ft, features, vectors, *{self.pair!r}
            report, path = class_interpolation(*given), class_path(*given)
            distribution, detours = path.distribution({self.alpha!r}), path.detours()
            title = {" to ".join(self.pair)!r}
            plots.class_shift(report, at={self.alpha!r}, detours=detours, title=title)
            rows = paths.table.set_index("path").loc[{list(self.curves)!r}]
            drawn = LatentPaths(rows.reset_index())
            plots.over_path(drawn, at={self.alpha!r}, title="pre-trained to fine-tuned")
            """)
