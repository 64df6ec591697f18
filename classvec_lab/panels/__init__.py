"""Live panels for JupyterLab and Voila: look, select, edit, and keep what was found."""

from .base import Panel
from .collapse import CollapsePanel
from .edit import EditPanel
from .linearity import LinearityPanel
from .ordering import ORDERS
from .orthogonality import OrthogonalityPanel
from .terms import EditTerm
