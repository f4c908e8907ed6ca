"""A served model is the network, in a process that has the kernels and jax alone, or is refused in words."""

import functools
import hashlib
import json
import os
import pathlib
import shutil
import subprocess
import sys

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from jax import export

from sparsity.kernels import serve, served, tensors
from sparsity.kernels.served import TEXT, WEIGHTS, load
from sparsity.models import build
from sparsity.surgery import programs, serving
from sparsity.target import Target
from sparsity.units.blocks import Rule, blocks
from sparsity.units.partition import scale
from tests.surgery.variables import variables_of

ROOT = pathlib.Path(__file__).parents[2]
CNN = {"name": "cnn", "widths": (8, 16), "hidden": (64,)}
RULES = (Rule("params/conv2/kernel", (8, 8)), Rule("params/dense1/kernel", (16, 16)))
EXAMPLE = jax.ShapeDtypeStruct((4, 12, 12, 3), jnp.float32)


@functools.cache
def network():
    """(apply, pruned variables, partition, masks) of a small convolutional network."""
    module = build(classes=10, **CNN)
    params = variables_of(module, jnp.zeros(EXAMPLE.shape))
    layers = blocks(params, RULES, density="0.25", at_least=1)
    partition, rng = Target.of(layers).partition, np.random.default_rng(1)
    masks = {name: rng.random(group.grid) < 0.25 for name, group in partition.items()}
    held = {name: jnp.asarray(mask) for name, mask in masks.items()}
    return module.apply, scale(partition, held, params), partition, masks


def put(folder, **changes):
    apply, params, partition, masks = network()
    given = {
        "partition": partition,
        "masks": masks,
        "about": {"seed": 1},
        "path": "sparse",
    } | changes
    return serving.write(folder, apply, params, EXAMPLE, **given)


@pytest.fixture(scope="module")
def made(tmp_path_factory):
    """A folder as it is exported."""
    folder = tmp_path_factory.mktemp("served")
    put(folder)
    return folder


@pytest.fixture
def copy(made, tmp_path):
    """A copy to spoil."""
    return pathlib.Path(shutil.copytree(made, tmp_path / "copy"))


def images(count, seed=2):
    return np.random.default_rng(seed).normal(size=(count, *EXAMPLE.shape[1:])).astype(np.float32)


def run(*arguments, **environment):
    """The command line, in an interpreter that can import sparsity.kernels, numpy, jax and nothing of ours else."""
    code = """if True:
        import runpy, sys
        class Only:
            def find_spec(self, name, path=None, target=None):
                top = name.split(".")[0]
                ours = top == "sparsity" and not (name + ".").startswith("sparsity.kernels.")
                if (ours and name != "sparsity") or top in ("flax", "optax", "orbax", "safetensors"):
                    raise ImportError(f"{name} is not here")
        sys.meta_path.insert(0, Only())
        sys.argv = ["serve", *sys.argv[1:]]
        runpy.run_module("sparsity.kernels.serve", run_name="__main__")
    """
    return subprocess.run(
        [sys.executable, "-c", code, *map(str, arguments)],
        cwd=ROOT,
        env={**os.environ, "PYTHONPATH": str(ROOT), **environment},
        capture_output=True,
        check=False,
        text=True,
    )


@pytest.mark.parametrize("environment", [{}, {"SPARSITY_NATIVE": "0"}])
def test_a_fresh_process_with_the_kernels_alone_gives_the_networks_outputs(
    made, tmp_path, environment
):
    apply, params, *_ = network()
    x = images(11)  # two batches of four, and one that is padded
    np.save(tmp_path / "x.npy", x)
    files = f"--input={tmp_path / 'x.npy'}", f"--output={tmp_path / 'y.npy'}"
    done = run(made, *files, **environment)
    assert done.returncode == 0, done.stderr
    called = json.loads((made / TEXT).read_text())["kernels"]["cpu"]
    assert done.stdout.endswith(
        f"by the {'dense' if environment and called else 'sparse'} program\n"
    )
    asked = jax.jit(apply)(params, x)
    np.testing.assert_allclose(np.load(tmp_path / "y.npy"), asked, rtol=0, atol=2e-5)


def test_the_command_says_which_form_is_faster_and_refuses_in_words(made, tmp_path):
    done = run(made, "--compare", "--rounds=2")
    assert done.returncode == 0, done.stderr
    assert "batch 4 on cpu" in done.stdout and "times as fast" in done.stdout
    np.save(tmp_path / "x.npy", np.zeros((3, 12, 12)))
    done = run(made, f"--input={tmp_path / 'x.npy'}")
    assert done.returncode == 1 and "Traceback" not in done.stderr
    assert "takes float32 of shape (n, 12, 12, 3), not float64 of shape (3, 12, 12)" in done.stderr


