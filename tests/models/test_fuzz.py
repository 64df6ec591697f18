"""Cards and files of weights with anything in them: they load, or are refused in our own words.

Nothing that they hold is ever run, and memory stays within 1 GB.
"""

import contextlib
import copy
import io
import json
import os
import pickle
import re
import resource
import struct
import sys
import warnings
import zipfile
from pathlib import Path

import numpy as np
import pytest
import torch
from conftest import CLASSES, coloured, small_classifier
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from safetensors.torch import save_file
from torch import nn

from classvec_lab import (
    Classifier,
    ClassVectors,
    Edit,
    calibrate_gate,
    extract_features,
    load_classifier,
    map_edit,
)
from classvec_lab.editing.weights import Delta, MappedEdit
from classvec_lab.errors import ClassvecError, FileFormatError
from classvec_lab.files import hash_json, read_tensors, write_tensors
from classvec_lab.models.weights import read_state_dict

linux = pytest.mark.skipif(not sys.platform.startswith("linux"), reason="reads /proc")


def over(strategy, n, check):
    """Check n cases, the same at each run."""
    how = {"derandomize": True, "database": None}
    how["suppress_health_check"] = list(HealthCheck)
    settings(max_examples=n, **how)(given(strategy)(lambda made: check(made)))()


def used(what):
    """Bytes, of /proc/self/status."""
    return int(re.search(rf"{what}:\s+(\d+)", Path("/proc/self/status").read_text())[1]) << 10


@pytest.fixture(autouse=True, scope="module")
def bounded():
    """At most 1 GB more than before, by the peak of what is in memory; no address is had beyond 4."""
    if not sys.platform.startswith("linux"):
        yield
        return
    load_classifier("timm:test_resnet/random", classes=CLASSES)  # libraries are no part of it
    Path("/proc/self/clear_refs").write_text("5")  # forgets the peak
    before, limits = used("VmRSS"), resource.getrlimit(resource.RLIMIT_AS)
    resource.setrlimit(resource.RLIMIT_AS, (used("VmSize") + (4 << 30), limits[1]))
    yield
    resource.setrlimit(resource.RLIMIT_AS, limits)
    assert used("VmHWM") - before < 1 << 30


def tried(function, *arguments):
    """Whether something loads; no errors but our own."""
    with warnings.catch_warnings(), contextlib.suppress(ClassvecError, FileNotFoundError):
        warnings.simplefilter("ignore")
        function(*arguments)
        return True
    return False


# Cards

JUNK = st.recursive(
    st.none()
    | st.booleans()
    | st.integers(-9, 9)
    | st.sampled_from([10**4, 2**31, 2**63, 10**30, 10**400, -(10**9), 1e300])
    | st.floats()
    | st.text(max_size=3)
    | st.sampled_from(["mlp", "timm:vit_giant_patch14_224", "open_clip:ViT-B-32", "hf:x", "os:system"])
    | st.sampled_from(["Linear", "CosineHead", "torchvision", "timm", "head", "red", "float32"]),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(max_size=3), inner, max_size=3),
    max_leaves=5,
)  # fmt: skip


def places(value):
    """Every container and key in plain data."""
    for key in value if isinstance(value, dict) else range(len(value)):
        yield value, key
        if isinstance(value[key], dict | list):
            yield from places(value[key])


@st.composite
def changed(draw, plain):
    """Plain data with some values changed, gone or added."""
    made = copy.deepcopy(plain)
    for _ in range(draw(st.integers(1, 3))):
        if not (found := list(places(made))):
            break
        where, key = draw(st.sampled_from(found))
        how = draw(st.integers(0, 9))
        if how == 0:
            del where[key]
        elif how == 1 and isinstance(where, dict):
            where[draw(st.sampled_from(["layer", "weights", "kwargs", "x"]))] = draw(JUNK)
        elif how == 2:
            where[key] = [where[key]] * draw(st.integers(0, 9))
        else:
            where[key] = draw(JUNK)
    return made


@pytest.fixture(scope="module")
def kept(tmp_path_factory):
    """One of each thing with a card: its file, and what loads it."""
    folder, data = tmp_path_factory.mktemp("kept"), coloured()
    models = [small_classifier(seed=s) for s in (0, 1)]
    features = [extract_features(m, data, progress=False, cache=False) for m in models]
    vectors = ClassVectors.from_features(*features)
    gate = calibrate_gate(features[1], vectors, "red", score="predicted", classifier=models[1])
    mapped = map_edit(models[1], -vectors["red"], features[1])
    things = {
        "edit": ((-vectors["red"]).gated(gate), Edit.load),
        "mapped": (mapped, MappedEdit.load),
        "delta": (mapped.delta, Delta.load),
        "vectors": (vectors, ClassVectors.load),
    }
    for name, (thing, _) in things.items():
        thing.save(folder / name)
    assert all(load(folder / name) for name, (_, load) in things.items())
    return {name: (folder / name, load) for name, (_, load) in things.items()}


