"""The built-in model: a small open_clip CLIP trained on the drawn world, kept as float16.

Of the vocabulary's 49,408 embedding rows only those of tokens met in training are stored. The
others are redrawn from the seed in the card, so that every prompt has an embedding of its own.
`benchmarks/pretrain.py` is its recipe.
"""

from pathlib import Path

import numpy as np
import torch

from ..datasets.torchvision_repair import ensure_torchvision
from ..errors import FileFormatError
from ..files import hash_json, read_json, read_tensors

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
PREPROCESS = {"size": 32, "mean": [0.5] * 3, "std": [0.5] * 3, "interpolation": "bicubic"}
TEMPLATES = ("a photo of a {}", "a picture of a {}", "a {}")
EMBEDDING = "token_embedding.weight"


def embedding_rows(seed: int) -> torch.Tensor:
    """The token embedding before training, (49408, 96) float32, rounded to float16.

    NumPy guarantees the stream of RandomState over versions, so the rows of tokens never met in
    training can be redrawn at load.
    """
    rows = np.random.RandomState(seed).standard_normal((VOCABULARY, CONFIG["text_cfg"]["width"]))
    return torch.from_numpy((0.02 * rows).astype(np.float16).astype(np.float32))


def build() -> torch.nn.Module:
    """The untrained `open_clip.model.CLIP`, drawn from torch's global generator."""
    ensure_torchvision()
    from open_clip.model import CLIP

    return CLIP(**CONFIG)


def tokenizer():
    """open_clip's own byte-pair tokenizer at context length 16."""
    ensure_torchvision()
    from open_clip import SimpleTokenizer

    return SimpleTokenizer(context_length=CONTEXT)


def load(folder: Path) -> torch.nn.Module:
    """The trained CLIP, float32, in eval mode.

    Args:
        folder: holds `weights.safetensors` and `card.json`.
    Raises:
        FileFormatError: where the two don't belong together.
    """
    card = read_json(folder / "card.json")
    state, header = read_tensors(folder / "weights.safetensors", kind="tiny-clip")
    if header["card"] != hash_json(card):
        raise FileFormatError(
            f"{folder}: weights.safetensors was not written with this card.json; "
            "make both again with `make pretrain`"
        )
    tokens, rows = state.pop("tokens"), embedding_rows(card["embedding"]["seed"])
    model, state = build(), {name: torch.from_numpy(v).float() for name, v in state.items()}
    rows[tokens] = state[EMBEDDING]
    model.load_state_dict({**state, EMBEDDING: rows})
    return model.eval()
