import pickle

import numpy as np
from sklearn.datasets import load_digits

from classvec_lab.datasets.digits import _digits, load_digits_dataset

SPLITS = ("train", "val", "test")


def test_sixty_twenty_twenty():
    parts = {split: load_digits_dataset(split=split, seed=0) for split in SPLITS}
    sizes = np.array([len(part) for part in parts.values()])
    assert sizes.sum() == 1797
    assert np.abs(sizes / 1797 - [0.6, 0.2, 0.2]).max() < 0.002
    together = np.concatenate([part.indices for part in parts.values()])
    assert np.array_equal(np.sort(together), np.arange(1797))
    whole = np.bincount(load_digits().target)
    for part, share in zip(parts.values(), (0.6, 0.2, 0.2), strict=True):
        assert np.abs(np.bincount(part.targets) - share * whole).max() <= 1.5
    assert len({part.fingerprint for part in parts.values()}) == 3


def test_pixels_labels_and_classes():
    source = load_digits()
    pixels, targets = _digits()
    assert np.array_equal(pixels, np.rint(source.images * 255 / 16))
    assert np.array_equal(targets, source.target)
    dataset = load_digits_dataset(split="val", seed=3)
    assert dataset.classes == tuple("0123456789")
    for i in (0, 100, len(dataset) - 1):
        image, target = dataset[i]
        assert (image.mode, image.size) == ("RGB", (8, 8))
        assert target == source.target[dataset.indices[i]]
        grey = np.asarray(image)
        assert np.abs(grey[..., 1] - source.images[dataset.indices[i]] * 255 / 16).max() <= 0.5
        assert (grey == grey[..., :1]).all()


def test_seed_decides_the_split():
    one, same, other = (load_digits_dataset(split="test", seed=seed) for seed in (0, 0, 1))
    assert one.fingerprint == same.fingerprint != other.fingerprint
    assert not np.array_equal(one.indices, other.indices)


def test_can_be_sent_to_another_process():
    dataset = load_digits_dataset(split="test", seed=0)
    assert pickle.loads(pickle.dumps(dataset))[5][0].tobytes() == dataset[5][0].tobytes()
