"""Many runs as values side by side: what each was asked, and what it came to."""

import json
import os
import statistics
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any, NamedTuple

from experiments.reporting import runs
from experiments.running.identity import flat
from experiments.running.workdir import is_run
from sparsity.named import unknown

SEED = "seed"


class Record(NamedTuple):
    """A run: its name and directory, its state in words, the fields of its config and of its summary."""

    run: str
    folder: str
    state: str
    config: Mapping[str, Any]
    summary: Mapping[str, Any]

    @property
    def fields(self) -> dict[str, Any]:
        """All of it in one mapping; the config's fields have dots between section and field."""
        own = {"run": self.run, "folder": self.folder, "state": self.state}
        return {**own, **self.config, **self.summary}


class Group(NamedTuple):
    """Runs that differ in their seed alone: a number of theirs by seed, and the first of them."""

    values: Mapping[int, float]
    record: Record

    @property
    def mean(self) -> float:
        """Over the seeds."""
        return statistics.mean(self.values.values())

    @property
    def sd(self) -> float | None:
        """Over the seeds; None for one."""
        return statistics.stdev(self.values.values()) if len(self.values) > 1 else None


def found(paths: Sequence[Path]) -> list[Record]:
    """A record per run in the folders and below, in order of their paths.

    Raises ValueError for a path that is not there.
    """
    for path in paths:
        if not path.is_dir():
            raise ValueError(f"there is no folder {path}")
    folders = dict.fromkeys(folder for path in paths for folder in _runs(path))
    return [_record(folder) for folder in folders]


def _runs(path: Path) -> Iterator[Path]:
    """The runs' directories; nothing is looked for within one."""
    for root, names, _ in os.walk(path):
        names.sort()
        if is_run(Path(root)):
            names.clear()
            yield Path(root)


def _record(folder: Path) -> Record:
    """What is missing or damaged is left out."""
    trace = runs.read(folder.name, "1", 0, folder)
    config, summary = flat(dict(trace.config)), flat(dict(trace.summary))
    return Record(folder.name, str(folder), runs.state(trace), config, summary)


def chosen(records: Sequence[Record], wanted: Mapping[str, str]) -> list[Record]:
    """The records whose fields print so. Raises ValueError for a field that no record has."""
    for field in wanted:
        _refuse_strange(records, field)
    return [r for r in records if all(str(r.fields.get(f)) == t for f, t in wanted.items())]


def _refuse_strange(records: Sequence[Record], field: str) -> None:
    fields = dict.fromkeys(field for record in records for field in record.fields)
    if field not in fields:
        raise unknown("field of the runs", field, fields)


def ranked(records: Sequence[Record], field: str, highest: bool) -> list[Group]:
    """The finished runs by a number of theirs, over the seeds, the best mean first.

    Raises ValueError for a field that no record has.
    """
    _refuse_strange(records, field)
    groups: dict[str, list[Record]] = {}
    for one in records:
        if one.summary and isinstance(one.fields.get(field), int | float):
            apart = json.dumps({**one.config, SEED: None}, sort_keys=True)
            groups.setdefault(apart, []).append(one)
    made = [
        Group({r.fields[SEED]: r.fields[field] for r in own}, own[0]) for own in groups.values()
    ]
    return sorted(made, key=lambda group: group.mean, reverse=highest)


def differing(tables: Sequence[Mapping[str, Any]]) -> list[str]:
    """The fields in which mappings differ, in order."""
    fields = dict.fromkeys(field for table in tables for field in table)
    return [field for field in fields if len({str(table.get(field)) for table in tables}) > 1]


def named(records: Sequence[Record], name: str) -> Record:
    """The one run that is called so, or begins so. Raises ValueError for none and for several."""
    fit = [one for one in records if one.run.startswith(name) or one.folder == name]
    if not fit:
        raise unknown("run", name, [one.run for one in records])
    if len(fit) > 1:
        listed = ", ".join(one.folder for one in fit)
        raise ValueError(f"{name!r} begins the names of several runs: {listed}")
    return fit[0]
