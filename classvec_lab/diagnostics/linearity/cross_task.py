"""Cross-Task Linearity: are features of averaged weights the average of the features?"""

import copy
from collections import defaultdict
from collections.abc import Sequence
from contextlib import ExitStack

import numpy as np
import pandas as pd
import torch
from torch import nn

from ...checks import record
from ...errors import ModelError
from ...models import Classifier, block_names, check_alphas, interpolate, recorded
from ...models.device import default_device, parts
from ...models.preprocess import PreprocessedImages, loader, try_first
from ...models.training import check_settings
from ...progress import progress_bar
from ...readout import find_rows
from ...statistics import columns, ends, known_mean, per_class, ratio_interval
from ...words import change, number, side

REPRESENTATION, UNIT, LOGITS = "representation", "unit representation", "logits"
ENDS = ["first_cosine", "second_cosine"]
SCALARS = ["cosine", "coef", "gap", "distance", "end_cosine", *ENDS]
VERDICTS = {
    "less": "the mixture of features predicts the mixed weights better than the nearer end alone",
    "more": "the mixture of features predicts the mixed weights worse than the nearer end alone: "
    "linearity fails",
    "no change shown": "with these images the mixture of features and the nearer end alone can't "
    "be told apart",
}


@record
class CrossTaskLinearity:
    """How the features A of interpolated weights compare with the mixture B of the ends' features.

    table: alpha, layer, class (each, and "all"), n; cosine = cos(A, B), coef = <A, B> / |B|², both
    means over images with 95 % intervals; deviation = E|A - B| / E|f_1 - f_0| with its interval. To
    be read against: end_cosine = cos(f_0, f_1); nearer_end_cosine, the larger mean cosine of B to
    one end alone; trivial_deviation = min(|alpha|, |1 - alpha|), that of the nearer end alone.
    Under a head that normalises also the layers "unit representation" (normalised) and "logits".
    Batch-norm statistics between the ends are re-estimated where the ends' differ. images: (alpha,
    layer) to the numbers behind it, a row an image: cosine, coef, gap = |A - B|, distance = |f_1 -
    f_0|, and the cosines of the two ends to each other and of each to B.
    """

    table: pd.DataFrame
    images: dict[tuple[float, str], pd.DataFrame]

    def summary(self) -> pd.DataFrame:
        """The rows of all classes together."""
        return self.table[self.table["class"] == "all"].drop(columns="class").reset_index(drop=True)

    def says(self) -> tuple[str, ...]:
        """The sentences: what the representation shows at the alpha nearest to 1/2."""
        rows = self.summary()
        rows = rows[rows["layer"] == REPRESENTATION]
        row = rows.loc[(rows["alpha"] - 0.5).abs().idxmin()]
        start = f"At alpha = {row['alpha']:g} between the two models (n = {row['n']} images)"
        deviation, alone = np.array(ends(row, "deviation")), row["trivial_deviation"]
        if not np.isfinite(deviation[0]):
            return (f"{start} there is nothing to compare: the two ends give the same features.",)
        verdict = VERDICTS[change(*(deviation - alone)[1:])]
        cosines = self.images[row["alpha"], REPRESENTATION][["cosine", *ENDS]]
        further = cosines[cosines[ENDS].mean().idxmax()] - cosines["cosine"]
        closer = side(*known_mean(further)[1:])
        away = number(*1 - np.array(ends(row, "cosine"))[[0, 2, 1]], form=".2g")
        return (
            f"{start} the representations deviate from the mixture by "
            f"{number(*deviation, form='.3f')} of the distance between the ends; the nearer end "
            f"alone would deviate by {alone:.3f}: {verdict}.",
            f"One minus their cosine to the mixture is {away}, {closer} the "
            f"{1 - row['nearer_end_cosine']:.2g} that one end alone has.",
        )


