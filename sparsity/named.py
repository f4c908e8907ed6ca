"""Things by name from a config: chosen, checked, or refused with what exists nearby."""

import difflib
import importlib
import inspect
import pkgutil
import typing
from collections.abc import Callable, Collection, Mapping
from types import ModuleType
from typing import Any, TypeVar

T = TypeVar("T")
# What a plain type takes: an int will do for a float, a bool for neither.
PLAIN = {float: (float, int), int: (int,), str: (str,), bool: (bool,)}


def unknown(what: str, given: Any, options: Collection[str]) -> ValueError:
    """The error for a name that doesn't exist: the nearest one, and all there are."""
    near = difflib.get_close_matches(str(given), list(options), 1)
    hint = f"; did you mean {str(near[0])!r}?" if near else "."
    return ValueError(f"no {what} is called {given!r}{hint} There are: {', '.join(options)}")


def choose(what: str, name: Any, options: Mapping[str, T]) -> T:
    """options[name], or ValueError that lists them."""
    if not isinstance(name, str) or name not in options:
        raise unknown(what, name, options)
    return options[name]


def function_of(what: str, name: Any, package: ModuleType) -> Callable[..., Any]:
    """The function `name` of the package's module `name`: a new file is found without a list of them."""
    found = sorted(module.name for module in pkgutil.iter_modules(package.__path__))
    if not isinstance(name, str) or name not in found:
        raise unknown(what, name, found)
    return getattr(importlib.import_module(f"{package.__name__}.{name}"), name)


def call(what: str, function: Callable[..., T], *args: Any, settings: Mapping[str, Any]) -> T:
    """function(*args, **settings), after the settings' names and plain types are checked.

    Raises ValueError for a setting that the function lacks (the nearest is named), one that is missing,
    and one of the wrong type.
    """
    parameters = {
        name: p
        for name, p in inspect.signature(function).parameters.items()
        if p.kind is inspect.Parameter.KEYWORD_ONLY
    } or dict(list(inspect.signature(function).parameters.items())[len(args) :])
    hints = typing.get_type_hints(function)
    for name, value in settings.items():
        if name not in parameters:
            raise unknown(f"setting of {what}", name, parameters)
        _typed(what, name, value, hints.get(name))
    for name, p in parameters.items():
        if p.default is inspect.Parameter.empty and name not in settings:
            raise ValueError(f"{what} needs the setting {name!r}; it takes {', '.join(parameters)}")
    return function(*args, **settings)


def _typed(what: str, name: str, value: Any, hint: Any) -> None:
    """Checks the plain types, and those that may be None; the function checks the rest."""
    kinds = typing.get_args(hint) or (hint,)
    if any(kind not in (*PLAIN, type(None)) for kind in kinds):
        return
    if type(value) not in {given for kind in kinds for given in PLAIN.get(kind, (kind,))}:
        said = " or ".join("None" if kind is type(None) else f"a {kind.__name__}" for kind in kinds)
        raise ValueError(f"{what}: {name} is {said}, not {value!r} ({type(value).__name__})")