def cards(kept, n):
    """Cards of edits, mappings, deltas and vectors, changed and signed again."""
    loaded = []
    for path, load in kept.values():
        arrays, card = read_tensors(path)
        card.pop("checksum", None)
        strange = path.with_name("strange")

        def check(made, arrays=arrays, load=load, strange=strange):
            write_tensors(strange, arrays, {**made, "checksum": hash_json(made)})
            loaded.append(tried(load, strange))

        over(changed(card), n, check)
    return loaded


def test_cards_of_edits_and_vectors(kept):
    loaded = cards(kept, 30)
    assert 0 < sum(loaded) < len(loaded)


@pytest.fixture(scope="module")
def saved(tmp_path_factory):
    """Saved classifiers of three libraries."""
    folder, how = tmp_path_factory.mktemp("saved"), {"classes": CLASSES}
    small = {"size": 8, "hidden": [4], "dim": 3}
    made = {
        "mlp": load_classifier("mlp", model_args=small, **how),
        "timm": load_classifier("timm:test_resnet/random", **how),
        "own": small_classifier(),
    }
    return [model.save(folder / name) for name, model in made.items()]


def classifiers(saved, n):
    """Cards of classifiers, changed and signed again."""
    loaded = []
    for folder in saved:
        card = json.loads((folder / "card.json").read_text())
        arrays, header = read_tensors(folder / "weights.safetensors")
        strange = folder.with_name("strange")

        def check(made, arrays=arrays, header=header, strange=strange):
            signed = header | {"card": hash_json(made)}
            write_tensors(strange / "weights.safetensors", arrays, signed)
            (strange / "card.json").write_text(json.dumps(made))
            loaded.append(tried(Classifier.load, strange))

        over(changed(card), n, check)
    return loaded


def test_cards_of_classifiers(saved):
    loaded = classifiers(saved, 25)
    assert 0 < sum(loaded) < len(loaded)


@pytest.mark.parametrize(
    "text", ["", "[]", "null", "{", '"x"', "NaN", "[" * 100_000, '{"a":' * 9_999, "9" * 9_999, "\x00"]
)  # fmt: skip
def test_cards_that_are_none(text, tmp_path):
    (tmp_path / "card.json").write_text(text)
    with pytest.raises(FileFormatError, match=r"card\.json (is not valid JSON|should hold)"):
        Classifier.load(tmp_path)


@linux
@pytest.mark.parametrize(
    ("name", "model_args", "size"),
    [
        ("timm:vit_giant_patch14_224", {}, 8),
        ("timm:test_resnet", {"channels": [10**5] * 4}, 8),
        ("open_clip:ViT-bigG-14/random", {}, 8),
        ("open_clip:ViT-B-32/random", {"vision_cfg": {"width": 10**6, "layers": 10**6}}, 8),
        ("torchvision:vit_h_14", {}, 8),
        ("mlp", {"hidden": [10**4, 10**4]}, 8),
        ("timm:test_resnet", {}, 10**5),
    ],
)
def test_a_card_can_not_ask_for_more_than_its_file_holds(saved, tmp_path, name, model_args, size):
    card = json.loads((saved[0] / "card.json").read_text())
    card["source"] |= {"name": name, "model_args": model_args}
    card["preprocess"]["config"]["size"] = size
    arrays, header = read_tensors(saved[0] / "weights.safetensors")
    write_tensors(tmp_path / "weights.safetensors", arrays, header | {"card": hash_json(card)})
    (tmp_path / "card.json").write_text(json.dumps(card))
    before = used("VmHWM")
    with pytest.raises(ClassvecError, match=r"more weights than|4999 pixels|can't allocate"):
        Classifier.load(tmp_path)
    assert used("VmHWM") - before < 1 << 29


# Files of weights


def written(folder):
    """Small files of each kind, as bytes."""
    path = folder / "w"
    state = {"w": torch.randn(4, 3), "b": torch.zeros(4, dtype=torch.float16), "n": torch.tensor(3)}
    whole = {"model": state, "epoch": 3, "args": np.float64(1.0), "opt": {"state": {0: state}}}
    for thing in (whole, nn.Linear(3, 2), nn.DataParallel(nn.BatchNorm2d(2)).state_dict()):
        for zipped in (True, False):
            torch.save(thing, path, _use_new_zipfile_serialization=zipped)
            yield path.read_bytes()
    for protocol in (0, 2, 4, 5):
        yield pickle.dumps(nn.Linear(3, 2), protocol=protocol)
    save_file(state, path)
    yield path.read_bytes()


@st.composite
def damaged(draw, contents):
    """A file with bytes changed, numbers made huge, parts cut off, doubled or from another file."""
    made = bytearray(draw(st.sampled_from(contents)))
    for _ in range(draw(st.integers(0, 6))):
        at = draw(st.integers(0, len(made)))
        match draw(st.integers(0, 5)):
            case 0:
                made[at : at + 1] = bytes([draw(st.integers(0, 255))])
            case 1:
                made[at : at + 8] = struct.pack("<q", draw(st.integers(-(2**63), 2**63 - 1)))
            case 2:
                made[at : at + 4] = b"\xff\xff\xff\x7f"
            case 3:
                made[at:at] = made[at : at + draw(st.integers(0, 40))]
            case 4:
                del made[at : at + draw(st.integers(0, 40))]
            case 5:
                other = draw(st.sampled_from(contents))
                made[at:] = other[draw(st.integers(0, len(other))) :]
        made = made or bytearray(b"x")
    return bytes(made)


