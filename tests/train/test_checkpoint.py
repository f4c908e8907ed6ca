"""Laws of checkpoints: the same bits come back, or the one before, or an error in words."""

import contextlib
import json
import pathlib
import resource
import shutil
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
import optax
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from jax.sharding import NamedSharding, PartitionSpec

from sparsity.contract import State
from sparsity.families import Pruned
from sparsity.train import packing, sums
from sparsity.train.checkpoint import FORMAT, latest, restore, save
from sparsity.train.shelf import recover
from tests import disk


class Run(NamedTuple):
    state: Any
    optimizer: Any
    mutable: Any


def run(seed: int, width: int = 5) -> Run:
    """A small state of every kind of leaf that a run has."""
    rng = np.random.default_rng(seed)
    weights = {"kernel": rng.normal(size=(3, width)), "bias": rng.normal(size=width)}
    params = {"params": {"conv1": jax.tree.map(jnp.float32, weights)}}
    masks = {"params/conv1/kernel": jnp.asarray(rng.random((2, 2)) > 0.5)}
    memory = Pruned(masks, jax.random.key_data(jax.random.key(seed)))
    optimizer = optax.chain(optax.clip(1.0), optax.adamw(1e-3)).init(params)
    half = jnp.asarray(rng.normal(size=(2, 3)), jnp.bfloat16)
    return Run(State(params, (), memory), optimizer, {"stats": half, "empty": jnp.zeros((0, 4))})


def same_bits(one: Any, other: Any) -> bool:
    """Whether two trees have the same structure, and leaves of the same type, dtype, shape and bits."""
    if jax.tree.structure(one) != jax.tree.structure(other):
        return False
    pairs = zip(jax.tree.leaves(one), jax.tree.leaves(other), strict=True)
    return all(
        type(a) is type(b)
        and (np.asarray(a).dtype, np.shape(a)) == (np.asarray(b).dtype, np.shape(b))
        and np.asarray(a).tobytes() == np.asarray(b).tobytes()
        for a, b in pairs
    )


def contents(folder: pathlib.Path) -> dict[str, bytes]:
    files = (path for path in folder.rglob("*") if path.is_file())
    return {str(path.relative_to(folder)): path.read_bytes() for path in files}


def arrays(dtype: str, shape: tuple[int, ...]) -> st.SearchStrategy:
    """Arrays of any bits, not-a-numbers with their payload and -0 among them."""
    size = int(np.prod(shape)) * jnp.dtype(dtype).itemsize

    def array(raw: bytes) -> Any:
        values = np.frombuffer(raw, np.uint8)
        values = (values & 1).astype(bool) if dtype == "bool" else values.view(jnp.dtype(dtype))
        values = values.reshape(shape)
        return values if "64" in dtype else jnp.asarray(values)

    return st.binary(min_size=size, max_size=size).map(array)


LEAVES = st.one_of(
    st.sampled_from(["float32", "bfloat16", "float16", "int32", "uint32", "uint8", "bool", "int64"])
    .flatmap(lambda d: st.sampled_from([(), (3,), (2, 3), (0, 4), (1, 1, 2)]).map(lambda s: (d, s)))
    .flatmap(lambda kind: arrays(*kind)),
    st.sampled_from([0, 2**40, -1.5, True, np.float32(3), (), None]),
)
KEYS = st.sampled_from(["kernel", "a b", "ü.x", "0", "..", "zarr.json"])
TREES = st.recursive(
    LEAVES,
    lambda inner: st.one_of(
        st.dictionaries(KEYS, inner, max_size=3),
        st.lists(inner, max_size=3),
        st.tuples(inner, inner).map(lambda pair: State(*pair)),
    ),
    max_leaves=6,
)


@settings(max_examples=12)
@given(tree=TREES)
def test_any_tree_comes_back_bit_by_bit(tree, tmp_path_factory):
    folder = tmp_path_factory.mktemp("any")
    extra = {"step": 3, "seen": [1, 2.5, None], "name": "ü"}
    path = save(folder, 3, tree, extra)
    restored, data, notes = restore(folder, tree)
    assert same_bits(restored, tree)
    assert (data, notes, path, latest(folder)) == (extra, [], folder / "3", 3)


