"""The linearity panel: alpha by hand, along the way to the fine-tuned model and from one class to another."""

import ipywidgets as w
import numpy as np
import pandas as pd
import traitlets as t

from ..diagnostics.linearity import ClassInterpolation
from ..errors import MismatchError, PanelError
from ..plots.style import SEQUENTIAL
from ..readout import check_labelled
from .base import Panel, class_choice, require_choice
from .canvas import Matrix, colour_table, packed
from .path_view import PathView
from .shift_view import ShiftView

VIEWS = {
    "crossing": "α where the shares cross",
    "detour": "share passing a third class",
    "success": "share that arrives",
}


class LinearityPanel(Panel):
    """Accuracy along the way from pre-trained to fine-tuned, and one class moved to another, both at an alpha set by hand.

    classifier: the fine-tuned one; features: its own; vectors: best of another split; paths: `latent_paths`; pairs:
    `class_interpolations` (a map of all pairs, in which a click picks one); dataset: the images of the features. What isn't
    given isn't shown. From class to class, predictions are read at each alpha itself; on the way to the fine-tuned
    model the nearest measured alpha is told. No image is encoded.

    Traits. alpha: in [0, 1]; source, target: two classes, source with samples, `go` and `swap` set both at once; view: which
    value of the pairs the map shows, "crossing", "detour" or "success"; curves: names of the paths drawn.
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
        _check_given(features, vectors, pairs, dataset)
        self.vectors, self.paths, self.pairs = vectors, paths, pairs
        self.count = np.bincount(features.y, minlength=len(vectors))
        self.way = PathView(paths)
        self.known = self.way.known
        if self.known:
            self.curves = self.known
        self.go(*self._first_pair())
        self.shift = ShiftView(classifier, features, vectors, dataset)
        self.map = self._make_map()
        self._shown = ()
        self._lay_out()
        self.observe(self._show_alpha, "alpha")
        self.observe(self._show_pair, ["source", "target"])
        self.observe(self._show_view, "view")
        self.observe(self._show_curves, "curves")
        self._show_view()
        self._show_pair()
        self._show_curves()

    # what may be set

    @t.validate("alpha")
    def _in_range(self, proposal):
        if not 0 <= proposal["value"] <= 1:
            raise PanelError(
                f"alpha lies between 0, the start, and 1, the end; got {proposal['value']:g}"
            )
        return proposal["value"]

    @t.validate("source", "target")
    def _a_class(self, proposal):
        name, value = proposal["trait"].name, proposal["value"]
        self._check_pair(*((value, self.target) if name == "source" else (self.source, value)))
        return value

    @t.validate("view")
    def _a_view(self, proposal):
        require_choice("view", proposal["value"], tuple(VIEWS))
        if self.pairs is None:
            raise PanelError(
                "there is no map of pairs to view: give the panel pairs=class_interpolations(…)"
            )
        return proposal["value"]

    @t.validate("curves")
    def _some_curves(self, proposal):
        names = tuple(proposal["value"])
        if not self.known:
            raise PanelError("there are no paths to draw: give the panel paths=latent_paths(…)")
        for name in names:
            require_choice("a curve", name, self.known)
        if not names:
            raise PanelError(
                f"no curve would be left: draw at least one of {', '.join(self.known)}"
            )
        return tuple(p for p in self.known if p in names)

    def _check_pair(self, source: str, target: str) -> None:
        require_choice("source", source, self.vectors.classes)
        require_choice("target", target, self.vectors.classes)
        if source == target:
            raise PanelError(
                f"source and target are both {source!r}: name two classes; Swap exchanges them"
            )
        if not self.count[self.vectors.index(source)]:
            raise PanelError(f"class {source!r} has no sample to move: choose another source")

    def go(self, source: str, target: str) -> None:
        """Set source and target at once."""
        self._check_pair(source, target)
        with self.hold_trait_notifications():  # each is checked when both are set
            self.source, self.target = source, target

    def swap(self) -> None:
        """Exchange source and target."""
        self.go(self.target, self.source)

    def _first_pair(self) -> tuple[str, str]:
        """The pair that passes a third class most often, where pairs are known; else the first that can be moved."""
        source = int(np.flatnonzero(self.count)[0])
        target = int(source == 0)
        if self.pairs is not None:
            detour = np.where(
                self.count[:, None] > 0, np.nan_to_num(self.pairs.matrix("detour").to_numpy()), 0.0
            )
            if detour.any():
                source, target = np.unravel_index(detour.argmax(), detour.shape)
        return self.vectors.classes[source], self.vectors.classes[target]

    # what is shown

    @property
    def report(self) -> ClassInterpolation:
        """The `ClassInterpolation` of source and target."""
        return self.shift.report

    def distribution(self) -> pd.DataFrame:
        """What the source's samples are taken for at this alpha, `ClassPath.distribution`."""
        return self.shift.path.distribution(self.alpha)

    def strays(self) -> pd.DataFrame:
        """The samples taken for a third class at this alpha: row in the features, predicted class."""
        return self.shift.strays(self.alpha)

    def measured(self) -> pd.DataFrame:
        """The rows of the drawn paths at the measured alpha nearest to this one."""
        return self.way.measured(self.curves, self.alpha)

    def _show_curves(self, _=None) -> None:
        if self.known:
            self.way.show(self.curves)
            self._show_alpha()

    def _show_pair(self, _=None) -> None:
        if self._shown != (self.source, self.target):
            self._shown = (self.source, self.target)
            self.shift.show(*self._shown)
            self._place_selection()
            self._show_alpha()

    def _show_alpha(self, _=None) -> None:
        self.shift.at(self.alpha)
        if self.known:
            self.way.at(self.curves, self.alpha)
        self._write_code()

    # the map of pairs

    def _make_map(self) -> Matrix:
        names = [] if self.pairs is None else list(self.vectors.classes)  # an empty map isn't shown
        made = Matrix(
            label="map of all pairs; arrow keys move the selected pair, + and - zoom, Shift with arrows pans, 0 shows all",
            palette=colour_table(SEQUENTIAL), centred=False, row_label="source", column_label="target",
            row_names=names, column_names=names, row_counts=self.count.tolist(), layout=w.Layout(max_width="520px"),
        )  # fmt: skip
        made.observe(self._clicked, "selected")
        return made

    def _show_view(self, _=None) -> None:
        if self.pairs is None:
            return
        values = self.pairs.matrix(self.view).to_numpy()
        most = np.nanmax(values, initial=0.0)
        with self.map.hold_sync():
            self.map.values = packed(values)
            for end in ("low", "high"):
                frame = self.pairs.matrix(f"{self.view}_{end}")
                setattr(self.map, end, packed(frame.to_numpy()))
            self.map.limit = float(most) if self.view == "detour" and most else 1.0
            self.map.value_label = VIEWS[self.view]

    def _place(self) -> list[int]:
        return [self.vectors.index(self.source), self.vectors.index(self.target)]

    def _place_selection(self) -> None:
        if self.map.selected != self._place():
            self.map.selected = self._place()

    def _clicked(self, change) -> None:
        if change["new"] == self._place():
            return  # it was put there, or back after a refusal
        if len(change["new"]) == 2 and max(change["new"]) < len(self.vectors):
            self.guarded(self.go, *(self.vectors.classes[i] for i in change["new"]))
        self._place_selection()

    def _picked(self, change) -> None:
        if len(change["new"]) == 2:
            self.alpha = round(min(max(float(change["new"][1]), 0.0), 1.0), 2)

    # what is left behind

    def draw(self):
        """The pair as `plots.class_shift` draws it, under the paths where there are any, with this alpha marked."""
        import matplotlib.pyplot as plt

        from .. import plots

        fig, axes = plt.subplots(
            1 + bool(self.known), 1, figsize=(8.2, 6.8 if self.known else 3.6), squeeze=False
        )
        if self.known:
            plots.path_accuracy(
                self.way.drawn(self.curves),
                at=self.alpha,
                ax=axes[0, 0],
                title="pre-trained to fine-tuned",
            )
        title = f"{self.source} to {self.target}"
        plots.class_shift(
            self.report, at=self.alpha, detours=self.shift.detours, ax=axes[-1, 0], title=title
        )
        return fig

    def stem(self) -> str:
        """Named by the pair and alpha."""
        return f"linearity_{self.source}_to_{self.target}_alpha_{self.alpha:g}"

    def describe(self) -> str:
        """Classes and samples."""
        return (
            f"linearity panel of {len(self.vectors):,} classes, {int(self.count.sum()):,} samples"
        )

    def _write_code(self) -> None:
        pair, at = f"ft, features, vectors, {self.source!r}, {self.target!r}", f"at={self.alpha!r}"
        lines = [
            "from classvec_lab import class_interpolation, plots",
            "from classvec_lab.diagnostics.linearity import LatentPaths, class_path",
            "",
            f"# ft, features, vectors{' and paths' if self.known else ''} as they were given to the panel",
            f"report = class_interpolation({pair})",
            f"path = class_path({pair})",
            f"distribution = path.distribution({self.alpha!r})",
            f"plots.class_shift(report, {at}, detours=path.detours(), title={f'{self.source} to {self.target}'!r})",
        ]
        if self.known:
            lines.append(
                f"drawn = LatentPaths(paths.table[paths.table['path'].isin({list(self.curves)!r})])"
            )
            lines.append(f"plots.path_accuracy(drawn, {at}, title='pre-trained to fine-tuned')")
        self.code = "\n".join(lines)

    def _controls(self) -> list[w.Widget]:
        style = {"description_width": "initial"}
        movable = [name for name, n in zip(self.vectors.classes, self.count, strict=True) if n]
        alpha = w.FloatSlider(
            max=1,
            step=0.01,
            description="α",
            readout_format=".2f",
            layout=w.Layout(width="330px"),
            style=style,
        )
        source, target = (
            class_choice(movable, "source"),
            class_choice(self.vectors.classes, "target"),
        )
        swap = w.Button(
            description="Swap",
            icon="exchange",
            tooltip="exchange source and target",
            layout=w.Layout(width="auto"),
        )
        swap.on_click(lambda _: self.guarded(self.swap))
        made = [
            self.bind(alpha, "alpha"),
            self.bind(source, "source"),
            self.bind(target, "target"),
            swap,
        ]
        if self.pairs is not None:
            options = {label: name for name, label in VIEWS.items()}
            view = w.Dropdown(
                options=options, description="map", layout=w.Layout(width="240px"), style=style
            )
            made.append(self.bind(view, "view"))
        return made

    def _lay_out(self) -> None:
        left = []
        if self.known:
            tags = w.TagsInput(
                allowed_tags=list(self.known),
                allow_duplicates=False,
                layout=w.Layout(min_width="120px"),
            )
            chosen = w.HBox(
                [
                    w.Label("curves", layout=w.Layout(flex="0 0 auto")),
                    self.bind(tags, "curves", read=tuple, show=list),
                ]
            )
            left += [self.way.chart, self.way.table, chosen]
        if self.pairs is not None:
            left.append(self.map)
        for canvas in (self.way.chart, self.shift.chart):
            canvas.observe(self._picked, "picked")
        side = [w.VBox(left, layout=w.Layout(flex="1 1 490px", min_width="320px"))] if left else []
        body = w.HBox(
            [*side, self.shift.view],
            layout=w.Layout(flex_flow="row wrap", align_items="flex-start"),
        )
        self.lay_out(
            w.HBox(self._controls(), layout=w.Layout(flex_flow="row wrap", align_items="center")),
            body,
        )


def _check_given(features, vectors, pairs, dataset) -> None:
    if pairs is not None and tuple(pairs.classes) != vectors.classes:
        raise MismatchError(
            "the pairs and the class vectors name different classes: make the pairs from these vectors"
        )
    if dataset is not None and len(dataset) != len(features.y):
        raise MismatchError(
            f"{len(dataset)} images don't belong to {len(features.y)} features: give the images of the features"
        )
