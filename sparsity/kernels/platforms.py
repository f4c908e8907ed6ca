"""What a platform is called where programs are lowered for it: "cpu", "tpu", "cuda", "rocm".

jax's devices say "gpu" of two of them.
"""

from typing import Any

import jax


def lowered(name: str) -> str:
    """The name that programs for devices of a platform are lowered by; a "gpu" that is not here is NVIDIA's."""
    if name != "gpu":
        return name
    device: Any = jax.devices()[0]
    amd = device.platform == "gpu" and "rocm" in device.client.platform_version.lower()
    return "rocm" if amd else "cuda"


def here() -> str:
    """That of the programs of this process."""
    return lowered(jax.devices()[0].platform)
