"""Imports go down only: who may import whom, read from the syntax of every file."""

import ast
import os
import pathlib
import subprocess
import sys
from collections.abc import Iterator
from graphlib import CycleError, TopologicalSorter
from typing import NamedTuple

import pytest

ROOT = pathlib.Path(__file__).parents[1]

# A part is a folder, or a file beside the folders. It may import itself and what stands below it.
LAYERS = (
    ("experiments",),
    ("configs",),
    ("sparsity.train",),
    ("sparsity.methods", "sparsity.surgery", "sparsity.models", "sparsity.data"),
    ("sparsity.families", "sparsity.target"),
    ("sparsity.contract", "sparsity.gates", "sparsity.penalties"),
    ("sparsity.plan", "sparsity.units", "sparsity.kernels"),
    ("sparsity.named", "sparsity.disk"),
    ("sparsity",),
)
DEPTH = {part: depth for depth, layer in enumerate(LAYERS) for part in layer}

# It runs on a bare GPU machine, without the rest.
ALONE = "sparsity.kernels"

# A library, and the only places that may import it.
OWNERS = {
    "equinox": (),
    "flax": ("sparsity.models", "sparsity.train.forward", "sparsity.train.linen"),
    "grain": ("sparsity.data",),
    "jax.experimental.pallas": ("sparsity.kernels",),
    "matplotlib": ("experiments",),
    "ml_collections": ("experiments", "configs"),
    "optuna": ("experiments",),
    "optax": ("sparsity.train",),
    "orbax": ("sparsity.train.checkpoint",),
    "safetensors": ("sparsity.surgery.export",),
    "tensorflow_datasets": ("sparsity.data",),
    "tqdm": ("experiments",),
}

# What also serves a training loop of one's own, so it loads none of these.
CORE = tuple(p for layer in LAYERS[4:] for p in layer if p != "sparsity") + ("sparsity.methods",)
HEAVY = {"flax", "grain", "matplotlib", "ml_collections", "optax", "orbax", "tensorflow"}


class Import(NamedTuple):
    module: str  # who imports, as "sparsity.units.masks"
    place: str  # where, as "sparsity/units/masks.py:7"
    target: str  # what, a module of ours or the full name in a library


def find_modules(root: pathlib.Path) -> dict[str, pathlib.Path]:
    """Our modules under `root` by dotted name; a package is named by its folder."""
    files = [
        f for top in ("sparsity", "configs", "experiments") for f in (root / top).rglob("*.py")
    ]
    parts = {f: f.relative_to(root).with_suffix("").parts for f in sorted(files)}
    return {".".join(p[:-1] if p[-1] == "__init__" else p): f for f, p in parts.items()}


def names_in(node: ast.AST, package: list[str]) -> list[str]:
    """The full dotted names that one statement imports, relative ones made absolute."""
    if isinstance(node, ast.Import):
        return [alias.name for alias in node.names]
    if not isinstance(node, ast.ImportFrom):
        return []
    base = package[: len(package) - node.level + 1] if node.level else []
    prefix = base + ([node.module] if node.module else [])
    return [".".join([*prefix, alias.name]) for alias in node.names]


def find_imports(root: pathlib.Path) -> Iterator[Import]:
    """Every import in every file, also those inside functions and under TYPE_CHECKING."""
    modules = find_modules(root)
    for module, file in modules.items():
        package = module.split(".") if file.name == "__init__.py" else module.split(".")[:-1]
        for node in ast.walk(ast.parse(file.read_text())):
            for name in names_in(node, package):
                # `from sparsity.units.masks import kept` names an object in a module.
                ours = [m for m in (name, name.rpartition(".")[0]) if m in modules]
                yield Import(module, f"{file.relative_to(root)}:{node.lineno}", (*ours, name)[0])


def part_of(module: str) -> str:
    """'sparsity.units' for 'sparsity.units.masks', 'configs' for 'configs.base'."""
    return ".".join(module.split(".")[: 2 if module.startswith("sparsity.") else 1])


def within(name: str, place: str) -> bool:
    """Whether a dotted name is `place` or lies in it."""
    return name == place or name.startswith(f"{place}.")


def find_violations(root: pathlib.Path) -> list[str]:
    """One line for each import that goes up or sideways, or takes a library of another part."""
    found = []
    for module, place, target in find_imports(root):
        here, there = part_of(module), part_of(target)
        if here not in DEPTH:
            found.append(
                f"{place}: {here} stands in no layer; give it one in tests/test_imports.py"
            )
        elif there in DEPTH and here != there and (DEPTH[there] <= DEPTH[here] or here == ALONE):
            side = "above" if DEPTH[there] < DEPTH[here] else "beside"
            found.append(f"{place} imports {target}, which lies {side} {here}")
        for library, owners in OWNERS.items():
            if within(target, library) and not any(within(module, owner) for owner in owners):
                only = " and ".join(owners) or "nobody"
                found.append(f"{place} imports {target}; {library} belongs to {only}")
    return list(dict.fromkeys(found))


