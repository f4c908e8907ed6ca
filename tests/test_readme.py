"""The README is true: its code runs, its links lead somewhere, its lists are what exists."""

import re
from pathlib import Path

import pytest

from configs.base import PLAN_NAMES
from sparsity import penalties
from sparsity.methods.grid import MASKS
from sparsity.units.scores import SCORES

ROOT = Path(__file__).parent.parent
README = (ROOT / "README.md").read_text(encoding="utf-8")


def test_every_block_of_python_runs_in_order():
    space: dict = {"__name__": "readme"}
    for block in re.findall(r"```python\n(.*?)```", README, re.DOTALL):
        exec(compile(block, "README.md", "exec"), space)  # noqa: S102 (our own README)
    assert {"mine", "train_sparse"} <= space.keys()


def test_every_link_leads_to_a_file():
    links = re.findall(r"\]\(([^)#:]+)\)", README)
    assert links
    assert [link for link in links if not (ROOT / link).exists()] == []


@pytest.mark.parametrize(
    ("word", "names"),
    [
        ("masks", MASKS),
        ("scores", (*SCORES, "attention")),
        ("plans", tuple(PLAN_NAMES)),
        ("penalties", tuple(penalties._NAMED)),
    ],
)
def test_the_lists_of_names_are_what_exists(word, names):
    listed = re.search(rf"{word}: `([^`]+)`", README)
    assert listed is not None
    assert set(listed.group(1).split()) == set(names)
