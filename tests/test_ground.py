"""The ground holds: pins for all that is installed, one version range, a Makefile that sets up once."""

import os
import pathlib
import re
import shutil
import subprocess
import sys
import tomllib
from collections.abc import Iterator
from importlib import metadata

import pytest
from packaging.requirements import Requirement
from packaging.specifiers import SpecifierSet
from packaging.utils import canonicalize_name

import sparsity

ROOT = pathlib.Path(__file__).parents[1]
PROJECT = tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]
PYTHONS = ("3.11", "3.12", "3.13")
needs_make = pytest.mark.skipif(shutil.which("make") is None, reason="there is no make here")


def pins(python: str, file: str = "constraints.txt") -> dict[str, str]:
    """Package name -> the exact version that a file of constraints gives for one Python."""
    found: dict[str, str] = {}
    for line in (ROOT / file).read_text().splitlines():
        if not line or line.startswith("#"):
            continue
        pin = Requirement(line)
        if pin.marker is None or pin.marker.evaluate({"python_version": python}):
            name = canonicalize_name(pin.name)
            assert name not in found, f"{name} is pinned twice for {python}"
            found[name] = str(pin.specifier).removeprefix("==")
    return found


def requirements(name: str, extras: set[str], python: str) -> Iterator[Requirement]:
    """What a package asks for directly; ours is read from pyproject.toml, the rest as installed."""
    if name == "sparsity":
        extra = PROJECT["optional-dependencies"]
        asked = PROJECT["dependencies"] + [line for e in extras for line in extra[e]]
    else:
        asked = metadata.requires(name) or []
    for requirement in map(Requirement, asked):
        environments = [{"python_version": python, "extra": e} for e in extras or {""}]
        if requirement.marker is None or any(map(requirement.marker.evaluate, environments)):
            yield requirement


def closure(python: str) -> Iterator[Requirement]:
    """Every requirement that the development environment has, direct or not."""
    waiting, seen = [Requirement("sparsity[dev]")], set()
    while waiting:
        parent = waiting.pop()
        key = (canonicalize_name(parent.name), frozenset(parent.extras))
        if key in seen:
            continue
        seen.add(key)
        try:
            asked = list(requirements(key[0], set(parent.extras), python))
        except metadata.PackageNotFoundError:  # asked for on another Python than this one
            continue
        yield from asked
        waiting.extend(asked)


@pytest.mark.parametrize("python", PYTHONS)
def test_the_pins_cover_every_requirement(python):
    asked = {canonicalize_name(requirement.name) for requirement in closure(python)}
    assert asked - pins(python).keys() == {"sparsity"}


@pytest.mark.parametrize("python", PYTHONS)
def test_the_pins_lie_in_the_ranges_of_the_project(python):
    pinned = pins(python) | {"sparsity": sparsity.__version__}
    asked = requirements("sparsity", set(PROJECT["optional-dependencies"]), python)
    outside = [str(r) for r in asked if pinned[canonicalize_name(r.name)] not in r.specifier]
    assert outside == []


@pytest.mark.parametrize("python", PYTHONS)
def test_kernels_are_compiled_with_the_jax_that_tests_run_with(python):
    compilers = pins(python, "constraints-aot.txt")
    assert all(re.fullmatch(r"[0-9.]+(post[0-9]+)?", version) for version in compilers.values())
    for name in ("jax", "jaxlib", "ml-dtypes"):
        assert compilers[name] == pins(python)[name]


FILES = ["constraints.txt", "constraints-aot.txt", "pyproject.toml", "Makefile", ".ci/run"]


@pytest.mark.parametrize("file", FILES)
def test_no_file_names_a_registry(file):
    text = (ROOT / file).read_text()
    assert not re.search(r"://|--hash|--(extra-)?index-url|--find-links|trusted-host", text)


