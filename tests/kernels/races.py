"""Races found by Pallas's interpreter of GPU kernels: jax 0.12 raises on one, 0.10.2 only prints it."""

import contextlib
import io
from collections.abc import Iterator

# No version has it in a public place; after an exception the interpreter serves no one else without it.
from jax._src.pallas.mosaic_gpu.interpret.interpret_pallas_call import (
    reset_gpu_interpret_mode_state,
)


@contextlib.contextmanager
def no_race() -> Iterator[None]:
    """Fails with the interpreter's own words where what runs inside had a race."""
    said = io.StringIO()
    with contextlib.redirect_stdout(said):
        yield
    assert "RACE DETECTED" not in said.getvalue(), said.getvalue()


def found_race(run) -> bool:
    """Whether running it is stopped by a race, raised or printed."""
    try:
        with no_race():
            run()
    except Exception as error:
        # Any other exception is not what was asked about.
        if "race" not in str(error).lower():
            raise
        return True
    finally:
        reset_gpu_interpret_mode_state()
    return False
