"""Notes that the processes of a run leave each other; they travel beside the computation, not through it.

They lie with JAX's coordination service, so that a process can be reached while its devices wait.
"""

import collections
import json
from collections.abc import Callable
from typing import Any

import jax

# JAX has no public name for its client; Orbax takes it from the same place.
from jax._src import distributed

HOUR = 3600.0  # seconds: whoever is waited for longer is lost, and that is noticed elsewhere
ROOT = "sparsity"


class Board:
    """The notes of all processes, read and written by one of them.

    `gather`, `told` and `meet` are called by all processes, as often and in the same order under a name.

    index, count: of this process, and of all.
    """

    def __init__(self, client: Any = None, index: int = 0, count: int = 1) -> None:
        self.index, self.count, self._client = index, count, client
        self._turns: collections.Counter = collections.Counter()

    def post(self, name: str, text: str, again: bool = False) -> bool:
        """Leaves a note; False where another stands there already, unless it is written again."""
        if self._client is None:
            return True
        try:
            self._client.key_value_set(f"{ROOT}/{name}", text, again)
        except jax.errors.JaxRuntimeError as error:
            if "ALREADY_EXISTS" in str(error):
                return False
            raise
        return True

    def notes(self, folder: str) -> dict[str, str]:
        """The notes that stand under a name now, by their own name."""
        if self._client is None:
            return {}
        found = self._client.key_value_dir_get(f"{ROOT}/{folder}/")
        return {name.rpartition("/")[2]: text for name, text in found}

    def gather(self, name: str, text: str, seconds: float = HOUR) -> list[str]:
        """The texts of all processes, in their order; waits for them. TimeoutError where one stays away."""
        place = self._turn(name)
        self.post(f"{place}/{self.index}", text)
        if self.count == 1:
            return [text]
        return [self._read(f"{place}/{i}", seconds) for i in range(self.count)]

    def told(self, name: str, make: Callable[[], Any]) -> Any:
        """What process 0 makes (plain data), for all of them. The others raise ValueError where it raises."""
        if self.count == 1:
            return make()
        place = self._turn(name)
        if self.index:
            kind, value = json.loads(self._read(place, HOUR))
            if kind == "raised":
                raise ValueError(f"process 0: {value}")
            return value
        try:
            made = make()
        except Exception as error:
            self.post(place, json.dumps(["raised", str(error)]))
            raise
        self.post(place, json.dumps(["made", made]))
        return made

    def meet(self, name: str) -> None:
        """Waits until all processes have come here."""
        if self.count > 1:
            self.gather(name, "")

    def _turn(self, name: str) -> str:
        """A place of its own for each use of a name."""
        self._turns[name] += 1
        return f"{name}/{self._turns[name]}"

    def _read(self, place: str, seconds: float) -> str:
        try:
            return self._client.blocking_key_value_get(f"{ROOT}/{place}", int(seconds * 1000))
        except jax.errors.JaxRuntimeError as error:
            if "DEADLINE_EXCEEDED" not in str(error):
                raise
            raise TimeoutError(f"no word from a process within {seconds:g} s, at {place}") from None


ALONE = Board()


def board() -> Board:
    """That of the processes that have joined; of this one alone where none have."""
    client = distributed.global_state.client
    if client is None:
        return ALONE
    return Board(
        client, distributed.global_state.process_id, distributed.global_state.num_processes
    )
