"""Live panels for JupyterLab and Voila: look, select, edit, and keep what was found."""

from .attribute import AttributePanel
from .base import Panel
from .class_map import ORDERS
from .collapse import CollapsePanel
from .edit import EditPanel
from .linearity import LinearityPanel
from .orthogonality import OrthogonalityPanel
from .terms import EditTerm
