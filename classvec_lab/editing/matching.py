"""Training an encoder until it puts images where an edit would: the mapping into its weights."""

import copy

import numpy as np
import torch

from ..checks import representations
from ..datasets.items import usable_for
from ..errors import MismatchError
from ..files import hash_arrays
from ..models.classifier import Classifier
from ..models.preprocess import PreprocessedImages
from ..models.training import FineTuned, check_settings, fit, train_or_load
from .weights.suffix import layernorm_names

_VERSION = 1  # of the recipe: part of the cache key


def match(
    classifier: Classifier,
    images,
    goals: np.ndarray,
    *,
    parameters: str = "encoder",
    epochs: int = 1,
    lr: float = 4e-4,
    batch_size: int = 128,
    seed: int = 0,
    progress: bool = True,
) -> FineTuned:
    """Train the encoder of a copy so that each image is encoded at its own goal, cached.

    AdamW without decay minimises mean |f(x_i) - goal_i|² under a cosine schedule; the head stays.
    With the representations of the same images without an attribute as goals this is direct
    matching ("DirMatch"); with f(x_i) - shift of x_i's class it is class vectors in the weights.
    Images that shall stay are given with their own f(x_i).

    Args:
        images: N images, as for `extract_features`.
        goals: (N, m), finite.
        parameters: which are trained, all of the "encoder" or LayerNorms, see `layernorm_names`.
        epochs: passes over the images; lr: the highest learning rate; batch_size: images a step.
        seed: of the order.
    Raises:
        MismatchError: for goals of another shape, or not finite.
        ModelError: for an encoder without such LayerNorms, impossible settings, a diverged loss.
    Source: Kim and Do, NeurIPS 2025 (the mapping by LayerNorms, and DirMatch).
    """
    images = usable_for(classifier, images)
    goals = representations(goals, classifier.dim, "the encoder that is matched")
    if len(goals) != len(images) or not np.isfinite(goals).all():
        raise MismatchError(f"{len(images)} images need as many finite goals; got {len(goals)}")
    settings = {
        "epochs": epochs, "lr": lr, "batch_size": batch_size, "seed": seed, "clip": 1.0,
        "weight_decay": 0.0,
    }  # fmt: skip
    check_settings("match", settings)
    start = copy.deepcopy(classifier)
    start.requires_grad_(False)
    whole = parameters == "encoder"
    for name in [""] if whole else layernorm_names(start.encoder, parameters):
        start.encoder.get_submodule(name).requires_grad_(True)
    every = -(-len(images) // batch_size)

    def train(model, settings):
        pixels = PreprocessedImages(images, model.preprocess)
        device = next(model.parameters()).device
        targets = torch.from_numpy(goals).to(device, torch.float32)

        def batches():
            rng = np.random.default_rng(seed)
            while True:
                yield from zip(np.array_split(rng.permutation(len(pixels)), every))

        def loss(chosen):
            x = torch.stack([pixels[i][0] for i in chosen]).to(device)
            value = (model.encode(x) - targets[chosen]).square().sum(dim=1).mean()
            value.backward()
            return {"loss": value.item()}

        def checkpoint(step, since):
            mean = np.mean([figures["loss"] for figures in since]) if since else np.nan
            return {"epoch": step // every, "step": step, "train_loss": mean}

        options = {"every": every, "warmup": epochs * every // 10, "progress": progress}
        return fit(
            model, batches(), loss, settings, steps=epochs * every, checkpoint=checkpoint,
            desc="match", **options,
        )  # fmt: skip

    goal = hash_arrays({"goals": goals})
    given = settings | {"goals": goal}
    found = train_or_load(_VERSION, start, (images,), given, train, cache=True, read=True)
    for own, made in zip(classifier.parameters(), found.classifier.parameters(), strict=True):
        made.requires_grad_(own.requires_grad)
    return found
