"""classvec_lab: see, and steer, what fine-tuning did to each class of an image classifier.

Names load their module when first used, so that importing the package is quick.
"""

import importlib

_HOME = {
    "Classifier": "models",
    "ClassMoments": "moments",
    "ClassVectors": "vectors",
    "ClassvecError": "errors",
    "CosineHead": "models",
    "Delta": "editing.weights",
    "Edit": "edits",
    "Experiment": "experiments",
    "Features": "features",
    "Gate": "gates",
    "Outputs": "batch.outputs",
    "audit": "editing.audit",
    "calibrate_gate": "editing",
    "choose_lambda": "editing",
    "class_interpolation": "diagnostics.linearity",
    "class_vectors": "features",
    "collapse_over_training": "diagnostics.collapse",
    "cross_task_linearity": "diagnostics.linearity",
    "editability": "experiments",
    "extract_features": "features",
    "finetune": "models",
    "forget_study": "experiments",
    "inject": "editing",
    "interpolate": "models",
    "latent_paths": "diagnostics.linearity",
    "load_classifier": "models",
    "load_dataset": "datasets",
    "map_edit": "editing.weights",
    "neural_collapse": "diagnostics.collapse",
    "orthogonality": "diagnostics.orthogonality",
    "path_order": "diagnostics.linearity",
    "prepare": "experiments",
    "retrain_without": "editing",
    "unlearn": "editing",
    "verdict": "experiments",
}
_MODULES = ("diagnostics", "editing", "panels", "plots", "weightspace")

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
