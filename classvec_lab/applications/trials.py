"""`Trial`: a few external samples with an attribute, and test images under several conditions."""

from collections.abc import Callable, Mapping
from functools import cached_property

import numpy as np
import pandas as pd

from ..datasets.splits import external_samples
from ..features import Features, extract_features
from ..readout import logits
from .attributes import AttributeVectors
from .judging import Move, judge
from .routing import Router
from .samples import attribute_vectors

Change = Callable[[object], object]  # a data set to a changed one


class Trial:
    """One draw: external samples, the attribute vectors made of them, and test images to judge.

    Args:
        exp: an `Experiment`; the attribute is edited away from its fine-tuned model. Its val images
            count as samples without the attribute.
        pool: images that external samples are drawn of, none of which may be a test image.
        n: external samples of each class, drawn by `seed`.
        changes: a value of the attribute to what gives a data set that value.
        tests: a condition to what makes it of the test images, None where they stay. Images have
            the value of the condition's name, or else their metadata's "word", or else none.
        facts: what tells this draw apart, as columns of `judge`.
    """

    def __init__(
        self,
        exp,
        pool,
        n: int,
        changes: Mapping[str, Change],
        tests: Mapping[str, Change | None],
        *,
        seed: int,
        **facts,
    ):
        self.exp, self.facts = exp, {"seed": seed, "n_external": n, **facts}
        self.rng = np.random.default_rng(seed)
        self.few = external_samples(pool, n, seed=seed, apart_from=exp.test)
        self.worn = {
            v: external_samples(change(pool), n, seed=seed, apart_from=exp.test)
            for v, change in changes.items()
        }
        self.images = {k: change(exp.test) if change else exp.test for k, change in tests.items()}

    def read(self, dataset) -> Features:
        """Representations under the model that is edited."""
        return extract_features(self.exp.ft, dataset, progress=False)

    @property
    def plain(self) -> Features:
        """Val features, without the attribute."""
        return self.exp.features["val"]

    @cached_property
    def samples(self) -> tuple[Features, dict[str, Features]]:
        """Features of the external samples, without and with each value."""
        return self.read(self.few), {v: self.read(images) for v, images in self.worn.items()}

    @cached_property
    def vectors(self) -> AttributeVectors:
        """Of all values, as the samples give them, not shrunk."""
        return attribute_vectors(*self.samples, plain=self.plain)

    def vectors_of(self, change: Change) -> AttributeVectors:
        """Those of another attribute, from the same external samples: a control."""
        return attribute_vectors(
            self.samples[0], {"other": self.read(change(self.few))}, plain=self.plain
        )

    @cached_property
    def conditions(self) -> dict[str, tuple[Features, np.ndarray]]:
        """Features of the test images under each condition, and each one's value, -1 for none."""
        values, found = pd.Index(self.worn), {}
        for name, images in self.images.items():
            words = images.metadata.get("word") if images.metadata is not None else None
            told = [name] * len(images) if name in values or words is None else words
            found[name] = self.read(images), values.get_indexer(pd.Index(told, dtype=object))
        return found

    def logits(
        self, classifier, *, change: Change | None = None, router: Router | None = None
    ) -> dict[str, np.ndarray]:
        """What a classifier says of the test images, logits (N, C) by condition.

        Args:
            change: what is done to each condition's images before.
            router: where given, only images in whose unedited representation it finds a value are
                so treated; of the rest it is what the unedited model says.
        """
        found = {}
        for name, (features, _) in self.conditions.items():
            images = change(self.images[name]) if change else self.images[name]
            z = extract_features(classifier, images, progress=False).z
            found[name] = logits(classifier, z)
            if router is not None:
                rest = router.found(features.z) < 0
                found[name][rest] = logits(self.exp.ft, features.z[rest])
        return found

    def judge(self, ways: Mapping[str, Mapping[str, Move]], **options) -> pd.DataFrame:
        """`judge` under all conditions, with the facts of this draw."""
        return judge(self.exp.ft, ways, self.conditions, **options).assign(**self.facts)
