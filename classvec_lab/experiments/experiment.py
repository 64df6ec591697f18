"""`Experiment`: a pair of models and three splits, with what diagnostics and edits read of them."""

import copy
import warnings
from collections.abc import Mapping, Sequence
from dataclasses import field, replace
from functools import cached_property
from pathlib import Path

import numpy as np
import pandas as pd
import torch

from ..checks import in_range, index_of, listed, record
from ..datasets import SPLITS, ImageDataset, load_dataset
from ..editing import BOUNDS, Bounds, Strength, calibrate_gate, choose_lambda, quietly
from ..editing.heads import with_head
from ..editing.strength import scarce
from ..editing.weights.suffix import layernorm_names
from ..errors import ClassvecError, DatasetError, EditError, MismatchError
from ..features import Features, extract_features
from ..gates import DEPLOYED, SCORES, Gate
from ..models import Classifier, can_build, finetune, load_classifier, probe_head, recorded
from ..moments import ClassMoments
from ..readout import predict
from ..statistics import paired_change, share
from ..vectors import ClassVectors
from ..words import percent, several

GATES = ("none", *SCORES)


@record
class Experiment:
    """A pre-trained and a fine-tuned classifier with their data, and what is read of both, once.

    Gates and strengths are set on `val` (see `judged_on`), results are reported on `test`.

    Args:
        pre, ft: the classifiers before and after fine-tuning.
        history: of the fine-tuning, one row an epoch; None where `ft` was given.
        train, val, test: the labelled splits.
        recipe: options of `finetune` behind `ft`, or, where it was given, those asked for.
            Retraining without a class uses them.
        seed: of the training; draws of random directions and references follow from it.
        probed: whether the head of `pre` was fitted to train, see `prepare`.
    """

    pre: Classifier
    ft: Classifier
    history: pd.DataFrame | None
    train: ImageDataset
    val: ImageDataset
    test: ImageDataset
    recipe: dict = field(default_factory=dict)
    seed: int = 0
    probed: bool = False
    _kept: dict = field(default_factory=dict, init=False, repr=False)

    @property
    def data(self) -> dict[str, ImageDataset]:
        """The splits by name."""
        return {"train": self.train, "val": self.val, "test": self.test}

    @property
    def counts(self) -> pd.DataFrame:
        """Images by class (rows) and split (columns)."""
        return pd.DataFrame({split: data.counts for split, data in self.data.items()})

    @cached_property
    def features(self) -> dict[str, Features]:
        """Representations of all splits under the fine-tuned encoder."""
        return self._extract(self.ft)

    @cached_property
    def pre_features(self) -> dict[str, Features]:
        """Representations of all splits under the pre-trained encoder."""
        return self._extract(self.pre)

    @cached_property
    def vectors(self) -> ClassVectors:
        """Class vectors of the training images."""
        return ClassVectors.from_features(self.pre_features["train"], self.features["train"])

    @cached_property
    def moments(self) -> ClassMoments:
        """Training moments under the fine-tuned encoder, with the pooled scatter."""
        return self.features["train"].moments(pooled_scatter=True)

    def _extract(self, classifier: Classifier) -> dict[str, Features]:
        return {s: extract_features(classifier, d, progress=False) for s, d in self.data.items()}

    def pre_without(self, target: str) -> Classifier:
        """What a reference that never saw a class begins with: `pre`, a probed head fitted anew."""
        if not self.probed:
            return self.pre
        parts = self.pre_features["train"], self.pre_features["val"]
        return with_head(self.pre, probe_head(*parts, index_of(target, self.pre.classes)))

    def gate(self, target: str, score: str = DEPLOYED, bounds: Bounds = BOUNDS) -> Gate | None:
        """The gate of a class, calibrated on val and kept; None for the score "none".

        Args:
            target: name of the class.
            score: "none", or a score of `calibrate_gate`.
            bounds: its `false_fire` and `guarantee` count here; `rates_say` tells, once for all
                classes, where val is too small for that rate.
        """
        key = target, score, *bounds.gating.values()
        if score != "none" and key not in self._kept:
            with quietly():
                self._kept[key] = calibrate_gate(
                    self.features["val"],
                    self.vectors,
                    target,
                    score=score,
                    classifier=self.ft,
                    moments=self.moments,
                    **bounds.gating,
                )
        return self._kept.get(key)

    def judged_on(self, target: str) -> Features:
        """Val, on which strengths are chosen, with training images of a class that is `scarce`."""
        val = self.features["val"]
        more = scarce(val, self.features["train"], target)
        if more is None:
            return val
        z, y = np.concatenate([val.z, more.z]), np.concatenate([val.y, more.y])
        return replace(val, z=z, y=y, data=None)

    def strength(self, target: str, score: str = DEPLOYED, bounds: Bounds = BOUNDS) -> Strength:
        """`choose_lambda` on `judged_on` of κ_c behind the gate of that score, kept."""
        key = target, score, bounds
        if key not in self._kept:
            edit = self.vectors[target].gated(self.gate(target, score, bounds))
            judged = self.judged_on(target)
            self._kept[key] = choose_lambda(self.ft, edit, judged, **bounds.strength)
        return self._kept[key]

    def require_targets(self, targets: Sequence[str] | None) -> tuple[str, ...]:
        """The targets, all classes for None, if every split has images of each.

        Raises:
            EditError: naming what is unknown or missing, for none at all, or for one given twice.
        """
        targets = tuple(self.ft.classes if targets is None else targets)
        require_images(targets, self.data)
        if not targets or len(set(targets)) < len(targets):
            raise EditError(
                f"give each class to edit once, and at least one; got {listed(targets) or 'none'}"
            )
        return targets

    def facts(self) -> dict:
        """Fingerprints of both models and of the data, for a manifest."""
        models = {"pre_trained": self.pre.fingerprint, "fine_tuned": self.ft.fingerprint}
        return {"models": models, "data": {s: d.fingerprint for s, d in self.data.items()}}


