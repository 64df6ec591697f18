"""Edits written into weights: closed forms, trained LayerNorms, and the deltas that put them on and take them off."""

from .delta import Delta, apply_deltas, deltas_on
from .layernorm import LayerNormMapping, map_layernorms
from .mapping import MappedEdit, map_edit
from .relocation import retire
