"""Files are whole or absent, and say so when they are damaged."""

import subprocess
import sys
import threading
import time

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from hypothesis.extra import numpy as hnp

from classvec_lab.errors import FileFormatError
from classvec_lab.files import (
    atomic,
    hash_arrays,
    hash_json,
    locked,
    read_json,
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
