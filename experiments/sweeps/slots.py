"""Where the runs of a sweep are put: a slot is the cores, the accelerators and the memory of one process."""

import glob
import importlib.util
import os
from collections.abc import Mapping, Sequence
from typing import NamedTuple

PLUGINS = ("jax_cuda12_plugin", "jax_cuda13_plugin")
SHARE = 0.9  # of an accelerator's memory that its runs take together
GIB = 1.5  # of memory that a run on CPU cores is given, unless said otherwise


class Slot(NamedTuple):
    """The cores of a process, and the variables that it sees; set before JAX looks for devices."""

    cores: tuple[int, ...]
    environment: Mapping[str, str]

    def take(self) -> None:
        """Puts this process into the slot."""
        os.sched_setaffinity(0, self.cores)
        os.environ.update(self.environment)


class Wish(NamedTuple):
    """How runs are to be packed.

    workers: processes; 0 takes as many as there is room for. per_device: runs on one accelerator.
    devices: accelerators of each run. gib: memory of a run on CPU cores.
    """

    workers: int = 0
    per_device: int = 1
    devices: int = 1
    gib: float = GIB


ANY = Wish()


def slots(wish: Wish = ANY) -> list[Slot]:
    """The slots of this machine, one process each: per accelerator, or where there is none per core."""
    return placed(wish, accelerators())


def placed(wish: Wish, found: Sequence[str]) -> list[Slot]:
    """The slots of a machine with these accelerators.

    On accelerators each slot gets its share of the memory, as a process takes nearly all otherwise. On
    cores there are, unless they are counted by `workers`, no more slots than there is memory for. Raises ValueError where more accelerators are
    asked for than there are.
    """
    if not found:
        room = max(1, int(memory() / wish.gib))
        return _cut(wish.workers or min(room, len(os.sched_getaffinity(0))), [{}])
    if wish.devices > len(found):
        raise ValueError(
            f"a run takes {wish.devices} accelerators, and there are {len(found)}; set devices"
        )
    groups = [found[i : i + wish.devices] for i in range(0, len(found), wish.devices)]
    places = [_environment(g, wish.per_device) for g in groups if len(g) == wish.devices]
    return _cut(wish.workers or len(places) * wish.per_device, places)


def _cut(count: int, environments: Sequence[Mapping[str, str]]) -> list[Slot]:
    """Slots that take turns at the environments and share the cores."""
    cores = sorted(os.sched_getaffinity(0))
    return [
        Slot(tuple(cores[i::count] or cores), environments[i % len(environments)])
        for i in range(count)
    ]


def _environment(devices: Sequence[str], per_device: int) -> dict[str, str]:
    return {
        "CUDA_VISIBLE_DEVICES": ",".join(devices),
        "XLA_PYTHON_CLIENT_MEM_FRACTION": f"{SHARE / per_device:.3f}",
    }


def accelerators() -> list[str]:
    """The GPUs that JAX would take here; none without its plugin. Asks no driver, so that none is opened."""
    platforms = os.environ.get("JAX_PLATFORMS", "cuda")
    if not any(map(importlib.util.find_spec, PLUGINS)) or "cpu" in platforms.split(",")[:1]:
        return []
    if "CUDA_VISIBLE_DEVICES" in os.environ:
        return [name for name in os.environ["CUDA_VISIBLE_DEVICES"].split(",") if name]
    return sorted(path.removeprefix("/dev/nvidia") for path in glob.glob("/dev/nvidia[0-9]*"))


def memory() -> float:
    """GiB that this machine can still give."""
    with open("/proc/meminfo", encoding="ascii") as file:
        lines = dict(line.split(":", 1) for line in file)
    return int(lines["MemAvailable"].split()[0]) / 2**20
