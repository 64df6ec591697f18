"""How each source's network is built: the encoder, its preprocessing, and what makes its heads."""

import difflib
import itertools
import logging
from collections import namedtuple
from collections.abc import Callable, Mapping

import torch
from torch import nn

from ..checks import listed, one_of
from ..datasets import shapes
from ..datasets.torchvision_repair import ensure_torchvision
from ..errors import ModelError
from ..files import builtin_dir
from . import tiny_clip
from .heads import TEMPLATES, zero_shot_head
from .preprocess import Preprocess
from .weights import load_into, read_state_dict

# what a source gives; `heads`: each kind of head of its own to what makes one of class names and
# templates; `classes`: default names
FIELDS = ("encoder", "preprocess", "dim", "heads", "classes")
Parts = namedtuple("Parts", FIELDS, defaults=({}, None))


def build_parts(
    name: str, model_args: Mapping, weights=None, *, seed: int = 0, pretrained: bool = True
) -> Parts:
    """Build what a source names.

    Args:
        name: one of `SOURCES`, with a model's name after the colon where there is one.
        model_args: keyword arguments for the library's factory.
        weights: a local file in place of the pre-trained weights.
        seed: of random weights; torch's global generator is left alone.
        pretrained: whether to load pre-trained weights at all.
    Raises:
        ModelError: for an unknown source or name, or weights that can't be had.
    """
    library, colon, model = name.partition(":")
    build = SOURCES[one_of(library + colon, SOURCES, "folder or model source", ModelError)]
    state = None if weights is None else read_state_dict(weights)

    def loaded(module):
        if state is not None:
            load_into(module, state, weights)
        return module.eval()

    ensure_torchvision()
    root = logging.getLogger()  # open_clip logs there what its exception then says again
    level = root.level
    root.setLevel(logging.CRITICAL)
    try:
        with torch.random.fork_rng(devices=[]):
            torch.manual_seed(seed)
            return build(model, loaded, pretrained and state is None, **model_args)
    except TypeError as error:
        raise ModelError(f"can't build {name} with {model_args} ({error})") from error
    except (RuntimeError, OSError) as error:
        reason = str(error).splitlines()[0].rstrip(".")
        advice = "With no network, fetch the weights elsewhere and pass weights=FILE"
        raise ModelError(f"couldn't load {name}: {reason}. {advice}") from error
    finally:
        root.setLevel(level)


# Each builder takes a model's name, `loaded`, which gives a module its weights from a file where
# there is one, whether to fetch pre-trained ones, and the user's model_args.


def _tiny_clip(name: str, loaded: Callable, pretrained: bool) -> Parts:
    clip = loaded(tiny_clip.load(builtin_dir("tiny-clip")))

    def cosine(classes, templates):
        templates = templates or tiny_clip.TEMPLATES
        return zero_shot_head(clip, tiny_clip.tokenizer(), classes, templates)

    preprocess = Preprocess("open_clip", tiny_clip.PREPROCESS)
    dim = clip.visual.output_dim
    return Parts(clip.visual, preprocess, dim, {"cosine": cosine}, shapes.CLASSES)


def _open_clip(name: str, loaded: Callable, pretrained: bool, **model_args) -> Parts:
    import open_clip

    arch, _, tag = name.partition("/")
    _near(arch, open_clip.list_models(), "open_clip")
    tags = [*open_clip.list_pretrained_tags_by_model(arch), "random"]
    one_of(tag, tags, f"pre-trained weights of {arch}", ModelError)
    config = open_clip.get_pretrained_cfg(arch, tag)
    # the factory only warns where a tag was trained with another activation than the default
    quick = bool(config.get("quick_gelu", False))
    options = {"force_preprocess_cfg": config, "force_quick_gelu": quick} | model_args
    fetched = tag if pretrained and tag != "random" else None
    clip = loaded(open_clip.create_model(arch, fetched, **options))

    def cosine(classes, templates):
        return zero_shot_head(clip, open_clip.get_tokenizer(arch), classes, templates or TEMPLATES)

    preprocess = Preprocess("open_clip", clip.visual.preprocess_cfg)
    dim = (open_clip.get_model_config(arch) | model_args)["embed_dim"]
    return Parts(clip.visual, preprocess, dim, {"cosine": cosine})


def _timm(name: str, loaded: Callable, pretrained: bool, **model_args) -> Parts:
    import timm

    name, _, tag = name.partition("/")
    if tag not in ("", "random"):
        raise ModelError(f"write timm:NAME or timm:NAME/random; got timm:{name}/{tag}")
    _near(name.partition(".")[0], timm.list_models(), "timm")
    model = loaded(timm.create_model(name, pretrained and not tag, **model_args))
    head = model.get_classifier()
    model.reset_classifier(0)
    preprocess = Preprocess("timm", timm.data.resolve_model_data_config(model))
    parts = Parts(model, preprocess, model.head_hidden_size)
    if not isinstance(head, nn.Linear):
        return parts
    return parts._replace(heads={"own": lambda *_: head}, classes=range(head.out_features))


def _mlp(
    name: str, loaded: Callable, pretrained: bool, *, size=32, hidden=(512, 512), dim=128
) -> Parts:
    layers = [nn.Flatten()]
    for a, b in itertools.pairwise([3 * size**2, *hidden, dim]):
        layers += [nn.Linear(a, b), nn.ReLU()]
    preprocess = Preprocess("open_clip", {**tiny_clip.PREPROCESS, "size": size})
    return Parts(loaded(nn.Sequential(*layers[:-1])), preprocess, dim)


SOURCES = {"tiny-clip": _tiny_clip, "open_clip:": _open_clip, "timm:": _timm, "mlp": _mlp}


def _near(name, known, library) -> None:
    if name not in known:
        near = listed(difflib.get_close_matches(name, known)) or "none"
        raise ModelError(f"{library} has no model {name!r}; nearest: {near}")
