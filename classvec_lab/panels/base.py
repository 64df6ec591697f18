"""`Panel`: what all panels share. Traits are the state, widgets show it, and something can always be kept."""

from collections.abc import Callable, Sequence
from contextlib import contextmanager
from itertools import count
from pathlib import Path

import ipywidgets as w
import traitlets as t

from ..errors import ClassvecError, PanelError
from ..files import FIGURES, figures_dir, save_figure
from .canvas import Frame

MOST_LISTED = 200  # names in a dropdown


def kept_dir() -> Path:
    """Where panels leave figures and edit cards unless told otherwise: `kept` in the figures folder."""
    return figures_dir() / "kept"


class Panel(w.VBox):
    """A panel: its traits are its state, and may be set from Python as well as by its controls.

    A value that can't be is refused with a PanelError and leaves everything as it was; from a control the
    same words appear in the panel's last line. `figure()` saves what the panel shows, `code` is the call that makes it.
    folder: where files go, by default `kept_dir()`.
    """

    code = t.Unicode("", help="Python that reproduces what the panel shows")
    title = "Panel"

    def __init__(self, *, folder: str | Path = ""):
        super().__init__()
        self.folder = Path(folder) if folder else kept_dir()
        self.frame = Frame(label=f"{self.title}: messages")
        self._code_box = w.Textarea(
            description="", rows=5, layout=w.Layout(width="100%", display="none")
        )
        self._code_box.add_class("cv-code")
        self._code_box.tooltip = "the call that reproduces this"
        self._figure_button = w.Button(
            description="Figure", icon="picture-o", tooltip="save PNG and PDF of what is shown"
        )
        self._code_button = w.ToggleButton(
            description="Code", icon="code", tooltip="show the call that reproduces this"
        )
        for button in (self._figure_button, self._code_button):
            button.layout.width = "auto"
        self._figure_button.on_click(lambda _: self.guarded(self.figure))
        self._code_button.observe(self._show_code, "value")
        t.dlink((self, "code"), (self._code_box, "value"))
        self.add_class("cv-panel")

    def lay_out(self, *rows: w.Widget, buttons: tuple[w.Widget, ...] = ()) -> None:
        """Put the panel together: rows, then the buttons, the code and the line of messages."""
        tools = w.HBox(
            [*buttons, self._figure_button, self._code_button],
            layout=w.Layout(flex_flow="row wrap"),
        )
        self.children = [w.HTML(f"<b>{self.title}</b>"), *rows, tools, self._code_box, self.frame]

    def say(self, message: str, *, problem: bool = False) -> None:
        """Show a message in the panel's last line."""
        with self.frame.hold_sync():
            self.frame.message, self.frame.problem = message, problem

    @contextmanager
    def telling(self):
        """Turn an error of ours into a message of the panel: for what controls trigger."""
        old = self.frame.message if self.frame.problem else None
        try:
            yield
        except ClassvecError as error:
            self.say(str(error), problem=True)
        else:
            if old is not None and self.frame.message == old:
                self.say("")

    def guarded(self, action: Callable, *arguments):
        """Call `action`; an error of ours becomes a message of the panel."""
        with self.telling():
            return action(*arguments)

    def bind(
        self,
        control: w.Widget,
        name: str,
        *,
        read: Callable = lambda v: v,
        show: Callable = lambda v: v,
    ) -> w.Widget:
        """Tie a control's value to a trait, both ways; a refused value puts the control back and is said."""
        control.value = show(getattr(self, name))

        def to_panel(change):
            if change["new"] == show(getattr(self, name)):
                return  # it was put back: what was said about that stands
            with self.telling():
                setattr(self, name, read(change["new"]))
            wanted = show(getattr(self, name))
            if control.value != wanted:
                control.value = wanted

        def to_control(_):
            wanted = show(getattr(self, name))
            if control.value != wanted:
                control.value = wanted

        control.observe(to_panel, "value")
        self.observe(to_control, name)
        return control

    def draw(self):
        """The matplotlib figure of what the panel shows now, made by `plots`."""
        raise NotImplementedError

    def stem(self) -> str:
        """The beginning of the names of files that the panel leaves behind."""
        raise NotImplementedError

    def figure(self) -> list[Path]:
        """Save what is shown as PNG and PDF under a new name in `folder`; returns the two paths."""
        import matplotlib.pyplot as plt

        from ..plots import style

        with style.context(), plt.ioff():
            fig = self.draw()
            paths = new_paths(self.folder, self.stem(), FIGURES)
            save_figure(fig, paths)
            plt.close(fig)
        self.say(f"saved {paths[0]} and .pdf")
        return paths

    def _show_code(self, change) -> None:
        self._code_box.layout.display = "flex" if change["new"] else "none"

    def describe(self) -> str:
        """One line that stands where no widget can be shown."""
        return self.title

    def __repr__(self) -> str:
        return f"<{self.describe()}; live in JupyterLab once its cell is run>"

    def _repr_mimebundle_(self, **more):
        bundle = super()._repr_mimebundle_(**more)
        if isinstance(bundle, dict) and "text/plain" in bundle:
            bundle["text/plain"] = repr(self)
        return bundle


def new_paths(folder: Path, stem: str, suffixes: Sequence[str]) -> list[Path]:
    """Names in `folder` that no file has yet: the stem, or the stem with -2, -3, …, with each of the suffixes."""
    clean = "".join(c if c.isalnum() or c in "-_." else "_" for c in stem).strip("._") or "panel"
    for k in count(1):
        paths = [
            Path(folder) / f"{clean}{'' if k == 1 else f'-{k}'}{suffix}" for suffix in suffixes
        ]
        if not any(path.exists() for path in paths):
            return paths


def require_choice(name: str, value, choices) -> None:
    """Raise PanelError, listing the choices, unless `value` is one of them."""
    if value not in choices:
        shown = [str(c) for c in choices][:20]
        more = f" … ({len(choices)})" if len(choices) > 20 else ""
        raise PanelError(f"{name} can't be {value!r}; there are {', '.join(shown)}{more}")


def class_choice(names: Sequence, description: str, *, width: str = "170px") -> w.Widget:
    """A control whose value is a class: a dropdown up to 200 names (or (label, name) pairs), a text field for more."""
    style = {"description_width": "initial"}
    if len(names) <= MOST_LISTED:
        return w.Dropdown(
            options=list(names), description=description, style=style, layout=w.Layout(width=width)
        )
    return w.Text(
        description=description, style=style, continuous_update=False, layout=w.Layout(width=width)
    )
