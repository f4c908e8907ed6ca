"""The CPU's name, as figures are given with it; nothing but the standard library is needed."""

import pathlib
import platform


def processor() -> str:
    """Its model, and AVX-512 where it has that; what the platform says where nothing else does."""
    known = pathlib.Path("/proc/cpuinfo")
    lines = known.read_text().splitlines() if known.is_file() else []
    named = [line.partition(":")[2].strip() for line in lines if line.startswith("model name")]
    vector = "AVX-512" if any(" avx512f" in line for line in lines) else ""
    return f"{(named or [platform.processor()])[0]} {vector}".strip()
