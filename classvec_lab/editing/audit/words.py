"""An audit in words: every sentence is computed from the numbers, and turns with them."""

import numpy as np

from ...statistics import ends, paired_change
from ...words import change, number, percent, points

ROUNDING = 1e-9  # by which an interval's end may miss a value that it equals
BESIDE = {"less": "less than", "more": "more than", "no change shown": "as much as"}


def audit_says(report) -> tuple[str, ...]:
    """The sentences of an `Audit`, one a thing that was measured."""
    said = []
    for sentence, metric in SENTENCES.items():
        row = report.get(metric)
        if not np.isnan(row["value"]):
            said.append(sentence(report, row))
    return tuple(filter(None, said))


def _outputs(report, f) -> str:
    r = report.get("ACC_r")
    still = f["low"] > np.nan_to_num(f["retrained"]) + ROUNDING
    text = (
        f"On unseen images the edited model {'still' if still else 'hardly'} names class "
        f"{report.target!r}: ACC_f {_value(f)} (n = {f['n']}; original {percent(f['original'])}), "
        f"at ACC_r {_value(r)} (n = {r['n']}; original {percent(r['original'])})"
    )
    if np.isnan(report.mean_gap):
        return (
            f"{text}. No retrained model was given: how far this is from never having learnt the "
            "class is not known."
        )
    part = ""
    if not report.membership.members.n:
        part = ", MIA left out for too few images"
    elif not report.membership.has_power:
        mia = report.get("MIA", "train")["gap"] / 5  # gaps that are averaged
        part = f", {100 * mia:.1f} of them from MIA, whose attack has no power here"
    return (
        f"{text}; the retrained model has {percent(f['retrained'])} and {percent(r['retrained'])}. "
        "The mean absolute gap to it over ACC_f, ACC_r and MIA is "
        f"{100 * report.mean_gap:.1f} points{part}."
    )


def _mask(report, row) -> str:
    f, r, masked = report.get("ACC_f")["value"], row["value"], report.masked
    verdict = "as good as this edit or better"
    if r > masked:
        verdict = f"{100 * (r - masked):.1f} points below this edit, which is all the two can show"
    elif (f, r) == (0, masked):
        verdict = "exactly this edit's figures"
    return (
        "ACC_f and ACC_r alone can't rank edits: masking the class's logit, which removes nothing "
        f"from the representation, has ACC_f 0 and ACC_r {percent(masked)} here by construction, "
        f"{verdict}."
    )


def _routing(report, _) -> str:
    row = report.get("routing JS")
    shares = report.routing.pivot(index="class", columns="model", values="share")
    goes = {
        name: f"{own.idxmax()!r} ({percent(own.max(), digits=0)})" for name, own in shares.items()
    }
    text = f"more of the class's samples go to {goes['edited']} than elsewhere"
    if np.isnan(row["value"]):
        return f"Routing: {text}."
    return (
        f"Routing is {'as' if row['value'] <= report.chance else 'not as'} in the retrained model: "
        f"{text}, there to {goes['retrained']}. The histograms are {_value(row, '.2f')} bits apart "
        f"(JS, n = {row['n']}); chance alone reaches {report.chance:.2f}."
    )


def _probe(report, row) -> str:
    probes = report.probes
    found = "recoverable"
    if row["low"] <= row["n"] / (row["n"] + report.get("ACC_r")["n"]):  # the class's share of all
        found = "not recoverable"
    _, low, high = paired_change(probes["original"].hits, probes["edited"].hits)
    text = (
        f"The class is {found} from what the edited head reads: a linear probe finds {_value(row)} "
        f"of it (n = {row['n']}), {BESIDE[change(low, high)]} in the original "
        f"({percent(row['original'])})"
    )
    if "retrained" not in probes:
        return (
            f"{text}. Without a retrained model it can't be told how much of that is left from "
            "training."
        )
    more = paired_change(probes["retrained"].hits, probes["edited"].hits)
    reference = f"the {percent(row['retrained'])} in the retrained model"
    told = {
        "more": f"{text} and more than {reference} ({points(*more)}): the edit leaves traces of "
        "training on it.",
        "less": f"{text} and less than {reference} ({points(*more)}): a model that never saw the "
        "class keeps more of it.",
        "no change shown": f"{text}; {reference} differ by no more than {row['n']} images can tell "
        f"({points(*more)}), so traces of training on it are neither shown nor ruled out.",
    }
    return told[change(more.low, more.high)]


def _encoder(report, row) -> str:
    if report.leaves_encoder is None:
        return ""
    if not report.leaves_encoder:
        return (
            "The edit changes the encoder's own weights: what the probe finds is what the edited "
            "encoder gives."
        )
    return (
        "The edit leaves the encoder untouched, as any latent injection does: what it gives is the "
        f"original's, and a linear probe there finds {percent(row['original'])} of "
        f"the class. What the head reads has CKA {report.get('CKA to original')['value']:.3f} to "
        "the original's. The output-level figures say how the class is named, not that it is gone."
    )


def _reference(report, row) -> str:
    nearer = "nearer" if row["value"] > row["original"] else "no nearer"
    return (
        f"The edited representation is {nearer} to the retrained model's than the original is: "
        f"CKA {row['value']:.3f} and {row['original']:.3f} (n = {row['n']})."
    )


def _zrf(report, row) -> str:
    text = (
        f"On the class the edited model's ZRF is {_value(row, '.2f')} (n = {row['n']}; original "
        f"{row['original']:.2f}; 1 would be the answers of an untrained network)"
    )
    if np.isnan(row["retrained"]):
        return f"{text}."
    reference = f"the retrained model's {row['retrained']:.2f}"
    low, high = row["low"] - row["retrained"], row["high"] - row["retrained"]
    told = {
        "more": f"above {reference}: more like an untrained network than never having seen the "
        "class explains",
        "less": f"below {reference}: its answers still show the class",
        "no change shown": f"which {row['n']} images don't tell from {reference}",
    }
    return f"{text}, {told[change(low - ROUNDING, high + ROUNDING)]}."


def _worst(report, row) -> str:
    if row["value"] >= 0:
        return "No other class loses accuracy on unseen images."
    verdict = "more than" if row["high"] < 0 else "within what"
    return (
        f"Of the other classes {row['of']!r} loses most: {points(*ends(row, 'value', ''))} "
        f"(n = {row['n']}), {verdict} chance explains for a single class."
    )


def _sibling(report, row) -> str:
    return (
        f"The gate fires most on {row['of']!r} among the other classes: {_value(row)} of its "
        f"samples (n = {row['n']})."
    )


def _value(row, form: str = ".1%") -> str:
    return number(*ends(row, "value", ""), form=form)


SENTENCES = {  # each is said where its metric was measured
    _outputs: "ACC_f",
    _mask: "ACC_r",
    _routing: "ACC_f",
    _probe: "probe",
    _encoder: "probe",
    _reference: "CKA to retrained",
    lambda report, _: report.membership.says(): "MIA AUC",
    _zrf: "ZRF",
    _worst: "worst class",
    _sibling: "worst sibling",
}
