"""Edits written into weights: closed forms, trained LayerNorms, and deltas that come off again."""

from .delta import Delta, apply_deltas, deltas_on
from .layernorm import LayerNormMapping, map_layernorms
from .mapping import MappedEdit, map_edit, nullspace_keys
from .relocation import relocate
