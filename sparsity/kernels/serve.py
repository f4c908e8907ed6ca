"""Runs a served model on numbers of one's own, or measures it against its dense form.

    python -m sparsity.kernels.serve FOLDER --input=x.npy [--output=y.npy] [--kind=sparse|dense]
    python -m sparsity.kernels.serve FOLDER --compare [--input=x.npy] [--rounds=30]

The input is an array (n, ...) of the shape and dtype that the folder's serving.json names. It needs jax, numpy
and flatbuffers; sparse products on a CPU also need a C++ compiler, once.
"""

import argparse
import statistics
import sys
import time
from pathlib import Path
from typing import Any

import jax
import numpy as np

from sparsity.kernels.served import KINDS, Served, load


def compare(folder: Path, examples: np.ndarray | None, rounds: int) -> str:
    """A line on which form is faster here, by the medians of batches that take turns."""
    if rounds < 1:
        raise ValueError(f"--rounds is how often each form is timed, not {rounds}")
    forms = {kind: load(folder, kind) for kind in KINDS}
    shape, dtype = forms["sparse"].text["input"]
    drawn = _drawn(shape, dtype) if examples is None else forms["sparse"].fitting(examples)
    batch = np.resize(drawn, shape)  # repeated, or cut, as whole examples
    seconds = _timed(forms, batch, rounds)
    ms = {kind: 1000 * statistics.median(found) for kind, found in seconds.items()}
    ratio = ms["dense"] / ms["sparse"]
    device = jax.devices()[0]
    verdict = (
        f"sparse is {ratio:.2f} times as fast"
        if ratio >= 1
        else f"dense is {1 / ratio:.2f} times as fast: serve it with --kind=dense here"
    )
    return (
        f"batch {shape[0]} on {device.platform} {device.device_kind}, jax {jax.__version__}: sparse "
        f"{ms['sparse']:.3f} ms, dense {ms['dense']:.3f} ms; {verdict} "
        f"(median of {rounds}, largest difference of outputs {_difference(forms, batch):.1e})"
    )


def _timed(forms: dict[str, Served], batch: np.ndarray, rounds: int) -> dict[str, list[float]]:
    seconds: dict[str, list[float]] = {kind: [] for kind in forms}
    held = jax.device_put(batch)
    for turn in range(rounds + 1):
        for kind, form in forms.items():
            start = time.perf_counter()
            jax.block_until_ready(form.call(form.arguments, held))
            if turn:  # the first compiles
                seconds[kind].append(time.perf_counter() - start)
    return seconds


def _difference(forms: dict[str, Served], batch: np.ndarray) -> float:
    a, b = (np.asarray(form.predict(batch), np.float64) for form in forms.values())
    return float(np.abs(a - b).max(initial=0))


def _drawn(shape: list[int], dtype: str) -> np.ndarray:
    rng = np.random.default_rng(0)
    if np.issubdtype(np.dtype(dtype), np.integer):
        return rng.integers(0, np.iinfo(dtype).max, shape, dtype)
    return rng.normal(size=shape).astype(dtype)


def main(argv: list[str]) -> None:
    """The command line; what is wrong with a file or an input is said in words."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawTextHelpFormatter
    )
    parser.add_argument("folder", type=Path)
    parser.add_argument("--input", type=Path)
    parser.add_argument("--output", type=Path)
    parser.add_argument("--kind", choices=KINDS)
    parser.add_argument("--compare", action="store_true")
    parser.add_argument("--rounds", type=int, default=30)
    asked = parser.parse_args(argv)
    try:
        print(_answer(asked))
    except (ValueError, OSError) as error:
        sys.exit(str(error))


def _answer(asked: Any) -> str:
    examples = None if asked.input is None else _read(asked.input)
    if asked.compare:
        return compare(asked.folder, examples, asked.rounds)
    if examples is None:
        raise ValueError("--input names an array in numpy's format; --compare needs none")
    served = load(asked.folder, asked.kind)
    outputs = served.predict(examples)
    if asked.output is not None:
        np.save(asked.output, outputs)
        return f"{asked.output}: {outputs.dtype} {outputs.shape}, by the {served.kind} program"
    return "\n".join(" ".join(f"{v:.6g}" for v in np.ravel(row)) for row in outputs)


def _read(path: Path) -> np.ndarray:
    try:
        return np.load(path, allow_pickle=False)
    except (EOFError, ValueError):
        raise ValueError(f"{path} is no array in numpy's format (.npy)") from None


if __name__ == "__main__":
    main(sys.argv[1:])
