"""How each source's network is built: the encoder, its preprocessing, and what a head can be made from."""

import contextlib
import difflib
import itertools
import logging
from collections.abc import Mapping
from dataclasses import dataclass

import torch
from torch import nn

from ..datasets.torchvision_repair import ensure_torchvision
from ..errors import ModelError
from ..files import tiny_clip_dir
from . import heads, tiny_clip
from .preprocess import Preprocess
from .weights import load_into, read_state_dict

UNDERSTOOD = (
    "'tiny-clip', 'open_clip:ARCH/PRETRAINED' (or ARCH/random), 'timm:NAME' (or NAME/random), 'mlp', "
    "or a folder that Classifier.save wrote"
)


@dataclass
class Parts:
    """What a source gives: the encoder with its own head, or with the text tower that can make one."""

    encoder: nn.Module
    preprocess: Preprocess
    dim: int
    clip: nn.Module | None = None
    tokenizer: object = None
    templates: tuple[str, ...] = heads.TEMPLATES
    head: nn.Module | None = None


def build_encoder(source: Mapping) -> nn.Module:
    """The architecture that `source` (a Classifier's record) names, with weights still to be loaded."""
    return build_parts(source["name"], dict(source["model_args"]), None, 0, load=False).encoder


def build_parts(source: str, model_args: dict, weights, seed: int, *, load: bool) -> Parts:
    """The parts of `source`; with `load` its pre-trained weights (or the file `weights`), without only the architecture.

    Random weights come from `seed`; torch's global generator is left alone. Raises ModelError.
    """
    library, _, name = source.partition(":")
    ensure_torchvision()
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(seed)
        if source == "tiny-clip":
            return _tiny_clip(model_args, weights)
        if library == "open_clip" and name:
            return _open_clip(name, model_args, weights, load)
        if library == "timm" and name:
            return _timm(name, model_args, weights, load)
        if source == "mlp":
            return _mlp(model_args, weights)
    near = difflib.get_close_matches(source, ["tiny-clip", "mlp"], n=1)
    hint = f" Did you mean {near[0]!r}?" if near else ""
    raise ModelError(
        f"unknown model {source!r}: neither a source nor a folder.{hint} Understood: {UNDERSTOOD}."
    )


def _tiny_clip(model_args: dict, weights) -> Parts:
    if model_args or weights:
        raise ModelError("tiny-clip is built in and takes no weights= or model_args=")
    clip = tiny_clip.load(tiny_clip_dir())
    preprocess = Preprocess("open_clip", tiny_clip.PREPROCESS)
    return Parts(
        clip.visual,
        preprocess,
        clip.visual.output_dim,
        clip,
        tiny_clip.tokenizer(),
        tiny_clip.TEMPLATES,
    )


def _open_clip(name: str, model_args: dict, weights, load: bool) -> Parts:
    import open_clip

    arch, _, tag = name.partition("/")
    if arch not in open_clip.list_models():
        near = difflib.get_close_matches(arch, open_clip.list_models(), n=3)
        raise ModelError(
            f"open_clip has no architecture {arch!r}; nearest: {', '.join(near) or 'none'} (open_clip.list_models() lists all)"
        )
    tags = open_clip.list_pretrained_tags_by_model(arch)
    if tag not in (*tags, "random"):
        raise ModelError(
            f"open_clip has no weights {tag!r} for {arch}; write open_clip:{arch}/TAG with TAG one of: {', '.join(tags)}, random"
        )
    config = open_clip.get_pretrained_cfg(arch, tag) if tag != "random" else {}
    options = {f"image_{k}": config.get(k) for k in ("mean", "std", "interpolation", "resize_mode")}
    # the factory only warns where a tag was trained with another activation than the architecture's default
    options["force_quick_gelu"] = bool(config.get("quick_gelu", False))
    download = load and weights is None and tag != "random"
    with _building("open_clip", name, model_args), _quiet_root_logger():
        clip, _, _ = open_clip.create_model_and_transforms(
            arch, tag if download else None, **{**options, **model_args}
        )
    if load and weights is not None:
        load_into(clip, read_state_dict(weights), weights)
    clip.eval()
    preprocess = Preprocess("open_clip", dict(clip.visual.preprocess_cfg))
    tokenizer = open_clip.get_tokenizer(arch) if load else None
    return Parts(clip.visual, preprocess, _open_clip_dim(clip), clip, tokenizer)


def _open_clip_dim(clip: nn.Module) -> int:
    return (
        clip.text_projection.shape[1]
        if isinstance(getattr(clip, "text_projection", None), nn.Parameter)
        else clip.text.output_dim
    )


def _timm(name: str, model_args: dict, weights, load: bool) -> Parts:
    import timm

    name, _, tag = name.partition("/")
    if tag not in ("", "random"):
        raise ModelError(f"write timm:NAME or timm:NAME/random; got timm:{name}/{tag}")
    base = name.partition(".")[0]
    if base not in timm.list_models():
        near = difflib.get_close_matches(base, timm.list_models(), n=3)
        raise ModelError(
            f"timm has no model {base!r}; nearest: {', '.join(near) or 'none'} (timm.list_models() lists all)"
        )
    download = load and weights is None and tag != "random"
    with _building("timm", name, model_args):
        model = timm.create_model(name, pretrained=download, **model_args)
    if load and weights is not None:
        load_into(model, read_state_dict(weights), weights)
    own = model.get_classifier()
    model.reset_classifier(0)
    model.eval()
    preprocess = Preprocess("timm", timm.data.resolve_model_data_config(model))
    return Parts(
        model, preprocess, model.head_hidden_size, head=own if isinstance(own, nn.Linear) else None
    )


def _mlp(model_args: dict, weights) -> Parts:
    known = {"size": 32, "hidden": [512, 512], "dim": 128}
    unknown = [k for k in model_args if k not in known]
    if unknown:
        raise ModelError(f"mlp takes {', '.join(known)}; got {', '.join(unknown)}")
    args = {**known, **model_args}
    widths = [3 * args["size"] ** 2, *args["hidden"]]
    layers = [nn.Flatten()]
    for a, b in itertools.pairwise(widths):
        layers += [nn.Linear(a, b), nn.ReLU()]
    encoder = nn.Sequential(*layers, nn.Linear(widths[-1], args["dim"])).eval()
    if weights is not None:
        load_into(encoder, read_state_dict(weights), weights)
    preprocess = Preprocess("open_clip", {**tiny_clip.PREPROCESS, "size": args["size"]})
    return Parts(encoder, preprocess, args["dim"])


@contextlib.contextmanager
def _building(library: str, name: str, model_args: dict):
    """Say in our words what a library's factory refuses: an argument, or weights that can't be had."""
    try:
        yield
    except TypeError as error:
        raise ModelError(f"{library} can't build {name} with {model_args} ({error})") from error
    except (RuntimeError, OSError) as error:
        reason = str(error).splitlines()[0].rstrip(".")
        raise ModelError(
            f"{library} couldn't load {name}: {reason}. With no network, fetch the weights elsewhere and pass weights=FILE"
        ) from error


@contextlib.contextmanager
def _quiet_root_logger():
    """open_clip logs to the root logger what its exception then says again."""
    root = logging.getLogger()
    level = root.level
    root.setLevel(logging.CRITICAL)
    try:
        yield
    finally:
        root.setLevel(level)
