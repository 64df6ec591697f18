"""Live panels for JupyterLab and Voila over the package's objects: look, select, edit, and keep what was found."""

from .collapse import CollapsePanel
from .edit import EditPanel
from .linearity import LinearityPanel
from .orthogonality import OrthogonalityPanel
from .terms import EditTerm

__all__ = ["CollapsePanel", "EditPanel", "EditTerm", "LinearityPanel", "OrthogonalityPanel"]
