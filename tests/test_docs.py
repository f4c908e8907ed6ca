"""The pages of docs are true: their code runs, and what they say of foreign formats gives the same numbers."""

import re
from pathlib import Path

import numpy as np
import pytest

DOCS = Path(__file__).parent.parent / "docs"


def run_page(name, **given):
    """Runs a page's blocks of Python in order; returns the names they leave."""
    space = {"__name__": name, **given}
    for block in re.findall(r"```python\n(.*?)```", (DOCS / name).read_text(), re.DOTALL):
        exec(compile(block, name, "exec"), space)  # noqa: S102 (our own pages)
    return space


@pytest.mark.parametrize("name", sorted(str(p.relative_to(DOCS)) for p in DOCS.rglob("*.md")))
def test_every_link_leads_to_a_file(name):
    links = re.findall(r"\]\(([^)#:]+)\)", (DOCS / name).read_text())
    assert [link for link in links if not (DOCS / name).parent.joinpath(link).exists()] == []


def test_the_page_on_serving_runs(tmp_path):
    assert run_page("serving.md", folder=tmp_path)["matrix"].density == 0.25


def superblock(old):
    """A state dict as SupermaskLinear leaves it, and the masks by layer; old: of before February 2025."""
    rng = np.random.default_rng(int(old))
    state, masks = {"class_token": rng.normal(size=(1, 1, 64)).astype("f4")}, {}
    for i, (outputs, inputs) in enumerate(((96, 64), (50, 70))):
        name, grid = (
            f"encoder.layers.encoder_layer_{i}.mlp.0",
            (-(-outputs // 16), -(-inputs // 16)),
        )
        state[f"{name}.weight"] = rng.normal(size=(outputs, inputs)).astype("f4")
        state[f"{name}.bias"] = rng.normal(size=outputs).astype("f4")
        scores = rng.normal(size=grid).astype("f4")
        state[f"{name}.scores"] = scores
        # Of n scores the rank is 0.8 (n - 1), rounded to the even neighbour at a half.
        dead = {24: 18, 20: 15}[scores.size]
        masks[name] = scores.ravel().argsort().argsort().reshape(grid) >= dead
        if old:
            state |= {f"{name}.scale": np.float32([2]), f"{name}.shift": np.float32([0.5])}
    return state, masks


@pytest.mark.parametrize("old", [False, True])
def test_a_superblock_checkpoint_becomes_what_its_layers_multiply_by(tmp_path, old):
    from sparsity.surgery import export

    state, masks = superblock(old)
    space = run_page("superblock.md", state=state, sparsity=0.8, block=16, folder=tmp_path)
    read, found, _ = export.read(tmp_path)
    for name, mask in masks.items():
        w, b = state[f"{name}.weight"], state[f"{name}.bias"]
        full = w * 2 + np.float32(0.5) if old else w
        entries = np.kron(mask, np.ones((16, 16), bool))[: w.shape[0], : w.shape[1]]
        np.testing.assert_array_equal(
            space["weights"][f"{name}.weight"].dense(), np.where(entries, full, 0).T
        )
        path = name.replace(".", "_")
        np.testing.assert_array_equal(found[f"params/{path}/kernel"], mask.T)
        np.testing.assert_array_equal(read["params"][path]["kernel"], np.where(entries, full, 0).T)
        np.testing.assert_array_equal(space["loaded"][f"{name}.bias"], b)
    first = next(iter(masks))
    asked = (
        space["x"] @ np.asarray(space["weights"][f"{first}.weight"].dense())
        + state[f"{first}.bias"]
    )
    np.testing.assert_allclose(space["y"], asked, atol=1e-4)
    assert not [name for name in space["weights"] if name.endswith(("scores", "scale", "shift"))]
    assert "class_token" in space["weights"]


@pytest.mark.parametrize(
    ("scores", "sparsity", "kept"),
    [
        # As torchao 0.14.1 has kept them: see the page.
        ([[1.0, 2.0], [3.0, 4.0]], 0.5, [[0, 0], [1, 1]]),
        ([[1.0, 2.0], [3.0, 4.0]], 0.0, [[1, 1], [1, 1]]),
        ([[1.0, 2.0], [3.0, 4.0]], 1.0, [[0, 0], [1, 1]]),
        ([[1.0, 1.0], [1.0, 2.0]], 0.6, [[1, 1], [1, 1]]),
        ([[5.0]], 0.9, [[1]]),
    ],
)
def test_superblocks_rule_for_ties_and_ends(tmp_path, scores, sparsity, kept):
    alive = run_page(
        "superblock.md", state=superblock(False)[0], sparsity=0.8, block=16, folder=tmp_path
    )["alive"]
    np.testing.assert_array_equal(alive(np.float32(scores), sparsity), np.array(kept, bool))
