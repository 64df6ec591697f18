"""Ways of forgetting a class, by name, and `measure`, which reads off what each leaves of a model.

A method is a callable (experiment, name of a class). It gives back an edited classifier, or an
`Edit` or a mapping, which stand for one; None where there is nothing to try. Facts for the table
may stand beside it, as a pair. One that tries several settings gives a list.
"""

import time
from collections.abc import Callable, Collection, Sequence
from dataclasses import field, replace
from functools import partial

import numpy as np

from ..checks import one_of, record
from ..editing import (
    BOUNDS,
    MAPPINGS,
    Bounds,
    Strength,
    choose_lambda,
    contrast_direction,
    erase,
    head_aware,
    head_direction,
    inject,
    leace,
    mask_class,
    project_out,
    random_direction,
    relocation,
    retrain_without,
    unlearn,
)
from ..editing.weights import MappedEdit, map_edit
from ..editing.weights.relocation import relocations
from ..edits import Edit
from ..errors import EditError
from ..features import extract_features
from ..gates import DEPLOYED
from ..models import Classifier, held
from ..readout import Readout, predict
from ..statistics import split_accuracy
from .experiment import GATES, Experiment
from .prospects import recommended

MAPPING, REFERENCE = "weight mapping", "reference"  # families
FINE_TUNED, RETRAINED, VECTOR = "fine-tuned", "retrained without it", "class vector"
RECOMMENDED = "recommended"
TRIED = ("none", "cosine", "margin", "predicted")  # gates of the class vector
TRAINED = {
    "retain": "fine-tuned on the rest",
    "neggrad": "NegGrad",
    "neggrad+": "NegGrad+",
    "random_label": "random label",
}
Method = Callable[[Experiment, str], object]


@record
class Outcome:
    """What one method made of one class.

    A classifier with an encoder of its own is not kept: `result`, `classifier` and `readouts` run
    the method again. `finetune`, `retrain_without` and `unlearn` then read their cache; a method
    that trains without one trains again.

    Args:
        again: runs the method; kept: what it gave, None for an encoder of its own.
        predicted: answers (N,) for the test images.
        family: of the method, "own" for a classifier that says none.
        gate: its score, "none" for what moves every sample alike.
        leaves_encoder: whether the encoder is as before.
        n_parameters: stored numbers, NaN where that says nothing.
        seconds: wall time.
        lambda_: strength, NaN where there is none; chosen: whether on val.
        draw: number of a random direction.
        keys: of a mapping, the method of `map_edit` that did best on val.
        main: whether it speaks for its method, and is no setting tried beside.
    """

    exp: Experiment = field(repr=False)
    method: str
    target: str
    again: Callable[[], object] = field(repr=False)
    kept: object = field(repr=False)
    predicted: np.ndarray = field(repr=False)
    family: str
    gate: str
    leaves_encoder: bool
    n_parameters: float
    seconds: float
    lambda_: float = np.nan
    chosen: bool = False
    draw: int | str = ""
    keys: str = ""
    main: bool = True

    @property
    def result(self):
        """What the method gave back: a classifier, an edit or a mapping."""
        return self.kept or self.again()

    @property
    def classifier(self) -> Classifier:
        """The edited classifier."""
        return edited(self.exp, self.result)

    def readouts(self, *splits: str) -> dict[str, Readout]:
        """What the edited classifier makes of splits."""
        result = self.result
        model = edited(self.exp, result)
        return {split: read(self.exp, result, split, model) for split in splits}

    def fired(self, split: str) -> np.ndarray | None:
        """Where the gate fires (N,), None without one."""
        if self.gate != "none":
            return self.kept.gate.fires(self.exp.features[split].z)


def measure(exp: Experiment, name: str, target: str, method: Method) -> list[Outcome]:
    """Run a method on one class and read the test split.

    Args:
        name: of the method, for tables.
        target: the class to forget.
        method: a callable (exp, target), see this module.
    Raises:
        EditError: where it gives anything else.
        MismatchError: for a classifier of other classes.
    """
    outcomes, start = [], time.perf_counter()
    with held(exp.pre, exp.ft):  # hashed anew for each method, which might write to them
        results = _results(method, exp, target)
        seconds = (time.perf_counter() - start) / max(len(results), 1)
        for i, (result, facts) in enumerate(results):
            model, edit = edited(exp, result), isinstance(result, Edit)
            model.require_classes(exp.ft.classes, f"the data for method {name!r}")
            light = model is not result or model.encoder in (exp.pre.encoder, exp.ft.encoder)
            size = (
                np.nan if light else sum(p.numel() for p in model.parameters() if p.requires_grad)
            )
            row = {
                "again": lambda i=i: _results(method, exp, target)[i][0],
                "kept": result if light else None,
                "predicted": read(exp, result, "test", model).predicted,
                "family": "own" if model is result else "latent edit" if edit else MAPPING,
                "gate": result.gate.score if edit and result.gate else "none",
                "leaves_encoder": model.encoder is exp.ft.encoder,
                "n_parameters": result.dim if edit else getattr(result, "n_parameters", size),
                "seconds": getattr(result, "seconds", seconds),
            }
            outcomes.append(Outcome(exp, name, target, **row | facts))
    return outcomes


