"""A pair of large networks to class vectors: time and memory. Run: python benchmarks/large.py [MODEL [images]]"""

import resource
import sys
import time
import warnings

import torch

from classvec_lab import class_vectors, load_classifier, load_dataset


def peak() -> float:
    """Largest memory held so far, in GB."""
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1e6


if __name__ == "__main__":
    name, n = (
        sys.argv[1] if len(sys.argv) > 1 else "open_clip:ViT-L-14",
        int((sys.argv[2:] or [100])[0]),
    )
    warnings.simplefilter("ignore")  # random weights know nothing, and say so
    start, data = time.perf_counter(), load_dataset("photographs", split="test", limit=n)
    pair = [
        load_classifier(f"{name}/random", classes=data.classes, head="linear", seed=seed)
        for seed in (0, 1)
    ]
    print(
        f"{name}, {torch.get_num_threads()} threads: the pair is there after {time.perf_counter() - start:.0f} s"
    )
    vectors = class_vectors(*pair, data, cache=False)
    seconds = time.perf_counter() - start
    print(
        f"class vectors {vectors.kappa.shape} of {len(data)} images: {seconds:.0f} s in all, {peak():.1f} GB at most"
    )
