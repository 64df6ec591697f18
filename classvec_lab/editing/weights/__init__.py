"""Edits written into weights: closed forms, trained LayerNorms, and deltas that come off again."""

from .delta import Delta, apply_deltas
from .layernorm import map_layernorms
from .mapping import MappedEdit, map_edit
from .relocation import relocate