@pytest.mark.parametrize("width", [5, packing.SMALL // 12 + 1])
def test_a_state_comes_back_bit_by_bit_whether_its_arrays_are_packed_or_not(tmp_path, width):
    saved = run(0, width)
    kernel = packing.describe(saved)["state/params/params/conv1/kernel"]
    assert (kernel.place == "float32") == (width == 5)
    save(tmp_path, 0, saved, {})
    assert same_bits(restore(tmp_path, run(1, width))[0], saved)
    shapes = jax.tree.map(lambda x: jax.ShapeDtypeStruct(x.shape, x.dtype), saved)
    assert same_bits(restore(tmp_path, shapes)[0], saved)


def test_arrays_come_back_with_the_shardings_of_like(tmp_path):
    auto = jax.make_mesh((8,), ("d",), axis_types=(jax.sharding.AxisType.Auto,))
    explicit = jax.make_mesh((2, 4), ("a", "b"), axis_types=(jax.sharding.AxisType.Explicit,) * 2)
    rows = NamedSharding(auto, PartitionSpec("d"))
    everywhere = NamedSharding(auto, PartitionSpec())
    cells = NamedSharding(explicit, PartitionSpec("b", "a"))
    whole = np.arange(128, dtype=np.float32).reshape(16, 8)
    saved = {
        "rows": jax.device_put(whole, rows),
        "everywhere": jax.device_put(whole, everywhere),
        "cells": jax.device_put(whole, cells),
        "free": jnp.float32(1),
        "pinned": jax.device_put(np.float32(2), jax.devices()[3]),
    }
    save(tmp_path, 0, saved, {})
    restored = restore(tmp_path, saved)[0]
    assert same_bits(restored, saved)
    for name, leaf in saved.items():
        assert restored[name].sharding == leaf.sharding, name
        assert restored[name].committed == leaf.committed, name
    # The shardings of a checkpoint are no part of it: another number of devices may resume.
    moved = {**saved, "rows": saved["everywhere"], "everywhere": saved["rows"], "cells": whole}
    again = restore(tmp_path, moved)[0]
    assert again["rows"].sharding == everywhere and again["everywhere"].sharding == rows
    assert isinstance(again["cells"], np.ndarray)


def flip(path: pathlib.Path) -> None:
    raw = bytearray(path.read_bytes()) or bytearray(b"\0")
    raw[len(raw) // 2] ^= 4
    path.write_bytes(raw)


def cut(path: pathlib.Path) -> None:
    raw = path.read_bytes()
    path.write_bytes(raw[:-1] if raw else b"\0")


DAMAGES = {"flipped": flip, "cut": cut, "deleted": lambda path: path.unlink()}


@pytest.mark.parametrize("kind", DAMAGES)
def test_damage_to_any_file_is_seen_and_the_checkpoint_before_is_used(tmp_path, kind):
    save(tmp_path, 10, run(0), {"at": 10})
    save(tmp_path, 20, run(1), {"at": 20})
    names = list(contents(tmp_path / "20"))
    assert {"sha256.json", "tree.json", "extra.json"} < set(names) and len(names) > 8
    for name in names:
        path = tmp_path / "20" / name
        before = path.read_bytes()
        DAMAGES[kind](path)
        restored, extra, notes = restore(tmp_path, run(2))
        assert same_bits(restored, run(0)) and extra == {"at": 10}, name
        assert len(notes) == 1 and "step 20" in notes[0] and path.name in notes[0]
        path.write_bytes(before)
    assert restore(tmp_path, run(2))[1:] == ({"at": 20}, [])


def test_a_file_that_was_not_saved_is_damage(tmp_path):
    save(tmp_path, 1, run(0), {})
    save(tmp_path, 2, run(0), {})
    (tmp_path / "2" / "arrays" / "more").write_text("")
    (note,) = restore(tmp_path, run(0))[2]
    assert "arrays/more is not a file that was saved" in note


def test_a_flip_in_any_byte_of_the_sums_is_seen(tmp_path):
    (tmp_path / "data").write_bytes(b"data")
    sums.seal(tmp_path, 1)
    whole = (tmp_path / sums.SUMS).read_bytes()
    for place, byte in enumerate(whole):
        flipped = byte ^ 1 << place % 8
        (tmp_path / sums.SUMS).write_bytes(whole[:place] + bytes([flipped]) + whole[place + 1 :])
        assert sums.damage(tmp_path), (place, flipped)


def test_with_no_good_checkpoint_the_error_says_what_is_wrong_with_each(tmp_path):
    with pytest.raises(ValueError, match="no checkpoint"):
        restore(tmp_path / "nowhere", run(0))
    assert latest(tmp_path / "nowhere") is None
    save(tmp_path, 1, run(0), {})
    save(tmp_path, 2, run(0), {})
    flip(tmp_path / "1" / "tree.json")
    cut(tmp_path / "2" / "extra.json")
    with pytest.raises(ValueError, match="(?s)step 2.*extra.json holds.*step 1.*tree.json has"):
        restore(tmp_path, run(0))
    # A step that is asked for is not exchanged for another.
    with pytest.raises(ValueError, match="step 2"):
        restore(tmp_path, run(0), step=2)
    with pytest.raises(ValueError, match=r"no checkpoint of step 3 .* \[1, 2\]"):
        restore(tmp_path, run(0), step=3)


@pytest.mark.parametrize(
    ("change", "line"),
    [
        (lambda p: {**p, "kernel": p["kernel"][:2]}, r"expected float32\[2, 5\], found float32\[3"),
        (
            lambda p: {**p, "bias": p["bias"].astype(jnp.bfloat16)},
            r"expected bfloat16\[5\], found f",
        ),
        (lambda p: {**p, "more": p["bias"]}, r"more: expected float32\[5\], found nothing"),
        (lambda p: {"bias": p["bias"]}, r"kernel: expected nothing, found float32\[3, 5\]"),
    ],
)
def test_a_checkpoint_of_another_model_is_refused_with_the_difference(tmp_path, change, line):
    params = {"kernel": jnp.ones((3, 5)), "bias": jnp.ones(5)}
    save(tmp_path, 1, params, {})
    with pytest.raises(ValueError, match=rf"(?s)of another model:\n.*{line}"):
        restore(tmp_path, change(params))


def test_a_later_format_is_refused_in_words_and_not_passed_over(tmp_path):
    save(tmp_path, 1, run(0), {})
    save(tmp_path, 2, run(0), {})
    sums.seal(tmp_path / "2", FORMAT + 1)
    with pytest.raises(ValueError, match=f"format {FORMAT + 1} .* newer version"):
        restore(tmp_path, run(0))
    assert restore(tmp_path, run(0), step=1)[2] == []


def test_a_save_that_was_killed_leaves_the_others_as_they_were(tmp_path):
    save(tmp_path, 1, run(0), {})
    # Killed while it wrote: whatever part is there has no final name.
    shutil.copytree(tmp_path / "1", tmp_path / "2.tmp")
    (tmp_path / "2.tmp" / "sha256.json").unlink()
    assert latest(tmp_path) == 1 and restore(tmp_path, run(1))[2] == []
    # Killed while it put a step in the place of its forerunner.
    save(tmp_path, 3, run(0), {})
    (tmp_path / "3").rename(tmp_path / "3.old.tmp")
    assert restore(tmp_path, run(1))[2] == [] and latest(tmp_path) == 1
    recover(tmp_path)
    assert sorted(path.name for path in tmp_path.iterdir()) == ["1", "3"]
    assert same_bits(restore(tmp_path, run(1))[0], run(0)) and latest(tmp_path) == 3
    # A save recovers by itself.
    shutil.copytree(tmp_path / "1", tmp_path / "2.tmp")
    (tmp_path / "3").rename(tmp_path / "3.old.tmp")
    save(tmp_path, 4, run(1), {}, keep=9)
    assert sorted(path.name for path in tmp_path.iterdir()) == ["1", "3", "4"]
    recover(tmp_path / "nowhere")


@pytest.fixture
def events(monkeypatch):
    """What is brought to the disk and what is renamed, in order."""
    return disk.events(monkeypatch, "rename")


def test_a_power_cut_finds_all_of_a_checkpoint_on_the_disk_or_none_of_it(tmp_path, events):
    folder = tmp_path / "new" / "checkpoints"
    for step in (1, 2, 3):
        events.clear()
        names = contents(save(folder, step, run(0), {}))
        unfinished = folder / f"{step}.tmp"
        named = events.index(("rename", str(unfinished)))
        before, behind = events[:named], events[named + 1 :]
        # Every file and every list of names before the folder has its name, and then the name itself.
        whole = {unfinished, *(unfinished / name for name in names)}
        whole |= {p for path in whole for p in path.parents if unfinished in p.parents}
        assert {("sync", str(path)) for path in whole} <= {*before}
        assert behind[0] == ("sync", str(folder))
        # The oldest goes after that.
        assert behind[1:2] == [("rename", str(folder / "1"))] * (step == 3)
        if step == 1:  # the folders are new
            assert {("sync", str(p)) for p in (tmp_path, folder.parent)} <= {*before}


TEXTS = ["[]", "[1]", "{}", '{"files": {}}', '{"files": 3, "format": 1}', "[" * 99_999, "3", ""]


@pytest.mark.parametrize("name", ["tree.json", "extra.json", "sha256.json"])
@pytest.mark.parametrize("text", TEXTS)
def test_a_checkpoint_whose_texts_are_not_ours_is_refused_in_words(tmp_path, name, text):
    path = save(tmp_path, 1, run(0), {})
    (path / name).write_text(text)
    if name != sums.SUMS:
        sums.seal(path, FORMAT)
    elif text.startswith("{"):  # with its own sum right
        (path / name).write_text(sums._text(json.loads(text)))
    if (name, text) in [("extra.json", t) for t in TEXTS if t.startswith("{")]:
        assert restore(tmp_path, run(0))[1] == json.loads(text)
        return
    with pytest.raises(
        ValueError, match=name if name != "tree.json" else "tree.json|another model"
    ):
        restore(tmp_path, run(0))


def test_leaves_that_are_said_to_lie_in_one_place_are_refused(tmp_path):
    tree = {"a": np.zeros(packing.SMALL), "b": np.ones(packing.SMALL)}
    path = save(tmp_path, 1, tree, {})
    listed = json.loads((path / "tree.json").read_text())
    (path / "tree.json").write_text(json.dumps([[n, [d, s, "0"]] for n, (d, s, _) in listed]))
    sums.seal(path, FORMAT)
    with pytest.raises(ValueError, match="does not list the leaves"):
        restore(tmp_path, tree)


def test_the_newest_two_are_kept_and_no_later_one_is_touched(tmp_path):
    for step in (1, 2, 30, 4):
        save(tmp_path, step, run(step), {})
    assert sorted(path.name for path in tmp_path.iterdir()) == ["2", "30", "4"]
    save(tmp_path, 30, run(5), {"again": True})
    assert sorted(path.name for path in tmp_path.iterdir()) == ["30", "4"]
    restored, extra, _ = restore(tmp_path, run(0))
    assert same_bits(restored, run(5)) and extra == {"again": True}


@contextlib.contextmanager
def full_disk(size: int):
    """No file may grow beyond `size` bytes: what a write meets is the system's own error."""
    soft, hard = resource.getrlimit(resource.RLIMIT_FSIZE)
    resource.setrlimit(resource.RLIMIT_FSIZE, (size, hard))
    try:
        yield
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, (soft, hard))


@pytest.mark.parametrize("place", ["arrays", "extra"])
def test_a_write_that_fails_says_so_and_changes_nothing(tmp_path, place):
    save(tmp_path, 1, run(0), {})
    before = contents(tmp_path)
    tree, extra = (np.random.default_rng(0).random(40_000), {}) if place == "arrays" else ({}, {})
    extra = {"long": "x" * 400_000} if place == "extra" else extra
    with full_disk(200_000), pytest.raises(OSError, match="not saved, older") as error:
        save(tmp_path, 2, tree, extra)
    assert str(tmp_path / "2") in str(error.value)
    assert contents(tmp_path) == before and latest(tmp_path) == 1
    save(tmp_path, 2, tree, extra)
    assert latest(tmp_path) == 2


@pytest.mark.parametrize(
    ("tree", "extra", "words"),
    [
        ({"name": "conv"}, {}, "'name' is a str: expected an array of numbers"),
        ({"key": jax.random.key(0)}, {}, "key_data"),
        ({"a": np.array([None])}, {}, "expected an array of numbers"),
        ({"a/b": np.ones(1), "a": {"b": np.ones(1)}}, {}, "two leaves have the path 'a/b'"),
        ({}, {"metric": float("nan")}, "not plain JSON"),
        ({}, {"path": object()}, "not plain JSON"),
    ],
)
def test_what_cannot_be_saved_is_refused_before_anything_is_written(tmp_path, tree, extra, words):
    with pytest.raises(ValueError, match=words):
        save(tmp_path / "new", 1, tree, extra)
    assert not (tmp_path / "new").exists()
    with pytest.raises(ValueError, match="keep >= 1"):
        save(tmp_path, 1, {}, {}, keep=0)


def test_a_checkpoint_holds_no_pickle(tmp_path):
    path = save(tmp_path, 1, run(0), {"a": 1})
    assert json.loads((path / "extra.json").read_text()) == {"a": 1}
    for name, raw in contents(path).items():
        assert not raw.startswith(b"\x80\x04") and b"numpy.core" not in raw, name
