"""What a compiled program holds on a device, by the compiler's word."""

from typing import Any

import jax


def needed(compiled: jax.stages.Compiled) -> dict[str, int]:
    """Bytes per device: what goes in, what comes out of its own, what is needed besides; and all at once."""
    found: Any = compiled.memory_analysis()
    parts = {
        "arguments": found.argument_size_in_bytes,
        "outputs": found.output_size_in_bytes - found.alias_size_in_bytes,
        "temporaries": found.temp_size_in_bytes,
    }
    return {**parts, "together": sum(parts.values())}
