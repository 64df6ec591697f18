"""Files are whole or absent, and say so when they are damaged."""

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from hypothesis.extra import numpy as hnp

from classvec_lab.errors import FileFormatError
from classvec_lab.files import (
    atomic,
    atomic_folder,
    hash_arrays,
    hash_json,
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
        with atomic_folder(tmp_path / "f") as temporary:
            (temporary / "a.txt").write_text(content)

    def fail():
        with atomic_folder(tmp_path / "f") as temporary:
            (temporary / "a.txt").write_text("three")
            raise RuntimeError

    with pytest.raises(RuntimeError):
        fail()
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
