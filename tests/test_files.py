"""Files are whole or absent, and say so when they are damaged."""

import re
import subprocess
import sys
import threading
import time
from contextlib import contextmanager, nullcontext

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from hypothesis.extra import numpy as hnp

from classvec_lab.errors import FileFormatError
from classvec_lab.files import (
    atomic,
    cache_dir,
    file_name,
    hash_arrays,
    hash_json,
    locked,
    read_json,
    read_or_make,
    read_tensors,
    write_json,
    write_tensors,
)

ARRAYS = {
    "a": np.arange(6.0).reshape(2, 3),
    "scalar": np.float32(3.5),
    "empty": np.zeros((0, 4)),
    "flag": np.array([True, False]),
}


def test_tensors_come_back_as_they_were(tmp_path):
    write_tensors(tmp_path / "x.safetensors", ARRAYS, {"kind": "demo", "words": "naïve ✓"})
    arrays, card = read_tensors(tmp_path / "x.safetensors", kind="demo")
    assert card == {"kind": "demo", "words": "naïve ✓"}
    assert {k: (v.shape, v.dtype) for k, v in arrays.items()} == {
        k: (np.shape(v), np.asarray(v).dtype) for k, v in ARRAYS.items()
    }
    assert all(np.array_equal(arrays[k], ARRAYS[k]) for k in ARRAYS)


@pytest.mark.parametrize("keep", [0, 5, 40, 0.5, 0.999])
def test_a_truncated_file_is_named(tmp_path, keep):
    path = tmp_path / "x.safetensors"
    write_tensors(path, ARRAYS, {"kind": "demo"})
    content = path.read_bytes()
    path.write_bytes(content[: keep if isinstance(keep, int) else int(len(content) * keep)])
    with pytest.raises(FileFormatError, match=r"x\.safetensors"):
        read_tensors(path)


def test_a_flipped_bit_is_found(tmp_path):
    path = tmp_path / "x.safetensors"
    write_tensors(path, ARRAYS, {"kind": "demo"})
    content = bytearray(path.read_bytes())
    content[-3] ^= 1
    path.write_bytes(content)
    with pytest.raises(FileFormatError, match="checksum"):
        read_tensors(path)


def test_another_kind_and_foreign_files_are_refused(tmp_path):
    from safetensors.numpy import save_file

    write_tensors(tmp_path / "x.safetensors", ARRAYS, {"kind": "demo"})
    with pytest.raises(FileFormatError, match="'demo', not 'features'"):
        read_tensors(tmp_path / "x.safetensors", kind="features")
    save_file({"a": np.zeros(3)}, tmp_path / "y.safetensors")
    with pytest.raises(FileFormatError, match="no card"):
        read_tensors(tmp_path / "y.safetensors")
    with pytest.raises(FileNotFoundError):
        read_tensors(tmp_path / "absent.safetensors")


def test_an_interrupted_write_leaves_the_old_file(tmp_path):
    path = tmp_path / "x.json"
    write_json(path, {"a": 1})

    def fail():
        with atomic(path) as temporary:
            temporary.write_text("half")
            raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        fail()
    assert read_json(path) == {"a": 1}
    assert [p.name for p in tmp_path.iterdir()] == ["x.json"]


def test_an_interrupted_folder_leaves_the_old_folder(tmp_path):
    for content in ("one", "two"):
        with atomic(tmp_path / "f") as temporary:
            temporary.mkdir()
            (temporary / "a.txt").write_text(content)

    def fail():
        with atomic(tmp_path / "f") as temporary:
            temporary.mkdir()
            (temporary / "a.txt").write_text("three")
            raise RuntimeError

    with pytest.raises(RuntimeError):
        fail()
    assert (tmp_path / "f" / "a.txt").read_text() == "two"
    assert [p.name for p in tmp_path.iterdir()] == ["f"]
    with pytest.raises(OSError, match="f"):
        write_json(tmp_path / "f", {})  # a file doesn't take a folder's place
    assert (tmp_path / "f" / "a.txt").read_text() == "two"
    assert [p.name for p in tmp_path.iterdir()] == ["f"]


