"""What decides a run's bits beside its config: versions, device kind, cores."""

import importlib.metadata
import os
import platform
from collections.abc import Mapping
from typing import Any

import jax

import sparsity

PACKAGES = ("jax", "jaxlib", "flax", "optax", "numpy")


def surroundings() -> dict[str, Any]:
    """Those of this process, as plain data."""
    device = jax.devices()[0]
    return {
        "python": platform.python_version(),
        "versions": {
            "sparsity": sparsity.__version__,
            **{name: importlib.metadata.version(name) for name in PACKAGES},
        },
        "device": f"{device.platform} {device.device_kind}",
        "devices": jax.device_count(),
        "cores": len(os.sched_getaffinity(0)),
    }


def moved(there: Mapping[str, Any], here: Mapping[str, Any]) -> str:
    """What has changed between two surroundings, in words; "" where nothing has."""
    old, new = ({**found, **found.get("versions", {})} for found in (there, here))
    changed = [key for key in new if key != "versions" and old.get(key) != new[key]]
    return ", ".join(f"{key} {old.get(key)} then and {new[key]} now" for key in changed)
