"""Canvases that the browser draws: float32 goes in, clicks come back. They compute nothing."""

from pathlib import Path
from types import SimpleNamespace

import anywidget
import numpy as np
from traitlets import Bool, Bytes, Float, Int, List, TraitType, Unicode

from ..checks import same_images
from ..errors import ClassvecError
from .payload import thumbnail

STATIC = Path(__file__).with_name("static")


class Floats(Bytes):
    """Raw little-endian float32, rows first, to which an array may be assigned."""

    def validate(self, obj, value):
        """Bytes as they are."""
        return value if isinstance(value, bytes) else np.asarray(value, "<f4").tobytes()


class Canvas(anywidget.AnyWidget):
    """What every canvas has: a label for screen readers, and traits that its script shares.

    The script of a canvas is what all share, and the file of its own name.
    """

    _css = (STATIC / "panels.css").read_text("utf-8")
    label = Unicode().tag(sync=True)

    def __init_subclass__(cls, **more):
        if not hasattr(cls, "_esm"):  # anywidget makes a class of each instance
            parts = ("shared", cls.__name__.lower())
            cls._esm = "\n".join((STATIC / f"{part}.js").read_text("utf-8") for part in parts)
        for trait in vars(cls).values():
            if isinstance(trait, TraitType):
                trait.tag(sync=True)
        super().__init_subclass__(**more)

    def put(self, **state) -> None:
        """Set several traits in one message."""
        with self.hold_sync():
            for name, value in state.items():
                setattr(self, name, value)


class Matrix(Canvas):
    """A heat map of values (R, C): hover, select a cell, zoom, pan.

    values, low, high: arrays, of which low and high may be empty. estimates: what low and high are
    the interval of, where that isn't values, or empty. marked: one byte a cell, 1 for
    those with a dot. selected: [row, column] or []. opened: the cell that a user opened where
    `opens`, or []. marks: values marked on the colour bar; marks_label: what they are.
    """

    values = Floats()
    low = Floats()
    high = Floats()
    estimates = Floats()
    marked = Bytes()
    row_names = List()
    column_names = List()
    row_counts = List()
    column_counts = List()
    row_label = Unicode()
    column_label = Unicode()
    value_label = Unicode("value")
    marked_label = Unicode()
    limit = Float(1.0)
    centred = Bool(True)
    marks = List()
    marks_label = Unicode()
    palette = Bytes()
    selected = List()
    opened = List()
    opens = Bool(False)


class Charts(Canvas):
    """Line charts in a grid of up to `columns`; each of `charts` is what `chart` made.

    markers: for each chart the x of its moving marker, or None. picked: [chart, x] of a click.
    key: series (name, colour, dash) named once under all charts, beside those that a chart names.
    """

    charts = List()
    markers = List()
    columns = Int(2)
    height = Int(250)
    picked = List()
    key = List()


class Bars(Canvas):
    """Shares (K,) before and after, a row for each name; names at rows `edited` stand out."""

    names = List()
    counts = List()
    before = Floats()
    after = Floats()
    edited = List()


class Scatter(Canvas):
    """A film on a plane: points (E, n, 2), means (E, K, 2), labels (n,); `step` is its frame."""

    points = Floats()
    means = Floats()
    labels = Floats()
    colours = Bytes()
    names = List()
    box = List()
    step = Float(0.0)
    focus = Int(-1)
    caption = Unicode()


class Gallery(Canvas):
    """Thumbnails in titled groups, drawn from a data set when the browser first needs them.

    groups: mappings with title and items (key: position in the data set, caption, and perhaps title
    and tone "good" or "bad"). Without a data set the captions stand alone.

    Args:
        dataset: the images of the `features`, or None.
    Raises:
        MismatchError: where data set and features carry different classes or labels.
    """

    groups = List()
    has_images = Bool(False)

    def __init__(self, dataset, features, **given):
        if dataset is not None and features is not None:
            images = SimpleNamespace(classes=dataset.classes, y=dataset.targets)
            same_images(images, features, "the data set", "the features")
        super().__init__(has_images=dataset is not None, **given)
        self._dataset = dataset
        self.on_msg(self._asked)

    def _asked(self, _, content, __):
        self.send(content, list(map(self._picture, content["keys"])))

    def _picture(self, position):
        """The thumbnail of an image; empty for one that can't be read any more."""
        try:
            return thumbnail(self._dataset[position][0])
        except (ClassvecError, OSError):
            return b""


class Frame(Canvas):
    """The line in which a panel speaks; it also says when the kernel is gone."""

    message = Unicode()
    problem = Bool(False)
