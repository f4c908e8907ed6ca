"""Every way in which a packed file can be wrong has its sentence, before anything reaches a device."""

import dataclasses
import json

import jax
import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from sparsity.kernels import packed_files, tensors
from sparsity.kernels.columns import columns_of, from_array
from sparsity.kernels.layout import from_mask
from sparsity.kernels.packed import Reading
from tests.kernels.cases import holed


def file(**changes):
    """A file's arrays and its text, some of them exchanged."""
    w, _ = holed(7, Reading((32, 24)), (8, 8), 0.6)
    arrays, texts = tensors.decode(packed_files.encode({"w": from_array(w, (8, 8))}))
    text = json.loads(texts["sparsity"])
    for key, change in changes.items():
        if key in arrays or f"w:{key}" in arrays:
            arrays[f"w:{key}"] = change(arrays[f"w:{key}"].copy())
        elif key in text:
            text[key] = change(text[key])
        else:
            text["matrices"]["w"][key] = change(text["matrices"]["w"][key])
    return tensors.encode(
        {k: a for k, a in arrays.items() if a is not None}, {"sparsity": json.dumps(text)}
    )


def put(place, value):
    def change(array):
        array[place] = value
        return array

    return change


BAD_PARTS = {
    "a row out of range": ({"rows": put(0, 4)}, r"'w' .* rows hold 4, outside a grid of \(4, 3\)"),
    "a negative row": ({"rows": put(-1, -2)}, "rows hold -2"),
    "unsorted": (
        {"rows": lambda r: r[::-1]},
        r"blocks \d and \d are not sorted by \(column, row\)",
    ),
    "twice": ({"rows": lambda r: np.repeat(r[:1], len(r))}, "not sorted"),
    "float rows": ({"rows": lambda r: r.astype("f4")}, "rows are float32"),
    "too few rows": ({"rows": lambda r: r[1:]}, r"rows are int32\[\d\], not \d integers"),
    "no rows": ({"rows": lambda r: None}, "'w:rows' is described and not there"),
    "falling starts": ({"starts": put(1, 99)}, "starts do not rise"),
    "more live than blocks": ({"starts": put(-1, 99)}, "starts do not rise from 0 to the"),
    "starts of another": ({"starts": lambda s: s[1:]}, "starts are int32"),
    "blocks cut": ({"blocks": lambda b: b[:-1]}, "'w' has blocks .* and is described as"),
    "another dtype": ({"blocks": lambda b: b.astype("f2")}, "'w' has blocks float16"),
    "integers": (
        {"blocks": lambda b: b.astype("i1"), "dtype": lambda d: "int8"},
        "the blocks are int8.* no product",
    ),
    "another shape": ({"shape": lambda s: [32, 240]}, "starts are"),
    "a lower shape": ({"shape": lambda s: [16, 24]}, "outside a grid of"),
    "an axis twice": ({"cols": lambda c: [0]}, "has to name each axis"),
    "a later format": ({"format": lambda f: 2}, "format 2; this version reads format 1"),
    "no matrices": ({"matrices": lambda m: []}, "not of a packed model"),
}


@pytest.mark.parametrize("case", BAD_PARTS)
def test_a_bad_file_is_refused_in_words(case, tmp_path):
    changes, words = BAD_PARTS[case]
    packed_files.decode(file())
    (tmp_path / "w.safetensors").write_bytes(file(**changes))
    with pytest.raises(ValueError, match=rf"w.safetensors: .*{words}"):
        packed_files.load(tmp_path / "w.safetensors")


GOOD = file()


@given(st.integers(0, len(GOOD) - 1))
def test_a_file_that_is_cut_anywhere_is_refused(size):
    with pytest.raises(ValueError, match="cut short|no safetensors file"):
        packed_files.decode(GOOD[:size])


def header(**changes):
    """A file of two arrays whose header says something else of the second."""
    raw = tensors.encode({"a": np.zeros(4, "f4"), "b": np.zeros(2, "f4")})
    size = int.from_bytes(raw[:8], "little")
    said = json.loads(raw[8 : 8 + size])
    said["b"] = {**said["b"], **changes}
    text = json.dumps(said).encode()
    return len(text).to_bytes(8, "little") + text + raw[8 + size :]


