"""What class vectors are used for: each module a recipe of data and an `Edit`."""

from .adaptation import lesson
from .attributes import AttributeVectors
from .judging import judge, over_seeds, trials_say, valued
from .removal import map_projection, map_removal
from .routing import route
from .samples import attribute_vectors
from .trials import Trial