@pytest.mark.parametrize("text", ["", "{", "[1]", "\x00"])
def test_bad_json_is_named(tmp_path, text):
    (tmp_path / "x.json").write_text(text)
    with pytest.raises(FileFormatError, match=r"x\.json"):
        read_json(tmp_path / "x.json")


@given(
    hnp.arrays(
        np.float64,
        hnp.array_shapes(min_dims=0, max_dims=3, min_side=0, max_side=4),
        elements=st.floats(-10, 10),
    )
)
def test_hashes_see_shape_type_value_and_name(array):
    base = hash_arrays({"a": array})
    assert base == hash_arrays({"a": array.copy()})
    assert base != hash_arrays({"b": array})
    assert base != hash_arrays({"a": array.astype(np.float32)})
    assert base != hash_arrays({"a": array[None]})
    if array.size:
        assert base != hash_arrays({"a": array + 1})


def test_json_hash_ignores_the_order_of_keys():
    assert (
        hash_json({"a": 1, "b": [2]})
        == hash_json({"b": [2], "a": 1})
        != hash_json({"a": 1, "b": [3]})
    )


COUNT = """
import sys
from pathlib import Path
sys.modules["torch"] = None  # not needed
from classvec_lab.files import locked
target = Path(sys.argv[1])
for _ in range(150):
    with locked(target):
        n = int(target.read_text())
        target.write_text("")
        target.write_text(str(n + 1))
"""


def test_several_processes_keep_each_other_waiting_and_leave_no_file(tmp_path):
    target = tmp_path / "count"
    target.write_text("0")
    jobs = [
        subprocess.Popen([sys.executable, "-c", COUNT, target], stderr=subprocess.PIPE)
        for _ in range(4)
    ]
    for job in jobs:
        _, errors = job.communicate(timeout=120)
        assert job.returncode == 0, errors
    assert target.read_text() == "600"
    assert [p.name for p in tmp_path.iterdir()] == ["count"]


def test_threads_wait_too_and_the_lock_is_a_file_meanwhile(tmp_path):
    order = []

    def wait():
        with locked(tmp_path / "x"):
            order.append("second")

    thread = threading.Thread(target=wait)
    with locked(tmp_path / "x"):
        assert [p.name for p in tmp_path.iterdir()] == ["x.lock"]
        thread.start()
        time.sleep(0.2)
        order.append("first")
    thread.join(timeout=10)
    assert order == ["first", "second"]
    assert not list(tmp_path.iterdir())


@pytest.mark.parametrize("error", [RuntimeError, FileNotFoundError, KeyboardInterrupt])
def test_a_lock_is_gone_after_an_error_which_passes(tmp_path, error):
    with pytest.raises(error), locked(tmp_path / "sub" / "x"):
        raise error
    assert not list((tmp_path / "sub").iterdir())
    with locked(tmp_path / "sub" / "x"):
        pass


def test_a_lock_that_a_killed_process_left_is_taken_over(tmp_path):
    (tmp_path / "x.lock").touch()
    with locked(tmp_path / "x"):
        pass
    assert not list(tmp_path.iterdir())


def cached_sum(numbers, calls, writing=nullcontext):
    """The sum of numbers, through the cache; `calls` counts what is really added up."""

    def make():
        calls.append(numbers)
        return sum(numbers)

    def write(path, value):
        with writing():
            write_tensors(path, ARRAYS, {"kind": "sum", "sum": value})

    return read_or_make(
        "sums", "key", lambda path: read_tensors(path, kind="sum")[1]["sum"], make, write
    )


@contextmanager
def full_disk():
    """Files can't grow beyond a few bytes, as where no room is left."""
    import resource

    limits = resource.getrlimit(resource.RLIMIT_FSIZE)
    resource.setrlimit(resource.RLIMIT_FSIZE, (8, limits[1]))
    try:
        yield
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, limits)


def folder_is_a_file(folder, monkeypatch):
    folder.write_text("")


def cache_is_a_file(folder, monkeypatch):
    folder.mkdir()
    (folder / "cache").write_text("")


def nothing_can_be_made(folder, monkeypatch):
    monkeypatch.setenv("CLASSVEC_DATA", "/proc/nowhere")


