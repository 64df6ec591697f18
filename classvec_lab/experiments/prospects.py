"""Will class vectors edit this model? Edits are tried on validation, and each class gets advice."""

import numpy as np
import pandas as pd

from ..checks import listed, one_of, record
from ..editing import (
    BOUNDS,
    MAPPINGS,
    Bounds,
    behind,
    calibrate_gate,
    cannot_lose,
    contrast_direction,
    head_direction,
    left,
    mask_class,
    quietly,
    random_direction,
    relocation,
)
from ..editing.advice import (
    CONTRAST,
    GREEN,
    LIGHTS,
    MASK,
    MATTERS,
    METHODS,
    MILD,
    RETIRE,
    VECTOR,
    overall,
    recommend,
)
from ..editing.strength import FEW, scarce
from ..editing.weights.mapping import map_edit
from ..edits import Edit
from ..errors import EditError, MismatchError, ModelError
from ..gates import DEPLOYED
from ..readout import check_labelled, head_rows, predict
from ..statistics import accuracy, rates, zero_divisions
from ..words import several
from .experiment import GATES, Experiment
from .replay import replay_edits

TRIED = ("none", "predicted", "margin", *MAPPINGS)  # gates
N_RANDOM = 20  # draws: with 5, a class that every step loses was kept by luck in a fifth of cases


