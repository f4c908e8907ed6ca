"""A product is one operation of a program; a backend is traced only where its platform is lowered."""

import functools

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from sparsity.kernels import dense, lowering, reference
from sparsity.kernels.blocks import pack
from sparsity.kernels.calls import result
from sparsity.kernels.convolution import block_sparse_convolution
from sparsity.kernels.layout import from_mask
from sparsity.kernels.ops import block_sparse_matmul
from tests.kernels.cases import Case, layout_of, mask_of_kind, normal

CASE = Case((48, 64), (16, 16))
LAYOUT = layout_of(CASE, mask_of_kind("random", 5, CASE.grid))
ARGS = (normal(0, 5, 48), pack(normal(1, 48, 64), LAYOUT), LAYOUT)
sparse = functools.partial(block_sparse_matmul, path="sparse")


def exported(platforms, run=sparse):
    checks = [jax.export.DisabledSafetyCheck.custom_call("block_sparse_product")]
    return jax.export.export(jax.jit(run), platforms=platforms, disabled_checks=checks)(*ARGS)


def test_a_step_is_three_operations_whatever_the_backends():
    loss = lambda x, packed, layout: jnp.sum(sparse(x, packed, layout) ** 2)
    text = str(jax.make_jaxpr(jax.grad(loss, (0, 1)))(*ARGS))
    assert text.count("block_sparse[") == 3
    for verb in ("forward", "dx", "dw"):
        assert text.count(f"Call(verb='{verb}'") == 1


def test_a_step_of_the_fall_back_unpacks_the_weight_once():
    run = functools.partial(block_sparse_matmul, path="dense")
    loss = lambda x, packed, layout: jnp.sum(run(x, packed, layout) ** 2)
    text = jax.jit(jax.grad(loss, (0, 1))).lower(*ARGS).compile().as_text()
    assert text.count(" scatter(") == 1


@pytest.mark.parametrize(
    ("platform", "asked"),
    [
        ("cpu", "custom_call @block_sparse_product"),
        ("tpu", "custom_call @tpu_custom_call"),
        ("rocm", "stablehlo.dot_general"),
    ],
)
def test_a_program_holds_the_kernel_of_the_platform_that_it_is_lowered_for(platform, asked):
    text = exported([platform]).mlir_module()
    assert asked in text
    assert text.count("custom_call @") == ("custom_call" in asked)


def test_a_program_for_several_platforms_holds_a_kernel_for_each():
    text = exported(["cpu", "tpu"]).mlir_module()
    assert "custom_call @block_sparse_product" in text and "custom_call @tpu_custom_call" in text


@pytest.mark.parametrize("path", lowering.PATHS)
def test_an_export_may_leave_the_number_of_rows_open(path):
    (rows,) = jax.export.symbolic_shape("rows")
    checks = [jax.export.DisabledSafetyCheck.custom_call("block_sparse_product")]
    run = jax.jit(functools.partial(block_sparse_matmul, path=path))
    x, *others = jax.ShapeDtypeStruct((rows, 48), jnp.float32), *ARGS[1:]
    y = jax.export.export(run, disabled_checks=checks)(x, *others).call(*ARGS)
    np.testing.assert_allclose(y, reference.block_sparse_matmul(*ARGS), atol=1e-4)


@pytest.mark.parametrize("platform", ["cuda", "tpu"])
def test_where_kernels_need_the_number_of_rows_an_export_that_leaves_it_open_is_dense(platform):
    (rows,) = jax.export.symbolic_shape("rows")
    run = jax.jit(functools.partial(block_sparse_matmul, path="sparse"))
    x, *others = jax.ShapeDtypeStruct((rows, 48), jnp.bfloat16), *ARGS[1:]
    text = jax.export.export(run, platforms=[platform])(x, *others).mlir_module()
    # What is asserted of the shape is a custom call too.
    assert text.count("custom_call @") == text.count("custom_call @shape_assertion")
    assert "stablehlo.dot_general" in text


@pytest.mark.parametrize("path", lowering.PATHS)
@pytest.mark.parametrize("platform", ["cpu", "cuda", "tpu"])
def test_no_rows_need_no_kernel(platform, path):
    x = jax.ShapeDtypeStruct((0, 48), jnp.bfloat16)

    def loss(x, packed, layout):
        return jnp.sum(block_sparse_matmul(x, packed, layout, path=path))

    text = jax.export.export(jax.jit(jax.grad(loss, (0, 1))), platforms=[platform])
    assert "custom_call @" not in text(x, *ARGS[1:]).mlir_module()


@pytest.mark.parametrize("verb", ["forward", "dx", "dw"])
def test_the_shapes_are_those_that_the_backends_give(verb):
    first = normal(2, 5, 64) if verb == "dx" else ARGS[0]
    second = normal(2, 5, 64) if verb == "dw" else ARGS[1]
    call = lowering.call_of(verb, first, LAYOUT)
    leaves = jax.tree.leaves(LAYOUT)
    made = jax.eval_shape(lowering.on_module(dense, call), *leaves, first, second)
    assert made.shape == result(call)


def test_the_dense_path_is_dense_and_the_same_product():
    text = exported(["cpu"], functools.partial(block_sparse_matmul, path="dense")).mlir_module()
    assert "custom_call @" not in text and "stablehlo.dot_general" in text
    for path in lowering.PATHS:
        y = block_sparse_matmul(*ARGS, path=path)
        np.testing.assert_allclose(y, reference.block_sparse_matmul(*ARGS), atol=1e-4)


def test_a_path_that_is_none_is_refused_in_words():
    with pytest.raises(ValueError, match="one of auto, sparse, dense, not 'masked'"):
        block_sparse_matmul(*ARGS, path="masked")
    layout = from_mask(np.ones((9, 1), bool), (72, 16), (8, 16))
    x, packed = jnp.ones((1, 5, 6, 8)), jnp.ones((9, 8, 16))
    with pytest.raises(ValueError, match="one of auto, sparse, dense, not 'fast'"):
        block_sparse_convolution(x, packed, layout, kernel=(3, 3), path="fast")
