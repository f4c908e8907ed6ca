"""Laws of the exported model: plain, equal to the wrapped one, and read back as it was or not at all."""

import functools
import json
import pathlib
import shutil
import sys
from collections.abc import Callable
from fractions import Fraction
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from sparsity.contract import Applied, Method, Signals, State
from sparsity.methods.grid import MASKS, grid
from sparsity.methods.magnitude import magnitude
from sparsity.methods.powerprop import powerprop
from sparsity.methods.sequential_attention import sequential_attention
from sparsity.plan.phases import phase
from sparsity.surgery.export import TEXT, WEIGHTS, folded, read, write
from sparsity.target import Target, context_of
from sparsity.units.blocks import Rule, blocks
from sparsity.units.partition import Partition, leaves, scale

RULES = (
    Rule("params/conv/kernel", block=(4, 4)),
    Rule("params/stacked/kernel", block=(3, 2), batch=(0,), density="0.3"),
)


def params(seed: int = 0) -> dict[str, Any]:
    """A convolution, two stacked matrices of ragged blocks, and a head, of weights of both signs."""
    rng = np.random.default_rng(seed)
    shapes = {"conv": (3, 3, 2, 8), "stacked": (2, 8, 8), "head": (8, 5)}
    tree = {name: {"kernel": rng.normal(size=shape) / 3} for name, shape in shapes.items()}
    tree["conv"]["bias"] = rng.normal(size=8)
    return {"params": jax.tree.map(jnp.float32, tree)}


LAYERS = blocks(params(), RULES, density="0.4", at_least=1)
TARGET = Target.of(LAYERS)
PARTITION = TARGET.partition
CONTEXT = context_of(TARGET, phase("finetune", "10%")[0])


@jax.jit
def logits(tree: Any) -> jax.Array:
    """The model, on a fixed batch."""
    p = tree["params"]
    images = np.random.default_rng(9).normal(size=(4, 6, 6, 2)).astype(np.float32)
    convolved = jax.lax.conv_general_dilated(
        images, p["conv"]["kernel"], (1, 1), "SAME", dimension_numbers=("NHWC", "HWIO", "NHWC")
    )
    x = jnp.mean(jax.nn.relu(convolved + p["conv"]["bias"]), axis=(1, 2))
    for kernel in p["stacked"]["kernel"]:
        x = x + jnp.tanh(x @ kernel)
    return x @ p["head"]["kernel"]


def trained(method: Method) -> State:
    """A state as a run leaves it: gates away from their start, masks at the target."""
    state = method.init(jax.random.key(1), params())
    rng = np.random.default_rng(2)
    moved = jax.tree.map(lambda g: g + jnp.float32(rng.normal(size=g.shape)), state.gates)
    signals = Signals(params(3), jax.tree.map(jnp.square, params(4)))
    return method.update(state._replace(gates=moved), CONTEXT, signals)


Make = Callable[[Partition], Method]
METHODS: dict[str, Make] = {
    "magnitude": lambda p: magnitude(p),
    "magnitude globally": lambda p: magnitude(p, select="globally", score="l1"),
    "powerprop block": lambda p: powerprop(p, form="block"),
    "powerprop weight": lambda p: powerprop(p, form="weight", alpha=1.5),
    "attention": lambda p: sequential_attention(p),
    "attention clipped": lambda p: sequential_attention(p, clip=True),
    **{f"{mask} by l2": lambda p, m=mask: grid(p, mask=m) for mask in MASKS},
    **{
        f"none by {score}": lambda p, s=score: grid(p, score=s)
        for score in ("max", "saliency", "fisher", "random")
    },
    **{
        f"{mask} by attention": lambda p, m=mask: grid(p, mask=m, score="attention")
        for mask in ("softmax", "exponential", "hoff", "sigmoid")
    },
}


