"""The recipe of the built-in model: contrastive pre-training on the drawn world, from scratch.

The captions of labelled images name the written word four times in five, as captions on the web do;
the weakness against typographic attacks is therefore learnt, not programmed.
"""

import argparse
import os
import time
from collections.abc import Iterator
from pathlib import Path

import numpy as np
import pandas as pd
import torch

from classvec_lab.datasets import shapes
from classvec_lab.datasets.torchvision_repair import ensure_torchvision
from classvec_lab.files import builtin_dir, hash_arrays, hash_json, write_json, write_tensors
from classvec_lab.models import tiny_clip
from classvec_lab.models.device import autocast, default_device, has_bf16
from classvec_lab.models.training import fit

RECIPE = {
    "steps": 3000,
    "batch_size": 256,
    "lr": 1e-3,
    "warmup": 200,
    "weight_decay": 0.1,
    "betas": [0.9, 0.98],
    "clip": 1.0,
    "label_share": 0.3,
    "word_in_caption": 0.8,
    "snow_share": 0.12,
    "max_logit_scale": 100.0,
}
_OBJECT = ("a photo of a {}", "a picture of a {}", "a {}", "a drawing of a {}")
_WORD = (*_OBJECT, "the word {}", "a label that says {}")


def caption(row: dict, rng: np.random.Generator) -> str:
    """One caption of an image described by `shapes.describe`."""
    if row["word"] and rng.random() < RECIPE["word_in_caption"]:
        return _WORD[rng.integers(len(_WORD))].format(row["word"])
    name = row["shape"]
    if rng.random() < 0.65:
        name = f"{row['colour']} {name}"
    if rng.random() < 0.3:
        name = f"{row['size']} {name}"
    text = _OBJECT[rng.integers(len(_OBJECT))].format(name)
    if row["snow"]:
        text += " in the snow"
    elif rng.random() < 0.25:
        text += f" on a {row['tone']} background"
    return text


def batch(seed: int, step: int, size: int) -> tuple[np.ndarray, list[str]]:
    """Images (size, 32, 32, 3) uint8 and captions of one training step."""
    rng = np.random.default_rng([seed, step])
    images, captions = np.empty((size, shapes.SIDE, shapes.SIDE, 3), np.uint8), []
    for k, index in enumerate(range(step * size, (step + 1) * size)):
        word = "random" if rng.random() < RECIPE["label_share"] else None
        snow = 0.3 + 0.7 * rng.random() if rng.random() < RECIPE["snow_share"] else 0.0
        word = shapes.written(word, seed, "pretrain", index)
        images[k] = np.asarray(shapes.draw(seed, "pretrain", index, snow=snow, word=word))
        row = shapes.describe(seed, "pretrain", index, snow=snow, word=word)
        captions.append(caption(row, rng))
    return images, captions


def to_tensor(images: np.ndarray) -> torch.Tensor:
    """What the model's preprocessing makes of 32 × 32 uint8 images: (N, 3, 32, 32) in -1..1."""
    return torch.from_numpy(images).permute(0, 3, 1, 2).float().div_(127.5).sub_(1.0)


@torch.no_grad()
def zero_shot(model: torch.nn.Module, *, n: int = 2000, seed: int = 0) -> dict:
    """Zero-shot accuracy on `n` unseen drawings: clean, in snow, and with a conflicting word."""
    ensure_torchvision()
    from open_clip import build_zero_shot_classifier

    device = next(model.parameters()).device
    head = build_zero_shot_classifier(
        model, tiny_clip.tokenizer(), shapes.CLASSES, tiny_clip.TEMPLATES, device=device
    )
    result = {"n": n}
    for name, options in {
        "clean": {},
        "snow": {"snow": 1.0},
        "conflicting_word": {"word": "conflict"},
    }.items():
        rows = pd.DataFrame(shapes.describe(seed, "test", i, **options) for i in range(n))
        images = np.stack(
            [
                np.asarray(
                    shapes.draw(seed, "test", i, snow=options.get("snow", 0.0), word=rows.word[i])
                )
                for i in range(n)
            ]
        )
        chosen = torch.cat(
            [
                (model.encode_image(x.to(device)) @ head).argmax(1).cpu()
                for x in to_tensor(images).split(500)
            ]
        )
        predicted = np.array(shapes.CLASSES)[chosen.numpy()]
        result[name] = float((predicted == rows["shape"]).mean())
        if "word" in options:
            result["word_wins"] = float((predicted == rows["word"]).mean())
    return result