def test_a_comparison_refuses_other_inputs_and_no_rounds(made, tmp_path):
    with pytest.raises(ValueError, match=r"takes float32 of shape \(n, 12, 12, 3\), not float32"):
        serve.compare(made, images(3)[:, :, :, 0], 1)
    with pytest.raises(ValueError, match="--rounds is how often each form is timed, not 0"):
        serve.compare(made, None, 0)
    (tmp_path / "x.npy").write_bytes(b"")
    with pytest.raises(SystemExit, match="x.npy is no array in numpy's format"):
        serve.main([str(made), f"--input={tmp_path / 'x.npy'}"])


def test_both_programs_and_any_number_of_examples_give_the_same(made):
    apply, params, *_ = network()
    x = images(9, 3)
    asked = np.asarray(jax.jit(apply)(params, x))
    for kind in served.KINDS:
        model = load(made, kind)
        for count in (0, 1, 4, 9):
            got = model.predict(x[:count])
            assert got.shape == (count, 10)
            np.testing.assert_allclose(got, asked[:count], rtol=0, atol=2e-5)


def test_the_packed_file_is_smaller_by_what_is_dead_and_describes_itself(made):
    _, params, partition, masks = network()
    whole = sum(leaf.nbytes for leaf in jax.tree.leaves(params))
    dead = sum(
        int((~masks[name]).sum()) * np.prod(group.gated[0].block) * 4
        for name, group in partition.items()
    )
    raw = (made / WEIGHTS).read_bytes()
    arrays, texts = tensors.decode(raw)
    assert (
        sum(a.nbytes for n, a in arrays.items() if n[-5:] not in (":rows", "tarts")) == whole - dead
    )
    assert len(raw) < whole - dead + 3000
    text = json.loads(texts["sparsity"])
    assert set(text["matrices"]) == set(partition) and text["about"] == {"seed": 1}
    said = json.loads((made / TEXT).read_text())
    assert set(said["uses"]) == set(partition)
    assert all(len(use["cpu"]) == 1 for use in said["uses"].values())
    # Which products run on the kernel is the dispatcher's choice; what is said of it is true.
    module = export.deserialize(bytearray((made / "sparse-cpu.jax").read_bytes())).mlir_module()
    assert said["kernels"] == {"cpu": ["block_sparse_product"] * ("block_sparse_product" in module)}


def first_format(raw: bytes) -> bytes:
    """The program as it was made when a layout had six arrays: without lines by their live counts."""
    program = export.deserialize(bytearray(raw))
    by_count = lambda starts: jnp.argsort(-jnp.diff(starts), stable=True).astype(jnp.int32)

    def earlier(arguments, inputs):
        # The blocks, and count, rows, cols, col_starts, by_row, row_starts.
        whole = {
            name: [*a, by_count(a[4]), by_count(a[6])] if len(a) == 7 else a
            for name, a in arguments.items()
        }
        return program.call(whole, inputs)

    (arguments, inputs), _ = jax.tree.unflatten(program.in_tree, program.in_avals)
    cut = {name: arrays[:7] for name, arrays in arguments.items()}
    allowed = [export.DisabledSafetyCheck.custom_call(name) for name in programs.CALLS]
    made = export.export(jax.jit(earlier), platforms=("cpu",), disabled_checks=allowed)
    shapes = jax.tree.map(lambda a: jax.ShapeDtypeStruct(a.shape, a.dtype), (cut, inputs))
    return bytes(made(*shapes).serialize())


def test_a_folder_of_the_first_format_whose_programs_take_live_blocks_is_read(copy):
    text = json.loads((copy / TEXT).read_text())
    assert set(text["forms"]["cpu"].values()) == {"packed"}
    del text["forms"]
    raw = first_format((copy / "sparse-cpu.jax").read_bytes())
    (copy / "sparse-cpu.jax").write_bytes(raw)
    text["files"]["sparse-cpu.jax"] = hashlib.sha256(raw).hexdigest()
    (copy / TEXT).write_text(json.dumps(text | {"format": 1}))
    apply, params, *_ = network()
    got, asked = load(copy).predict(images(4)), jax.jit(apply)(params, images(4))
    np.testing.assert_allclose(got, asked, rtol=0, atol=2e-5)


def test_what_is_all_alive_or_no_block_stays_dense_and_says_why(tmp_path):
    text = put(tmp_path, masks={})
    assert text["uses"] == {
        rule.pattern: {"cpu": ["unpacked: all its blocks are alive"]} for rule in RULES
    }
    assert text["kernels"] == {"cpu": []}


