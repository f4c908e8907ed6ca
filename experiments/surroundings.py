"""What decides a run's bits beside its config: versions, device kind, cores."""

import importlib.metadata
import os
import platform
from collections.abc import Mapping
from typing import Any

import jax

import sparsity

PACKAGES = ("jax", "jaxlib", "flax", "optax", "numpy")


def versions() -> dict[str, str]:
    """Of the packages that decide a run's bits."""
    packages = {name: importlib.metadata.version(name) for name in PACKAGES}
    return {"sparsity": sparsity.__version__, **packages}


def surroundings() -> dict[str, Any]:
    """Those of this process, as plain data."""
    device = jax.devices()[0]
    return {
        "python": platform.python_version(),
        "versions": versions(),
        "device": f"{device.platform} {device.device_kind}",
        "devices": jax.device_count(),
        "processes": jax.process_count(),
        "cores": len(os.sched_getaffinity(0)),
    }


def moved(there: Mapping[str, Any], here: Mapping[str, Any]) -> str:
    """What has changed between two surroundings, in words; "" where nothing has."""
    # Before processes were recorded, every run was of one.
    old, new = ({"processes": 1, **found, **found.get("versions", {})} for found in (there, here))
    changed = [key for key in new if key != "versions" and old.get(key) != new[key]]
    return ", ".join(f"{key} {old.get(key)} then and {new[key]} now" for key in changed)
