"""A served program takes a weight as its products use it, so that none unpacks one again and again."""

import json

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from jax import export

from sparsity.kernels import backends, tuned
from sparsity.kernels.calls import Call
from sparsity.kernels.layout import ARRAYS, from_mask
from sparsity.kernels.served import TEXT, load
from sparsity.kernels.tuned import Entry
from sparsity.surgery import serving
from sparsity.surgery.forms import forms_of, refusal
from sparsity.target import Target
from sparsity.units.blocks import Rule, blocks
from sparsity.units.partition import scale

EXAMPLE = jax.ShapeDtypeStruct((4, 64), jnp.float32)
LAYOUT = from_mask(np.eye(4, dtype=bool), (64, 64), (16, 16))
CALL = Call("forward", 4, LAYOUT.shape, LAYOUT.block, LAYOUT.capacity, "float32")
needs_kernel = pytest.mark.skipif(
    bool(backends.backend_of("cpu", LAYOUT, "float32")[1]), reason="there is no C++ compiler here"
)


@pytest.fixture
def measured(tmp_path, monkeypatch):
    """Makes the ratio of every product of this device the given one."""
    folder = tmp_path / "tuned"
    folder.mkdir()
    monkeypatch.setenv("SPARSITY_TUNED", str(folder))

    def write(ratio):
        device = tuned.device_of("cpu")
        entry = Entry("forward", 4, CALL.shape, CALL.block, "float32", None, {CALL.density: ratio})
        (folder / f"{tuned.slug(device)}.json").write_text(tuned.written([entry], device))
        tuned.table_of.cache_clear()

    yield write
    tuned.table_of.cache_clear()


def plain(params, x):
    return jnp.tanh(x @ params["w"])


def mixed(params, x):
    """A product, and a use that only a dense weight has."""
    return x @ params["w"] + params["w"][:4]


def scanned(params, x):
    return jax.lax.scan(lambda x, w: (jnp.tanh(x @ w) + w[:4], None), x, params["w"])[0]


def served(folder, apply, path, stack=()):
    """(params with dead blocks 0, serving.json, the model that is loaded)."""
    params = {"w": jax.random.normal(jax.random.key(0), (*stack, 64, 64)) / 8}
    rule = Rule("w", (16, 16), batch=tuple(range(len(stack))))
    partition = Target.of(blocks(params, [rule], density="0.25", at_least=1)).partition
    mask = np.broadcast_to(np.eye(4, dtype=bool), (*stack, 4, 4))
    params = scale(partition, {"w": jnp.asarray(mask)}, params)
    masks = {"w": mask}
    serving.write(folder, apply, params, EXAMPLE, partition=partition, masks=masks, path=path)
    return params, json.loads((folder / TEXT).read_text()), load(folder)


def scatters(folder):
    """Whether the sparse program unpacks anything."""
    module = export.deserialize(bytearray((folder / "sparse-cpu.jax").read_bytes())).mlir_module()
    return "scatter" in module


def near(model, apply, params):
    x = np.random.default_rng(1).normal(size=EXAMPLE.shape).astype(np.float32)
    asked = np.asarray(jax.jit(apply)(params, x))
    np.testing.assert_allclose(model.predict(x), asked, rtol=0, atol=2e-5 * np.abs(asked).max())


@needs_kernel
@pytest.mark.parametrize(("ratio", "form"), [(0.98, "dense"), (1.02, "packed")])
def test_what_is_not_expected_to_gain_on_a_kernel_is_unpacked_once(tmp_path, measured, ratio, form):
    measured(ratio)
    params, text, model = served(tmp_path / "made", plain, "auto")
    assert text["forms"] == {"cpu": {"w": form}}
    assert len(model.arguments["w"]) == (1 if form == "dense" else 1 + ARRAYS)
    assert bool(text["kernels"]["cpu"]) == (form == "packed") and not scatters(tmp_path / "made")
    assert all(("would be slower" in use) == (form == "dense") for use in text["uses"]["w"]["cpu"])
    near(model, plain, params)


@needs_kernel
@pytest.mark.parametrize(("apply", "stack"), [(mixed, ()), (scanned, (3,))])
def test_a_weight_that_is_used_both_ways_is_taken_both_ways(tmp_path, apply, stack):
    params, text, model = served(tmp_path, apply, "sparse", stack)
    assert text["forms"] == {"cpu": {"w": "both"}} and len(model.arguments["w"]) == 2 + ARRAYS
    assert text["kernels"]["cpu"] == ["block_sparse_product"] and not scatters(tmp_path)
    near(model, apply, params)


@needs_kernel
def test_a_product_runs_on_a_kernel_where_it_beats_a_dense_weight_or_is_told_to(measured):
    measured(0.98)
    assert refusal("cpu", CALL).startswith("the kernel would be slower; as measured on")
    assert refusal("cpu", CALL._replace(path="sparse")) == ""
    measured(1.01)
    assert refusal("cpu", CALL) == ""
    assert refusal("cpu", CALL._replace(path="dense")) == "dense products are asked for"


def test_where_there_is_no_kernel_the_reason_is_the_form_s():
    call = CALL._replace(dtype="float16", path="sparse")
    assert "float16" in refusal("cpu", call)
    assert forms_of({"a": [refusal("cpu", call)], "b": [CALL], "c": [CALL, "why"], "d": []}) == {
        "a": "dense",
        "b": "packed",
        "c": "both",
        "d": "packed",
    }