BAD_HEADERS = {
    "too long": (GOOD + b"x", "too long"),
    "a pickle": (b"\x80\x04\x95" + bytes(50), "no safetensors file"),
    "a list": ((2).to_bytes(8, "little") + b"[]", "not of a packed model|safetensors file"),
    "no description": (tensors.encode({"a": np.zeros(3, "f4")}), "not one of a packed model"),
    "an overlap": (header(data_offsets=[8, 16]), "overlap or leave a gap"),
    "a gap": (header(shape=[1], data_offsets=[20, 24]), "overlap or leave a gap at byte 16"),
    "beyond the end": (header(shape=[9], data_offsets=[16, 52]), "24 bytes of numbers, 52 named"),
    "another dtype": (header(dtype="F64"), r"8 bytes do not hold \(2,\) of float64"),
    "an unknown dtype": (header(dtype="F4"), "dtype 'F4' is none of BOOL"),
    "a negative size": (header(shape=[-2]), "holds what is no size"),
    "no offsets": (header(data_offsets=None), "not that of a safetensors file"),
}


@pytest.mark.parametrize("case", BAD_HEADERS)
def test_a_bad_header_is_refused_in_words(case):
    raw, words = BAD_HEADERS[case]
    with pytest.raises(ValueError, match=words):
        packed_files.decode(raw)


def test_a_file_that_is_not_there_is_named(tmp_path):
    with pytest.raises(ValueError, match=r"none.safetensors can't be read: No such file"):
        packed_files.load(tmp_path / "none.safetensors")


W = np.ones((16, 24), "f4")
UNREAD = {
    "a mask of another grid": (
        {"mask": np.ones((3, 2))},
        r"a mask of \(3, 2\) blocks does not fit",
    ),
    "a block of no size": ({"block": (8, 0)}, "block is two positive integers"),
    "another shape": ({"reading": Reading((24, 16))}, r"an array of \(16, 24\) is not read as"),
    "an axis that is not read": ({"reading": Reading((16, 24), (0,), ())}, "name each axis"),
    "integers": ({"array": W.astype("i4")}, "the blocks are int32"),
}


@pytest.mark.parametrize("case", UNREAD)
def test_an_array_that_does_not_fit_is_refused_in_words(case):
    changes, words = UNREAD[case]
    with pytest.raises(ValueError, match=words):
        columns_of(**{"array": W, "block": (8, 8)} | changes)


def crowded(mask):
    """The layout of a traced mask with more live blocks than room."""
    return jax.jit(lambda m: from_mask(m, (16, 24), (8, 8), 2))(mask)


def test_a_packed_matrix_that_does_not_hold_together_is_refused_in_words():
    whole = from_array(W, (8, 8))
    few, other = crowded(np.ones((2, 3), bool)), from_array(W.T, (8, 8)).layout
    for changes, words in (
        ({"blocks": whole.blocks[:2], "layout": few}, "6 live blocks and room for 2"),
        ({"layout": other}, r"a layout of \(24, 16\) does not fit matrices of \(16, 24\)"),
        (
            {"blocks": whole.blocks[:5]},
            r"blocks of shape \(5, 8, 8\) do not fit the layout's, \(6, 8",
        ),
    ):
        with pytest.raises(ValueError, match=words):
            packed_files.encode({"w": dataclasses.replace(whole, **changes)})
    with pytest.raises(ValueError, match="do not fit the layout"):
        dataclasses.replace(whole, blocks=whole.blocks[:5]).matmul(W.T)


def test_what_a_file_cannot_hold_is_refused_and_changes_nothing(tmp_path):
    path = tmp_path / "w.safetensors"
    packed_files.save(path, {"w": from_array(W, (8, 8))})
    before = path.read_bytes()
    for weights, words in (
        ({"w": np.ones(2, complex)}, "'w' is complex128"),
        ({"w:rows": W}, "the name 'w:rows' is that of a part"),
    ):
        with pytest.raises(ValueError, match=words):
            packed_files.save(path, weights)
    assert [p.read_bytes() for p in tmp_path.iterdir()] == [before]
