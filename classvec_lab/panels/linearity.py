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
from .base import Panel, class_choice, in_range, one_of, same_images, some_of
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
    model the nearest measured alpha is told. No image is encoded. Traits: alpha, in [0, 1]; source
    and target, two classes, source with samples (`go` and `swap` set both at once); view, the value
    of the pairs that the map shows, "crossing", "detour" or "success"; curves, names of the paths
    drawn. Of source and target, `report` is the `ClassInterpolation`, `path` the `ClassPath`, and
    `detours` the ranges of alpha in which a third class is predicted; `drawn` are the paths drawn.

    Args:
        classifier: the fine-tuned one.
        features: its own.
        vectors: the class vectors, best of another split.
        paths: `latent_paths`. What isn't given isn't shown.
        pairs: `class_interpolations`: a map of all pairs, in which a click picks one.
        dataset: the images of the features.
        folder: where files go.
    Raises:
        MismatchError: where classes, dimensions or images don't agree.
    """

    title = (
        "Linearity: is the way from pre-trained to fine-tuned, and from class to class, straight?"
    )
    alpha = t.Float(0.5)
    source = t.Unicode("")
    target = t.Unicode("")
    view = t.Unicode("detour")
    curves = t.Tuple(())

    def __init__(
        self, classifier, features, vectors, *, paths=None, pairs=None, dataset=None, folder=""
    ):
        super().__init__(folder=folder)
        check_labelled(classifier, features, vectors)
        same_images(dataset, features)
        if pairs is not None:
            same_classes(pairs.classes, vectors.classes, "the map of pairs", "the vectors")
        names = () if paths is None else set(paths.table["path"])
        self.known = names and some_of(names, PATHS, "path of latent_paths")
        self.classes, self.paths, self.pairs = vectors.classes, paths, pairs
        self.count = np.bincount(features.y, minlength=len(vectors)).tolist()
        self.movable = [name for name, n in zip(self.classes, self.count, strict=True) if n]

        def moved(*pair):
            given = classifier, features, vectors, *pair
            path = class_path(*given)
            return class_interpolation(*given), path, path.detours()

        self.moved = lru_cache(MOST_KEPT)(moved)
        self._views = cache(self._values)
        if self.known:
            self.curves = self.known
        self.go(*self._first_pair())
        self._lay_out(dataset)

    # what may be set

    @t.validate("alpha", "source", "target", "view", "curves")
    def _possible(self, proposal):
        name, value = proposal["trait"].name, proposal["value"]
        if name == "alpha":
            return in_range(name, value, 0, 1)
        if name == "view" and self.pairs is None:
            raise PanelError("no map of pairs: give the panel pairs=class_interpolations(…)")
        if name == "curves" and not self.known:
            raise PanelError("no paths to draw: give the panel paths=latent_paths(…)")
        if name == "curves":
            return some_of(value, self.known, "curve")
        if name == "view":
            return one_of(value, VIEWS, name)
        self._check_pair(**{"source": self.source, "target": self.target, name: value})
        return value

    def _check_pair(self, source, target):
        one_of(source, self.classes, "source")
        one_of(target, self.classes, "target")
        if source == target:
            raise PanelError(
                f"source and target are both {source!r}: name two classes; Swap exchanges them"
            )
        if source not in self.movable:
            raise PanelError(f"class {source!r} has no sample to move: choose another source")

    def go(self, source: str, target: str) -> None:
        """Set source and target at once."""
        self._check_pair(source, target)
        with self.hold_trait_notifications():  # each is checked when both are set
            self.source, self.target = source, target

    def swap(self) -> None:
        """Exchange source and target."""
        self.go(self.target, self.source)

    def _first_pair(self):
        """The pair that passes a third class most often; else the first that can be moved."""
        if self.pairs is not None:
            rows = self.pairs.table
            rows = rows[rows["source"].isin(self.movable) & (rows["detour"] > 0)]
            if len(rows):
                return tuple(rows.loc[rows["detour"].idxmax(), ["source", "target"]])
        return self.movable[0], self.classes[self.movable[0] == self.classes[0]]

    # what is shown

    def show(self, _=None) -> None:
        """Put the state into the widgets."""
        self.report, self.path, self.detours = self.moved(self.source, self.target)
        charts = [shift_chart(self.report, self.detours)]
        words = paragraphs(shift_words(self.report, self.detours))
        self.shift_table.value = words + shift_table(self.path, self.alpha)
        self.gallery.groups = [stray_images(self.path, self.alpha)]
        if self.known:
            rows = self.paths.table.set_index("path").loc[list(self.curves)].reset_index()
            charts.insert(0, path_chart(rows))
            self.way_table.value = path_table(rows, self.alpha)
            self.drawn = LatentPaths(rows)
        self.charts.put(charts=charts, markers=[self.alpha] * len(charts))
        if self.pairs is not None:
            self.map.put(**self._views(self.view))
        self.code = self._code()

    def _values(self, view):
        """The state of the map of pairs in this view."""
        values, low, high = (self.pairs.matrix(view + end) for end in ("", "_low", "_high"))
        limit = float(np.nanmax(values, initial=0.0)) if view == "detour" else 1.0
        look = {"limit": limit or 1.0, "value_label": VIEWS[view]}
        return {"values": values, "low": low, "high": high, **look}

    def _place(self):
        return [self.classes.index(self.source), self.classes.index(self.target)]

    def _click(self, place):
        if max(place) < len(self.classes):
            self.go(*(self.classes[i] for i in place))

    def _lay_out(self, dataset):
        label = "accuracy from pre-trained to fine-tuned, and shares from one class to another"
        self.charts = Charts(label=label, columns=2, height=300)
        self.way_table, self.shift_table = w.HTML(), w.HTML()
        self.gallery = Gallery(dataset, label="samples taken for a third class")
        alpha = w.FloatSlider(description="α", max=1, step=0.01)

        def picked(place):
            alpha.value = round(place[1], 2)  # the slider keeps it in its range

        self.tie(self.charts, list, picked, at="picked")
        controls = [
            self.bind("alpha", alpha),
            self.bind("source", class_choice(self.movable, "source")),
            self.bind("target", class_choice(self.classes, "target")),
            self.button("Swap", "exchange source and target", self.swap, icon="exchange"),
        ]
        left = []
        if self.known:
            left += [self.way_table, self.tags("curves", self.known, "curves")]
        if self.pairs is not None:
            self.map = Matrix(
                label="map of all pairs; arrow keys move the selected pair, + and - zoom, "
                "Shift with arrows pans, 0 shows all",
                palette=colour_table(plots.style.SEQUENTIAL),
                centred=False,
                row_label="source",
                column_label="target",
                row_names=list(self.classes),
                column_names=list(self.classes),
                row_counts=self.count,
            )
            self.tie(self.map, self._place, self._click, "source", "target", at="selected")
            views = {label: view for view, label in VIEWS.items()}
            controls.append(self.bind("view", w.Dropdown(description="map", options=views)))
            left.append(self.map)
        right = w.VBox([self.shift_table, self.gallery])
        self.lay_out(w.HBox(controls), self.charts, w.Box([w.VBox(left), right][not left :]))

    # what is left behind

    def draw(self):
        """The pair as `plots.class_shift` draws it, under the paths where there are any."""
        size = (8.2, 6.8 if self.known else 3.6)
        fig, axes = plt.subplots(1 + bool(self.known), 1, figsize=size, squeeze=False)
        at, title = self.alpha, f"{self.source} to {self.target}"
        if self.known:
            way = "pre-trained to fine-tuned"
            plots.path_accuracy(self.drawn, at=at, ax=axes[0, 0], title=way)
        plots.class_shift(self.report, at=at, detours=self.detours, ax=axes[-1, 0], title=title)
        return fig

    def stem(self) -> str:
        """Named by the pair and alpha."""
        return f"linearity_{self.source}_to_{self.target}_alpha_{self.alpha:g}"

    def describe(self) -> str:
        """Classes and samples."""
        return f"linearity panel of {len(self.classes):,} classes, {sum(self.count):,} samples"

    def _code(self):
        title = f"{self.source} to {self.target}"
        code = dedent(f"""\
            from classvec_lab import class_interpolation, plots
            from classvec_lab.diagnostics.linearity import LatentPaths, class_path

            # ft, features, vectors and paths are those that the panel was given
            given = ft, features, vectors, {self.source!r}, {self.target!r}
            report, path = class_interpolation(*given), class_path(*given)
            distribution, detours = path.distribution({self.alpha!r}), path.detours()
            plots.class_shift(report, at={self.alpha!r}, detours=detours, title={title!r})
            """)
        if not self.known:
            return code
        return code + dedent(f"""\
            rows = paths.table.set_index("path").loc[{list(self.curves)!r}]
            drawn = LatentPaths(rows.reset_index())
            plots.path_accuracy(drawn, at={self.alpha!r}, title="pre-trained to fine-tuned")
            """)
