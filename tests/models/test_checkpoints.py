"""Files of weights as people hold them: read in full, named for what they are, and never run."""

import argparse
import collections
import enum
import functools
import json
import os
import pathlib
import pickle
import struct
import subprocess
import sys
import types
import warnings
import zipfile

import numpy as np
import pytest
import torch
from safetensors.torch import save_file
from torch import nn

from classvec_lab.datasets.torchvision_repair import ensure_torchvision
from classvec_lab.errors import FileFormatError
from classvec_lab.models.weights import read_state_dict

LEFT_OUT = "left out"


def network(seed=0):
    torch.manual_seed(seed)
    return nn.Sequential(nn.Conv2d(3, 4, 3), nn.BatchNorm2d(4), nn.Linear(5, 2))


def same(a, b):
    return a.keys() == b.keys() and all(
        torch.equal(a[k], b[k].float() if b[k].is_floating_point() else b[k]) for k in a
    )


@pytest.fixture
def kept(tmp_path):
    """Save anything as torch does, and read it again."""

    def round_trip(thing, **how):
        torch.save(thing, tmp_path / "it.pt", **how)
        return read_state_dict(tmp_path / "it.pt")

    return round_trip


# What is read


@pytest.mark.parametrize("protocol", [2, 4])
@pytest.mark.parametrize("zipped", [True, False], ids=["zip", "before 1.6"])
@pytest.mark.parametrize(
    "dtype",
    [
        torch.float16,
        torch.bfloat16,
        torch.float64,
        torch.int64,
        torch.uint8,
        torch.bool,
        torch.complex64,
        torch.float8_e4m3fn,
    ],
    ids=str,
)
def test_every_number_format_is_read_as_torch_reads_it(kept, dtype, zipped, protocol):
    held = torch.arange(24).reshape(2, 3, 4).to(dtype)
    base = {
        "a": held,
        "view": held[:, 1],
        "turned": held.transpose(0, 2),
        "one": held[0, 0, 1],
        "none": held[:0],
    }
    found = kept(base, _use_new_zipfile_serialization=zipped, pickle_protocol=protocol)
    assert same(found, base)


def test_shared_storages_stay_equal_and_strides_hold(kept):
    big = torch.randn(40)
    state = {"a": big[:20].reshape(4, 5), "b": big[10:], "c": big.reshape(8, 5).T}
    assert same(kept(state), state)


def test_what_training_loops_leave_beside_the_weights_is_no_matter(kept, recwarn):
    module = network()
    rest = {
        "epoch": 3, "args": argparse.Namespace(lr=0.1), "best": np.float64(0.5), "path": pathlib.Path("x"),
        "seen": collections.Counter("abc"), "size": torch.Size([1, 2]),
        "kinds": {1, 2}, "device": torch.device("cpu"), "raw": b"\x00\xff", "log": collections.defaultdict(list, a=[1]),
        "optimizer": {"state": {0: {"step": torch.tensor(3.0), "exp_avg": torch.ones(4)}}, "param_groups": [{"lr": 0.1, "params": [0]}]},
    }  # fmt: skip
    assert same(kept({"model": module.state_dict(), **rest}), module.state_dict())
    assert not [
        w for w in recwarn if issubclass(w.category, UserWarning) and LEFT_OUT in str(w.message)
    ]


@pytest.mark.parametrize(
    "keys",
    [
        ("state_dict",),
        ("state_dict_ema",),
        ("model_ema",),
        ("ema",),
        ("net",),
        ("a", "b", "weights"),
        ("module", "model"),
    ],
    ids=".".join,
)
def test_wrappers_come_off_whatever_they_are_called(kept, keys):
    module = network()
    wrapped = module.state_dict()
    for key in reversed(keys):
        wrapped = {key: wrapped, "epoch": 1}
    assert same(kept(wrapped), module.state_dict())


def test_of_several_state_dicts_one_is_read_and_the_others_named(kept):
    plain, average = network(0).state_dict(), network(1).state_dict()
    with pytest.warns(UserWarning, match=r"left out: state_dict_ema, teacher$"):
        found = kept(
            {
                "state_dict_ema": average,
                "state_dict": plain,
                "teacher": {"a": torch.ones(2), "b": torch.ones(3)},
            }
        )
    assert same(found, plain)


