"""Running an exported model on a machine that has jax, numpy and this folder, and nothing else of ours.

A model's folder holds

    packed.safetensors       its weights (packed_files.py), once for all programs
    sparse-PLATFORM.jax      the model with block-sparse products, as jax.export has serialised it
    dense-PLATFORM.jax       the same with every weight unpacked
    serving.json             the format, the SHA-256 of each file, the input, and how each weight is used

Both programs take the weights as arguments. A weight whose products run dense in the sparse program as well is
unpacked when the model is loaded, once, and not by the program. The dense program is what the other is measured
against, and what runs where the compiled kernel of the CPU cannot be had. One program is for one size of batch:
fewer examples are padded, more are cut.
"""

import hashlib
import importlib.util
import json
from collections.abc import Callable, Mapping
from pathlib import Path
from types import ModuleType
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
from jax import export

from sparsity.kernels import packed_files, platforms
from sparsity.kernels.cpu import native
from sparsity.kernels.packed import PackedMatrix

FORMAT = 2
READ = (1, FORMAT)
WEIGHTS, TEXT = "packed.safetensors", "serving.json"
KINDS = ("sparse", "dense")
# The forms in which a program takes a packed weight.
PACKED, DENSE, BOTH = "packed", "dense", "both"
# That of every packed weight in format 1: live blocks, and the six arrays that a layout had then.
FIRST, FIRST_ARRAYS = "packed, format 1", 7


class Served(NamedTuple):
    """A model that is loaded, and its weights on the device.

    kind: "sparse" or "dense". text: all of serving.json. call: (arguments, batch) -> outputs.
    """

    kind: str
    text: dict[str, Any]
    arguments: dict[str, list[jax.Array]]
    call: Callable[..., jax.Array]

    def predict(self, examples: Any) -> np.ndarray:
        """The outputs for examples (n, ...), any n. Raises ValueError for another shape or dtype."""
        examples, size = self.fitting(examples), self.text["input"][0][0]
        found = [self._batch(examples[i : i + size]) for i in range(0, len(examples), size)]
        return np.concatenate(found) if found else self._batch(examples)

    def fitting(self, examples: Any) -> np.ndarray:
        """The examples (n, ...). Raises ValueError for another shape or dtype than the model takes."""
        examples, (shape, dtype) = np.asarray(examples), self.text["input"]
        kind = examples.ndim, list(examples.shape[1:]), examples.dtype.name
        if kind != (len(shape), shape[1:], dtype):
            raise ValueError(
                f"the model takes {dtype} of shape ({', '.join(map(str, ['n', *shape[1:]]))}), not "
                f"{examples.dtype} of shape {examples.shape}"
            )
        return examples

    def _batch(self, examples: np.ndarray) -> np.ndarray:
        missing = self.text["input"][0][0] - len(examples)
        padded = np.pad(examples, [(0, missing), *[(0, 0)] * (examples.ndim - 1)])
        return np.asarray(self.call(self.arguments, padded))[: len(examples)]


def load(folder: Path | str, kind: str | None = None) -> Served:
    """The model in a folder, for the device that jax runs on.

    kind: None takes "sparse", and "dense" where the CPU's kernel cannot be compiled.
    Raises ValueError in words, before anything runs: for a file that is missing, cut short, changed or
    of a later format, a platform that the model was not exported for, and "sparse" without its kernel.
    """
    folder = Path(folder)
    if kind not in (None, *KINDS):
        raise ValueError(f"a model is served as {' or '.join(KINDS)}, not {kind!r}")
    text = _text(folder / TEXT)
    platform = platforms.here()
    problem = without_kernel(text, platform)
    if problem and kind == "sparse":
        raise ValueError(f"{folder}: the sparse program cannot run here: {problem}")
    kind = kind or ("dense" if problem else "sparse")
    program = _program(folder, text, f"{kind}-{platform}.jax")
    weights = _weights(folder, text)
    arguments = arguments_of(weights, _forms(text, kind, platform, weights))
    _check_arguments(program, arguments, folder)
    return Served(kind, text, arguments, jax.jit(program.call))