def no_locks(folder, monkeypatch):
    def refuse(self, *args, **more):
        raise NotImplementedError("FileSystem does not appear to support flock")

    monkeypatch.setattr("filelock.FileLock.acquire", refuse)
    (folder.parent / "data" / "cache").mkdir(parents=True)
    (folder.parent / "data" / "cache" / "sums").write_text("")


@pytest.mark.parametrize(
    "broken", [folder_is_a_file, cache_is_a_file, nothing_can_be_made, no_locks, None]
)
def test_a_result_outlives_a_cache_that_cannot_be_written(tmp_path, monkeypatch, broken):
    if broken:
        broken(tmp_path / "data", monkeypatch)
    calls, writing = [], nullcontext if broken else full_disk
    with pytest.warns(UserWarning, match=r"can't be kept in the cache .*set CLASSVEC_DATA"):
        assert cached_sum([1, 2], calls, writing) == 3
    assert calls == [[1, 2]]
    assert not [p for p in tmp_path.rglob("*") if ".tmp" in p.name]


def test_a_cache_that_can_only_be_read_is_read(tmp_path, monkeypatch):
    calls = []
    assert cached_sum([1, 2], calls) == 3

    def refuse(self, *args, **more):
        raise PermissionError(30, "read-only file system")

    monkeypatch.setattr("filelock.FileLock.acquire", refuse)
    assert cached_sum([5], calls) == 3
    assert len(calls) == 1


@pytest.mark.parametrize("entry", ["a folder", "other numbers", "another kind", "no key", "text"])
def test_an_entry_that_cannot_be_read_is_made_again_with_a_warning(entry):
    path, calls = cache_dir("sums") / "key.safetensors", []
    path.parent.mkdir(parents=True)
    match entry:
        case "a folder":
            path.mkdir()
        case "other numbers":
            write_tensors(path, ARRAYS, {"kind": "sum"})
        case "another kind":
            write_tensors(path, ARRAYS, {"kind": "product", "sum": 7})
        case "no key":
            write_json(path, {"sum": 7})
        case "text":
            path.write_text("3")
    if entry == "a folder":  # which no file replaces, and which is no entry
        with pytest.warns(UserWarning, match="can't be kept"):
            assert cached_sum([1, 2], calls) == 3
        return
    with pytest.warns(UserWarning, match="damaged and will be made again"):
        assert cached_sum([1, 2], calls) == 3
    assert cached_sum([9], calls) == 3
    assert len(calls) == 1


def test_an_error_of_the_work_itself_is_raised():
    def fail():
        raise ZeroDivisionError

    with pytest.raises(ZeroDivisionError):
        read_or_make("sums", "key", read_json, fail, write_json)


NAMES = [
    "cat", "Cat dog", "Cat_dog", "a/b", "a\\b", "a:b", "bill_$1_to_$5", r"$\frac$", "猫", "犬", "قط",
    "😀", "😁", "👩‍👩‍👧", "", " ", ".", "..", "...", "con", "CON", "nul", "com1", "lpt9", "aux.txt", "trailing.",
    "trailing ", "-", "_", "a" * 300, "a" * 299, "猫" * 200, "e\u0301", "é", "new\nline", "tab\t", "\0", "a*b?",
    '"quoted"', "<b>", "|", "~", "$HOME", "%PATH%", "\udcff", "v1.5",
]  # fmt: skip
WINDOWS = re.compile(r'[<>:"/\\|?*\x00-\x1f]|[. ]$|^(con|prn|aux|nul|com\d|lpt\d)(\..*)?$', re.I)


def test_file_names_are_safe_everywhere_and_distinct(tmp_path):
    made = {name: file_name(name) for name in NAMES}
    assert len(set(made.values())) == len(NAMES)
    assert [m for m in made.values() if WINDOWS.search(m) or not m] == []
    assert made["cat"] == "cat"
    assert made["猫"] == "猫"
    for name in made.values():
        assert len(name.encode()) <= 120
        with atomic(tmp_path / f"{name}-12.safetensors") as temporary:
            temporary.write_text(name)
    assert len(list(tmp_path.iterdir())) == len(NAMES)


@given(st.text(max_size=40), st.text(max_size=40))
def test_file_names_follow_the_text_alone(one, other):
    assert (file_name(one) == file_name(other)) == (one == other)
    assert not WINDOWS.search(file_name(one))
