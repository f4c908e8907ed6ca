"""Does the input keep up: pictures per second of the pipeline, of the step, and the share the device waits.

    python -m experiments.bench_input [--side=224 --batch=64 --seconds=15 --tensorflow=PYTHON]

No ImageNet is needed: parts of scikit-learn's two sample photographs are written as JPEGs of ImageNet's usual
size (500x375, about 110 kB each). Each rate is one of its own; the processor time per picture says what a core
can do, whatever else runs. PYTHON is one that has TensorFlow, for tf.data on the same files.
"""

import io
import itertools
import os
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any, NamedTuple

import jax
import numpy as np
from absl import flags

from configs import imagenet
from experiments import command
from experiments.assembly.assemble import Experiment, assemble, feed
from experiments.surroundings import surroundings
from sparsity.data import crops
from sparsity.data.crc32c import crc32c
from sparsity.target import context_of
from sparsity.train.step import Span

PICTURES, SIZE, BYTES = 128, (500, 375), 110_000
CLASSES = 4


class Rate(NamedTuple):
    """Pictures per second of wall time, and milliseconds of processor time for each."""

    speed: float
    busy: float


def write_pictures(root: Path) -> int:
    """JPEGs in folders of classes under ROOT/photographs; returns their mean size in bytes."""
    from PIL import Image
    from sklearn.datasets import load_sample_images

    photographs = [Image.fromarray(image) for image in load_sample_images().images]
    rng, sizes = np.random.default_rng(0), []
    for number in range(PICTURES):
        left, upper = int(rng.integers(0, 240)), int(rng.integers(0, 127))
        part = photographs[number % 2].crop((left, upper, left + 400, upper + 300))
        data = _jpeg(part.resize(SIZE, Image.Resampling.BICUBIC))
        sizes.append(len(data))
        for split in ("train", "val"):
            path = root / "photographs" / split / f"class{number % CLASSES}" / f"{number:04}.jpg"
            path.parent.mkdir(parents=True, exist_ok=True)
            path.write_bytes(data)
    return sum(sizes) // len(sizes)


def _jpeg(image: Any) -> bytes:
    """At the quality that comes closest to ImageNet's mean size."""

    def at(quality: int) -> bytes:
        stream = io.BytesIO()
        image.save(stream, "JPEG", quality=quality)
        return stream.getvalue()

    return min((at(quality) for quality in (90, 94, 96, 98)), key=lambda d: abs(len(d) - BYTES))


def rate(batches: Iterator[int], seconds: float) -> Rate:
    """Of an iterator of numbers of pictures, after its first."""
    next(batches)
    wall, busy, count = time.perf_counter(), time.process_time(), 0
    while (taken := time.perf_counter() - wall) < seconds:
        count += next(batches)
    return Rate(count / taken, 1000 * (time.process_time() - busy) / count)


def pillow_alone(paths: list[Path], side: int) -> Iterator[int]:
    """Read, decode, cut, resize: what cannot be saved, in one thread and without a pipeline."""
    from PIL import Image

    for number, path in enumerate(itertools.cycle(paths)):
        with Image.open(io.BytesIO(path.read_bytes())) as image:
            part = crops.random_part(crops.draws(0, 0, number), *image.size)
            np.asarray(image.convert("RGB").resize((side, side), Image.Resampling.BILINEAR, part))
        yield 1


def pipeline(stream: Any, batch: int) -> Iterator[int]:
    """Batches of a stream as a run gets them, on the host."""
    for rows in stream.training(0, 0, 1 << 30, batch):
        yield len(rows["label"])


def checked(paths: list[Path]) -> Iterator[int]:
    """The checksum of TFRecord over as many bytes as a picture has."""
    for path in itertools.cycle([path.read_bytes() for path in paths]):
        crc32c(path)
        yield 1


class Step(NamedTuple):
    """A training step to be run on windows."""

    run: Callable[[Any], None]
    batch: int


def stepping(experiment: Experiment) -> Step:
    """The dense training step of an experiment."""
    made, phase = experiment.shared.programs, experiment.plan[0]
    state = made.create(jax.random.key(0), experiment.inputs)
    context = context_of(experiment.target, phase)
    span = jax.device_put(Span(np.int32(0), np.int32(phase.length), np.float32(1)))

    def run(window: Any) -> None:
        nonlocal state
        state = made.train(state, window, context, span, frozen=(), dead="kept")
        jax.block_until_ready(state)

    return Step(run, experiment.config["batch"])


