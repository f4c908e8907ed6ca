"""The page of compiled training steps: what devices exchange and hold, a row per number of devices."""

import json
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from experiments.reporting import files, markdown
from experiments.reporting.scaling_chart import chart, rows_of_one

Row = Mapping[str, Any]
KEYS = ("target", "arm", "mesh", "devices", "batch", "side")
MB, MIB = 1e6, 2**20
HEAD = (
    *("devices", "step", "batch of one"),
    *("summed, MB", "gathered", "scattered", "else", "due"),
    *("arguments, MiB", "temporaries", "together", "TFLOP of one", "batch"),
)
SORTS = ("all-reduce", "all-gather", "reduce-scatter")
COMMAND = "python -m experiments.bench_scaling"
REPEATED = (
    "Rows that are asked for and not here are compiled by the next call, one after the other, a few minutes of a "
    "core each."
)
READING = (
    "The training step of configs/imagenet.py (ResNet-50, 224x224 unless a heading says otherwise, products in "
    "bfloat16, SGD with momentum; dense, and gradual magnitude pruning's fine-tuning step under masks of 16x16 "
    "blocks at a density of 10%), compiled for TPUs that are not here and not run: every figure is the compiler's. "
    "Under `data` devices share the rows of a batch and each holds all weights; under `fsdp` they share the rows, and "
    "each weight, with what the optimiser remembers of it, lies in parts on all of them and is gathered where it is "
    "used; under `model` (mesh.model=4) four devices have the same rows and share the outputs of each layer, and the "
    "rows are shared by the fours. `mesh.rules` is empty: what lies where is what docs/devices.md says of itself."
)
EXCHANGED = (
    "Batch of one: the rows that a device computes. Summed, gathered, scattered: bytes of the whole arrays to which "
    "that happens in one step, as one device sees them; else: what it sends to a single other one, as in the rings by "
    "which gradients are scattered under `fsdp`. On a ring 2(n - 1)/n times what is summed leaves each of n devices, "
    "and (n - 1)/n times what is gathered. Due is what cannot be saved where weights lie whole: the gradient of every "
    "weight, in the two bytes of bfloat16 in which it is computed; for the batch norms over the whole batch the means "
    "of x and x² forwards and two sums backwards, four numbers of four bytes a channel; the loss, and how many were "
    "right. The gradients are summed over the devices before they become float32. What is exchanged beyond that is a "
    "further sum for most of the norms' channels."
)
HELD = (
    "Arguments: the state, which is donated, and the batch's pictures as bytes. Together: with what comes out beside "
    "the state and the temporaries. A TPU v5e has 16 GiB. TPUs' steps are compiled with the least effort for speed, as "
    "the full one takes more than five minutes a step on one core. At full effort temporaries may come out otherwise, "
    "and weights may be cast to bfloat16 before they are gathered, as in a single product that was tried: half of those "
    "bytes. That 64 devices and more sum in place of gathering is so there too."
)


def same(row: Row, cell: Row) -> bool:
    """Whether a row is a cell's."""
    return all(row[key] == cell[key] for key in KEYS)


def kept(stem: Path, versions: Mapping[str, Any]) -> list[Row]:
    """The rows that the same versions have compiled into stem.json; none where there are no such."""
    file = stem.with_suffix(".json")
    found = json.loads(file.read_text(encoding="utf-8")) if file.is_file() else {}
    return found["rows"] if found.get("versions") == versions else []


def write(stem: Path, versions: Mapping[str, Any], rows: Sequence[Row]) -> list[Path]:
    """Writes stem.md, .json and .svg; returns their paths."""
    ordered = sorted(rows, key=lambda row: [row[key] for key in KEYS])
    data = {"command": COMMAND, "versions": versions, "rows": ordered}
    return files.write(
        stem,
        {
            ".json": json.dumps(data, indent=1) + "\n",
            ".svg": chart([row for row in ordered if not row["problem"]]),
            ".md": page(versions, ordered, f"{stem.name}.svg"),
        },
    )


def page(versions: Mapping[str, Any], rows: Sequence[Row], picture: str) -> str:
    """The document."""
    listed = ", ".join(f"{name} {version}" for name, version in versions["versions"].items())
    made = f"`{COMMAND}`; Python {versions['python']}, {listed}. {REPEATED}"
    parts = ["# More devices", READING, made, *findings(rows), f"![memory]({picture})"]
    for target, mesh, side in dict.fromkeys((r["target"], r["mesh"], r["side"]) for r in rows):
        own = [r for r in rows if (r["target"], r["mesh"], r["side"]) == (target, mesh, side)]
        parts += [
            f"## {target}, {mesh}, {side}x{side}",
            markdown.table([HEAD, *map(cells, own)]),
        ]
    return markdown.page([*parts, EXCHANGED, HELD])


