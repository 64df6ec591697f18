"""An audit in words: every sentence is computed from the numbers, and says the opposite when they do."""

import numpy as np

from ...statistics import paired_change


def audit_says(report) -> tuple[str, ...]:
    """The sentences of an `Audit`: outputs, masking, routing, probe, encoder, CKA, membership, ZRF, side effects."""
    said = [
        _outputs(report),
        _mask(report),
        _routing(report),
        _probe(report),
        _encoder(report),
        _reference(report),
    ]
    said += [report.membership.says(), _zrf(report), _worst(report), _sibling(report)]
    return tuple(s for s in said if s)


def _percent(row) -> str:
    text = f"{row['value']:.1%}"
    return text if np.isnan(row["low"]) else f"{text} [{row['low']:.1%}, {row['high']:.1%}]"


def _points(value: float, low: float, high: float) -> str:
    return f"{100 * value:+.1f} points [{100 * low:+.1f}, {100 * high:+.1f}]"


def _outputs(report) -> str:
    f, r = report.get("ACC_f"), report.get("ACC_r")
    reference = 0.0 if np.isnan(f["retrained"]) else f["retrained"]
    verdict = "hardly names" if f["low"] <= reference + 1e-9 else "still names"
    text = (
        f"On unseen images the edited model {verdict} class {report.target!r}: ACC_f {_percent(f)} (n = {f['n']}; "
        f"original {f['original']:.1%}), at ACC_r {_percent(r)} (n = {r['n']}; original {r['original']:.1%})"
    )
    if np.isnan(report.mean_gap):
        return f"{text}. No retrained model was given: how far this is from never having learnt the class is not known."
    gap, mia = report.mean_gap, report.get("MIA", "train")["gap"] / 5
    part = (
        ""
        if report.membership.has_power
        else f", {100 * mia:.1f} of them from MIA, whose attack has no power here"
    )
    return (
        f"{text}; the retrained model has {f['retrained']:.1%} and {r['retrained']:.1%}. "
        f"The mean absolute gap to it over ACC_f, ACC_r and MIA is {100 * gap:.1f} points{part}."
    )


def _mask(report) -> str:
    f, r, mask = report.get("ACC_f")["value"], report.get("ACC_r")["value"], report.masked
    if r > mask["ACC_r"]:
        verdict = f"this edit's ACC_r is {100 * (r - mask['ACC_r']):.1f} points above that, which is all the two can show"
    elif (f, r) == (mask["ACC_f"], mask["ACC_r"]):
        verdict = "exactly this edit's figures"
    else:
        verdict = "as good as this edit or better"
    return (
        "ACC_f and ACC_r alone can't rank edits: masking the class's logit, which removes nothing from the representation, has "
        f"ACC_f {mask['ACC_f']:.1%} and ACC_r {mask['ACC_r']:.1%} here by construction, {verdict}."
    )


def _routing(report) -> str:
    row, table = report.get("routing JS"), report.routing
    here = table[table["split"] == "test"].set_index("class")
    top = here["edited"].idxmax()
    text = (
        f"more of the class's samples go to {top!r} than elsewhere ({here.loc[top, 'edited']:.0%})"
    )
    if np.isnan(row["value"]):
        return f"Routing: {text}."
    other = here["retrained"].idxmax()
    verdict = "as in" if row["value"] <= report.chance else "not as in"
    return (
        f"Routing is {verdict} the retrained model: {text}, there to {other!r} ({here.loc[other, 'retrained']:.0%}). "
        f"The histograms are {row['value']:.2f} bits apart [{row['low']:.2f}, {row['high']:.2f}] (JS, n = {row['n']}); "
        f"chance alone reaches {report.chance:.2f}."
    )


def _probe(report) -> str:
    row, probes = report.get("probe"), report.probes
    base = row["n"] / (row["n"] + report.get("ACC_r")["n"])
    kept = paired_change(probes["original"].hits, probes["edited"].hits)
    beside = "less than" if kept.high < 0 else "more than" if kept.low > 0 else "as much as"
    text = (
        f"The class is {'recoverable' if row['low'] > base else 'not recoverable'} from what the edited head reads: a linear "
        f"probe finds {_percent(row)} of it (n = {row['n']}), {beside} in the original ({row['original']:.1%})"
    )
    if "retrained" not in probes:
        return f"{text}. Without a retrained model it can't be told how much of that is left from training."
    more = paired_change(probes["retrained"].hits, probes["edited"].hits)
    difference, reference = (
        _points(more.value, more.low, more.high),
        f"the {row['retrained']:.1%} in the retrained model",
    )
    if more.low > 0:
        return f"{text} and more than {reference} ({difference}): the edit leaves traces of training on it."
    if more.high < 0:
        return f"{text} and less than {reference} ({difference}): a model that never saw the class keeps more of it."
    return (
        f"{text}; {reference} differ by no more than {row['n']} images can tell ({difference}), so traces of training on it "
        "are neither shown nor ruled out."
    )


def _encoder(report) -> str:
    if report.leaves_encoder is None:
        return ""
    if not report.leaves_encoder:
        return "The edit changes the encoder's own weights: what the probe finds is what the edited encoder gives."
    original, cka = report.get("probe")["original"], report.get("CKA to original")["value"]
    return (
        "The edit leaves the encoder untouched, as any latent injection does: what it gives is the original's, and a linear "
        f"probe there finds {original:.1%} of the class. What the head reads has CKA {cka:.3f} to the original's. "
        "The output-level figures say how the class is named, not that it is gone."
    )


def _reference(report) -> str:
    row = report.get("CKA to retrained")
    if np.isnan(row["value"]):
        return ""
    near = "nearer to" if row["value"] > row["original"] else "no nearer to"
    return (
        f"The edited representation is {near} the retrained model's than the original is: CKA {row['value']:.3f} and "
        f"{row['original']:.3f} (n = {row['n']})."
    )


def _zrf(report) -> str:
    row = report.get("ZRF")
    if np.isnan(row["value"]):
        return ""
    text = f"On the class the edited model's ZRF is {row['value']:.2f} [{row['low']:.2f}, {row['high']:.2f}] (n = {row['n']}"
    text += f"; original {row['original']:.2f}; 1 would be the answers of an untrained network)"
    if np.isnan(row["retrained"]):
        return f"{text}."
    reference = f"the retrained model's {row['retrained']:.2f}"
    if row["low"] > row["retrained"] + 1e-9:
        return f"{text}, above {reference}: more like an untrained network than never having seen the class explains."
    if row["high"] < row["retrained"] - 1e-9:
        return f"{text}, below {reference}: its answers still show the class."
    return f"{text}, as is {reference}."


def _worst(report) -> str:
    row = report.get("worst class")
    if row["value"] >= 0:
        return "No other class loses accuracy on unseen images."
    verdict = "more than chance explains" if row["high"] < 0 else "within what chance explains"
    change = _points(row["value"], row["low"], row["high"])
    return f"Of the other classes {row['of']!r} loses most: {change} (n = {row['n']}), {verdict} for a single class."


def _sibling(report) -> str:
    row = report.get("worst sibling")
    if np.isnan(row["value"]):
        return ""
    if row["value"] == 0:
        return f"The gate fires on no sample of another class (of {row['of']!r} on at most {row['high']:.1%}, n = {row['n']})."
    return f"The gate fires most on {row['of']!r} among the other classes: {_percent(row)} of its samples (n = {row['n']})."
