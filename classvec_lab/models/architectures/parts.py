"""What a source gives: an encoder, its preprocessing and its head; and filling it from a file."""

import difflib
import re
import warnings
from collections import Counter, namedtuple
from collections.abc import Callable, Mapping, Sequence

from torch import nn

from ...checks import listed
from ...errors import ModelError
from ..cutting import cut, head_place, plain
from ..heads import TEMPLATES, stored_head
from ..weights import same_entries

# what a source gives; `head`: its own, if it has one; `classes`: names by default; `record`: more
# model_args for building it again; `clip`: what has the text tower that reads prompts, with its
# `tokenizer` and `templates`; `other`: gives a CLIP for a file that holds no text tower
FIELDS = ("encoder", "preprocess", "dim", "head", "classes", "record")
FIELDS += ("clip", "tokenizer", "other", "templates")
Parts = namedtuple("Parts", FIELDS, defaults=(None, (), {}, None, None, None, TEMPLATES))
NO_HEAD = (
    "{} ends in no layer with weights that reads one vector an image: return logits, not what a "
    "softmax makes of them, or name the head, or what it reads, by layer="
)
# a file's tensors by name, the file, and how many classes are wanted, None for as many as it has
Given = namedtuple("Given", "state origin n_classes")
BATCHES = "num_batches_tracked"


def network_parts(
    network: nn.Module, preprocess: Callable, layer: str | None, classes: Sequence[str] = ()
) -> Parts:
    """Cut a network into its parts.

    Args:
        network, preprocess, layer: see `cut`.
        classes: names of its outputs; they count where its head has as many.
    Raises:
        ModelError: where no head is found.
    """
    encoder, head, dim = cut(network.eval(), preprocess, layer)
    if head is None:
        if not hasattr(network, "reset_classifier"):  # timm's, which then give what it read
            raise ModelError(NO_HEAD.format(type(network).__name__))
        network.reset_classifier(0)
        encoder, _, dim = cut(network, preprocess)
    return Parts(encoder, preprocess, dim, head, classes)


def fill(parts: Parts, given: Given) -> Parts:
    """Load a file's entries, under whatever prefix they stand, and take the head that it holds.

    Counters of batches may be missing, and a CLIP's text tower may be. Where the own head isn't in
    the file, a linear or cosine head for as many classes as are wanted is taken from elsewhere.

    Returns:
        The parts, their network filled in place; `head` is the file's, None where it has none.
    Raises:
        MismatchError: for entries that are missing, unexpected or of another shape, all at once.
    """
    state, origin, n_classes = given
    network = parts.clip or plain(parts.encoder)
    stem, head = f"{head_place(parts.encoder)}.", parts.head
    own, in_head = network.state_dict(), head.state_dict() if head else ()
    inside, outside = _renamed(state, {*own, *(stem + name for name in in_head)})
    mine = {n: inside.pop(n, t) for n, t in own.items() if n in inside or n.endswith(BATCHES)}
    text = {name for name in own if parts.clip and not name.startswith("visual.")}
    if not (whole := mine.keys() >= text):
        own, mine = ({n: t for n, t in of.items() if n not in text} for of in (own, mine))
    rest, found = inside | outside, None
    for start in (stem, *(n.removesuffix("weight") for n in rest if n.endswith("weight"))):
        entries = {n.removeprefix(start): t for n, t in rest.items() if n.startswith(start)}
        expected = head and start == stem
        found = stored_head(entries, parts.dim, head if expected else None)
        if found and (expected or found.out_features == n_classes):
            rest = {n: t for n, t in rest.items() if not n.startswith(start)}
            break
        found = None
    unexpected = {n: t for n, t in rest.items() if n in inside}
    same_entries(mine | unexpected, own, str(origin), "the network")
    network.load_state_dict(mine, strict=False)
    told = []
    if found and not expected:
        told.append(f"{start}weight is taken for a head W z + b, whatever your own head computes")
    if left := rest.keys() - unexpected:
        told.append(f"left out what the network lacks: {listed(sorted(left), 5)}")
    clip = parts.clip if whole else None
    if not (whole or found):
        clip = parts.other()
        how = "read by the tower of its source" if clip else "not to be had: pass head='linear'"
        told.append(f"this file has no whole text tower; heads from prompts are {how}")
    for words in told:
        warnings.warn(f"{origin}: {words}", stacklevel=4)
    return parts._replace(head=found, clip=clip)


def _renamed(state: Mapping, names: set) -> tuple[dict, dict]:
    """A file's entries under a network's names, by the prefix that fits most, and all others."""
    votes = Counter(
        (known is names, name[: dot.end()])
        for given, known in ((state, names), (names, state))
        for name in given
        for dot in re.finditer(r"^|\.", name)
        if name[dot.end() :] in known
    )
    more, prefix = max(votes, key=lambda v: (votes[v], "ema" not in v[1]), default=(True, ""))
    if not more:
        return {prefix + n if prefix + n in names else n: t for n, t in state.items()}, {}
    inside = {n.removeprefix(prefix): t for n, t in state.items() if n.startswith(prefix)}
    outside = {n: t for n, t in state.items() if not n.startswith(prefix)}
    for name in outside.keys() & names - inside.keys():
        inside[name] = outside.pop(name)
    return inside, outside


def near(name: str, known, library: str) -> None:
    """Raise ModelError that names the nearest for a model that a library lacks."""
    if name not in known:
        found = listed(difflib.get_close_matches(name, known)) or "none"
        raise ModelError(f"{library} has no model {name!r}; nearest: {found}")
