"""The CPU's backend."""

from sparsity.kernels.dense import dw, dx, forward, refusal

__all__ = ["dw", "dx", "forward", "refusal"]
