"""Progress bars that leave nothing behind, in a terminal or in a notebook."""

from functools import cache


def progress_bar(items=None, **options):
    """A tqdm bar, gone when it is done; `options` are tqdm's (`desc`, `total`, `unit`, `delay`,
    `disable`).

    In a notebook tqdm closes such a bar's widget but leaves its output, which after a reload of the
    page, or in Voila, reads "model not found". This one empties the output too, and shows none for
    what takes no time. A bar that ends early, by an error, stays, in red.
    """
    from tqdm.auto import tqdm
    from tqdm.notebook import tqdm_notebook

    kind = _emptied() if issubclass(tqdm, tqdm_notebook) else tqdm
    return kind(items, leave=False, **options)


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
