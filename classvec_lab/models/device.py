"""What the processor can do: device, number format, thread count."""

import torch

from ..checks import listed, one_of
from ..errors import ModelError

# numbers in the images that a CPU takes at once: 8 of 224 × 224, 390 of 32 × 32
AT_ONCE = 1_200_000
LARGE = 20_000_000  # parameters from which "auto" computes in bfloat16 where the processor has it


def default_device() -> torch.device:
    """CUDA where there is a usable one, else the CPU."""
    return torch.device("cuda" if torch.cuda.is_available() else "cpu")


def has_bf16(device: torch.device) -> bool:
    """Whether bfloat16 matrix products are native on a device."""
    if device.type == "cuda":
        return torch.cuda.is_bf16_supported(including_emulation=False)
    probes = "_is_avx512_bf16_supported", "_is_amx_tile_supported"
    return any(getattr(torch.cpu, name, bool)() for name in probes)


def resolve_precision(precision: str, module: torch.nn.Module, device: torch.device) -> str:
    """What "auto" stands for: float32, or bfloat16 for a large network where it is native.

    Raises ModelError for an unknown precision, and for weights in half precision.
    """
    if half := {str(p.dtype) for p in module.parameters() if p.dtype.itemsize < 4}:
        raise ModelError(
            f"the encoder's weights are {listed(half)}, in which small steps and differences are "
            "lost: write classifier.float() first; precision='bfloat16' then computes in bfloat16"
        )
    known = "auto", "float32", "bfloat16"
    if one_of(precision, known, "precision", ModelError) != "auto":
        return precision
    large = sum(p.numel() for p in module.parameters()) >= LARGE
    return "bfloat16" if large and has_bf16(device) else "float32"


def autocast(precision: str, device: torch.device):
    """The context in which a network runs in `precision` ("float32" or "bfloat16")."""
    return torch.autocast(device.type, torch.bfloat16, enabled=precision == "bfloat16")


def parts(images: torch.Tensor, device: torch.device) -> tuple[torch.Tensor, ...]:
    """A batch (N, …): whole on a GPU; on a CPU in parts of few activations, which is faster too."""
    if device.type != "cpu":
        return (images.to(device),)
    return images.split(max(1, AT_ONCE // images[0].numel()))
