"""Weight space: task vectors and their arithmetic."""

from .taskvector import TaskVector