def test_every_place_has_the_same_python_range():
    supported = SpecifierSet(PROJECT["requires-python"])
    assert [v for v in range(8, 20) if supported.contains(f"3.{v}")] == [11, 12, 13]
    makefile = (ROOT / "Makefile").read_text()
    assert "SUPPORTED := " + " ".join(f"{v}.%" for v in PYTHONS) in makefile
    assert makefile.count(f"{PYTHONS[0]} to {PYTHONS[-1]}") == 2


def test_the_base_install_is_what_the_design_allows():
    names = {canonicalize_name(Requirement(line).name) for line in PROJECT["dependencies"]}
    allowed = {"jax", "flax", "optax", "ml-collections", "tensorflow-datasets"}
    assert names == allowed | {"orbax-checkpoint", "absl-py", "grain", "importlib-resources"}


def test_the_version_is_in_the_changelog():
    assert f" {sparsity.__version__}\n" in (ROOT / "CHANGELOG.md").read_text().replace("]\n", "\n")


@pytest.fixture
def checkout(tmp_path) -> pathlib.Path:
    """A folder with what make needs, and nothing set up."""
    for name in ("Makefile", "pyproject.toml", "constraints.txt"):
        shutil.copy(ROOT / name, tmp_path)
    return tmp_path


def make(folder: pathlib.Path, *arguments: str) -> subprocess.CompletedProcess:
    """Runs make as from a shell, though these tests may themselves run under make."""
    inherited = {"MAKEFLAGS", "MAKELEVEL", "MFLAGS", "PYTHON", "VENV"}
    env = {k: v for k, v in os.environ.items() if k not in inherited}
    return subprocess.run(
        ["make", *arguments], cwd=folder, env=env, capture_output=True, check=False, text=True
    )


def write_python(folder: pathlib.Path, script: str) -> str:
    """A command that answers like another interpreter."""
    path = folder.parent / f"{folder.name}-python"
    path.write_text(f"#!/bin/sh\n{script}\n")
    path.chmod(0o755)
    return str(path)


@needs_make
@pytest.mark.parametrize("goal", ["demo", "test", "test-all", "check", "format", "bench"])
@pytest.mark.parametrize(
    ("script", "words"),
    [
        ("echo 3.10.13", "is Python 3.10.13, but this project needs 3.11 to 3.13"),
        ("echo 3.14.0", "is Python 3.14.0, but this project needs 3.11 to 3.13"),
        ("exit 127", "is no Python here"),
        (f'case "$2" in *ensurepip*) exit 1;; esac; exec {sys.executable} "$@"', "python3-venv"),
    ],
)
def test_an_interpreter_that_cannot_serve_gets_one_line(checkout, goal, script, words):
    before = sorted(checkout.iterdir())
    done = make(checkout, goal, "PYTHON=" + write_python(checkout, script))
    assert (done.returncode, done.stdout) == (2, "")
    assert words in done.stderr and len(done.stderr.splitlines()) == 1
    assert sorted(checkout.iterdir()) == before


@needs_make
def test_a_second_call_installs_nothing_and_new_pins_do(checkout):
    ready = checkout / ".venv/ready-3.11.7"
    ready.parent.mkdir()
    assert "pip install" in make(checkout, "-n", "test", f"PYTHON={sys.executable}").stdout
    ready.touch()
    assert "pip install" not in make(checkout, "-n", "test").stdout
    os.utime(ready, (0, 0))
    assert "pip install" in make(checkout, "-n", "test").stdout


@needs_make
def test_a_target_that_is_given_another_python_sets_up_again(checkout):
    (checkout / ".venv").mkdir()
    (checkout / ".venv/ready-3.12.99").touch()
    assert "pip install" in make(checkout, "-n", "test", f"PYTHON={sys.executable}").stdout


@needs_make
def test_every_target_has_its_line_of_help(checkout):
    targets = re.search(r"^\.PHONY: (.*)$", (checkout / "Makefile").read_text(), re.MULTILINE)
    lines = make(checkout).stdout.splitlines()
    assert targets and targets[1].split() == [line.split()[1] for line in lines]