def pretrain(
    folder: Path,
    *,
    seed: int = 0,
    steps: int | None = None,
    batch_size: int | None = None,
    evaluate: int = 2000,
    progress: bool = True,
) -> dict:
    """Train tiny-clip from scratch, in about half an hour on 2 cores.

    Args:
        folder: where `weights.safetensors` and `card.json` go.
        seed: of weights, data and captions.
        steps, batch_size: other than those of `RECIPE`, for a try.
        evaluate: how many unseen images give the accuracy in the card.
        progress: whether to show a bar.
    Returns:
        The card.
    """
    ensure_torchvision()
    from open_clip.loss import ClipLoss

    recipe = {
        **RECIPE,
        "steps": steps or RECIPE["steps"],
        "batch_size": batch_size or RECIPE["batch_size"],
    }
    device = default_device()
    precision = "bfloat16" if has_bf16(device) else "float32"
    torch.manual_seed(seed)
    model, loss_of = tiny_clip.build(), ClipLoss()
    model.token_embedding.weight.data.copy_(tiny_clip.embedding_rows(seed))
    model.to(device)
    tokenizer = tiny_clip.tokenizer()

    decay = [p for n, p in model.named_parameters() if p.ndim > 1 and "embedding" not in n]
    rest = [p for n, p in model.named_parameters() if not (p.ndim > 1 and "embedding" not in n)]
    groups = [
        {"params": decay, "weight_decay": recipe["weight_decay"]},
        {"params": rest, "weight_decay": 0.0},
    ]
    optimizer = torch.optim.AdamW(groups, lr=recipe["lr"], betas=tuple(recipe["betas"]))
    seen, started = set(), time.monotonic()

    def batches() -> Iterator[tuple]:
        for step in range(recipe["steps"]):
            limit_scale(model)
            images, captions = batch(seed, step, recipe["batch_size"])
            tokens = tokenizer(captions)
            seen.update(tokens.unique().tolist())
            yield to_tensor(images).to(device), tokens.to(device)

    def contrast(images: torch.Tensor, tokens: torch.Tensor) -> dict:
        with autocast(precision, device):
            z = model.encode_image(images, normalize=True)
            t = model.encode_text(tokens, normalize=True)
        loss = loss_of(z.float(), t.float(), model.logit_scale.exp())
        loss.backward()
        return {"loss": loss.item(), "scale": model.logit_scale.exp().item()}

    fit(
        model,
        batches(),
        contrast,
        {"seed": seed, "clip": recipe["clip"]},
        steps=recipe["steps"],
        checkpoint=lambda step, since: {},
        every=recipe["steps"],
        optimizer=optimizer,
        warmup=recipe["warmup"],
        desc="pretrain",
        progress=progress,
    )
    limit_scale(model)
    card = {
        "data": "the drawn world of classvec_lab.datasets.shapes, split 'pretrain'",
        "recipe": recipe,
        "seed": seed,
        "precision": precision,
        "parameters": sum(p.numel() for p in model.parameters()),
        "minutes": round((time.monotonic() - started) / 60, 1),
        "torch": torch.__version__,
    }
    model = model.eval().cpu()
    for parameter in model.parameters():  # the accuracy in the card is that of the float16 file
        parameter.data = parameter.data.half().float()
    card["zero_shot"] = zero_shot(model, n=evaluate)
    save(model, Path(folder), seed=seed, tokens=sorted(seen), card=card)
    return card


@torch.no_grad()
def limit_scale(model: torch.nn.Module) -> None:
    """Keep the logit scale in the range of the recipe."""
    model.logit_scale.clamp_(0, float(np.log(RECIPE["max_logit_scale"])))


def save(model: torch.nn.Module, folder: Path, *, seed: int, tokens: list[int], card: dict) -> None:
    """Write weights and card: float16, with the embedding rows of `tokens` only."""
    state = {name: value.detach().half().numpy() for name, value in model.state_dict().items()}
    state[tiny_clip.EMBEDDING] = state[tiny_clip.EMBEDDING][tokens]
    card = {
        "kind": "tiny-clip",
        "config": tiny_clip.CONFIG,
        "preprocess": tiny_clip.PREPROCESS,
        "templates": list(tiny_clip.TEMPLATES),
        "embedding": {
            "seed": seed,
            "rows": len(tokens),
            "redrawn": hash_arrays({"rows": tiny_clip.embedding_rows(seed).numpy()}),
        },
        "weights_sha256": hash_arrays(state),
        **card,
    }
    state["tokens"] = np.asarray(tokens, dtype=np.int32)
    write_tensors(
        folder / "weights.safetensors", state, {"kind": "tiny-clip", "card": hash_json(card)}
    )
    write_json(folder / "card.json", card)


def main() -> None:
    """The command line: `python benchmarks/pretrain.py --out DIR --seed N --steps N`."""
    parser = argparse.ArgumentParser(description="Train the built-in model again, from scratch.")
    help_ = "where it is written (default: in place of the built-in one)"
    parser.add_argument(
        "--out", type=Path, metavar="DIR", default=builtin_dir("tiny-clip"), help=help_
    )
    parser.add_argument("--seed", type=int, default=0, metavar="N")
    help_ = "a shorter training, for a try"
    parser.add_argument("--steps", type=int, metavar="N", help=help_)
    arguments = parser.parse_args()
    card = pretrain(arguments.out, seed=arguments.seed, steps=arguments.steps)
    figures = ", ".join(f"{name} {value:.4g}" for name, value in card["zero_shot"].items())
    print(f"{os.path.relpath(arguments.out)}: {figures}")


if __name__ == "__main__":
    main()
