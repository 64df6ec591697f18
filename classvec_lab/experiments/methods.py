"""Every way of forgetting a class under one signature, from the logit mask to retraining: what each leaves of a model."""

import time
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field

import numpy as np

from ..editing import directions
from ..editing.erasers import erase, leace, mask_class, project_out
from ..editing.injection import inject
from ..editing.strength import BOUNDS, Bounds, Strength, choose_lambda
from ..editing.weights.mapping import map_edit
from ..editing.weights.relocation import retire
from ..edits import Edit
from ..errors import EditError
from ..models import Classifier
from ..readout import Readout
from .experiment import Experiment

LATENT, MAPPING, TRIVIAL, ERASER, TRAINING, REFERENCE = (
    "latent edit", "weight mapping", "trivial", "eraser", "training", "reference",
)  # fmt: skip


@dataclass(frozen=True, eq=False)
class Outcome:
    """What one method made of one target: its read-outs by split, and how it was set.

    gate: the score of the gate, "none" for methods that move every sample alike; lambda_ NaN where there is none.
    fired: by split, where the gate fires, None without one. strength: how lambda was chosen, where it was.
    n_parameters: stored numbers, NaN where that says nothing; seconds: wall time, without reading features and gates.
    leaves_encoder: whether the encoder is as before.
    """

    method: str
    family: str
    target: str
    readouts: Mapping[str, Readout]
    gate: str = "none"
    lambda_: float = np.nan
    norm: float = np.nan
    fired: Mapping[str, np.ndarray] | None = None
    edit: Edit | None = None
    strength: Strength | None = None
    classifier: Classifier | None = None
    n_parameters: float = np.nan
    seconds: float = np.nan
    leaves_encoder: bool = True
    facts: Mapping[str, object] = field(default_factory=dict)


def latent(
    exp: Experiment,
    target: str,
    unit: Edit,
    *,
    method: str,
    gate: str,
    lambda_: float | None = None,
    bounds: Bounds = BOUNDS,
    **facts,
) -> Outcome:
    """lambda_ · unit behind a gate; without lambda_, the strength chosen on val (its best where none meets the bounds)."""
    edit = unit.ungated() if gate == "none" else unit.gated(exp.gate(target, gate, bounds))
    start = time.perf_counter()
    strength = None
    if lambda_ is None:
        strength = _choose(exp, edit, bounds)
        lambda_ = strength.best
    edit = lambda_ * edit
    return _injected(
        exp,
        target,
        edit,
        start,
        method=method,
        gate=gate,
        lambda_=lambda_,
        strength=strength,
        facts=facts,
    )


def _choose(exp: Experiment, edit: Edit, bounds: Bounds) -> Strength:
    return choose_lambda(exp.ft, edit, exp.features["val"], **bounds.strength)


def _injected(exp, target, edit: Edit, start: float, **settings) -> Outcome:
    edited = inject(exp.ft, edit)
    seconds = time.perf_counter() - start
    fired = (
        None if edit.gate is None else {s: edit.gate.fires(f.z) for s, f in exp.features.items()}
    )
    return Outcome(
        family=LATENT, target=target, readouts=_read(edited, exp.features), norm=edit.norm, fired=fired, edit=edit,
        classifier=edited, n_parameters=edit.dim, seconds=seconds, **settings,
    )  # fmt: skip


def _read(classifier: Classifier, features) -> dict[str, Readout]:
    return {split: Readout.of(classifier, f) for split, f in features.items()}


def class_vector(
    exp: Experiment,
    target: str,
    *,
    gate: str = "margin",
    lambda_: float | None = None,
    bounds: Bounds = BOUNDS,
) -> Outcome:
    """The published edit: lambda κ_c."""
    return latent(
        exp,
        target,
        exp.vectors[target],
        method="class vector",
        gate=gate,
        lambda_=lambda_,
        bounds=bounds,
    )


