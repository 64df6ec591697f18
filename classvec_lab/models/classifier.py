"""`Classifier`: an encoder, the head that reads its representation, classes and preprocessing."""

import copy
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import asdict
from pathlib import Path

import torch
from torch import nn
from torch.nn.modules.module import register_module_parameter_registration_hook

from ..checks import named, same_classes
from ..errors import ClassvecError, FileFormatError, ModelError
from ..files import atomic, hash_json, read_json, read_tensors, reading, write_json, write_tensors
from .architectures.parts import NO_HEAD
from .architectures.registry import SOURCES, build_parts, library
from .cutting import cut
from .fingerprint import Unidentified, digest
from .heads import CosineHead, stored_head
from .preprocess import Preprocess
from .weights import load_into, to_numpy

WEIGHTS, CARD = "weights.safetensors", "card.json"
OURS = (nn.Linear, CosineHead)  # heads that `load` makes by itself
# by the ids of what decides on a representation: its hash, once known
_held: dict[tuple, list] = {}


class Classifier(nn.Module):
    """logits = head(encoder(images)), where the encoder gives the un-normalised representation.

    Neither part's mode changes, and `training` is the encoder's. What this package computes of a
    classifier it computes in eval mode; before you call one yourself, call `eval()`.

    Args:
        encoder: maps images (N, 3, H, W) to representations (N, m).
        head: `nn.Linear`, `CosineHead`, or anything with `in_features` and `out_features`.
        classes: the C names, in the order of the logits.
        preprocess: maps a PIL image to a tensor (3, H, W); see `Preprocess.of`.
        source: how to build the encoder again, as `load_classifier` sets it.
    Raises:
        ModelError: where head and classes disagree.
    """

    def __init__(
        self,
        encoder: nn.Module,
        head: nn.Module,
        *,
        classes: Sequence[str],
        preprocess: Callable,
        source: dict | None = None,
    ):
        super().__init__()
        self.classes = named(classes, ModelError)
        if not (hasattr(head, "in_features") and hasattr(head, "out_features")):
            what = f"of {type(head).__name__} set head.in_features = m, head.out_features = C"
            raise ModelError(f"a head needs in_features and out_features: {what}")
        if len(self.classes) != head.out_features:
            n = len(self.classes)
            raise ModelError(f"the head has {head.out_features} outputs but {n} classes were named")
        self.encoder, self.head, self.source = encoder, head, source
        self.preprocess = Preprocess.of(preprocess)
        self.training = encoder.training  # the mode that it came in: an encoder may be shared

    @classmethod
    def from_module(
        cls,
        model: nn.Module,
        *,
        classes: Sequence[str],
        preprocess: Callable,
        layer: str | None = None,
    ) -> "Classifier":
        """Cut a copy of any network that gives logits into encoder and head, in eval mode.

        Args:
            model: the network, compiled or in parallel or not.
            classes, preprocess: see `Classifier`.
            layer: the module that is its head, or whose output the head reads; None finds it.
        Raises:
            ModelError: where there is no head, or head(encode(x)) isn't what the network gives.
        """
        parallel = nn.DataParallel | nn.parallel.DistributedDataParallel
        while isinstance(model, parallel) or hasattr(model, "_orig_mod"):
            model = getattr(model, "_orig_mod", None) or model.module
        try:
            network = copy.deepcopy(model).eval()
        except Exception as error:
            what = f"needs a network that copy.deepcopy copies; of {type(model).__name__}: {error}"
            of_file = "Of a state dict write load_classifier(FILE, arch=…)"
            raise ModelError(f"from_module {what}. {of_file}") from error
        encoder, head, _ = cut(network, Preprocess.of(preprocess), layer)
        if head is None:
            raise ModelError(NO_HEAD.format(type(model).__name__))
        return cls(encoder, head, classes=classes, preprocess=preprocess).eval()

    @property
    def dim(self) -> int:
        """m, the dimension of the representation."""
        return self.head.in_features

    @property
    def name(self) -> str:
        """The source this classifier came from, or its encoder's type."""
        return self.source["name"] if self.source else type(self.encoder).__name__

    @property
    def representation(self) -> dict:
        """What decides on the representation: encoder, preprocessing, and an own `encode`."""
        own = vars(self).get("encode", type(self).encode)
        encode = None if own is Classifier.encode else own
        return {"encoder": self.encoder, "preprocess": self.preprocess, "encode": encode}

    @property
    def fingerprint(self) -> str | None:
        """Hash of what decides on the representation; None where it can't be hashed."""
        representation = self.representation
        found = _held.get(_ids(representation), [])
        if not found:
            try:
                found.append(digest(**representation))
            except Unidentified:
                found.append(None)
        return found[0]

    def encode(self, images: torch.Tensor) -> torch.Tensor:
        """Un-normalised representations (N, m), float32, of preprocessed images (N, 3, H, W)."""
        try:
            z = self.encoder(images)
        except ClassvecError:
            raise
        except Exception as error:
            came = f"images {tuple(images.shape)}, {images.dtype} on {images.device}"
            raise ModelError(
                f"the encoder, {type(self.encoder).__name__}, fails on {came}: {error}. Its images "
                "need the size, channels (image.convert('RGB') has 3), number format and device "
                "that it takes"
            ) from error
        shape = tuple(getattr(z, "shape", ()))
        if shape[1:] != (self.dim,):
            got = f"for this head; got {shape or type(z).__name__}"
            raise ModelError(f"the encoder should give vectors of shape (N, {self.dim}) {got}")
        return z.float()

    def logits(self, z: torch.Tensor) -> torch.Tensor:
        """Logits (N, C) of representations z (N, m)."""
        return self.head(z)

    def forward(self, images: torch.Tensor) -> torch.Tensor:
        """Logits (N, C) of preprocessed images (N, 3, H, W)."""
        return self.logits(self.encode(images))

    def save(self, folder: str | Path) -> Path:
        """Write weights and a card into a folder, whole or not at all.

        A classifier whose encoder or preprocessing is the user's own can be saved too; `load` then
        needs them given again.

        Args:
            folder: where `weights.safetensors` and `card.json` go.
        """
        own = not isinstance(self.preprocess, Preprocess)
        card = {
            "kind": "classifier",
            "source": self.source,
            "classes": list(self.classes),
            "head": type(self.head).__name__ if type(self.head) in OURS else None,
            "dim": self.dim,
            "preprocess": None if own else asdict(self.preprocess),
            "fingerprint": self.fingerprint,  # so that no two models have the same card
        }
        with atomic(folder) as temporary:
            temporary.mkdir()
            header = {"kind": "classifier", "card": hash_json(card)}
            write_tensors(temporary / WEIGHTS, to_numpy(self.state_dict()), header)
            write_json(temporary / CARD, card)
        return Path(folder)

    @classmethod
    def load(
        cls,
        folder: str | Path,
        *,
        encoder: nn.Module | None = None,
        head: nn.Module | None = None,
        preprocess: Callable | None = None,
    ) -> "Classifier":
        """Read what `save` wrote, in eval mode.

        Args:
            folder: where it is.
            encoder: needed where it was the user's own: the same architecture with any weights; it
                is loaded in place.
            head: the same for a head of one's own class.
            preprocess: needed where it was the user's own.
        Raises:
            FileNotFoundError: where there is none.
            FileFormatError: for damaged or mixed-up files.
            MismatchError: where the weights don't fit.
            ModelError: where something of the user's own is needed.
        """
        folder = Path(folder)
        if not (folder / CARD).is_file():
            what = f"{folder} holds no {CARD}, so Classifier.save didn't write it"
            raise FileNotFoundError(f"{what}; one of transformers is hf:{folder}")
        card = read_json(folder / CARD)
        with reading(folder / CARD):
            state, header = read_tensors(folder / WEIGHTS, kind="classifier")
            if header["card"] != hash_json(card):
                raise FileFormatError(f"{folder}: {WEIGHTS} and {CARD} don't belong together")
            source = card["source"]
            if preprocess is None and card["preprocess"]:
                preprocess = Preprocess(**card["preprocess"])
            if card["head"]:
                of = {n[5:]: torch.as_tensor(v) for n, v in state.items() if n.startswith("head.")}
                head = stored_head(of, card["dim"])
            # what a card names is neither imported nor fetched: it may be another's
            if encoder is None and preprocess is not None and can_build(source):
                how = {"preprocess": preprocess, "pretrained": False}
                with _bounded(folder, 5 * sum(v.size for v in state.values()) + 10**8):
                    encoder = build_parts(source["name"], source["model_args"], **how).encoder
            for name, part in (("preprocess", preprocess), ("encoder", encoder), ("head", head)):
                if part is None:
                    raise ModelError(f"{folder} was saved with its user's own: pass {name}=")
            of = {"classes": card["classes"], "preprocess": preprocess, "source": source}
            classifier = cls(encoder, head, **of)
        load_into(classifier, state, folder)
        return classifier.eval()

    def require_classes(self, classes: Sequence[str], owner: str) -> None:
        """Raise MismatchError, naming what differs, unless `classes` are this one's, in order."""
        same_classes(classes, self.classes, owner, "the classifier")


def can_build(source: Mapping | None) -> bool:
    """Whether a classifier's source is a library's, so that its encoder can be built again."""
    if not source or (of := library(source["name"])) not in SOURCES:
        return False
    return of != "hf:" or bool(source["model_args"].get("config"))  # which is not fetched


@contextmanager
def _bounded(folder: Path, left: int) -> Iterator[None]:
    """Refuse a network of more weights than are left, before these have numbers."""

    def count(module, name, weight):
        nonlocal left
        left -= 0 if weight is None else weight.numel()
        if left < 0:
            raise FileFormatError(f"{folder}: {CARD} asks for more weights than {WEIGHTS} holds")

    hook = register_module_parameter_registration_hook(count)
    try:
        yield
    finally:
        hook.remove()


@contextmanager
def held(*classifiers: Classifier) -> Iterator[None]:
    """While it lasts, each fingerprint is computed once: for a step that must not write to them."""
    before = dict(_held)
    for classifier in classifiers:
        _held.setdefault(_ids(classifier.representation), [])
    try:
        yield
    finally:
        _held.clear()
        _held.update(before)


def _ids(representation: dict) -> tuple[int, ...]:
    return tuple(map(id, representation.values()))
