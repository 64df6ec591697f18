"""PyTorch's pickles, read without running anything that they ask for.

Tensors and plain containers are built. An object of any other class, OrderedDict too, is replaced
by a `Holder` of its items and state, and a call of anything else is refused by name. No more
memory is taken than a few times what the file holds.
"""

import _compat_pickle
import io
import math
import pickle
import sys
import zipfile
from pathlib import Path

import torch

MAGIC = 0x1950A86A20F9469CFC6C  # begins what torch.save wrote before PyTorch 1.6
# of these a checkpoint may hold objects, made by any call, that tell nothing
HARMLESS = (
    *("argparse.", "collections.", "datetime.", "decimal.", "functools.", "pathlib."),
    *("builtins.list", "builtins.dict", "builtins.int", "builtins.float", "builtins.slice"),
    *("builtins.complex", "builtins.range", "builtins.xrange", "builtins.bytearray"),
    *("builtins.frozenset", "torch.device"),
)
NUMPY = ("numpy.dtype", "numpy.core.multiarray.", "numpy._core.multiarray.")


class Refused(Exception):
    """A pickle calls what is never run; the message is its name."""


class _Kind(type):
    def __call__(cls, *args, **kwargs):
        """Stand for an object made by a call: of a class, by its capital, never of a function."""
        if not (cls.__name__[:1].isupper() or cls.origin.startswith(HARMLESS + NUMPY)):
            raise Refused(cls.origin)
        return cls.__new__(cls)


class Holder(dict, metaclass=_Kind):
    """Stands for an object whose class is not built, and holds its items.

    `origin` is the class's name, `state` what would have become its attributes.
    """

    origin, state = "", {}
    __hash__ = object.__hash__  # it may be a key

    def __call__(self, *_, **__):
        raise Refused(self.origin)

    def append(self, *_):
        """Take an item of what would have been a list, a queue or a set, and drop it."""

    extend = add = append


class Reader(pickle._Unpickler):  # in Python, for that in C sizes its memo as a file says
    """Reads one file; `foreign` are the names of classes that it didn't build.

    Args:
        file: opened for bytes.
        size: of the whole file, bytes.
        records: gives a storage's bytes by its key; None where they follow the pickle.
    """

    def __init__(self, file, size, records=None):
        super().__init__(file)
        self.file, self.size, self.records = file, size, records
        self.storages, self.taken, self.foreign = {}, 0, set()
        self.known = {
            **{f"torch._utils._rebuild_tensor{v}": self.tensor for v in ("", "_v2", "_v3")},
            "torch._utils._rebuild_parameter": lambda value, *_: value,
            "torch._utils._rebuild_parameter_with_state": lambda value, *_: value,
            "torch._tensor._rebuild_from_type_v2": lambda make, kind, given, _: make(*given),
            "torch.storage._load_from_bytes": lambda b: Reader(io.BytesIO(b), len(b)).stream(),
            "_codecs.encode": lambda text, *_: text.encode("latin1"),
            "builtins.set": set,
        }

    def load(self):
        """Read one pickle; a file may hold several, none of which knows another's objects."""
        self.memo = {}
        return super().load()

    def find_class(self, module, name):
        """Find what may be called, else a stand-in; raises Refused for Python's own functions."""
        full = f"{_compat_pickle.IMPORT_MAPPING.get(module, module)}.{name}"
        root = full.partition(".")[0]
        if full in self.known:
            return self.known[full]
        if root == "torch" and isinstance(getattr(torch, name, None), torch.dtype):
            return getattr(torch, name)
        if root == "torch" and name.endswith("Storage"):
            name = name.replace("Untyped", "Byte")
            return torch.serialization.StorageType(name).dtype
        if root in sys.stdlib_module_names and not full.startswith(HARMLESS):
            raise Refused(full)
        if not full.startswith((*HARMLESS, "torch.", "numpy.")):
            self.foreign.add(full)
        return _Kind(name, (Holder,), {"origin": full})

    def take(self, amount):
        """Count numbers or bytes that are made; raises ValueError beyond what the file holds."""
        self.taken += amount
        if not 0 <= amount <= self.taken <= 5 * self.size + 1_000_000:
            raise ValueError(f"it claims {amount:,} numbers or bytes more than it holds")

    def persistent_load(self, pid):
        """Give a storage, or the class that is kept beside its source code."""
        if pid[0] == "module":
            return pid[1]
        _, dtype, key, _, count = pid[:5]
        length = count * dtype.itemsize
        if key not in self.storages:
            self.take(length)  # where it follows the pickle it is filled later
            self.storages[key] = _bytes(self.records(key) if self.records else bytes(length))
        return self.storages[key][:length].view(dtype)

    def tensor(self, storage, offset, size, stride, *more):
        """Make a tensor that lies inside its storage."""
        dtype = next((item for item in more if isinstance(item, torch.dtype)), storage.dtype)
        flat, count = storage.view(dtype), math.prod(size)
        self.take(count)
        last = offset + sum((n - 1) * step for n, step in zip(size, stride, strict=True))
        if min(offset, *size, *stride, 0) < 0 or (count and last >= len(flat)):
            raise ValueError(f"it claims shape {tuple(size)} for {len(flat):,} numbers")
        return flat.as_strided(size, stride, offset)

    def load_build(self):
        """Give a stand-in its state; nothing else takes one."""
        state, made = self.stack.pop(), self.stack[-1]
        if not isinstance(made, Holder):
            raise ValueError(f"it sets the state of a {type(made).__name__}")
        made.state = state if isinstance(state, dict) else {}

    dispatch = {**pickle._Unpickler.dispatch, pickle.BUILD[0]: load_build}  # noqa: RUF012
    dispatch.pop(pickle.BYTEARRAY8[0])  # takes the memory first and reads then

    def stream(self):
        """What a pickle holds, or what torch.save wrote before PyTorch 1.6."""
        found = self.load()
        if type(found) is int and found == MAGIC:
            _, _, found, keys = (self.load() for _ in range(4))
            for key in keys:
                data = self.storages[key]
                content = self.file.read(8 + len(data))[8:]
                if len(content) < len(data):
                    raise ValueError("it is cut off")
                data.copy_(_bytes(content))
        return found


def read_pickled(path: Path, zipped: bool) -> tuple[object, set[str]]:
    """What torch.save or pickle wrote, and the names of classes whose objects were not built.

    Args:
        path: the file.
        zipped: whether it is a zip archive.
    Raises:
        Refused: where it calls anything but what makes tensors and plain containers.
        Exception: of many kinds, where it is damaged.
    """
    size = path.stat().st_size
    if not zipped:
        reader = Reader(io.BytesIO(path.read_bytes()), size)
        return reader.stream(), reader.foreign
    with zipfile.ZipFile(path) as file:
        name = next(name for name in file.namelist() if name.endswith("data.pkl"))
        folder = name.removesuffix(".pkl")
        reader = Reader(io.BytesIO(file.read(name)), size, lambda key: file.read(f"{folder}/{key}"))
        return reader.load(), reader.foreign


def _bytes(content):
    return torch.frombuffer(bytearray(content or b"0"), dtype=torch.uint8)[: len(content)]