def rival(
    exp: Experiment,
    target: str,
    which: str,
    *,
    gate: str = "margin",
    lambda_: float = -1.0,
    bounds: Bounds = BOUNDS,
) -> Outcome:
    """ "z_ft - μ" or "head direction" at the norm of κ_c, and at the gate and strength given."""
    made = {
        "z_ft - μ": lambda: directions.without_pretraining(exp.vectors, target),
        "head direction": lambda: directions.head_direction(exp.ft, exp.vectors, target),
    }
    if which not in made:
        raise EditError(f"no rival direction {which!r}; there are {', '.join(made)}")
    unit = made[which]().scaled_to(exp.vectors[target].norm)
    return latent(exp, target, unit, method=which, gate=gate, lambda_=lambda_, bounds=bounds)


def random_vector(
    exp: Experiment,
    target: str,
    *,
    draw: int,
    gate: str = "margin",
    lambda_: float = -1.0,
    bounds: Bounds = BOUNDS,
) -> Outcome:
    """A Gaussian direction of κ_c's norm, at the gate and strength given."""
    unit = directions.random_direction(exp.vectors, target, seed=1000 * exp.seed + draw)
    return latent(
        exp,
        target,
        unit,
        method="random vector",
        gate=gate,
        lambda_=lambda_,
        draw=draw,
        bounds=bounds,
    )


def head_aware(exp: Experiment, target: str, *, gate: str = "predicted", bounds=BOUNDS) -> Outcome:
    """The class vector as the head reads it, see `directions.head_aware`; its length is set on val."""
    gated = None if gate == "none" else exp.gate(target, gate, bounds)
    vectors, val = exp.vectors, exp.features["val"]
    start = time.perf_counter()
    edit = directions.head_aware(exp.ft, vectors, target, val)
    edit = edit if gated is None else edit.gated(gated)
    return _injected(exp, target, edit, start, method="head-aware class vector", gate=gate)


def mapped(
    exp: Experiment,
    target: str,
    *,
    towards: str = "class vector",
    method: str = "nullspace",
    scatter: int = 0,
    bounds: Bounds = BOUNDS,
) -> Outcome:
    """The closed-form mapping along lambda κ_c, the strength chosen on val, or "retire": to the mean of the other classes.

    scatter: with "retire", how many more terms scatter the class among the others, see `retire`; 0: its samples stay a
    tight cluster, which a linear probe finds.
    """
    if towards not in ("class vector", "retire"):
        raise EditError(f'a mapping goes along the class vector or to "retire"; got {towards!r}')
    if scatter and (towards, method) != ("retire", "nullspace"):
        raise EditError(
            f'scatter goes with towards="retire" and method="nullspace"; got {towards!r} and {method!r}'
        )
    source = exp.moments if method == "nullspace" else exp.features["train"]
    strength, lambda_, edit = None, np.nan, directions.retirement(exp.vectors, target)
    if towards == "class vector":
        unit = map_edit(exp.ft, exp.vectors[target], source, method=method, seed=exp.seed)
        strength = _choose_mapped(exp, unit, bounds)
        lambda_ = strength.best
        edit = lambda_ * exp.vectors[target]
    if scatter:
        pre, ft = exp.pre_features["train"], exp.features["train"]
        result = retire(exp.ft, target, pre, ft, rank=scatter, moments=source)
        edit = result.edits[0]
    else:
        result = map_edit(exp.ft, edit, source, method=method, seed=exp.seed)
    edited = result.apply_to(exp.ft)
    head = result.site.kind == "head"
    features = (
        exp.features
        if head
        else {s: _replaced(f, result.moved(f.z)) for s, f in exp.features.items()}
    )
    name = (
        "class vector"
        if towards == "class vector"
        else "retired and scattered"
        if scatter
        else "retired to the mean"
    )
    return Outcome(
        method=f"mapping, {name}" + ("" if method == "nullspace" else f" ({method})"),
        family=MAPPING,
        target=target,
        readouts=_read(edited, features),
        lambda_=lambda_,
        norm=edit.norm,
        edit=edit,
        strength=strength,
        classifier=edited,
        n_parameters=result.n_parameters,
        seconds=result.seconds,
        leaves_encoder=head,
        facts={"mapping": result},
    )


def _choose_mapped(exp: Experiment, result, bounds: Bounds) -> Strength:
    val = exp.features["val"]
    return choose_lambda(
        exp.ft, result.edits[0], val, weights=result.amounts(val.z)[:, 0], **bounds.strength
    )


