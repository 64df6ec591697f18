"""Live panels for JupyterLab and Voila over the package's objects: look, select, edit, and keep what was found."""

from .base import Panel, require_choice
from .collapse import CollapsePanel
from .edit import EditPanel
from .linearity import LinearityPanel
from .ordering import ORDERS
from .orthogonality import OrthogonalityPanel
from .terms import EditTerm

__all__ = [
    "ORDERS",
    "CollapsePanel",
    "EditPanel",
    "EditTerm",
    "LinearityPanel",
    "OrthogonalityPanel",
    "Panel",
    "require_choice",
]
