"""`Classifier`: an encoder, the head that reads its representation, classes and preprocessing."""

from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import asdict
from pathlib import Path

import torch
from torch import nn

from ..checks import listed, one_of, same_classes
from ..errors import FileFormatError, ModelError
from ..files import atomic, hash_json, read_json, read_tensors, write_json, write_tensors
from .architectures import build_parts
from .fingerprint import Unidentified, digest
from .heads import CosineHead
from .preprocess import Preprocess
from .weights import load_into, to_numpy

WEIGHTS, CARD = "weights.safetensors", "card.json"
# by the ids of what decides on a representation: its hash, once known
_held: dict[tuple, list] = {}
BLANK_HEADS = {
    "CosineHead": lambda m, n_classes: CosineHead(torch.ones(n_classes, m), 1.0),
    "Linear": nn.Linear,
}


class Classifier(nn.Module):
    """logits = head(encoder(images)), where the encoder gives the un-normalised representation.

    Neither part's mode changes, and `training` is the encoder's. What this package computes of a
    classifier it computes in eval mode; before you call one yourself, call `eval()`.

    Args:
        encoder: maps images (N, 3, H, W) to representations (N, m).
        head: `nn.Linear`, `CosineHead`, or anything with `in_features` and `out_features`.
        classes: the C names, in the order of the logits.
        preprocess: maps a PIL image to a tensor (3, H, W).
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
        self.classes = tuple(map(str, classes))
        if repeated := sorted({c for c in self.classes if self.classes.count(c) > 1}):
            raise ModelError(f"class names must be distinct; repeated: {listed(repeated)}")
        if len(self.classes) != head.out_features:
            n = len(self.classes)
            raise ModelError(f"the head has {head.out_features} outputs but {n} classes were named")
        self.encoder, self.head, self.preprocess, self.source = encoder, head, preprocess, source
        self.training = encoder.training  # the mode that it came in: an encoder may be shared

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
        z = self.encoder(images)
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
            "head": type(self.head).__name__,
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
        preprocess: Callable | None = None,
    ) -> "Classifier":
        """Read what `save` wrote, in eval mode.

        Args:
            folder: where it is.
            encoder: needed where it was the user's own: the same architecture with any weights; it
                is loaded in place.
            preprocess: needed where it was the user's own.
        Raises:
            FileNotFoundError: where there is none.
            FileFormatError: for damaged or mixed-up files.
            MismatchError: where the weights don't fit.
        """
        folder = Path(folder)
        if not (folder / CARD).is_file():
            raise FileNotFoundError(f"{folder} holds no {CARD}, so Classifier.save didn't write it")
        card = read_json(folder / CARD)
        state, header = read_tensors(folder / WEIGHTS, kind="classifier")
        if header["card"] != hash_json(card):
            raise FileFormatError(f"{folder}: {WEIGHTS} and {CARD} don't belong together")
        blank = BLANK_HEADS[one_of(card["head"], BLANK_HEADS, "head to load", ModelError)]
        head, source = blank(card["dim"], len(card["classes"])), card["source"]
        if encoder is None and source:
            encoder = build_parts(**source, pretrained=False).encoder
        if preprocess is None and card["preprocess"]:
            preprocess = Preprocess(**card["preprocess"])
        for name, part in (("preprocess", preprocess), ("encoder", encoder)):
            if part is None:
                raise ModelError(f"{folder} was saved with its user's own: pass {name}=")
        of = {"classes": card["classes"], "preprocess": preprocess, "source": source}
        classifier = cls(encoder, head, **of)
        load_into(classifier, state, folder)
        return classifier.eval()

    def require_classes(self, classes: Sequence[str], owner: str) -> None:
        """Raise MismatchError, naming what differs, unless `classes` are this one's, in order."""
        same_classes(classes, self.classes, owner, "the classifier")


@contextmanager
def held(*classifiers: Classifier) -> Iterator[None]:
    """While it lasts, each fingerprint is computed once: for a step that must not write to them."""
    before = dict(_held)
    _held.update((_ids(classifier.representation), []) for classifier in classifiers)
    try:
        yield
    finally:
        _held.clear()
        _held.update(before)


def _ids(representation: dict) -> tuple[int, ...]:
    return tuple(map(id, representation.values()))
