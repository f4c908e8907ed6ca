"""The CPU's kernel compiles itself once, is shared, and is not needed."""

import os
import pathlib
import subprocess
import sys

import pytest

from sparsity.kernels.cpu import native

ROOT = pathlib.Path(__file__).parents[2]
# Prints why there is no kernel, and whether the product is right without or with it.
PROGRAM = """if True:
    import jax.numpy as jnp, numpy as np
    from sparsity.kernels.cpu import native
    from sparsity.kernels.layout import from_mask
    from sparsity.kernels.blocks import pack
    from sparsity.kernels.ops import block_sparse_matmul
    layout = from_mask(np.eye(3, dtype=bool), (24, 24), (8, 8))
    y = block_sparse_matmul(jnp.ones((2, 24)), pack(jnp.ones((24, 24)), layout), layout, path="sparse")
    print(native.missing() or "compiled", np.all(np.asarray(y) == 8))
"""


def start(cache: pathlib.Path, **env: str) -> subprocess.Popen:
    """A process with a cache of its own that multiplies once."""
    env = {**os.environ, "PYTHONPATH": str(ROOT), "XDG_CACHE_HOME": str(cache), **env}
    pipe = subprocess.PIPE
    return subprocess.Popen(
        [sys.executable, "-c", PROGRAM], env=env, stdout=pipe, stderr=pipe, text=True
    )


def finished(process: subprocess.Popen) -> tuple[str, str]:
    """What it printed, and what it warned of."""
    out, err = process.communicate(timeout=300)
    assert process.returncode == 0, err
    return out.strip(), err


@pytest.mark.slow
def test_processes_that_start_together_compile_whole_files(tmp_path):
    pair = [start(tmp_path), start(tmp_path)]
    assert [finished(process)[0] for process in pair] == ["compiled True"] * 2
    (library,) = (tmp_path / "sparsity/kernels").iterdir()
    written = library.stat().st_mtime_ns
    assert finished(start(tmp_path))[0] == "compiled True"
    assert library.stat().st_mtime_ns == written


def test_without_a_compiler_it_runs_dense_and_says_so_once(tmp_path):
    out, err = finished(start(tmp_path, CXX="no-such-compiler"))
    assert out.endswith("True") and "there is no C++ compiler (no-such-compiler)" in out
    assert err.count("run dense on this machine") == 1


def test_a_compiler_that_fails_is_quoted(tmp_path):
    broken = tmp_path / "broken"
    broken.write_text("#!/bin/sh\n[ $1 = --version ] && exit 0\necho 'no room left' >&2; exit 1\n")
    broken.chmod(0o755)
    out, _ = finished(start(tmp_path, CXX=str(broken)))
    assert "cannot be compiled here: no room left" in out and out.endswith("True")
    assert list((tmp_path / "sparsity/kernels").iterdir()) == []


def test_it_can_be_forbidden(tmp_path):
    out, err = finished(start(tmp_path, SPARSITY_NATIVE="0"))
    assert out == "SPARSITY_NATIVE=0 forbids the compiled kernel True" and "dense" not in err
    assert not (tmp_path / "sparsity").exists()


def test_the_source_travels_with_the_package():
    text = (ROOT / "pyproject.toml").read_text()
    assert native.SOURCE.is_file() and '"sparsity.kernels.cpu" = ["cc/*"]' in text


@pytest.mark.parametrize("flag", ["-ffast-math", "-Ofast", "-ffinite-math-only"])
def test_no_flag_lets_the_compiler_forget_nan(flag):
    assert flag not in native.FLAGS + native.TUNED
