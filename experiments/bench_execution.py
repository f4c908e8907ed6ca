"""Whole training steps on live blocks against masked ones, by network and method, in one run.

    python -m experiments.bench_execution [--nets=NAME,NAME] [--rounds=20] [--steps=10] [--clock=wall]
        [--minutes=9] [--out=docs/kernels]

The networks are those of this platform (`benchmarks/execution_nets`). Each round times every program in turn, so
that a drift of the machine meets all of them; the medians of the masked step over the others' are the gains. The
masked program is timed a second time, as the noise floor. A time is of --steps steps, of which the last is waited
for: on a GPU ten, so that the host may run ahead as it does in training. Where others use the machine too, take one
core (taskset -c 0) and --clock=processor.

Parts that the file of results has already, from this machine and these versions, are not measured again, so that a
call that was cut off goes on; results of others stay beside them. --minutes starts no part after so many: a part of
a large network takes one or two, most of it compiling. It needs jax, flax and optax alone, so that it runs on a
bare machine.
"""

import argparse
import json
import pathlib
import sys
from collections.abc import Sequence
from typing import Any

import jax

from experiments.benchmarks.clocks import Seconds
from experiments.benchmarks.execution_nets import nets
from experiments.benchmarks.execution_parts import CASES, How, measure
from experiments.benchmarks.sitting import within
from experiments.reporting.training import page
from experiments.surroundings import surroundings

# Steps between two waits.
STEPS = {"cpu": 1}


def run(asked: argparse.Namespace, argv: Sequence[str]) -> None:
    """Measures every part that is missing, and writes the results after each."""
    file = asked.out / "training.json"
    asked.out.mkdir(parents=True, exist_ok=True)
    every, own = results(file, surroundings(), argv)
    missing = missing_from(own, asked.nets)
    print(f"{own['surroundings']['device']}: {len(missing)} parts to measure", flush=True)
    for net, case in within(asked.minutes, missing):
        own["parts"] = in_order([*own["parts"], part_of(net, case, asked)])
        file.write_text(json.dumps({"devices": every}, indent=1) + "\n")
        file.with_suffix(".md").write_text(page(every))


def part_of(net: str, case: str, asked: argparse.Namespace) -> dict[str, Any]:
    """What a file of results holds of a network and a case."""
    chosen, how = here()[net], How(asked.rounds, asked.steps, asked.clock)
    found = measure(chosen, CASES[case], how)
    gains = {name: round(gain, 2) for name, gain in found["gains"].items()}
    print(net, case, f"{found['ms']['masked']:.2f} ms masked", gains, flush=True)
    return {**chosen._asdict(), "net": net, "case": case, **how._asdict(), **found}


def results(
    file: pathlib.Path, place: dict[str, Any], argv: Sequence[str]
) -> tuple[list[dict[str, Any]], dict[str, Any]]:
    """Every machine's results in a file, and those of a place among them, begun where there are none."""
    every = json.loads(file.read_text())["devices"] if file.is_file() else []
    fresh = {"command": "", "surroundings": place, "parts": []}
    own = next((one for one in every if one["surroundings"] == place), fresh)
    own["command"] = " ".join(["python -m experiments.bench_execution", *argv])
    return every if own in every else [*every, own], own


def missing_from(own: dict[str, Any], names: Sequence[str]) -> list[tuple[str, str]]:
    """The parts (net, case) that the results lack: of every network first the first case."""
    done = {(part["net"], part["case"]) for part in own["parts"]}
    return [(net, case) for case in CASES for net in names if (net, case) not in done]


def in_order(parts: list[dict[str, Any]]) -> list[dict[str, Any]]:
    """Parts by network and case, whatever order they were measured in."""
    places = {name: i for i, name in enumerate([*here(), *CASES])}
    return sorted(
        parts, key=lambda part: [places.get(part[what], len(places)) for what in ("net", "case")]
    )


def here() -> Any:
    """The networks of this platform."""
    return nets(jax.default_backend())


def parsed(argv: Sequence[str]) -> argparse.Namespace:
    """The command line. argparse, because a bare machine has no absl."""
    parser = argparse.ArgumentParser(
        prog="experiments.bench_execution", description=__doc__.splitlines()[0], allow_abbrev=False
    )
    steps = STEPS.get(jax.default_backend(), 10)
    parser.add_argument("--nets", type=lambda text: text.split(","), default=list(here()))
    parser.add_argument("--rounds", type=int, default=20, help="times that each program is timed")
    parser.add_argument("--steps", type=int, default=steps, help="of each time")
    parser.add_argument("--clock", choices=Seconds._fields, default="wall")
    parser.add_argument("--minutes", type=float, default=1e9, help="after which no part begins")
    parser.add_argument("--out", type=pathlib.Path, default=pathlib.Path("docs/kernels"))
    asked = parser.parse_args(argv)
    if unknown := [name for name in asked.nets if name not in here()]:
        parser.error(f"no net is called {unknown[0]!r}; there are: {', '.join(here())}")
    if asked.rounds < 3 or asked.steps < 1:
        parser.error("there are at least 3 rounds, of at least 1 step")
    return asked


def main(argv: list[str]) -> None:
    """The command line."""
    run(parsed(argv), argv)


if __name__ == "__main__":
    main(sys.argv[1:])
