"""`load_classifier`: the built-in CLIP, open_clip's and timm's models, a plain MLP, or a folder."""

from collections.abc import Mapping, Sequence
from pathlib import Path

import torch
from torch import nn

from ..checks import listed, one_of
from ..errors import ModelError
from .architectures import build_parts
from .classifier import Classifier


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
    """Load a classifier from any source, in eval mode, on the CPU.

    Args:
        source: "tiny-clip" (built in), "open_clip:ViT-B-16/openai", "open_clip:ViT-B-32/random",
            "timm:resnet18.a1_in1k", "timm:resnet18/random", "mlp", or a folder that
            `Classifier.save` wrote.
        classes: names in the order of the logits. Default: tiny-clip's shapes; timm's own outputs.
        templates: prompt templates with one {} each, for the cosine head.
        head: "cosine" (frozen, from prompts; needs a text tower), "linear" (new, drawn from
            `seed`), "own" (timm: the network's own classifier), or "auto": cosine where there is a
            text tower, own for timm without `classes`, else linear.
        weights: a local file in place of the pre-trained weights: safetensors, or a checkpoint of
            plain tensors.
        model_args: keyword arguments for the library's factory, e.g. {"pad_type": "same"} for timm;
            of mlp `size` (of the images), `hidden` (widths) and `dim`.
        seed: of random weights.
    Raises:
        ModelError: for an unknown source, architecture or head.
        MismatchError: where weights or classes don't fit.
        FileFormatError: for a damaged file.
    Source: zero-shot heads: Radford et al., ICML 2021.
    """
    folder = Path(source).expanduser()
    if folder.is_dir():
        given = {"templates": templates, "weights": weights, "model_args": model_args}
        given["head"] = head != "auto"
        if extra := listed(name for name, value in given.items() if value):
            have = f"{folder} is a saved classifier and already has what {extra} would set"
            raise ModelError(f"{have}; leave them out")
        classifier = Classifier.load(folder)
        classifier.require_classes(classes or classifier.classes, "the given list")
        return classifier
    record = {"name": str(source), "model_args": dict(model_args or {})}
    parts = build_parts(**record, weights=weights, seed=seed)
    heads = parts.heads | {"linear": lambda names, _: nn.Linear(parts.dim, len(names))}
    one_of(head, ("auto", *heads), f"head of {source}", ModelError)
    if head == "auto":
        head = next(kind for kind in heads if kind != "own" or classes is None)
    classes = parts.classes if classes is None else classes
    if classes is None:
        raise ModelError(f"{source} needs class names: pass classes=dataset.classes")
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(seed)
        layer = heads[head](classes, templates)
    origin = {"preprocess": parts.preprocess, "source": record}
    return Classifier(parts.encoder, layer, classes=classes, **origin).eval()