def cells(row: Row) -> list[str]:
    """A row as texts."""
    start = [str(row["devices"]), row["arm"], f"{rows_of_one(row):,}"]
    if row["problem"]:
        return [*start, f"does not compile: {row['problem']}", *[""] * 8, f"{row['batch']:,}"]
    memory = [row["memory"][name] for name in ("arguments", "temporaries", "together")]
    return [
        *start,
        *(f"{size / MB:.3f}" if size else "" for size in _sorted(row)),
        f"{due(row) / MB:.3f}" if row["mesh"] == "data" else "",
        *(f"{size / MIB:,.0f}" for size in memory),
        f"{row['flops'] / 1e12:.3f}",
        f"{row['batch']:,}",
    ]


def line(row: Row) -> str:
    """A row in words, for a terminal."""
    said = ", ".join(f"{name} {text}" for name, text in zip(HEAD, cells(row), strict=True) if text)
    return f"{row['target']}: {said}; {row.get('seconds', 0)} s"


def exchanged(row: Row) -> int:
    """Bytes of a step."""
    return sum(one["bytes"] for one in row["exchanges"])


def _sorted(row: Row) -> list[int]:
    """Bytes of a step that are summed, gathered, scattered and exchanged otherwise."""
    of = lambda sort: sum(one["bytes"] for one in row["exchanges"] if one["kind"] == sort)
    sizes = [of(sort) for sort in SORTS]
    return [*sizes, exchanged(row) - sum(sizes)]


def due(row: Row) -> int:
    """Bytes that a step cannot save; nothing is due where there is nobody to exchange with."""
    return sum(row["due"].values()) if row["devices"] > 1 else 0


def findings(rows: Sequence[Row]) -> list[str]:
    """What the rows say of the laws, in words."""
    several = [r for r in rows if r["devices"] > 1 and not r["problem"]]
    whole = [r for r in several if r["mesh"] == "data"]
    parts = [r for r in several if r["mesh"] == "fsdp"]
    columns = [r for r in several if r["mesh"] == "model"]
    found = [f"{_spread(whole)} {_masks(whole)}"] if whole else []
    found += [_gathers(parts)] if parts else []
    return [*found, _activations(columns)] if columns else found


def _spread(rows: Sequence[Row]) -> str:
    """What is exchanged where weights lie whole, and what is due."""
    sizes = sorted({exchanged(row) for row in rows})
    counts = sorted({row["devices"] for row in rows})
    over = " to ".join(f"{count}" for count in dict.fromkeys((counts[0], counts[-1])))
    between = " to ".join(f"{size:,}" for size in dict.fromkeys((sizes[0], sizes[-1])))
    return (
        f"Under `data` on {over} devices a step exchanges {between} bytes"
        f"; {due(rows[0]):,} are due: {rows[0]['due']['gradients']:,} of gradients, "
        f"{rows[0]['due']['norms']:,} of norms, {rows[0]['due']['metrics']} of metrics."
    )


def _gathers(rows: Sequence[Row]) -> str:
    """On how many devices weights in parts are gathered as such, and on how many as sums."""
    named: dict[bool, set[int]] = {True: set(), False: set()}
    for row in rows:
        named["all-gather" in {one["kind"] for one in row["exchanges"]}].add(row["devices"])
    told = {kind: ", ".join(map(str, sorted(counts))) for kind, counts in named.items()}
    gathered = f"Under `fsdp` weights are gathered as such on {told[True] or 'no'} devices"
    if not told[False]:
        return f"{gathered}."
    return (
        f"{gathered}. On {told[False]} the compiler writes it as a sum over all devices, each of which gives its own "
        "part and zeros: the bytes of the weights then stand under summed, and those of the gradients whole."
    )


def _activations(rows: Sequence[Row]) -> str:
    """How much is exchanged where columns of weights are shared."""
    ordered = sorted(rows, key=lambda row: row["devices"])
    first, last = ordered[0], ordered[-1]
    return (
        "Under `model` devices exchange the activations of all rows that they compute, forwards and backwards: "
        f"{exchanged(first) / MB:,.0f} MB a step at {rows_of_one(first):,} rows, {exchanged(last) / MB:,.0f} at "
        f"{rows_of_one(last):,}. A network of wide pictures and narrow weights is better off under the other two."
    )


def _masks(rows: Sequence[Row]) -> str:
    """By how many bytes masked steps exchange more than the dense ones of the same devices and batch."""
    dense = {_place(row): exchanged(row) for row in rows if row["arm"] == "dense"}
    more = {
        exchanged(r) - dense[_place(r)] for r in rows if r["arm"] == "masked" and _place(r) in dense
    }
    if not more:
        return ""
    return f"Masks add {' or '.join(f'{size:,}' for size in sorted(more))} bytes."


def _place(row: Row) -> tuple[Any, ...]:
    return tuple(row[key] for key in KEYS if key != "arm")
