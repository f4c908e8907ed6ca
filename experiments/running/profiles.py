"""A profile of a stretch of a run's steps."""

import jax

from experiments.running.workdir import Workdir
from sparsity.train.descent import Held
from sparsity.train.loop import Place


class Profile:
    """Begins before the first of the steps, and ends behind the last."""

    def __init__(self, here: Workdir, steps: tuple[int, int] | tuple[()]) -> None:
        self._folder, self._steps, self._on = here.profile, steps, False

    def at(self, place: Place, state: Held) -> None:
        """Begins and ends where its steps do."""
        inside = bool(self._steps) and self._steps[0] <= place.step < self._steps[-1]
        if inside == self._on:
            return
        jax.block_until_ready(state)
        if inside:
            jax.profiler.start_trace(str(self._folder))
        else:
            jax.profiler.stop_trace()
        self._on = inside

    def close(self) -> None:
        """Ends a profile that is under way."""
        if self._on:
            jax.profiler.stop_trace()
