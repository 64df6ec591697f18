"""`Classifier`: an encoder, the head that reads its representation, class names and preprocessing."""

from collections.abc import Callable, Sequence
from pathlib import Path

import torch
from torch import nn

from ..errors import FileFormatError, MismatchError, ModelError
from ..files import atomic_folder, hash_json, read_json, read_tensors, write_json, write_tensors
from .architectures import build_encoder
from .fingerprint import hash_callable, hash_module, to_numpy
from .heads import CosineHead
from .preprocess import Preprocess
from .weights import load_into

WEIGHTS, CARD = "weights.safetensors", "card.json"


class Classifier(nn.Module):
    """logits = head(encoder(images)), where the encoder's output is the un-normalised representation.

    `encoder` maps (N, 3, H, W) to (N, m); `head` is `nn.Linear` or `CosineHead` (anything with
    `in_features` and `out_features`); `classes` the C names in the order of the logits; `preprocess`
    maps a PIL image to a tensor. `source` says how to build the encoder again (set by
    `load_classifier`). Raises ModelError where head and classes disagree.
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
        self.classes = tuple(str(c) for c in classes)
        if len(set(self.classes)) < len(self.classes):
            repeated = sorted({c for c in self.classes if self.classes.count(c) > 1})
            raise ModelError(f"class names must be distinct; repeated: {', '.join(repeated)}")
        if len(self.classes) != head.out_features:
            raise ModelError(
                f"the head has {head.out_features} outputs but {len(self.classes)} classes were named"
            )
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
    def fingerprint(self) -> str | None:
        """Hash of what determines the representation: encoder and preprocessing; None where the latter can't be hashed."""
        preprocess = hash_callable(self.preprocess)
        return None if preprocess is None else hash_json([hash_module(self.encoder), preprocess])

    def encode(self, images: torch.Tensor) -> torch.Tensor:
        """Un-normalised representations (N, m), float32, of preprocessed images (N, 3, H, W)."""
        z = self.encoder(images)
        if not isinstance(z, torch.Tensor) or z.ndim != 2 or z.shape[1] != self.dim:
            got = tuple(z.shape) if isinstance(z, torch.Tensor) else type(z).__name__
            raise ModelError(
                f"the encoder should give one vector an image, shape (N, {self.dim}), for this head; got {got}"
            )
        return z.float()

    def logits(self, z: torch.Tensor) -> torch.Tensor:
        """Logits (N, C) of representations z (N, m)."""
        return self.head(z)

    def forward(self, images: torch.Tensor) -> torch.Tensor:
        """Logits (N, C) of preprocessed images (N, 3, H, W)."""
        return self.logits(self.encode(images))

    def save(self, folder: str | Path, **facts) -> Path:
        """Write `weights.safetensors` and `card.json` into `folder`, whole or not at all; `facts` go into the card.

        A classifier whose encoder or preprocessing is the user's own can be saved too; `load` then
        needs them given again.
        """
        own = isinstance(self.preprocess, Preprocess)
        card = {
            "kind": "classifier",
            "source": self.source,
            "classes": list(self.classes),
            "head": type(self.head).__name__,
            "dim": self.dim,
            "preprocess": {
                "library": self.preprocess.library,
                "config": dict(self.preprocess.config),
            }
            if own
            else None,
            "fingerprint": self.fingerprint,
            "facts": facts,
        }
        state = {name: to_numpy(value) for name, value in self.state_dict().items()}
        with atomic_folder(folder) as temporary:
            write_tensors(
                temporary / WEIGHTS, state, {"kind": "classifier", "card": hash_json(card)}
            )
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

        `encoder` (same architecture, any weights; it is loaded in place) and `preprocess` are needed
        only where they were the user's own. Raises FileNotFoundError, FileFormatError for damaged or
        mixed-up files, MismatchError where the weights don't fit.
        """
        folder = Path(folder)
        if not (folder / CARD).is_file():
            raise FileNotFoundError(
                f"{folder} holds no {CARD}: not a folder that Classifier.save wrote"
            )
        card = read_json(folder / CARD)
        if card.get("kind") != "classifier":
            raise FileFormatError(
                f"{folder / CARD} describes {card.get('kind')!r}, not a classifier"
            )
        state, header = read_tensors(folder / WEIGHTS, kind="classifier")
        if header["card"] != hash_json(card):
            raise FileFormatError(f"{folder}: {WEIGHTS} and {CARD} don't belong together")
        if preprocess is None and card["preprocess"] is None:
            raise ModelError(
                f"{folder} was saved with a preprocessing of its user's own: pass preprocess="
            )
        if encoder is None:
            if card["source"] is None:
                raise ModelError(
                    f"{folder} was saved with an encoder of its user's own: pass encoder= (same architecture)"
                )
            encoder = build_encoder(card["source"])
        dim, n_classes = card["dim"], len(card["classes"])
        heads = {
            "CosineHead": lambda: CosineHead(torch.ones(n_classes, dim), 1.0),
            "Linear": lambda: nn.Linear(dim, n_classes),
        }
        if card["head"] not in heads:
            raise ModelError(
                f"{folder} has a head of type {card['head']!r}; only {', '.join(heads)} can be loaded"
            )
        preprocess = preprocess or Preprocess(**card["preprocess"])
        classifier = cls(
            encoder,
            heads[card["head"]](),
            classes=card["classes"],
            preprocess=preprocess,
            source=card["source"],
        )
        load_into(
            classifier, {name: torch.from_numpy(value) for name, value in state.items()}, folder
        )
        return classifier.eval()

    def require_classes(self, classes: Sequence[str], owner: str) -> None:
        """Raise MismatchError, naming the difference, unless `classes` are this classifier's, in order."""
        classes = tuple(classes)
        if classes == self.classes:
            return
        absent, extra = (
            [c for c in self.classes if c not in classes],
            [c for c in classes if c not in self.classes],
        )
        if absent or extra:
            detail = "; ".join(
                f"{t} {', '.join(n[:5])}"
                for t, n in ((f"{owner} lacks", absent), ("the classifier lacks", extra))
                if n
            )
        else:
            detail = "same names in another order"
        raise MismatchError(
            f"{owner} has {len(classes)} classes and the classifier {len(self.classes)} that differ: {detail}"
        )
