"""Networks in Flax Linen; one file each, by name through `build`."""

from sparsity.models.registry import build, options

__all__ = ["build", "options"]
