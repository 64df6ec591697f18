"""Mapping a latent edit of a ViT-B/16 into LayerNorms: seconds for cache, fit and coming off.

Run: python benchmarks/mapping.py
"""

import time

import numpy as np
import torch

from classvec_lab import load_classifier, load_dataset
from classvec_lab.editing.weights.layernorm import map_layernorms

CASES = ("ln_post", "ln_2", "last_block")
STEPS = 20


if __name__ == "__main__":
    images = load_dataset("shapes", split="train", limit=200)
    classifier = load_classifier("open_clip:ViT-B-16/random", classes=images.classes)
    name, few = images.classes[0], {"n_references": 1, "n_anchors": 1}
    with torch.inference_mode():
        z = classifier.encode(classifier.preprocess(images[0][0])[None])
    shift = np.random.default_rng(0).normal(size=classifier.dim)
    shift *= 0.5 * float(z.norm()) / np.linalg.norm(shift)
    others = f"an anchor for each of {len(images.classes) - 1} other classes"
    print(f"ViT-B/16, 1 reference, {others}, {torch.get_num_threads()} threads")
    map_layernorms(classifier, shift, name, images, steps=1, **few)  # imports
    for parameters in CASES:
        how = {"parameters": parameters, "steps": STEPS, **few}
        m = map_layernorms(classifier, shift, name, images, **how)
        print(
            f"{parameters:10s} {m.n_parameters:5,d} parameters: cache {m.prefix_seconds:.2f} s, "
            f"at most {STEPS} steps in {m.seconds:.2f} s"
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
