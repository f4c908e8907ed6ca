"""What the programs' command lines share: quiet libraries, and errors as a sentence, not a traceback."""

import runpy
import sys
import traceback
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

from absl import app, flags, logging
from ml_collections import ConfigDict

from sparsity.named import unknown

FLAG, FIELD = "--config=", "--config."
NO_CONFIGS = ("__init__", "base", "fields")


def run(
    main: Callable[[list[str]], None],
    known: tuple[type[Exception], ...] = (),
    positional: bool = False,
) -> None:
    """Parses the flags and calls main; an error of the known kinds ends the program in words.

    positional: whether arguments that are no flags are taken; main gets them behind the program's name.
    """

    def called(argv: list[str]) -> None:
        if len(argv) > 1 and not positional:
            sys.exit(f"unknown arguments: {' '.join(argv[1:])}; a flag begins with --, see --help")
        try:
            main(argv)
        except KeyboardInterrupt:
            sys.exit(130)
        except known as error:
            sys.exit(f"{error}{_where_from(sys.argv[1:])}")

    logging.set_verbosity(logging.WARNING)
    app.run(called, flags_parser=_parsed)


def file_of(flag: str) -> str:
    """The file that a config flag names, without its argument."""
    start = f"--{flag}="
    given = next((a for a in sys.argv[1:] if a.startswith(start)), start)
    return given.removeprefix(start).partition(":")[0]


def _parsed(argv: Sequence[str]) -> list[str]:
    """The arguments that are no flags; what is wrong with a config or its overrides is said in words."""
    file = next((a.removeprefix(FLAG) for a in argv[1:] if a.startswith(FLAG)), "")
    try:
        if file:
            _refuse_misspelt(_loaded(file), [a for a in argv[1:] if a.startswith(FIELD)])
        return flags.FLAGS(list(argv))
    except flags.Error as error:
        sys.exit(f"{error}; see --help")
    except ValueError as error:
        sys.exit(f"{error}\nwhile reading --config={file}")


def _loaded(file: str) -> ConfigDict:
    """The config of a file and its argument, as `--config=file:argument` names them."""
    name, _, argument = file.partition(":")
    path = Path(name)
    if not path.is_file():
        there = sorted(str(p) for p in path.parent.glob("*.py") if p.stem not in NO_CONFIGS)
        if not there:
            raise ValueError(f"there is no config file {path}, and no other in {path.parent}")
        raise unknown("config file", name, there)
    try:
        get_config = runpy.run_path(name).get("get_config")
        config: Any = get_config(*[argument] * bool(argument)) if get_config else None
    except ValueError:
        raise
    except Exception as error:  # a config file is a program and may raise anything
        raise ValueError(_raised(error, name)) from error
    if not hasattr(config, "to_dict"):
        raise ValueError(f"{name} needs a function get_config that returns a ConfigDict")
    return config


def _raised(error: Exception, file: str) -> str:
    """An error with the line of the file that it came from."""
    if isinstance(error, SyntaxError):
        return f"{error.filename}:{error.lineno}: {error.msg}"
    frames = traceback.extract_tb(error.__traceback__)
    line = next((f.lineno for f in reversed(frames) if f.filename == file), 0)
    words = " ".join(str(error.args[0] if error.args else error).split())
    return f"{file}:{line}: {type(error).__name__}: {words}"


def _refuse_misspelt(config: ConfigDict, given: Sequence[str]) -> None:
    """ValueError for an override of a field that the config lacks."""
    for argument in given:
        node: Any = config
        path = argument.removeprefix(FIELD).partition("=")[0].split(".")
        for i, field in enumerate(path):
            where = ".".join(["config", *path[:i]])
            if not hasattr(node, "to_dict"):
                raise ValueError(f"{where} is {node!r} and has no field {field!r}")
            if field not in node:
                raise unknown(f"field of {where}", field, list(node))
            node = node.get(field)


def _where_from(argv: Sequence[str]) -> str:
    """Which fields of the config the command line has set; all others are the file's."""
    file = next((a.removeprefix(FLAG) for a in argv if a.startswith(FLAG)), "")
    given = [a.removeprefix("--") for a in argv if a.startswith(FIELD)]
    if not file:
        return ""
    return f"\n(from {file}" + (
        f", with {', '.join(given)} from the command line)" if given else ")"
    )
