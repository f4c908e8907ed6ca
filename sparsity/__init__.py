"""Block-sparse training in JAX: units that are kept or removed, and methods of five verbs.

Nothing is imported here, so that `import sparsity.kernels` runs on a machine that holds jax alone.
"""

__version__ = "0.1.0"
