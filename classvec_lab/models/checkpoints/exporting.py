"""`export`: an edited classifier as a file that other programs run or load without this package."""

import json
import warnings
from dataclasses import asdict
from pathlib import Path

import torch
from PIL import Image

from ...checks import one_of
from ...errors import ModelError
from ...files import atomic
from ..blocks import evaluating
from ..cutting import state_dict_as_loaded
from ..preprocess import Preprocess

INPUT, OUTPUT = "images", "logits"


def export(classifier, path: str | Path) -> Path:
    """Write a classifier, edited or not, in the format that the file's name ends in.

    ".onnx" and ".pt2" (`torch.export`) hold the whole network with all edits and gates inside: from
    preprocessed images (N, 3, H, W), float32, any N, to logits (N, C). ".pt" and ".safetensors"
    hold the weights, see `state_dict_as_loaded`, for code that builds the network itself. All but
    ".pt" hold class names and preprocessing, as JSON in the metadata "classvec_lab".

    Args:
        classifier: any; it stays as it is.
        path: where to; an older file is replaced once the new one is whole.
    Raises:
        ModelError: for another ending, a network that can't be traced, or, of weights, an edit that
            acts behind the encoder.
    """
    path = Path(path)
    writers = {".onnx": _onnx, ".pt2": _pt2, ".pt": _pt, ".safetensors": _safetensors}
    write = writers[one_of(path.suffix, writers, "ending of an export", ModelError)]
    plain = isinstance(classifier.preprocess, Preprocess)
    card = {
        "classes": list(classifier.classes),
        "preprocess": asdict(classifier.preprocess) if plain else None,
    }
    with (
        atomic(path) as temporary,
        evaluating(classifier),
        torch.no_grad(),
        warnings.catch_warnings(),
    ):
        warnings.simplefilter("ignore")  # of torch, about torch
        write(classifier, temporary, json.dumps(card))
    return path


def _traced(classifier) -> torch.export.ExportedProgram:
    image = classifier.preprocess(Image.new("RGB", (64, 64), "grey"))
    like = next(classifier.parameters(), image)
    images, n = image.to(like).expand(2, -1, -1, -1).contiguous(), torch.export.Dim("n")
    try:
        return torch.export.export(classifier, (images,), dynamic_shapes=({0: n},))
    except Exception as error:  # of many kinds, from inside the compiler
        name = type(classifier.encoder).__name__
        raise ModelError(f"torch.export can't trace {name}: {error}") from error


def _onnx(classifier, path: Path, card: str) -> None:
    try:
        import onnx
        import onnxscript  # noqa: F401, which torch imports
    except ImportError as error:
        needed = "pip install 'classvec_lab[export]'"
        raise ModelError(f".onnx needs onnx and onnxscript: {needed}") from error
    names = {"input_names": [INPUT], "output_names": [OUTPUT]}
    program = torch.onnx.export(_traced(classifier), dynamo=True, verbose=False, **names)
    model = program.model_proto
    onnx.helper.set_model_props(model, {"classvec_lab": card})
    onnx.save(model, path)


def _pt2(classifier, path: Path, card: str) -> None:
    with path.open("wb") as file:
        torch.export.save(_traced(classifier), file, extra_files={"classvec_lab": card})


def _pt(classifier, path: Path, card: str) -> None:
    torch.save(state_dict_as_loaded(classifier), path)


def _safetensors(classifier, path: Path, card: str) -> None:
    from safetensors.torch import save_file

    state = {name: t.contiguous() for name, t in state_dict_as_loaded(classifier).items()}
    save_file(state, path, {"classvec_lab": card})
