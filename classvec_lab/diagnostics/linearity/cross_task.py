"""Cross-Task Linearity: are features of averaged weights the average of the features?"""

import copy
import warnings
from collections.abc import Mapping, Sequence
from contextlib import ExitStack
from dataclasses import dataclass

import numpy as np
import pandas as pd
import torch
from torch import nn

from ...errors import ModelError
from ...models import Classifier, CosineHead
from ...models.blocks import block_names, recorded
from ...models.device import default_device, parts
from ...models.interpolation import (
    blend,
    calibration_batches,
    check_alphas,
    recalibrate_encoder,
    statistics_moved,
)
from ...models.preprocess import PreprocessedImages, loader
from ...models.weights import load_into
from ...progress import progress_bar
from ...statistics import mean_interval, per_class, ratio_interval

REPRESENTATION, UNIT, LOGITS = "representation", "unit representation", "logits"
SCALARS = ("cosine", "coef", "gap", "distance", "end_cosine", "first_cosine", "second_cosine")
_AT_ONCE = 1 << 22  # numbers of one layer that are widened to float64 at a time
_IN_MEMORY = 1 << 28  # numbers of all layers of both ends that are held at a time


@dataclass(frozen=True, eq=False)
class CrossTaskLinearity:
    """Per alpha, layer and class: how the features A of interpolated weights compare with the mixture B of the ends'.

    table: alpha, layer, class (each, and "all"), n; cosine = cos(A, B), coef = <A, B> / |B|², both
    means over images with 95 % intervals; deviation = E|A - B| / E|f_1 - f_0| with its interval.
    To be read against: end_cosine = cos(f_0, f_1); nearer_end_cosine, the larger mean cosine of B to
    one end alone; trivial_deviation = min(|alpha|, |1 - alpha|), the deviation of the nearer end alone.
    Under a head that normalises also the layers "unit representation" (after L2 normalisation) and "logits".
    recalibrated: whether batch-norm statistics between the ends were re-estimated (the ends' differ).
    """

    table: pd.DataFrame
    recalibrated: bool

    def summary(self) -> pd.DataFrame:
        """The rows of all classes together."""
        return self.table[self.table["class"] == "all"].drop(columns="class").reset_index(drop=True)

    def says(self) -> tuple[str, ...]:
        """The sentences: what the representation (else the last layer) shows at the alpha nearest to 1/2."""
        rows = self.summary()
        rows = rows[
            rows["layer"]
            == (REPRESENTATION if REPRESENTATION in set(rows["layer"]) else rows["layer"].iloc[-1])
        ]
        row = rows.loc[(rows["alpha"] - 0.5).abs().idxmin()]
        start = f"At alpha = {row['alpha']:g} between the two models (layer {row['layer']!r}, n = {row['n']})"
        if not np.isfinite(row["deviation"]):
            return (f"{start} there is nothing to compare: the two ends give the same features.",)
        if row["deviation_high"] < row["trivial_deviation"]:
            verdict = "the mixture of features predicts the mixed weights better than the nearer end alone"
        elif row["deviation_low"] > row["trivial_deviation"]:
            verdict = "the mixture of features predicts the mixed weights worse than the nearer end alone: linearity fails"
        else:
            verdict = "with these images the mixture of features and the nearer end alone can't be told apart"
        closer = "below" if row["cosine_low"] > row["nearer_end_cosine"] else "not below"
        return (
            f"{start} the features deviate from the mixture by {row['deviation']:.3f} "
            f"[{row['deviation_low']:.3f}, {row['deviation_high']:.3f}] of the distance between the ends; the nearer end alone "
            f"would deviate by {row['trivial_deviation']:.3f}: {verdict}.",
            f"One minus their cosine to the mixture is {1 - row['cosine']:.2g}, {closer} the {1 - row['nearer_end_cosine']:.2g} "
            "that one end alone has.",
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
    """Compare f(x; (1-alpha) θ_0 + alpha θ_1) with (1-alpha) f(x; θ_0) + alpha f(x; θ_1), image by image, in float64.

    pre, ft: two classifiers of one architecture, also two fine-tuned ones; dataset: labelled images
    with ft's classes. layers: "representation" (the encoder's output), "blocks" (its blocks too, in
    the order they are computed) or names of submodules. calibration: images for the batch-norm
    statistics of interpolated weights (default `dataset`), needed where the ends' statistics differ. alphas in [-1, 2]. Encoders
    in float64 stay in float64. Per image 2 + len(alphas) passes; no activation is kept. The models
    are left as they are. A cosine of features of length zero is left out of its mean.
    Raises MismatchError for other classes or architectures, ModelError for alphas or layers that can't be.
    Source: Zhou et al., "On the Emergence of Cross-Task Linearity", ICML 2024; layerwise Zhou et al.,
    NeurIPS 2023; relative deviation as in Kim and Do, NeurIPS 2025.
    """
    ft.require_classes(dataset.classes, "the data set")
    head = ft.head if isinstance(ft.head, CosineHead) else None
    images = PreprocessedImages(dataset, ft.preprocess, memory=0)
    names = _layers(ft.encoder, layers)
    measured, y = compare_features(
        pre.encoder, ft.encoder, images, alphas=alphas, layers=names, head=head,
        calibration=PreprocessedImages(dataset if calibration is None else calibration, ft.preprocess, memory=0),
        optional=layers == "blocks", batch_size=batch_size, progress=progress,
    )  # fmt: skip
    tables = []
    for (alpha, layer), scalars in measured.items():
        table = per_class(_statistics, y, dataset.classes, *(scalars[name] for name in SCALARS))
        table.insert(0, "alpha", alpha)
        table.insert(1, "layer", layer)
        tables.append(table.assign(trivial_deviation=min(abs(alpha), abs(1 - alpha))))
    table = pd.concat(tables, ignore_index=True)
    still = table.loc[(table["class"] == "all") & table["deviation"].isna(), "layer"].unique()
    if len(still):
        shown = ", ".join(still[:5]) + (" …" if len(still) > 5 else "")
        warnings.warn(
            f"the two ends give the same features ({shown}): identical models? the deviation is NaN",
            stacklevel=2,
        )
    return CrossTaskLinearity(table, statistics_moved(pre.encoder, ft.encoder))


def compare_features(
    first: nn.Module,
    second: nn.Module,
    images,
    *,
    alphas: Sequence[float],
    layers: Sequence[str] = (REPRESENTATION,),
    head: nn.Module | None = None,
    calibration=None,
    optional: bool = False,
    batch_size: int = 128,
    progress: bool = False,
) -> tuple[dict[tuple[float, str], dict[str, np.ndarray]], np.ndarray]:
    """Per alpha and layer a mapping of per-image numbers (N,), float64, and the labels (N,): what the reports are made of.

    first, second: encoders of one architecture; images: a Dataset of (tensor, label). The numbers:
    cosine and coef of A to B, gap = |A - B|, distance = |f_1 - f_0|, and the cosines of the two ends
    to each other and of each to B. `head` adds the layers "unit representation" and "logits".
    `optional` layers may stay unused by the forward pass; others raise ModelError.
    """
    alphas = check_alphas(alphas)
    device = default_device()
    inner = [name for name in layers if name != REPRESENTATION]
    with recorded(second, inner):
        pass  # an unknown layer is named before anything is copied
    work = copy.deepcopy(second)
    load_into(work, first.state_dict(), "the first encoder")
    ends = [copy.deepcopy(e).eval().to(device) for e in (first, second)]
    work.eval().to(device)
    head = None if head is None else copy.deepcopy(head).eval().to(device)
    buffers = _calibrated(work, ends, alphas, calibration, batch_size)
    kept: dict[tuple[float, str], list[dict]] = {}
    labels = []
    with ExitStack() as stack:
        stack.enter_context(torch.no_grad())
        traces = [stack.enter_context(recorded(e, inner)) for e in (*ends, work)]
        probe = _features(ends[1], traces[1], images[0][0][None], head, device)
        order = _order(probe, layers, optional)
        fits = _IN_MEMORY // (2 * sum(probe[layer].numel() for layer in order))
        bar = stack.enter_context(
            progress_bar(total=len(images), desc="linearity", disable=not progress)
        )
        for x, y in loader(images, batch_size=max(1, min(batch_size, fits))):
            labels.append(y.numpy())
            pieces = parts(x, device)
            f0, f1 = (
                [_features(e, t, piece, head, device) for piece in pieces]
                for e, t in zip(ends, traces[:2], strict=True)
            )
            for alpha in alphas:
                blend(work, *ends, alpha)
                work.load_state_dict(buffers[alpha], strict=False)
                for piece, p, q in zip(pieces, f0, f1, strict=True):
                    mixed = _features(work, traces[2], piece, head, device)
                    for layer in order:
                        kept.setdefault((alpha, layer), []).append(
                            _scalars(mixed[layer], p[layer], q[layer], alpha)
                        )
            bar.update(len(y))
    measured = {
        key: {name: np.concatenate([piece[name] for piece in pieces]) for name in SCALARS}
        for key, pieces in kept.items()
    }
    return measured, np.concatenate(labels)


def _layers(encoder: nn.Module, layers: str | Sequence[str]) -> list[str]:
    if layers == "blocks":
        return [*(name for name in block_names(encoder) if name), REPRESENTATION]
    if isinstance(layers, str):
        layers = [layers]
    if not len(layers):
        raise ModelError(
            "layers must be 'representation', 'blocks' or names of submodules; got none"
        )
    return list(dict.fromkeys(layers))


def _calibrated(
    work, ends, alphas, calibration, batch_size
) -> dict[float, dict[str, torch.Tensor]]:
    """Per alpha the batch-norm entries that fit the interpolated weights; empty where both ends have the same."""
    buffers: dict[float, dict[str, torch.Tensor]] = {alpha: {} for alpha in alphas}
    if calibration is None or not statistics_moved(*ends):
        return buffers
    batches = calibration_batches(calibration, lambda x: x, batch_size=batch_size)
    statistics = [
        name
        for name, _ in work.named_buffers()
        if name.rpartition(".")[2].startswith(("running_", "num_batches"))
    ]
    for alpha in set(alphas) - {0.0, 1.0}:  # the ends are the two models as they are
        blend(work, *ends, alpha)
        recalibrate_encoder(work, batches)
        state = work.state_dict()
        buffers[alpha] = {name: state[name].clone() for name in statistics if name in state}
    return buffers


def _features(encoder, trace, x, head, device) -> dict[str, torch.Tensor]:
    like = next((p.dtype for p in encoder.parameters()), torch.float32)
    z = encoder(x.to(device, like))
    features = {**trace, REPRESENTATION: z}
    if head is not None:
        features[UNIT] = nn.functional.normalize(z.double(), dim=-1)
        features[LOGITS] = head(z)
    return features


def _order(features: Mapping, layers: Sequence[str], optional: bool) -> list[str]:
    extra = [name for name in (UNIT, LOGITS) if name in features and REPRESENTATION in layers]
    if optional:
        return [name for name in features if name in layers] + extra
    if unused := [name for name in layers if name not in features]:
        raise ModelError(
            f"layer {unused[0]!r} takes no part in the forward pass: nothing to compare"
        )
    return [*layers, *extra]


def _scalars(mixed, f0, f1, alpha: float) -> dict[str, np.ndarray]:
    """The per-image numbers of one layer; mixed, f0, f1 (N, …)."""
    rows = max(1, _AT_ONCE // max(mixed[0].numel(), 1))
    found = []
    for a, p, q in zip(*(t.flatten(1).split(rows) for t in (mixed, f0, f1)), strict=True):
        a, p, q = a.double(), p.double(), q.double()
        b = (1 - alpha) * p + alpha * q
        gap, distance = (a - b).norm(dim=1), (q - p).norm(dim=1)
        coef = (a * b).sum(1) / b.square().sum(1)
        cosines = (_cosine(u, v) for u, v in ((p, q), (p, b), (q, b)))
        found.append(torch.stack([_cosine(a, b), coef, gap, distance, *cosines]).cpu().numpy())
    return dict(zip(SCALARS, np.concatenate(found, axis=1), strict=True))


def _cosine(u: torch.Tensor, v: torch.Tensor) -> torch.Tensor:
    return (u * v).sum(1) / (u.norm(dim=1) * v.norm(dim=1))  # 0/0 is NaN: no direction


def _statistics(cosine, coef, gap, distance, end_cosine, first_cosine, second_cosine) -> dict:
    row = {}
    for name, values in (("cosine", cosine), ("coef", coef)):
        row[name], row[f"{name}_low"], row[f"{name}_high"] = mean_interval(
            values[np.isfinite(values)]
        )
    moved = len(distance) and distance.mean() > 0
    deviation = ratio_interval(gap, distance) if moved else (np.nan,) * 3
    row["deviation"], row["deviation_low"], row["deviation_high"] = deviation
    row["end_cosine"] = mean_interval(end_cosine[np.isfinite(end_cosine)])[0]
    row["nearer_end_cosine"] = max(
        mean_interval(c[np.isfinite(c)])[0] for c in (first_cosine, second_cosine)
    )
    return row
