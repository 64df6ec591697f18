"""classvec_lab: see, and steer, what fine-tuning did to each class of an image classifier.

Names load their module when first used, so that importing the package is quick.
"""

import importlib

_HOME = {
    "ClassCountStudy": "study",
    "ClassInterpolation": "diagnostics",
    "ClassInterpolations": "diagnostics",
    "ClassMoments": "moments",
    "ClassVectors": "vectors",
    "Classifier": "models",
    "ClassvecError": "errors",
    "CollapseHistory": "diagnostics",
    "CosineBlocks": "diagnostics",
    "CosineHead": "models",
    "CrossTaskLinearity": "diagnostics",
    "CyclicShift": "diagnostics",
    "DatasetError": "errors",
    "Experiment": "experiment",
    "Features": "features",
    "FileFormatError": "errors",
    "FineTuned": "models",
    "ImageDataset": "datasets",
    "LatentPaths": "diagnostics",
    "MismatchError": "errors",
    "ModelError": "errors",
    "NeuralCollapse": "diagnostics",
    "NotebookError": "errors",
    "Orthogonality": "diagnostics",
    "Outputs": "outputs",
    "PathOrder": "diagnostics",
    "Preprocess": "models",
    "accuracy": "diagnostics",
    "class_count_study": "study",
    "class_interpolation": "diagnostics",
    "class_interpolations": "diagnostics",
    "class_vectors": "features",
    "collapse_over_training": "diagnostics",
    "collect": "gallery",
    "confusion": "diagnostics",
    "cosine_blocks": "diagnostics",
    "cross_task_linearity": "diagnostics",
    "cyclic_shift": "diagnostics",
    "extract_features": "features",
    "feature_map": "diagnostics",
    "finetune": "models",
    "interpolate": "models",
    "latent_paths": "diagnostics",
    "load_classifier": "models",
    "load_dataset": "datasets",
    "neural_collapse": "diagnostics",
    "orthogonality": "diagnostics",
    "over_seeds": "diagnostics",
    "path_order": "diagnostics",
    "predict": "diagnostics",
    "prepare": "experiment",
    "recalibrate": "models",
    "weight_path": "diagnostics",
}
_MODULES = ("plots", "style", "weightspace", "datasets", "models", "diagnostics")

__all__ = sorted([*_HOME, *_MODULES])
__version__ = "0.1.0"


def __getattr__(name: str):
    if name in _HOME:
        value = getattr(importlib.import_module(f".{_HOME[name]}", __name__), name)
    elif name in _MODULES:
        value = importlib.import_module(f".{name}", __name__)
    else:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    globals()[name] = value
    return value


def __dir__() -> list[str]:
    return [*__all__, "__version__"]
