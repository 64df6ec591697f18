"""`import torchvision` where its compiled operators don't load (a CUDA build beside a CPU torch).

Call `ensure_torchvision()` before importing open_clip, timm or torchvision. Transforms, data sets
and models need none of the missing operators; a proper build is left alone.
"""

import functools
import sys


@functools.cache
def ensure_torchvision():
    """Import torchvision, declaring `nms` and `qnms` only when their absence is what stops it.

    What is returned is kept here: torch forgets declared operators when their library goes.
    """
    if "torchvision" in sys.modules:
        return None
    try:
        import torchvision
    except RuntimeError as error:
        if "operator torchvision::nms does not exist" not in str(error):
            raise
        import torch

        library = torch.library.Library("torchvision", "FRAGMENT")
        for name in ("nms", "qnms"):
            library.define(f"{name}(Tensor dets, Tensor scores, float iou_threshold) -> Tensor")
        for name in [m for m in sys.modules if m.partition(".")[0] == "torchvision"]:
            del sys.modules[name]
        import torchvision  # noqa: F401

        return library
    return None