@record
class Editability:
    """What forgetting each class does on validation, and which method to take.

    table: one row a class: `n` (validation samples), `norm_kappa`, `spread` (root mean square
    distance of validation samples to their class mean), `shift_to_spread` (the first over the
    second: below about 1 fine-tuning moved the class less than its samples differ), `alignment`
    (cosine of the centred class vector with the head's centred row), `read_share` (share of
    |kappa_c|² in the span of the head's centred rows: the head sees no more of it), `head_on_pre`
    (accuracy of the head on z_pre, what lambda = -1 gives back) with its 95 % Wilson interval
    (`_low`, `_high`) and `n_pre`, and for each way of mapping into weights `MappedEdit.limits`
    ("nullspace_own" and so on).
    curves: one row a method, gate, class and lambda_ (0 included): `acc_f` (see `scarce`) and
    `acc_r` (all other classes) on validation with 95 % Wilson intervals, `n_f` and `n_r`, `keeps`
    (ACC_r is within the tolerance), `meets` (ACC_f is within the threshold, too), `out_of_reach`
    (share of the class that is named rightly and on which the gate doesn't fire: no strength
    forgets it), `control` (ACC_f of random directions of the length of kappa behind the gate
    `deploy`, mean of 20) and `matters`: whether that is at least half of the unedited ACC_f on
    average over the classes, and for the class by the upper end of its Wilson interval, so that few
    images refute nothing.
    recommendation: see `recommend`. light: "green", "amber" or "red", see `overall`.
    deploy: the gate behind the light.
    """

    table: pd.DataFrame
    curves: pd.DataFrame
    recommendation: pd.DataFrame
    light: str
    deploy: str
    bounds: Bounds

    def says(self) -> tuple[str, ...]:
        """The light and what it rests on, geometry, lambda = -1, mappings, classes not green."""
        advice, table, bounds = self.recommendation, self.table, self.bounds
        green, amber, red = ((advice["light"] == light).sum() for light in LIGHTS)
        by, n = behind(self.deploy), table["n_pre"].sum()
        right = (table["head_on_pre"] * table["n_pre"]).sum()
        at = "method == 'class vector' and gate == @self.deploy and lambda_ == "
        back, mild = (self.curves.query(f"{at}{x}") for x in (-1, -MILD))
        worst, rest = back.loc[back["acc_f"].idxmax()], mild["control"]
        keeps = f", ACC_r within {100 * bounds.tolerance:g}% of unedited"
        others = f"; other edits of that length forget {amber} more" if amber else ""
        others += f"; no edit of that length forgets {red}" if red else ""
        far = f"{table['shift_to_spread'].median():.2f} times its spread"
        if not table["shift_to_spread"].notna().any():
            far = f"{table['norm_kappa'].median():.2f} (no class has 2 samples to give its spread)"
        said = [
            f"{self.light.upper()}: On validation, class vectors at |lambda| <= {MILD:g} {by} "
            f"forget {green} of {len(advice)} classes (ACC_f <= {100 * bounds.threshold:g}%"
            f"{'' if self.deploy == DEPLOYED else keeps}) where random directions of that length "
            f"don't{others}.",
            f"Fine-tuning moved a class by {far} (median), {table['read_share'].median():.0%} of "
            "the squared length where the head can see it; the head already names "
            f"{right / n:.1%} of z_pre (n = {n}).",
            f"Lambda = -1 gives a class its pre-trained mean back; {by} {back['meets'].sum()} of "
            f"{len(back)} classes then meet the bounds on validation. ACC_f is "
            f"{back['acc_f'].mean():.1%} on average, worst for {worst['class']}: "
            f"{left(worst, 'f')}.",
        ]
        if few := (table["n"] < FEW).sum():
            said.append(
                f"Of {several(few, 'class', 'classes')} validation has fewer than {FEW} images: "
                "their training images count for ACC_f as well."
            )
        if rest.notna().any():
            said.append(
                f"Random directions at lambda = {-MILD:g} {by} leave ACC_f {rest.mean():.1%} on "
                f"average over the classes, {rest.min():.1%} where they leave least."
            )
        return (
            *said,
            *cannot_lose(self.deploy, len(advice)),
            *self._mappings_say(),
            *advice.loc[advice["light"] != GREEN, "sentence"],
        )

    def _mappings_say(self) -> list[str]:
        """How well a linear gate selects, and how many classes it then forgets on validation."""
        found = self.curves[self.curves["method"].eq(VECTOR) & self.curves["gate"].isin(MAPPINGS)]
        if not len(found):
            return []
        served, ways = found[found["meets"]], []
        for gate, keys in MAPPINGS.items():
            own, others = (self.table[f"{keys}_{side}"].median() for side in ("own", "others"))
            count = served.loc[served["gate"] == gate, "class"].nunique()
            ways.append(
                f"with the {gate.partition(', ')[2]} 5% of the others move by more than "
                f"{others:.2f} of the step and 5% of the class by less than {own:.2f} (medians "
                f"over classes), and {count} of {len(self.table)} classes meet the bounds"
            )
        lost = [name for name in self.table["class"] if name not in set(served["class"])]
        here = "meets and method == @VECTOR and gate == @self.deploy"
        gated = [c for c in lost if c in set(self.curves.query(here)["class"])]
        fall = f" For {listed(lost, 5)} no mapping of the class vector serves"
        if gated and self.deploy != "none":
            fall += f"; for {listed(gated, 5)} inject {behind(self.deploy)} does"
        return [
            "Written into the weights an edit acts on every sample by k·z + o, which should be 1 "
            f"for the class and 0 for the others. On validation, {'; '.join(ways)}."
            f"{f'{fall}.' if lost else ''}"
        ]


