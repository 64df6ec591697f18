"""How each source's network is built: the encoder, its preprocessing, and what makes its heads."""

import difflib
import itertools
import logging
from collections import namedtuple
from collections.abc import Mapping

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

# what a source gives: where there is a text tower also the model of both, what makes its tokenizer,
# and its prompts; `head` is the network's own classifier and `classes` are default names
FIELDS = ("encoder", "preprocess", "dim", "head", "clip", "tokenizer", "templates", "classes")
Parts = namedtuple("Parts", FIELDS, defaults=(None, None, None, heads.TEMPLATES, None))


def build_parts(source: str, model_args: Mapping, weights=None, *, seed=0, load=True) -> Parts:
    """Build what a source names, in eval mode.

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


def _tiny_clip(name, model_args, weights, download) -> Parts:
    if model_args or weights:
        raise ModelError("tiny-clip is built in and takes no weights= or model_args=")
    clip, preprocess = (
        tiny_clip.load(tiny_clip_dir()),
        Preprocess("open_clip", tiny_clip.PREPROCESS),
    )
    text = clip, tiny_clip.tokenizer, tiny_clip.TEMPLATES, shapes.CLASSES
    return Parts(clip.visual, preprocess, clip.visual.output_dim, None, *text)


def _open_clip(name, model_args, weights, download) -> Parts:
    import open_clip

    arch, _, tag = name.partition("/")
    _near(arch, open_clip.list_models(), "open_clip")
    tags = [*open_clip.list_pretrained_tags_by_model(arch), "random"]
    one_of(tag, tags, f"pre-trained weights of {arch}", ModelError)
    config = open_clip.get_pretrained_cfg(arch, tag) if tag != "random" else {}
    options = {f"image_{k}": config.get(k) for k in ("mean", "std", "interpolation", "resize_mode")}
    # the factory only warns where a tag was trained with another activation than the default
    options["force_quick_gelu"] = bool(config.get("quick_gelu", False))
    make, loaded = open_clip.create_model_and_transforms, download and tag != "random"
    clip, *_ = _made(make, arch, tag if loaded else None, **options | model_args)
    _load(clip, weights)
    width = getattr(clip, "text_projection", None)
    dim = width.shape[1] if isinstance(width, nn.Parameter) else clip.text.output_dim
    preprocess = Preprocess("open_clip", clip.visual.preprocess_cfg)
    return Parts(clip.visual, preprocess, dim, None, clip, lambda: open_clip.get_tokenizer(arch))


def _timm(name, model_args, weights, download) -> Parts:
    import timm

    name, slash, tag = name.partition("/")
    if slash + tag not in ("", "/random"):
        raise ModelError(f"write timm:NAME or timm:NAME/random; got timm:{name}/{tag}")
    _near(name.partition(".")[0], timm.list_models(), "timm")
    model = _made(timm.create_model, name, download and not tag, **model_args)
    _load(model, weights)
    head = model.get_classifier()
    model.reset_classifier(0)
    preprocess = Preprocess("timm", timm.data.resolve_model_data_config(model))
    own = head if isinstance(head, nn.Linear) else None
    return Parts(model.eval(), preprocess, model.head_hidden_size, own)


def _mlp(name, model_args, weights, download) -> Parts:
    args = {"size": 32, "hidden": [512, 512], "dim": 128}
    for argument in model_args:
        one_of(argument, args, "argument of mlp", ModelError)
    args |= model_args
    widths = [3 * args["size"] ** 2, *args["hidden"], args["dim"]]
    layers = [nn.Flatten()]
    for a, b in itertools.pairwise(widths):
        layers += [nn.Linear(a, b), nn.ReLU()]
    encoder = nn.Sequential(*layers[:-1])
    _load(encoder, weights)
    preprocess = Preprocess("open_clip", {**tiny_clip.PREPROCESS, "size": args["size"]})
    return Parts(encoder, preprocess, args["dim"])


SOURCES = {"tiny-clip": _tiny_clip, "open_clip:": _open_clip, "timm:": _timm, "mlp": _mlp}


def _near(name, known, library) -> None:
    if name not in known:
        near = listed(difflib.get_close_matches(name, known, n=3)) or "none"
        raise ModelError(f"{library} has no model {name!r}; nearest: {near}")


def _load(module, weights) -> None:
    if weights is not None:
        load_into(module, read_state_dict(weights), weights)
    module.eval()


def _made(factory, name, pretrained, **options):
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
