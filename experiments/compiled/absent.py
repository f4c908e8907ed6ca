"""Compiling for devices that are not here, by their descriptions.

It needs the packages of constraints-aot.txt: the TPU's compiler is in libtpu, the GPU's in its plugin and
ptxas. One process compiles for one kind of GPU only, as Mosaic keeps its programs without regard to the kind.
"""

import contextlib
import functools
import os
import sys
import tempfile
from collections.abc import Callable, Iterator
from typing import Any

# Read when jax is imported, or when the plugins are.
os.environ["JAX_PLATFORMS"] = "cpu"  # The GPU's plugin refuses to register where there is no GPU.
os.environ["ALLOW_MULTIPLE_LIBTPU_LOAD"] = "1"  # There is no TPU to be locked.
os.environ["MOSAIC_GPU_DUMP_PTXAS"] = "1"
os.environ["MOSAIC_GPU_DUMP_RESOURCES"] = "1"
# libtpu asks for these, and else says at length that it is not on a TPU's host.
os.environ.setdefault("TPU_SKIP_MDS_QUERY", "1")
os.environ.setdefault("TPU_ACCELERATOR_TYPE", "v5litepod-4")
os.environ.setdefault("TPU_WORKER_HOSTNAMES", "localhost")
os.environ.setdefault("TPU_WORKER_ID", "0")

import jax
from jax.experimental import topologies
from jax.sharding import SingleDeviceSharding

# From NVIDIA's data sheet of the H200 and the CUDA guide's table for compute capability 9.0.
H200 = """
platform_name: "CUDA"
device_description_str: "NVIDIA H200"
runtime_version { major: 13 }
dnn_version_info { major: 9 minor: 12 }
gpu_device_info {
  name: "NVIDIA H200"
  cuda_compute_capability { major: 9 }
  core_count: 132
  fpus_per_core: 128
  clock_rate_ghz: 1.98
  threads_per_warp: 32
  threads_per_block_limit: 1024
  threads_per_core_limit: 2048
  block_dim_limit_x: 2147483647
  block_dim_limit_y: 65535
  block_dim_limit_z: 65535
  registers_per_core_limit: 65536
  registers_per_block_limit: 65536
  shared_memory_per_core: 233472
  shared_memory_per_block: 49152
  shared_memory_per_block_optin: 232448
  l2_cache_size: 52428800
  memory_bandwidth: 4800000000000
  device_memory_size: 141000000000
}
"""
TPUS = ("v5e", "v6e")
TARGETS = (*TPUS, "h200")
# The grids of a TPU by their number of chips; a single one is of the smallest.
GRIDS = {1: "2x2", 4: "2x2", 8: "2x4", 16: "4x4", 32: "4x8", 64: "8x8", 128: "8x16", 256: "16x16"}


class NoCompiler(Exception):
    """The environment lacks a target's compiler."""


def device(target: str) -> Any:
    """The description of a device of TARGETS. Raises NoCompiler where its compiler is not installed."""
    return devices(target, 1)[0]


@functools.cache
def devices(target: str, count: int) -> tuple[Any, ...]:
    """Those of so many devices that are connected, as many as GRIDS has; of a GPU one.

    Raises NoCompiler where their compiler is not installed, and ValueError for another number.
    """
    if count not in GRIDS or (target not in TPUS and count > 1):
        listed = ", ".join(map(str, GRIDS)) if target in TPUS else "1"
        raise ValueError(f"{target} is described for {listed} devices, not for {count}")
    try:
        if target in TPUS:
            name = f"{target}:{GRIDS[count]}"
            found = topologies.get_topology_desc(platform="tpu", topology_name=name)
        else:
            found = topologies.get_topology_desc(
                platform="cuda", target_config=H200, topology="1x1x1"
            )
    except Exception as error:  # the plugins raise what they like
        raise NoCompiler(
            f"there is no compiler for {target} in this environment ({sys.prefix}), which `make aot` "
            f"sets up from constraints-aot.txt: {error}"
        ) from error
    return tuple(found.devices[:count])


def compiled(target: str, run: Callable[..., Any], args: Any) -> Any:
    """`run` compiled for the target; args are arrays or their shapes, in any tree."""
    return jax.jit(run).lower(*there(target, tuple(args))).compile()


def there(target: str, tree: Any) -> Any:
    """The shapes of a tree's arrays, on the target."""
    lies = SingleDeviceSharding(device(target))
    return jax.tree.map(lambda a: jax.ShapeDtypeStruct(a.shape, a.dtype, sharding=lies), tree)


@contextlib.contextmanager
def heard() -> Iterator[Callable[[], str]]:
    """What is written to the process's standard output meanwhile, by compilers in C++ too."""
    sys.stdout.flush()
    with tempfile.TemporaryFile() as file:
        before = os.dup(1)
        os.dup2(file.fileno(), 1)
        try:
            yield lambda: _contents(file)
        finally:
            sys.stdout.flush()
            os.dup2(before, 1)
            os.close(before)


def _contents(file: Any) -> str:
    sys.stdout.flush()
    file.seek(0)
    text = file.read().decode(errors="replace")
    file.seek(0, os.SEEK_END)
    return text