def editability(
    classifier, vectors, train, val, *, pre_val, deploy: str = DEPLOYED, bounds: Bounds = BOUNDS
) -> Editability:
    """Forget every class by latent edits on validation features, and recommend a method for each.

    Four directions are tried. Three have the length |kappa_c|: the class vector, z_ft - mu, which
    needs no pre-trained model, and the head's own centred row. The fourth is relocation to the mean
    of the other classes, at its own length, which lambda = -1 completes. Each is tried without a
    gate, behind the gates "predicted", "margin" and `deploy`, and with the closed-form linear gates
    that `map_edit` writes into weights; random directions of that length stand beside them behind
    `deploy`. What can't be mapped is left out.

    The gates are calibrated on the same validation features on which the edits are judged. Their
    false fires there are therefore as stated, not an unbiased estimate, and so is the smallest
    lambda that serves. Measure the edit that is chosen on other images.

    Args:
        classifier: the fine-tuned `Classifier`.
        vectors: `ClassVectors` of training images.
        train: labelled `Features` of the fine-tuned encoder.
        val: the same, of images that neither training nor the vectors have seen.
        pre_val: `Features` of the pre-trained encoder on the images of val.
        deploy: the gate that is meant to be used: a score or "none".
        bounds: when a class counts as forgotten, the strengths, and what gates are calibrated for.
    Raises:
        MismatchError: for models, classes or dimensions that differ, or classes without samples.
        EditError: for an unknown gate, lambdas that are not negative, or a class that was not
            moved.
    """
    one_of(deploy, GATES, "gate", EditError)
    for side, part in (("ft", train), ("ft", val), ("pre", pre_val)):
        check_labelled(classifier, part, vectors)
        vectors.require(**{side: getattr(vectors, side) and part.model})
    if absent := [c for i, c in enumerate(val.classes) if not (val.y == i).any()]:
        raise MismatchError(f"no sample of class {listed(absent)} in the validation set")
    kappa, moments = {c: vectors[c] for c in vectors.classes}, train.moments(pooled_scatter=True)
    for vector in kappa.values():
        vector.require_effect()
    edits = {way: {c: _direction(way, classifier, vectors, c) for c in kappa} for way in METHODS}
    drawn = [
        {c: random_direction(vectors, c, seed=seed) for c in kappa} for seed in range(N_RANDOM)
    ]
    gating = {"classifier": classifier, "moments": moments, **bounds.gating}
    lambdas, tables, limited = (*bounds.lambdas, -1.0), [], {}
    few = scarce(val, train)
    parts = [val, few] if few else [val]

    def replayed(units):
        acts = zip(parts, amounts, strict=True)
        found = [replay_edits(classifier, units, part, lambdas, how) for part, how in acts]
        return found[0].curves(*found[1:])

    y = np.concatenate([part.y for part in parts])
    right = np.concatenate([predict(classifier, part) for part in parts]) == y
    for gate in dict.fromkeys((*TRIED, deploy)):
        try:  # how far the gate lets the edit of every class act on each sample
            if gate == "none":
                amounts = [[np.ones(len(part))] * len(kappa) for part in parts]
            elif gate in MAPPINGS:
                mapped = map_edit(classifier, kappa.values(), moments, method=MAPPINGS[gate])
                amounts = [mapped.amounts(part.z).T for part in parts]
                limits = mapped.limits(val)
                for side in ("own", "others"):
                    limited[f"{MAPPINGS[gate]}_{side}"] = limits[side].to_numpy()
            else:
                gates = [calibrate_gate(val, vectors, c, score=gate, **gating) for c in kappa]
                amounts = [[found.weights(part.z) for found in gates] for part in parts]
        except (EditError, ModelError):
            if gate == deploy:
                raise
            continue
        acts = map(np.concatenate, zip(*amounts, strict=True))
        hidden = [(right & (a == 0))[y == i].mean() for i, a in enumerate(acts)]
        found = [replayed(units).assign(method=method) for method, units in edits.items()]
        rows = pd.concat(found).assign(gate=gate, control=np.nan)
        rows["out_of_reach"] = rows["class"].map(dict(zip(kappa, hidden, strict=True)))
        if gate == deploy:
            mean = pd.concat(map(replayed, drawn)).groupby(["class", "lambda_"])["acc_f"].mean()
            cells = pd.MultiIndex.from_frame(rows[["class", "lambda_"]])
            rows["control"] = mean.reindex(cells).to_numpy()
        tables.append(rows)
    curves = pd.concat(tables, ignore_index=True)
    first = curves.groupby(["method", "gate", "class"])[["acc_f", "acc_r"]].transform("first")
    keeps = curves["acc_r"] >= (1 - bounds.tolerance) * first["acc_r"]
    meets = keeps & (curves["acc_f"] <= bounds.threshold) & (curves["lambda_"] < 0)
    matters = _matters(curves, first["acc_f"])
    curves = curves.assign(keeps=keeps, meets=meets, matters=matters)
    advice = recommend(curves, deploy, bounds)
    table = _table(classifier, vectors, val, pre_val).assign(**limited)
    return Editability(table, curves, advice, overall(advice["light"]), deploy, bounds)


