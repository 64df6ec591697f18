"""classvec_lab: see, and steer, what fine-tuning did to each class of an image classifier.

Names load their module when first used, so that importing the package is quick.
"""

import importlib

_HOME = {
    "Audit": "editing",
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
    "Delta": "editing",
    "Edit": "edits",
    "EditError": "errors",
    "Editability": "editing",
    "EditingContext": "editing",
    "Experiment": "experiment",
    "Features": "features",
    "FileFormatError": "errors",
    "FineTuned": "models",
    "ForgetStudy": "editing",
    "Gate": "gates",
    "ImageDataset": "datasets",
    "LatentPaths": "diagnostics",
    "MappedEdit": "editing",
    "MismatchError": "errors",
    "ModelError": "errors",
    "NeuralCollapse": "diagnostics",
    "NotebookError": "errors",
    "Orthogonality": "diagnostics",
    "Outputs": "outputs",
    "PanelError": "errors",
    "PathOrder": "diagnostics",
    "Preprocess": "models",
    "Readout": "editing",
    "Verdict": "editing",
    "accuracy": "diagnostics",
    "apply_deltas": "editing",
    "audit": "editing",
    "calibrate_gate": "editing",
    "choose_lambda": "editing",
    "class_count_study": "study",
    "class_interpolation": "diagnostics",
    "class_interpolations": "diagnostics",
    "class_vectors": "features",
    "collapse_over_training": "diagnostics",
    "collect": "gallery",
    "compare_gates": "editing",
    "conflicts": "editing",
    "confusion": "diagnostics",
    "confusions": "editing",
    "correct_error": "editing",
    "cosine_blocks": "diagnostics",
    "cross_task_linearity": "diagnostics",
    "cyclic_shift": "diagnostics",
    "dry_run": "editing",
    "editability": "editing",
    "exchangeability": "editing",
    "extract_features": "features",
    "feature_map": "diagnostics",
    "finetune": "models",
    "forget_in_turn": "editing",
    "forget_study": "editing",
    "gate_curve": "editing",
    "gate_report": "editing",
    "inject": "editing",
    "interpolate": "models",
    "latent_paths": "diagnostics",
    "load_classifier": "models",
    "load_dataset": "datasets",
    "map_edit": "editing",
    "neural_collapse": "diagnostics",
    "orthogonality": "diagnostics",
    "over_seeds": "diagnostics",
    "path_order": "diagnostics",
    "predict": "diagnostics",
    "prepare": "experiment",
    "recalibrate": "models",
    "retrain_without": "editing",
    "strength_curve": "editing",
    "summarise_gates": "editing",
    "unlearn": "editing",
    "verdict": "editing",
    "weight_path": "diagnostics",
}
_MODULES = ("plots", "panels", "style", "weightspace", "datasets", "models", "diagnostics", "editing")

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
