"""Makes a finished run's model ready to be served, checks it, and says what it is.

    python -m experiments.export runs/mine [--batch=64] [--platforms=cpu,tpu,cuda] [--path=sparse] [--out=DIR]

It reads the run's model.safetensors and model.json, and writes a folder (sparsity/kernels/served.py says what it
holds) that runs without this library's training code, without flax, and without a data set:

    python -m sparsity.kernels.serve runs/mine/served --input=images.npy --output=logits.npy
    python -m sparsity.kernels.serve runs/mine/served --compare

The served model takes examples as the data set has them (images as uint8, rows of a table as int32) and gives
logits: standardising is in the program.
Programs for another platform than this machine's are lowered and not run.
"""

from collections.abc import Callable, Iterable, Iterator, Sequence
from pathlib import Path
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
from absl import flags

from experiments import command
from experiments.assembly.assemble import Experiment, assemble
from experiments.inputs import Inputs, inputs_of
from sparsity.kernels import served
from sparsity.kernels.platforms import here
from sparsity.surgery import export, serving
from sparsity.train.objectives import Objective
from sparsity.units.partition import Partition, Tree

CHECKED = 20_000  # examples that a served model is checked on, at least where there are as many


def exported(run: Path, out: Path, batch: int, platforms: Sequence[str], path: str = "auto") -> str:
    """Exports a run's model into a folder and returns a report.

    path: of the products, as for `surgery.serving.write`.

    Raises ValueError for what is no finished run, a batch below 1 or an unknown platform, and where the
    served model does not give what the network gives.
    """
    if batch < 1:
        raise ValueError(f"--batch is the number of examples in a program's batch, not {batch}")
    params, masks, text = export.read(run)
    experiment = assemble(text["provenance"]["config"])
    partition = _partition(experiment, masks, run)
    inputs = inputs_of(experiment.sets)
    apply = network(experiment, inputs)
    example = jax.ShapeDtypeStruct((batch, *inputs.shape), inputs.dtype)
    objective = experiment.sets.kind.objective(0.0)
    about = {"provenance": text["provenance"]}
    made = serving.write(
        out,
        apply,
        params,
        example,
        partition=partition,
        masks=masks,
        platforms=platforms,
        path=path,
        about=about,
    )
    verdict = "not run here"
    if here() in platforms:
        verdict = checked(out, apply, params, inputs, objective)
    lines = (
        *_uses(made["uses"]),
        *_kernels(made["kernels"]),
        _sizes(run, out, made["files"]),
        verdict,
    )
    return "\n".join(lines)


def network(experiment: Experiment, inputs: Inputs) -> Callable[[Tree, jax.Array], jax.Array]:
    """(variables, examples as the data set has them) -> outputs, as an evaluation runs the network."""
    model = experiment.shared.model

    def apply(variables: Tree, examples: jax.Array) -> jax.Array:
        rest = {name: tree for name, tree in variables.items() if name != "params"}
        trained = {"params": variables["params"]}
        return model.apply(trained, rest, inputs.prepared(examples))[0]

    return apply


def _partition(experiment: Experiment, masks: dict[str, Any], run: Path) -> Partition:
    partition = experiment.target.partition
    if {n: g.grid for n, g in partition.items()} != {n: m.shape for n, m in masks.items()}:
        raise ValueError(f"the masks of {run / export.TEXT} are not those of its own config")
    return partition


def checked(
    out: Path, apply: Callable[..., jax.Array], params: Tree, inputs: Inputs, objective: Objective
) -> str:
    """A line on the served model against the network, on the run's own evaluation set, its first part where
    it is large.

    Raises ValueError where they differ by more than 3% of the largest output, as no rounding explains.
    """
    model = served.load(out)
    parts = [*_side_by_side(model, jax.jit(apply), params, inputs)]
    got, asked, labels = (np.concatenate(arrays) for arrays in zip(*parts, strict=True))
    difference, largest = float(np.abs(got - asked).max()), float(np.abs(asked).max())
    right = np.mean(objective.right(jnp.asarray(got), jnp.asarray(labels)))
    if not difference <= 0.03 * largest:
        raise ValueError(
            f"{out}: the served model's outputs differ by {difference:.3g} of {largest:.3g}"
        )
    return (
        f"served ({model.kind}): accuracy {right:.2%} on {len(labels)} examples; outputs differ from "
        f"the network's by {difference:.1e} at most, of {largest:.3g}"
    )


def _side_by_side(
    model: served.Served, run: Callable[..., jax.Array], params: Tree, inputs: Inputs
) -> Iterator[tuple[np.ndarray, np.ndarray, np.ndarray]]:
    """(served outputs, the network's, labels) of batches."""
    count = 0
    for examples, labels in inputs.scored():
        yield model.predict(examples), np.asarray(run(params, examples)), labels
        count += len(labels)
        if count >= CHECKED:
            return


def _uses(uses: dict[str, dict[str, list[str]]]) -> list[str]:
    """A line for each weight and platform."""
    wide = max(map(len, uses), default=0)
    rows = [(path, name, words) for path, use in uses.items() for name, words in use.items()]
    return [
        f"{p.ljust(wide)}  {name}  {'; '.join(dict.fromkeys(words))}" for p, name, words in rows
    ]


def _kernels(kernels: dict[str, list[str]]) -> list[str]:
    none = "no kernel of its own: every product in it is dense"
    return [f"the program for {name} calls {', '.join(k) or none}" for name, k in kernels.items()]


def _sizes(run: Path, out: Path, files: Iterable[str]) -> str:
    dense, packed = (path.stat().st_size for path in (run / export.WEIGHTS, out / served.WEIGHTS))
    programs = sum((out / name).stat().st_size for name in files if name != served.WEIGHTS)
    return (
        f"{out / served.WEIGHTS}: {packed:,} bytes, {packed / dense:.1%} of {export.WEIGHTS}'s {dense:,}; "
        f"programs {programs:,} bytes"
    )


def main(argv: list[str]) -> None:
    """The command line."""
    if len(argv) != 2:
        raise ValueError("name one run's directory: python -m experiments.export runs/mine")
    run = Path(argv[1])
    out = Path(str(OUT.value)) if OUT.value else run / "served"
    platforms = PLATFORMS.value or [here()]
    print(exported(run, out, BATCH.value, platforms, PATH.value))


if __name__ == "__main__":
    BATCH = flags.DEFINE_integer(
        "batch", 64, "Examples in a batch; another number is padded or cut."
    )
    OUT = flags.DEFINE_string("out", None, "The folder to write; RUN/served by default.")
    PLATFORMS = flags.DEFINE_list("platforms", None, "cpu, tpu, cuda; this machine's by default.")
    PATH = flags.DEFINE_enum(
        "path",
        "auto",
        ("auto", "sparse"),
        "auto: kernels where they are expected to be faster than dense; sparse: wherever there are some.",
    )
    command.run(main, known=(ValueError, OSError, ImportError), positional=True)
