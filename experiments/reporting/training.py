"""The page of an execution benchmark: gains of whole training steps, a row per network and case."""

from collections.abc import Mapping
from typing import Any

INTRODUCTION = (
    "Times faster than the masked step in the same rounds (medians). `masked again` is the same program timed "
    "a second time: the noise. `sparse` multiplies by live blocks wherever it can, `auto` where that is "
    "expected to be faster."
)


def page(results: Mapping[str, Any]) -> str:
    """The results in Markdown."""
    here = results["surroundings"]
    versions = ", ".join(f"{name} {version}" for name, version in here["versions"].items())
    lines = [
        "# Training steps on live blocks",
        "",
        INTRODUCTION,
        "",
        f"`{results['command'].strip()}`",
        "",
        f"{here['device']}, {here['cores']} cores, Python {here['python']}, {versions}",
        "",
        "| net | batch | block | density | case | clock | masked, ms | masked again | sparse | auto | layers |",
        "| --- " * 11 + "|",
    ]
    lines += [_row(part) for part in results["parts"]]
    return "\n".join(lines) + "\n"


def _row(part: Mapping[str, Any]) -> str:
    gains = [f"{part['gains'][name]:.2f}" for name in ("masked again", "sparse", "auto")]
    layers = f"{len(part['layers']['sparse'])} sparse, {len(part['layers']['auto'])} auto"
    size = f"{part['block']}x{part['block']}"
    cells = [part["net"], part["batch"], size, part["density"], part["case"], part["clock"]]
    cells += [f"{part['ms']['masked']:.2f}", *gains, layers]
    return "| " + " | ".join(map(str, cells)) + " |"
