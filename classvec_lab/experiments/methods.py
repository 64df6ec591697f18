"""Every way of forgetting a class under one signature, from the logit mask to retraining: what each leaves of a model."""

import time
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field

import numpy as np

from ..editing import directions
from ..editing.erasers import erase, leace, mask_class, project_out
from ..editing.injection import inject
from ..editing.strength import Strength, choose_lambda
from ..editing.weights.mapping import map_edit
from ..editing.weights.relocation import relocate
from ..edits import Edit
from ..errors import EditError
from ..models import Classifier
from ..readout import Readout
from .context import EditingContext

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
    context: EditingContext,
    target: str,
    unit: Edit,
    *,
    method: str,
    gate: str,
    lambda_: float | None = None,
    **facts,
) -> Outcome:
    """lambda_ · unit behind a gate; without lambda_, the strength chosen on val (its best where none meets the bounds)."""
    edit = unit.gated(context.gate(target, gate))
    start = time.perf_counter()
    strength = None
    if lambda_ is None:
        strength = _choose(context, edit)
        lambda_ = strength.best
    edit = lambda_ * edit
    return _injected(
        context,
        target,
        edit,
        start,
        method=method,
        gate=gate,
        lambda_=lambda_,
        strength=strength,
        facts=facts,
    )


def _choose(context: EditingContext, edit: Edit) -> Strength:
    settings = {
        "lambdas": context.lambdas,
        "threshold": context.threshold,
        "tolerance": context.tolerance,
    }
    return choose_lambda(context.ft, edit, context.features["val"], **settings)


def _injected(context, target, edit: Edit, start: float, **settings) -> Outcome:
    edited = inject(context.ft, edit)
    seconds = time.perf_counter() - start
    fired = (
        None
        if edit.gate is None
        else {s: edit.gate.fires(f.z) for s, f in context.features.items()}
    )
    return Outcome(
        family=LATENT, target=target, readouts=_read(edited, context.features), norm=edit.norm, fired=fired, edit=edit,
        classifier=edited, n_parameters=edit.dim, seconds=seconds, **settings,
    )  # fmt: skip


def _read(classifier: Classifier, features) -> dict[str, Readout]:
    return {split: Readout.of(classifier, f) for split, f in features.items()}


def class_vector(
    context: EditingContext, target: str, *, gate: str = "margin", lambda_: float | None = None
) -> Outcome:
    """The published edit: lambda κ_c."""
    return latent(
        context, target, context.vectors[target], method="class vector", gate=gate, lambda_=lambda_
    )


def rival(
    context: EditingContext, target: str, which: str, *, gate: str = "margin", lambda_: float = -1.0
) -> Outcome:
    """ "z_ft - μ" or "head direction" at the norm of κ_c, and at the gate and strength given."""
    made = {
        "z_ft - μ": lambda: directions.contrast_direction(context.vectors, target),
        "head direction": lambda: directions.head_direction(context.ft, context.vectors, target),
    }
    if which not in made:
        raise EditError(f"no rival direction {which!r}; there are {', '.join(made)}")
    unit = made[which]().scaled_to(context.vectors[target].norm)
    return latent(context, target, unit, method=which, gate=gate, lambda_=lambda_)


def random_vector(
    context: EditingContext, target: str, *, draw: int, gate: str = "margin", lambda_: float = -1.0
) -> Outcome:
    """A Gaussian direction of κ_c's norm, at the gate and strength given."""
    unit = directions.random_direction(context.vectors, target, seed=1000 * context.seed + draw)
    return latent(
        context, target, unit, method="random vector", gate=gate, lambda_=lambda_, draw=draw
    )


def head_aware(context: EditingContext, target: str, *, gate: str = "predicted") -> Outcome:
    """The class vector as the head reads it, see `directions.head_aware`; its length is set on val."""
    gated = None if gate == "none" else context.gate(target, gate)
    vectors, val = context.vectors, context.features["val"]
    start = time.perf_counter()
    edit = directions.head_aware(context.ft, vectors, target, val)
    edit = edit if gated is None else edit.gated(gated)
    return _injected(context, target, edit, start, method="head-aware class vector", gate=gate)


