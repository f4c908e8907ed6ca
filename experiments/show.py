"""Shows what runs were and are, from what lies in their directories.

    python -m experiments.show runs/digits
    python -m experiments.show runs/digits runs/acdc [--html=comparison.html]

One directory: its state with the cause, config, plan, layers, scores, curves and masks. Several: a table
of them, and in what their configs differ. Both as text, and as one HTML file with the pictures. Runs may be
under way, stopped, failed or damaged: what is missing is said. Nothing in a directory is executed.
"""

import io
import os
import sys
from collections.abc import Sequence
from pathlib import Path

import jax
from absl import flags

from experiments import command
from experiments.reporting import account, contrast, single, terminal, transcript
from experiments.reporting.document import save
from experiments.reporting.runs import Trace
from experiments.running.workdir import is_run
from sparsity.named import unknown

LISTED = 12  # runs nearby that are named
DEEP = 3  # folders below a path in which runs are looked for


def traces(paths: Sequence[str]) -> list[Trace]:
    """The runs in directories, each once. Raises ValueError for a path that is none, with what is nearby."""
    if not paths:
        raise ValueError(
            f"name at least one run's directory{_listed(_nearby(Path('runs')), '; there are')}"
        )
    for path in paths:
        if not is_run(Path(path)):
            raise _no_run(Path(path))
    return [account.trace(Path(path)) for path in dict.fromkeys(map(os.path.normpath, paths))]


def default(paths: Sequence[Path]) -> Path:
    """Where the HTML goes: into the run's directory, or beside those that are compared."""
    if len(paths) == 1:
        return paths[0] / "report.html"
    shared = os.path.commonpath([path.resolve().parent for path in paths])
    return Path(os.path.relpath(shared)) / "comparison.html"


def _no_run(path: Path) -> ValueError:
    inside = _nearby(path)
    if inside:
        return ValueError(f"{path} is no run's directory{_listed(inside, ', but these in it are')}")
    if path.exists():
        return ValueError(f"{path} is no run's directory: a launch has left no file in it")
    parent = next((p for p in path.parents if p.is_dir()), Path())
    options = _nearby(parent)
    if not options:
        return ValueError(f"there is no {path}, and no run in {parent}")
    return unknown("run's directory", str(path), options[:LISTED])


def _nearby(folder: Path) -> list[str]:
    """The runs in a folder and in those below it, as far as it is quick to look."""
    if not folder.is_dir():
        return []
    found = []
    for root, names, _ in os.walk(folder):
        names.sort()
        if root != str(folder) and is_run(Path(root)):
            found.append(root)
            names.clear()
        if len(Path(root).relative_to(folder).parts) >= DEEP or len(found) > LISTED:
            names.clear()
    return found


def _listed(found: Sequence[str], words: str) -> str:
    more = ", and more" if len(found) > LISTED else ""
    return f"{words}: {', '.join(found[:LISTED])}{more}" if found else ""


def main(argv: list[str]) -> None:
    """The command line."""
    # A run may be training on the accelerator, which is not ours to open.
    jax.config.update("jax_platforms", "cpu")
    found = traces(argv[1:])
    one = len(found) == 1
    text = transcript.of_run(found[0]) if one else contrast.transcript(found)
    if isinstance(sys.stdout, io.TextIOWrapper):
        sys.stdout.reconfigure(errors="replace")
    print(terminal.plain(text))
    if HTML.value is None or HTML.value:
        given = Path(HTML.value) if HTML.value else None
        _write(single.of_run(found[0]) if one else contrast.document(found), given, found)


def _write(document: str, given: Path | None, found: Sequence[Trace]) -> None:
    """Writes the report; where it was not asked for by name, a place that can't be written is only said."""
    path = given or default([trace.folder for trace in found])
    try:
        save(path, document)
    except OSError as error:
        if given:
            problem = f"{error.strerror}; --html names a file that can be written"
            raise OSError(error.errno, problem, str(path)) from None
        print(f"\nno report: {path}: {error.strerror}; --html=PATH takes another place")
        return
    other = "" if given else "; --html=PATH takes another place, --html= writes none"
    print(f"\n{path}: the report, with the pictures{other}")


if __name__ == "__main__":
    HTML = flags.DEFINE_string("html", None, "The report's file; '' for none.")
    command.run(main, known=(ValueError, OSError), positional=True)
