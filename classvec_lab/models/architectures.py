"""How each source's network is built: the encoder, its preprocessing, and what makes its heads."""

import difflib
import itertools
import logging
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass

import torch
from torch import nn

from ..checks import listed, one_of
from ..datasets import shapes
from ..datasets.torchvision_repair import ensure_torchvision
from ..errors import ModelError
from ..files import tiny_clip_dir
from . import heads, tiny_clip
from .preprocess import Preprocess
from .weights import load_into, read_state_dict


@dataclass
class Parts:
    """What a source gives.

    Args:
        encoder: the network, in eval mode.
        preprocess: its `Preprocess`.
        dim: m, the dimension of the representation.
        head: the network's own classifier, where it has one.
        text_head: makes a cosine head from class names and templates, where there is a text tower.
        classes: default names.
    """

    encoder: nn.Module
    preprocess: Preprocess
    dim: int
    head: nn.Module | None = None
    text_head: Callable[[Sequence[str], Sequence[str] | None], nn.Module] | None = None
    classes: Sequence[str] | None = None


def build_encoder(source: Mapping) -> nn.Module:
    """The architecture that a Classifier's record names, its weights still to be loaded."""
    return build_parts(source["name"], dict(source["model_args"]), load=False).encoder


def build_parts(
    source: str, model_args: dict, weights=None, *, seed: int = 0, load: bool = True
) -> Parts:
    """Build what a source names.

    Args:
        source: one of `SOURCES`, with a name after the colon where there is one.
        model_args: keyword arguments for the library's factory.
        weights: a local file in place of the pre-trained weights.
        seed: of random weights; torch's global generator is left alone.
        load: whether to load pre-trained weights at all.
    Raises:
        ModelError: for an unknown source or name, or weights that can't be had.
    """
    library, colon, name = source.partition(":")
    build = SOURCES[one_of(library + colon, SOURCES, "folder or model source", ModelError)]
    ensure_torchvision()
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(seed)
        return build(name, model_args, weights, load and weights is None)


def _tiny_clip(name: str, model_args: dict, weights, download: bool) -> Parts:
    if model_args or weights:
        raise ModelError("tiny-clip is built in and takes no weights= or model_args=")
    clip = tiny_clip.load(tiny_clip_dir())

    def text_head(classes, templates):
        templates = templates or tiny_clip.TEMPLATES
        return heads.zero_shot_head(clip, tiny_clip.tokenizer(), classes, templates)

    preprocess, dim = Preprocess("open_clip", tiny_clip.PREPROCESS), clip.visual.output_dim
    return Parts(clip.visual, preprocess, dim, text_head=text_head, classes=shapes.CLASSES)


def _open_clip(name: str, model_args: dict, weights, download: bool) -> Parts:
    import open_clip

    arch, _, tag = name.partition("/")
    _near(arch, open_clip.list_models(), "open_clip")
    tags = (*open_clip.list_pretrained_tags_by_model(arch), "random")
    one_of(tag, tags, f"pre-trained weights of {arch}", ModelError)
    config = open_clip.get_pretrained_cfg(arch, tag) if tag != "random" else {}
    options = {f"image_{k}": config.get(k) for k in ("mean", "std", "interpolation", "resize_mode")}
    # the factory only warns where a tag was trained with another activation than the default
    options["force_quick_gelu"] = bool(config.get("quick_gelu", False))
    pretrained = tag if download and tag != "random" else None
    make = open_clip.create_model_and_transforms
    clip, *_ = _made(make, arch, pretrained, **options | model_args)
    _load(clip, weights)

    def text_head(classes, templates):
        tokenizer, templates = open_clip.get_tokenizer(arch), templates or heads.TEMPLATES
        return heads.zero_shot_head(clip, tokenizer, classes, templates)

    width = getattr(clip, "text_projection", None)
    dim = width.shape[1] if isinstance(width, nn.Parameter) else clip.text.output_dim
    preprocess = Preprocess("open_clip", clip.visual.preprocess_cfg)
    return Parts(clip.visual, preprocess, dim, text_head=text_head)


def _timm(name: str, model_args: dict, weights, download: bool) -> Parts:
    import timm

    name, slash, tag = name.partition("/")
    if slash + tag not in ("", "/random"):
        raise ModelError(f"write timm:NAME or timm:NAME/random; got timm:{name}/{tag}")
    _near(name.partition(".")[0], timm.list_models(), "timm")
    model = _made(timm.create_model, name, download and not tag, **model_args)
    _load(model, weights)
    own = model.get_classifier()
    model.reset_classifier(0)
    preprocess = Preprocess("timm", timm.data.resolve_model_data_config(model))
    head = own if isinstance(own, nn.Linear) else None
    return Parts(model.eval(), preprocess, model.head_hidden_size, head)


def _mlp(name: str, model_args: dict, weights, download: bool) -> Parts:
    args = {"size": 32, "hidden": [512, 512], "dim": 128}
    for argument in model_args:
        one_of(argument, args, "argument of mlp", ModelError)
    args |= model_args
    widths = [3 * args["size"] ** 2, *args["hidden"], args["dim"]]
    layers = [(nn.Linear(a, b), nn.ReLU()) for a, b in itertools.pairwise(widths)]
    encoder = nn.Sequential(nn.Flatten(), *itertools.chain(*layers))[:-1]
    _load(encoder, weights)
    preprocess = Preprocess("open_clip", {**tiny_clip.PREPROCESS, "size": args["size"]})
    return Parts(encoder, preprocess, args["dim"])


SOURCES = {"tiny-clip": _tiny_clip, "open_clip:": _open_clip, "timm:": _timm, "mlp": _mlp}


def _near(name: str, known: Sequence[str], library: str) -> None:
    if name not in known:
        near = listed(difflib.get_close_matches(name, known, n=3)) or "none"
        raise ModelError(f"{library} has no model {name!r}; nearest: {near}")


def _load(module: nn.Module, weights) -> None:
    if weights is not None:
        load_into(module, read_state_dict(weights), weights)
    module.eval()


def _made(factory: Callable, name: str, pretrained, **options):
    """What a library's factory makes, or in our words what it refuses."""
    root = logging.getLogger()  # open_clip logs there what its exception then says again
    level = root.level
    root.setLevel(logging.CRITICAL)
    try:
        return factory(name, pretrained, **options)
    except TypeError as error:
        raise ModelError(f"can't build {name} with {options} ({error})") from error
    except (RuntimeError, OSError) as error:
        reason = str(error).splitlines()[0].rstrip(".")
        advice = "With no network, fetch the weights elsewhere and pass weights=FILE"
        raise ModelError(f"couldn't load {name}: {reason}. {advice}") from error
    finally:
        root.setLevel(level)