@pytest.mark.parametrize("platform", ["tpu", "cuda"])
def test_programs_are_lowered_for_platforms_that_are_not_here(tmp_path, platform):
    text = put(tmp_path, platforms=(platform,))
    words = [use[platform][0] for use in text["uses"].values()]
    assert any(word.startswith("block-sparse") for word in words) == bool(text["kernels"][platform])
    assert {f"sparse-{platform}.jax", f"dense-{platform}.jax", WEIGHTS} == set(text["files"])
    for name in text["files"]:
        assert (tmp_path / name).stat().st_size > 1000
    with pytest.raises(
        ValueError, match=rf"no program sparse-cpu.jax; it was exported as dense-{platform}"
    ):
        load(tmp_path)


def change(**fields):
    def apply(folder):
        text = json.loads((folder / TEXT).read_text()) | fields
        (folder / TEXT).write_text(json.dumps(text))

    return apply


def cut(name, size=-9):
    return lambda folder: (folder / name).write_bytes((folder / name).read_bytes()[:size])


def other_weights(folder):
    """The weights of another model, with a text that vouches for them."""
    other = folder.parent / "other"
    put(other, masks={})
    shutil.copy(other / WEIGHTS, folder / WEIGHTS)
    files = json.loads((folder / TEXT).read_text())["files"]
    vouched = json.loads((other / TEXT).read_text())["files"][WEIGHTS]
    change(files=files | {WEIGHTS: vouched})(folder)


BAD = {
    "cut weights": (cut(WEIGHTS), "packed.safetensors is cut short, changed"),
    "cut program": (cut("sparse-cpu.jax"), "sparse-cpu.jax is cut short, changed"),
    "cut text": (cut(TEXT), "serving.json is cut short or not the JSON"),
    "no weights": (lambda f: (f / WEIGHTS).unlink(), "packed.safetensors can't be read: No such"),
    "no program": (lambda f: (f / "sparse-cpu.jax").unlink(), "sparse-cpu.jax can't be read"),
    "no text": (lambda f: (f / TEXT).unlink(), "serving.json can't be read"),
    "a later format": (change(format=3), "format 3; this version reads format 1 and 2"),
    "another text": (lambda f: (f / TEXT).write_text('{"format": 1}'), "it has no 'files'"),
    "other weights": (other_weights, "the weights of packed.safetensors are not those"),
}


@pytest.mark.parametrize("case", BAD)
def test_a_damaged_folder_is_refused_in_words(copy, case):
    spoil, words = BAD[case]
    load(copy)
    spoil(copy)
    with pytest.raises(ValueError, match=words):
        load(copy)


def test_what_cannot_be_exported_is_refused_and_changes_nothing(copy, monkeypatch):
    before = {path.name: path.read_bytes() for path in copy.iterdir()}
    _, params, partition, masks = network()
    alive = {name: ~mask for name, mask in masks.items()}
    spoiled = jax.tree.map(lambda w: w + jnp.nan, params)
    apply = functools.partial(serving.write, copy, network()[0])
    for make, words in (
        (lambda: put(copy, platforms=("metal",)), "exported for cpu, tpu, cuda, not 'metal'"),
        (lambda: put(copy, masks=alive), "dead units of 'params/.*' hold weights that are not 0"),
        (
            lambda: apply(spoiled, EXAMPLE, partition=partition, masks=masks),
            "dead units of 'params/.*' hold weights that are not 0",
        ),
    ):
        with pytest.raises(ValueError, match=words):
            make()
    monkeypatch.setitem(sys.modules, "flatbuffers", None)
    with pytest.raises(ValueError, match="pip install flatbuffers"):
        put(copy)
    with pytest.raises(ValueError, match="pip install flatbuffers"):
        load(copy)
    assert {path.name: path.read_bytes() for path in copy.iterdir()} == before


def test_a_kind_that_does_not_exist_is_refused(made):
    with pytest.raises(ValueError, match="served as sparse or dense, not 'quick'"):
        load(made, "quick")


@pytest.mark.parametrize(
    ("apply", "words"),
    [
        (lambda params, x: (x, x), r"\(ShapeDtypeStruct"),
        (lambda params, x: x.sum(0), r"ShapeDtypeStruct\(shape=\(12, 12, 3\)"),
    ],
)
def test_outputs_that_are_not_one_row_per_example_are_refused(tmp_path, apply, words):
    _, params, partition, masks = network()
    with pytest.raises(ValueError, match=f"gives one array, a row per example, not {words}"):
        serving.write(tmp_path, apply, params, EXAMPLE, partition=partition, masks=masks)
