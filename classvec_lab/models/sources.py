"""`load_classifier`: the built-in CLIP, open_clip's and timm's models, a plain MLP, or a saved folder."""

from collections.abc import Mapping, Sequence
from pathlib import Path

import torch
from torch import nn

from ..errors import ModelError
from . import heads
from .architectures import build_parts
from .classifier import Classifier

HEADS = ("auto", "cosine", "linear", "own")


def load_classifier(
    source: str | Path,
    *,
    classes: Sequence[str] | None = None,
    templates: Sequence[str] | None = None,
    head: str = "auto",
    weights: str | Path | None = None,
    model_args: Mapping | None = None,
    seed: int = 0,
) -> Classifier:
    """A classifier in eval mode, on the CPU, from any source.

    source: "tiny-clip" (built in), "open_clip:ViT-B-16/openai", "open_clip:ViT-B-32/random",
    "timm:resnet18.a1_in1k", "timm:resnet18/random", "mlp", or a folder that `Classifier.save` wrote.
    classes: names in the order of the logits. Default: tiny-clip's shapes; timm's own outputs.
    templates: prompt templates with one {} each, for the cosine head.
    head: "cosine" (frozen, from prompts; needs a text tower), "linear" (new, drawn from `seed`),
    "own" (timm: the network's own classifier), or "auto": cosine where there is a text tower, own
    for timm without `classes`, else linear.
    weights: a local file in place of the pre-trained weights (safetensors, or a checkpoint of plain tensors).
    model_args: keyword arguments for the library's factory, e.g. {"pad_type": "same"} for timm.
    Raises ModelError for an unknown source, architecture or head, MismatchError where weights or
    classes don't fit, FileFormatError for a damaged file. Zero-shot heads: Radford et al. 2021.
    """
    if head not in HEADS:
        raise ModelError(f"head must be one of {', '.join(HEADS)}; got {head!r}")
    model_args = dict(model_args or {})
    if Path(source).expanduser().is_dir():
        return _load_folder(
            Path(source).expanduser(),
            classes=classes,
            given={"templates": templates, "weights": weights, "model_args": model_args},
        )
    source = str(source)
    parts = build_parts(source, model_args, weights, seed, load=True)

    if classes is None and parts.clip is not None and source == "tiny-clip":
        from ..datasets.shapes import CLASSES as classes
    kind = head
    if head == "auto":
        kind = (
            "cosine"
            if parts.clip is not None
            else ("own" if classes is None and parts.head is not None else "linear")
        )
    if kind == "own":
        if parts.head is None:
            raise ModelError(
                f"{source} has no classifier of its own; use head='cosine' or 'linear'"
            )
        classes = (
            classes if classes is not None else [str(i) for i in range(parts.head.out_features)]
        )
        layer = parts.head
    elif classes is None:
        raise ModelError(
            f"{source} needs class names for its {kind} head: pass classes=dataset.classes"
        )
    elif kind == "cosine":
        if parts.clip is None:
            raise ModelError(
                f"{source} has no text tower, so no cosine head can be made from prompts; use head='linear'"
            )
        layer = heads.zero_shot_head(
            parts.clip, parts.tokenizer, tuple(classes), templates or parts.templates
        )
    else:
        with torch.random.fork_rng(devices=[]):
            torch.manual_seed(seed)
            layer = nn.Linear(parts.dim, len(tuple(classes)))
    record = {"name": source, "model_args": model_args}
    return Classifier(
        parts.encoder, layer, classes=tuple(classes), preprocess=parts.preprocess, source=record
    )


def _load_folder(folder: Path, *, classes, given: Mapping) -> Classifier:
    extra = [name for name, value in given.items() if value]
    if extra:
        raise ModelError(
            f"{folder} is a saved classifier and already has what {', '.join(extra)} would set; leave them out"
        )
    classifier = Classifier.load(folder)
    if classes is not None:
        classifier.require_classes(classes, "the given list")
    return classifier