def edited(exp: Experiment, result) -> Classifier:
    """The classifier that a method's result stands for; raises EditError for anything else."""
    if isinstance(result, Edit):
        return inject(exp.ft, result)
    if hasattr(result, "apply_to"):
        return result.apply_to(exp.ft)
    if not isinstance(result, Classifier):
        raise EditError(f"a method gives a Classifier, an Edit or a mapping; got {result!r}")
    return result


def read(exp: Experiment, result, split: str, model: Classifier | None = None) -> Readout:
    """What the classifier that a method's result stands for makes of a split.

    Args:
        model: that classifier, where it has been made.
    """
    model, features = model or edited(exp, result), exp.features[split]
    if model.encoder is exp.pre.encoder:
        features = exp.pre_features[split]
    elif model.encoder is not exp.ft.encoder:
        if isinstance(result, MappedEdit):  # the encoder need not run
            features = replace(features, z=result.moved(features.z).astype(np.float32))
        else:
            features = extract_features(model, exp.data[split], progress=False)
    return Readout.of(model, features)


def left_of(readout: Readout, targets: Collection[str]) -> dict[str, float]:
    """`split_accuracy` of a read-out: what is left of the targets, and of all other classes."""
    gone = np.isin(readout.y, [readout.index(target) for target in targets])
    return split_accuracy(readout.predicted == readout.y, gone)


def standard_methods(
    gate: str = DEPLOYED,
    gates: Sequence[str] = TRIED,
    bounds: Bounds = BOUNDS,
    *,
    n_random: int = 5,
) -> dict[str, Method]:
    """The methods that train nothing, by name.

    Args:
        gate: of the class vector, of the rival and random directions, which have its norm and
            strength, and of what `editability` recommends.
        gates: others behind which the class vector is tried.
        bounds: what gates and strengths keep to.
        n_random: draws of a random direction.
    Raises:
        EditError: for unknown gates.
    """
    for score in (gate, *gates):
        one_of(score, GATES, "gate", EditError)

    def behind(exp, unit, score=gate, lambda_=None, **facts):
        target = unit.target
        if lambda_ is None:
            lambda_ = exp.strength(target, score, bounds).best
        unit = unit.scaled_to(exp.vectors[target].norm)
        return lambda_ * unit.gated(exp.gate(target, score, bounds)), {"lambda_": lambda_, **facts}

    def class_vector(exp, target):
        kappa = exp.vectors[target]
        aside = {"chosen": True, "main": False}
        tried = [behind(exp, kappa, score, **aside) for score in gates if score != gate]
        # without a gate it is the claim of independence itself, and comes first
        tried.sort(key=lambda found: found[0].gate is not None)
        free = len(tried) and tried[0][0].gate is None
        here = [behind(exp, kappa, chosen=True), behind(exp, kappa, lambda_=-1.0)]
        return [*tried[:free], *here, *tried[free:]]

    def random_vectors(exp, target):
        seeds = range(1000 * exp.seed, 1000 * exp.seed + n_random)
        units = [random_direction(exp.vectors, target, seed=seed) for seed in seeds]
        return [behind(exp, unit, draw=draw) for draw, unit in enumerate(units)]

    def as_read(exp, target):
        val = exp.features["val"]
        if not (predict(exp.ft, val) == val.classes.index(target)).any():
            return None  # no sample from which its step could be chosen
        edit = head_aware(exp.ft, exp.vectors, target, val)
        return edit.gated(exp.gate(target, "predicted", bounds))

    def mapped(exp, target):
        keys, found = best_keys(exp, exp.vectors[target], bounds)
        edit = found.best * exp.vectors[target]
        facts = {"lambda_": found.best, "chosen": True, "keys": keys}
        return map_edit(exp.ft, edit, exp.moments, method=keys), facts

    def relocated(exp, target):
        edit = relocation(exp.vectors, target)
        keys, _ = best_keys(exp, -edit, replace(bounds, lambdas=()))
        return map_edit(exp.ft, edit, exp.moments, method=keys), {"keys": keys}

    def scattered(exp, target):
        pre, ft = exp.pre_features["train"], exp.features["train"]
        found = relocations(exp.ft, target, pre, ft, methods=MAPPINGS.values())
        left = {keys: left_of(read(exp, way, "val"), [target]) for keys, way in found.items()}
        keys = min(found, key=lambda x: left[x]["acc_f"] - left[x]["acc_r"])
        return found[keys], {"keys": keys}

    def pretrained(exp, target):  # what lambda = -1 restores
        of = {"classes": exp.ft.classes, "preprocess": exp.pre.preprocess}
        return Classifier(exp.pre.encoder, exp.ft.head, **of), refers

    def erased(exp, eraser):
        size = 3 * exp.ft.dim  # two directions and a centre
        return erase(exp.ft, eraser), {"family": "eraser", "n_parameters": size}

    refers, masks = {"family": REFERENCE}, {"family": "trivial", "n_parameters": 1}
    return {
        FINE_TUNED: lambda exp, target: (exp.ft, refers),
        "pre-trained": pretrained,
        VECTOR: class_vector,
        "random vector": random_vectors,
        "z_ft - μ": lambda exp, target: behind(exp, contrast_direction(exp.vectors, target)),
        "head direction": lambda exp, target: behind(
            exp, head_direction(exp.ft, exp.vectors, target)
        ),
        "logit mask": lambda exp, target: (mask_class(exp.ft, target), masks),
        "head-aware class vector": as_read,
        RECOMMENDED: lambda exp, target: recommended(exp, target, gate, bounds),
        "mapping, class vector": mapped,
        "mapping, retired to the mean": relocated,
        "mapping, retired and scattered": scattered,
        "projection": lambda exp, target: erased(
            exp, project_out(head_direction(exp.ft, exp.vectors, target).vector)
        ),
        "LEACE": lambda exp, target: erased(exp, leace(exp.features["train"], target)),
    }