def alone(step: Step, window: Any) -> Iterator[int]:
    """The step on a window that is there."""
    while True:
        step.run(window)
        yield step.batch


def waits(experiment: Experiment, step: Step, seconds: float) -> tuple[float, float]:
    """(pictures per second, share of the time in which the device waits) of steps on streamed windows."""
    source: Any = feed(experiment)
    source(0)
    start, waited, count = time.perf_counter(), 0.0, 0
    while time.perf_counter() - start < seconds:
        asked = time.perf_counter()
        window = jax.block_until_ready(source(count + 1))
        waited += time.perf_counter() - asked
        step.run({**window, "first": np.int32(count + 1)})
        count += 1
    taken = time.perf_counter() - start
    source.close()
    return count * step.batch / taken, waited / taken


def tfdata(python: str, folder: Path, side: int, batch: int, threads: int, seconds: float) -> Rate:
    """That of tf.data."""
    script = Path(__file__).with_name("bench_tfdata.py")
    words = [python, str(script), str(folder), *map(str, (side, batch, threads, int(seconds)))]
    done = subprocess.run(words, capture_output=True, text=True, check=True)
    return Rate(*map(float, done.stdout.split()[-2:]))


def experiment_on(root: Path, side: int, batch: int, model: str) -> Experiment:
    """A dense network on the pictures, as configs/imagenet.py has it."""
    config = imagenet.get_config(f"dense,model={model}").to_dict()
    workers = len(os.sched_getaffinity(0))
    own = {"name": "folder:photographs", "root": str(root), "side": side, "workers": workers}
    config["data"] |= own
    config["model"] |= {"dtype": DTYPE.value}
    config["optimizer"] |= {"warmup": 0}
    return assemble({**config, "density": "1", "batch": batch, "steps": 1000})


def main(argv: list[str]) -> None:
    """The command line."""
    del argv
    side, batch, seconds = SIDE.value, BATCH.value, SECONDS.value
    cores = len(os.sched_getaffinity(0))
    print(surroundings())
    with tempfile.TemporaryDirectory() as folder:
        root = Path(folder)
        size = write_pictures(root)
        paths = sorted((root / "photographs/train").rglob("*.jpg"))
        print(f"{PICTURES} JPEGs of {SIZE[0]}x{SIZE[1]}, {size:,} bytes on average; {cores} cores")
        experiment = experiment_on(root, side, batch, MODEL.value)
        _say("Pillow alone, one thread", rate(pillow_alone(paths, side), seconds))
        _say("the pipeline", rate(pipeline(experiment.sets.train, batch), seconds))
        _say("checksums of TFRecord", rate(checked(paths), min(seconds, 3)))
        if TENSORFLOW.value:
            train = root / "photographs/train"
            _say("tf.data", tfdata(TENSORFLOW.value, train, side, batch, cores, seconds))
        step = stepping(experiment)
        window = {**feed(experiment)(0), "first": np.int32(0)}
        step.run(window)
        step.run(window)  # the second compiles again, for a state that has been through a step
        _say(f"the step of {MODEL.value} alone", rate(alone(step, window), seconds))
        together, share = waits(experiment, step, seconds)
        print(
            f"  {'both':<28} {together:9.1f} pictures/s; the device waits {share:.1%} of the time"
        )


def _say(what: str, found: Rate) -> None:
    print(f"  {what:<28} {found.speed:9.1f} pictures/s {found.busy:9.2f} ms of a core each")


if __name__ == "__main__":
    SIDE = flags.DEFINE_integer("side", 224, "Of what is cut out, in pixels.", lower_bound=32)
    BATCH = flags.DEFINE_integer("batch", 64, "Pictures in a batch.", lower_bound=1)
    SECONDS = flags.DEFINE_float("seconds", 15.0, "Of each measurement.", lower_bound=1.0)
    MODEL = flags.DEFINE_string("model", "resnet50", "The network of the step.")
    DTYPE = flags.DEFINE_string("dtype", "float32", "float32 or bfloat16.")
    TENSORFLOW = flags.DEFINE_string("tensorflow", "", "A Python that has TensorFlow.")
    command.run(main, known=(ValueError, OSError, subprocess.CalledProcessError))
    sys.exit()
