"""Tables of measured ratios, one file per device: those that ship, or those of the folder $SPARSITY_TUNED.

A table holds for one kind of device, number of cores, version of jax (its first two numbers) and version of
these kernels: with another, dense and sparse products both cost something else. A table that is damaged or
of another version is not used: the model decides instead, and that is said once per process.
"""

import functools
import json
import os
import pathlib
import platform
import warnings
from typing import Any, NamedTuple

import jax

from sparsity.kernels.calls import VERBS, Call
from sparsity.kernels.geometry import Geometry
from sparsity.kernels.layout import grid_of
from sparsity.kernels.platforms import here

SHIPPED = pathlib.Path(__file__).with_name("tuned")
# Raised when a kernel or a way to choose changes so that older figures no longer hold.
KERNELS = 1


class Entry(NamedTuple):
    """Ratios of dense to sparse time of one product, measured at some densities.

    verb, count, shape, block, dtype, geometry: as in a `Call`.
    ratios: density of blocks -> ratio.
    """

    verb: str
    count: int
    shape: tuple[int, int]
    block: tuple[int, int]
    dtype: str
    geometry: Geometry | None
    ratios: dict[float, float]

    def at(self, density: float) -> Call:
        """The product at a density."""
        rows, cols = grid_of(self.shape, self.block)
        live = max(1, round(density * rows * cols))
        static = self.shape, self.block, live, self.dtype
        return Call(self.verb, self.count, *static, geometry=self.geometry)


class Table(NamedTuple):
    """What was measured on one device."""

    device: str
    entries: tuple[Entry, ...]


@functools.cache
def device_of(name: str) -> str:
    """The device that a program lowered for a platform runs on; "" for a platform that is not here."""
    if name != here():
        return ""
    if name != "cpu":
        return jax.devices()[0].device_kind
    return f"{processor()}, {cores()} core{'s' * (cores() > 1)}"


def processor() -> str:
    """The CPU's name, and whether it has wide vectors, which decide the rates."""
    known = pathlib.Path("/proc/cpuinfo")
    lines = known.read_text().splitlines() if known.is_file() else []
    named = [line.partition(":")[2].strip() for line in lines if line.startswith("model name")]
    vector = "AVX-512" if any(" avx512f" in line for line in lines) else ""
    return f"{(named or [platform.processor() or platform.machine()])[0]} {vector}".strip()


def cores() -> int:
    """Cores that this process may use."""
    return len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1


def versions() -> dict[str, Any]:
    """What a table holds for, beside its device."""
    return {"jax": ".".join(jax.__version__.split(".")[:2]), "kernels": KERNELS}


def folder() -> pathlib.Path:
    """Where tables are read, and written by whoever measures: $SPARSITY_TUNED, else the shipped ones."""
    return pathlib.Path(os.environ.get("SPARSITY_TUNED") or SHIPPED)


@functools.cache
def table_of(name: str) -> Table | None:
    """The table for a platform's device here, or None: then the model decides, and a warning says so."""
    device = device_of(name)
    if not device:
        return None
    found, problem = look_up(folder(), device)
    if problem:
        warnings.warn(
            f"{problem}; a model of the device decides where block-sparse products run dense. "
            "`python -m experiments.bench_kernels --tune` measures it.",
            stacklevel=2,
        )
    return found


def look_up(where: pathlib.Path, device: str) -> tuple[Table | None, str]:
    """The device's table in a folder, and why there is none to use, in words, or ""."""
    file = where / f"{slug(device)}.json"
    if not file.is_file():
        return None, f"no tuned table of block-sparse kernels is for {device}"
    try:
        held = json.loads(file.read_text())
        there = {key: held[key] for key in versions()}
        if held["device"] != device:
            return None, f"the tuned table {file.name} is of {held['device']}, not {device}"
        if there != versions():
            return None, f"the tuned table {file.name} is of {there}, not {versions()}"
        return Table(device, tuple(_entry(raw) for raw in held["entries"])), ""
    except (ValueError, KeyError, TypeError, AttributeError) as error:
        return None, f"the tuned table {file.name} is damaged ({type(error).__name__}: {error})"


def slug(device: str) -> str:
    """A device's file name."""
    kept = "".join(c if c.isalnum() else "-" for c in device.lower())
    return "-".join(part for part in kept.split("-") if part)


def written(entries: list[Entry], device: str, **more: Any) -> str:
    """A table as text, to be read by `look_up`."""
    rows = ",\n  ".join(json.dumps(entry._asdict()) for entry in entries)
    head = json.dumps({"device": device, **versions(), **more}, indent=1).removesuffix("\n}")
    return f'{head},\n "entries": [\n  {rows}\n ]\n}}\n'


def _entry(raw: dict[str, Any]) -> Entry:
    ratios = {float(density): float(ratio) for density, ratio in raw["ratios"].items()}
    if not ratios or min(*ratios, *ratios.values()) <= 0:
        raise ValueError(f"densities and ratios are positive numbers, not {raw['ratios']}")
    count, (k, n), (rows, cols) = raw["count"], raw["shape"], raw["block"]
    if not all(isinstance(size, int) and size > 0 for size in (count, k, n, rows, cols)):
        raise ValueError(f"sizes are positive integers, not {count}, {k, n}, {rows, cols}")
    if raw["verb"] not in VERBS:
        raise ValueError(f"a verb is one of {', '.join(VERBS)}, not {raw['verb']!r}")
    geometry = raw["geometry"] and geometry_from(*raw["geometry"])
    return Entry(raw["verb"], count, (k, n), (rows, cols), str(raw["dtype"]), geometry, ratios)


def geometry_from(kernel: Any, strides: Any, padding: Any, image: Any) -> Geometry:
    """A geometry from lists, as JSON holds it."""
    (top, bottom), (left, right) = padding
    (height, width, channels), (tall, wide), (down, along) = image, kernel, strides
    pads = ((top, bottom), (left, right))
    return Geometry((tall, wide), (down, along), pads, (height, width, channels))
