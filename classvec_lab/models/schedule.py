"""The learning-rate schedule that pre-training and fine-tuning share."""

import math


def cosine_with_warmup(step: int, warmup: int, total: int) -> float:
    """Factor on the learning rate: linear from 0 to 1 over `warmup` steps, then a half cosine to 0 at `total`."""
    if step < warmup:
        return (step + 1) / warmup
    return 0.5 * (1 + math.cos(math.pi * (step - warmup) / max(total - warmup, 1)))
