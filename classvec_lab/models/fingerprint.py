"""Hashes of what decides a result: weights, settings, code, and all that the code reads."""

import dis
import functools
import importlib
import io
import pickle
import re
import sys
import sysconfig
import types
import warnings
import weakref
from contextlib import suppress
from importlib import metadata, util
from pathlib import Path

import torch
from torch import nn
from torch.utils.weak import WeakTensorKeyDictionary

from ..errors import ModelError
from ..files import hash_bytes

PLAIN = (type(None), bool, int, float, complex, str, bytes, tuple, list, dict)
PARTS = {  # what there is to see of things that only hold others
    types.FunctionType: ("__code__", "__defaults__", "__kwdefaults__", "__dict__"),
    types.MethodType: ("__func__", "__self__"),
    types.CellType: ("cell_contents",),
    types.CodeType: (
        "co_code", "co_consts", "co_names", "co_varnames", "co_freevars", "co_cellvars", "co_flags",
        "co_argcount", "co_posonlyargcount", "co_kwonlyargcount", "co_exceptiontable",
    ),
    property: ("fget", "fset", "fdel"),
    classmethod: ("__func__",),
    staticmethod: ("__func__",),
    functools.cached_property: ("func",),
    type(functools.cache(len)): ("__wrapped__",),
}  # fmt: skip
OURS = __name__.partition(".")[0]
HOOKS = ("_forward_hooks", "_forward_pre_hooks", "_backward_hooks", "_backward_pre_hooks")
BOOKKEEPING = vars(nn.Module()).keys() - {"_parameters", "_buffers"}  # children come apart
SMALL = 1 << 17  # bytes of a tensor up to which all are hashed each time
ROWS, COLUMNS = 15, 1021  # of the blocks of larger ones: no length that a layer has
TOLD: set[str] = set()  # warnings given in this process
_digests = WeakTensorKeyDictionary()  # tensor to (evidence, digest)


class Unidentified(ModelError):
    """No hash can stand for a thing; the message says for which."""


def digest(**things) -> str:
    """Hash things, with the same result for what behaves alike, also in another process.

    It sees numbers, text, containers, arrays and tensors by value; networks by weights, buffers,
    attributes and classes; functions and classes by bytecode, constants, defaults and closures, and
    by the globals and modules that they read, followed further; other objects by class and state.
    Of an installed library, and of Python, name and version stand for the code. File names, line
    numbers and the order of sets don't count. What a pass changes does: a network that counts its
    calls, on itself or on its class, is another one after each.

    Args:
        things: anything, under the names by which an error should call it.
    Raises:
        Unidentified: for what can't be seen through, such as an open file, a generator, an object
            of an extension without a stable pickle, or a network with hooks.
    """
    writer = _Writer()
    return hash_bytes(writer.written(writer.named(things.items())))


def cache_key(kind: str, classifier, data, **things) -> str | None:
    """Hash what determines a result; None, said once, where something in it can't be hashed.

    Args:
        kind: what would be cached, in the plural, for the warning.
        classifier: a `Classifier`, of which what gives the representation counts.
        data: data sets, None where there is none.
        things: all else that matters.
    """
    # an object of nothing stands for what has no fingerprint, and is refused
    prints = [d if d is None else getattr(d, "fingerprint", None) or object() for d in data]
    try:
        return digest(**classifier.representation, **things, **{"data set": prints})
    except Unidentified as error:
        message = f"{kind} are not cached: {error}"
    if message not in TOLD:
        TOLD.add(message)
        warnings.warn(message, stacklevel=4)
    return None


@functools.cache
def release(top: str) -> str | None:
    """Name and version of the library, or of the Python, that has this top-level module.

    None for a notebook's code, for files of one's own, and for this package.
    """
    spec = None
    if top not in ("__main__", "__mp_main__", OURS):
        with suppress(ValueError):  # of a module made by hand
            spec = util.find_spec(top)
    if spec is None:
        return None
    place = Path(spec.origin or spec.submodule_search_locations[0])
    inside = not place.is_absolute() or place.is_relative_to(sysconfig.get_path("stdlib"))
    if inside and top in sys.stdlib_module_names:
        return f"python {sys.version.partition(' ')[0]}"
    for found in metadata.distributions():
        if place.is_relative_to(found.locate_file("")):
            files = found.read_text("RECORD") or ""
            if re.search(rf"^{re.escape(top)}[./]", files, re.MULTILINE):
                return f"{found.name} {found.version}"
    return None


def library_of(thing) -> str | None:
    """The release that a class, a module, or a function's code is of; None for one's own."""
    if isinstance(thing, types.FunctionType):
        name = thing.__globals__.get("__name__")
    else:
        name = thing.__name__ if isinstance(thing, types.ModuleType) else thing.__module__
    return release(str(name).partition(".")[0])


@functools.cache
def _reads(code: types.CodeType) -> tuple[set, set]:
    """Names of globals, and (level, name) of imports, in code and in what it holds."""
    steps = [step for step in dis.get_instructions(code) if step.opname != "EXTENDED_ARG"]
    names = {step.argval for step in steps if step.opname in ("LOAD_GLOBAL", "LOAD_NAME")}
    triples = zip(steps, steps[1:], steps[2:], strict=False)
    imports = {(a.argval, c.argval) for a, _, c in triples if c.opname == "IMPORT_NAME"}
    for inner in code.co_consts:
        if isinstance(inner, types.CodeType):
            more = _reads(inner)
            names, imports = names | more[0], imports | more[1]
    return names, imports