def files(folder, n):
    """How many damaged files could still be read."""
    contents, loaded = list(written(folder)), []

    def check(content):
        (folder / "w").write_bytes(content)
        loaded.append(tried(read_state_dict, folder / "w"))

    over(damaged(contents), n, check)
    return loaded


def test_damaged_files(tmp_path):
    loaded = files(tmp_path, 400)
    assert 0 < sum(loaded) < len(loaded)


def headers(folder, n):
    """Headers of safetensors with other names, formats, shapes and places, before the same numbers."""
    save_file({"w": torch.randn(4, 3), "b": torch.zeros(4)}, folder / "w")
    content, loaded = (folder / "w").read_bytes(), []
    size = struct.unpack("<Q", content[:8])[0]
    header = json.loads(content[8 : 8 + size])

    def check(made):
        text = json.dumps(made).encode()
        (folder / "w").write_bytes(struct.pack("<Q", len(text)) + text + content[8 + size :])
        loaded.append(tried(read_state_dict, folder / "w"))
        tried(read_tensors, folder / "w")

    over(changed(header), n, check)
    return loaded


def test_headers_of_safetensors(tmp_path):
    assert any(headers(tmp_path, 200))


@st.composite
def archives(draw):
    """A zip with the names of a checkpoint, whose members and sizes may be anything."""
    pickled = pickle.dumps(draw(JUNK | st.dictionaries(st.text(max_size=2), JUNK)), protocol=2)
    zeros = bytes(draw(st.sampled_from([0, 1, 10**6])))
    members = {"a/data.pkl": pickled, "a/data/0": zeros, "a/version": b"3", "a/byteorder": b"big"}
    kept = draw(st.lists(st.sampled_from(sorted(members)), min_size=1, unique=True))
    packing = draw(st.sampled_from([zipfile.ZIP_STORED, zipfile.ZIP_DEFLATED, zipfile.ZIP_BZIP2]))
    with zipfile.ZipFile(file := io.BytesIO(), "w", packing) as archive:
        for name in kept:
            archive.writestr(name, members[name])
    content = bytearray(file.getvalue())
    for sign in (b"PK\x01\x02", b"PK\x03\x04", b"PK\x05\x06"):
        if draw(st.booleans()):  # lies about sizes and places
            at = content.rfind(sign) + draw(st.integers(4, 30))
            content[at : at + 4] = struct.pack("<I", draw(st.integers(0, 2**32 - 1)))
    return bytes(content)


def bombs(folder, n):
    def check(content):
        (folder / "w").write_bytes(content)
        tried(read_state_dict, folder / "w")

    over(archives(), n, check)


def test_archives_with_any_members_and_sizes(tmp_path):
    bombs(tmp_path, 60)


# What calls something


class Calls:
    """Pickles as a call of anything."""

    def __init__(self, function, *arguments):
        self.call = function, arguments

    def __reduce__(self):
        return self.call


@st.composite
def hidden(draw, command):
    """A call of os.system somewhere in a checkpoint."""
    made = Calls(os.system, command)
    for _ in range(draw(st.integers(0, 4))):
        made = draw(
            st.sampled_from(
                [
                    lambda x: {"w": torch.ones(2), "state_dict": x},
                    lambda x: [torch.ones(1), x],
                    lambda x: (x, 3),
                    lambda x: Calls(torch._tensor._rebuild_from_type_v2, x, torch.Tensor, (), {}),
                    lambda x: Calls(torch.nn.parameter.Parameter, x),
                    lambda x: Calls(dict, [("a", x)]),
                    lambda x: nn.ParameterDict({"a": torch.ones(1)}).__dict__ | {"hook": x},
                ]
            )
        )(made)
    return made, draw(st.integers(2, 5)), draw(st.booleans()), draw(st.booleans())


def attacks(folder, n):
    marker = folder / "harmed"

    def check(made):
        thing, protocol, zipped, plain = made
        if plain:
            (folder / "w").write_bytes(pickle.dumps(thing, protocol=protocol))
        else:
            form = {"pickle_protocol": protocol, "_use_new_zipfile_serialization": zipped}
            torch.save(thing, folder / "w", **form)
        with pytest.raises(
            FileFormatError, match=r"calls posix\.system, and pickles are never run"
        ):
            read_state_dict(folder / "w")
        assert not marker.exists()

    over(hidden(f"touch {marker}"), n, check)


def test_what_calls_something_is_named_and_not_run(tmp_path):
    attacks(tmp_path, 100)


@pytest.mark.slow
def test_many_more(kept, saved, tmp_path):
    cards(kept, 500)
    classifiers(saved, 500)
    files(tmp_path, 10_000)
    headers(tmp_path, 2_000)
    bombs(tmp_path, 2_000)
    attacks(tmp_path, 1_000)
