"""The sources by name: how each library's network is built and cut, and the built-in ones."""

import itertools
import logging
import warnings
from collections.abc import Callable, Mapping
from contextlib import suppress

import torch
from torch import nn

from ...checks import in_range, listed, one_of
from ...datasets import shapes
from ...datasets.torchvision_repair import ensure_torchvision
from ...errors import MismatchError, ModelError
from ...files import builtin_dir
from .. import tiny_clip
from ..cutting import Trunk, head_place
from ..preprocess import Preprocess
from .parts import Given, Parts, fill, near, network_parts


def tiny(name, preprocess, pretrained) -> Parts:
    """Build the built-in CLIP."""
    clip = tiny_clip.load(builtin_dir("tiny-clip"))
    preprocess = preprocess or Preprocess("open_clip", tiny_clip.PREPROCESS)
    return Parts(
        clip.visual,
        preprocess,
        clip.visual.output_dim,
        classes=shapes.CLASSES,
        clip=clip,
        tokenizer=tiny_clip.tokenizer,
        templates=tiny_clip.TEMPLATES,
        other=lambda: clip,
    )


def open_clip(name, preprocess, pretrained, **model_args) -> Parts:
    """Build a CLIP of open_clip: NAME/TAG, NAME/random, hf-hub:ORG/NAME or local-dir:FOLDER."""
    import open_clip

    arch, tag, options = name, "", {}
    if ":" not in name:
        arch, _, tag = name.partition("/")
        near(arch, open_clip.list_models(), "open_clip")
        tags = [*open_clip.list_pretrained_tags_by_model(arch), "random"]
        one_of(tag, tags, f"pre-trained weights of {arch}", ModelError)
        config = open_clip.get_pretrained_cfg(arch, tag)
        # the factory only warns where a tag was trained with another activation than the default
        quick = bool(config.get("quick_gelu", False))
        options = {"force_preprocess_cfg": config, "force_quick_gelu": quick}
    options |= model_args

    def make(fetch: bool):
        fetched = tag if fetch and tag != "random" else None
        return open_clip.create_model(arch, fetched, load_weights=fetch, **options)

    def other():
        with suppress(RuntimeError, OSError):  # where it can't be had, there is no such head
            return None if tag == "random" else make(True)

    clip = make(pretrained)
    preprocess = preprocess or Preprocess("open_clip", clip.visual.preprocess_cfg)
    dim = (open_clip.get_model_config(arch) | model_args)["embed_dim"]
    text = {"tokenizer": lambda: open_clip.get_tokenizer(arch), "other": other}
    return Parts(clip.visual, preprocess, dim, clip=clip, **text)


def timm(name, preprocess, pretrained, layer=None, **options) -> Parts:
    """Build a network of timm: NAME, NAME/random, hf-hub:ORG/NAME or local-dir:FOLDER."""
    import timm

    tag = ""
    if ":" not in name:
        name, _, tag = name.partition("/")
        if tag not in ("", "random"):
            raise ModelError(f"write timm:NAME or timm:NAME/random; got timm:{name}/{tag}")
        near(name.partition(".")[0], timm.list_models(), "timm")
    network = timm.create_model(name, pretrained and not tag, **options)
    config = timm.data.resolve_model_data_config(network)
    return network_parts(network, preprocess or Preprocess("timm", config), layer)


def torchvision(name, preprocess, pretrained, layer=None, **options) -> Parts:
    """Build a network of torchvision: NAME, NAME/random or NAME/WEIGHTS, as its enum calls them."""
    from torchvision import models

    name, _, tag = name.partition("/")
    near(name, models.list_models(models), "torchvision")
    known = models.get_model_weights(name)
    one_of(tag, ("", "random", *known.__members__), f"weights of {name}", ModelError)
    weights = known.__members__.get(tag, known.DEFAULT)
    fetched = weights if pretrained and tag != "random" else None
    network = models.get_model(name, weights=fetched, **options)
    preprocess = preprocess or Preprocess.of(weights.transforms())
    classes = weights.meta["categories"] if fetched else ()
    return network_parts(network, preprocess, layer, classes)