@pytest.mark.parametrize("name", METHODS)
def test_the_folded_model_is_plain_and_equals_the_wrapped_one(name):
    method = METHODS[name](PARTITION)
    state = trained(method)
    plain = folded(method, state, CONTEXT)
    wrapped = method.apply(state, CONTEXT).params
    np.testing.assert_allclose(logits(plain), logits(wrapped), rtol=0, atol=1e-6)
    shapes = {path: leaf.shape for path, leaf in leaves(params()).items()}
    assert {path: leaf.shape for path, leaf in leaves(plain).items()} == shapes

    masks = method.masks(state, CONTEXT)
    assert any((~mask).any() for mask in masks.values())
    dead = leaves(scale(PARTITION, {n: ~m for n, m in masks.items()}, plain))
    for path in PARTITION:
        bits = np.asarray(dead[path]).view(np.uint32)
        assert not bits.any(), f"a dead entry of {path} is not +0"
        alive = np.asarray(leaves(plain)[path]) != 0
        kept = {n: jnp.asarray(m, jnp.float32) for n, m in masks.items()}
        ones = jax.tree.map(jnp.ones_like, plain)
        np.testing.assert_array_equal(alive, leaves(scale(PARTITION, kept, ones))[path])


def test_a_model_that_needs_hooks_is_not_plain():
    hooked = Method(apply=lambda state, context: Applied(state.params, {"conv": lambda *a: a}))
    with pytest.raises(ValueError, match="hooks at conv"):
        folded(hooked, State(params()), CONTEXT)


PROVENANCE = {"config": {"seed": 3, "block": [4, 4]}, "versions": {"jax": jax.__version__}}


@functools.cache
def final() -> tuple[dict[str, Any], dict[str, Any]]:
    """A model with batch statistics and odd leaves beside its parameters, and its masks."""
    method = sequential_attention(PARTITION)
    state = trained(method)
    beside = {
        "batch_stats": {"mean": jnp.ones(3, jnp.bfloat16), "count": np.int64(7) * np.ones(())},
        "other": {"empty": jnp.zeros((0, 2)), "flags": np.array([True, False])},
    }
    return {**folded(method, state, CONTEXT), **beside}, method.masks(state, CONTEXT)


def put(folder: pathlib.Path, **changes: Any) -> None:
    tree, masks = final()
    given = {"partition": PARTITION, "masks": masks, "layers": LAYERS, "provenance": PROVENANCE}
    write(folder, changes.pop("params", tree), **{**given, **changes})


@pytest.fixture(scope="module")
def model(tmp_path_factory) -> pathlib.Path:
    """The folder of a model as it was written; tests spoil copies of it."""
    folder = tmp_path_factory.mktemp("models") / "new" / "folder"
    put(folder)
    return folder


@pytest.fixture
def copy(model, tmp_path) -> pathlib.Path:
    return shutil.copytree(model, tmp_path / "copy")


def test_a_written_model_is_read_back_bit_by_bit(model):
    tree, masks, meta = read(model)
    before, after = leaves(final()[0]), leaves(tree)
    assert list(before) == list(after)
    for path, leaf in before.items():
        there = after[path]
        assert (there.dtype, there.shape) == (leaf.dtype, leaf.shape), path
        assert there.tobytes() == np.asarray(leaf).tobytes(), path
    assert meta["provenance"] == PROVENANCE
    for name, mask in final()[1].items():
        np.testing.assert_array_equal(masks[name], mask)
    assert sorted(path.name for path in model.iterdir()) == [TEXT, WEIGHTS]


