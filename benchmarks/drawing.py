"""Images drawn per second on one core: clean, in snow, with a word, with both. Run: python benchmarks/drawing.py [n]"""

import sys
import time

from classvec_lab.datasets.shapes import CLASSES, draw

KINDS = {
    "clean": {},
    "snow": {"snow": 1.0},
    "word": {"word": True},
    "snow and word": {"snow": 1.0, "word": True},
}


def images_per_second(n: int, *, snow: float = 0.0, word: bool = False) -> float:
    """Speed over `n` images; CPU time, so that other work on the machine doesn't count."""
    start = time.process_time()
    for i in range(n):
        draw(0, "train", i, snow=snow, word=CLASSES[i % len(CLASSES)] if word else None)
    return n / (time.process_time() - start)


if __name__ == "__main__":
    n_images = int(sys.argv[1]) if len(sys.argv) > 1 else 3000
    images_per_second(100, snow=1.0, word=True)  # fonts and label strips are made once
    for kind, options in KINDS.items():
        print(f"{kind:<14} {images_per_second(n_images, **options):8,.0f} images/s")
