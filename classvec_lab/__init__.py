"""classvec_lab: see, and steer, what fine-tuning did to each class of an image classifier.

Names load their module when first used, so that importing the package is quick.
"""

import importlib

_ROOMS = {  # and the names that are loaded from them
    "batch.outputs": "Outputs",
    "datasets": "load_dataset",
    "diagnostics.collapse": "collapse_over_training neural_collapse",
    "diagnostics.linearity": "class_interpolation cross_task_linearity latent_paths path_order",
    "diagnostics.orthogonality": "orthogonality",
    "editing": "calibrate_gate choose_lambda inject retrain_without unlearn",
    "editing.audit": "audit",
    "editing.weights": "Delta map_edit",
    "edits": "Edit",
    "errors": "ClassvecError",
    "experiments": "Experiment editability forget_study prepare verdict",
    "features": "Features class_vectors extract_features",
    "gates": "Gate",
    "models": "Classifier CosineHead finetune interpolate load_classifier",
    "moments": "ClassMoments",
    "vectors": "ClassVectors",
}
_HOME = {name: room for room, names in _ROOMS.items() for name in names.split()}
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
