"""`load_classifier`: a library's model, a file of weights, a function of yours, or a folder."""

import copy
import importlib
import re
import sys
import warnings
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path

import torch
from torch import nn

from ..checks import listed, named, one_of, same_classes
from ..errors import ClassvecError, ModelError
from .architectures.parts import Given, Parts, fill
from .architectures.registry import SOURCES, build_parts, library
from .classifier import Classifier
from .heads import CosineHead, zero_shot_head
from .preprocess import Preprocess
from .weights import read_state_dict

SUFFIXES = (".pt", ".pth", ".th", ".bin", ".ckpt", ".pkl", ".safetensors")
WANTED = (
    "pass its architecture, as in arch='timm:resnet18' or arch='my_module:build'; "
    "in a notebook model_args={'arch': …}"
)


def load_classifier(
    source: str | Path,
    *,
    classes: Sequence[str] | None = None,
    templates: Sequence[str] | None = None,
    head: str = "auto",
    weights: str | Path | None = None,
    model_args: Mapping | None = None,
    seed: int = 0,
    arch: "str | Classifier | None" = None,
    layer: str | None = None,
    preprocess: Callable | Mapping | None = None,
) -> Classifier:
    """Load a classifier from any source, in eval mode, on the CPU.

    Loading checks that head(encode(x)) is what the network itself gives.

    Args:
        source: "tiny-clip" (built in), "mlp", or a library's model, with "/random" for random
            weights or "/FILE" for a file of them: "open_clip:ViT-B-16/openai",
            "open_clip:hf-hub:ORG/NAME", "timm:resnet18.a1_in1k", "torchvision:resnet18",
            "hf:ORG/NAME", "hf:FOLDER" (an image classifier or CLIP of transformers); a file of
            weights, with `arch`; "my_module:build", a function of a module in the current folder
            that gives a `Classifier`; or a folder that `Classifier.save` wrote.
        classes: names in the order of the logits. Default: those that the source has.
        templates: prompt templates with one {} each, for the cosine head.
        head: "own" (the network's, or the file's), "cosine" (frozen, from prompts; needs a text
            tower), "linear" (new, drawn from `seed`), or "auto": the first of these that there is,
            with as many outputs as classes.
        weights: a local file in place of the pre-trained weights, see `read_state_dict`. Prefixes
            of its names come off.
        model_args: keyword arguments for the library's factory or for the function, e.g.
            {"pad_type": "same"} for timm; of mlp `size` (of the images), `hidden` (widths) and
            `dim`. `arch`, `layer` and `preprocess` may stand here too.
        seed: of random weights.
        arch: for a file of weights, its architecture: a source, or a classifier, of which a copy
            is filled, with its head where the file has none. For a folder, the same in place of
            what its user has to give.
        layer: the module that is the head, or whose output the head reads, where `cut` can't see.
        preprocess: in place of the source's own: a function of a PIL image, or a mapping with size,
            mean and std, see `Preprocess.of`.
    Raises:
        ModelError: for an unknown source, architecture, head or layer.
        MismatchError: where weights or classes don't fit.
        FileFormatError: for a damaged file.
    Source: zero-shot heads: Radford et al., ICML 2021.
    """
    for thing in (source, weights or ""):
        if not isinstance(thing, str | Path):
            how = "of a network write Classifier.from_module(network, classes=…, preprocess=…)"
            raise ModelError(f"models are loaded by name or file, no {type(thing).__name__}: {how}")
    args = dict(model_args or {})
    arch, preprocess = args.pop("arch", arch), args.pop("preprocess", preprocess)
    preprocess = preprocess and Preprocess.of(preprocess)
    args |= {"layer": layer} if layer else {}
    name, path, base = source, Path(source).expanduser(), None
    start, _, file = str(source).partition("/")
    if path.is_dir():
        given = {"head": head != "auto", "templates": templates}
        given |= {"weights": weights, "model_args": args}
        if extra := listed(name for name, value in given.items() if value):
            have = f"{path} is a saved classifier and already has what {extra} would set"
            raise ModelError(f"{have}; leave them out")
        own = {"preprocess": preprocess}
        if arch is not None:
            base = copy.deepcopy(arch) if isinstance(arch, Classifier) else load_classifier(arch)
            own |= {"encoder": base.encoder, "head": base.head}
            own["preprocess"] = preprocess or base.preprocess
        classifier = Classifier.load(path, **own)
        classifier.require_classes(classes or classifier.classes, "the given list")
        return classifier
    if path.is_file() or (path.suffix in SUFFIXES and ":" not in start):
        if path.is_file() and (arch is None or weights):
            raise ModelError(f"{path} is a file of weights: {WANTED}")
        name, weights = arch, path
    elif arch is not None:
        raise ModelError(f"{source} is no file of weights, which arch={arch!r} would be for")
    elif not weights and Path(file).is_file():
        name, weights = f"{start}/random", file
    n_classes = None if classes is None else len(named(classes, ModelError))
    given = Given(read_state_dict(weights), weights, n_classes) if weights else None
    record = {"name": str(name), "model_args": args}
    if isinstance(name, Classifier):
        if args:
            raise ModelError(f"arch is a classifier, which takes no {listed(args)}")
        base, name, record = copy.deepcopy(name), name.name, {}
    elif library(str(name)) not in SOURCES and re.fullmatch(r"[\w.]+:\w+", str(name)):
        base = _made_by(name, args)
    if base is not None:
        parts = Parts(base.encoder, base.preprocess, base.dim, base.head, base.classes)
        parts, record = fill(parts, given) if given else parts, base.source or record
        if parts.head is None:
            what = f"holds an encoder alone, and takes the head of {name}"
            warnings.warn(f"{weights} {what}", stacklevel=2)
    else:
        parts = build_parts(str(name), args, given, preprocess=preprocess, seed=seed)
        record["model_args"] = args | parts.record
        if given and not (preprocess or name == "tiny-clip" or "pretrained_cfg_overlay" in args):
            what = f"came without preprocessing, so {name}'s is used: {parts.preprocess.config}"
            warnings.warn(f"{weights} {what}; pass preprocess= with your own", stacklevel=2)
    kept = base and base.head

    def prompted():
        prompts = templates or parts.templates
        return zero_shot_head(parts.clip, parts.tokenizer(), names, prompts)

    heads = {  # what makes each kind that there is
        "own": parts.head and (lambda: parts.head),
        "cosine": parts.clip and prompted,
        "cosine" if isinstance(kept, CosineHead) else "arch": kept and (lambda: kept),
        "linear": lambda: nn.Linear(parts.dim, len(names)),
    }
    heads = {kind: make for kind, make in heads.items() if make}
    own = parts.head.out_features if parts.head else 0
    stated = [*map(str, range(own) if own and len(parts.classes) != own else parts.classes)]
    # ImageNet has two cranes
    known = tuple(f"{c} ({i})" if stated.count(c) > 1 else c for i, c in enumerate(stated))
    kind = one_of(head, ("auto", *heads), f"head of {name}", ModelError)
    names = known if classes is None else named(classes, ModelError)
    if not names:
        raise ModelError(f"{name} needs class names: pass classes=dataset.classes")
    made = base is not None or (own and not given)
    other = {*known} != {*names} and any(not re.fullmatch(r"(LABEL_)?\d+", c) for c in known)
    if kind == "auto":
        kind = next(kind for kind in heads if kind != "own" or own == len(names))
        if given and kind == "linear":
            what = f"a head of {own} outputs, not of {len(names)}" if own else "no head"
            warnings.warn(f"{weights} holds {what}: a new one is drawn", stacklevel=2)
        elif made and other and kind != "linear":
            file, asked = given and kind == "own", kind
            kind = kind if file else "linear"
            what = "that of the file is taken for them" if file else "a new one is drawn"
            what += f"; to keep its own under these names pass head={asked!r}" * (not file)
            told = f"{name} knows {listed(known, 3)}, and {listed(names, 3)} were asked for"
            warnings.warn(f"the head of {told}: {what}", stacklevel=2)
    if (kind == "own" or (base and kind != "linear")) and {*names} == {*known}:
        same_classes(names, known, "the given list", f"the head of {name}")
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(seed)
        layer = heads[kind]()
    of = {"classes": names, "preprocess": preprocess or parts.preprocess}
    return Classifier(parts.encoder, layer, **of, source=record and record | {"head": kind}).eval()


def _made_by(name: str, args: Mapping) -> Classifier:
    """The classifier that a function of a module in the current folder gives."""
    module, _, function = name.partition(":")
    sys.path.insert(0, here := str(Path.cwd()))
    try:
        made = getattr(importlib.import_module(module), function)(**args)
    except ClassvecError:
        raise
    except Exception as error:
        what = f"{name}, a function of a module in {here}, failed"
        raise ModelError(f"{what} ({type(error).__name__}: {error})") from error
    finally:
        sys.path.remove(here)
    if not isinstance(made, Classifier):
        raise ModelError(f"{name} should give a Classifier, and gave {made!r}")
    return made
