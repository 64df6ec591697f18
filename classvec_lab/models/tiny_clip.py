"""The built-in model: a small open_clip CLIP trained on the drawn world, kept as float16 with a card.

Of the vocabulary's 49,408 embedding rows only those of tokens met in training are stored; the others
are redrawn from the seed in the card, so that every prompt still has an embedding of its own.
"""

from pathlib import Path

import numpy as np
import torch

from ..datasets.torchvision_repair import ensure_torchvision
from ..errors import FileFormatError
from ..files import hash_arrays, hash_json, read_json, read_tensors, write_json, write_tensors

VOCABULARY, CONTEXT = 49408, 16
CONFIG = {
    "embed_dim": 128,
    "vision_cfg": {"image_size": 32, "patch_size": 8, "width": 192, "layers": 4, "head_width": 64},
    "text_cfg": {
        "context_length": CONTEXT,
        "vocab_size": VOCABULARY,
        "width": 96,
        "heads": 3,
        "layers": 2,
    },
}
PREPROCESS = {
    "size": 32,
    "mean": [0.5, 0.5, 0.5],
    "std": [0.5, 0.5, 0.5],
    "interpolation": "bicubic",
}
TEMPLATES = ("a photo of a {}", "a picture of a {}", "a {}")
_EMBEDDING = "token_embedding.weight"


def embedding_rows(seed: int) -> torch.Tensor:
    """The token embedding before training, (49408, 96) float32, rounded to float16.

    NumPy guarantees the stream of RandomState over versions, so the rows of tokens never met in
    training can be redrawn at load.
    """
    rows = np.random.RandomState(seed).standard_normal((VOCABULARY, CONFIG["text_cfg"]["width"]))
    return torch.from_numpy((0.02 * rows).astype(np.float16).astype(np.float32))


def build() -> torch.nn.Module:
    """The untrained `open_clip.model.CLIP`, its initial weights drawn from torch's global generator."""
    ensure_torchvision()
    from open_clip.model import CLIP

    return CLIP(**CONFIG)


def tokenizer():
    """open_clip's own byte-pair tokenizer at context length 16."""
    ensure_torchvision()
    from open_clip import SimpleTokenizer

    return SimpleTokenizer(context_length=CONTEXT)


def save(model: torch.nn.Module, folder: Path, *, seed: int, tokens: list[int], card: dict) -> None:
    """Write weights and card: float16, with the embedding rows of `tokens` only."""
    state = {name: value.detach().half().numpy() for name, value in model.state_dict().items()}
    state[_EMBEDDING] = state[_EMBEDDING][tokens]
    card = {
        "kind": "tiny-clip",
        "config": CONFIG,
        "preprocess": PREPROCESS,
        "templates": list(TEMPLATES),
        "embedding": {
            "seed": seed,
            "rows": len(tokens),
            "redrawn": hash_arrays({"rows": embedding_rows(seed).numpy()}),
        },
        "weights_sha256": hash_arrays(state),
        **card,
    }
    state["tokens"] = np.asarray(tokens, dtype=np.int32)
    write_tensors(
        folder / "weights.safetensors", state, {"kind": "tiny-clip", "card": hash_json(card)}
    )
    write_json(folder / "card.json", card)


def load(folder: Path) -> torch.nn.Module:
    """The trained CLIP in eval mode, float32; raises FileFormatError where weights and card disagree."""
    card = read_json(folder / "card.json")
    state, header = read_tensors(folder / "weights.safetensors", kind="tiny-clip")
    if header["card"] != hash_json(card):
        raise FileFormatError(
            f"{folder}: weights.safetensors was not written with this card.json; make both again with `classvec pretrain`"
        )
    tokens = state.pop("tokens")
    rows = embedding_rows(card["embedding"]["seed"])
    if hash_arrays({"rows": rows.numpy()}) != card["embedding"]["redrawn"]:
        raise FileFormatError(
            f"{folder}: this NumPy draws other embedding rows than the card's seed promises"
        )
    rows[tokens] = torch.from_numpy(state[_EMBEDDING]).float()
    weights = {name: torch.from_numpy(value).float() for name, value in state.items()}
    weights[_EMBEDDING] = rows
    model = build()
    model.load_state_dict(weights)
    return model.eval()