def test_masks_in_the_text_are_the_zero_blocks_of_the_weights(model):
    """Read as a stranger would, from the documented bit order alone."""
    kernel = read(model)[0]["params"]["conv"]["kernel"]
    entry = json.loads((model / TEXT).read_text())["groups"]["params/conv/kernel"]
    matrix = np.pad(kernel.reshape(18, 8), ((0, 2), (0, 0)))
    raw, (rows, cols) = bytes.fromhex(entry["mask"]), entry["grid"]
    assert (rows, cols, entry["views"][0]["block"]) == (5, 2, [4, 4])
    for unit in range(rows * cols):
        row, col = divmod(unit, cols)
        block = matrix[4 * row : 4 * row + 4, 4 * col : 4 * col + 4]
        assert (raw[unit // 8] >> (7 - unit % 8)) & 1 == bool(block.any()), unit
    assert entry["alive"] == 4 and entry["units"] == 10
    assert (entry["asked"], entry["achieved"]) == ("2/5", "2/5")
    stacked = json.loads((model / TEXT).read_text())["groups"]["params/stacked/kernel"]
    assert (stacked["batch"], stacked["grid"]) == (1, [2, 3, 4])
    assert Fraction(stacked["asked"]) == Fraction("0.3")
    assert Fraction(stacked["achieved"]) == Fraction(3, 12)


def test_a_group_without_a_mask_is_alive_and_a_network_without_groups_is_dense(tmp_path):
    write(tmp_path, params(), partition=PARTITION, masks={}, layers=LAYERS, provenance={})
    assert all(mask.all() for mask in read(tmp_path)[1].values())
    write(tmp_path, params(), partition={}, masks={}, layers=(), provenance={})
    assert read(tmp_path)[1] == {}


def change_text(change: Callable[[dict[str, Any]], Any]) -> Callable[[pathlib.Path], Any]:
    def apply(folder: pathlib.Path) -> None:
        text = json.loads((folder / TEXT).read_text())
        change(text)
        (folder / TEXT).write_text(json.dumps(text))

    return apply


def cut(name: str, size: int) -> Callable[[pathlib.Path], Any]:
    return lambda folder: (folder / name).write_bytes((folder / name).read_bytes()[:size])


def flip_last(folder: pathlib.Path) -> None:
    raw = (folder / WEIGHTS).read_bytes()
    (folder / WEIGHTS).write_bytes(raw[:-1] + bytes([raw[-1] ^ 1]))


CONV = "params/conv/kernel"
BAD: dict[str, tuple[Callable[[pathlib.Path], Any], str]] = {
    "no weights": (lambda f: (f / WEIGHTS).unlink(), "model.safetensors can't be read: No such"),
    "no text": (lambda f: (f / TEXT).unlink(), "model.json can't be read: No such"),
    "cut weights": (cut(WEIGHTS, -5), "cut short or no safetensors"),
    "cut header": (cut(WEIGHTS, 20), "cut short or no safetensors"),
    "empty weights": (cut(WEIGHTS, 0), "cut short or no safetensors"),
    "cut text": (cut(TEXT, -5), "cut short or not the JSON"),
    "empty text": (cut(TEXT, 0), "cut short or not the JSON"),
    "pickle": (lambda f: (f / WEIGHTS).write_bytes(b"\x80\x04\x95abc."), "no safetensors file"),
    "not text": (lambda f: (f / TEXT).write_bytes(b"\xff\xfe\x00"), "not the JSON of a model"),
    "list": (lambda f: (f / TEXT).write_text("[1]"), "not the JSON of a model"),
    "other JSON": (lambda f: (f / TEXT).write_text('{"format": 1}'), "is not of a model"),
    "later": (change_text(lambda t: t.update(format=2)), "format 2; this version reads format 1"),
    "flipped": (flip_last, "numbers of model.safetensors are not those"),
    "shape": (
        change_text(lambda t: t["weights"]["arrays"][CONV].__setitem__(1, [3, 3, 8, 2])),
        r"'params/conv/kernel' is F32 \[3, 3, 2, 8\] .*, float32 \[3, 3, 8, 2\]",
    ),
    "dtype": (
        change_text(lambda t: t["weights"]["arrays"][CONV].__setitem__(0, "int32")),
        "'params/conv/kernel' is F32",
    ),
    "one too few": (
        change_text(lambda t: t["weights"]["arrays"].pop(CONV)),
        "'params/conv/kernel' is in model.safetensors and not in model.json",
    ),
    "one too many": (
        change_text(lambda t: t["weights"]["arrays"].update(more=["float32", [1]])),
        "'more' is in model.json and not in model.safetensors",
    ),
    "mask cut": (
        change_text(lambda t: t["groups"][CONV].update(mask="ff")),
        "'params/conv/kernel' is not described as it should be: a mask of 8 bits for 10 units",
    ),
    "mask changed": (
        change_text(lambda t: t["groups"][CONV].update(mask="ffc0")),
        "10 units are alive in its mask, not 4",
    ),
    "mask of another": (
        change_text(lambda t: t["groups"][CONV].update(mask="0000", alive=0)),
        "4 dead units of 'params/conv/kernel' hold weights that are not 0",
    ),
    "no hexadecimal": (
        change_text(lambda t: t["groups"][CONV].update(mask="xyzw")),
        "'params/conv/kernel' is not described",
    ),
    "grid": (change_text(lambda t: t["groups"][CONV].update(grid=[5, "2"])), "list of numbers"),
    "axes": (
        change_text(lambda t: t["groups"][CONV]["views"][0].update(axes=[[0, 1, 9], [3]])),
        "doesn't read a weight as",
    ),
    "axis twice": (
        change_text(lambda t: t["groups"][CONV]["views"][0].update(axes=[[0, 1, 1], [3]])),
        "doesn't read a weight as",
    ),
    "outside": (
        change_text(lambda t: t["groups"][CONV]["views"][0].update(start=[1, 0])),
        "lies outside of",
    ),
    "no views": (change_text(lambda t: t["groups"][CONV].pop("views")), "not described .*'views'"),
    "no weight": (
        change_text(lambda t: t["groups"][CONV]["views"][0].update(path="params/conv")),
        "no weight of 144 entries at 'params/conv'",
    ),
}


@pytest.mark.parametrize("case", BAD)
def test_bad_files_are_refused_in_words(copy, case):
    spoil, words = BAD[case]
    spoil(copy)
    with pytest.raises(ValueError, match=words):
        read(copy)


def test_two_files_that_do_not_belong_together_are_refused(tmp_path):
    write(tmp_path, params(1), partition={}, masks={}, layers=(), provenance={})
    text = (tmp_path / TEXT).read_bytes()
    write(tmp_path, params(2), partition={}, masks={}, layers=(), provenance={})
    (tmp_path / TEXT).write_bytes(text)
    with pytest.raises(ValueError, match="not those that model.json was written for"):
        read(tmp_path)


@pytest.mark.parametrize(
    ("changes", "words"),
    [
        ({"masks": {"params/conv/kernal": np.ones((5, 2))}}, "did you mean 'params/conv/kernel'"),
        ({"masks": {CONV: np.ones((2, 5))}}, r"has shape \(2, 5\): expected 0 and 1 of \(5, 2\)"),
        ({"masks": {CONV: np.full((5, 2), 0.5)}}, "expected 0 and 1"),
        ({"params": params()}, "6 dead units of 'params/conv/kernel' hold weights"),
        ({"params": {"params": {}}, "masks": {}}, "no weight of 144 entries at 'params/conv/kern"),
        ({"provenance": {"seed": object()}}, "not plain JSON"),
        ({"provenance": {"loss": float("nan")}}, "not plain JSON"),
        ({"params": {"a/b": np.ones(2)}, "masks": {}, "partition": {}}, "holds '/'"),
        ({"params": {"a": np.ones(2, complex)}, "masks": {}, "partition": {}}, "'a' is complex128"),
    ],
)
def test_what_cannot_be_written_is_refused_and_changes_nothing(copy, changes, words):
    before = {path.name: path.read_bytes() for path in copy.iterdir()}
    with pytest.raises(ValueError, match=words):
        put(copy, **changes)
    assert {path.name: path.read_bytes() for path in copy.iterdir()} == before


def test_without_safetensors_the_extra_is_named(tmp_path, monkeypatch):
    monkeypatch.setitem(sys.modules, "safetensors", None)
    with pytest.raises(ValueError, match=r"sparsity\[export\]"):
        put(tmp_path)
    assert not any(tmp_path.iterdir())