def best_keys(exp: Experiment, unit: Edit, bounds: Bounds) -> tuple[str, Strength]:
    """How a mapping selects its class, and how strong it is, by what both do on val.

    Returns:
        The method of `map_edit` with a strength that meets the bounds, or else of least cost; of
        equals "nullspace", which guarantees more. And its `choose_lambda`.
    """
    val, found = exp.judged_on(unit.target), {}
    for keys in MAPPINGS.values():
        acts = map_edit(exp.ft, unit, exp.moments, method=keys).amounts(val.z)[:, 0]
        found[keys] = choose_lambda(exp.ft, unit, val, weights=acts, **bounds.strength)
    keys = min(found, key=lambda name: (np.isnan(found[name].lambda_), found[name].cost))
    return keys, found[keys]


def training_methods(
    trained: Sequence[str] = (), bounds: Bounds = BOUNDS, *, progress: bool = True
) -> dict[str, Method]:
    """Retraining without the class, the reference, and baselines by further training, by name.

    Each takes seconds to minutes a class: say in `forget_study(only=…)` which classes they are for.

    Args:
        trained: of "retain", "neggrad", "neggrad+" and "random_label", see `unlearn`.
        bounds: `threshold` decides on the checkpoint.
        progress: whether each training shows a bar.
    Raises:
        EditError: for unknown names.
    """

    def retrained(exp, target):
        options = {"val": exp.val, "progress": progress, **exp.recipe}
        tuned = retrain_without(exp.pre_without(target), exp.train, target, **options)
        return tuned.classifier, {"family": REFERENCE}

    def further(exp, target, method):
        options = {"val": exp.val, "seed": exp.seed, "threshold": bounds.threshold}
        found = unlearn(exp.ft, exp.train, target, method=method, progress=progress, **options)
        return found.classifier, {"family": "training", "seconds": found.seconds}

    names = [one_of(name, TRAINED, "baseline", EditError) for name in trained]
    return {RETRAINED: retrained, **{TRAINED[n]: partial(further, method=n) for n in names}}


def _results(method: Method, exp: Experiment, target: str) -> list[tuple]:
    """(result, facts) of each setting that a method tries."""
    found = method(exp, target)
    found = found if isinstance(found, list) else [found]
    return [x if isinstance(x, tuple) else (x, {}) for x in found if x is not None]