def require_images(
    classes: Sequence[str],
    data: Mapping[str, ImageDataset],
    group: str | None = None,
    splits: Sequence[str] = SPLITS,
) -> None:
    """Raise EditError for a class that is unknown, or of which one of the splits has no image.

    Args:
        data: all splits by name, of the same classes.
        group: by what they were carved, if by groups.
        splits: those that are looked at.
    """
    for name in classes:
        i = index_of(name, data["train"].classes, EditError)
        if absent := [split for split in splits if i not in data[split].targets]:
            why = "add some, or choose other classes"
            if group:
                own = (part.metadata["group"][part.targets == i] for part in data.values())
                n = pd.concat(own).nunique()
                why = f"its images come from {several(n, 'group')} of group={group!r}"
            raise EditError(f"class {name!r} has no image in {listed(absent)}: {why}")


def require_asked(asked: Mapping, pre: Classifier, data: Mapping, group: str | None) -> None:
    """Raise what is wrong, after the name and value of the parameter that is to blame.

    Args:
        asked: parameters by name, see `prepare`; others than those that are known pass.
    """
    for name, value in asked.items():
        try:
            match name:
                case "targets":
                    require_images(value or pre.classes, data, group)
                case "error":
                    require_images(value, data, group)
                case "audited" | "target" | "source_class" | "target_class" if value:
                    index_of(value, pre.classes, EditError)
                case "split" | "vectors_split":
                    require_images(pre.classes, data, group, [value])
                case "deploy":  # every class is tried on val
                    require_images(pre.classes, data, group, ["val"])
                case "layernorms" | "matched":
                    for choice in value:
                        if (name, choice) != ("matched", "encoder"):
                            layernorm_names(pre.encoder, choice)
                case "layers" if value not in ("blocks", "representation"):
                    with recorded(pre.encoder, map(str, np.atleast_1d(value))):
                        pass
        except ClassvecError as error:
            raise type(error)(f"{name}={value!r}: {error}") from error


def accuracy_says(pre: Classifier, ft: Classifier, data: ImageDataset) -> tuple[str, ...]:
    """The accuracy of both models, each read by its own head, with a warning for a poor fine-tuned
    one: nearer to always naming the largest class than to all right, or below the pre-trained one.
    """
    hits = [predict(model, data) == data.targets for model in (pre, ft)]
    before, after = map(share, hits)
    n, least = data.counts, data.counts.max() / len(data)
    says = [
        f"Accuracy on {data.split} (n = {len(data)}): pre-trained {percent(*before)}, fine-tuned "
        f"{percent(*after)}."
    ]
    if n.max() > 3 * n.min():
        ends = f"{n.min()} images of {n.idxmin()!r}, {n.max()} of {n.idxmax()!r}"
        says.append(f"Classes are uneven in {data.split}: {ends}.")
    if after.value < (1 + least) / 2:
        says.append(
            f"Warning: the fine-tuned model is poor, nearer to naming always the largest class "
            f"({least:.1%}) than to all right. Look at its preprocessing, its weights and the "
            "order of the classes before you trust what follows."
        )
    if paired_change(*hits).high < 0:
        says.append(
            "Warning: the fine-tuned model is below the pre-trained one. Are they in this order, "
            "and is this the data that it was fine-tuned for?"
        )
    return tuple(says)


