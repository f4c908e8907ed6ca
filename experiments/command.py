"""What the programs' command lines share: quiet libraries, and errors as a sentence, not a traceback."""

import sys
import traceback
from collections.abc import Callable, Sequence

from absl import app, flags, logging


def run(main: Callable[[list[str]], None], known: tuple[type[Exception], ...] = ()) -> None:
    """Parses the flags and calls main; an error of the known kinds ends the program in words."""

    def called(argv: list[str]) -> None:
        if len(argv) > 1:
            raise app.UsageError(f"unknown arguments: {' '.join(argv[1:])}")
        try:
            main(argv)
        except known as error:
            sys.exit(f"{error}{_where_from(sys.argv[1:])}")

    logging.set_verbosity(logging.WARNING)
    app.run(called, flags_parser=_parsed)


def _parsed(argv: Sequence[str]) -> list[str]:
    """The arguments that are no flags; whatever a config file or an override raises is said in words."""
    try:
        return flags.FLAGS(list(argv))
    except flags.Error as error:
        sys.exit(f"{error}\ntry --help")
    except Exception as error:  # noqa: BLE001 - a config file is a program and may raise anything
        frame = traceback.extract_tb(error.__traceback__)[-1]
        where = "" if "site-packages" in frame.filename else f" ({frame.filename}:{frame.lineno})"
        given = ", ".join(a for a in argv[1:] if a.startswith("--config"))
        words = error.args[0] if len(error.args) == 1 else error
        sys.exit(f"{type(error).__name__}{where}: {words}\nwhile reading {given}")


def _where_from(argv: Sequence[str]) -> str:
    """Which fields of the config the command line has set; all others are the file's."""
    file = next((a.partition("=")[2] for a in argv if a.startswith("--config=")), "")
    given = [a.removeprefix("--") for a in argv if a.startswith("--config.")]
    if not file:
        return ""
    return f"\n(from {file}" + (
        f", with {', '.join(given)} from the command line)" if given else ")"
    )
