"""The CPU's kernel, compiled on first use with the system's C++ compiler and kept in the user's cache."""

import ctypes
import functools
import hashlib
import os
import pathlib
import platform
import shutil
import subprocess
import tempfile
import warnings

import jax
import jaxlib

FOLDER = pathlib.Path(__file__).with_name("cc")
SOURCE = FOLDER / "block_sparse.cc"
# Fused multiply-adds, but nothing that would let the compiler assume that no NaN occurs.
FLAGS = ("-std=c++17", "-shared", "-fPIC", "-O3", "-DNDEBUG", "-ffp-contract=fast", "-pthread")
TUNED = ("-march=native",)
TARGETS = ("block_sparse_product", "block_sparse_gradient")


@functools.cache
def missing() -> str:
    """Why there is no compiled kernel, in words; "" once it is compiled, loaded and registered.

    $SPARSITY_NATIVE=0 forbids it. What is missing is said once, as a warning, and products run dense.
    """
    if os.environ.get("SPARSITY_NATIVE") == "0":
        return "SPARSITY_NATIVE=0 forbids the compiled kernel"
    try:
        _register(ctypes.CDLL(str(_compiled())))
    except (OSError, subprocess.CalledProcessError) as error:
        reason = f"the CPU's kernel cannot be compiled here: {_words(error)}"
        warnings.warn(f"{reason}. Block-sparse products run dense on this machine.", stacklevel=2)
        return reason
    return ""


def cache() -> pathlib.Path:
    """The folder with the compiled kernels: $XDG_CACHE_HOME/sparsity/kernels, in ~/.cache without it."""
    root = os.environ.get("XDG_CACHE_HOME") or pathlib.Path.home() / ".cache"
    return pathlib.Path(root) / "sparsity" / "kernels"


def compiler() -> str:
    """The C++ compiler: $CXX, else c++, g++ or clang++. Raises FileNotFoundError where there is none."""
    asked = os.environ.get("CXX")
    for name in (asked,) if asked else ("c++", "g++", "clang++"):
        if found := shutil.which(name):
            return found
    raise FileNotFoundError(f"there is no C++ compiler ({asked or 'c++, g++ or clang++'})")


def _compiled() -> pathlib.Path:
    tool = compiler()
    library = cache() / f"block_sparse-{_fingerprint(tool)}.so"
    if library.is_file():
        return library
    library.parent.mkdir(mode=0o700, parents=True, exist_ok=True)
    with tempfile.TemporaryDirectory(dir=library.parent) as folder:
        made = pathlib.Path(folder) / library.name
        try:
            _compile(tool, made, TUNED)
        except (
            subprocess.CalledProcessError
        ):  # some compilers have no name for the machine they run on
            _compile(tool, made, ())
        # Renamed when it is whole: processes that start together never load half a file.
        made.replace(library)
    return library


def _compile(tool: str, to: pathlib.Path, tuned: tuple[str, ...]) -> None:
    include = f"-isystem{jax.ffi.include_dir()}"
    command = [tool, *FLAGS, *tuned, include, str(SOURCE), "-o", str(to)]
    subprocess.run(command, check=True, capture_output=True, text=True)


def _fingerprint(tool: str) -> str:
    """What the compiled file depends on: a home folder may be shared by unlike machines."""
    version = subprocess.run([tool, "--version"], check=True, capture_output=True, text=True).stdout
    sources = "".join(file.read_text() for file in sorted(FOLDER.iterdir()))
    parts = (sources, version, repr(FLAGS + TUNED), jaxlib.__version__, _processor())
    return hashlib.sha256("\0".join(parts).encode()).hexdigest()[:24]


def _processor() -> str:
    known = pathlib.Path("/proc/cpuinfo")
    lines = known.read_text().splitlines() if known.is_file() else [platform.processor()]
    names = ("model name", "flags", "Features", "CPU part")
    return platform.machine() + "".join(sorted({n for n in lines if n.startswith(names)}))


def _register(library: ctypes.CDLL) -> None:
    for target in TARGETS:
        capsule = jax.ffi.pycapsule(getattr(library, target))
        jax.ffi.register_ffi_target(target, capsule, platform="cpu")


def _words(error: Exception) -> str:
    said = getattr(error, "stderr", None) or str(error)
    return said.strip().splitlines()[0]