def arguments_of(weights: Mapping[str, Any], forms: Mapping[str, str]) -> dict[str, list[Any]]:
    """The weights as a program takes them: a list of arrays each.

    forms: of packed weights; those that are not named are taken as live blocks, in the order of the leaves of a
           PackedMatrix. The dense weight stands behind them where both are taken.
    """
    return {name: _arrays(weight, forms.get(name, PACKED)) for name, weight in weights.items()}


def _forms(
    text: Mapping[str, Any], kind: str, platform: str, weights: Mapping[str, Any]
) -> dict[str, str]:
    """The form in which a folder's program takes each weight."""
    if kind == "dense":
        return dict.fromkeys(weights, DENSE)
    if text["format"] == 1:
        return dict.fromkeys(weights, FIRST)
    return text.get("forms", {}).get(platform, {})


def _arrays(weight: Any, form: str) -> list[Any]:
    if not isinstance(weight, PackedMatrix):
        return [weight]
    if form == FIRST:
        return jax.tree.leaves(weight)[:FIRST_ARRAYS]
    blocks = [] if form == DENSE else jax.tree.leaves(weight)
    return blocks if form == PACKED else [*blocks, weight.dense()]


def without_kernel(text: Mapping[str, Any], platform: str) -> str:
    """Why a program's compiled kernel is missing here, or "". Registers it where it is there."""
    asked = text["kernels"].get(platform, [])
    return native.missing() if platform == "cpu" and asked else ""


def exporting() -> ModuleType:
    """jax.export. Raises ValueError where the package is missing that it keeps programs with."""
    if importlib.util.find_spec("flatbuffers") is None:
        raise ValueError(
            "jax.export needs the package flatbuffers: pip install flatbuffers (the extra `export` "
            "brings it)"
        )
    return export


def _text(path: Path) -> dict[str, Any]:
    try:
        text = json.loads(path.read_bytes())
        version = text["format"]
    except OSError as error:
        raise ValueError(f"{path} can't be read: {error.strerror}") from None
    except (ValueError, KeyError, TypeError, RecursionError):
        raise ValueError(f"{path} is cut short or not the JSON of a served model") from None
    if version not in READ:
        known = " and ".join(map(str, READ))
        raise ValueError(f"{path} is of format {version!r}; this version reads format {known}")
    if missing := [key for key in ("files", "input", "kernels", "jax") if key not in text]:
        raise ValueError(f"{path} is not of a served model: it has no {missing[0]!r}")
    return text


def _verified(folder: Path, text: Mapping[str, Any], name: str) -> bytes:
    try:
        raw = (folder / name).read_bytes()
    except OSError as error:
        raise ValueError(f"{folder / name} can't be read: {error.strerror}") from None
    if hashlib.sha256(raw).hexdigest() != text["files"].get(name):
        raise ValueError(
            f"{folder / name} is cut short, changed, or not the one that {TEXT} was written for"
        )
    return raw


def _weights(folder: Path, text: Mapping[str, Any]) -> dict[str, Any]:
    raw = _verified(folder, text, WEIGHTS)
    try:
        return packed_files.decode(raw)[0]
    except ValueError as error:
        raise ValueError(f"{folder / WEIGHTS}: {error}") from None


def _program(folder: Path, text: Mapping[str, Any], name: str) -> Any:
    if name not in text["files"]:
        made = sorted(file for file in text["files"] if file != WEIGHTS)
        raise ValueError(f"{folder} has no program {name}; it was exported as {', '.join(made)}")
    exporting()
    raw = bytearray(_verified(folder, text, name))
    try:
        return export.deserialize(raw)
    except ValueError as error:
        made = f"it was made with jax {text['jax']}, this is jax {jax.__version__}"
        raise ValueError(f"{folder / name}: {error} ({made})") from None


def _check_arguments(program: Any, arguments: Mapping[str, Any], folder: Path) -> None:
    """ValueError where the weights are not of the shapes that the program was made for."""
    kinds = lambda arrays: [(tuple(a.shape), jnp.dtype(a.dtype).name) for a in arrays]
    if kinds(program.in_avals[:-1]) != kinds(jax.tree.leaves(dict(arguments))):
        raise ValueError(f"{folder}: the weights of {WEIGHTS} are not those that its program takes")
