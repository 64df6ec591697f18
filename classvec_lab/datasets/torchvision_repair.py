"""`import torchvision` where its compiled operators don't load (a CUDA build beside a CPU torch).

Call `ensure_torchvision()` before importing open_clip, timm or torchvision. Transforms, data sets
and models need none of the missing operators; a proper build is left alone.
"""

import sys

_library = None  # kept: torch forgets declared operators when the library object goes


def ensure_torchvision() -> None:
    """Import torchvision, declaring `nms` and `qnms` only when their absence is what stops it."""
    global _library
    if "torchvision" in sys.modules:
        return
    try:
        import torchvision
    except RuntimeError as error:
        if "operator torchvision::nms does not exist" not in str(error):
            raise
        import torch

        _library = torch.library.Library("torchvision", "FRAGMENT")
        for name in ("nms", "qnms"):
            _library.define(f"{name}(Tensor dets, Tensor scores, float iou_threshold) -> Tensor")
        for name in [m for m in sys.modules if m.partition(".")[0] == "torchvision"]:
            del sys.modules[name]
        import torchvision  # noqa: F401
