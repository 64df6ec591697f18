"""`prepare`: the pair of models and the three splits that most notebooks begin with, from flat parameters."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field

import pandas as pd

from ..datasets import load_dataset
from ..datasets.base import ImageDataset
from ..models import Classifier, finetune, load_classifier


@dataclass(frozen=True, eq=False)
class Experiment:
    """A pre-trained and a fine-tuned classifier and their data; `history` is None where the fine-tuned model was given.

    recipe: the options of `finetune` from which the fine-tuned model came, or, where it was given, those that
    were asked for: what retraining without a class uses.
    """

    pre: Classifier
    ft: Classifier
    history: pd.DataFrame | None
    train: ImageDataset
    val: ImageDataset
    test: ImageDataset
    recipe: dict = field(default_factory=dict)

    def facts(self) -> dict:
        """Fingerprints of both models and of the data, for a manifest."""
        models = {"pre_trained": self.pre.fingerprint, "fine_tuned": self.ft.fingerprint}
        return {
            "models": models,
            "data": {d.split: d.fingerprint for d in (self.train, self.val, self.test)},
        }


def prepare(
    *,
    dataset: str,
    model: str,
    finetuned: str = "",
    data_args: Mapping | None = None,
    group: str | None = None,
    limit: int | None = None,
    classes: Sequence[str] | None = None,
    data_seed: int = 0,
    model_args: Mapping | None = None,
    weights: str | None = None,
    templates: Sequence[str] | None = None,
    head: str = "auto",
    epochs: int = 10,
    lr: float | None = None,
    batch_size: int = 128,
    seed: int = 0,
) -> Experiment:
    """Load data and model by name and fine-tune (or read `finetuned`, a folder that Classifier.save wrote).

    The arguments are those of `load_dataset`, `load_classifier` and `finetune`. `data_seed` decides
    splits and limits, `seed` the new head and the order of training; `limit` holds for each split, and
    `classes` keeps those alone (of the limited splits).
    An empty string or mapping stands for None, so that flat notebook parameters can be passed on.
    """
    splits = [
        load_dataset(
            dataset,
            split=split,
            limit=limit or None,
            seed=data_seed,
            group=group or None,
            **(data_args or {}),
        )
        for split in ("train", "val", "test")
    ]
    train, val, test = [split.only(classes) for split in splits] if classes else splits
    pre = load_classifier(
        model,
        classes=train.classes,
        templates=templates or None,
        head=head,
        weights=weights or None,
        model_args=model_args or None,
        seed=seed,
    )
    recipe = {"epochs": epochs, "lr": lr or None, "batch_size": batch_size, "seed": seed}
    if finetuned:
        return Experiment(
            pre, load_classifier(finetuned, classes=train.classes), None, train, val, test, recipe
        )
    tuned = finetune(pre, train, val=val, **recipe)
    recipe["lr"] = tuned.settings["lr"]
    return Experiment(pre, tuned.classifier, tuned.history, train, val, test, recipe)
