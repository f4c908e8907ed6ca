"""Asks what came out of many runs: the best, in what two differ, everything as CSV or Parquet.

    python -m experiments.query runs/sweeps/attention --best=accuracy [--top=5]
    python -m experiments.query runs --lowest=loss --where=method.name=magnitude,density=0.05
    python -m experiments.query runs/tables --differ=09ac41d70f31,b1c2880ad6d5
    python -m experiments.query runs --export=runs.parquet

Folders are looked through to the last. Runs that differ in their seed alone are one row, with mean and standard
deviation. Nothing in a directory is executed or changed.
"""

from collections.abc import Mapping, Sequence
from pathlib import Path

from absl import flags

from experiments import command
from experiments.reporting import frames, records, terminal
from experiments.reporting.records import Group, Record

SHOWN = 6  # fields that tell the rows apart


def best(found: Sequence[Record], field: str, highest: bool, top: int) -> list[list[str]]:
    """Rows of texts: the first groups by the field, with what tells the configs of all apart."""
    groups = records.ranked(found, field, highest)
    apart = records.differing([group.record.config for group in groups])
    shown = [name for name in apart if name != records.SEED][:SHOWN]
    return [
        [field, "seeds", *shown, "run"],
        *(_texts(group, [*shown, "run"]) for group in groups[:top]),
    ]


def _texts(group: Group, shown: Sequence[str]) -> list[str]:
    spread = "" if group.sd is None else f" ± {group.sd:.2g}"
    fields = group.record.fields
    return [
        f"{group.mean:.6g}{spread}",
        str(len(group.values)),
        *(str(fields.get(name, "–")) for name in shown),
    ]


def differ(found: Sequence[Record], names: Sequence[str]) -> list[list[str]]:
    """Rows of texts: each field in which two runs differ, first of their configs, then of what came out.

    names: of runs, or as much of their beginnings as tells them apart.
    """
    if len(names) != 2:
        raise ValueError(f"--differ takes two runs, not {len(names)}")
    pair = [records.named(found, name) for name in names]
    rows = []
    for tables in ([one.config for one in pair], [one.summary for one in pair]):
        rows += [[f, *(str(t.get(f, "–")) for t in tables)] for f in records.differing(tables)]
    return [["field", *(one.run for one in pair)], *rows]


def wanted(conditions: Sequence[str]) -> Mapping[str, str]:
    """{field: text} of conditions field=text. Raises ValueError for one without a sign."""
    for condition in conditions:
        if "=" not in condition:
            raise ValueError(f"--where takes field=value, not {condition!r}")
    return dict(condition.split("=", 1) for condition in conditions)


def main(argv: list[str]) -> None:
    """The command line."""
    paths = [Path(path) for path in argv[1:] or ["runs"]]
    found = records.chosen(records.found(paths), wanted(WHERE.value))
    print(f"{len(found)} runs, {sum(bool(one.summary) for one in found)} of them done")
    if field := BEST.value or LOWEST.value:
        _show(best(found, field, bool(BEST.value), TOP.value))
    if DIFFER.value:
        _show(differ(found, DIFFER.value))
    if EXPORT.value:
        columns = frames.write(Path(EXPORT.value), [one.fields for one in found])
        print(f"{EXPORT.value}: {len(found)} rows, {columns} columns")


def _show(rows: Sequence[Sequence[str]]) -> None:
    print(terminal.plain("\n".join(terminal.table(rows, left=1))))


if __name__ == "__main__":
    BEST = flags.DEFINE_string("best", "", "A number of the runs; the highest come first.")
    LOWEST = flags.DEFINE_string("lowest", "", "The same; the lowest come first.")
    TOP = flags.DEFINE_integer("top", 10, "As many rows.", lower_bound=1)
    WHERE = flags.DEFINE_list("where", [], "Only runs whose fields are so: field=value,...")
    DIFFER = flags.DEFINE_list("differ", [], "Two runs whose fields are set side by side.")
    EXPORT = flags.DEFINE_string("export", "", "A file of all fields: .csv or .parquet.")
    command.run(main, known=(ValueError, OSError), positional=True)
