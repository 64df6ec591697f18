"""Progress bars that leave nothing behind, in a terminal, in a notebook, or run by `batch`."""

import os
from contextlib import suppress
from functools import cache
from io import StringIO
from pathlib import Path

FILE = "CLASSVEC_PROGRESS"  # names the file to which the bars of a kernel that `batch` runs go
LINE = "{desc}: {n_fmt} of {total_fmt}, {remaining} left"


def progress_bar(items=None, **options):
    """A tqdm bar, gone when it is done; `options` are tqdm's (`desc`, `total`, `unit`, `delay`,
    `disable`).

    In a notebook tqdm closes such a bar's widget but leaves its output, which after a reload of the
    page, or in Voila, reads "model not found". This one empties the output too, and shows none for
    what takes no time. A bar that ends early, by an error, stays, in red. Where the environment
    names a FILE, it holds the line of the bar that moved last, and nothing is shown.
    """
    from tqdm.auto import tqdm
    from tqdm.notebook import tqdm_notebook

    if path := os.environ.get(FILE):
        return _written(path)(items, leave=False, **options)
    kind = _emptied() if issubclass(tqdm, tqdm_notebook) else tqdm
    return kind(items, leave=False, **options)


@cache
def _written(path: str):
    """tqdm's bar as one line of a file."""
    from tqdm.std import tqdm

    class WrittenBar(tqdm):
        def __init__(self, *args, **options):
            given = {"mininterval": 0.5, "bar_format": LINE, "file": StringIO()}
            super().__init__(*args, **given | options)

        def display(self, msg=None, pos=None):
            with suppress(OSError):  # who reads it may have ended
                Path(path).write_text(str(self) if msg is None else msg, encoding="utf-8")

    return WrittenBar


@cache
def _emptied():
    """tqdm's notebook bar, its output under an id of its own."""
    from IPython.display import display
    from tqdm.notebook import tqdm_notebook

    class EmptiedBar(tqdm_notebook):
        output = None

        def __init__(self, *args, **options):
            super().__init__(*args, display=False, **options)

        def display(self, *args, check_delay=True, **options):
            super().display(*args, check_delay=False, **options)
            if check_delay and self.output is None:
                self.output = display(self.container, display_id=True)

        def close(self):
            ended = not self.disable and not (self.total and self.n < self.total)
            super().close()
            if ended and self.output is not None:
                self.output.update({"text/plain": ""}, raw=True)

    return EmptiedBar