def cross_task_linearity(
    pre: Classifier,
    ft: Classifier,
    dataset,
    *,
    alphas: Sequence[float] = (0.25, 0.5, 0.75),
    layers: str | Sequence[str] = REPRESENTATION,
    calibration=None,
    batch_size: int = 128,
    progress: bool = True,
) -> CrossTaskLinearity:
    """Compare f(x; (1-alpha) θ_0 + alpha θ_1) with (1-alpha) f(x; θ_0) + alpha f(x; θ_1) by image.

    Computed in float64 from features; encoders in float64 stay in float64. Per image 2 +
    len(alphas) passes of as many networks in memory; no activation is kept. The models are left as
    they are. A cosine of features of length zero is left out of its mean.

    Args:
        pre, ft: two classifiers of one architecture, also two fine-tuned ones.
        dataset: labelled images; their classes need not be the models'.
        alphas: places between the two models, in [-1, 2].
        layers: "representation" (the encoder's output, always among them), "blocks" (its blocks)
            or names of submodules. They are reported in the order in which they are computed.
        calibration: images for the batch-norm statistics of interpolated weights, by default
            `dataset`; needed where the two models' statistics differ.
        batch_size: images a pass; on a CPU large ones go through in smaller parts.
        progress: whether a bar is shown.
    Returns:
        A `CrossTaskLinearity`.
    Raises:
        MismatchError: for architectures that don't fit.
        ModelError: for alphas or layers that can't be.
    Source: Zhou et al., "On the Emergence of Cross-Task Linearity", ICML 2024; layerwise Zhou et
    al., NeurIPS 2023; relative deviation as in Kim and Do, NeurIPS 2025.
    """
    alphas, device = check_alphas(alphas), default_device()
    check_settings("cross_task_linearity", {"batch_size": batch_size})
    for classifier in (pre, ft):
        try_first(classifier, dataset)
    names = block_names(ft.encoder) if layers == "blocks" else np.atleast_1d(layers)
    inner = [str(name) for name in names if name not in ("", REPRESENTATION)]
    images = PreprocessedImages(dataset, ft.preprocess, memory=0)
    calibration = calibration or dataset
    head, kept = copy.deepcopy(ft.head).eval().to(device), defaultdict(list)
    rows = find_rows(head)
    cosine = rows is not None and rows.scale is not None
    with torch.no_grad(), ExitStack() as stack:

        def watched(classifier):
            """A copy of its encoder, as a function of images to its layers' features."""
            encoder = copy.deepcopy(classifier.encoder).eval().to(device)
            trace = stack.enter_context(recorded(encoder, inner))

            def features(x) -> dict:
                z = encoder(x.to(device, next(encoder.parameters(), x).dtype))
                found = {**trace, REPRESENTATION: z}
                if cosine:
                    found |= {UNIT: nn.functional.normalize(z.double(), dim=-1), LOGITS: head(z)}
                return found

            return features

        first, second = watched(pre), watched(ft)
        probe = second(images[0][0][None])
        if layers != "blocks" and (unused := [name for name in inner if name not in probe]):
            raise ModelError(
                f"layer {unused[0]!r} takes no part in the forward pass: nothing to compare"
            )
        between = {a: watched(interpolate(pre, ft, a, calibration=calibration)) for a in alphas}
        batches = loader(images, batch_size=batch_size)
        for x, _ in progress_bar(batches, desc="linearity", disable=not progress):
            for piece in parts(x, device):
                f0, f1 = first(piece), second(piece)
                for alpha, features in between.items():
                    for layer, mixed in features(piece).items():
                        kept[alpha, layer].append(_scalars(mixed, f0[layer], f1[layer], alpha))
    found, tables = {}, {}
    for key, scalars in kept.items():
        found[key] = pd.DataFrame(torch.cat(scalars).cpu().numpy(), columns=SCALARS)
        tables[key] = per_class(_statistics, dataset.targets, dataset.classes, found[key])
    table = pd.concat(tables, names=["alpha", "layer"]).droplevel(2).reset_index()
    table["trivial_deviation"] = np.minimum(table["alpha"].abs(), (1 - table["alpha"]).abs())
    return CrossTaskLinearity(table, found)


def _scalars(mixed, f0, f1, alpha: float):
    """The numbers (N, 7) of one layer, named as SCALARS; mixed, f0, f1 (N, …)."""
    a, p, q = (features.flatten(1).double() for features in (mixed, f0, f1))
    b = (1 - alpha) * p + alpha * q
    coef = (a * b).sum(1) / b.square().sum(1)
    found = [_cosine(a, b), coef, (a - b).norm(dim=1), (q - p).norm(dim=1)]
    return torch.stack([*found, _cosine(p, q), _cosine(p, b), _cosine(q, b)], dim=1)


def _cosine(u, v):
    return (u * v).sum(1) / (u.norm(dim=1) * v.norm(dim=1))  # 0/0 is NaN: no direction


def _statistics(images) -> dict:
    means = images.mean()
    return {
        **columns("cosine", known_mean(images["cosine"])),
        **columns("coef", known_mean(images["coef"])),
        **columns("deviation", ratio_interval(images["gap"], images["distance"])),
        "end_cosine": means["end_cosine"],
        "nearer_end_cosine": means[ENDS].max(),
    }
