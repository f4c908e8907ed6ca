"""A run's files as plain values that are checked: what is missing or damaged is said, and left out.

A directory may come from elsewhere, or be half of what it was. Nothing in it is executed; what does not
have the form that a launch writes counts as missing, whole files at a time and the metrics line by line.
"""

import json
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any, NamedTuple

from sparsity.units.blocks import exact

Record = Mapping[str, Any]

SECTIONS = ("data", "model", "method", "plan")
MEASURED = ("asked_sparsity", "achieved_sparsity", "accuracy", "loss", "seconds")
COUNTED = ("steps", "seed", "parameters", "parameters_live", "macs", "macs_live")


class Files(NamedTuple):
    """The files by name, {} where there is none to be used; problems: a sentence for each such file."""

    config: Record
    resolved: Record
    status: Record
    summary: Record
    records: tuple[Record, ...]
    broken: int
    problems: tuple[str, ...]


def files(folder: Path) -> Files:
    """Those of the run in `folder`, which may be missing."""
    problems: list[str] = []
    config, resolved, status, summary = (
        _checked(folder / f"{name}.json", check, problems)
        for name, check in (
            ("config", _config),
            ("resolved", _resolved),
            ("status", _status),
            ("summary", _summary),
        )
    )
    records, broken = _records(folder / "metrics.jsonl", problems)
    return Files(config, resolved, status, summary, records, broken, tuple(problems))


def _checked(path: Path, check: Callable[[Record], str], problems: list[str]) -> Record:
    """The JSON object in a file, if nothing is wrong with it."""
    text = _text(path, problems)
    value = {} if text is None else _parsed(text)
    problem = "it holds no JSON object" if not value else check(value)
    if text is not None and problem:
        problems.append(f"{path.name} is damaged: {problem}")
    return {} if problem else value


def _text(path: Path, problems: list[str]) -> str | None:
    if not path.exists():
        problems.append(f"{path.name} is missing")
    elif not path.is_file():
        problems.append(f"{path.name} is no file")
    else:
        try:
            return path.read_text("utf-8", errors="replace")
        except OSError as error:
            problems.append(f"{path.name} cannot be read: {error.strerror}")
    return None


def _parsed(text: str) -> Record:
    try:
        value = json.loads(text)
    except (ValueError, RecursionError):
        return {}
    return value if isinstance(value, dict) else {}


def _config(config: Record) -> str:
    """What is wrong with it, or ""."""
    for name in SECTIONS:
        section = config.get(name)
        if not isinstance(section, dict) or not isinstance(section.get("name"), str):
            return f"{name} is no section with a name"
    blocks = config.get("blocks")
    if not isinstance(blocks, dict) or not isinstance(blocks.get("block"), list | None):
        return "blocks is no section with a block"
    for name, least in (("steps", 1), ("batch", 1), ("seed", 0)):
        if not _count(config.get(name)) or config[name] < least:
            return f"{name} is {config.get(name)!r}"
    if not _number(config["data"].get("validation", 0)):
        return f"data.validation is {config['data']['validation']!r}"
    return _density(str(config.get("density")))


def _density(text: str) -> str:
    # An exponent is looked at as a float first: written out, it may be longer than any memory.
    try:
        if len(text) > 40 or ("e" in text.lower() and float(text) < 1e-30):
            return "density is no decimal of usual length"
        exact(text)
    except ValueError as error:
        return str(error)
    return ""


def _resolved(resolved: Record) -> str:
    layers = resolved.get("layers")
    rows = layers if isinstance(layers, list) else []
    good = all(isinstance(r, list) and all(isinstance(c, str) for c in r) for r in rows)
    if not rows or not good or len({len(row) for row in rows}) > 1:
        return "layers is no table of texts"
    if not _count(resolved.get("steps_per_epoch")):
        return f"steps_per_epoch is {resolved.get('steps_per_epoch')!r}"
    return ""


def _status(status: Record) -> str:
    for name in ("status", "cause"):
        if not isinstance(status.get(name), str):
            return f"{name} is {status.get(name)!r}"
    versions = status.get("versions", {})
    if not isinstance(versions, dict) or not all(isinstance(v, str) for v in versions.values()):
        return "versions are no texts"
    return ""


def _summary(summary: Record) -> str:
    for names, check in ((MEASURED, _number), (COUNTED, _count)):
        for name in names:
            if not check(summary.get(name)):
                return f"{name} is {summary.get(name)!r}"
    if not (0 <= summary["accuracy"] <= 1 and 0 <= summary["asked_sparsity"] < 1):
        return "its shares are not between 0 and 1"
    return ""


def _records(path: Path, problems: list[str]) -> tuple[tuple[Record, ...], int]:
    text = _text(path, problems) or ""
    parsed = [_parsed(line) for line in text.split("\n") if line.strip()]
    good = tuple(record for record in parsed if _record(record))
    if broken := len(parsed) - len(good):
        problems.append(f"{broken} lines of {path.name} could not be read")
    return good, broken


def _record(record: Record) -> bool:
    if not _count(record.get("step")) or not isinstance(record.get("phase", ""), str):
        return False
    if record.get("event") in ("train", "eval"):
        return all(_number(record.get(name)) for name in ("loss", "accuracy"))
    groups = record.get("groups")
    return (
        record.get("event") == "tick"
        and "phase" in record
        and _number(record.get("share"))
        and isinstance(groups, dict)
        and all(isinstance(own, dict) and _numbers(own) for own in groups.values())
    )


def _numbers(group: Record) -> bool:
    return all(map(_number, group.values())) and _count(group.get("alive"))


def _number(value: Any) -> bool:
    """Finite, and small enough to be a float; NaN compares with nothing."""
    return type(value) in (int, float) and -1e300 < value < 1e300


def _count(value: Any) -> bool:
    return type(value) is int and 0 <= value < 2**53