PREFIXES = [
    "module.",
    "_orig_mod.",
    "module._orig_mod.",
    "_orig_mod.module.",
    "module.module.",
    "_forward_module.",
    "_fsdp_wrapped_module._orig_mod.module.",
]


@pytest.mark.parametrize("prefix", PREFIXES)
def test_what_wrappers_add_to_names_comes_off(kept, prefix):
    module = network()
    assert same(kept({prefix + k: v for k, v in module.state_dict().items()}), module.state_dict())


def test_a_part_that_was_compiled_has_its_name_again(kept):
    found = kept({"encoder._orig_mod.0.weight": torch.ones(2), "head.module.weight": torch.ones(2)})
    assert found.keys() == {"encoder.0.weight", "head.module.weight"}


def test_the_wrapper_of_torch(kept):
    module = network()
    assert same(kept({"model": nn.DataParallel(module).state_dict()}), module.state_dict())


# Networks that were pickled whole


@pytest.fixture
def their_code(monkeypatch):
    """A module of someone else's, gone when its pickles are read."""
    room = types.ModuleType("src.modeling")

    class ImageEncoder(nn.Module):
        def __init__(self):
            super().__init__()
            self.model = network()
            self.register_buffer("hidden", torch.zeros(3), persistent=False)
            ensure_torchvision()
            from torchvision import transforms

            self.val_preprocess = transforms.Compose([transforms.Resize(8), transforms.ToTensor()])
            self.cache_dir, self.act = pathlib.Path("."), torch.nn.functional.gelu

    class ClassificationHead(nn.Linear):
        def __init__(self):
            super().__init__(5, 2)
            self.normalize = True

    for kind in (ImageEncoder, ClassificationHead):
        kind.__module__, kind.__qualname__ = "src.modeling", kind.__name__
        setattr(room, kind.__name__, kind)
    monkeypatch.setitem(sys.modules, "src", types.ModuleType("src"))
    monkeypatch.setitem(sys.modules, "src.modeling", room)
    return room


def pickled(thing, path):
    path.write_bytes(pickle.dumps(thing))


@pytest.mark.parametrize(
    "write",
    [torch.save, functools.partial(torch.save, _use_new_zipfile_serialization=False), pickled],
    ids=["torch.save", "before 1.6", "pickle.dump"],
)
@pytest.mark.filterwarnings("ignore:Couldn't retrieve source:UserWarning")
def test_networks_pickled_whole_give_their_weights_and_run_nothing(
    their_code, write, tmp_path, monkeypatch
):
    torch.manual_seed(1)
    encoder, head = their_code.ImageEncoder(), their_code.ClassificationHead()
    write(encoder, tmp_path / "zeroshot.pt")
    write({"model": nn.DataParallel(head), "epoch": 2}, tmp_path / "head.pt")
    monkeypatch.delitem(sys.modules, "src.modeling")
    with pytest.warns(UserWarning, match=r"left out: src\.modeling\.ImageEncoder, torchvision"):
        found = read_state_dict(tmp_path / "zeroshot.pt")
    assert same(found, encoder.state_dict())
    with pytest.warns(UserWarning, match=r"src\.modeling\.ClassificationHead"):
        assert same(read_state_dict(tmp_path / "head.pt"), head.state_dict())


class Calls:
    """Pickles as a call of anything."""

    def __init__(self, function, *arguments):
        self.call = function, arguments

    def __reduce__(self):
        return self.call


def evil(command):
    subclass = Calls(torch._tensor._rebuild_from_type_v2, os.system, torch.Tensor, (command,), {})
    inner = pickle.dumps(Calls(os.system, command))
    return {
        "posix.system": Calls(os.system, command),
        "posix.system ": subclass,
        "posix.system  ": Calls(torch.storage._load_from_bytes, inner),
        "posix.system   ": Calls(functools.partial, os.system, command),
        "builtins.eval": Calls(eval, f"__import__('os').system({command!r})"),
        "subprocess.Popen": Calls(subprocess.Popen, command.split()),
        "builtins.getattr": Calls(getattr, "os", "system"),
        "torch.hub.load": Calls(torch.hub.load, "evil/repo", "x"),
        "torch.serialization.load": Calls(torch.load, "x.pt"),
        "setuptools._distutils": Calls(sys.modules.setdefault, "a", "b"),
    }


