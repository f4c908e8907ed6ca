"""A config's lists of rules, of blocks and of the mesh, as the library's."""

from collections.abc import Callable, Mapping
from typing import Any

from experiments.assembly.planned import tuples
from sparsity.named import call


def rules(
    field: str, what: str, given: Any, kind: Any, refuse: Callable[[Mapping[str, Any]], None]
) -> list[Any]:
    """The rules of a config's field, each a `kind` (a NamedTuple) made of its settings.

    what: a rule's name in errors. refuse: raises ValueError for settings that `kind` itself would take.

    Raises ValueError for what is no list of mappings, and for settings that a rule has not or lacks.
    """
    if type(given) not in (list, tuple):
        raise ValueError(f"{field} is a list of mappings, not {given!r}")
    return [_rule(what, fields, kind, refuse) for fields in given]


def _rule(what: str, fields: Any, kind: Any, refuse: Callable[[Mapping[str, Any]], None]) -> Any:
    if not hasattr(fields, "keys"):
        raise ValueError(f"{what} is a mapping with {', '.join(kind._fields)}, not {fields!r}")
    settings = tuples(fields)
    refuse(settings)
    return call(what, kind, settings=settings)