def find_cycle(root: pathlib.Path) -> list[str]:
    """The modules of one import cycle, or nothing."""
    modules = find_modules(root)
    edges = [(m, t) for m, _, t in find_imports(root) if t in modules and t != m]
    try:
        TopologicalSorter({m: {t for n, t in edges if n == m} for m in modules}).prepare()
    except CycleError as error:
        return error.args[1]
    return []


def plant(root: pathlib.Path, files: dict[str, str]) -> pathlib.Path:
    """Writes files of source under `root`."""
    for name, source in files.items():
        (root / name).parent.mkdir(parents=True, exist_ok=True)
        (root / name).write_text(source)
    return root


def run_python(code: str, *arguments: str) -> str:
    """What a fresh interpreter prints for `code`."""
    done = subprocess.run(
        [sys.executable, "-c", code, *arguments],
        cwd=ROOT,
        env={**os.environ, "PYTHONPATH": str(ROOT)},
        capture_output=True,
        check=False,
        text=True,
    )
    assert done.returncode == 0, done.stderr
    return done.stdout.strip()


def test_imports_go_down_only():
    assert find_violations(ROOT) == []


def test_imports_have_no_cycle():
    assert find_cycle(ROOT) == []


@pytest.mark.parametrize(
    ("file", "source", "complaint"),
    [
        ("sparsity/units/a.py", "import sparsity.train.loop", "lies above sparsity.units"),
        ("sparsity/units/a.py", "from sparsity.contract import State", "lies above"),
        ("sparsity/units/a.py", "from ..gates import sigmoid", "lies above"),
        ("sparsity/methods/a.py", "from sparsity.models import mlp", "lies beside"),
        ("sparsity/kernels/ops.py", "from sparsity.units import masks", "lies beside"),
        ("sparsity/kernels/ops.py", "import sparsity.named", "lies beside"),
        ("sparsity/train/a.py", "def f():\n    import experiments.train", "lies above"),
        ("sparsity/train/loop.py", "from flax import linen", "flax belongs to sparsity.models"),
        ("sparsity/gates.py", "import optax", "optax belongs to sparsity.train"),
        ("sparsity/units/a.py", "from jax.experimental import pallas as pl", "pallas belongs to"),
        ("sparsity/surgery/shrink.py", "import safetensors.numpy", "belongs to sparsity.surgery.e"),
        ("sparsity/wings.py", "import jax", "sparsity.wings stands in no layer"),
    ],
)
def test_a_planted_violation_is_found(tmp_path, file, source, complaint):
    plant(tmp_path, {file: source})
    (found,) = find_violations(tmp_path)
    assert found.startswith(file) and complaint in found


def test_what_is_allowed_is_not_found(tmp_path):
    plant(
        tmp_path,
        {
            "experiments/train.py": "import matplotlib.pyplot\nfrom configs import base",
            "sparsity/train/forward.py": "from flax import linen\nimport sparsity.units.masks",
            "sparsity/units/masks.py": "from jax import numpy\nfrom .partition import Group",
        },
    )
    assert find_violations(tmp_path) == []


def test_a_planted_cycle_is_found(tmp_path):
    a, b = "sparsity/units/a.py", "sparsity/units/b.py"
    assert find_cycle(plant(tmp_path, {a: "from . import b", b: "import jax"})) == []
    assert find_cycle(plant(tmp_path, {b: "import sparsity.units.a"}))


def test_the_kernels_need_jax_and_numpy_alone():
    libraries = {
        target.split(".")[0]
        for module, _, target in find_imports(ROOT)
        if within(module, ALONE) and not within(target, ALONE)
    }
    assert libraries - sys.stdlib_module_names == {"jax", "jaxlib", "numpy"}


def test_every_file_says_what_it_is():
    modules = find_modules(ROOT)
    assert [m for m, f in modules.items() if not ast.get_docstring(ast.parse(f.read_text()))] == []


def test_every_module_can_be_imported_first():
    code = """if True:
        import importlib, sys
        for name in sys.argv[1:]:
            for loaded in [m for m in sys.modules if m.split(".")[0] == "sparsity"]:
                del sys.modules[loaded]
            importlib.import_module(name)
    """
    run_python(code, *(m for m in find_modules(ROOT) if within(m, "sparsity")))


def test_the_core_loads_no_training_library():
    code = """if True:
        import importlib, sys
        for name in sys.argv[1:]:
            importlib.import_module(name)
        print(*sorted({m.split(".")[0] for m in sys.modules}))
    """
    core = [m for m in find_modules(ROOT) if part_of(m) in CORE]
    assert not HEAVY & set(run_python(code, *core).split())
    assert not (HEAVY | {"jax"}) & set(run_python(code, "sparsity").split())