@pytest.mark.parametrize("protocol", [2, 4])
@pytest.mark.parametrize("name", list(evil("x"))[:-1])
def test_a_malicious_pickle_does_nothing_and_is_named(tmp_path, name, protocol):
    made = evil(f"touch {tmp_path / 'harmed'}")[name]
    state = {"w": torch.ones(2), "x": made}
    torch.save(state, tmp_path / "a.pt", pickle_protocol=protocol)
    torch.save(
        state, tmp_path / "b.pt", pickle_protocol=protocol, _use_new_zipfile_serialization=False
    )
    (tmp_path / "c.pt").write_bytes(pickle.dumps(made, protocol=protocol))
    for file in ("a.pt", "b.pt", "c.pt"):
        with pytest.raises(
            FileFormatError, match=rf"{file} calls {name.strip()}, and pickles are never run"
        ):
            read_state_dict(tmp_path / file)
    assert not (tmp_path / "harmed").exists()


def test_objects_of_others_are_left_out_by_name(kept, monkeypatch):
    room = types.ModuleType("their_tools")

    class Config(dict):
        pass

    class Result:
        def __reduce__(self):
            return Result, ("x",)

    for kind in (Config, Result):
        kind.__module__, kind.__qualname__ = "their_tools", kind.__name__
        setattr(room, kind.__name__, kind)
    monkeypatch.setitem(sys.modules, "their_tools", room)
    with pytest.warns(UserWarning, match=r"left out: their_tools\.Config, their_tools\.Result"):
        found = kept({"w": torch.ones(2), "config": Config(a=1), "result": Result.__new__(Result)})
    assert found.keys() == {"w"}


class Mode(enum.Enum):
    A, B = 1, 2


def test_plain_objects_of_python_are_no_matter(kept, recwarn):
    module = network()
    rest = {
        "a": frozenset([1]), "b": 1j, "c": range(3), "d": slice(1), "e": bytearray(b"x"),
        "seed": torch.get_rng_state(), "numpy": np.random.get_state(), "best": {"acc": np.ones(2)},
    }  # fmt: skip
    for protocol in (2, 4):
        found = kept({"model": module.state_dict(), **rest}, pickle_protocol=protocol)
        assert same(found, module.state_dict())
    assert {str(w.message).partition("left out: ")[2] for w in recwarn} <= {"", "single tensors"}
    with pytest.warns(UserWarning, match=r"left out: .*Mode"):
        kept({"model": module.state_dict(), "by mode": {Mode.A: 1, Mode.B: 2}})


def of_no_weights():
    """What holds no weights that can be read, and what is told of it."""
    module = network()
    optimizer = torch.optim.AdamW(module.parameters())
    module(torch.randn(2, 3, 7, 7)).sum().backward()
    optimizer.step()
    state = module.state_dict()
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        quantised = torch.quantize_per_tensor(torch.ones(2, 2), 0.1, 0, torch.qint8)
    return {
        "an optimizer": (optimizer.state_dict(), "no named tensors"),
        "an optimizer and more": ({"optimizer": optimizer.state_dict(), "epoch": 3}, "no named"),
        "parameters": (list(module.parameters()), "no named tensors"),
        "one tensor": (torch.ones(3), "no named tensors"),
        "arrays": ({k: v.numpy() for k, v in state.items()}, "no named tensors"),
        "quantised": (state | {"q": quantised}, r"calls torch\._utils\._rebuild_qtensor"),
        "sparse": (state | {"q": torch.eye(2).to_sparse()}, r"calls torch\..*_get_layout"),
        "no data": (state | {"q": torch.ones(2, device="meta")}, r"calls torch\..*meta_tensor"),
    }


@pytest.mark.parametrize("kind", list(of_no_weights()))
def test_what_holds_no_weights_is_told(kept, kind):
    thing, told = of_no_weights()[kind]
    with pytest.raises(FileFormatError, match=told):
        kept(thing)


# Other files


def write_zip(path, members, compression=zipfile.ZIP_STORED):
    with zipfile.ZipFile(path, "w", compression) as archive:
        for name, content in members.items():
            archive.writestr(name, content)