def transformers(name, preprocess, pretrained, layer=None, config=None, **options) -> Parts:
    """Build an image classifier or a CLIP's image tower of transformers: ORG/NAME or a folder.

    `config`, a dict, stands for that of the name.
    """
    try:
        import transformers as hub
    except ImportError as error:
        raise ModelError("hf: needs transformers: pip install 'classvec_lab[hf]'") from error
    auto, loaded, missing = hub.AutoConfig, None, ()
    made = auto.for_model(**config) if config else auto.from_pretrained(name, **options)
    tower = made.model_type in ("clip", "clip_vision_model")
    tower &= "CLIPForImageClassification" not in (made.architectures or ())
    kind = hub.CLIPVisionModelWithProjection if tower else hub.AutoModelForImageClassification
    if pretrained:
        loaded, told = kind.from_pretrained(name, output_loading_info=True, **options)
        made, missing = loaded.config, told["missing_keys"]
    config = (getattr(made, "vision_config", made) if tower else made).to_diff_dict()
    made = auto.for_model(**config)  # as it will be built again
    network = kind(made) if tower else kind.from_config(made)
    if loaded:
        network.load_state_dict(loaded.state_dict())
    if preprocess is None:
        processor = hub.AutoImageProcessor.from_pretrained(name, **options)
        preprocess = Preprocess("transformers", processor.to_dict())
    if tower and not layer:
        parts = Parts(Trunk(network), preprocess, made.projection_dim)
    else:
        parts = network_parts(network, preprocess, layer, [*made.id2label.values()])
    if missing:
        place = f"{head_place(parts.encoder)}."
        if lost := [name for name in missing if not name.startswith(place)]:
            raise MismatchError(f"hf:{name} lacks {len(lost)} weights: {listed(lost, 5)}")
        warnings.warn(f"hf:{name} holds an encoder alone, without {place[:-1]}", stacklevel=2)
        parts = parts._replace(head=None, classes=())
    return parts._replace(record={"config": config})


def mlp(name, preprocess, pretrained, *, size=32, hidden=(512, 512), dim=128) -> Parts:
    """Build an encoder of linear layers with ReLUs between them, for images of size × size."""
    layers, sizes = [nn.Flatten()], [*itertools.pairwise([3 * size**2, *hidden, dim])]
    in_range("weights of this MLP", sum(a * b for a, b in sizes), 1, 2e8, error=ModelError)
    for a, b in sizes:
        layers += [nn.Linear(a, b), nn.ReLU()]
    encoder = nn.Sequential(*layers[:-1])
    preprocess = preprocess or Preprocess("open_clip", {**tiny_clip.PREPROCESS, "size": size})
    return Parts(encoder, preprocess, dim)


# each takes a model's name, the user's preprocessing, whether to fetch pre-trained weights, and
# model_args
SOURCES = {
    "tiny-clip": tiny,
    "open_clip:": open_clip,
    "timm:": timm,
    "torchvision:": torchvision,
    "hf:": transformers,
    "mlp": mlp,
}


def library(name: str) -> str:
    """The library of a source's name, with its colon where there is one: a key of `SOURCES`."""
    return "".join(name.partition(":")[:2])


def build_parts(
    name: str,
    model_args: Mapping,
    given: Given | None = None,
    *,
    preprocess: Callable | None = None,
    seed: int = 0,
    pretrained: bool = True,
) -> Parts:
    """Build what a source names.

    Args:
        name: one of `SOURCES`, with a model's name after the colon where there is one.
        model_args: keyword arguments for the library's factory, and `layer` for `cut`.
        given: a file's weights in place of the pre-trained ones.
        preprocess: in place of the source's own.
        seed: of random weights; torch's global generator is left alone.
        pretrained: whether to load pre-trained weights at all.
    Raises:
        ModelError: for an unknown source or name, or weights that can't be had.
        MismatchError: for weights that don't fit.
    """
    build = SOURCES[one_of(library(name), SOURCES, "folder or model source", ModelError)]
    ensure_torchvision()
    root = logging.getLogger()  # open_clip logs there what its exception then says again
    level = root.level
    root.setLevel(logging.CRITICAL)
    try:
        with torch.random.fork_rng(devices=[]):
            torch.manual_seed(seed)
            fetch = pretrained and given is None
            parts = build(name.partition(":")[2], preprocess, fetch, **model_args)
            return fill(parts, given) if given else parts
    except (TypeError, AttributeError, KeyError, ValueError) as error:
        raise ModelError(f"can't build {name} with {model_args} ({error})") from error
    except (RuntimeError, OSError) as error:
        reason = str(error).splitlines()[0].rstrip(".")
        advice = "With no network, fetch the weights elsewhere and pass weights=FILE"
        raise ModelError(f"couldn't load {name}: {reason}. {advice}") from error
    finally:
        root.setLevel(level)
