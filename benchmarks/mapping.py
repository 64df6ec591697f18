"""Mapping a latent edit of a ViT-B/16 into LayerNorms: seconds for cache, fit and coming off.

Run: python benchmarks/mapping.py
"""

import time

import numpy as np
import torch

from classvec_lab import load_classifier
from classvec_lab.editing.weights.layernorm import map_layernorms

CLASSES = ("zero", "one", "two", "three", "four", "five", "six", "seven", "eight", "nine")
CASES = ("ln_post", "ln_2", "last_block")
STEPS = 20


if __name__ == "__main__":
    classifier = load_classifier("open_clip:ViT-B-16/random", classes=CLASSES)
    pixels = torch.randn(11, 3, 224, 224, generator=torch.Generator().manual_seed(0))
    with torch.inference_mode():
        z = classifier.encode(pixels[:1])
    shift = np.random.default_rng(0).normal(size=classifier.dim)
    shift *= 0.5 * float(z.norm()) / np.linalg.norm(shift)
    print(f"ViT-B/16, 1 reference and 10 anchors of 224 × 224, {torch.get_num_threads()} threads")
    map_layernorms(classifier, shift, "zero", pixels[:1], pixels[1:2], steps=1)  # imports
    for parameters in CASES:
        # tol=0: so many steps, however early the loss comes to rest
        options = {"parameters": parameters, "steps": STEPS, "tol": 0.0}
        m = map_layernorms(classifier, shift, "zero", pixels[:1], pixels[1:], **options)
        steps, _, target, others = m.history.iloc[-1]
        print(
            f"{parameters:10s} {m.n_parameters:5,d} parameters: cache {m.prefix_seconds:.2f} s, "
            f"{steps:3.0f} steps in {m.seconds:.2f} s, target error {target:.3f}, "
            f"retention error {others:.3f}"
        )
    start = time.perf_counter()
    edited = m.delta.apply_to(classifier)
    on = time.perf_counter()
    restored = m.delta.remove_from(edited)
    off = time.perf_counter()
    same = all(
        torch.equal(a, b)
        for a, b in zip(
            classifier.state_dict().values(), restored.state_dict().values(), strict=True
        )
    )
    print(
        f"copy with the change {on - start:.2f} s, copy without it {off - on:.2f} s, "
        f"bit-identical: {same}"
    )