def _direction(method: str, classifier, vectors, target: str) -> Edit:
    """One of the four directions that are tried for a class."""
    if method == RETIRE:
        return -relocation(vectors, target)
    if method == VECTOR:
        return vectors[target]
    if method == CONTRAST:
        found = contrast_direction(vectors, target)
    else:
        found = head_direction(classifier, vectors, target)
    return found.scaled_to(vectors[target].norm)


def _matters(curves: pd.DataFrame, unedited: pd.Series) -> pd.Series:
    """Whether random directions leave enough of a class for the direction to matter, see above."""
    high = rates(curves["control"] * curves["n_f"], curves["n_f"])[2]
    means = curves[["control"]].assign(unedited=unedited)
    means = means.groupby([curves[x] for x in ("method", "gate", "lambda_")]).transform("mean")
    return (high >= MATTERS * unedited) & (means["control"] >= MATTERS * means["unedited"])


def outlook(exp: Experiment, deploy: str = DEPLOYED, bounds: Bounds = BOUNDS) -> Editability:
    """`editability` of an experiment's models and splits, kept; `rates_say` tells of its gates."""
    key = outlook, deploy, bounds  # no class has that name
    if key not in exp._kept:
        train, val, pre = exp.features["train"], exp.features["val"], exp.pre_features["val"]
        with quietly():
            exp._kept[key] = editability(
                exp.ft, exp.vectors, train, val, pre_val=pre, deploy=deploy, bounds=bounds
            )
    return exp._kept[key]


def recommended(
    exp: Experiment, target: str, deploy: str = DEPLOYED, bounds: Bounds = BOUNDS
) -> tuple:
    """The edit that `outlook` recommends for a class, as `experiments.methods` take it.

    Returns:
        An `Edit` with its gate, a `MappedEdit` or a classifier with a masked logit; and its facts.
    """
    advice = outlook(exp, deploy, bounds).recommendation.set_index("class").loc[target]
    if advice["method"] == MASK:
        return mask_class(exp.ft, target), {"family": "recommended", "n_parameters": 1}
    gate, unit = advice["gate"], _direction(advice["direction"], exp.ft, exp.vectors, target)
    edit = float(advice["lambda_"]) * unit
    facts = {"family": "recommended", "lambda_": advice["lambda_"], "chosen": True}
    if gate in MAPPINGS:
        return map_edit(exp.ft, edit, exp.moments, method=MAPPINGS[gate]), facts
    return edit.gated(exp.gate(target, gate, bounds)), facts


def _table(classifier, vectors, val, pre_val) -> pd.DataFrame:
    head, kappa, held = head_rows(classifier), vectors.kappa, val.moments()
    moved, norm = kappa - kappa.mean(axis=0), np.linalg.norm(kappa, axis=1)
    lengths = np.linalg.norm(moved, axis=1) * np.linalg.norm(head.centred, axis=1)
    with zero_divisions():
        table = pd.DataFrame({"class": vectors.classes, "n": held.count, "norm_kappa": norm})
        table["spread"] = np.sqrt(held.variance)
        table["shift_to_spread"] = table["norm_kappa"] / table["spread"]
        table["alignment"] = np.einsum("cm,cm->c", moved, head.centred) / lengths
        table["read_share"] = np.square(kappa @ head.basis.T).sum(axis=1) / norm**2
    found = accuracy(predict(classifier, pre_val), pre_val.y, vectors.classes).iloc[:-1]
    columns = ["head_on_pre", "head_on_pre_low", "head_on_pre_high", "n_pre"]
    table[columns] = found[["accuracy", "low", "high", "n"]]
    return table
