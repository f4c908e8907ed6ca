"""Makes a finished run's model ready to be served, checks it, and says what it is.

    python -m experiments.export runs/mine [--batch=64] [--platforms=cpu,tpu,cuda] [--out=runs/mine/served]

It reads the run's model.safetensors and model.json, and writes a folder (sparsity/kernels/served.py says what it
holds) that runs without this library's training code, without flax, and without a data set:

    python -m sparsity.kernels.serve runs/mine/served --input=images.npy --output=logits.npy
    python -m sparsity.kernels.serve runs/mine/served --compare

The served model takes images as the data set has them (uint8) and gives logits: standardising is in the program.
Programs for another platform than this machine's are lowered and not run.
"""

from collections.abc import Sequence
from pathlib import Path
from typing import Any

import jax
import numpy as np
from absl import flags

from experiments import command
from experiments.assemble import Experiment, assemble
from sparsity.data.pixels import standardise
from sparsity.kernels import served
from sparsity.surgery import export, serving
from sparsity.units.partition import Partition, Tree


def exported(run: Path, out: Path, batch: int, platforms: Sequence[str]) -> str:
    """Exports a run's model into a folder and returns a report.

    Raises ValueError for what is no finished run, a batch below 1 or an unknown platform, and where the
    served model does not give what the network gives.
    """
    if batch < 1:
        raise ValueError(f"--batch is the number of images in a program's batch, not {batch}")
    params, masks, text = export.read(run)
    experiment = assemble(text["provenance"]["config"])
    partition = _partition(experiment, masks, run)
    apply, images = network(experiment), experiment.sets.test.images
    example = jax.ShapeDtypeStruct((batch, *images.shape[1:]), images.dtype)
    about = {"provenance": text["provenance"]}
    made = serving.write(
        out,
        apply,
        params,
        example,
        partition=partition,
        masks=masks,
        platforms=platforms,
        about=about,
    )
    here = served.PLATFORMS.get(jax.default_backend())
    verdict = checked(out, apply, params, experiment) if here in platforms else "not run here"
    lines = (*_uses(made["uses"]), *_kernels(made["kernels"]), _sizes(run, out), verdict)
    return "\n".join(lines)


def network(experiment: Experiment):
    """(variables, uint8 images) -> logits, as an evaluation runs the network."""
    resident, model = experiment.sets.resident_test, experiment.shared.model

    def apply(variables: Tree, images: jax.Array) -> jax.Array:
        rest = {name: tree for name, tree in variables.items() if name != "params"}
        trained = {"params": variables["params"]}
        return model.apply(trained, rest, standardise(images, resident.mean, resident.std))[0]

    return apply


def _partition(experiment: Experiment, masks: dict[str, Any], run: Path) -> Partition:
    partition = experiment.target.partition
    if {n: g.grid for n, g in partition.items()} != {n: m.shape for n, m in masks.items()}:
        raise ValueError(f"the masks of {run / export.TEXT} are not those of its own config")
    return partition


def checked(out: Path, apply: Any, params: Tree, experiment: Experiment) -> str:
    """A line on the served model against the network, on the run's own evaluation set.

    Raises ValueError where they differ by more than 3% of the largest logit, as no rounding explains.
    """
    test = experiment.sets.test
    model, size = served.load(out), 512
    got = model.predict(test.images)
    run = jax.jit(apply)
    asked = np.concatenate(
        [
            np.asarray(run(params, part))
            for part in np.array_split(test.images, -(-len(got) // size))
        ]
    )
    difference, largest = float(np.abs(got - asked).max()), float(np.abs(asked).max())
    if not difference <= 0.03 * largest:
        raise ValueError(
            f"{out}: the served model gives logits that differ by {difference:.3g} of {largest:.3g}"
        )
    accuracy = float((got.argmax(1) == test.labels).mean())
    return (
        f"served ({model.kind}): accuracy {100 * accuracy:.2f}% on {len(got)} images; logits differ from "
        f"the network's by {difference:.1e} at most, of {largest:.3g}"
    )


def _uses(uses: dict[str, list[str]]) -> list[str]:
    width = max(map(len, uses), default=0)
    return [f"{path.ljust(width)}  {'; '.join(dict.fromkeys(use))}" for path, use in uses.items()]


def _kernels(kernels: dict[str, list[str]]) -> list[str]:
    none = "no kernel of its own: every product in it is dense"
    return [f"the program for {name} calls {', '.join(k) or none}" for name, k in kernels.items()]


def _sizes(run: Path, out: Path) -> str:
    dense, packed = (path.stat().st_size for path in (run / export.WEIGHTS, out / served.WEIGHTS))
    programs = sum(path.stat().st_size for path in out.glob("*.jax"))
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
    platforms = PLATFORMS.value or [served.PLATFORMS.get(jax.default_backend(), "cpu")]
    print(exported(run, out, BATCH.value, platforms))


if __name__ == "__main__":
    BATCH = flags.DEFINE_integer("batch", 64, "Images in a batch; another number is padded or cut.")
    OUT = flags.DEFINE_string("out", None, "The folder to write; RUN/served by default.")
    PLATFORMS = flags.DEFINE_list("platforms", None, "cpu, tpu, cuda; this machine's by default.")
    command.run(main, known=(ValueError, OSError, ImportError), positional=True)