def prepare(
    *,
    dataset: str,
    model: str,
    finetuned: str = "",
    pretrain: Mapping | None = None,
    data_args: Mapping | None = None,
    group: str | None = None,
    limit: int | None = None,
    classes: Sequence[str] | None = None,
    model_args: Mapping | None = None,
    weights: str | None = None,
    templates: Sequence[str] | None = None,
    head: str = "auto",
    epochs: int = 10,
    lr: float | None = None,
    batch_size: int = 128,
    seed: int = 0,
    asked: Mapping | None = None,
    fine_tune: bool = True,
) -> Experiment:
    """Load data and model by name and fine-tune, or read a fine-tuned model.

    An empty string or mapping, or 0, stands for None, so that flat notebook parameters fit.

    Args:
        dataset, data_args, group: see `load_dataset`.
        limit: at most this many images a split.
        classes: keeps these alone, of the limited splits.
        model, model_args, weights, templates, head: see `load_classifier`; head "probe" is a linear
            head fitted to the pre-trained representation, see `models.heads.probe_head`.
        finetuned: in place of fine-tuning: a file of weights of `model`'s architecture, or any
            source of `load_classifier`. A file without a head takes that of `model`; where `model`
            has none that fits, and for head "own", both have the fine-tuned one's.
        pretrain: trains `model`, with a linear head of its own, on other data first, such as a
            network with random weights: {"dataset": "shapes", "epochs": 6, "lr": 1e-3}, with
            "data_args" and "limit" where wanted and the options of `finetune`.
        epochs, lr, batch_size: see `finetune`.
        seed: of a new head and of the order of training.
        asked: further parameters of a notebook by name (targets, error, split, layernorms, …) that
            data and model must have an answer to. With them, as a notebook asks, `accuracy_says`
            of the pair on val is printed.
        fine_tune: False only loads and checks; `ft` is then `pre`.
    Raises:
        ClassvecError: before training, for whatever data, model or `asked` can't be.
    """
    options = {"limit": limit or None, "group": group or None, **(data_args or {})}
    taken = ("name_or_path", "split")
    if wrong := [key for key in options if key in taken or not isinstance(key, str)]:
        raise DatasetError(
            f"data_args={data_args!r} can't hold {listed(wrong)}: give options of load_dataset by "
            "name; train, val and test of what dataset names are loaded in any case"
        )
    splits = [load_dataset(dataset, split=split, **options) for split in SPLITS]
    train, val, test = [split.only(classes) for split in splits] if classes else splits
    in_range(f"the number of classes of {dataset}", len(train.classes), 2, np.inf, error=EditError)
    probed, shared = head == "probe", bool(finetuned) and head == "own"
    known = {"classes": train.classes, "seed": seed}
    pre = load_classifier(
        model, **known, templates=templates or None, weights=weights or None,
        head="linear" if probed or shared else head, model_args=model_args or None,
    )  # fmt: skip
    data = {"train": train, "val": val, "test": test}
    require_images(train.classes, data, options["group"], ["train"])
    require_asked(asked or {}, pre, data, options["group"])
    if pretrain and fine_tune:
        pre.encoder = _pretrained(pre, seed=seed, **pretrain)
    if probed and fine_tune:
        fitted = (extract_features(pre, part, progress=False) for part in (train, val))
        pre.head = probe_head(*fitted)
    recipe = {"epochs": epochs, "lr": lr or None, "batch_size": batch_size, "seed": seed}
    if not fine_tune:
        ft, history = pre, None
    elif finetuned:
        ft, history = _given(finetuned, pre, head, known, templates), None
        if shared or (head == "auto" and (pre.source or {}).get("head") == "linear"):
            pre.head = copy.deepcopy(ft.head)
    else:
        tuned = finetune(pre, train, val=val, **recipe)
        ft, history, recipe["lr"] = tuned.classifier, tuned.history, tuned.settings["lr"]
    if fine_tune and asked is not None:
        print(*accuracy_says(pre, ft, val), sep="\n")
    return Experiment(pre, ft, history, train, val, test, recipe, seed, probed)


def _pretrained(
    model: Classifier, *, dataset: str, seed: int, data_args=None, limit=None, **options
):
    """The encoder of `model` after training on another data set."""
    train, val = (
        load_dataset(dataset, split=split, limit=limit or None, **(data_args or {}))
        for split in ("train", "val")
    )
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(seed)
        head = torch.nn.Linear(model.dim, len(train.classes))
    first = Classifier(model.encoder, head, classes=train.classes, preprocess=model.preprocess)
    return finetune(first, train, val=val, seed=seed, **options).classifier.encoder


def _given(finetuned: str, pre: Classifier, head: str, known: Mapping, templates) -> Classifier:
    """The fine-tuned model that was given, fit to stand beside the pre-trained one."""
    path, how = Path(finetuned).expanduser(), {}
    if path.is_file() or (path.is_dir() and not can_build(pre.source)):
        how["arch"] = pre
    if not path.is_dir():
        how |= {"head": "auto" if head == "probe" else head, "templates": templates or None}
    ft = load_classifier(finetuned, **known, **how)
    if pre.dim != ft.dim:
        what = f"gives {ft.dim} dimensions and the pre-trained one {pre.dim}"
        raise MismatchError(f"finetuned={finetuned!r} {what}")
    if "arch" not in how and pre.preprocess != ft.preprocess:
        message = f"finetuned={finetuned!r} has other preprocessing than the pre-trained model"
        warnings.warn(message, stacklevel=3)
    return ft