class _Place(str):
    """The path to a thing, written in place of its last part."""


class _Writer(pickle.Pickler):
    """Pickles, to be hashed and never read, that hold code, networks and tensors themselves."""

    def __init__(self, met=(), place=""):
        self.stream = io.BytesIO()
        super().__init__(self.stream, protocol=4)
        self.fast = True  # pickle's own memo depends on which equal texts are one object
        self.met, self.place = dict(met), place  # met: so that circles end; kept, so that ids last

    def written(self, thing) -> bytes:
        try:
            self.dump(thing)
        except Unidentified:
            raise
        except Exception as error:
            raise Unidentified(f"{self.place} can't be hashed ({error})") from error
        return self.stream.getvalue()

    def named(self, pairs) -> list:
        return [(_Place(f"{self.place}.{name}".lstrip(".")), value) for name, value in pairs]

    def persistent_id(self, thing):
        """A description, written in place of the thing; None leaves it to pickle."""
        kind = type(thing)
        if kind in PLAIN:
            return None
        if kind is _Place:
            self.place = str(thing)
            return self.place.rpartition(".")[2]
        if id(thing) in self.met:
            return f"met {self.met[id(thing)][0]}"
        self.met[id(thing)] = len(self.met), thing
        return self.described(thing)

    @functools.singledispatchmethod
    def described(self, thing):
        kind = type(thing)
        if kind in PARTS:
            return kind.__name__, *(getattr(thing, name) for name in PARTS[kind])
        if kind is object:
            raise TypeError("nothing tells it from others")
        if library_of(kind) or kind.__module__.partition(".")[0] == OURS:
            return None
        # a class of one's own may leave out of its pickle what it reads
        return kind, thing.__reduce_ex__(4), object.__getstate__(thing)

    @described.register
    def _(self, values: set | frozenset):
        alone = sorted(_Writer(self.met, self.place).written(value) for value in values)
        return type(values), alone, getattr(values, "__dict__", None)

    @described.register
    def _(self, reference: weakref.ref):
        return "reference", reference()

    @described.register
    def _(self, tensor: torch.Tensor):
        return type(tensor).__name__, str(tensor.dtype), tuple(tensor.shape), _digest(tensor)

    @described.register
    def _(self, module: nn.Module):
        state = vars(module)
        if any(state.get(name) for name in HOOKS):
            raise TypeError("it carries hooks")
        own = sorted((name, value) for name, value in state.items() if name not in BOOKKEEPING)
        return type(module), self.named([*own, *state["_modules"].items()])

    @described.register
    def _(self, module: types.ModuleType):
        own = sorted((name, value) for name, value in vars(module).items() if name[:2] != "__")
        known = library_of(module)
        return (known, module.__name__) if known else self.named(own)

    @described.register
    def _(self, cls: type):
        known, own = library_of(cls), []
        for name, member in sorted(vars(cls).items()):
            if known:  # only what was put into it from outside
                counts = isinstance(member, types.FunctionType) and not library_of(member)
            else:
                counts = name[:2] != "__" or callable(member) or type(member) in PARTS
            if counts and name != "_abc_impl":
                own.append((name, member))
        named = known and cls.__module__, cls.__qualname__
        return known, named, cls.__bases__, type(cls), self.named(own)

    @described.register
    def _(self, function: types.FunctionType):
        known, space = library_of(function), function.__globals__
        if known and function.__module__ == space["__name__"] and "<" not in function.__qualname__:
            return known, function.__module__, function.__qualname__
        names, imports = ((), ()) if known else _reads(function.__code__)
        read = [(name, space[name]) for name in sorted(names) if name in space]
        for level, name in sorted(imports):
            with suppress(ImportError):
                full = util.resolve_name("." * level + name, space.get("__package__") or "")
                read.append(
                    (full, release(full.partition(".")[0]) or importlib.import_module(full))
                )
        read += zip(function.__code__.co_freevars, function.__closure__ or (), strict=True)
        return *(getattr(function, name) for name in PARTS[type(function)]), self.named(read)


def _digest(tensor: torch.Tensor) -> str:
    """Hash of a tensor's bytes; that of a large one is kept until anything speaks for a change."""
    data = tensor.detach().resolve_conj().resolve_neg().contiguous().reshape(-1).view(torch.uint8)
    if len(data) <= SMALL:
        return hash_bytes(data.cpu().numpy().data)
    version = None if tensor.is_inference() else tensor._version
    evidence = version, tensor.data_ptr(), tensor.shape, tensor.dtype, _sums(data)
    if _digests.get(tensor, (None,))[0] != evidence:
        _digests[tensor] = evidence, hash_bytes(data.cpu().numpy().data)
    return _digests[tensor][1]


def _sums(data: torch.Tensor) -> str:
    """Hash of sums over the bytes of a tensor, which shows writes that bump no version.

    Of blocks of ROWS × COLUMNS integers the columns are summed up, and these sums again; the last
    bytes count in full. That reads the memory once, several times faster than SHA-256.
    """
    parts = [data.clone() if data.storage_offset() % 8 else data]
    while len(parts[-1]) > SMALL:
        whole = len(parts[-1]) // (8 * ROWS * COLUMNS) * 8 * ROWS * COLUMNS
        blocks, rest = parts.pop().tensor_split([whole])
        sums = blocks.view(torch.int64).view(-1, ROWS, COLUMNS).sum(dim=1)
        parts += [rest, sums.view(-1).view(torch.uint8)]
    return hash_bytes(*(part.cpu().numpy().data for part in parts))
