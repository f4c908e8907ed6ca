"""A backend's four functions against the definition, called as the product calls them."""

from typing import NamedTuple

import jax
import jax.numpy as jnp
import numpy as np

from sparsity.kernels import reference
from sparsity.kernels.blocks import pack
from sparsity.kernels.layout import Layout
from tests.kernels.cases import Case, layout_of, normal

TOLERANCES = {"float32": 2e-5, "bfloat16": 2e-2, "float16": 3e-3}


class Arguments(NamedTuple):
    """x (M, K), dy (M, N), bias (N,), and packed weights whose padding is NaN."""

    x: jax.Array
    dy: jax.Array
    bias: jax.Array
    packed: jax.Array
    layout: Layout


def arguments(case: Case, mask: np.ndarray, dtype: str, rows: int) -> Arguments:
    (k, n), layout = case.shape, layout_of(case, mask)
    packed = pack(normal(0, k, n, dtype=dtype), layout)
    return Arguments(
        normal(1, rows, k, dtype=dtype),
        normal(2, rows, n, dtype=dtype),
        normal(3, n, dtype=dtype),
        jnp.where(layout.live[:, None, None], packed, jnp.nan),
        layout,
    )


def check_value(forward, args: Arguments, activation: str) -> None:
    """act(x W + bias) is the definition's."""
    got = forward(args.x, args.packed, args.layout, args.bias, activation)
    asked = reference.block_sparse_matmul(
        args.x, args.packed, args.layout, bias=args.bias, activation=activation
    )
    near(got, asked)


def check_gradients(dx, dw, args: Arguments) -> None:
    """dX and dW are the definition's; padding's are exactly 0."""
    run = lambda x, packed: reference.block_sparse_matmul(x, packed, args.layout)
    asked_dx, asked_dw = jax.vjp(run, args.x, args.packed)[1](args.dy)
    near(dx(args.dy, args.packed, args.layout), asked_dx)
    got = dw(args.x, args.dy, args.layout)
    near(got, asked_dw)
    assert not np.any(np.asarray(got, np.float32)[~np.asarray(args.layout.live)])


def custom_calls(platform: str, run, *args) -> str:
    """The program of `run` lowered for a platform that need not be there."""
    return jax.export.export(jax.jit(run), platforms=[platform])(*args).mlir_module()


def near(got: jax.Array, asked: jax.Array) -> None:
    """Finite, of one shape and dtype, and within the tolerance of the dtype."""
    assert got.shape == asked.shape and got.dtype == asked.dtype
    a, b = np.asarray(got, np.float32), np.asarray(asked, np.float32)
    assert np.all(np.isfinite(a))
    bound = TOLERANCES[asked.dtype.name] * max(1.0, np.abs(b).max(initial=0))
    np.testing.assert_allclose(a, b, rtol=0, atol=bound)
