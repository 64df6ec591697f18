"""Every error that this package raises on purpose derives from `ClassvecError`."""


class ClassvecError(Exception):
    """Base of all errors raised by classvec_lab; the message says what was wrong and what to do."""


class DatasetError(ClassvecError):
    """A data set can't be found, read or split as asked."""


class ModelError(ClassvecError):
    """A network can't be built, loaded, saved or fine-tuned as asked."""


class FileFormatError(ClassvecError):
    """A file is damaged, truncated or not of the expected kind."""


class MismatchError(ClassvecError):
    """Two things that must belong together (model, classes, data, shapes) do not."""


class NotebookError(ClassvecError):
    """A notebook can't be run as asked: unknown notebook, parameter, type, or a failing cell."""


class EditError(ClassvecError):
    """An edit, gate or mapping can't be made or applied as asked."""


class PanelError(ClassvecError):
    """A panel was set to something that can't be: an unknown class, a threshold out of range,
    nothing to keep.
    """