def mapped(
    context: EditingContext,
    target: str,
    *,
    towards: str = "class vector",
    method: str = "nullspace",
    scatter: int = 0,
) -> Outcome:
    """The closed-form mapping along lambda κ_c, the strength chosen on val, or "retire": to the mean of the other classes.

    scatter: with "retire", how many more terms scatter the class among the others, see `relocate`; 0: its samples stay a
    tight cluster, which a linear probe finds.
    """
    if towards not in ("class vector", "retire"):
        raise EditError(f'a mapping goes along the class vector or to "retire"; got {towards!r}')
    if scatter and (towards, method) != ("retire", "nullspace"):
        raise EditError(
            f'scatter goes with towards="retire" and method="nullspace"; got {towards!r} and {method!r}'
        )
    source = context.moments if method == "nullspace" else context.features["train"]
    strength, lambda_, edit = None, np.nan, directions.relocation(context.vectors, target)
    if towards == "class vector":
        unit = map_edit(
            context.ft, context.vectors[target], source, method=method, seed=context.seed
        )
        strength = _choose_mapped(context, unit)
        lambda_ = strength.best
        edit = lambda_ * context.vectors[target]
    if scatter:
        pre, ft = context.pre_features["train"], context.features["train"]
        result = relocate(context.ft, target, pre, ft, rank=scatter)
        edit = result.edits[0]
    else:
        result = map_edit(context.ft, edit, source, method=method, seed=context.seed)
    edited = result.apply_to(context.ft)
    head = result.site.kind == "head"
    features = (
        context.features
        if head
        else {s: _replaced(f, result.moved(f.z)) for s, f in context.features.items()}
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


def _choose_mapped(context: EditingContext, result) -> Strength:
    settings = {
        "lambdas": context.lambdas,
        "threshold": context.threshold,
        "tolerance": context.tolerance,
    }
    val = context.features["val"]
    return choose_lambda(
        context.ft, result.edits[0], val, weights=result.amounts(val.z)[:, 0], **settings
    )


def _replaced(features, z: np.ndarray):
    from ..features import Features

    return Features(z.astype(np.float32), features.y, features.classes, None, features.data)


def logit_mask(context: EditingContext, target: str) -> Outcome:
    """The class's logit set to -inf: perfect on ACC_f and ACC_r by construction, and nothing forgotten."""
    start = time.perf_counter()
    masked = mask_class(context.ft, target)
    seconds = time.perf_counter() - start
    readouts = _read(masked, context.features)
    return Outcome(
        "logit mask", TRIVIAL, target, readouts, classifier=masked, n_parameters=1, seconds=seconds
    )


def projection(context: EditingContext, target: str) -> Outcome:
    """The class's head row projected out of every representation, P = I - w wᵀ / |w|², w = w_c - mean of the rows.

    The rows' mean decides nothing, and rows of a text head are nearly all mean: with w_c itself the class stays.
    """
    return _erased(
        context,
        target,
        lambda: project_out(directions.head_direction(context.ft, context.vectors, target).vector),
        "projection",
    )


def leace_eraser(context: EditingContext, target: str) -> Outcome:
    """LEACE: no linear probe tells the class from the rest afterwards (on the training images)."""
    return _erased(context, target, lambda: leace(context.features["train"], target), "LEACE")


def _erased(context, target, make: Callable, name: str) -> Outcome:
    start = time.perf_counter()
    eraser = make()
    edited = erase(context.ft, eraser)
    seconds = time.perf_counter() - start
    size = sum(part.numel() for part in (eraser.proj_left, eraser.proj_right, eraser.bias))
    readouts = _read(edited, context.features)
    return Outcome(
        name, ERASER, target, readouts, classifier=edited, n_parameters=size, seconds=seconds
    )


def retrained(context: EditingContext, target: str) -> Outcome:
    """The reference: the same recipe from the pre-trained model on the other classes' images."""
    from ..editing.unlearning import retrain_without

    start = time.perf_counter()
    data, recipe = context.data, {"progress": False, **context.recipe}
    tuned = retrain_without(context.pre, data["train"], target, val=data["val"], **recipe)
    return _trained(
        context,
        target,
        tuned.classifier,
        "retrained without it",
        REFERENCE,
        time.perf_counter() - start,
    )


def trained(context: EditingContext, target: str, method: str) -> Outcome:
    """Unlearning by further training: "retain", "neggrad", "neggrad+" or "random_label", see `unlearn`."""
    from ..editing.unlearning import unlearn

    data = context.data
    found = unlearn(
        context.ft, data["train"], target, method=method, val=data["val"], seed=context.seed, progress=False,
        threshold=context.threshold,
    )  # fmt: skip
    names = {
        "retain": "fine-tuned on the rest",
        "neggrad": "NegGrad",
        "neggrad+": "NegGrad+",
        "random_label": "random label",
    }
    return _trained(context, target, found.classifier, names[method], TRAINING, found.seconds)


def _trained(
    context, target, classifier: Classifier, name: str, family: str, seconds: float
) -> Outcome:
    readouts = _read(classifier, context.extract(classifier))
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


def unedited(context: EditingContext, target: str) -> Outcome:
    """The fine-tuned model as it is."""
    return Outcome(
        "fine-tuned", REFERENCE, target, _read(context.ft, context.features), classifier=context.ft
    )


def pretrained(context: EditingContext, target: str) -> Outcome:
    """The pre-trained representation under the fine-tuned model's head: what lambda = -1 restores for one class."""
    edited = Classifier(
        context.pre.encoder,
        context.ft.head,
        classes=context.ft.classes,
        preprocess=context.pre.preprocess,
    )
    return Outcome(
        "pre-trained",
        REFERENCE,
        target,
        _read(edited, context.pre_features),
        classifier=edited,
        leaves_encoder=False,
    )
