"""jax 0.10's interpreter of GPU kernels multiplies no transposed tile, which later ones do: here it learns to."""

import threading
from typing import Any

import jax

# No version has them in a public place.
from jax._src.pallas.mosaic_gpu.interpret import gpu_callbacks
from jax._src.state.types import TransposeTransform

_within = threading.local()


class _Memory:
    """The interpreter's shared memory, with some of its tiles transposed."""

    def __init__(self, memory: Any, turned: list[Any]):
        self.memory, self.turned = memory, turned

    def __getattr__(self, name: str) -> Any:
        return getattr(self.memory, name)

    def get_buffer_content(self, key: Any, *rest: Any, **more: Any) -> Any:
        found, *others = self.memory.get_buffer_content(key, *rest, **more)
        return found.T if key in self.turned else found, *others


def learnt() -> None:
    """From here on a product of this process's interpreter takes tiles as they are turned."""
    if jax.__version_info__ >= (0, 11):
        return
    wgmma, memory = gpu_callbacks.wgmma, gpu_callbacks._get_shared_memory
    key_of = gpu_callbacks.HostAllocationKey.from_array

    def multiply(**given: Any) -> Any:
        turned = []
        for factor in "ab":
            kept = [t for t in given[f"{factor}_transforms"] if not _turns(t)]
            if len(kept) < len(given[f"{factor}_transforms"]):
                turned.append(key_of(given[f"{factor}_allocation_key_as_array"]))
            given[f"{factor}_transforms"] = tuple(kept)
        _within.turned = turned
        try:
            return wgmma(**given)
        finally:
            _within.turned = []

    def remembered() -> Any:
        turned = getattr(_within, "turned", [])
        return _Memory(memory(), turned) if turned else memory()

    gpu_callbacks.wgmma, gpu_callbacks._get_shared_memory = multiply, remembered


def _turns(transform: Any) -> bool:
    return isinstance(transform, TransposeTransform)