def odd_files(folder):
    torch.jit.save(torch.jit.script(nn.Linear(2, 2)), folder / "TorchScript")
    (folder / "Git-LFS").write_text(
        "version https://git-lfs.github.com/spec/v1\noid sha256:1\nsize 9\n"
    )
    (folder / "web page").write_text("<!DOCTYPE html><html>404</html>")
    (folder / "with a mark, web page").write_bytes(b"\xef\xbb\xbf<!doctype html>")
    (folder / "empty").write_bytes(b"")
    (folder / "HDF5").write_bytes(b"\x89HDF\r\n\x1a\n" + bytes(100))
    (folder / "ONNX").write_bytes(b"\x08\x0a\x12\x07pytorch\x1a\x052.1.0")
    (folder / "TensorFlow graph").write_bytes(b"\x08\x01\x12\x8a\x01")
    (folder / "TensorFlow Lite").write_bytes(b"\x1c\x00\x00\x00TFL3" + bytes(20))
    (folder / "JSON").write_text('{"model_type": "vit"}')
    (folder / "packed archive").write_bytes(b"\x1f\x8b\x08" + bytes(30))
    (folder / "tar, packed archive").write_bytes(b"a" * 257 + b"ustar" + bytes(300))
    np.savez(folder / "npz", a=np.ones(3))
    (folder / "npz.npz").rename(folder / "archive of NumPy arrays")
    (folder / "NumPy array").write_bytes(b"\x93NUMPY" + bytes(100))
    write_zip(folder / "Keras archive", {"config.json": "{}", "model.weights.h5": "x"})
    write_zip(folder / "zip archive, but not of weights", {"readme.txt": "x"})
    (folder / "neither safetensors").write_bytes(b"CKPT" + bytes(100))


@pytest.mark.filterwarnings("ignore:`torch.jit:DeprecationWarning")
def test_each_odd_file_is_named_for_what_it_is(tmp_path):
    odd_files(tmp_path)
    files = sorted(tmp_path.iterdir())
    assert len(files) == 17
    for path in files:
        with pytest.raises(
            FileFormatError, match=f" is (an? |part of an? )?.*{path.name.split(', ')[-1]}"
        ):
            read_state_dict(path)


def test_files_are_read_by_content_not_by_name(tmp_path):
    state = network().state_dict()
    save_file(state, tmp_path / "a.pt")
    torch.save(state, tmp_path / "b.safetensors")
    for name in ("a.pt", "b.safetensors"):
        assert same(read_state_dict(tmp_path / name), state)


def test_archives_that_unpack_to_more_than_they_are(tmp_path):
    torch.save({"w": torch.zeros(100_000)}, tmp_path / "w.pt")
    with zipfile.ZipFile(tmp_path / "w.pt") as archive:
        members = {name: archive.read(name) for name in archive.namelist()}
    write_zip(tmp_path / "bomb.pt", members, zipfile.ZIP_DEFLATED)
    with pytest.raises(FileFormatError, match="packed archive"):
        read_state_dict(tmp_path / "bomb.pt")


def claimed(old, new, folder, zipped=True):
    """A checkpoint whose pickle was changed."""
    torch.save({"w": torch.zeros(7)}, folder / "w.pt", _use_new_zipfile_serialization=zipped)
    if not zipped:
        content = (folder / "w.pt").read_bytes()
        assert old in content
        (folder / "w.pt").write_bytes(content.replace(old, new))
        return folder / "w.pt"
    with zipfile.ZipFile(folder / "w.pt") as archive:
        members = {name: archive.read(name) for name in archive.namelist()}
    assert old in members["w/data.pkl"]
    write_zip(
        folder / "w.pt",
        {n: c.replace(old, new) if n.endswith("pkl") else c for n, c in members.items()},
    )
    return folder / "w.pt"


HUGE = b"\x8a\x05" + (1 << 33).to_bytes(5, "little")  # LONG1


@pytest.mark.parametrize("zipped", [True, False])
@pytest.mark.parametrize(
    "new", [HUGE, b"J" + (10**9).to_bytes(4, "little"), b"K\x08", b"J" + b"\xff" * 4]
)
def test_more_numbers_than_the_file_holds_are_refused(tmp_path, new, zipped):
    path = claimed(b"K\x07", new, tmp_path, zipped)
    with pytest.raises(FileFormatError, match=r"claims|cut off"):
        read_state_dict(path)


def test_a_header_of_safetensors_that_claims_more_than_there_is(tmp_path):
    header = json.dumps(
        {"w": {"dtype": "F32", "shape": [10**9], "data_offsets": [0, 4 * 10**9]}}
    ).encode()
    (tmp_path / "w").write_bytes(struct.pack("<Q", len(header)) + header + bytes(8))
    with pytest.raises(FileFormatError, match="damaged"):
        read_state_dict(tmp_path / "w")