def _replaced(features, z: np.ndarray):
    from ..features import Features

    return Features(z.astype(np.float32), features.y, features.classes, None, features.data)


def logit_mask(exp: Experiment, target: str) -> Outcome:
    """The class's logit set to -inf: perfect on ACC_f and ACC_r by construction, and nothing forgotten."""
    start = time.perf_counter()
    masked = mask_class(exp.ft, target)
    seconds = time.perf_counter() - start
    readouts = _read(masked, exp.features)
    return Outcome(
        "logit mask", TRIVIAL, target, readouts, classifier=masked, n_parameters=1, seconds=seconds
    )


def projection(exp: Experiment, target: str) -> Outcome:
    """The class's head row projected out of every representation, P = I - w wᵀ / |w|², w = w_c - mean of the rows.

    The rows' mean decides nothing, and rows of a text head are nearly all mean: with w_c itself the class stays.
    """
    return _erased(
        exp,
        target,
        lambda: project_out(directions.head_direction(exp.ft, exp.vectors, target).vector),
        "projection",
    )


def leace_eraser(exp: Experiment, target: str) -> Outcome:
    """LEACE: no linear probe tells the class from the rest afterwards (on the training images)."""
    return _erased(exp, target, lambda: leace(exp.features["train"], target), "LEACE")


def _erased(exp, target, make: Callable, name: str) -> Outcome:
    start = time.perf_counter()
    eraser = make()
    edited = erase(exp.ft, eraser)
    seconds = time.perf_counter() - start
    size = eraser.left.size + eraser.right.size + eraser.centre.size
    readouts = _read(edited, exp.features)
    return Outcome(
        name, ERASER, target, readouts, classifier=edited, n_parameters=size, seconds=seconds
    )


def retrained(exp: Experiment, target: str) -> Outcome:
    """The reference: the same recipe from the pre-trained model on the other classes' images."""
    from ..editing.unlearning import retrain_without

    start = time.perf_counter()
    data, recipe = exp.data, {"progress": False, **exp.recipe}
    tuned = retrain_without(exp.pre, data["train"], target, val=data["val"], **recipe)
    return _trained(
        exp,
        target,
        tuned.classifier,
        "retrained without it",
        REFERENCE,
        time.perf_counter() - start,
    )


def trained(exp: Experiment, target: str, method: str, bounds: Bounds = BOUNDS) -> Outcome:
    """Unlearning by further training: "retain", "neggrad", "neggrad+" or "random_label", see `unlearn`."""
    from ..editing.unlearning import unlearn

    data = exp.data
    found = unlearn(
        exp.ft, data["train"], target, method=method, val=data["val"], seed=exp.seed, progress=False,
        threshold=bounds.threshold,
    )  # fmt: skip
    names = {
        "retain": "fine-tuned on the rest",
        "neggrad": "NegGrad",
        "neggrad+": "NegGrad+",
        "random_label": "random label",
    }
    return _trained(exp, target, found.classifier, names[method], TRAINING, found.seconds)


def _trained(
    exp, target, classifier: Classifier, name: str, family: str, seconds: float
) -> Outcome:
    readouts = _read(classifier, exp.extract(classifier))
    size = sum(p.numel() for p in classifier.parameters() if p.requires_grad)
    return Outcome(
        name,
        family,
        target,
        readouts,
        classifier=classifier,
        n_parameters=size,
        seconds=seconds,
        leaves_encoder=False,
    )


def unedited(exp: Experiment, target: str) -> Outcome:
    """The fine-tuned model as it is."""
    return Outcome("fine-tuned", REFERENCE, target, _read(exp.ft, exp.features), classifier=exp.ft)


def pretrained(exp: Experiment, target: str) -> Outcome:
    """The pre-trained representation under the fine-tuned model's head: what lambda = -1 restores for one class."""
    edited = Classifier(
        exp.pre.encoder,
        exp.ft.head,
        classes=exp.ft.classes,
        preprocess=exp.pre.preprocess,
    )
    return Outcome(
        "pre-trained",
        REFERENCE,
        target,
        _read(edited, exp.pre_features),
        classifier=edited,
        leaves_encoder=False,
    )
